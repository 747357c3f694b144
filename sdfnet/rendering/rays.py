"""Drawing without GL: rays through embree on the CPU, with the same camera, lights and colours.

Also the rays behind the soft shadows (`shadows.py`), which pictures through GL have too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdfnet.rendering.camera import Camera
from sdfnet.rendering.look import shade
from sdfnet.rendering.scene import Scene

_SAMPLES = ((-0.25, -0.25), (0.25, -0.25), (-0.25, 0.25), (0.25, 0.25))
"""Places within a pixel, in pixels from its middle."""

_ROWS_AT_ONCE = 240_000
"""Pixels shaded at a time, which bounds the memory."""

_FAR = 1e30


@dataclass(frozen=True, eq=False)
class Layer:
    """What is drawn before it lies on a background.

    Attributes
    ----------
    color : (H, W, 3) float32
        Stored colour times coverage.
    coverage : (H, W) float32
        Share of each pixel that a surface covers.
    """

    color: NDArray[np.float32]
    coverage: NDArray[np.float32]


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


def pixel_directions(
    camera: Camera, size: tuple[int, int], rows: NDArray[np.floating], columns: NDArray[np.floating]
) -> NDArray[np.float32]:
    """Return rays (len(rows), len(columns), 3) through fractional pixel positions, of length one along the view."""
    slopes = camera.slopes(size)
    right, up, back = camera.axes
    across = (2 * (columns + 0.5) / size[0] - 1) * slopes[0]
    down = (1 - 2 * (rows + 0.5) / size[1]) * slopes[1]
    return (across[None, :, None] * right + down[:, None, None] * up - back).astype(np.float32)


def draw_by_rays(scene: Scene, tracer: RayTracer, camera: Camera, size: tuple[int, int], *, roughness: float) -> Layer:
    """Draw `scene` with four rays per pixel."""
    width, height = size
    color = np.zeros((height, width, 3), dtype=np.float32)
    coverage = np.zeros((height, width), dtype=np.float32)
    step = max(1, _ROWS_AT_ONCE // width)
    for top in range(0, height, step):
        rows = np.arange(top, min(top + step, height))
        for right, down in _SAMPLES:
            directions = pixel_directions(camera, size, rows + down, np.arange(width) + right).reshape(-1, 3)
            pixels, shaded = _shade_hits(scene, tracer, camera, directions, roughness=roughness)
            color[rows[0] : rows[-1] + 1].reshape(-1, 3)[pixels] += shaded / len(_SAMPLES)
            coverage[rows[0] : rows[-1] + 1].reshape(-1)[pixels] += 1 / len(_SAMPLES)
    return Layer(color, coverage)


def _shade_hits(
    scene: Scene, tracer: RayTracer, camera: Camera, directions: NDArray[np.float32], *, roughness: float
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    eye = camera.axes[2].astype(np.float32)  # the drawing frame: the target at the origin, the camera one unit away
    hits = tracer.first_hits(np.broadcast_to(eye, directions.shape).copy(), directions)
    toward = -directions[hits.rays]
    toward /= np.linalg.norm(toward, axis=1, keepdims=True)
    normals = interpolated(scene.normals, scene, hits)
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), np.float32(1e-12))
    albedo = interpolated(scene.albedo, scene, hits)
    return hits.rays, shade(normals, toward, albedo, axes=camera.axes, roughness=roughness)


def interpolated(values: NDArray[np.float32], scene: Scene, hits: Hits) -> NDArray[np.float32]:
    """Return per-vertex `values` (V, 3) at the points that were hit, (K, 3)."""
    corners = scene.faces[hits.faces]
    result = values[corners[:, 0]] * hits.weights[:, 0, None]
    result += values[corners[:, 1]] * hits.weights[:, 1, None]
    result += values[corners[:, 2]] * hits.weights[:, 2, None]
    return result
