"""Exact signed distance from points to a triangle mesh, with the closest point and its face.

The distance is measured to the closest point of the nearest triangle (`bvh`). The sign is negative where the winding
number exceeds ½. Pass the mesh of a `Solid`, because this module repairs nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sdfnet.mesh.edges import label_connected, surplus_edges
from sdfnet.mesh.mesh import Mesh
from sdfnet.mesh.winding import fast_winding_number, finite_points, mesh_frame, morton_order

if TYPE_CHECKING:
    from sdfnet.mesh.bvh import TriangleBVH

JUMP_BAND = 0.2
"""A point off the surface lies in a hole if its winding number differs from ½ by less than this (`at_sign_jump`)."""

ON_SURFACE = 1e-6
"""Points this close to the surface (share of the radius) count as surface points: their winding number is
meaningless."""

MAX_FAN_SHARE = 0.25
"""If the fans have more triangles than this share of the faces, the sum runs over the mesh instead of the fans."""

FAN_ACCURACY = 3.0
"""The `accuracy` of the sum over the fans. It is high, because the fans are few."""

_OFF_CENTER = np.array([0.0131, 0.0173, 0.0127])
"""Shift of a fan's middle, as a share of its radius. Without it, lattice points could lie on the edges of the fan of a
flat hole."""


@dataclass(frozen=True, eq=False)
class Distances:
    """Unsigned distances of N points.

    Attributes
    ----------
    distance : (N,) float64, the mesh's unit of length, not negative
    faces : (N,) int64
        The face that holds the closest point. If several faces are equally near, the one with the lowest number.
    closest_points : (N, 3) float64, the mesh's frame
    """

    distance: NDArray[np.float64]
    faces: NDArray[np.int64]
    closest_points: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class SignedDistances:
    """Signed distances of N points.

    Attributes
    ----------
    sdf : (N,) float64, the mesh's unit of length
        Negative inside, where the winding number exceeds ½.
    winding : (N,) float64
        A whole number if the mesh is closed. Its error is about 10⁻⁴ (10⁻³ at worst) if the mesh has holes, and about
        10⁻³ (5·10⁻³ at worst) if the mesh has more than one boundary edge for every four faces.
    faces, closest_points
        As in `Distances`.
    radius : float
        The radius of the mesh. Tolerances are shares of this radius.
    """

    sdf: NDArray[np.float64]
    winding: NDArray[np.float64]
    faces: NDArray[np.int64]
    closest_points: NDArray[np.float64]
    radius: float


class MeshDistance:
    """The signed distance to one mesh. The search trees are built once and answer queries from any thread.

    Distances are exact to about 10⁻¹⁴ of the mesh's radius. The sign for a closed mesh is wrong only where rounding
    decides. The sign for an open mesh jumps across the holes. Faces without area are ignored. The result for a point
    does not depend on the other points or on the number of threads. The first call that asks for signs builds further
    trees.

    Raises
    ------
    ValueError
        The mesh has no faces with area, or it has vertices that are not finite.

    >>> corners = [[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]]
    >>> distance = MeshDistance(Mesh(corners, [[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]]))
    >>> distance(np.array([[0.1, 0.2, 0.3], [0.2, 0.2, -2]])).sdf.round(12).tolist()
    [-0.1, 2.0]
    """

    def __init__(self, mesh: Mesh) -> None:
        self._frame = mesh_frame(mesh)
        unit = mesh.to_unit(self._frame)
        self._face_numbers = np.flatnonzero(unit.face_areas > 0)
        if len(self._face_numbers) == 0:
            raise ValueError(f"all {len(mesh.faces)} faces of the mesh have zero area")
        self._vertices, self._faces = unit.vertices, unit.faces.take(self._face_numbers, axis=0)
        # Imported here, because numba takes a third of a second that most commands do without.
        from sdfnet.mesh.bvh import TriangleBVH

        self._bvh = TriangleBVH(self._vertices, self._faces)

    @cached_property
    def _winding(self) -> _WindingNumbers:
        return _WindingNumbers(self._vertices, self._faces, self._bvh)

    def __call__(self, points: ArrayLike) -> SignedDistances:
        """Return the signed distances of `points` ((N, 3), the mesh's frame), in their order.

        Raises
        ------
        ValueError
            Another shape, or NaN or infinite values.
        """
        points_unit, rows = self._sorted(points)
        found = self._closest(points_unit, rows)
        winding = self._winding(points_unit, rows)
        sdf = np.where(winding > 0.5, -found.distance, found.distance)
        return SignedDistances(sdf, winding, found.faces, found.closest_points, radius=1 / self._frame.scale)

    def unsigned(self, points: ArrayLike) -> Distances:
        """Return the unsigned distances of `points` ((N, 3), the mesh's frame) in their order.

        Raises the same errors as `__call__`.
        """
        return self._closest(*self._sorted(points))

    def _sorted(self, points: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Return `points` (N, 3) in the unit frame and in Morton order, and the original row of each point, (N,)."""
        points_unit = self._frame.to_unit(finite_points(points))
        order = morton_order(points_unit)
        return points_unit.take(order, axis=0), order  # several times faster than points_unit[order]

    def _closest(self, points_unit: NDArray[np.float64], rows: NDArray[np.int64]) -> Distances:
        """Return the distances of sorted points. The rows and the frame are those of the given points."""
        distance, faces, closest = self._bvh.closest(points_unit, rows)
        return Distances(distance / self._frame.scale, self._face_numbers.take(faces), self._frame.to_world(closest))


class _WindingNumbers:
    """The winding numbers of one mesh, unit frame. They are whole numbers if the mesh is closed.

    The winding number of a closed mesh is counted along rays. An open mesh is compared with fans of triangles over its
    holes, which have the same boundary. The winding numbers of the two differ by a whole number, which rays count. The
    winding number of the fans themselves is a sum over few triangles (after Jacobson et al., 2013). If the mesh has too
    many boundary edges, the sum runs over the mesh instead of the fans.
    """

    def __init__(self, vertices: NDArray[np.float64], faces: NDArray[np.int64], bvh: TriangleBVH) -> None:
        edges = surplus_edges(faces, len(vertices))
        self._bvh: TriangleBVH | None = bvh
        self._fans: TriangleBVH | None = None
        self._sum: Callable[[NDArray[np.float64]], NDArray[np.float64]] | None = None
        if len(edges) > MAX_FAN_SHARE * len(faces):
            self._bvh = None
            self._sum = fast_winding_number(vertices, faces)
        elif len(edges):
            fans = boundary_fans(vertices, edges)
            self._fans = type(bvh)(*fans)
            self._sum = fast_winding_number(*fans, accuracy=FAN_ACCURACY)

    def __call__(self, points: NDArray[np.float64], rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the winding numbers (N,) of `points` (N, 3). The result for `points[i]` is in row `rows[i]`."""
        winding = np.zeros(len(points)) if self._bvh is None else self._bvh.crossings(points, rows, minus=self._fans)
        if self._sum is not None:
            winding[rows] += self._sum(points)
        return winding


def boundary_fans(
    vertices: NDArray[np.float64], edges: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return vertices and faces (E, 3) that join each of the `edges` (E, 2) to the middle of its connected component.

    >>> vertices, faces = boundary_fans(np.eye(3), np.array([[0, 1], [1, 2], [2, 0]]))
    >>> faces.tolist(), vertices[3].round(1).tolist()
    ([[0, 1, 3], [1, 2, 3], [2, 0, 3]], [0.3, 0.3, 0.3])
    """
    used, ends = np.unique(edges, return_inverse=True)
    ends = ends.reshape(-1, 2)
    _, loop_of = label_connected(ends[:, 0], ends[:, 1], len(used))
    corners, sizes = vertices[used], np.bincount(loop_of)
    middles = np.stack([np.bincount(loop_of, weights=axis) for axis in corners.T], axis=1) / sizes[:, None]
    radii = np.bincount(loop_of, weights=np.linalg.norm(corners - middles[loop_of], axis=1)) / sizes
    middles += radii[:, None] * _OFF_CENTER
    return np.concatenate([corners, middles]), np.column_stack([ends, len(used) + loop_of[ends[:, 0]]])


def at_sign_jump(distances: SignedDistances, *, band: float = JUMP_BAND) -> NDArray[np.bool_]:
    """Return which points lie where the sign of an open mesh jumps away from its surface, (N,).

    Across a hole the winding number passes ½ smoothly, and the signed distance jumps from +d to -d. Near the middle of
    a flat hole, a lid over the hole would reduce the distance to the share `2 * abs(winding - ½)`. So inside the
    default band the distance is more than twice the distance to the mesh with a lid. The result is False for points on
    the surface and for closed meshes, whose winding numbers are whole.

    >>> corners = [[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]]
    >>> distance = MeshDistance(Mesh(corners, [[0, 1, 3], [0, 3, 2], [1, 2, 3]]))  # open at the bottom, z = 0
    >>> at_sign_jump(distance([[0.2, 0.2, 0.0], [0.2, 0.2, 0.4]])).tolist()
    [True, False]
    """
    return (np.abs(distances.winding - 0.5) < band) & (np.abs(distances.sdf) > ON_SURFACE * distances.radius)
