"""From values on a lattice to a triangle mesh: marching cubes, and the repair of what it does at exact zeros.

Works in lattice coordinates (sample `[i, j, k]` lies at (i, j, k)) and knows nothing of fields. scikit-image does the
work and decides the topology, which is always that of a closed surface. Two things that scikit-image does badly are
redone here. Its float32 positions are biased where a value is tiny. Where the surface runs exactly through a sample, it
makes several vertices at one place, with triangles of no area between them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sdfnet.mesh.edges import EdgeTable, half_edge_ends, label_connected
from sdfnet.mesh.mesh import renumber_faces

_SMALLEST = 1e-3
"""Values closer to zero than this share of a spacing are moved away from zero before marching cubes, so that every
vertex lies clearly on one lattice edge. Its true place on that edge is computed afterwards from the true values."""

_LARGEST = 8.0
"""Values farther from zero than this many spacings are brought nearer. Only a field whose slope is beyond 4 has such
values in a cell that the surface crosses; its vertices could be too near a sample for float32 to tell."""

_SNAP = 1e-4
"""Vertices closer than this (in spacings) to a lattice sample are put on it, and merged if they touch there."""

_MIXER = np.int64(6364136223846793005)
"""An odd multiplier (Knuth's) that spreads numbers over 64 bits, where products wrap around."""

_INNER = 3
"""The `axis` of a vertex inside a cell (Lewiner's twelfth kind), which lies on no lattice edge."""


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


@dataclass(frozen=True, eq=False)
class UnmergedMesh:
    """Faces as marching cubes makes them, before vertices at one place are merged.

    Attributes
    ----------
    starts : (V, 3) int64
        The lower end of the lattice edge that a vertex lies on, or the lowest corner of the cell it lies in.
    axes : (V,) int64
        The direction of that edge, or 3 for a vertex inside a cell. `starts` and `axes` name a vertex.
    shares : (2, V, 3) float64
        Its place from `starts` in spacings: where marching cubes puts it, never at a sample; and where it belongs.
    faces : (F, 3) int64
    """

    starts: NDArray[np.int64]
    axes: NDArray[np.int64]
    shares: NDArray[np.float64]
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
    return merge_lattice_vertices(march_cells(values, spacing=spacing))


def march_cells(values: NDArray[np.float32], *, spacing: float, cells: NDArray[np.bool_] | None = None) -> UnmergedMesh:
    """Run marching cubes over the cells of `values` (X, Y, Z), or over those that `cells` (X-1, Y-1, Z-1) names.

    The faces in a cell depend on the cell's own eight values only, not on where in the array the cell lies. The surface
    must cross some cell.
    """
    from skimage.measure import marching_cubes

    clear = _clear_of_zero(values, spacing)
    mask = None
    if cells is not None:
        mask = np.zeros(values.shape, dtype=bool)
        mask[1:, 1:, 1:] = cells  # scikit-image asks the far corner of a cell whether to visit it
    # The normals that come back point inward for a negative-inside field; they are not used.
    rough, faces, _, _ = marching_cubes(
        clear, level=0.0, gradient_direction="descent", allow_degenerate=True, mask=mask
    )
    starts, axes = _named(rough)
    return UnmergedMesh(starts, axes, _shares(starts, axes, values, clear), faces.astype(np.int64))


def _clear_of_zero(values: NDArray[np.float32], spacing: float) -> NDArray[np.float32]:
    """Return `values` with magnitudes that keep every vertex clearly inside its edge, and the same signs."""
    # Zero counts as inside: the union of two touching solids is zero where they meet and must not be cut there.
    magnitude = np.clip(np.abs(values), np.float32(_SMALLEST * spacing), np.float32(_LARGEST * spacing))
    return np.where(values > 0, magnitude, -magnitude)


def _named(rough: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return for each vertex of marching cubes the start of its lattice edge, (V, 3), and the edge's axis, (V,)."""
    whole = rough == np.rint(rough)
    axes = np.where(whole.sum(axis=1) == 2, whole.argmin(axis=1), _INNER)
    return np.floor(rough).astype(np.int64), axes.astype(np.int64)


def _shares(
    starts: NDArray[np.int64], axes: NDArray[np.int64], values: NDArray[np.float32], clear: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Return how far from its start each vertex lies, (2, V, 3): by marching cubes' own rule, and truly.

    scikit-image's float32 positions would depend on where in an array a cell lies, so its rule (each corner weighs by
    1 / |value|) is repeated in float64. A vertex inside a cell has no better place than that.
    """
    shares = np.zeros((2, len(starts), 3))
    edge = np.flatnonzero(axes != _INNER)
    first, last = starts[edge], starts[edge] + np.eye(3, dtype=np.int64)[axes[edge]]
    weights = _weights(clear[tuple(first.T)]), _weights(clear[tuple(last.T)])
    shares[0, edge, axes[edge]] = weights[1] / (weights[0] + weights[1])
    start, stop = values[tuple(first.T)].astype(np.float64), values[tuple(last.T)].astype(np.float64)
    share = start / np.where(start == stop, 1.0, start - stop)
    shares[1, edge, axes[edge]] = np.where(share < _SNAP, 0.0, np.where(share > 1 - _SNAP, 1.0, share))
    inner = np.flatnonzero(axes == _INNER)
    corners = np.stack(np.meshgrid([0, 1], [0, 1], [0, 1], indexing="ij"), axis=-1).reshape(8, 3)
    weight = _weights(clear[tuple(np.moveaxis(starts[inner][:, None] + corners, -1, 0))])
    shares[:, inner] = weight @ corners / weight.sum(axis=1, keepdims=True)
    return shares


def _weights(values: NDArray[np.float32]) -> NDArray[np.float64]:
    return 1 / (np.finfo(np.float32).eps + np.abs(values.astype(np.float64)))


def merge_lattice_vertices(marched: UnmergedMesh) -> LatticeMesh:
    """Return the mesh in which vertices at one place that an edge joins are one, where that leaves it closed."""
    rough, vertices = marched.starts + marched.shares
    return _merged(rough, vertices, marched.faces)


def _merged(rough: NDArray[np.float64], vertices: NDArray[np.float64], faces: NDArray[np.int64]) -> LatticeMesh:
    """Merge vertices that an edge of no length joins, except where that would leave an edge without exactly two faces.

    Merging would pinch a thin neck between two touching solids into edges of four faces. There the vertices keep their
    rough, distinct places.
    """
    faces = _without_folds(faces)  # in ambiguous cells marching cubes itself makes some
    starts, stops = half_edge_ends(faces)
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
    used, compact = renumber_faces(np.concatenate([label[faces[~near]], merged]), len(placed))
    return LatticeMesh(placed[used], compact)


def _ends_of_unpaired_edges(faces: NDArray[np.int64], num_vertices: int) -> NDArray[np.int64]:
    """Return the vertices of the edges that do not belong to exactly two of `faces`."""
    edges = EdgeTable.of(faces, num_vertices)
    return np.unique(edges.ends[edges.counts != 2])


def _lowest_connected(edges: NDArray[np.int64], num_vertices: int) -> NDArray[np.int64]:
    """Return for each vertex the lowest vertex that `edges` connect it to, (V,)."""
    if not len(edges):
        return np.arange(num_vertices, dtype=np.int64)
    _, component = label_connected(edges[:, 0], edges[:, 1], num_vertices)
    _, lowest = np.unique(component, return_index=True)
    return lowest[component].astype(np.int64)


def _without_folds(faces: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return `faces` without those that name a vertex twice and without pairs back to back on one triangle."""
    faces = faces[(faces != np.roll(faces, 1, axis=1)).all(axis=1)]
    corners = np.sort(faces, axis=1)
    # Sorted by one number each, several times faster than by three; equal corners have equal numbers.
    numbers = ((corners[:, 0] * _MIXER + corners[:, 1]) * _MIXER + corners[:, 2]).view(np.uint64)
    order = np.argsort(numbers)
    again = np.flatnonzero(numbers[order[1:]] == numbers[order[:-1]])
    again = again[(corners[order[again]] == corners[order[again + 1]]).all(axis=1)]
    folded = np.zeros(len(faces), dtype=bool)
    folded[order[again]] = folded[order[again + 1]] = True
    return faces[~folded]
