"""Cut the surface into patches along the cells of its lattice, and replace patches by triangles around a feature.

Marching cubes leaves a small patch of triangles in each cell. A patch can be replaced only if it is a disc: then its
boundary is one loop, and the new triangles join each edge of the loop to the feature. Afterwards, an edge between the
triangles of two features that crosses the sharp edge is flipped, so that it lies along the sharp edge.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdfnet.extraction.marching_cubes import LatticeMesh
from sdfnet.extraction.sharp_features.qef import SHARP_ANGLE
from sdfnet.geometry.arrays import BoolArray, FloatArray, IntArray
from sdfnet.mesh.edges import EdgeTable, half_edge_ends, label_connected
from sdfnet.mesh.mesh import face_crosses

_BEHIND = 1e-3
"""Centroids move this far against the normal. So a face in the plane between two cells belongs to the cell behind."""


@dataclass(frozen=True, eq=False)
class BoundaryLoops:
    """The boundaries of P patches that are discs, in rows of equal length. Vertices are in the order of the faces.

    Attributes
    ----------
    patches : (P,)
        The numbers of the patches.
    rims, half_edges : (P, L)
        The boundary vertices in order, and the half-edges that start at them. Longer rows repeat the loop.
    counts : (P,)
        The number of vertices of each boundary.
    """

    patches: IntArray
    rims: IntArray
    half_edges: IntArray
    counts: IntArray

    @property
    def used(self) -> BoolArray:
        """Return which of `rims` are not padding, (P, L)."""
        return np.arange(self.rims.shape[1]) < self.counts[:, None]

    def rows(self, chosen: BoolArray) -> BoundaryLoops:
        return BoundaryLoops(self.patches[chosen], self.rims[chosen], self.half_edges[chosen], self.counts[chosen])

    def following(self, around: FloatArray | IntArray) -> NDArray[Any]:
        """Return the values at the next vertex of each boundary, from the values `around` (P, L, …) it."""
        result = np.roll(around, -1, axis=1)
        result[np.arange(len(result)), self.counts - 1] = around[:, 0]
        return result


def cell_patches(mesh: LatticeMesh, twins: IntArray) -> IntArray:
    """Return the patch number of each face, (F,). A patch is the faces in one lattice cell that edges connect."""
    corners = mesh.vertices[mesh.faces]
    crosses = face_crosses(mesh.vertices, mesh.faces)
    lengths = np.linalg.norm(crosses, axis=1, keepdims=True)
    cells = np.floor(corners.mean(axis=1) - _BEHIND * crosses / np.maximum(lengths, 1e-300))
    half_edges = np.flatnonzero(twins >= 0)
    left, right = half_edges // 3, twins[half_edges] // 3
    same = (cells[left] == cells[right]).all(axis=1)
    return label_connected(left[same], right[same], len(mesh.faces))[1]


def disc_boundaries(faces: IntArray, twins: IntArray, patch_of: IntArray, wanted: BoolArray) -> BoundaryLoops:
    """Return the boundaries of the `wanted` patches (P,) that are discs: one loop without a repeated vertex."""
    inner = (twins >= 0) & (patch_of[np.maximum(twins, 0) // 3] == np.repeat(patch_of, 3))
    mine = wanted[patch_of]
    starts = faces.ravel()
    rim = np.flatnonzero(~inner & np.repeat(mine, 3))
    owner = patch_of[rim // 3]
    size = int(faces.max(initial=0)) + 1
    counts = np.bincount(owner, minlength=len(wanted))
    # In a simple loop, one half-edge leaves each vertex. The Euler number then tells a disc from other patches.
    leaving, twice = np.unique(owner * size + starts[rim], return_counts=True)
    crossed = np.bincount(leaving[twice > 1] // size, minlength=len(wanted)) > 0
    corner = np.sort(np.repeat(patch_of[mine], 3) * size + faces[mine].ravel())  # np.unique takes ten times as long
    num_vertices = np.bincount(corner[np.diff(corner, prepend=-1) > 0] // size, minlength=len(wanted))
    num_faces = np.bincount(patch_of[mine], minlength=len(wanted))
    num_edges = (3 * num_faces + counts) // 2
    chosen = np.flatnonzero(wanted & ~crossed & (counts >= 3) & (num_vertices - num_edges + num_faces == 1))
    slot = np.full(len(wanted), -1)
    slot[chosen] = np.arange(len(chosen))
    keep = slot[owner] >= 0
    order = np.argsort(slot[owner[keep]], kind="stable")
    return _in_order(slot[owner[keep]][order], rim[keep][order], faces, chosen, counts[chosen])


def _in_order(
    slot: IntArray, half_edges: IntArray, faces: IntArray, chosen: IntArray, counts: IntArray
) -> BoundaryLoops:
    """Sort the `half_edges` of each patch along its boundary. Those of one patch are adjacent and have one `slot`."""
    ordered = np.zeros((len(chosen), int(counts.max(initial=1))), dtype=np.int64)
    if not len(chosen):
        return BoundaryLoops(chosen, ordered, ordered, counts)
    starts, stops = (ends[half_edges] for ends in half_edge_ends(faces))
    size = int(starts.max()) + 1
    order = np.argsort(slot * size + starts)
    next_one = order[np.searchsorted(slot * size + starts, slot * size + stops, sorter=order)]
    current = np.concatenate([[0], np.cumsum(counts)[:-1]])
    for column in range(ordered.shape[1]):
        ordered[:, column] = half_edges[current]
        current = next_one[current]
    return BoundaryLoops(chosen, faces.ravel()[ordered], ordered, counts)


_THINNEST = 1e-3
"""The least height (in spacings) of a new triangle. A sharp edge this near to a mesh vertex needs no other vertex."""


def bad_triangles(places: FloatArray, points: FloatArray, normals: FloatArray, loops: BoundaryLoops) -> BoolArray:
    """Return which triangles (P, L) around `places` are too thin, or face against the normals."""
    outward = normals + loops.following(normals)
    return loops.used & ~_are_valid(places[:, None], points, loops.following(points), outward)


def fixed_by_flips(
    places: FloatArray,
    points: FloatArray,
    normals: FloatArray,
    loops: BoundaryLoops,
    neighbors: IntArray,
    *,
    well_placed: BoolArray,
    bad: BoolArray,
) -> BoolArray:
    """Return which features (P,) need only edge flips, because each of their bad triangles lies at another feature.

    `neighbors` (P, L) are the patches on the other side of each boundary edge.
    """
    fine = well_placed & ~bad.any(axis=1)
    row_of = np.full(max(int(neighbors.max(initial=0)), int(loops.patches.max(initial=0))) + 1, -1)
    row_of[loops.patches[fine]] = np.flatnonzero(fine)
    rows, corners = np.nonzero(bad & well_placed[:, None])
    other = np.where(neighbors[rows, corners] >= 0, row_of[neighbors[rows, corners]], -1)
    rows, corners, other = rows[other >= 0], corners[other >= 0], other[other >= 0]
    start, stop = points[rows, corners], loops.following(points)[rows, corners]
    valid = _are_valid(places[rows], start, places[other], normals[rows, corners])
    valid &= _are_valid(places[other], stop, places[rows], loops.following(normals)[rows, corners])
    flips = np.unique(np.stack([rows, other], axis=1)[valid], axis=0)  # one edge joins two features
    return np.bincount(flips[:, 0], minlength=len(places)) == np.where(well_placed, bad.sum(axis=1), -1)


def faces_around_features(loops: BoundaryLoops, vertices: FloatArray, normals: FloatArray) -> IntArray:
    """Return triangles (K, 3) that fill `loops`, each around its own one of the last `vertices`, with flipped edges.

    The edges between two features are flipped where they cross the sharp edge. `normals` are those of the vertices
    before the last ones.
    """
    centers = len(normals) + np.arange(len(loops.patches))
    following = loops.following(loops.rims)
    faces = np.stack([loops.rims, following, np.broadcast_to(centers[:, None], following.shape)], axis=-1)[loops.used]
    return _flip_edges(faces, vertices, normals)


def _flip_edges(faces: IntArray, vertices: FloatArray, vertex_normals: FloatArray) -> IntArray:
    """Flip edges between faces (start, stop, center) of two features if they cross the sharp edge or a face is bad."""
    twins = EdgeTable.of(faces, int(faces.max(initial=0)) + 1).twins[0::3]
    rows = np.flatnonzero((twins >= 0) & (twins % 3 == 0) & (twins // 3 > np.arange(len(faces))))
    others = twins[rows] // 3
    start, stop, center = faces[rows].T
    opposite = faces[others, 2]
    across = (vertex_normals[start] * vertex_normals[stop]).sum(axis=1) < np.cos(np.radians(SHARP_ANGLE))
    at = vertices.__getitem__
    outward = vertex_normals[start] + vertex_normals[stop]
    valid = _are_valid(at(center), at(start), at(opposite), vertex_normals[start])
    valid &= _are_valid(at(opposite), at(stop), at(center), vertex_normals[stop])
    bad = ~_are_valid(at(center), at(start), at(stop), outward)
    bad |= ~_are_valid(at(opposite), at(stop), at(start), outward)
    chosen = np.flatnonzero((across | bad) & valid & (center != opposite))
    chosen = chosen[np.argsort(~bad[chosen], kind="stable")]
    # Two features whose triangles share several edges can be joined by one new edge only.
    pair = np.minimum(center, opposite) * len(vertices) + np.maximum(center, opposite)
    chosen = chosen[np.unique(pair[chosen], return_index=True)[1]]
    turned = faces.copy()
    turned[rows[chosen]] = np.stack([center, start, opposite], axis=1)[chosen]
    turned[others[chosen]] = np.stack([opposite, stop, center], axis=1)[chosen]
    return turned


def _are_valid(first: FloatArray, second: FloatArray, third: FloatArray, outward: FloatArray) -> BoolArray:
    """Return which triangles are not too thin and face in the direction that should be `outward`."""
    crosses = np.cross(second - first, third - first)
    longest = np.max([np.linalg.norm(a - b, axis=-1) for a, b in ((first, second), (second, third), (third, first))], 0)
    areas = np.linalg.norm(crosses, axis=-1)
    return (areas > _THINNEST * longest) & (np.einsum("...i,...i->...", crosses, outward) > 0)
