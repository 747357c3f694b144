"""`sdfnet view`: look at a run, a scene or a folder of meshes in the browser, with sliders; or write an offline page.

Examples:

    sdfnet view run=runs/chairs
    sdfnet view scene=bracket.yaml 'set=[width=40]'
    sdfnet view run=runs/chairs screenshot=viewer.png
    sdfnet view run=runs/chairs page=chairs.html 'sliders=[pc1,pc2,pc3]'
"""

from __future__ import annotations

import socket
from dataclasses import dataclass
from pathlib import Path

from sdfnet.cli.commands.keys import find_device
from sdfnet.cli.commands.scene_keys import SceneKeys
from sdfnet.cli.hydra_app.command import Command, UsageError
from sdfnet.cli.hydra_app.output import say, say_where
from sdfnet.cli.hydra_app.schema import flat
from sdfnet.runs import load_run
from sdfnet.viewer import SliderPageConfig, Subject, ViewConfig, open_subject, save_slider_page, view
from sdfnet.viewer.app import screenshot


@dataclass(frozen=True, kw_only=True)
class ViewCommand(SceneKeys):
    """The keys of `sdfnet view`.

    Attributes
    ----------
    run : path
        A run directory, as train writes it; or null.
    meshes : path
        A folder of mesh files; or null.
    shape : name
        The shape to show first; null is the first one.
    device : text
        auto, cpu, cuda, cuda:1 or mps.
    screenshot : path
        A PNG file for a picture of the page; then the command ends. Needs the package chromium.
    page : path
        An HTML file with sliders to write in place of a viewer: one file that needs no network.
    sliders : names
        Of page: the sliders of the page; empty for the first three.
    steps : whole number
        Of page: meshes along each slider, 2 or more.
    """

    run: Path | None = None
    meshes: Path | None = None
    shape: str | None = None
    device: str = "auto"
    screenshot: Path | None = None
    page: Path | None = None
    sliders: tuple[str, ...] = ()
    steps: int = 9
    viewing: ViewConfig = flat(ViewConfig)

    def __post_init__(self) -> None:
        self.check_one_source(("run", "meshes"))
        if self.page is not None and self.screenshot is not None:
            raise UsageError("screenshot is of the viewer; give page= or screenshot=, not both")
        if self.page is None and (self.sliders or self.steps != 9):
            raise UsageError("sliders and steps belong to page=FILE.html")

    def subject(self) -> Subject:
        """Return what is to be viewed."""
        if self.scene is not None:
            scene, values = self.load_scene()
            return open_subject(scene, values=values)
        if self.run is not None:
            return open_subject(load_run(self.run, device=find_device(self.device)))
        assert self.meshes is not None
        return open_subject(self.meshes)


def run_view(command: ViewCommand) -> None:
    """Write the page or the picture, or show the viewer until Ctrl-C."""
    subject, config = command.subject(), command.viewing
    if command.page is not None:
        page = SliderPageConfig(
            sliders=command.sliders, steps=command.steps, resolution=config.coarse, up_axis=config.up_axis
        )
        save_slider_page(subject, command.page, shape=command.shape, config=page, progress=True)
        say(f"{max(command.page.stat().st_size / 1e6, 0.1):.1f} MB, opens from the disk without a network")
        say_where(command.page)
        return
    viewer = view(subject, config=config, shape=command.shape)
    if command.screenshot is not None:
        try:
            say_where(screenshot(viewer, command.screenshot))
        finally:
            viewer.close()
        return
    port = viewer.url.rpartition(":")[2]
    say(f"The viewer is at {viewer.url} (Ctrl-C ends it)")
    say(
        f"From another machine: ssh -L {port}:127.0.0.1:{port} {socket.gethostname()}, then open the same address there"
    )
    viewer.wait()


COMMAND = Command("view", ViewCommand, run_view, output_key=None, interrupted=lambda command: "The viewer is closed.")
