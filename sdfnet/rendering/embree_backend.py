"""Drawing without GL: rays through embree on the CPU, with the same camera, lights and colours.

Also the rays behind the soft shadows (`shadows.py`), which pictures through GL have too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdfnet.rendering.camera import Camera, pixel_directions
from sdfnet.rendering.scene import Layer, Scene
from sdfnet.rendering.style import shade

_SAMPLES = ((-0.25, -0.25), (0.25, -0.25), (-0.25, 0.25), (0.25, 0.25))
"""Places within a pixel, in pixels from its middle."""

_PIXELS_AT_ONCE = 1 << 18
"""Pixels looked at together, which bounds the memory."""

_EDGE = 0.15
"""How different normals, or five times the inverse distances, of neighbours are where there is an edge."""

_FAR = 1e30


@dataclass(frozen=True, eq=False)
class Hits:
    """What rays met first.

    Attributes
    ----------
    rays : (K,) int64
        Which rays met a face.
    faces : (K,) int64
    distances : (K,) float32
        In lengths of the ray's direction.
    weights : (K, 3) float32
        Barycentric, of the face's corners.
    """

    rays: NDArray[np.int64]
    faces: NDArray[np.int64]
    distances: NDArray[np.float32]
    weights: NDArray[np.float32]


class RayTracer:
    """Embree's search tree over the triangles of a scene."""

    def __init__(self, scene: Scene) -> None:
        from embreex.mesh_construction import TriangleMesh
        from embreex.rtcore_scene import EmbreeScene

        self._tree: Any = EmbreeScene()
        TriangleMesh(self._tree, scene.vertices, scene.faces)

    def first_hits(self, origins: NDArray[np.float32], directions: NDArray[np.float32]) -> Hits:
        """Return what rays (R, 3) from `origins` along `directions` meet first."""
        found = self._tree.run(origins, directions, output=True)
        rays = np.flatnonzero(found["primID"] >= 0)
        u, v = found["u"][rays], found["v"][rays]
        weights = np.stack([1 - u - v, u, v], axis=1)
        return Hits(rays, found["primID"][rays].astype(np.int64), found["tfar"][rays], weights)

    def blocked(
        self, origins: NDArray[np.float32], directions: NDArray[np.float32], *, reach: float = _FAR
    ) -> NDArray[np.bool_]:
        """Return which rays meet anything nearer than `reach` lengths of their direction, (R,)."""
        limits = np.full(len(origins), reach, dtype=np.float32)
        return np.asarray(self._tree.run(origins, directions, dists=limits, query="OCCLUDED")) >= 0


def draw_by_rays(scene: Scene, tracer: RayTracer, camera: Camera, size: tuple[int, int], *, roughness: float) -> Layer:
    """Draw `scene` with one ray per pixel, and four where the picture has an edge."""
    width, height = size
    rows, columns = (places.ravel() for places in np.mgrid[:height, :width])
    color = np.zeros((height * width, 3), dtype=np.float32)
    # What tells an edge: normal and distance of what the pixel shows, zero for the background.
    shown = np.zeros((height * width, 4), dtype=np.float32)
    for part in _parts(height * width):
        directions = pixel_directions(camera, size, rows[part], columns[part])
        seen = _look_along(scene, tracer, camera, directions)
        color[part][seen.rays] = _shaded(seen, camera, roughness)
        shown[part][seen.rays] = np.hstack([seen.normals, 5 / seen.distances[:, None]])
    coverage = (shown[:, 3] > 0).astype(np.float32)
    depth = np.divide(5, shown[:, 3], out=np.full(height * width, np.inf, np.float32), where=shown[:, 3] > 0)
    edges = np.flatnonzero(_is_edge(shown.reshape(height, width, 4)))
    color[edges] = coverage[edges] = 0
    for part in _parts(len(edges)):
        pixels = edges[part]
        for right, down in _SAMPLES:
            directions = pixel_directions(camera, size, rows[pixels] + down, columns[pixels] + right)
            seen = _look_along(scene, tracer, camera, directions)
            color[pixels[seen.rays]] += _shaded(seen, camera, roughness) / np.float32(len(_SAMPLES))
            coverage[pixels[seen.rays]] += 1 / len(_SAMPLES)
    return Layer(color.reshape(height, width, 3), coverage.reshape(height, width), depth.reshape(height, width))


def _parts(count: int) -> list[slice]:
    return [slice(start, start + _PIXELS_AT_ONCE) for start in range(0, count, _PIXELS_AT_ONCE)]


def _is_edge(shown: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return which pixels differ from one beside them in what they show (H, W, 4), in normal or in distance."""
    edge = np.zeros(shown.shape[:2], dtype=bool)
    for first, second in ((np.s_[:, 1:], np.s_[:, :-1]), (np.s_[1:], np.s_[:-1])):
        jump = np.abs(shown[first] - shown[second]).max(axis=-1) > _EDGE
        edge[first] |= jump
        edge[second] |= jump
    return edge


@dataclass(frozen=True, eq=False)
class _Seen:
    """What rays show: for each that met a face, its number, the unit direction to the eye, normal, albedo, distance."""

    rays: NDArray[np.int64]
    toward: NDArray[np.float32]
    normals: NDArray[np.float32]
    albedo: NDArray[np.float32]
    distances: NDArray[np.float32]


def _look_along(scene: Scene, tracer: RayTracer, camera: Camera, directions: NDArray[np.float32]) -> _Seen:
    eye = camera.axes[2].astype(np.float32)  # the drawing frame: the target at the origin, the camera one unit away
    hits = tracer.first_hits(np.broadcast_to(eye, directions.shape).copy(), directions)
    toward = -directions[hits.rays]
    toward /= _lengths(toward)
    normals = _interpolated(scene.normals, scene, hits)
    normals /= np.maximum(_lengths(normals), np.float32(1e-12))
    return _Seen(hits.rays, toward, normals, _interpolated(scene.albedo, scene, hits), hits.distances)


def _shaded(seen: _Seen, camera: Camera, roughness: float) -> NDArray[np.float32]:
    return shade(seen.normals, seen.toward, seen.albedo, axes=camera.axes, roughness=roughness)


def _lengths(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    # Several times as fast as np.linalg.norm over a short axis.
    return np.sqrt(np.einsum("ij,ij->i", vectors, vectors))[:, None]


def _interpolated(values: NDArray[np.float32], scene: Scene, hits: Hits) -> NDArray[np.float32]:
    """Return per-vertex `values` (V, 3) at the points that were hit, (K, 3)."""
    corners = scene.faces[hits.faces]
    result = values[corners[:, 0]] * hits.weights[:, 0, None]
    result += values[corners[:, 1]] * hits.weights[:, 1, None]
    result += values[corners[:, 2]] * hits.weights[:, 2, None]
    return result
