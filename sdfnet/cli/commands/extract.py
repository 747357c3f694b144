"""`sdfnet extract`: write learned shapes as meshes, in the units and at the place of their sources.

Examples:

    sdfnet extract run=runs/chairs
    sdfnet extract run=runs/chairs 'shapes=[chair_01,chair_1*]' resolution=256 'format=[obj,glb]' out=meshes
    sdfnet extract run=runs/chairs 'shapes=[0.5*chair_01 + 0.5*chair_07, chair_01 - chair_02 + chair_03]'
    sdfnet extract run=runs/parts sharp=true max_faces=20000 project_steps=2
    sdfnet extract run=runs/odd 'shapes=["a=b [1]"]'
"""

from __future__ import annotations

from dataclasses import dataclass

from sdfnet.cli.commands.keys import RunKeys, some_failed
from sdfnet.cli.hydra_app.command import Command
from sdfnet.cli.hydra_app.output import counted, say, say_where
from sdfnet.cli.hydra_app.schema import flat
from sdfnet.runs import ExtractConfig, ExtractedRun, extract_run


@dataclass(frozen=True, kw_only=True)
class ExtractCommand(RunKeys):
    """The keys of `sdfnet extract`.

    Attributes
    ----------
    shapes : names
        all, one name, or a list of names, globs and mixes such as 0.5*a + 0.5*b.
    out : path
        Where the meshes and extract.json go; null is meshes/ inside the run.
    """

    inside = "meshes"
    extraction: ExtractConfig = flat(ExtractConfig)


def run_extract(command: ExtractCommand, *, keep: bool = False) -> ExtractedRun:
    """Write the meshes and print how much was left out of them; a shape that fails does not stop the others."""
    config = command.extraction
    done = extract_run(command.load(), command.shapes, command.folder, config=config, keep=keep, progress=True)
    if done.failures:
        raise some_failed(done.failures, len(done.failures) + len(done.files), "shapes have no mesh", done.out)
    what = f"{counted(len(done.files), 'shape')} at resolution {config.resolution} as {', '.join(config.format)}"
    say(f"{what}{_left_out(done)}{_decimation_error(done)}")
    say_where(done.out)
    return done


def _left_out(done: ExtractedRun) -> str:
    """Say how much was left out of how many shapes; empty if nothing was."""
    shares = {name: [each["share"] for each in summary["removed"]] for name, summary in done.summaries.items()}
    dirty = {name: found for name, found in shares.items() if found}
    if not dirty:
        return ""
    number = sum(map(len, dirty.values()))
    worst = max(dirty, key=lambda name: dirty[name][0])
    return (
        f"; {counted(number, 'loose piece')} left out of {counted(len(dirty), 'shape')}, the largest "
        f"{100 * dirty[worst][0]:.2g} % of the volume of {worst} (extract.json)"
    )


def _decimation_error(done: ExtractedRun) -> str:
    """Say how far decimation has moved a surface at most; empty if nothing was decimated."""
    errors = {
        name: summary["simplified"]["distance_unit"]
        for name, summary in done.summaries.items()
        if "simplified" in summary
    }
    if not errors:
        return ""
    worst = max(errors, key=lambda name: errors[name])
    faces = max(summary["faces"] for summary in done.summaries.values())
    return f"; simplified to at most {faces:,} faces, {100 * errors[worst]:.2g} % of the radius away at most ({worst})"


COMMAND = Command(
    "extract",
    ExtractCommand,
    run_extract,
    interrupted=lambda command: f"The meshes written so far are whole, in {command.folder}.",
)
