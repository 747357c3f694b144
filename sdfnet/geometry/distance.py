"""Exact signed distance from points to a triangle mesh, with the closest point and its face.

The distance is that to the nearest point of the nearest triangle; the sign is that of ½ minus the winding number. Give
it the mesh of a `Solid`: here nothing is repaired.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sdfnet.geometry.mesh import Mesh
from sdfnet.geometry.regions import is_boundless, shared_regions
from sdfnet.geometry.winding import ACCURACY_SCALE, finite_points, igl, mesh_frame, morton_order

JUMP_BAND = 0.2
"""Winding numbers this close to ½ away from the surface are those of a hole: see `at_sign_jump`."""

COARSE_SCALE = 1.1
"""That of the first look at a winding number (see `ACCURACY_SCALE`): a third of the time, errors up to 0.17 seen."""

COARSE_SCALE_CLOSED = 1.0
"""The same for a closed mesh, whose numbers are whole: errors up to 0.48 seen, where 0.9 would be needed for harm."""

UNSURE_BAND = 0.4
"""First looks this close to ½ are repeated accurately: from farther, no error seen reaches ½ or `JUMP_BAND`."""

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
        A whole number if the mesh is closed. Else within about 10⁻³ where it is nearer to ½ than about a fifth; only
        within 0.2 where it is farther.
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

    The tree for signs is built when the first are asked for.

    Distances are exact to about 10⁻¹² of the mesh's radius, wherever the mesh stands. The sign of a closed mesh is
    right but for points closer to the surface than about 10⁻⁶ of the radius. That of an open one jumps across its
    holes. Faces without area are passed over.

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
        self._vertices = np.ascontiguousarray(unit.vertices)
        self._faces = np.ascontiguousarray(unit.faces[self._face_numbers])
        self._tree = igl.AABB()
        self._tree.init(self._vertices, self._faces)
        self._closed = is_boundless(unit.faces, len(unit.vertices))

    @cached_property
    def _winding_tree(self) -> igl.FastWindingNumberBVH:
        tree = igl.FastWindingNumberBVH()
        tree.init(self._vertices, self._faces, 2)
        return tree

    def __call__(self, points: ArrayLike) -> SignedDistances:
        """Return the signed distances of `points` ((N, 3), the mesh's frame), in their order.

        Raises
        ------
        ValueError
            Another shape, or NaN or infinite values.
        """
        points_unit, order = self._sorted(points)
        away, faces, closest = self._search(points_unit)
        winding = self._winding(points_unit, away)
        found = self._in_order(np.where(winding > 0.5, -away, away), faces, closest, order)
        winding_N = np.empty_like(winding)
        winding_N[order] = winding
        return SignedDistances(
            found.distance, winding_N, found.faces, found.closest_points, radius=1 / self._frame.scale
        )

    def unsigned(self, points: ArrayLike) -> Distances:
        """Return the plain distances of `points` ((N, 3), the mesh's frame), in their order; raises as a call does."""
        points_unit, order = self._sorted(points)
        return self._in_order(*self._search(points_unit), order)

    def _sorted(self, points: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Return `points` in the unit frame and in Morton order, (N, 3), and that order, (N,)."""
        points_unit = self._frame.to_unit(finite_points(points))
        order = morton_order(points_unit)
        return points_unit.take(order, axis=0), order  # several times faster than points_unit[order]

    def _search(
        self, points_unit: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.float64]]:
        """Return distances (N,), numbers of kept faces (N,) and closest points (N, 3), all in the unit frame."""
        if len(points_unit) == 0:
            return np.zeros(0), np.zeros(0, dtype=np.int64), np.zeros((0, 3))
        squared, faces, closest = self._tree.squared_distance(self._vertices, self._faces, points_unit)
        return np.sqrt(squared, out=squared), faces, closest

    def _winding(self, points_unit: NDArray[np.float64], away: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return winding numbers (N,); of a closed mesh one is asked for each region, and it is whole."""
        if not self._closed:
            return self._winding_sums(points_unit, COARSE_SCALE)
        regions = shared_regions(points_unit, away)
        asked = np.flatnonzero(regions == np.arange(len(regions)))
        winding = np.empty(len(points_unit))
        winding[asked] = np.rint(self._winding_sums(points_unit.take(asked, axis=0), COARSE_SCALE_CLOSED))
        return winding.take(regions)

    def _winding_sums(self, points_unit: NDArray[np.float64], scale: float) -> NDArray[np.float64]:
        """Return winding numbers, accurate where the sign or a jump hangs on them: elsewhere a coarse sum is enough."""
        if len(points_unit) == 0:
            return np.zeros(0)
        winding = self._winding_tree.winding_number(points_unit, scale)
        unsure = np.flatnonzero(np.abs(winding - 0.5) < UNSURE_BAND)
        if len(unsure):
            winding[unsure] = self._winding_tree.winding_number(points_unit.take(unsure, axis=0), ACCURACY_SCALE)
        return winding

    def _in_order(
        self,
        distance: NDArray[np.float64],
        faces: NDArray[np.int64],
        closest: NDArray[np.float64],
        order: NDArray[np.int64],
    ) -> Distances:
        """Put what was found along the Morton curve into the caller's order and frame."""
        places = np.empty_like(order)
        places[order] = np.arange(len(order))
        closest_world = self._frame.to_world(closest.take(places, axis=0))
        return Distances(
            distance.take(places) / self._frame.scale, self._face_numbers.take(faces.take(places)), closest_world
        )


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
