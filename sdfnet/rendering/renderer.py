"""Pictures of meshes: one function for one picture, and a renderer that keeps its GL context for many.

A picture may also show ghosts: transparent meshes to compare the drawn mesh with. Surfaces behind a ghost shine through
it, and surfaces before a ghost hide it. A ghost casts no shadow.
"""

from __future__ import annotations

import functools
import logging
import operator
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from sdfnet.mesh.mesh import Mesh
from sdfnet.rendering.camera import Camera, UpAxis, fit_camera
from sdfnet.rendering.embree_backend import RayTracer, cast_shadows, draw_by_rays
from sdfnet.rendering.pyrender_backend import GLCanvas, GLUnavailableError
from sdfnet.rendering.scene import Drawable, Layer, PaintedMesh, make_scene
from sdfnet.rendering.style import Style

_LOGGER = logging.getLogger(__name__)

Backend = Literal["auto", "gl", "rays"]
Image = NDArray[np.uint8]
Drawables = Drawable | Sequence[Drawable]

_LARGEST = 16384

_OVER_SURFACE, _OVER_NOTHING = 0.30, 0.45
"""Opacity of a ghost in front of the solid surface, and beside it. A higher opacity would hide the solid surface."""

_APART = 4e-3
"""A ghost is drawn over a surface only where it is nearer by this distance (drawing frame). So it is not drawn where
both surfaces coincide."""


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
    backend, why : str
        "gl" or "rays", and the reason, with the driver's name or what GL is missing.

    Raises
    ------
    ValueError
        An invalid size or an unknown backend.
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
        if backend not in get_args(Backend):
            raise ValueError(f"backend must be auto, gl or rays, got {backend!r}")
        self.size = (int(width), int(height))
        self.style = Style() if style is None else style
        self._canvas: GLCanvas | None = None
        self.why = "ray casting on the CPU, as asked"
        if backend != "rays":
            try:
                self._canvas = GLCanvas(self.size)
                self.why = f"pyrender on {self._canvas.driver}"
            except GLUnavailableError as error:
                if backend == "gl":
                    raise
                self.why = f"ray casting on the CPU, because: {error}"
        self.backend: Literal["gl", "rays"] = "rays" if self._canvas is None else "gl"
        self._last: tuple[list[Drawable], Camera, RayTracer] | None = None
        self._ghosts: list[tuple[tuple[float, ...], PaintedMesh, Callable[[], Layer]]] = []
        _announce(self.backend, self.why)

    def __enter__(self) -> Renderer:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the GL context back; the renderer cannot draw afterwards."""
        if self._canvas is not None:
            self._canvas.close()

    def render(
        self, drawables: Drawables, *, camera: Camera | None = None, ghosts: Sequence[PaintedMesh] = ()
    ) -> Image:
        """Return a picture (H, W, 3) of one or more meshes. By default, the `camera` is fitted to them.

        `ghosts` are drawn transparent, each in its one `color`.
        """
        listed = _listed(drawables)
        return self.begin(listed, camera or _fitted(listed, size=self.size), ghosts=ghosts)()

    def begin(
        self, drawables: Sequence[Drawable], camera: Camera, *, ghosts: Sequence[PaintedMesh] = ()
    ) -> Callable[[], Image]:
        """Do the GL part of a picture in this thread; return a function that finishes the picture in any thread.

        The finish (shadows, and all of the picture where there is no GL) takes longer, so a film gains from threads.
        """
        tracer = self._tracer_of(list(drawables), camera)
        layer = self._draw(tracer, camera)
        layers = [self._draw_ghost(ghost, camera) for ghost in ghosts]
        return lambda: self._composed(layer(), [ghost() for ghost in layers], tracer, camera)

    def _tracer_of(self, drawables: list[Drawable], camera: Camera) -> RayTracer:
        """Return the scene with its search tree. The last tree is kept if only the camera's angles have changed."""
        if self._last is not None:
            before, at, tracer = self._last
            same = len(drawables) == len(before) and all(map(operator.is_, drawables, before))
            if same and camera.distance == at.distance and (camera.target == at.target).all():
                return tracer
        tracer = RayTracer(make_scene(drawables, camera, color=self.style.color))
        self._last = (drawables, camera, tracer)
        return tracer

    def _draw(self, tracer: RayTracer, camera: Camera) -> Callable[[], Layer]:
        """Return a function that gives the drawn scene; where GL draws, it is drawn at once."""
        if self._canvas is None:
            return lambda: draw_by_rays(tracer, camera, self.size, roughness=self.style.roughness)
        layer = self._canvas.draw(tracer.scene, camera, roughness=self.style.roughness)
        return lambda: layer

    def _draw_ghost(self, ghost: PaintedMesh, camera: Camera) -> Callable[[], Layer]:
        """Return a function that gives a drawn ghost. The last ghosts are kept while the camera stands still."""
        key = (camera.azimuth, camera.elevation, camera.distance, *camera.target.tolist())
        kept = [(at, old, layer) for at, old, layer in self._ghosts if at == key]
        for _, old, layer in kept:
            if old is ghost:
                return layer
        tracer = RayTracer(make_scene([ghost], camera, color=self.style.color))
        layer = functools.cache(self._draw(tracer, camera))
        self._ghosts = [*kept[-3:], (key, ghost, layer)]
        return layer

    def _composed(self, solid: Layer, ghosts: list[Layer], tracer: RayTracer, camera: Camera) -> Image:
        behind = (1 - solid.coverage)[..., None] * np.array(self.style.background, dtype=np.float32)
        color = solid.color
        if self.style.shadows:
            on_surface, on_ground = cast_shadows(tracer, camera, self.size)
            color, behind = color * on_surface[..., None], behind * on_ground[..., None]
        image = color + behind
        for ghost in ghosts:
            before = ghost.depth < solid.depth - np.float32(_APART)
            # A pixel at the silhouette of a ghost may have no depth in its middle. The solid's coverage decides there.
            seen = np.where(np.isfinite(ghost.depth), before, solid.coverage < 0.5)
            share = seen * np.where(solid.coverage > 0.5, np.float32(_OVER_SURFACE), np.float32(_OVER_NOTHING))
            image = image * (1 - share * ghost.coverage)[..., None] + share[..., None] * ghost.color
        return np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)


def render_mesh(
    drawables: Drawables,
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
    drawables: Drawables,
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
    camera = _fitted(listed, size=renderer.size, elevation=elevation, up_axis=up_axis, turntable=True)
    return (renderer.render(listed, camera=camera.turned(azimuth + 360 * frame / frames)) for frame in range(frames))


@functools.cache
def _announce(backend: str, why: str) -> None:
    """Log once per process, not once per picture, how pictures are drawn and why."""
    _LOGGER.info("pictures by %s: %s", backend, why)


def _listed(drawables: Drawables) -> list[Drawable]:
    return [drawables] if isinstance(drawables, Mesh | PaintedMesh) else list(drawables)


def _fitted(drawables: Sequence[Drawable], **options: Any) -> Camera:
    return fit_camera([each.mesh if isinstance(each, PaintedMesh) else each for each in drawables], **options)
