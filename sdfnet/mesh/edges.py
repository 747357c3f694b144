"""The edges of a mesh, closed or not, and what is summed and measured on its faces; for remeshing and tracking.

Which nodes of a graph hang together: faces over edges, edges over vertices, regions over contacts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sdfnet.mesh.mesh import Mesh


def check_closed(mesh: Mesh) -> None:
    """Raise ValueError unless every edge of `mesh` has two faces that run along it in opposite directions."""
    size = len(mesh.vertices)
    starts, stops = mesh.faces.ravel(), np.roll(mesh.faces, -1, axis=1).ravel()
    forward, backward = np.sort(starts * size + stops), np.sort(stops * size + starts)
    if len(forward) == 0 or (forward != backward).any() or (forward[1:] == forward[:-1]).any():
        num_bad = int((~np.isin(forward, backward)).sum() + (forward[1:] == forward[:-1]).sum())
        raise ValueError(
            f"the mesh must be closed and manifold, got {num_bad} unpaired of {len(forward)} half-edges; "
            "repair it, or take one that extract_mesh gives for a surface inside its bounds"
        )


def surplus_edges(faces: NDArray[np.int64], num_vertices: int) -> NDArray[np.int64]:
    """Return the edges that are run more often one way than the other, (E, 2), as often as that and that way.

    Without any, winding numbers are whole everywhere off the surface. The mesh may be in pieces, overlap and cross
    itself; one with a hole or a face turned over has some, and so has one whose vertices are not merged.

    >>> tetrahedron = np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]])
    >>> surplus_edges(tetrahedron, 4).tolist(), surplus_edges(tetrahedron[1:], 4).tolist()
    ([], [[0, 1], [2, 0], [1, 2]])
    """
    starts, stops = faces.ravel(), faces[:, [1, 2, 0]].ravel()
    lows, highs = np.minimum(starts, stops), np.maximum(starts, stops)
    words = ((lows * num_vertices + highs) * 2 + (starts > stops))[lows != highs]
    words.sort()  # several times faster than an argsort
    edges = words >> 1
    firsts = np.flatnonzero(np.concatenate([[True], edges[1:] != edges[:-1]])[: len(edges)])
    surplus = np.add.reduceat(1 - 2 * (words & 1), firsts) if len(firsts) else np.zeros(0, dtype=np.int64)
    found = np.repeat(edges.take(firsts), np.abs(surplus))
    pairs = np.stack([found // num_vertices, found % num_vertices], axis=1)
    backwards = np.repeat(surplus, np.abs(surplus)) < 0
    pairs[backwards] = pairs[backwards, ::-1]
    return pairs


def face_crosses(vertices: NDArray[np.float64], faces: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return outward normals twice as long as the areas, (F, 3)."""
    a, b, c = (vertices[faces[..., corner]] for corner in range(3))
    return np.cross(b - a, c - a)


def sum_at_vertices(faces: NDArray[np.int64], values: NDArray[np.float64], num_vertices: int) -> NDArray[np.float64]:
    """Return for each vertex the sum of the `values` (F, K) of the faces around it, (V, K)."""
    corners = faces.ravel()
    columns = [np.bincount(corners, weights=np.repeat(column, 3), minlength=num_vertices) for column in values.T]
    return np.stack(columns, axis=1)


def shape_quality(vertices: NDArray[np.float64], faces: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return how even triangles are, (F,): 1 for equal sides, 0 for no area (4√3 area / sum of squared sides)."""
    squares = (side_lengths(vertices, faces) ** 2).sum(axis=1)
    return 2 * np.sqrt(3) * np.linalg.norm(face_crosses(vertices, faces), axis=1) / np.maximum(squares, 1e-300)


def side_lengths(vertices: NDArray[np.float64], faces: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the lengths (F, 3) of the sides from each corner to the next."""
    corners = vertices[faces]
    return np.linalg.norm(np.roll(corners, -1, axis=1) - corners, axis=2)


@dataclass(frozen=True, eq=False)
class Edges:
    """The edges of a closed mesh.

    Attributes
    ----------
    ends : (E, 2) int64
        Lower vertex first.
    keys : (E,) int64
        One ascending number for each edge.
    faces : (E, 2) int64
        The face that runs from the lower end to the higher, then the other.
    opposite : (E, 2) int64
        The third vertex of each of these faces.
    """

    ends: NDArray[np.int64]
    keys: NDArray[np.int64]
    faces: NDArray[np.int64]
    opposite: NDArray[np.int64]

    @classmethod
    def of(cls, faces: NDArray[np.int64], num_vertices: int) -> Edges:
        starts, stops = faces.ravel(), np.roll(faces, -1, axis=1).ravel()
        keys = np.minimum(starts, stops) * num_vertices + np.maximum(starts, stops)
        sides = np.argsort(2 * keys + (starts > stops)).reshape(-1, 2)  # side 3 f + k: from corner k of face f
        keys = keys[sides[:, 0]]
        opposite = faces.ravel()[sides - sides % 3 + (sides + 2) % 3]
        return cls(np.stack(np.divmod(keys, num_vertices), axis=1), keys, sides // 3, opposite)

    def lengths(self, vertices: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.linalg.norm(vertices[self.ends[:, 0]] - vertices[self.ends[:, 1]], axis=1)


def label_connected(left: ArrayLike, right: ArrayLike, size: int) -> tuple[int, NDArray[np.int64]]:
    """Return how many connected parts a graph has, and the part of each node, (size,).

    Parameters
    ----------
    left, right : (E,) ints
        The nodes, from 0 to size - 1, that each edge joins; an edge may be given more than once.

    >>> label_connected([0, 3], [1, 1], 4)
    (2, array([0, 0, 1, 0]))
    """
    from scipy.sparse import coo_array  # Here, since it takes 0.3 s of the start of commands that need none of it.
    from scipy.sparse.csgraph import connected_components

    left, right = np.asarray(left, dtype=np.int64), np.asarray(right, dtype=np.int64)
    graph = coo_array((np.ones(len(left), dtype=bool), (left, right)), shape=(size, size))
    count, labels = connected_components(graph, directed=False)
    return int(count), labels.astype(np.int64)
