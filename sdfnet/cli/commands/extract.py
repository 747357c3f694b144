"""`sdfnet extract`: write learned shapes as meshes, in the units and at the place of their sources; or a scene.

Examples:

    sdfnet extract run=runs/chairs
    sdfnet extract run=runs/chairs 'shapes=[chair_01,chair_1*]' resolution=256 'format=[obj,glb]' out=meshes
    sdfnet extract run=runs/chairs 'shapes=[0.5*chair_01 + 0.5*chair_07, chair_01 - chair_02 + chair_03]'
    sdfnet extract run=runs/bodies 'shapes=["pc1=2", "near=body_003; age=0.8", "near=a; take=b; part=back"]'
    sdfnet extract run=runs/parts sharp=true max_faces=20000 project_steps=2
    sdfnet extract scene=bracket.yaml 'set=[width=40]' sharp=true 'format=[glb,3mf]'
    sdfnet extract run=runs/bodies connectivity=shared format=ply
    sdfnet extract run=runs/odd 'shapes=["a=b [1]"]'
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sdfnet.cli.commands.keys import find_device, some_failed
from sdfnet.cli.commands.scene_keys import SceneKeys
from sdfnet.cli.hydra_app.command import Command, UsageError
from sdfnet.cli.hydra_app.output import counted, say, say_where
from sdfnet.cli.hydra_app.schema import flat
from sdfnet.correspondence import extract_shared
from sdfnet.runs import ExtractConfig, ExtractedRun, describe_thin_walls, extract_run, load_run
from sdfnet.runs.extract import SUMMARY_FILE
from sdfnet.scenes.extract import extract_scene


@dataclass(frozen=True, kw_only=True)
class ExtractCommand(SceneKeys):
    """The keys of `sdfnet extract`.

    Attributes
    ----------
    run : path
        A run directory, as train writes it, whose shapes are extracted; or null, and scene is.
    shapes : names
        all, one name, or a list of names, globs, mixes such as 0.5*a + 0.5*b, words such as 'near=a; pc1=2'.
    out : path
        Where the meshes and extract.json go; null is meshes/ inside the run, or beside the scene file.
    device : text
        auto, cpu, cuda, cuda:1 or mps.
    connectivity : own or shared
        own: each shape has a mesh of its own. shared: all have the same faces, and vertex k is the same place on all.
    reference : name
        With connectivity=shared, the shape whose mesh all get; null takes one of the most common topology.
    """

    run: Path | None = None
    shapes: str | tuple[str, ...] = "all"
    out: Path | None = None
    device: str = "auto"
    connectivity: Literal["own", "shared"] = "own"
    reference: str | None = None
    extraction: ExtractConfig = flat(ExtractConfig)

    def __post_init__(self) -> None:
        self.check_one_source(("run",))
        if self.scene is not None and self.shapes != "all":
            raise UsageError("shapes belongs to run=DIR; a scene is one shape")
        if self.scene is not None and self.connectivity != "own":
            raise UsageError("connectivity=shared belongs to run=DIR; a scene is one shape")
        if self.connectivity == "own" and self.reference is not None:
            raise UsageError("reference has an effect only with connectivity=shared")

    @property
    def folder(self) -> Path:
        return self.out or (self.run or self.scene_folder) / "meshes"


def run_extract_scene(command: ExtractCommand) -> None:
    """Write the mesh of a scene and print its size."""
    scene, values = command.load_scene()
    config, device = command.extraction, find_device(command.device)
    files = extract_scene(scene, command.folder, values=values, config=config, device=device)
    summary = json.loads((command.folder / SUMMARY_FILE).read_text(encoding="utf-8"))["shapes"][files[0].stem]
    size = f"{summary['faces']:,} faces, volume {summary['volume']:.6g}"
    removed = summary["removed"]
    left = f"; {counted(len(removed), 'loose piece')} left out (extract.json)" if removed else ""
    say(f"{files[0].stem} at resolution {config.resolution} as {', '.join(config.format)}: {size}{left}")
    say_where(command.folder)


def run_extract(command: ExtractCommand, *, keep: bool = False) -> ExtractedRun:
    """Write the meshes and print how much was left out of them; a shape that fails does not stop the others."""
    config = command.extraction
    assert command.run is not None
    run = load_run(command.run, device=find_device(command.device))
    if command.connectivity == "shared":
        done = extract_shared(
            run, command.shapes, command.folder, reference=command.reference, config=config, progress=True
        )
    else:
        done = extract_run(run, command.shapes, command.folder, config=config, keep=keep, progress=True)
    if done.failures:
        raise some_failed(done.failures, len(done.failures) + len(done.files), "shapes have no mesh", done.out)
    what = f"{counted(len(done.files), 'shape')} at resolution {config.resolution} as {', '.join(config.format)}"
    say(f"{what}{_left_out(done)}{_decimation_error(done)}")
    if done.others:
        name, difference = next(iter(done.others.items()))
        stand = "stands" if len(done.others) == 1 else "stand"
        say(f"beside them {stand} {counted(len(done.others), 'shape')} of an earlier call: of {name}, {difference}")
    learned = [run.shape(name) for name in done.files if name in run.names]
    if thin := describe_thin_walls(learned, resolution=config.resolution):
        say(thin)
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
    lambda command: run_extract(command) if command.scene is None else run_extract_scene(command),
    interrupted=lambda command: f"The meshes written so far are whole, in {command.folder}.",
)
