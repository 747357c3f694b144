"""`sdfnet render`: pictures, turntables and a contact sheet of learned shapes or of mesh files.

Examples:

    sdfnet render run=runs/chairs
    sdfnet render run=runs/chairs shapes=chair_07 'format=[png,gif]' width=1280 height=960 out=pictures
    sdfnet render meshes=scans up_axis=z out=pictures
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sdfnet.cli.commands.keys import find_device, some_failed
from sdfnet.cli.hydra_app.command import Command, UsageError
from sdfnet.cli.hydra_app.output import counted, say, say_where
from sdfnet.cli.hydra_app.schema import flat
from sdfnet.rendering import RenderConfig, render_shapes
from sdfnet.runs import load_run


@dataclass(frozen=True, kw_only=True)
class RenderCommand:
    """The keys of `sdfnet render`.

    Attributes
    ----------
    run : path
        A run directory whose shapes are drawn; or null, and meshes is drawn.
    meshes : path
        A folder of mesh files that are drawn as they are.
    shapes : names
        all, one name, or a list of names, globs and (of a run) mixes such as 0.5*a + 0.5*b.
    out : path
        Where the pictures go; null is pictures/ inside the run.
    device : text
        auto, cpu, cuda, cuda:1 or mps.
    """

    run: Path | None = None
    meshes: Path | None = None
    shapes: str | tuple[str, ...] = "all"
    out: Path | None = None
    device: str = "auto"
    rendering: RenderConfig = flat(RenderConfig)

    def __post_init__(self) -> None:
        if (self.run is None) == (self.meshes is None):
            raise UsageError("give run=DIR to draw learned shapes, or meshes=DIR to draw mesh files")
        if self.run is None and self.out is None:
            raise UsageError("out=DIR must be given with meshes=DIR")

    @property
    def folder(self) -> Path:
        if self.out is not None:
            return self.out
        assert self.run is not None
        return self.run / "pictures"


def run_render(command: RenderCommand) -> None:
    """Draw every shape, and print which backend drew them and why."""
    source = command.meshes if command.run is None else load_run(command.run, device=find_device(command.device))
    assert source is not None
    done = render_shapes(source, command.shapes, command.folder, config=command.rendering, progress=True)
    if done.failures:
        raise some_failed(
            done.failures, len(done.failures) + len(done.files), "shapes could not be drawn", command.folder
        )
    number = counted(len(done.files), "shape")
    say(f"{number} as {', '.join(command.rendering.format)}, drawn by {done.backend}: {done.why}")
    say_where(command.folder)


COMMAND = Command(
    "render",
    RenderCommand,
    run_render,
    interrupted=lambda command: f"The pictures drawn so far are whole, in {command.folder}.",
)
