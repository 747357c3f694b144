"""`sdfnet morph`: a sequence of meshes, and a film, that turns one learned shape into others."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sdfnet.cli.command import Command
from sdfnet.cli.devices import check_device_name, find_device
from sdfnet.cli.output import say, say_where
from sdfnet.cli.schema import component_options
from sdfnet.latents.frames import MorphConfig
from sdfnet.latents.morph import make_morph
from sdfnet.runs import load_run


@dataclass(frozen=True, kw_only=True)
class MorphKeys(MorphConfig):
    """What to morph, and how.

    Attributes
    ----------
    run : path
        A run directory, as train writes it.
    shapes : names
        The shapes to pass through, in order: a list of two or more names, globs and mixes such as a - b + c.
    out : path
        Where the sequence, manifest.json, films and contact_sheet.png go; null is morph/ inside the run.
    overwrite : true or false
        Whether to replace another morph that is in out. The same morph is continued.
    device : text
        auto, cpu, cuda, cuda:1 or mps.
    """

    run: Path
    shapes: str | tuple[str, ...]
    out: Path | None = None
    overwrite: bool = False
    device: str = "auto"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_device_name(self.device)

    @property
    def folder(self) -> Path:
        return self.run / "morph" if self.out is None else self.out


def morph(config: MorphKeys) -> None:
    """Write the morph and say what it is made of."""
    run = load_run(config.run, device=find_device(config.device))
    result = make_morph(
        run,
        config.shapes,
        config.folder,
        config=component_options(config, MorphConfig),
        overwrite=config.overwrite,
        progress=True,
    )
    there = f" ({result.num_skipped} were there already)" if result.num_skipped else ""
    say(f"{result.num_frames} frames{there}: {result.manifest.name}, {result.sheet.name}")
    for film in result.films:
        say(f"film: {film}")
    say_where(config.folder)


COMMAND = Command(
    name="morph",
    config=MorphKeys,
    run=morph,
    output_key="out",
    interrupted=lambda config: f"Finished frames are kept in {config.folder}; the same command goes on.",
    examples=(
        "sdfnet morph run=runs/chairs 'shapes=[chair_01,chair_07,chair_12]' frames=60 out=morph",
        "sdfnet morph run=runs/chairs 'shapes=[chair_0*]' playback=loop path=spline 'format=[glb,gif]' out=loop",
    ),
)
