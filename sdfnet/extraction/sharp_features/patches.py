"""The surface cut along the cells of its lattice: marching cubes leaves a small patch of triangles in each cell.

What `sharp` works on. A patch is worth something only if it is a disc: then its inside can be replaced by a fan.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdfnet.extraction.marching_cubes import LatticeMesh
from sdfnet.mesh.edges import half_edge_ends, label_connected
from sdfnet.mesh.mesh import face_crosses

_BEHIND = 1e-3
"""A face in the plane between two cells belongs to the one behind it: centroids are moved so far along the normal."""


@dataclass(frozen=True, eq=False)
class Loops:
    """The rims of P patches that are discs, padded to the longest, each going round as the faces do.

    Attributes
    ----------
    patches : (P,) int64
        Which patches they are.
    rims : (P, L) int64
        Vertices in order; behind the end, the first again.
    sides : (P, L) int64
        The sides 3 * face + corner of the mesh that start there.
    counts : (P,) int64
        Vertices of each.
    """

    patches: NDArray[np.int64]
    rims: NDArray[np.int64]
    sides: NDArray[np.int64]
    counts: NDArray[np.int64]

    @property
    def used(self) -> NDArray[np.bool_]:
        """Which of `rims` are not padding, (P, L)."""
        return np.arange(self.rims.shape[1]) < self.counts[:, None]

    def rows(self, chosen: NDArray[np.bool_]) -> Loops:
        return Loops(self.patches[chosen], self.rims[chosen], self.sides[chosen], self.counts[chosen])

    def following(self, around: NDArray[np.float64] | NDArray[np.int64]) -> NDArray[Any]:
        """Return what stands at the next vertex of each rim, from what stands `around` (P, L, …) it."""
        result = np.roll(around, -1, axis=1)
        result[np.arange(len(result)), self.counts - 1] = around[:, 0]
        return result


def cell_patches(mesh: LatticeMesh, twins: NDArray[np.int64]) -> NDArray[np.int64]:
    """Number the patches of a mesh: faces in one cell of the lattice that are joined across edges, (F,)."""
    corners = mesh.vertices[mesh.faces]
    crosses = face_crosses(mesh.vertices, mesh.faces)
    lengths = np.linalg.norm(crosses, axis=1, keepdims=True)
    cells = np.floor(corners.mean(axis=1) - _BEHIND * crosses / np.maximum(lengths, 1e-300))
    side = np.flatnonzero(twins >= 0)
    left, right = side // 3, twins[side] // 3
    same = (cells[left] == cells[right]).all(axis=1)
    return label_connected(left[same], right[same], len(mesh.faces))[1]


def disc_loops(
    faces: NDArray[np.int64], twins: NDArray[np.int64], patch_of: NDArray[np.int64], wanted: NDArray[np.bool_]
) -> Loops:
    """Return the rims of those of the `wanted` patches (P,) that are discs, closed and met once by each vertex."""
    inner = (twins >= 0) & (patch_of[np.maximum(twins, 0) // 3] == np.repeat(patch_of, 3))
    mine = wanted[patch_of]
    starts = faces.ravel()
    rim = np.flatnonzero(~inner & np.repeat(mine, 3))
    owner = patch_of[rim // 3]
    size = int(faces.max(initial=0)) + 1
    counts = np.bincount(owner, minlength=len(wanted))
    # A rim vertex is left once if the rim is simple; then the Euler number tells a disc from all else.
    leaving, twice = np.unique(owner * size + starts[rim], return_counts=True)
    crossed = np.bincount(leaving[twice > 1] // size, minlength=len(wanted)) > 0
    corner = np.unique(np.repeat(patch_of[mine], 3) * size + faces[mine].ravel())
    num_vertices = np.bincount(corner // size, minlength=len(wanted))
    num_faces = np.bincount(patch_of[mine], minlength=len(wanted))
    num_edges = (3 * num_faces + counts) // 2
    chosen = np.flatnonzero(wanted & ~crossed & (counts >= 3) & (num_vertices - num_edges + num_faces == 1))
    slot = np.full(len(wanted), -1)
    slot[chosen] = np.arange(len(chosen))
    keep = slot[owner] >= 0
    order = np.argsort(slot[owner[keep]], kind="stable")
    return _walk(slot[owner[keep]][order], rim[keep][order], faces, chosen, counts[chosen])


def _walk(
    slot: NDArray[np.int64],
    sides: NDArray[np.int64],
    faces: NDArray[np.int64],
    chosen: NDArray[np.int64],
    counts: NDArray[np.int64],
) -> Loops:
    """String the rim `sides` of each patch together; those of one patch, which `slot` names, stand together."""
    strung = np.zeros((len(chosen), int(counts.max(initial=1))), dtype=np.int64)
    if not len(chosen):
        return Loops(chosen, strung, strung, counts)
    starts, stops = (ends[sides] for ends in half_edge_ends(faces))
    size = int(starts.max()) + 1
    order = np.argsort(slot * size + starts)
    next_one = order[np.searchsorted(slot * size + starts, slot * size + stops, sorter=order)]
    current = np.concatenate([[0], np.cumsum(counts)[:-1]])
    for column in range(strung.shape[1]):
        strung[:, column] = sides[current]
        current = next_one[current]
    return Loops(chosen, faces.ravel()[strung], strung, counts)
