"""Do faces of a mesh cross one another? A closed, manifold mesh can still run through itself."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from sdfnet.geometry.mesh import Mesh

_BATCH = 1 << 20
"""Pairs of faces looked at at a time."""

_EDGE = 1e-9
"""Nearer to the rim of a triangle than this share of it, a point counts as beside it: faces that only touch do not
cross."""


def crossing_faces(mesh: Mesh) -> NDArray[np.int64]:
    """Return pairs (K, 2) of faces without a common vertex of which an edge of one passes through the other.

    Faces that lie in one plane, and those that only touch, do not count. For meshes with faces of like size: one that
    is many times larger than the rest is compared with all in reach of it.

    >>> corners = [[0, 0, 0], [2, 0, 0], [0, 2, 0], [0.5, 0.5, -1], [0.5, 0.5, 1], [3, 3, 0]]
    >>> crossing_faces(Mesh(corners, [[0, 1, 2], [3, 4, 5]])).tolist()
    [[0, 1]]
    """
    triangles = mesh.triangles
    lower, upper = triangles.min(axis=1), triangles.max(axis=1)
    found = [np.zeros((0, 2), dtype=np.int64)]
    for pairs in _near_pairs(lower, upper):
        faces, others = mesh.faces[pairs[:, 0]], mesh.faces[pairs[:, 1]]
        apart = ~(faces[:, :, None] == others[:, None]).any(axis=(1, 2))
        pairs = pairs[apart]
        one, other = triangles[pairs[:, 0]], triangles[pairs[:, 1]]
        found.append(pairs[_pierces(one, other) | _pierces(other, one)])
    return np.concatenate(found)


def _near_pairs(lower: NDArray[np.float64], upper: NDArray[np.float64]) -> list[NDArray[np.int64]]:
    """Return pairs of boxes (F, 3) that meet, in batches; each pair once."""
    centers, radii = (lower + upper) / 2, np.linalg.norm(upper - lower, axis=1) / 2
    batches = []
    # By size: a face is compared with those no larger than itself, within their common reach.
    order = np.argsort(radii)
    first = 0
    while first < len(order):
        stop = max(first + 1, int(np.searchsorted(radii[order], 2 * radii[order[first]], side="right")))
        group = order[first:stop]
        smaller = order[:stop]
        tree = cKDTree(centers[smaller])
        for start in range(0, len(group), 1 << 14):
            part = group[start : start + (1 << 14)]
            reach = radii[part] + radii[group].max()
            near = tree.query_ball_point(centers[part], reach, return_sorted=False)
            counts = [len(row) for row in near]
            left, right = np.repeat(part, counts), smaller[np.concatenate([np.array(row, dtype=int) for row in near])]
            rank = np.empty(len(order), dtype=np.int64)
            rank[order] = np.arange(len(order))
            meets = (lower[left] <= upper[right]).all(axis=1) & (lower[right] <= upper[left]).all(axis=1)
            keep = meets & (rank[left] > rank[right])
            batches.append(np.sort(np.stack([left[keep], right[keep]], axis=1), axis=1))
        first = stop
    return batches


def _pierces(one: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return for which pairs of triangles (K, 3, 3) an edge of `one` passes through the inside of `other`, (K,)."""
    base, side_u, side_v = other[:, 0], other[:, 1] - other[:, 0], other[:, 2] - other[:, 0]
    normal = np.cross(side_u, side_v)
    heights = np.einsum("kci,ki->kc", one - base[:, None], normal)
    square = np.maximum(np.einsum("ki,ki->k", normal, normal), 1e-300)
    found = np.zeros(len(one), dtype=bool)
    for corner in range(3):
        start, stop = heights[:, corner], heights[:, (corner + 1) % 3]
        through = start * stop < 0
        share = np.divide(start, start - stop, out=np.zeros_like(start), where=through)
        point = one[:, corner] + share[:, None] * (one[:, (corner + 1) % 3] - one[:, corner]) - base
        along_u = np.einsum("ki,ki->k", np.cross(point, side_v), normal) / square
        along_v = np.einsum("ki,ki->k", np.cross(side_u, point), normal) / square
        found |= through & (along_u > _EDGE) & (along_v > _EDGE) & (along_u + along_v < 1 - _EDGE)
    return found
