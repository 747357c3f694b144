"""The triangle mesh that the whole project uses: plain arrays and simple measures of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sdfnet.geometry.bounds import Bounds
from sdfnet.geometry.similarity import Similarity

if TYPE_CHECKING:
    import trimesh


@dataclass(frozen=True, eq=False)
class Mesh:
    """A triangle mesh.

    Attributes
    ----------
    vertices : (V, 3) float64
    faces : (F, 3) int64
        Counter-clockwise seen from outside.
    vertex_normals : (V, 3) float64 or None
        Unit length, outward.

    Raises
    ------
    ValueError
        Wrong shapes, or a face with a vertex number that does not exist (native libraries crash on such faces).

    >>> Mesh([[0, 0, 0], [1, 0, 0], [0, 1, 0]], [[0, 1, 2]]).face_areas.tolist()
    [0.5]
    """

    vertices: NDArray[np.float64]
    faces: NDArray[np.int64]
    vertex_normals: NDArray[np.float64] | None = field(default=None)

    def __init__(self, vertices: ArrayLike, faces: ArrayLike, vertex_normals: ArrayLike | None = None) -> None:
        vertices_V3 = np.ascontiguousarray(vertices, dtype=np.float64)
        faces_F3 = np.ascontiguousarray(faces, dtype=np.int64).reshape(-1, 3)
        if vertices_V3.ndim != 2 or vertices_V3.shape[1] != 3:
            raise ValueError(f"vertices must have shape (V, 3), got {vertices_V3.shape}")
        if len(faces_F3) and (faces_F3.min() < 0 or faces_F3.max() >= len(vertices_V3)):
            raise ValueError(
                f"faces must name vertices 0 to {len(vertices_V3) - 1}, got {faces_F3.min()} to {faces_F3.max()}"
            )
        object.__setattr__(self, "vertices", vertices_V3)
        object.__setattr__(self, "faces", faces_F3)
        normals = None if vertex_normals is None else np.ascontiguousarray(vertex_normals, dtype=np.float64)
        if normals is not None and normals.shape != vertices_V3.shape:
            raise ValueError(f"vertex_normals must have shape {vertices_V3.shape}, got {normals.shape}")
        object.__setattr__(self, "vertex_normals", normals)

    @property
    def bounds(self) -> Bounds:
        return Bounds.of(self.vertices)

    @property
    def triangles(self) -> NDArray[np.float64]:
        """Corner positions, (F, 3, 3): face, corner, xyz."""
        return self.vertices[self.faces]

    @property
    def face_crosses(self) -> NDArray[np.float64]:
        """Cross product of two edges of each face, (F, 3): outward, as long as twice the area."""
        return face_crosses(self.vertices, self.faces)

    @property
    def face_areas(self) -> NDArray[np.float64]:
        return np.linalg.norm(self.face_crosses, axis=1) / 2

    @property
    def face_normals(self) -> NDArray[np.float64]:
        """Unit outward normals, (F, 3); zero for a degenerate face."""
        crosses = self.face_crosses
        lengths = np.linalg.norm(crosses, axis=1, keepdims=True)
        return np.divide(crosses, lengths, out=np.zeros_like(crosses), where=lengths > 0)

    @property
    def signed_volume(self) -> float:
        """Enclosed volume by the divergence theorem, positive for outward faces. It means little for an open mesh."""
        center = self.vertices.mean(axis=0) if len(self.vertices) else np.zeros(3)
        corners = self.triangles - center
        return float(np.einsum("ij,ij->i", corners[:, 0], np.cross(corners[:, 1], corners[:, 2])).sum() / 6)

    def to_unit(self, similarity: Similarity) -> Mesh:
        normals = None if self.vertex_normals is None else similarity.directions_to_unit(self.vertex_normals)
        return replace(self, vertices=similarity.to_unit(self.vertices), vertex_normals=normals)

    def to_world(self, similarity: Similarity) -> Mesh:
        normals = None if self.vertex_normals is None else similarity.directions_to_world(self.vertex_normals)
        return replace(self, vertices=similarity.to_world(self.vertices), vertex_normals=normals)

    def to_trimesh(self) -> trimesh.Trimesh:
        """Return a `trimesh.Trimesh` of the same arrays, unprocessed (no vertex merged, no face dropped)."""
        import trimesh

        return trimesh.Trimesh(
            vertices=self.vertices, faces=self.faces, vertex_normals=self.vertex_normals, process=False
        )


def replace_vertices(mesh: Mesh, vertices: NDArray[np.float64]) -> Mesh:
    """Return `mesh` with other vertex positions and the same normals."""
    return replace(mesh, vertices=vertices)


def names_vertex_twice(faces: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return which faces are degenerate because they name a vertex twice, (F,).

    >>> names_vertex_twice(np.array([[0, 1, 2], [0, 1, 0]])).tolist()
    [False, True]
    """
    return np.asarray((faces == np.roll(faces, 1, axis=1)).any(axis=1))


def turn_faces(faces: NDArray[np.int64], chosen: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return `faces` (F, 3). The faces `chosen` (F,) get the opposite orientation.

    >>> turn_faces(np.array([[0, 1, 2], [3, 4, 5]]), np.array([True, False])).tolist()
    [[2, 1, 0], [3, 4, 5]]
    """
    return np.where(chosen[:, None], faces[:, ::-1], faces)


def join_meshes(meshes: Sequence[Mesh]) -> Mesh:
    """Return one mesh with all faces of `meshes` in their order. Vertices are not merged, and normals are dropped.

    >>> triangle = Mesh([[0, 0, 0], [1, 0, 0], [0, 1, 0]], [[0, 1, 2]])
    >>> join_meshes([triangle, triangle]).faces.tolist()
    [[0, 1, 2], [3, 4, 5]]
    """
    offsets = np.cumsum([0] + [len(mesh.vertices) for mesh in meshes])
    faces = [mesh.faces + offset for mesh, offset in zip(meshes, offsets, strict=False)]
    return Mesh(np.concatenate([mesh.vertices for mesh in meshes]), np.concatenate(faces))


def face_crosses(vertices: NDArray[np.float64], faces: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the cross product of two edges of each face, (F, 3): outward, as long as twice the area.

    >>> face_crosses(np.array([[0.0, 0, 0], [2, 0, 0], [0, 2, 0]]), np.array([[0, 1, 2]])).tolist()
    [[0.0, 0.0, 4.0]]
    """
    a, b, c = (vertices[faces[..., corner]] for corner in range(3))
    return np.cross(b - a, c - a)


def sum_at_vertices(faces: NDArray[np.int64], values: NDArray[np.float64], num_vertices: int) -> NDArray[np.float64]:
    """Return for each vertex the sum of the `values` (F, K) of the faces around it, (V, K).

    >>> sum_at_vertices(np.array([[0, 1, 2], [2, 1, 3]]), np.array([[1.0], [5.0]]), 4).ravel().tolist()
    [1.0, 6.0, 6.0, 5.0]
    """
    corners = faces.ravel()
    columns = [np.bincount(corners, weights=np.repeat(column, 3), minlength=num_vertices) for column in values.T]
    return np.stack(columns, axis=1)


def vertex_normals(vertices: NDArray[np.float64], faces: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return unit vertex normals (V, 3): area-weighted means of the face normals, or zero at a vertex without faces.

    >>> vertex_normals(np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]]), np.array([[0, 1, 2]]))[0].tolist()
    [0.0, 0.0, 1.0]
    """
    sums = sum_at_vertices(faces, face_crosses(vertices, faces), len(vertices))
    return sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-300)


def drop_unreferenced_vertices(mesh: Mesh) -> Mesh:
    """Return `mesh` without the vertices that no face uses. The other vertices keep their order and their normals.

    >>> drop_unreferenced_vertices(Mesh([[9, 9, 9], [0, 0, 0], [1, 0, 0], [0, 1, 0]], [[1, 2, 3]])).faces.tolist()
    [[0, 1, 2]]
    """
    used, faces = renumber_faces(mesh.faces, len(mesh.vertices))
    if len(used) == len(mesh.vertices):
        return mesh
    return Mesh(mesh.vertices[used], faces, None if mesh.vertex_normals is None else mesh.vertex_normals[used])


def faces_at(faces: NDArray[np.int64], vertices: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return which `faces` (F, 3) have at least one corner among the `vertices` (V,), (F,).

    >>> faces_at(np.array([[0, 1, 2], [2, 1, 3]]), np.array([True, False, False, False])).tolist()
    [True, False]
    """
    return vertices[faces[:, 0]] | vertices[faces[:, 1]] | vertices[faces[:, 2]]


def renumber_faces(faces: NDArray[np.int64], num_vertices: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the sorted vertices that `faces` use, (U,), and the faces with these vertices numbered from 0 to U - 1.

    >>> [found.tolist() for found in renumber_faces(np.array([[5, 2, 7]]), 9)]
    [[2, 5, 7], [[1, 0, 2]]]
    """
    is_used = np.zeros(num_vertices, dtype=bool)
    is_used[faces] = True
    return np.flatnonzero(is_used), (np.cumsum(is_used) - 1)[faces]


def label_positions(
    vertices: NDArray[np.float64], groups: NDArray[np.int64] | None = None
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return one vertex for each distinct position, (U,), and the position number of each vertex, (V,).

    Positions are numbered by x, then y, then z. With `groups` (V,), vertices of different groups are kept apart.

    >>> [found.tolist() for found in label_positions(np.array([[1.0, 0, 0], [0, 0, 0], [1, 0, 0]]))]
    [[1, 0], [1, 0, 1]]
    """
    columns = [*vertices.T] if groups is None else [*vertices.T, groups]
    order = np.lexsort(columns[::-1])
    is_new = np.zeros(len(order), dtype=bool)
    is_new[:1] = True
    for column in columns:
        is_new[1:] |= column[order[1:]] != column[order[:-1]]
    labels = np.empty(len(order), dtype=np.int64)
    labels[order] = np.cumsum(is_new) - 1
    return order[is_new], labels
