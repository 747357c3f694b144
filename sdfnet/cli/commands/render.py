"""`sdfnet render`: pictures, turntables and a contact sheet of learned shapes, of mesh files or of a scene.

Examples:

    sdfnet render run=runs/chairs
    sdfnet render run=runs/chairs shapes=chair_07 'format=[png,gif]' width=1280 height=960 out=pictures
    sdfnet render meshes=scans up_axis=z out=pictures
    sdfnet render scene=bracket.yaml 'set=[width=40]' sharp=true 'format=[png,gif]'
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sdfnet.cli.commands.keys import find_device, some_failed
from sdfnet.cli.commands.scene_keys import SceneKeys
from sdfnet.cli.hydra_app.command import Command, UsageError
from sdfnet.cli.hydra_app.output import counted, say, say_where
from sdfnet.cli.hydra_app.schema import flat
from sdfnet.rendering import RenderConfig, render_shapes
from sdfnet.runs import load_run
from sdfnet.scenes import render_scene


@dataclass(frozen=True, kw_only=True)
class RenderCommand(SceneKeys):
    """The keys of `sdfnet render`.

    Attributes
    ----------
    run : path
        A run directory whose shapes are drawn; or null.
    meshes : path
        A folder of mesh files that are drawn as they are; or null.
    shapes : names
        all, one name, or a list of names, globs and (of a run) mixes such as 0.5*a + 0.5*b and words.
    out : path
        Where the pictures go; null is pictures/ inside the run, or beside the scene file.
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
        self.check_one_source(("run", "meshes"))
        if self.meshes is not None and self.out is None:
            raise UsageError("out=DIR must be given with meshes=DIR")
        if self.scene is not None and self.shapes != "all":
            raise UsageError("shapes belongs to run=DIR or meshes=DIR; a scene is one shape")

    @property
    def folder(self) -> Path:
        return self.out or (self.run or self.scene_folder) / "pictures"


def run_render(command: RenderCommand) -> None:
    """Draw every shape, and print which backend drew them and why."""
    device, config = find_device(command.device), command.rendering
    if command.scene is not None:
        scene, values = command.load_scene()
        done = render_scene(scene, command.folder, values=values, config=config, device=device)
    else:
        source = command.meshes if command.run is None else load_run(command.run, device=device)
        assert source is not None
        done = render_shapes(source, command.shapes, command.folder, config=config, progress=True)
    if done.failures:
        raise some_failed(
            done.failures, len(done.failures) + len(done.files), "shapes could not be drawn", command.folder
        )
    number = counted(len(done.files), "shape")
    replaced = f"; {counted(done.num_replaced, 'earlier picture')} replaced" if done.num_replaced else ""
    say(f"{number} as {', '.join(command.rendering.format)}{replaced}, drawn by {done.backend}: {done.why}")
    say_where(command.folder)


COMMAND = Command(
    "render",
    RenderCommand,
    run_render,
    interrupted=lambda command: f"The pictures drawn so far are whole, in {command.folder}.",
)
