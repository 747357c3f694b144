"""Exact signed distance from points to a triangle mesh, with the closest point and its face.

The distance is that to the closest point of the nearest triangle (`bvh`). The sign is negative where the winding number
exceeds ½. Give it the mesh of a `Solid`: here nothing is repaired.
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
"""A point off the surface lies in a hole if its winding number is this close to ½: see `at_sign_jump`."""

ON_SURFACE = 1e-6
"""Points this close to the surface (share of the radius) count as on it: the winding number means nothing there."""

MAX_FAN_SHARE = 0.25
"""If the fans would have more triangles than this share of the faces, the mesh itself is summed."""

FAN_ACCURACY = 3.0
"""`accuracy` of the sum over the fans, which are few."""

_OFF_CENTER = np.array([0.0131, 0.0173, 0.0127])
"""Shift of a fan's middle, as a share of its radius: points of a lattice would lie on its edges if a hole is flat."""


@dataclass(frozen=True, eq=False)
class Distances:
    """Unsigned distances of N points.

    Attributes
    ----------
    distance : (N,) float64, the mesh's unit of length, not negative
    faces : (N,) int64
        The face that holds the closest point; the first of them where several are equally near.
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
        Negative inside, that is where the winding number exceeds ½.
    winding : (N,) float64
        A whole number if the mesh is closed. Its error is about 10⁻⁴ (10⁻³ at worst) if the mesh has holes, and about
        10⁻³ (5·10⁻³ at worst) if there is more than one boundary edge for four faces.
    faces, closest_points
        As in `Distances`.
    radius : float
        The radius of the mesh; tolerances are shares of it.
    """

    sdf: NDArray[np.float64]
    winding: NDArray[np.float64]
    faces: NDArray[np.int64]
    closest_points: NDArray[np.float64]
    radius: float


class MeshDistance:
    """The distance to one mesh: search trees built once, asked many times from any thread.

    Distances are exact to about 10⁻¹⁴ of the mesh's radius. The sign for a closed mesh is wrong only where rounding
    decides; for an open mesh it jumps across the holes. Faces without area are ignored. The result for a point does not
    depend on the other points or on the number of threads. The first call that asks for signs builds further trees.

    Raises
    ------
    ValueError
        A mesh without faces (or only such without area), or with vertices that are not finite.

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
        """Return the plain distances of `points` ((N, 3), the mesh's frame), in their order; raises as a call does."""
        return self._closest(*self._sorted(points))

    def _sorted(self, points: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Return `points` in the unit frame and in Morton order, (N, 3), and the row that each had, (N,)."""
        points_unit = self._frame.to_unit(finite_points(points))
        order = morton_order(points_unit)
        return points_unit.take(order, axis=0), order  # several times faster than points_unit[order]

    def _closest(self, points_unit: NDArray[np.float64], rows: NDArray[np.int64]) -> Distances:
        """Return the distances of sorted points, in the rows and in the frame of the points as they were given."""
        distance, faces, closest = self._bvh.closest(points_unit, rows)
        return Distances(distance / self._frame.scale, self._face_numbers.take(faces), self._frame.to_world(closest))


class _WindingNumbers:
    """The winding numbers of one mesh, unit frame; whole numbers if it is closed.

    The winding number of a closed mesh is counted along rays. An open mesh is compared with fans of triangles over its
    holes, which have the same boundary. The winding numbers of the two differ by a whole number, which rays count. The
    winding number of the fans themselves is a sum over few triangles (after Jacobson et al., 2013). If most edges are
    boundary edges, there are too many fans: then the sum runs over the mesh.
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
        """Return the winding numbers (N,) of `points` (N, 3); that of `points[i]` in row `rows[i]`."""
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
    """Return which points lie where the sign of an open mesh jumps although its surface is elsewhere, (N,).

    Across a hole the winding number passes ½ smoothly, and the signed distance jumps from +d to -d. Near the middle of
    a flat hole, a lid over the hole would reduce the distance to the share `2 * abs(winding - ½)`. So inside the
    default band the distance is more than twice that of the closed mesh. Never true on the surface itself, nor for a
    closed mesh, whose winding numbers are whole.

    >>> corners = [[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]]
    >>> distance = MeshDistance(Mesh(corners, [[0, 1, 3], [0, 3, 2], [1, 2, 3]]))  # open at the bottom, z = 0
    >>> at_sign_jump(distance([[0.2, 0.2, 0.0], [0.2, 0.2, 0.4]])).tolist()
    [True, False]
    """
    return (np.abs(distances.winding - 0.5) < band) & (np.abs(distances.sdf) > ON_SURFACE * distances.radius)
