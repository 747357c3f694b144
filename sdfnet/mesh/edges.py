"""Edges of triangle meshes, and connected components of graphs.

The whole project uses `EdgeTable` for edges and `label_connected` for connected components. A half-edge is one side of
one face: half-edge 3 f + k runs from corner k of face f to the next corner of that face.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sdfnet.geometry.arrays import stable_order


@dataclass(frozen=True, eq=False)
class EdgeTable:
    """The E edges of a mesh with F faces, and the half-edges along each edge. The mesh may be open or non-manifold.

    Attributes
    ----------
    keys : (E,) int64
        One ascending number for each edge: lower vertex * num_vertices + higher vertex.
    counts : (E,) int64
        Half-edges on each edge.
    order : (3F,) int64
        The half-edges, sorted by edge and then by their own number.

    >>> table = EdgeTable.of(np.array([[0, 1, 2], [2, 1, 3]]), 4)
    >>> table.ends.tolist(), table.counts.tolist(), table.pairs.tolist()
    ([[0, 1], [0, 2], [1, 2], [1, 3], [2, 3]], [1, 1, 2, 1, 1], [[1, 3]])
    """

    faces: NDArray[np.int64]
    keys: NDArray[np.int64]
    counts: NDArray[np.int64]
    order: NDArray[np.int64]
    num_vertices: int

    @classmethod
    def of(cls, faces: NDArray[np.int64], num_vertices: int) -> EdgeTable:
        """Return the table of `faces` (F, 3), whose entries are vertices from 0 to num_vertices - 1."""
        starts, stops = half_edge_ends(faces)
        keys = np.minimum(starts, stops) * np.int64(num_vertices) + np.maximum(starts, stops)
        order, ordered = stable_order(keys)
        is_first = np.concatenate([[True], ordered[1:] != ordered[:-1]])[: len(ordered)]
        counts = np.diff(np.flatnonzero(np.append(is_first, True)))
        return cls(faces, ordered[is_first], counts, order, num_vertices)

    @functools.cached_property
    def ends(self) -> NDArray[np.int64]:
        """The two vertices of each edge, the lower first, (E, 2)."""
        return np.stack(np.divmod(self.keys, max(self.num_vertices, 1)), axis=1)

    @functools.cached_property
    def edge_of(self) -> NDArray[np.int64]:
        """The edge of each half-edge, (3F,)."""
        edge_of = np.empty(len(self.order), dtype=np.int64)
        edge_of[self.order] = np.repeat(np.arange(len(self.counts)), self.counts)
        return edge_of

    @functools.cached_property
    def forward(self) -> NDArray[np.bool_]:
        """Whether each half-edge runs from the lower vertex to the higher, (3F,)."""
        starts, stops = half_edge_ends(self.faces)
        return starts < stops

    @property
    def balance(self) -> NDArray[np.int64]:
        """Number of forward minus backward half-edges of each edge, (E,): zero everywhere if the mesh is closed."""
        signs = np.where(self.forward, 1, -1)
        return np.bincount(self.edge_of, weights=signs, minlength=len(self.counts)).astype(np.int64)

    @property
    def is_boundary(self) -> NDArray[np.bool_]:
        """Whether the edge of each half-edge has one face only, (3F,)."""
        return (self.counts == 1)[self.edge_of]

    @functools.cached_property
    def pairs(self) -> NDArray[np.int64]:
        """The two half-edges of each edge with exactly two faces, in the order of the edges, (P, 2)."""
        return self.order[np.repeat(self.counts == 2, self.counts)].reshape(-1, 2)

    @property
    def neighbors(self) -> NDArray[np.int64]:
        """Each half-edge and the next in `order` on the same edge, (K, 2)."""
        ordered = np.repeat(np.arange(len(self.counts)), self.counts)
        same = ordered[:-1] == ordered[1:]
        return np.stack([self.order[:-1][same], self.order[1:][same]], axis=1)

    @property
    def twins(self) -> NDArray[np.int64]:
        """The other half-edge of the same edge, (3F,), or -1 if the edge does not have exactly two half-edges."""
        twins = np.full(len(self.order), -1)
        twins[self.pairs[:, 0]], twins[self.pairs[:, 1]] = self.pairs[:, 1], self.pairs[:, 0]
        return twins

    @functools.cached_property
    def sides(self) -> NDArray[np.int64]:
        """The half-edges of each edge of a closed oriented mesh, the forward one first, (E, 2)."""
        return np.where(self.forward[self.pairs[:, :1]], self.pairs, self.pairs[:, ::-1])

    @property
    def beside(self) -> NDArray[np.int64]:
        """The faces of `sides`, (E, 2)."""
        return self.sides // 3

    @property
    def opposite(self) -> NDArray[np.int64]:
        """The third vertices of the faces of `sides`, (E, 2); for a closed oriented mesh."""
        return self.faces.ravel()[next_corner(next_corner(self.sides))]

    def lengths(self, vertices: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the length of each edge, (E,)."""
        return np.linalg.norm(vertices[self.ends[:, 0]] - vertices[self.ends[:, 1]], axis=1)

    def label_faces(self) -> tuple[int, NDArray[np.int64]]:
        """Return the number of connected components and the component of each face, (F,).

        Faces are connected across every edge that they share; a shared vertex does not connect them.
        """
        left, right = self.neighbors.T // 3
        return label_connected(left, right, len(self.faces))

    def label_patches(self) -> tuple[int, NDArray[np.int64]]:
        """Return the number of patches and the patch of each face, (F,).

        Faces are connected across edges with exactly two faces, so that non-manifold edges separate patches.
        """
        return label_connected(self.pairs[:, 0] // 3, self.pairs[:, 1] // 3, len(self.faces))


def half_edge_ends(faces: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the first and the last vertex of each half-edge, each (3F,).

    >>> [ends.tolist() for ends in half_edge_ends(np.array([[4, 5, 6]]))]
    [[4, 5, 6], [5, 6, 4]]
    """
    return faces.ravel(), np.roll(faces, -1, axis=1).ravel()


def next_corner(corners: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the next corner, or half-edge, of the same face.

    >>> next_corner(np.array([0, 1, 2, 3])).tolist()
    [1, 2, 0, 4]
    """
    return corners - corners % 3 + (corners + 1) % 3


def label_fans(faces: NDArray[np.int64], pairs: NDArray[np.int64]) -> tuple[int, NDArray[np.int64]]:
    """Return the number of fans, and the fan of each face corner, (3F,).

    A fan is a group of faces around one vertex that are connected across edges. `pairs` (P, 2) holds the two half-edges
    of each such edge. A manifold mesh has one fan at each vertex.
    """
    starts = faces.ravel()
    ends = next_corner(pairs)
    same_direction = starts[pairs[:, 0]] == starts[pairs[:, 1]]
    left = np.concatenate([pairs[:, 0], ends[:, 0]])
    right = np.concatenate(
        [np.where(same_direction, pairs[:, 1], ends[:, 1]), np.where(same_direction, ends[:, 1], pairs[:, 1])]
    )
    return label_connected(left, right, faces.size)


def require_closed(faces: NDArray[np.int64], num_vertices: int) -> None:
    """Raise ValueError unless every edge has two faces that run along it in opposite directions.

    >>> require_closed(np.array([[0, 1, 2]]), 3)
    Traceback (most recent call last):
    ...
    ValueError: the mesh must be closed and manifold, got 3 unpaired of 3 half-edges; repair it, or take one that \
extract_mesh gives for a surface inside its bounds
    """
    table = EdgeTable.of(faces, num_vertices)
    is_paired = (table.counts == 2) & (table.balance == 0)
    if not len(faces) or not is_paired.all():
        num_bad = int((~is_paired)[table.edge_of].sum())
        raise ValueError(
            f"the mesh must be closed and manifold, got {num_bad} unpaired of {faces.size} half-edges; "
            "repair it, or take one that extract_mesh gives for a surface inside its bounds"
        )


def surplus_edges(faces: NDArray[np.int64], num_vertices: int) -> NDArray[np.int64]:
    """Return the edges that have more half-edges in one direction than in the other, as vertices (E, 2).

    Each edge is given in its more frequent direction, as many times as the surplus. If there are no such edges, the
    winding number is a whole number everywhere off the surface, even if components overlap. Holes, faces of the wrong
    orientation and unmerged vertices make surplus edges.

    >>> tetrahedron = np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]])
    >>> surplus_edges(tetrahedron, 4).tolist(), surplus_edges(tetrahedron[1:], 4).tolist()
    ([], [[0, 1], [2, 0], [1, 2]])
    """
    table = EdgeTable.of(faces, num_vertices)
    ends = table.ends
    surplus = np.where(ends[:, 0] == ends[:, 1], 0, table.balance)  # a face that names a vertex twice has such an edge
    pairs = np.where((surplus < 0)[:, None], ends[:, ::-1], ends)
    return np.repeat(pairs, np.abs(surplus), axis=0)


def label_connected(left: ArrayLike, right: ArrayLike, size: int) -> tuple[int, NDArray[np.int64]]:
    """Return the number of connected components of a graph, and the component of each node, (size,).

    Each edge joins a node of `left` to a node of `right`. Nodes are numbered from 0 to size - 1. Components are
    numbered in the order of their lowest nodes.

    >>> label_connected([0, 3], [1, 1], 4)
    (2, array([0, 0, 1, 0]))
    """
    from scipy.sparse import coo_array  # Here, because the import takes 0.3 s and many commands do without.
    from scipy.sparse.csgraph import connected_components

    left, right = np.asarray(left, dtype=np.int64), np.asarray(right, dtype=np.int64)
    graph = coo_array((np.ones(len(left), dtype=bool), (left, right)), shape=(size, size))
    count, labels = connected_components(graph, directed=False)
    return int(count), labels.astype(np.int64)
