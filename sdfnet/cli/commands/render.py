"""`sdfnet render`: pictures, turntables and a contact sheet of learned shapes or of mesh files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from sdfnet.cli.hydra_app.command import Command, UsageError
from sdfnet.cli.hydra_app.devices import find_device
from sdfnet.cli.hydra_app.output import say, say_where
from sdfnet.files import ensure_folder
from sdfnet.geometry.bounds import check_resolution
from sdfnet.mesh.components import MIN_PIECE, check_min_piece
from sdfnet.mesh.io.read import find_meshes, read_mesh
from sdfnet.mesh.mesh import Mesh
from sdfnet.rendering import Renderer, contact_sheet, fit_camera, render_turntable, save_film, save_image
from sdfnet.runs import extract_shape, load_run, select_shapes
from sdfnet.runs.mixes import add_mixes

_SHEET = "contact_sheet.png"


@dataclass(frozen=True)
class RenderCommand:
    """What to draw, and how.

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
    format : list
        png for a picture of each shape and a contact sheet; mp4, gif or webp for a turntable film of each.
    resolution : whole number
        Of the extraction: samples along each axis of the lattice.
    sparse : true or false
        Whether to visit only the part of the lattice that can hold the surface; false visits all, for the same mesh.
    min_piece : number
        Loose pieces and cavities of learned shapes below this share of the volume are not drawn; 0 draws all.
    width, height : whole number
        Pixels, even, at least 16.
    azimuth, elevation : number
        Of the camera, degrees.
    up_axis : letter
        x, y or z.
    frames : whole number
        Pictures in one turn of a film, 2 or more.
    fps : whole number
        Frames per second of a film.
    backend : word
        gl (pyrender), rays (on the CPU), or auto: gl where it works.
    device : text
        auto, cpu, cuda, cuda:1 or mps.
    """

    run: Path | None = None
    meshes: Path | None = None
    shapes: str | tuple[str, ...] = "all"
    out: Path | None = None
    format: tuple[Literal["png", "mp4", "gif", "webp"], ...] = ("png",)
    resolution: int = 128
    sparse: bool = True
    min_piece: float = MIN_PIECE
    width: int = 640
    height: int = 480
    azimuth: float = 30.0
    elevation: float = 20.0
    up_axis: Literal["x", "y", "z"] = "y"
    frames: int = 90
    fps: int = 20
    backend: Literal["auto", "gl", "rays"] = "auto"
    device: str = "auto"

    def __post_init__(self) -> None:
        if (self.run is None) == (self.meshes is None):
            raise UsageError("give run=DIR to draw learned shapes, or meshes=DIR to draw mesh files")
        if self.run is None and self.out is None:
            raise UsageError("out=DIR must be given with meshes=DIR")
        if not self.format:
            raise ValueError("format must name at least one of png, mp4, gif, webp, got an empty list")
        check_resolution(self.resolution, least=8)
        check_min_piece(self.min_piece)
        for name, least in (("width", 16), ("height", 16), ("frames", 2), ("fps", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be {least} or more, got {getattr(self, name)}")
        for name in ("width", "height"):
            if getattr(self, name) % 2:
                raise ValueError(f"{name} must be even, got {getattr(self, name)}")

    @property
    def folder(self) -> Path:
        if self.out is not None:
            return self.out
        assert self.run is not None
        return self.run / "pictures"


def run_render(config: RenderCommand) -> None:
    """Draw every shape; the log says once what draws, and why."""
    names, mesh_of = _shapes(config)
    ensure_folder(config.folder)
    images = []
    with Renderer(size=(config.width, config.height), backend=config.backend) as renderer:
        for name in tqdm(names, desc="rendering", unit="shape", delay=2, leave=False):
            mesh = mesh_of(name)
            images.append(_draw(mesh, name, renderer, config))
    if "png" in config.format and len(images) > 1:
        save_image(contact_sheet(images, labels=names), config.folder / _SHEET)
    say(f"{len(names)} shapes as {', '.join(config.format)}, drawn by {renderer.backend}: {renderer.why}")
    say_where(config.folder)


def _shapes(config: RenderCommand) -> tuple[list[str], Callable[[str], Mesh]]:
    """Return the chosen names, and how to get the mesh of one."""
    if config.meshes is not None:
        paths = find_meshes(config.meshes)
        return select_shapes(list(paths), config.shapes), lambda name: read_mesh(paths[name])
    assert config.run is not None
    run, chosen = add_mixes(load_run(config.run, device=find_device(config.device)), config.shapes)

    def extracted(name: str) -> Mesh:
        found = extract_shape(run, name, resolution=config.resolution, sparse=config.sparse, min_piece=config.min_piece)
        return found.mesh

    return list(dict.fromkeys(chosen)), extracted


def _draw(mesh: Mesh, name: str, renderer: Renderer, config: RenderCommand) -> NDArray[np.uint8]:
    """Write the picture and the films of one shape; return the picture."""
    azimuth, elevation, up_axis = config.azimuth, config.elevation, config.up_axis
    camera = fit_camera(mesh, size=renderer.size, azimuth=azimuth, elevation=elevation, up_axis=up_axis)
    image = renderer.render(mesh, camera=camera)
    for suffix in config.format:
        path = config.folder / f"{name}.{suffix}"
        if suffix == "png":
            save_image(image, path)
        else:
            turn = render_turntable(
                mesh, frames=config.frames, renderer=renderer, elevation=elevation, azimuth=azimuth, up_axis=up_axis
            )
            save_film(turn, path, fps=config.fps)
    return image


COMMAND = Command(
    name="render",
    config=RenderCommand,
    run=run_render,
    output_key="out",
    interrupted=lambda config: f"The pictures drawn so far are whole, in {config.folder}.",
    examples=(
        "sdfnet render run=runs/chairs",
        "sdfnet render run=runs/chairs shapes=chair_07 'format=[png,gif]' width=1280 height=960 out=pictures",
        "sdfnet render meshes=scans up_axis=z out=pictures",
    ),
)
