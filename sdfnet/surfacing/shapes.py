"""How well a carried mesh is shaped: which triangles turn over, which are slivers, and which vertices should slide."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sdfnet.geometry.edges import face_crosses, shape_quality, sum_at_vertices

_SLIDE_BELOW = 0.6
"""Vertices of triangles with a lower quality slide to even them; fully at half of it. (0.6 has an angle of 21° if the
other two are equal; 0.3 one of 10°.)"""


def turned_over(
    vertices: NDArray[np.float64], faces: NDArray[np.int64], normals: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """Whether each triangle faces against the surface's `normals` (V, 3) at all of its corners, (F,).

    A triangle across a crease narrower than an edge has corners of both kinds, and no right side of its own.
    """
    upright = np.einsum("fi,fci->fc", face_crosses(vertices, faces), normals[faces])
    return np.asarray((upright <= 0).all(axis=1))


def smallest_angles(vertices: NDArray[np.float64], faces: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the smallest angle of each triangle, degrees, (F,)."""
    corners = vertices[faces]
    forward = np.roll(corners, -1, axis=1) - corners
    forward /= np.maximum(np.linalg.norm(forward, axis=2, keepdims=True), 1e-300)
    cosines = -(forward * np.roll(forward, 1, axis=1)).sum(axis=2)
    return np.asarray(np.degrees(np.arccos(np.clip(cosines, -1, 1)).min(axis=1)))


def slides(
    vertices: NDArray[np.float64], faces: NDArray[np.int64], normals: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the vertices of badly shaped triangles, (N,), and how they should slide, (N, 3), along the surface.

    Towards the middle of the triangles around, the farther the worse the worst of these is: not at all where all are
    well enough shaped.
    """
    quality = np.where(turned_over(vertices, faces, normals), 0.0, shape_quality(vertices, faces))
    worst = np.ones(len(vertices))
    np.minimum.at(worst, faces.ravel(), np.repeat(quality, 3))
    bad = np.flatnonzero(worst < _SLIDE_BELOW)
    moving = np.zeros(len(vertices), dtype=bool)
    moving[bad] = True
    ring = faces[moving[faces].any(axis=1)]
    sums = sum_at_vertices(ring, np.hstack([vertices[ring].mean(axis=1), np.ones((len(ring), 1))]), len(vertices))[bad]
    way = sums[:, :3] / sums[:, 3:] - vertices[bad]
    way -= (way * normals[bad]).sum(axis=1, keepdims=True) * normals[bad]
    return bad, way * np.clip(2 - 2 * worst[bad] / _SLIDE_BELOW, 0, 1)[:, None]
