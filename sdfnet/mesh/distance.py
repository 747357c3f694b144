"""Exact signed distance from points to a triangle mesh, with the closest point and its face.

The distance is that to the nearest point of the nearest triangle (`tree`); the sign is that of ½ minus the winding
number (`caps`). Give it the mesh of a `Solid`: here nothing is repaired.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sdfnet.mesh.bvh.signs import Windings
from sdfnet.mesh.bvh.tree import TriangleTree
from sdfnet.mesh.mesh import Mesh
from sdfnet.mesh.winding import finite_points, mesh_frame, morton_order

JUMP_BAND = 0.2
"""Winding numbers this close to ½ away from the surface are those of a hole: see `at_sign_jump`."""

ON_SURFACE = 1e-6
"""Points this close (share of the radius) are on the surface, where the winding number is anything."""


@dataclass(frozen=True, eq=False)
class Distances:
    """Unsigned distances of N points.

    Attributes
    ----------
    distance : (N,) float64, the mesh's unit of length, not negative
    faces : (N,) int64
        The face that holds the closest point; one of them where several share it.
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
        A whole number if the mesh is closed. Else within about 10⁻³ (5·10⁻³ at worst) where it is nearer to ½ than
        about a fifth; only within 0.1 where it is farther.
    faces : (N,) int64
        The face that holds the closest point; one of them where several share it.
    closest_points : (N, 3) float64, the mesh's frame
    radius : float
        Of the mesh: what tolerances are shares of.
    """

    sdf: NDArray[np.float64]
    winding: NDArray[np.float64]
    faces: NDArray[np.int64]
    closest_points: NDArray[np.float64]
    radius: float


class MeshDistance:
    """The distance to one mesh: search trees built once, asked many times from any thread.

    What only signs need is built when the first are asked for.

    Distances are exact to about 10⁻¹⁴ of the mesh's radius, wherever the mesh stands. The sign of a closed mesh is
    right but for points that rounding may put on either side. That of an open one jumps across its holes. Faces
    without area are passed over. What a point is told does not depend on the others or on the number of threads.

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
        self._tree = TriangleTree(self._vertices, self._faces)

    @cached_property
    def _wound(self) -> Windings:
        return Windings(self._vertices, self._faces, self._tree)

    def __call__(self, points: ArrayLike) -> SignedDistances:
        """Return the signed distances of `points` ((N, 3), the mesh's frame), in their order.

        Raises
        ------
        ValueError
            Another shape, or NaN or infinite values.
        """
        points_unit, places = self._sorted(points)
        found = self._closest(points_unit, places)
        winding = self._wound(points_unit, places)
        sdf = np.where(winding > 0.5, -found.distance, found.distance)
        return SignedDistances(sdf, winding, found.faces, found.closest_points, radius=1 / self._frame.scale)

    def unsigned(self, points: ArrayLike) -> Distances:
        """Return the plain distances of `points` ((N, 3), the mesh's frame), in their order; raises as a call does."""
        return self._closest(*self._sorted(points))

    def _sorted(self, points: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Return `points` in the unit frame and in Morton order, (N, 3), and the place that each had, (N,)."""
        points_unit = self._frame.to_unit(finite_points(points))
        order = morton_order(points_unit)
        return points_unit.take(order, axis=0), order  # several times faster than points_unit[order]

    def _closest(self, points_unit: NDArray[np.float64], places: NDArray[np.int64]) -> Distances:
        """Return what is nearest to points in the unit frame, in the places and the frame that they were given in."""
        distance, faces, closest = self._tree.closest(points_unit, places)
        return Distances(distance / self._frame.scale, self._face_numbers.take(faces), self._frame.to_world(closest))


def at_sign_jump(distances: SignedDistances, *, band: float = JUMP_BAND) -> NDArray[np.bool_]:
    """Return which points lie where the sign of an open mesh jumps although its surface is elsewhere, (N,).

    Across a hole the winding number passes ½ smoothly, and there the signed distance leaps from +d to -d. Near the
    middle of a flat hole `2 * abs(winding - ½)` is the share of the distance that a cap over the hole would leave, so
    inside the default band the value is more than twice what it would be with the hole capped. Never true on the
    surface itself, nor for a closed mesh, whose winding numbers are whole.

    >>> corners = [[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]]
    >>> distance = MeshDistance(Mesh(corners, [[0, 1, 3], [0, 3, 2], [1, 2, 3]]))  # open at the bottom, z = 0
    >>> at_sign_jump(distance([[0.2, 0.2, 0.0], [0.2, 0.2, 0.4]])).tolist()
    [True, False]
    """
    return (np.abs(distances.winding - 0.5) < band) & (np.abs(distances.sdf) > ON_SURFACE * distances.radius)
