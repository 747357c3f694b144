"""The part of a surface that can be seen from outside, by rays. It is what a solid of a mesh must keep."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sdfnet.mesh.mesh import Mesh
from sdfnet.mesh.winding import spread_over_surface

NUM_DIRECTIONS = 64
STEP_OFF = 1e-4
"""Rays start this far from either side of a face, as a share of the radius."""


def visible_points(mesh: Mesh, num_points: int) -> NDArray[np.float64]:
    """Return those of `num_points` points, spread evenly over `mesh` (unit frame), that are seen from outside, (K, 3).

    A point is seen if, from just beside either side of its face, a ray in one of 64 evenly spread directions meets no
    face. Deterministic.

    >>> inner, outer = np.eye(4)[:, :3] / 9 + 0.1, 2 * np.eye(4)[:, :3] - 0.3
    >>> faces = np.array([[0, 2, 1], [0, 1, 3], [1, 2, 3], [2, 0, 3]])
    >>> seen = visible_points(Mesh(np.concatenate([inner, outer]), np.concatenate([faces, faces + 4])), 400)
    >>> bool((np.abs(seen - 0.1).max(axis=1) > 0.2).all())
    True
    """
    # Here, because the library takes time to load, and only meshes that are rebuilt need it.
    from embreex.mesh_construction import TriangleMesh
    from embreex.rtcore_scene import EmbreeScene

    scene = EmbreeScene()
    TriangleMesh(scene, mesh.triangles.astype(np.float32))
    points, faces = spread_over_surface(mesh, num_points)
    offsets = STEP_OFF * mesh.face_normals[faces]
    seen = np.zeros(num_points, dtype=bool)
    for direction in sphere_directions(NUM_DIRECTIONS).astype(np.float32):
        for side in (1, -1):
            hidden = np.flatnonzero(~seen)
            if len(hidden) == 0:
                return points
            starts = (points[hidden] + side * offsets[hidden]).astype(np.float32)
            hits = scene.run(starts, np.tile(direction, (len(hidden), 1)))
            seen[hidden[np.asarray(hits) < 0]] = True
    return points[seen]


def sphere_directions(count: int) -> NDArray[np.float64]:
    """Return unit vectors, (count, 3), evenly along a spiral over the sphere.

    >>> np.linalg.norm(sphere_directions(5), axis=1).round(9).tolist()
    [1.0, 1.0, 1.0, 1.0, 1.0]
    """
    number = np.arange(count) + 0.5
    polar, around = np.arccos(1 - 2 * number / count), np.pi * (1 + 5**0.5) * number
    return np.stack([np.cos(around) * np.sin(polar), np.sin(around) * np.sin(polar), np.cos(polar)], axis=1)
