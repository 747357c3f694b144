"""Gaps in sharp edges: where an edge passes through a cell unseen by its lattice, a vertex nearby is moved onto it.

Features lie in cells (`sharp`), and those of cells that meet in a face are joined by flipping an edge. But an edge may
go from a cell to one that it meets along a line only, or poke out between the samples. There a feature has no
neighbour further along, and of the vertices around it the one nearest to the edge is made one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sdfnet.extraction.projection import move_without_flips
from sdfnet.extraction.sharp_features.qef import SHARP_ANGLE, SMALL_MISS, Slope, find_features, meet, unit
from sdfnet.extraction.sparse import Sample
from sdfnet.mesh.edges import EdgeTable

_ROUNDS = 4
"""A gap is closed by one vertex from each end in each round."""

_FARTHEST = 1.0
"""How far (in spacings) a vertex may be moved."""

_CLOSEST = 0.05
"""How near (in spacings) to a feature another may come."""

_SAME_WAY = 0.7
"""The cosine of the angle below which two directions from a feature are the same way along the edge."""


@dataclass(frozen=True, eq=False)
class Ridges:
    """Vertices on sharp edges and corners, and the sheets that meet there.

    Attributes
    ----------
    vertices : (P,) int64
    points, normals : (P, L, 3) float64
        Points on the sheets and the normals there.
    used : (P, L) bool
        Which of them count.
    """

    vertices: NDArray[np.int64]
    points: NDArray[np.float64]
    normals: NDArray[np.float64]
    used: NDArray[np.bool_]

    def rows(self, chosen: NDArray[np.integer]) -> Ridges:
        return Ridges(self.vertices[chosen], self.points[chosen], self.normals[chosen], self.used[chosen])


def close_gaps(
    vertices: NDArray[np.float64], faces: NDArray[np.int64], ridges: Ridges, sample: Sample, slope: Slope
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return `vertices` with some moved onto sharp edges that had gaps, and all vertices that are now features."""
    edges = EdgeTable.of(faces, len(vertices)).ends
    at_feature = edges[np.isin(edges, ridges.vertices).any(axis=1)]
    around = edges[np.isin(edges, at_feature).any(axis=1)]
    edges = np.concatenate([around, around[:, ::-1]])
    for _ in range(_ROUNDS):
        added, places = _extensions(vertices, edges, ridges, sample, slope)
        moved = vertices.copy()
        moved[added.vertices] = places
        settled = move_without_flips(vertices, moved, faces)
        done = (settled[added.vertices] == places).all(axis=1)
        if not done.any():
            break
        vertices, added = settled, added.rows(np.flatnonzero(done))
        ridges = Ridges(
            np.concatenate([ridges.vertices, added.vertices]),
            np.concatenate([ridges.points, added.points]),
            np.concatenate([ridges.normals, added.normals]),
            np.concatenate([ridges.used, added.used]),
        )
    return vertices, ridges.vertices


def _extensions(
    vertices: NDArray[np.float64], edges: NDArray[np.int64], ridges: Ridges, sample: Sample, slope: Slope
) -> tuple[Ridges, NDArray[np.float64]]:
    """Return the vertices that would carry an edge on where it has no neighbour, and their places on it, (K, 3)."""
    row_of = np.full(len(vertices), -1)
    row_of[ridges.vertices] = np.arange(len(ridges.vertices))
    start, stop = edges[(row_of[edges[:, 0]] >= 0) & (row_of[edges[:, 1]] < 0)].T
    rows = row_of[start]
    # First by the planes alone, which asks the field nothing; most are too far or have a neighbour.
    rough = meet(ridges.points[rows], ridges.normals[rows], ridges.used[rows], vertices[stop])[0]
    likely = np.linalg.norm(rough - vertices[stop], axis=1) < 2 * _FARTHEST
    likely &= ~_has_neighbor(vertices, edges, row_of, start, rough)
    start, stop, rows = start[likely], stop[likely], rows[likely]
    found = find_features(
        ridges.points[rows], ridges.normals[rows], ridges.used[rows], sample, slope, near=vertices[stop]
    )
    moves = np.linalg.norm(found.places - vertices[stop], axis=1)
    good = (moves < _FARTHEST) & (found.misses < SMALL_MISS) & (found.spreads > SHARP_ANGLE) & ~found.are_corners
    from scipy.spatial import cKDTree  # Here, for a quick start (see geometry.connectivity).

    good &= cKDTree(vertices[ridges.vertices]).query(found.places)[0] > _CLOSEST
    good &= ~_has_neighbor(vertices, edges, row_of, start, found.places)
    best = np.flatnonzero(good)[np.argsort(moves[good], kind="stable")]
    best = best[np.unique(stop[best], return_index=True)[1]]  # each vertex once, for the nearest edge
    best = best[np.argsort(moves[best], kind="stable")]
    ways = unit(found.places - vertices[start])
    taken: dict[int, list[int]] = {}
    for row in best.tolist():
        others = taken.setdefault(int(start[row]), [])
        if all(ways[row] @ ways[other] < _SAME_WAY for other in others):
            others.append(row)
    chosen = np.array([row for others in taken.values() for row in others], dtype=np.int64)
    added = ridges.rows(rows[chosen])
    return Ridges(stop[chosen], added.points, added.normals, added.used), found.places[chosen]


def _has_neighbor(
    vertices: NDArray[np.float64],
    edges: NDArray[np.int64],
    row_of: NDArray[np.int64],
    start: NDArray[np.int64],
    places: NDArray[np.float64],
) -> NDArray[np.bool_]:
    """Return whether the features `start` (K,) have a neighbouring feature on the way to `places` (K, 3) already."""
    between = edges[(row_of[edges[:, 0]] >= 0) & (row_of[edges[:, 1]] >= 0)]
    between = between[np.argsort(between[:, 0], kind="stable")]
    first = np.searchsorted(between[:, 0], start, side="left")
    counts = np.searchsorted(between[:, 0], start, side="right") - first
    ways = unit(places - vertices[start])
    found = np.zeros(len(start), dtype=bool)
    for number in range(int(counts.max(initial=0))):
        has = np.flatnonzero(counts > number)
        neighbor = between[first[has] + number, 1]
        other = unit(vertices[neighbor] - vertices[start[has]])
        found[has] |= np.einsum("ij,ij->i", ways[has], other) > _SAME_WAY
    return found
