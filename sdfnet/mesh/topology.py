"""The topology of a triangle mesh: components, handles and holes, and the defects that keep it from bounding a solid.

The functions count and repair nothing. `mesh.quality.count_self_intersections` finds faces that cross.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from sdfnet.mesh.components import OrientedComponents
from sdfnet.mesh.edges import EdgeTable, half_edge_ends, label_connected, label_fans, next_corner
from sdfnet.mesh.mesh import Mesh, label_positions, names_vertex_twice
from sdfnet.mesh.winding import WindingNumber


@dataclass(frozen=True)
class Topology:
    """Properties of a surface that bending does not change.

    Attributes
    ----------
    num_components : int
        Components connected across edges; the inner wall of a hollow body is a component of its own.
    genus : int or None
        Handles of all components together (a torus has 1). None if an edge has more than two faces, or if the surface
        has only one side, because genus is meaningless there.
    num_boundary_loops : int
        Closed chains of boundary edges; 0 for a closed surface.
    num_nonmanifold_edges : int
        Edges with more than two faces.

    >>> components_and_genus(Mesh([[0, 0, 0], [1, 0, 0], [0, 1, 0]], [[0, 1, 2]]))
    Topology(num_components=1, genus=0, num_boundary_loops=1, num_nonmanifold_edges=0)
    """

    num_components: int
    genus: int | None
    num_boundary_loops: int
    num_nonmanifold_edges: int


def components_and_genus(mesh: Mesh) -> Topology:
    """Count components, genus and holes of `mesh`.

    Vertices at equal positions count as one vertex. A face that names a vertex twice does not count. Components that
    meet in a single vertex are separate, and the vertex counts once for each of them. So the Euler characteristic
    fulfils V - E + F = 2 components - 2 genus - loops.

    >>> tetrahedron = Mesh(np.eye(4)[:, :3], [[0, 2, 1], [0, 1, 3], [1, 2, 3], [2, 0, 3]])
    >>> components_and_genus(tetrahedron)
    Topology(num_components=1, genus=0, num_boundary_loops=0, num_nonmanifold_edges=0)
    """
    faces = label_positions(mesh.vertices)[1][mesh.faces]
    faces = faces[~names_vertex_twice(faces)]
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


_FLAT = 1e-10
"""A face is degenerate if its area is below this share of its longest side squared. float64 cannot represent its
normal."""

_ASIDE = 1e-3
"""The winding number of the other components is measured at this distance beside a component (share of its own box)."""


@dataclass(frozen=True)
class Closedness:
    """Defects that keep a mesh from being the surface of a solid; all zero for a clean mesh.

    Attributes
    ----------
    num_open_edges, num_crowded_edges : int
        Number of edges with one face, and of edges with more than two faces.
    num_twisted_edges : int
        Edges with two faces that run along the edge in the same direction, so that one of the faces is inside out.
    num_pinched_vertices : int
        Vertices with several fans of faces; the ends of crowded edges count too.
    num_degenerate_faces : int
        Faces that name a vertex twice or have no area.
    num_turned_components : int
        Closed components with the wrong orientation: inward components that are not cavities, and outward components
        that are buried in another component.
    """

    num_open_edges: int
    num_crowded_edges: int
    num_twisted_edges: int
    num_pinched_vertices: int
    num_degenerate_faces: int
    num_turned_components: int

    @property
    def is_clean(self) -> bool:
        return not any(asdict(self).values())

    def __str__(self) -> str:
        found = [
            f"{count} {name.removeprefix('num_').replace('_', ' ')}" for name, count in asdict(self).items() if count
        ]
        return ", ".join(found) or "closed, outward and manifold"


def check_closed(mesh: Mesh) -> Closedness:
    """Count the defects of `mesh`. Vertices at one place are not merged.

    The orientation of components is only checked if all edges have two faces in opposite directions.

    >>> check_closed(Mesh(np.eye(4)[:, :3], [[0, 1, 2], [0, 3, 1], [1, 3, 2], [2, 3, 0]])).is_clean
    True
    >>> print(check_closed(Mesh(np.eye(4)[:, :3], [[0, 1, 2], [0, 3, 1], [1, 3, 2]])))
    3 open edges
    """
    faces = mesh.faces
    edges = EdgeTable.of(faces, len(mesh.vertices))
    num_open, num_crowded = int((edges.counts == 1).sum()), int((edges.counts > 2).sum())
    num_twisted = int(((edges.counts == 2) & (edges.balance != 0)).sum())
    return Closedness(
        num_open,
        num_crowded,
        num_twisted,
        _count_pinched(edges),
        count_degenerate_faces(mesh),
        0 if num_open or num_crowded or num_twisted else _count_turned(mesh, edges),
    )


def _count_pinched(edges: EdgeTable) -> int:
    """Return how many vertices have more than one fan of faces."""
    num_fans, fan_of = label_fans(edges.faces, edges.pairs)
    vertex_of_fan = np.empty(num_fans, dtype=np.int64)
    vertex_of_fan[fan_of] = edges.faces.ravel()
    return int((np.bincount(vertex_of_fan) > 1).sum())


def count_degenerate_faces(mesh: Mesh) -> int:
    """Return the number of faces that name a vertex twice or have no area.

    >>> count_degenerate_faces(Mesh([[0, 0, 0], [1, 0, 0], [2, 0, 0], [0, 1, 0]], [[0, 1, 2], [0, 1, 3]]))
    1
    """
    corners = mesh.triangles
    longest = np.linalg.norm(corners - np.roll(corners, -1, axis=1), axis=-1).max(axis=1, initial=0)
    return int((mesh.face_areas <= _FLAT * longest**2).sum())


def _count_turned(mesh: Mesh, edges: EdgeTable) -> int:
    """Count inward components that are not cavities, and outward components inside another one, of a closed mesh."""
    count, component_of = edges.label_patches()
    parts = OrientedComponents(mesh, component_of, np.ones(count, dtype=bool), np.zeros(count, dtype=bool))
    is_outward = parts.volumes() > 0
    if count <= 1:
        return int((~is_outward).sum())
    # Beside the largest face of each component, where its own surface is flattest.
    order = np.lexsort([mesh.face_areas, component_of])
    largest = order[np.searchsorted(component_of[order], np.arange(count), side="right") - 1]
    lower, upper = parts.boxes()
    step = _ASIDE * np.linalg.norm(upper - lower, axis=1, keepdims=True) * mesh.face_normals[largest]
    middle = mesh.triangles[largest].mean(axis=1)
    around = WindingNumber(mesh)(np.concatenate([middle + step, middle - step])).reshape(2, -1).mean(axis=0)
    rest = around - np.where(is_outward, 0.5, -0.5)  # what the component itself gives, on the mean of its two sides
    return int((np.where(is_outward, rest, 1 - rest) > 0.5).sum())


_FLAT_HOLE = 0.05
"""A hole is flat if its rim is within this share of the square root of its area of one plane."""


@dataclass(frozen=True, eq=False)
class HoleCaps:
    """The H holes of a mesh (connected boundary edges), each closed by a fan from the middle of its rim.

    Attributes
    ----------
    rim_vertices : (E, 2) int64
        The two ends of each boundary edge, in the order of its face.
    rims : (E, 2, 3) float64
        The places of these ends.
    hole_of : (E,) int64
    centers : (H, 3) float64
    areas : (H,) float64
        Exact for a flat hole of any shape. For other holes, the area of the fan, which is mostly too large.
    is_flat : (H,) bool
    """

    rim_vertices: NDArray[np.int64]
    rims: NDArray[np.float64]
    hole_of: NDArray[np.int64]
    centers: NDArray[np.float64]
    areas: NDArray[np.float64]
    is_flat: NDArray[np.bool_]

    @property
    def triangles(self) -> NDArray[np.float64]:
        """The faces of all fans, (E, 3, 3)."""
        return np.concatenate([self.rims, self.centers[self.hole_of][:, None]], axis=1)


def cap_holes(mesh: Mesh) -> HoleCaps:
    """Close each hole of `mesh` by a fan.

    >>> cap_holes(Mesh([[0, 0, 0], [1, 0, 0], [0, 1, 0]], [[0, 1, 2]])).areas.tolist()
    [0.5]
    """
    is_boundary = EdgeTable.of(mesh.faces, len(mesh.vertices)).is_boundary
    ends = np.stack(half_edge_ends(mesh.faces), axis=1)[is_boundary]
    labels = label_connected(ends[:, 0], ends[:, 1], len(mesh.vertices))[1]
    names, hole_of = np.unique(labels[ends[:, 0]], return_inverse=True)
    rims = mesh.vertices[ends]
    lengths = np.linalg.norm(rims[:, 1] - rims[:, 0], axis=1)
    total = np.bincount(hole_of, weights=lengths, minlength=len(names))
    centers = _sums(lengths[:, None] * rims.mean(axis=1), hole_of, len(names)) / total[:, None]
    arms = rims - centers[hole_of][:, None]
    fans = np.cross(arms[:, 0], arms[:, 1]) / 2
    sums = _sums(fans, hole_of, len(names))
    flat_areas = np.linalg.norm(sums, axis=1)
    heights = np.abs(np.einsum("ij,ij->i", arms[:, 0], sums[hole_of])) / np.maximum(flat_areas[hole_of], 1e-300)
    highest = np.zeros(len(names))
    np.maximum.at(highest, hole_of, heights)
    is_flat = highest <= _FLAT_HOLE * np.sqrt(flat_areas)
    fan_areas = np.bincount(hole_of, weights=np.linalg.norm(fans, axis=1), minlength=len(names))
    return HoleCaps(ends, rims, hole_of, centers, np.where(is_flat, flat_areas, fan_areas), is_flat)


def _sums(vectors: NDArray[np.float64], group_of: NDArray[np.int64], num_groups: int) -> NDArray[np.float64]:
    """Return the sum of the `vectors` (E, 3) of each group, (G, 3)."""
    axes = [np.bincount(group_of, weights=vectors[:, axis], minlength=num_groups) for axis in range(3)]
    return np.stack(axes, axis=1)


@dataclass(frozen=True)
class HoleMeasures:
    """The number of boundary edges, the number of holes (connected boundary edges), and the area of caps over them.

    The area is exact for flat holes, and too large for most others.
    """

    num_edges: int
    num_holes: int
    area: float


def measure_holes(mesh: Mesh) -> HoleMeasures:
    """Count the boundary edges and holes of a mesh, and measure the area of the holes.

    >>> measure_holes(Mesh([[0, 0, 0], [1, 0, 0], [0, 1, 0]], [[0, 1, 2]]))
    HoleMeasures(num_edges=3, num_holes=1, area=0.5)
    """
    caps = cap_holes(mesh)
    return HoleMeasures(len(caps.rims), len(caps.areas), float(caps.areas.sum()))
