"""From values on a lattice to a triangle mesh: marching cubes, and the repair of what it does at exact zeros.

Works in lattice coordinates (sample `[i, j, k]` lies at (i, j, k)) and knows nothing of fields. scikit-image does the
work and decides the topology, which is always that of a closed surface. Two things it does badly are redone here: it
returns float32 positions that are biased where a value is tiny, and where the surface runs exactly through a sample it
makes several vertices at one place, with triangles of no area between them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_SMALLEST = 1e-3
"""Values closer to zero than this share of a spacing are moved away from it before marching cubes, so that every vertex
lies clearly on one lattice edge; its true place on that edge is computed afterwards from the true values."""

_SNAP = 1e-4
"""Vertices closer than this (in spacings) to a lattice sample are put on it, and merged if they touch there."""


@dataclass(frozen=True, eq=False)
class LatticeMesh:
    """Triangles in lattice coordinates.

    Attributes
    ----------
    vertices : (V, 3) float64
    faces : (F, 3) int64
        Counter-clockwise seen from the positive side.
    """

    vertices: NDArray[np.float64]
    faces: NDArray[np.int64]


def march(values: NDArray[np.float32], *, spacing: float) -> LatticeMesh:
    """Extract the zero level of `values` (X, Y, Z), negative inside, as a mesh without faces of zero area.

    The surface is closed wherever it does not leave the lattice: every edge belongs to exactly two faces. Vertices lie
    on lattice edges by linear interpolation, so their error is of second order in the spacing. `spacing` is that of the
    lattice in the units of `values`; it only says which values are small.

    >>> grid = np.linalg.norm(np.indices((5, 5, 5)) - 2.0, axis=0).astype(np.float32) - 1
    >>> mesh = march(grid, spacing=1.0)  # a sphere exactly through six samples
    >>> len(mesh.vertices), len(mesh.faces)
    (6, 8)
    """
    from skimage.measure import marching_cubes

    # Zero counts as inside: the union of two touching solids is zero where they meet and must not be cut there.
    smallest = np.float32(_SMALLEST * spacing)
    clear = np.where(np.abs(values) >= smallest, values, np.where(values > 0, smallest, -smallest))
    # The normals that come back point inward for a negative-inside field; they are not used.
    rough, faces, _, _ = marching_cubes(clear, level=0.0, gradient_direction="descent", allow_degenerate=True)
    vertices = _placed(rough.astype(np.float64), values)
    return _merged(rough.astype(np.float64), vertices, faces.astype(np.int64))


def _placed(rough: NDArray[np.float64], values: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return each vertex at the zero of its lattice edge; vertices inside a cell (Lewiner's twelfth kind) stay."""
    tolerance = _SMALLEST / 5
    axis = np.abs(rough - np.rint(rough)).argmax(axis=1)
    rows = np.arange(len(rough))
    start = np.rint(rough).astype(np.int64)
    start[rows, axis] = np.floor(rough[rows, axis]).astype(np.int64)
    across = np.abs(rough - start)
    across[rows, axis] = 0.0
    along = rough[rows, axis] - start[rows, axis]
    on_edge = (across.max(axis=1) < tolerance) & (along > tolerance) & (along < 1 - tolerance)
    start, axis = start[on_edge], axis[on_edge]
    stop = start.copy()
    stop[np.arange(len(start)), axis] += 1
    first = values[tuple(start.T)].astype(np.float64)
    last = values[tuple(stop.T)].astype(np.float64)
    share = first / np.where(first == last, 1.0, first - last)
    share = np.where(share < _SNAP, 0.0, np.where(share > 1 - _SNAP, 1.0, share))
    placed = rough.copy()
    placed[on_edge] = start + share[:, None] * (stop - start)
    return placed


def _merged(rough: NDArray[np.float64], vertices: NDArray[np.float64], faces: NDArray[np.int64]) -> LatticeMesh:
    """Merge vertices that an edge of no length joins, except where that would leave an edge without exactly two faces.

    Merging would pinch a thin neck between two touching solids into edges of four faces. There the vertices keep their
    rough, distinct places.
    """
    faces = _without_folds(faces)  # in ambiguous cells marching cubes itself makes some
    starts, stops = faces.ravel(), np.roll(faces, -1, axis=1).ravel()
    same = (vertices[starts] == vertices[stops]).all(axis=1)
    short = np.stack([starts[same], stops[same]], axis=1)
    mergeable = np.zeros(len(vertices), dtype=bool)
    mergeable[short] = True
    # Only edges with an end at a merged vertex can change their number of faces, so only the faces there are looked at.
    near = mergeable[faces].any(axis=1)
    nearby = faces[near]
    border = _ends_of_unpaired_edges(nearby, len(vertices))
    while True:
        label = _lowest_connected(short[mergeable[short].all(axis=1)], len(vertices))
        merged = _without_folds(label[nearby])
        pinched = np.zeros(len(vertices), dtype=bool)
        pinched[_ends_of_unpaired_edges(merged, len(vertices))] = True
        pinched[label[border]] = False
        newly = pinched[label] & mergeable
        if not newly.any():
            break
        mergeable &= ~newly
    apart = np.zeros(len(vertices), dtype=bool)
    apart[short] = True
    placed = np.where((apart & ~mergeable)[:, None], rough, vertices)
    used, compact = np.unique(np.concatenate([label[faces[~near]], merged]), return_inverse=True)
    return LatticeMesh(placed[used], compact.reshape(-1, 3).astype(np.int64))


def _ends_of_unpaired_edges(faces: NDArray[np.int64], num_vertices: int) -> NDArray[np.int64]:
    """Return the vertices of the edges that do not belong to exactly two of `faces`."""
    edges = np.sort(faces[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2), axis=1)
    keys, count = np.unique(edges[:, 0] * num_vertices + edges[:, 1], return_counts=True)
    return np.unique(np.concatenate([keys[count != 2] // num_vertices, keys[count != 2] % num_vertices]))


def _lowest_connected(edges: NDArray[np.int64], num_vertices: int) -> NDArray[np.int64]:
    """Return for each vertex the lowest vertex that `edges` connect it to, (V,)."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    if not len(edges):
        return np.arange(num_vertices, dtype=np.int64)
    joined = coo_array((np.ones(len(edges), dtype=np.int8), (edges[:, 0], edges[:, 1])), shape=(num_vertices,) * 2)
    _, component = connected_components(joined, directed=False)
    _, lowest = np.unique(component, return_index=True)
    return lowest[component].astype(np.int64)


def _without_folds(faces: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return `faces` without those that name a vertex twice and without pairs back to back on one triangle."""
    faces = faces[(faces != np.roll(faces, 1, axis=1)).all(axis=1)]
    corners = np.sort(faces, axis=1)
    order = np.lexsort(corners.T)
    again = (corners[order][1:] == corners[order][:-1]).all(axis=1)
    folded = np.zeros(len(faces), dtype=bool)
    folded[order[1:][again]] = folded[order[:-1][again]] = True
    return faces[~folded]
