"""Pictures of meshes: one function for one picture, and a renderer that keeps its GL context for many.

A picture may also show ghosts: meshes that one can see through, to compare the drawn mesh with others. A ghost veils
what lies behind it and is hidden by what lies before it; it casts no shadow.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sdfnet.mesh.mesh import Mesh
from sdfnet.rendering.camera import Camera, UpAxis, fit_camera
from sdfnet.rendering.embree_backend import RayTracer, cast_shadows, draw_by_rays
from sdfnet.rendering.pyrender_backend import GLCanvas, GLUnavailableError
from sdfnet.rendering.scene import Drawable, Layer, PaintedMesh, Scene, make_scene
from sdfnet.rendering.style import Color, Style, check_color

_LOGGER = logging.getLogger(__name__)

Backend = Literal["auto", "gl", "rays"]
Image = NDArray[np.uint8]

_LARGEST = 16384

_OVER_SURFACE, _OVER_NOTHING = 0.30, 0.45
"""Opacity of a ghost before the solid surface, and beside it. More would hide the surface that it is compared with."""

_APART = 4e-3
"""A ghost is drawn over a surface only where it is nearer by this much, in the drawing frame. Where both are one
surface, it is not drawn."""


@dataclass(frozen=True, eq=False)
class Ghost:
    """A mesh that a picture shows as a transparent veil.

    Attributes
    ----------
    drawable : Mesh or PaintedMesh
    tint : Color
        sRGB in [0, 1]; the ghost's own colour is not shown.

    >>> from sdfnet.mesh.mesh import Mesh
    >>> Ghost(Mesh([[0, 0, 0], [1, 0, 0], [0, 1, 0]], [[0, 1, 2]]), tint=(0.5, 0.3, 0.7)).tint
    (0.5, 0.3, 0.7)
    """

    drawable: Drawable
    tint: Color

    def __post_init__(self) -> None:
        check_color("tint", self.tint)


def veil(image: NDArray[np.float32], solid: Layer, ghost: Layer) -> NDArray[np.float32]:
    """Return `image` (H, W, 3), in which `solid` is drawn, with `ghost` over it."""
    before = ghost.depth < solid.depth - np.float32(_APART)
    # At its silhouette a pixel of the ghost holds no depth in its middle: what is beside the solid decides.
    seen = np.where(np.isfinite(ghost.depth), before, solid.coverage < 0.5)
    share = seen * np.where(solid.coverage > 0.5, np.float32(_OVER_SURFACE), np.float32(_OVER_NOTHING))
    return np.asarray(image * (1 - share * ghost.coverage)[..., None] + share[..., None] * ghost.color)


class Renderer:
    """Draws pictures of one size and style; a context manager that gives its GL context back.

    Parameters
    ----------
    size : tuple of int
        Width and height in pixels.
    backend : str
        "gl" (pyrender), "rays" (embree on the CPU), or "auto": GL where it works. A log line says which, and why.

    Attributes
    ----------
    backend : str
        "gl" or "rays".
    why : str
        The reason, with the driver's name or what GL is missing.

    Raises
    ------
    ValueError
        A size or a backend that cannot be.
    GLUnavailableError
        `backend="gl"` where there is no GL.

    >>> from sdfnet.mesh.mesh import Mesh
    >>> triangle = Mesh([[0, 0, 0], [1, 0, 0], [0, 1, 0]], [[0, 1, 2]])
    >>> with Renderer(size=(64, 48), backend="rays") as renderer:
    ...     renderer.render(triangle).shape
    (48, 64, 3)
    """

    def __init__(
        self, *, size: tuple[int, int] = (640, 480), style: Style | None = None, backend: Backend = "auto"
    ) -> None:
        width, height = size
        if not (1 <= width <= _LARGEST and 1 <= height <= _LARGEST):
            raise ValueError(f"size must be two numbers from 1 to {_LARGEST}, got {width} x {height}")
        self.size = (int(width), int(height))
        self.style = Style() if style is None else style
        self._canvas, self.why = _open_canvas(self.size, backend)
        self.backend: Literal["gl", "rays"] = "rays" if self._canvas is None else "gl"
        self._prepared: _Prepared | None = None
        self._ghosts: list[tuple[tuple[float, ...], Ghost, Callable[[], Layer]]] = []
        _announce(self.backend, self.why)

    def __enter__(self) -> Renderer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the GL context back; the renderer cannot draw afterwards."""
        if self._canvas is not None:
            self._canvas.close()

    def render(
        self, drawables: Drawable | Sequence[Drawable], *, camera: Camera | None = None, ghosts: Sequence[Ghost] = ()
    ) -> Image:
        """Return a picture (H, W, 3) of one or more meshes, from a `camera` fitted to them unless one is given."""
        return self.begin(drawables, camera=camera, ghosts=ghosts)()

    def begin(
        self, drawables: Drawable | Sequence[Drawable], *, camera: Camera | None = None, ghosts: Sequence[Ghost] = ()
    ) -> Callable[[], Image]:
        """Draw the part of a picture that GL draws, in this thread; return a function that finishes it in any thread.

        The finish (shadows, and all of the picture where there is no GL) takes longer, so a film gains from threads.
        """
        listed = _listed(drawables)
        if camera is None:
            camera = fit_camera(_meshes(listed), size=self.size)
        prepared = self._prepare(listed, camera)
        layer = self._draw(prepared.scene, prepared.tracer, camera)
        layers = [self._draw_ghost(ghost, camera) for ghost in ghosts]
        return lambda: self._composed(layer(), [ghost() for ghost in layers], prepared, camera)

    def _draw(self, scene: Scene, tracer: RayTracer, camera: Camera) -> Callable[[], Layer]:
        """Return a function that gives the drawn `scene`; where GL draws, it is drawn at once."""
        if self._canvas is None:
            return lambda: draw_by_rays(scene, tracer, camera, self.size, roughness=self.style.roughness)
        layer = self._canvas.draw(scene, camera, self.size, roughness=self.style.roughness)
        return lambda: layer

    def _draw_ghost(self, ghost: Ghost, camera: Camera) -> Callable[[], Layer]:
        """Return a function that gives a drawn ghost. The last ghosts are kept while the camera stands still."""
        key = (camera.azimuth, camera.elevation, camera.distance, *camera.target.tolist())
        kept = [(at, old, layer) for at, old, layer in self._ghosts if at == key]
        for _, old, layer in kept:
            if old.drawable is ghost.drawable and old.tint == ghost.tint:
                return layer
        mesh = ghost.drawable.mesh if isinstance(ghost.drawable, PaintedMesh) else ghost.drawable
        scene = make_scene([PaintedMesh(mesh, color=ghost.tint)], camera, color=self.style.color)
        layer = functools.cache(self._draw(scene, RayTracer(scene), camera))
        self._ghosts = [*kept[-3:], (key, ghost, layer)]
        return layer

    def _prepare(self, drawables: list[Drawable], camera: Camera) -> _Prepared:
        """Return scene and search tree: those of the last picture if only the camera's angles have changed."""
        last = self._prepared
        if last is None or not last.serves(drawables, camera):
            scene = make_scene(drawables, camera, color=self.style.color)
            last = _Prepared(tuple(drawables), camera, scene, RayTracer(scene))
            self._prepared = last
        return last

    def _composed(self, layer: Layer, ghosts: list[Layer], prepared: _Prepared, camera: Camera) -> Image:
        background = np.array(self.style.background, dtype=np.float32)
        behind = (1 - layer.coverage)[..., None] * background
        color = layer.color
        if self.style.shadows:
            shadows = cast_shadows(prepared.scene, prepared.tracer, camera, self.size)
            color = color * shadows.surface[..., None]
            behind = behind * shadows.ground[..., None]
        image = color + behind
        for ghost in ghosts:
            image = veil(image, layer, ghost)
        return np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)


@dataclass(frozen=True, eq=False)
class _Prepared:
    """The parts of a picture that the next picture may use again."""

    drawables: tuple[Drawable, ...]
    camera: Camera
    scene: Scene
    tracer: RayTracer

    def serves(self, drawables: Sequence[Drawable], camera: Camera) -> bool:
        same = len(drawables) == len(self.drawables) and all(
            new is old for new, old in zip(drawables, self.drawables, strict=True)
        )
        return same and camera.distance == self.camera.distance and bool((camera.target == self.camera.target).all())


def render_mesh(
    drawables: Drawable | Sequence[Drawable],
    *,
    camera: Camera | None = None,
    size: tuple[int, int] = (640, 480),
    style: Style | None = None,
    backend: Backend = "auto",
) -> Image:
    """Return a picture (H, W, 3) uint8 of one or more meshes. For many pictures, keep a `Renderer`.

    >>> from sdfnet.fields.primitives import Sphere
    >>> from sdfnet.extraction.extract import extract_mesh
    >>> render_mesh(extract_mesh(Sphere(), resolution=16), size=(80, 60), backend="rays").shape
    (60, 80, 3)
    """
    with Renderer(size=size, style=style, backend=backend) as renderer:
        return renderer.render(drawables, camera=camera)


def render_turntable(
    drawables: Drawable | Sequence[Drawable],
    *,
    frames: int,
    renderer: Renderer,
    elevation: float = 20.0,
    azimuth: float = 30.0,
    up_axis: UpAxis = "y",
) -> Iterator[Image]:
    """Yield `frames` pictures of one turn around the meshes, from `azimuth` on; the film loops without a seam.

    Raises
    ------
    ValueError
        `frames` is below 1.

    >>> triangle = Mesh([[0, 0, 0], [1, 0, 0], [0, 1, 0]], [[0, 1, 2]])
    >>> with Renderer(size=(40, 30), backend="rays") as renderer:
    ...     pictures = list(render_turntable(triangle, frames=2, renderer=renderer))
    >>> len(pictures)
    2
    """
    if frames < 1:
        raise ValueError(f"frames must be at least 1, got {frames}")
    listed = _listed(drawables)
    camera = fit_camera(_meshes(listed), size=renderer.size, elevation=elevation, up_axis=up_axis, turntable=True)
    return (renderer.render(listed, camera=camera.turned(azimuth + 360 * frame / frames)) for frame in range(frames))


def choose_backend() -> tuple[Literal["gl", "rays"], str]:
    """Return how pictures are drawn on this machine, "gl" or "rays", and why. Opens a GL context to find out.

    >>> backend, why = choose_backend()
    >>> backend in ("gl", "rays")
    True
    """
    canvas, why = _open_canvas((16, 16), "auto")
    if canvas is None:
        return "rays", why
    canvas.close()
    return "gl", why


def _open_canvas(size: tuple[int, int], backend: Backend) -> tuple[GLCanvas | None, str]:
    if backend not in ("auto", "gl", "rays"):
        raise ValueError(f"backend must be auto, gl or rays, got {backend!r}")
    if backend == "rays":
        return None, "ray casting on the CPU, as asked"
    try:
        canvas = GLCanvas(size)
    except GLUnavailableError as error:
        if backend == "gl":
            raise
        return None, f"ray casting on the CPU, because: {error}"
    return canvas, f"pyrender on {canvas.driver}"


@functools.cache
def _announce(backend: str, why: str) -> None:
    """Log once per process, not once per picture, how pictures are drawn and why."""
    _LOGGER.info("pictures by %s: %s", backend, why)


def _listed(drawables: Drawable | Sequence[Drawable]) -> list[Drawable]:
    return [drawables] if isinstance(drawables, Mesh | PaintedMesh) else list(drawables)


def _meshes(drawables: Sequence[Drawable]) -> list[Mesh]:
    return [drawable.mesh if isinstance(drawable, PaintedMesh) else drawable for drawable in drawables]
