"""Pictures, turntable films and a contact sheet of many shapes: learned ones, or a folder of mesh files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from tqdm import tqdm

from sdfnet.files import ensure_folder
from sdfnet.geometry.bounds import check_resolution
from sdfnet.mesh.components import MIN_PIECE, check_min_piece
from sdfnet.mesh.io.read import find_meshes, read_mesh
from sdfnet.mesh.mesh import Mesh
from sdfnet.rendering.camera import fit_camera
from sdfnet.rendering.images import contact_sheet, save_image
from sdfnet.rendering.renderer import Backend, Image, Renderer, render_turntable
from sdfnet.rendering.scene import Drawable, PaintedMesh
from sdfnet.rendering.video import save_film
from sdfnet.runs import Run, extract_shape, select_shapes
from sdfnet.runs.mixes import add_mixes
from sdfnet.solids.rule import AUTO, SolidRule
from sdfnet.solids.source_shape import MeshReport, inspect_mesh, load_solid, worst_solids

SHEET_FILE = "contact_sheet.png"


@dataclass(frozen=True)
class RenderConfig:
    """How shapes are drawn.

    Attributes
    ----------
    format : list
        png for a picture of each shape and a contact sheet; mp4, gif or webp for a turntable film of each.
    resolution : whole number
        Of the extraction: samples along each axis of the lattice.
    sharp : true or false
        Whether to restore the sharp edges and corners of learned shapes and scenes.
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

    >>> RenderConfig(width=1280, height=960).format
    ('png',)
    """

    format: tuple[Literal["png", "mp4", "gif", "webp"], ...] = ("png",)
    resolution: int = 128
    sharp: bool = False
    min_piece: float = MIN_PIECE
    width: int = 640
    height: int = 480
    azimuth: float = 30.0
    elevation: float = 20.0
    up_axis: Literal["x", "y", "z"] = "y"
    frames: int = 90
    fps: int = 20
    backend: Backend = "auto"

    def __post_init__(self) -> None:
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


@dataclass(frozen=True)
class RenderedShapes:
    """The files that `render_shapes` wrote.

    Attributes
    ----------
    files : dict
        The files of each shape, in the order of the formats.
    sheet : Path or None
        The contact sheet; None of a single shape, or where no pictures were asked for.
    backend, why : str
        What drew the pictures, "gl" or "rays", and the reason.
    failures : dict
        Why the other shapes were not drawn.
    num_replaced : int
        The number of files that were there before.
    """

    files: dict[str, tuple[Path, ...]]
    sheet: Path | None
    backend: str
    why: str
    failures: dict[str, str] = field(default_factory=dict)
    num_replaced: int = 0


def render_shapes(
    source: Run | str | Path,
    shapes: str | Sequence[str],
    out: str | Path,
    *,
    config: RenderConfig | None = None,
    progress: bool = False,
) -> RenderedShapes:
    """Draw `shapes` (names or globs) of `source` as files in the folder `out`, each from a camera that is fitted to it.

    A mesh that cannot be read and a shape without a surface stop no other; they are among the `failures`.

    Parameters
    ----------
    source : Run or path
        A run, whose shapes and mixes are extracted and drawn; or a folder of mesh files, which are drawn as they are.

    Raises
    ------
    ValueError
        Unknown shapes, or a folder that cannot be written to.
    GLUnavailableError
        `backend="gl"` where there is no GL.

    >>> config = RenderConfig(width=64, height=64, backend="rays")
    >>> render_shapes("chairs", "chair_0[01]", "pictures", config=config).sheet.name
    'contact_sheet.png'
    """
    config = config or RenderConfig()
    names, mesh_of = _meshes_to_draw(source, shapes, config)
    out = ensure_folder(out)
    files: dict[str, tuple[Path, ...]] = {}
    failures: dict[str, str] = {}
    images: list[Image] = []
    num_replaced = 0
    with Renderer(size=(config.width, config.height), backend=config.backend) as renderer:
        for name in tqdm(names, desc="rendering", unit="shape", delay=2, leave=False, disable=not progress):
            try:
                mesh = mesh_of(name)
            except (ValueError, OSError) as error:
                failures[name] = str(error)
                continue
            files[name] = tuple(out / f"{name}.{suffix}" for suffix in config.format)
            num_replaced += sum(path.exists() for path in files[name])
            images.append(draw_shape(mesh, files[name], renderer, config))
    sheet = out / SHEET_FILE if "png" in config.format and len(images) > 1 else None
    if sheet is not None:
        save_image(contact_sheet(images, labels=list(files)), sheet)
    return RenderedShapes(files, sheet, renderer.backend, renderer.why, failures, num_replaced)


def render_solids(
    reports: Sequence[MeshReport],
    out: str | Path,
    *,
    rule: SolidRule = AUTO,
    solids: str | Path | None = None,
    size: tuple[int, int] = (480, 480),
    progress: bool = False,
) -> list[Path]:
    """Draw each noted mesh beside the solid that is made of it, as PNG files in the folder `out`/pictures.

    Parameters
    ----------
    reports
        As `check_folder` returns them, made with the same `rule`. Those of `worst_solids` are drawn.
    solids
        The folder in which `check_folder` kept the solids. The meshes that are not there are read again.

    >>> from sdfnet.solids.source_shape import check_folder
    >>> render_solids(check_folder("chairs", shapes="chair_00"), "report")  # a mesh without notes is not drawn
    []
    """
    worst = worst_solids(reports)
    written: list[Path] = []
    if not worst:
        return written
    with Renderer(size=size) as renderer:
        for report in tqdm(worst, desc="drawing solids", unit="mesh", delay=2, leave=False, disable=not progress):
            solid = None if solids is None else load_solid(solids, report.name)
            if solid is None:
                again = inspect_mesh(report.path, name=report.name, rule=rule)[1]
                if again is None:  # the file has changed in the meantime
                    continue
                solid = again.mesh
            source = read_mesh(report.path)
            camera = fit_camera(source, size=size)
            labels = [f"{report.name}: source", f"solid, {report.visible_kept:.1%} of what is visible kept"]
            images = [renderer.render(mesh, camera=camera) for mesh in (source, solid)]
            written.append(Path(out) / "pictures" / f"{report.name}.png")
            save_image(contact_sheet(images, labels=labels, columns=2), written[-1])
    return written


def _meshes_to_draw(
    source: Run | str | Path, shapes: str | Sequence[str], config: RenderConfig
) -> tuple[list[str], Callable[[str], Mesh]]:
    """Return the chosen names, and how to get the mesh of one."""
    if not isinstance(source, Run):
        paths = find_meshes(source)
        return select_shapes(list(paths), shapes), lambda name: read_mesh(paths[name])
    run, chosen = add_mixes(source, shapes)

    def extracted(name: str) -> Mesh:
        return extract_shape(
            run,
            name,
            resolution=config.resolution,
            sharp=config.sharp,
            min_piece=config.min_piece,
        ).mesh

    return list(dict.fromkeys(chosen)), extracted


def draw_shape(shape: Drawable, paths: Sequence[Path], renderer: Renderer, config: RenderConfig) -> Image:
    """Write the picture and the films of one shape, each in the format that its path's suffix names.

    Return the picture, (H, W, 3).

    >>> from sdfnet.extraction import extract_mesh
    >>> from sdfnet.fields import Sphere
    >>> with Renderer(size=(64, 48), backend="rays") as renderer:
    ...     draw_shape(extract_mesh(Sphere(1.0), resolution=12), [Path("ball.png")], renderer, RenderConfig()).shape
    (48, 64, 3)
    """
    mesh = shape.mesh if isinstance(shape, PaintedMesh) else shape
    azimuth, elevation, up_axis = config.azimuth, config.elevation, config.up_axis
    camera = fit_camera(mesh, size=renderer.size, azimuth=azimuth, elevation=elevation, up_axis=up_axis)
    image = renderer.render(shape, camera=camera)
    for path in paths:
        if path.suffix == ".png":
            save_image(image, path)
        else:
            turn = render_turntable(
                shape, frames=config.frames, renderer=renderer, elevation=elevation, azimuth=azimuth, up_axis=up_axis
            )
            save_film(turn, path, fps=config.fps)
    return image
