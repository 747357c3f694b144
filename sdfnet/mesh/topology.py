"""The topology of a triangle mesh: its connected components, handles and holes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sdfnet.mesh.edges import EdgeTable, label_connected, label_fans, next_corner
from sdfnet.mesh.mesh import Mesh, label_positions


@dataclass(frozen=True)
class Topology:
    """Properties of a surface that bending does not change.

    Attributes
    ----------
    num_components : int
        Components connected across edges; the inner wall of a hollow body is a component of its own.
    genus : int or None
        Handles of all components together (a torus has 1). None where an edge has more than two faces, or where the
        surface has one side only: there genus means nothing.
    num_boundary_loops : int
        Closed chains of boundary edges; 0 for a closed surface.
    num_nonmanifold_edges : int
        Edges with more than two faces.

    >>> from sdfnet.extraction import extract_mesh
    >>> from sdfnet.fields import Torus
    >>> components_and_genus(extract_mesh(Torus(0.7, 0.25), resolution=32)).genus
    1
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

    Vertices at equal positions count as one vertex. A face that names a vertex twice does not count. Components that
    meet in a single vertex are separate, and the vertex counts once for each of them. So the Euler number fulfils
    V - E + F = 2 components - 2 genus - loops.

    >>> tetrahedron = Mesh(np.eye(4)[:, :3], [[0, 2, 1], [0, 1, 3], [1, 2, 3], [2, 0, 3]])
    >>> components_and_genus(tetrahedron)
    Topology(num_components=1, genus=0, num_boundary_loops=0, num_nonmanifold_edges=0)
    """
    faces = _merged_faces(mesh)
    if not len(faces):
        return Topology(0, 0, 0, 0)
    edges = EdgeTable.of(faces, int(faces.max()) + 1)
    num_components = edges.label_faces()[0]
    num_nonmanifold = int((edges.counts > 2).sum())
    num_vertices, vertex_of_corner = label_fans(faces, edges.neighbors)
    boundary = np.flatnonzero(edges.is_boundary)
    starts, stops = vertex_of_corner[boundary], vertex_of_corner[next_corner(boundary)]
    num_inner_vertices = num_vertices - len(np.unique([starts, stops]))
    num_loops = label_connected(starts, stops, num_vertices)[0] - num_inner_vertices
    euler = num_vertices - len(edges.keys) + len(faces)
    twice_genus = 2 * num_components - euler - num_loops
    has_genus = num_nonmanifold == 0 and twice_genus % 2 == 0
    return Topology(num_components, twice_genus // 2 if has_genus else None, num_loops, num_nonmanifold)


def _merged_faces(mesh: Mesh) -> NDArray[np.int64]:
    """Return the faces over positions instead of vertices, without those that name a position twice."""
    faces = label_positions(mesh.vertices)[1][mesh.faces]
    a, b, c = faces.T
    return np.asarray(faces[(a != b) & (b != c) & (c != a)])
