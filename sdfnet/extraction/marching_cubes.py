"""From values on a lattice to a triangle mesh: marching cubes, and repairs where values are zero.

The module works in lattice coordinates (sample `[i, j, k]` lies at (i, j, k)) and knows nothing of fields. scikit-image
does the work and decides the topology, which is always that of a closed surface. The module corrects two faults of
scikit-image. First, its float32 positions are biased where a value is tiny. Second, if the surface runs exactly through
a sample, scikit-image makes several vertices at one place, with triangles of no area between them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sdfnet.geometry.arrays import BoolArray, Float32Array, FloatArray, IntArray, are_among, mask_of
from sdfnet.mesh.edges import EdgeTable, half_edge_ends, label_connected
from sdfnet.mesh.mesh import faces_at, renumber_faces

_SMALLEST = 1e-3
"""Values closer to zero than this share of a spacing are moved away from zero before marching cubes. So every vertex
lies clearly on one lattice edge. The true place on this edge is computed afterwards from the true values."""

_LARGEST = 8.0
"""Values farther from zero than this many spacings are moved to this bound. Only a field with a slope above 4 has such
values in a cell that the surface crosses. Its vertices could be too near to a sample for float32."""

_SNAP = 1e-4
"""A vertex closer than this (in spacings) to a lattice sample moves onto the sample. Vertices that touch are merged."""

_MIXER = np.int64(6364136223846793005)
"""An odd multiplier (of Knuth) that spreads numbers over 64 bits. Products wrap around."""

_INNER = 3
"""The `axis` of a vertex inside a cell (Lewiner's twelfth kind), which lies on no lattice edge."""


@dataclass(frozen=True, eq=False)
class LatticeMesh:
    """Vertices (V, 3) in lattice coordinates, and faces (F, 3), counter-clockwise seen from the positive side."""

    vertices: FloatArray
    faces: IntArray


@dataclass(frozen=True, eq=False)
class UnmergedMesh:
    """Faces as marching cubes makes them, before vertices at one place are merged.

    Attributes
    ----------
    starts, axes : (V, 3), (V,)
        The lower end and the axis of the lattice edge on which a vertex lies. For a vertex inside a cell, the lowest
        corner of the cell, and 3. Both together identify a vertex.
    shares : (2, V, 3)
        Two places of each vertex relative to `starts`, in spacings. Row 0 is the place that marching cubes gives, which
        is never at a sample. Row 1 is the true place.
    """

    starts: IntArray
    axes: IntArray
    shares: FloatArray
    faces: IntArray


def march(values: Float32Array, *, spacing: float) -> LatticeMesh:
    """Extract the zero level of `values` (X, Y, Z), negative inside, as a mesh without faces of zero area.

    The surface is closed (every edge belongs to exactly two faces) except where it leaves the lattice. Vertices lie on
    lattice edges by linear interpolation, so their error is of second order in the spacing. `spacing` is the spacing of
    the lattice in the units of `values`; it decides only which values are small.

    >>> grid = np.linalg.norm(np.indices((5, 5, 5)) - 2.0, axis=0).astype(np.float32) - 1
    >>> mesh = march(grid, spacing=1.0)  # a sphere exactly through six samples
    >>> len(mesh.vertices), len(mesh.faces)
    (6, 8)
    """
    return merge_lattice_vertices(march_cells(values, spacing=spacing))


def march_cells(values: Float32Array, *, spacing: float, cells: BoolArray | None = None) -> UnmergedMesh:
    """Run marching cubes over all cells of `values` (X, Y, Z), or only where `cells` (X-1, Y-1, Z-1) is true.

    The faces in a cell depend only on the cell's eight values, not on the position of the cell in the array. The
    surface must cross at least one cell.
    """
    from skimage.measure import marching_cubes

    # Zero counts as inside, because the union of two touching solids is zero where they meet and must not be cut there.
    magnitude = np.clip(np.abs(values), np.float32(_SMALLEST * spacing), np.float32(_LARGEST * spacing))
    clear = np.where(values > 0, magnitude, -magnitude)
    mask = None
    if cells is not None:
        mask = np.zeros(values.shape, dtype=bool)
        mask[1:, 1:, 1:] = cells  # scikit-image asks the far corner of a cell whether to visit it
    # The returned normals are not used. For a field that is negative inside, they point inward.
    rough, faces, _, _ = marching_cubes(
        clear, level=0.0, gradient_direction="descent", allow_degenerate=True, mask=mask
    )
    whole, starts = rough == np.rint(rough), np.floor(rough).astype(np.int64)
    axes = np.where(whole.sum(axis=1) == 2, whole.argmin(axis=1), _INNER).astype(np.int64)
    return UnmergedMesh(starts, axes, _shares(starts, axes, values, clear), faces.astype(np.int64))


def _shares(starts: IntArray, axes: IntArray, values: Float32Array, clear: Float32Array) -> FloatArray:
    """Return the offset of each vertex from its start, (2, V, 3): by the rule of marching cubes, and the true offset.

    The float32 positions of scikit-image depend on the position of a cell in the array. So its rule (the weight of each
    corner is 1 / |value|) is repeated in float64. For a vertex inside a cell, both offsets follow this rule.
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


def _weights(values: Float32Array) -> FloatArray:
    return 1 / (np.finfo(np.float32).eps + np.abs(values.astype(np.float64)))


def merge_lattice_vertices(marched: UnmergedMesh) -> LatticeMesh:
    """Merge vertices joined by an edge of no length, unless an edge would then not have exactly two faces.

    A merge would pinch a thin neck between two touching solids into edges of four faces. The vertices of such a neck
    keep their rough, distinct places.
    """
    rough, vertices = marched.starts + marched.shares
    faces = _without_folds(marched.faces)  # in ambiguous cells marching cubes itself makes some
    # Vertices are at one place only if they lie on a sample.
    on_sample = (vertices == np.rint(vertices)).all(axis=1)
    starts, stops = half_edge_ends(faces[faces_at(faces, on_sample)])
    both = on_sample[starts] & on_sample[stops]
    starts, stops = starts[both], stops[both]
    same = (vertices[starts] == vertices[stops]).all(axis=1)
    short = np.stack([starts[same], stops[same]], axis=1)
    mergeable = touching = mask_of(short, len(vertices))
    # Only edges with an end at a merged vertex can change their number of faces, so only faces there are examined.
    near = faces_at(faces, mergeable)
    nearby = faces[near]
    border = _ends_of_unpaired_edges(nearby, len(vertices))
    while True:
        label = _lowest_connected(short[mergeable[short].all(axis=1)], len(vertices))
        merged = _without_folds(label[nearby])
        pinched = mask_of(_ends_of_unpaired_edges(merged, len(vertices)), len(vertices))
        pinched[label[border]] = False
        newly = pinched[label] & mergeable
        if not newly.any():
            break
        mergeable = mergeable & ~newly
    placed = np.where((touching & ~mergeable)[:, None], rough, vertices)
    used, compact = renumber_faces(np.concatenate([label[faces[~near]], merged]), len(placed))
    return LatticeMesh(placed[used], compact)


def _ends_of_unpaired_edges(faces: IntArray, num_vertices: int) -> IntArray:
    """Return the vertices of the edges that do not belong to exactly two of `faces`."""
    edges = EdgeTable.of(faces, num_vertices)
    return np.unique(edges.ends[edges.counts != 2])


def _lowest_connected(edges: IntArray, num_vertices: int) -> IntArray:
    """Return for each vertex the lowest vertex that `edges` connect it to, (V,)."""
    if not len(edges):
        return np.arange(num_vertices, dtype=np.int64)
    _, component = label_connected(edges[:, 0], edges[:, 1], num_vertices)
    _, lowest = np.unique(component, return_index=True)
    return lowest[component].astype(np.int64)


def _without_folds(faces: IntArray) -> IntArray:
    """Remove faces that name a vertex twice, and pairs of faces with the same three corners."""
    first, second, third = faces.T
    faces = faces[(first != second) & (second != third) & (third != first)]
    # Faces with the same corners have the same sum of mixed numbers. Other faces hardly ever have.
    numbers = _mixed(faces[:, 0]) + _mixed(faces[:, 1]) + _mixed(faces[:, 2])
    ordered = np.sort(numbers)
    repeated = ordered[1:][ordered[1:] == ordered[:-1]]
    if not len(repeated):
        return faces
    doubtful = np.flatnonzero(are_among(numbers, repeated))
    _, again, counts = np.unique(np.sort(faces[doubtful], axis=1), axis=0, return_inverse=True, return_counts=True)
    return faces[~mask_of(doubtful[counts[again] > 1], len(faces))]


def _mixed(numbers: IntArray) -> IntArray:
    """Spread `numbers` (N,) over 64 bits, so that sums of few mixed numbers differ."""
    mixed = numbers * _MIXER
    return (mixed ^ (mixed >> 32)) * _MIXER
