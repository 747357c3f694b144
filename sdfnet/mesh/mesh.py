"""The triangle mesh that the whole project passes around: plain arrays, no behaviour beyond simple measures."""

from __future__ import annotations

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
        Wrong shapes, or a face that names a vertex that is not there (native libraries crash on those).

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
        corners = self.triangles
        return np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])

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
        """Enclosed volume by the divergence theorem; positive for outward faces. Means little for an open mesh."""
        center = self.vertices.mean(axis=0) if len(self.vertices) else np.zeros(3)
        corners = self.triangles - center
        return float(np.einsum("ij,ij->i", corners[:, 0], np.cross(corners[:, 1], corners[:, 2])).sum() / 6)

    def to_unit(self, similarity: Similarity) -> Mesh:
        return replace_vertices(self, similarity.to_unit(self.vertices))

    def to_world(self, similarity: Similarity) -> Mesh:
        return replace_vertices(self, similarity.to_world(self.vertices))

    def to_trimesh(self) -> trimesh.Trimesh:
        """Return a `trimesh.Trimesh` of the same arrays, unprocessed (no vertex merged, no face dropped)."""
        import trimesh

        return trimesh.Trimesh(
            vertices=self.vertices, faces=self.faces, vertex_normals=self.vertex_normals, process=False
        )


def replace_vertices(mesh: Mesh, vertices: NDArray[np.float64]) -> Mesh:
    """Return `mesh` with other vertex positions; normals are kept (a similarity does not turn them)."""
    return replace(mesh, vertices=vertices)
