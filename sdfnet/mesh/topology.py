"""Counts that do not depend on positions: pieces, handles, holes of a triangle mesh."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sdfnet.mesh.edges import label_connected
from sdfnet.mesh.mesh import Mesh


@dataclass(frozen=True)
class Topology:
    """What a surface is up to bending.

    Attributes
    ----------
    num_components : int
        Pieces joined across edges; the inner wall of a hollow body is a piece of its own.
    genus : int or None
        Handles of all pieces together (a torus has 1). None where an edge has more than two faces, or where the
        surface has one side only: there genus means nothing.
    num_boundary_loops : int
        Holes in the sheet. 0 for a closed surface.
    num_nonmanifold_edges : int
        Edges with more than two faces.
    """

    num_components: int
    genus: int | None
    num_boundary_loops: int
    num_nonmanifold_edges: int

    @property
    def is_closed(self) -> bool:
        return self.num_boundary_loops == 0 and self.num_nonmanifold_edges == 0


def components_and_genus(mesh: Mesh) -> Topology:
    """Count components, genus and holes of `mesh`.

    Vertices at equal positions count as one and faces without area in the graph (a vertex named twice) as none.
    Pieces that meet in a single vertex are separate, and such a vertex counts once for each, so that the Euler number
    V - E + F = 2 components - 2 genus - loops holds.

    >>> tetrahedron = Mesh(np.eye(4)[:, :3], [[0, 2, 1], [0, 1, 3], [1, 2, 3], [2, 0, 3]])
    >>> components_and_genus(tetrahedron)
    Topology(num_components=1, genus=0, num_boundary_loops=0, num_nonmanifold_edges=0)
    """
    faces = _merged_faces(mesh)
    if not len(faces):
        return Topology(0, 0, 0, 0)
    sides = np.stack([faces, np.roll(faces, -1, axis=1)], axis=-1).reshape(-1, 2)  # side 3f + k: corners k and k + 1
    # One number per edge sorts ten times faster than pairs.
    edge_keys = sides.min(axis=1) * (faces.max() + 1) + sides.max(axis=1)
    edges, edge_of_side, uses = np.unique(edge_keys, return_inverse=True, return_counts=True)
    order = np.argsort(edge_of_side, kind="stable")
    neighbors = edge_of_side[order[:-1]] == edge_of_side[order[1:]]
    side_a, side_b = order[:-1][neighbors], order[1:][neighbors]
    num_components = label_connected(side_a // 3, side_b // 3, len(faces))[0]
    num_nonmanifold = int((uses > 2).sum())
    num_vertices, vertex_of_corner = _split_vertices(sides, side_a, side_b)
    open_sides = np.flatnonzero(uses[edge_of_side] == 1)
    num_loops = _count_loops(vertex_of_corner, open_sides)
    euler = num_vertices - len(edges) + len(faces)
    twice_genus = 2 * num_components - euler - num_loops
    has_genus = num_nonmanifold == 0 and twice_genus % 2 == 0
    return Topology(num_components, twice_genus // 2 if has_genus else None, num_loops, num_nonmanifold)


def _merged_faces(mesh: Mesh) -> NDArray[np.int64]:
    """Return the faces over positions instead of vertices, without those that name a position twice."""
    order = np.lexsort(mesh.vertices.T)
    ordered = mesh.vertices[order]
    first = np.concatenate([[True], (ordered[1:] != ordered[:-1]).any(axis=1)]) if len(order) else np.zeros(0, bool)
    merged = np.empty(len(order), dtype=np.int64)
    merged[order] = np.cumsum(first) - 1
    faces = merged[mesh.faces]
    a, b, c = faces.T
    return np.asarray(faces[(a != b) & (b != c) & (c != a)])


def _split_vertices(
    sides: NDArray[np.int64], side_a: NDArray[np.int64], side_b: NDArray[np.int64]
) -> tuple[int, NDArray[np.int64]]:
    """Join the corners of faces that meet across an edge: one vertex for each fan of faces around a position."""
    next_a, next_b = _next_corner(side_a), _next_corner(side_b)
    # The two faces usually run along their edge in opposite directions; badly oriented ones run the same way.
    same_way = sides[side_a, 0] == sides[side_b, 0]
    left = np.concatenate([side_a, next_a])
    right = np.concatenate([np.where(same_way, side_b, next_b), np.where(same_way, next_b, side_b)])
    return label_connected(left, right, len(sides))


def _next_corner(corners: NDArray[np.int64]) -> NDArray[np.int64]:
    return corners - corners % 3 + (corners + 1) % 3


def _count_loops(vertex_of_corner: NDArray[np.int64], open_sides: NDArray[np.int64]) -> int:
    if not len(open_sides):
        return 0
    ends = np.stack([vertex_of_corner[open_sides], vertex_of_corner[_next_corner(open_sides)]])
    used, compact = np.unique(ends, return_inverse=True)
    compact = compact.reshape(ends.shape)
    return label_connected(compact[0], compact[1], len(used))[0]
