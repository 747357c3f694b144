"""Fans of triangles around features in place of the patches of cells, and edges flipped to run along sharp edges."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sdfnet.extraction.marching_cubes import LatticeMesh
from sdfnet.extraction.sharp_features.patches import Loops
from sdfnet.extraction.sharp_features.qef import SHARP_ANGLE
from sdfnet.mesh.edges import EdgeTable

_THINNEST = 1e-3
"""The least height (in spacings) of a new triangle. An edge so near a vertex of the mesh needs no other."""


def bad_triangles(
    places: NDArray[np.float64], points: NDArray[np.float64], normals: NDArray[np.float64], loops: Loops
) -> NDArray[np.bool_]:
    """Return which triangles (P, L) of the fans around `places` are too thin, or turned against the normals."""
    outward = normals + loops.following(normals)
    return loops.used & ~_are_proper(places[:, None], points, loops.following(points), outward)


def saved_by_flips(
    places: NDArray[np.float64],
    points: NDArray[np.float64],
    normals: NDArray[np.float64],
    loops: Loops,
    neighbors: NDArray[np.int64],
    *,
    lie_well: NDArray[np.bool_],
    bad: NDArray[np.bool_],
) -> NDArray[np.bool_]:
    """Return which features (P,) lie just beyond their patch in the fan of a neighbour: flipping their edge will do.

    `neighbors` (P, L) are the patches across the rims.
    """
    fine = lie_well & ~bad.any(axis=1)
    row_of = np.full(max(int(neighbors.max(initial=0)), int(loops.patches.max(initial=0))) + 1, -1)
    row_of[loops.patches[fine]] = np.flatnonzero(fine)
    rows, corners = np.nonzero(bad & lie_well[:, None])
    other = np.where(neighbors[rows, corners] >= 0, row_of[neighbors[rows, corners]], -1)
    rows, corners, other = rows[other >= 0], corners[other >= 0], other[other >= 0]
    start, stop = points[rows, corners], loops.following(points)[rows, corners]
    proper = _are_proper(places[rows], start, places[other], normals[rows, corners])
    proper &= _are_proper(places[other], stop, places[rows], loops.following(normals)[rows, corners])
    flips = np.unique(np.stack([rows, other], axis=1)[proper], axis=0)  # one edge joins two features
    return np.bincount(flips[:, 0], minlength=len(places)) == np.where(lie_well, bad.sum(axis=1), -1)


def with_fans(
    mesh: LatticeMesh,
    normals: NDArray[np.float64],
    patch_of: NDArray[np.int64],
    loops: Loops,
    places: NDArray[np.float64],
) -> LatticeMesh:
    """Replace the patches of `loops` by fans around `places`, which become the last vertices, and flip their sides."""
    replaced = np.zeros(patch_of.max(initial=-1) + 1, dtype=bool)
    replaced[loops.patches] = True
    centers = len(mesh.vertices) + np.arange(len(places))
    following = loops.following(loops.rims)
    fans = np.stack([loops.rims, following, np.broadcast_to(centers[:, None], following.shape)], axis=-1)[loops.used]
    vertices = np.concatenate([mesh.vertices, places])
    return LatticeMesh(vertices, np.concatenate([mesh.faces[~replaced[patch_of]], _flipped(fans, vertices, normals)]))


def _flipped(
    fans: NDArray[np.int64], vertices: NDArray[np.float64], vertex_normals: NDArray[np.float64]
) -> NDArray[np.int64]:
    """Flip the rim edges between two fans, faces (start, stop, center), whose ends lie on different sheets."""
    twins = EdgeTable.of(fans, int(fans.max(initial=0)) + 1).twins[0::3]
    rows = np.flatnonzero((twins >= 0) & (twins % 3 == 0) & (twins // 3 > np.arange(len(fans))))
    others = twins[rows] // 3
    start, stop, center = fans[rows].T
    opposite = fans[others, 2]
    across = (vertex_normals[start] * vertex_normals[stop]).sum(axis=1) < np.cos(np.radians(SHARP_ANGLE))
    at = vertices.__getitem__
    proper = _are_proper(at(center), at(start), at(opposite), vertex_normals[start])
    proper &= _are_proper(at(opposite), at(stop), at(center), vertex_normals[stop])
    bad = ~_are_proper(at(center), at(start), at(stop), vertex_normals[start] + vertex_normals[stop])
    bad |= ~_are_proper(at(opposite), at(stop), at(start), vertex_normals[start] + vertex_normals[stop])
    chosen = np.flatnonzero((across | bad) & proper & (center != opposite))
    chosen = chosen[np.argsort(~bad[chosen], kind="stable")]
    # Two fans that share several edges can be joined by one new edge only.
    pair = np.minimum(center, opposite) * len(vertices) + np.maximum(center, opposite)
    chosen = chosen[np.unique(pair[chosen], return_index=True)[1]]
    turned = fans.copy()
    turned[rows[chosen]] = np.stack([center, start, opposite], axis=1)[chosen]
    turned[others[chosen]] = np.stack([opposite, stop, center], axis=1)[chosen]
    return turned


def _are_proper(
    first: NDArray[np.float64], second: NDArray[np.float64], third: NDArray[np.float64], outward: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """Return which triangles are neither too thin nor turned against the direction that should be `outward`."""
    crosses = np.cross(second - first, third - first)
    longest = np.max([np.linalg.norm(a - b, axis=-1) for a, b in ((first, second), (second, third), (third, first))], 0)
    areas = np.linalg.norm(crosses, axis=-1)
    return (areas > _THINNEST * longest) & (np.einsum("...i,...i->...", crosses, outward) > 0)
