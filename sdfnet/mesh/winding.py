"""Generalized winding numbers count how often a triangle mesh wraps a point: 1 inside and 0 outside.

A point is inside where the winding number is above ½. The whole project takes its signs from this rule, because the
winding number keeps its meaning on open, overlapping and partly wrong meshes (Jacobson et al., 2013). The sum over the
faces uses the fast algorithm of Barill et al. (2018) in libigl. Other modules import libigl from here, so that the
number of its threads is limited before libigl is loaded.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sdfnet.geometry.similarity import Similarity
from sdfnet.mesh.mesh import Mesh, renumber_faces

MAX_NATIVE_THREADS = 32
"""libigl crashes with more threads. A value of IGL_NUM_THREADS that the user has set is not changed."""

os.environ.setdefault("IGL_NUM_THREADS", str(max(1, min(MAX_NATIVE_THREADS, os.cpu_count() or 1))))

ACCURACY_SCALE = 2.0
"""Barill et al.'s beta: a cluster of faces is summed as a whole if it is at least this many radii away."""

SURFACE_STEP = 1e-3
"""Distance of the probes of `probe_surface` from the surface, as a share of the mesh's radius."""


def libigl() -> ModuleType:
    """Return the module `igl`. It is imported late because it imports scipy, which takes some tenths of a second."""
    import igl

    return igl


def finite_points(points: ArrayLike) -> NDArray[np.float64]:
    """Return `points` as contiguous float64 (N, 3).

    Raise ValueError if the array has another shape or holds values that are not finite.

    >>> finite_points([[0, 0, 1]]).shape
    (1, 3)
    """
    points_N3 = np.ascontiguousarray(points, dtype=np.float64)
    if points_N3.ndim != 2 or points_N3.shape[1] != 3:
        hint = " Transpose with points.T?" if points_N3.ndim == 2 and points_N3.shape[0] == 3 else ""
        raise ValueError(f"points must have shape (N, 3), got {points_N3.shape}.{hint}")
    if not np.isfinite(points_N3).all():
        bad = ~np.isfinite(points_N3).all(axis=1)
        row = int(bad.argmax())
        raise ValueError(f"points must be finite, got {points_N3[row].tolist()} in row {row} ({bad.sum()} such rows)")
    return points_N3


def morton_order(points: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the order (N,) of `points` (N, 3) along a Morton curve, so that neighbours in space stay close in memory.

    Tree queries in this order run several times faster, because successive queries visit the same nodes.

    >>> morton_order(np.array([[1.0, 1, 1], [0, 0, 0], [0.9, 1, 1]])).tolist()
    [1, 2, 0]
    """
    if len(points) == 0:
        return np.zeros(0, dtype=np.int64)
    # One integer holds the place on the curve and the number of the point. Sorting such integers is several times
    # faster than an argsort, and keeps the order of equal places.
    number_bits = max(1, (len(points) - 1).bit_length())
    axis_bits = min(21, (64 - number_bits) // 3)
    columns = np.ascontiguousarray(points.T)
    lower = columns.min(axis=1, keepdims=True)
    columns = columns - lower
    extent = float(columns.max())
    columns *= 0.0 if extent == 0 else (2**axis_bits - 1) / extent
    x, y, z = _spread(columns.astype(np.uint64))
    words = x << 2
    words |= y << 1
    words |= z
    words <<= np.uint64(number_bits)
    words |= np.arange(len(points), dtype=np.uint64)
    words.sort()
    words &= np.uint64((1 << number_bits) - 1)
    return words.astype(np.int64)


def _spread(bits: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Put two zero bits after each of the 21 low bits, in place."""
    for shift, mask in (
        (32, 0x1F00000000FFFF),
        (16, 0x1F0000FF0000FF),
        (8, 0x100F00F00F00F00F),
        (4, 0x10C30C30C30C30C3),
        (2, 0x1249249249249249),
    ):
        bits |= bits << np.uint64(shift)
        bits &= np.uint64(mask)
    return bits


class WindingNumber:
    """The winding number of one mesh. The search tree is built once and answers queries from any thread.

    The result differs from the exact sum by about 10⁻³. This error matters only where the exact winding number is near
    ½.

    Raises
    ------
    ValueError
        The mesh has no faces, or vertices that are not finite.

    >>> corners = [[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]]
    >>> winding = WindingNumber(Mesh(corners, [[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]]))
    >>> winding(np.array([[0.2, 0.2, 0.2], [2, 2, 2]])).round(3).tolist()
    [1.0, 0.0]
    """

    def __init__(self, mesh: Mesh) -> None:
        self._frame = mesh_frame(mesh)
        self._sum = fast_winding_number(self._frame.to_unit(mesh.vertices), mesh.faces)

    def __call__(self, points: ArrayLike) -> NDArray[np.float64]:
        """Return the winding numbers, (N,) float64, at `points` (N, 3) in the mesh's frame."""
        points_unit = self._frame.to_unit(finite_points(points))
        order = morton_order(points_unit)
        winding = np.empty(len(order))
        winding[order] = self._sum(points_unit.take(order, axis=0))
        return winding


def fast_winding_number(
    vertices: NDArray[np.float64], faces: NDArray[np.int64], *, accuracy: float = ACCURACY_SCALE
) -> Callable[[NDArray[np.float64]], NDArray[np.float64]]:
    """Return libigl's function from points (N, 3) to winding numbers (N,). The function does not check its input.

    Consecutive points should be neighbours. Vertices and points share a frame that is about as large as the unit frame.

    >>> winding = fast_winding_number(np.eye(3), np.array([[0, 1, 2]]))
    >>> winding(np.array([[0.2, 0.2, 0.2], [9.0, 9, 9]])).round(2).tolist()
    [0.29, -0.0]
    """
    tree = libigl().FastWindingNumberBVH()
    tree.init(vertices, faces, 2)  # 2 is the order of the Taylor series.
    return lambda points: np.asarray(tree.winding_number(points, accuracy)) if len(points) else np.empty(0)


def mesh_frame(mesh: Mesh) -> Similarity:
    """Return the similarity that centres the faces of `mesh` and scales the farthest corner to about 1.

    Compiled code runs in that frame, because parts of libigl use single precision.

    Raises
    ------
    ValueError
        The mesh has no faces, vertices that are not finite, or all face corners at one point.
    """
    if len(mesh.faces) == 0:
        raise ValueError("the mesh has no faces")
    corners = mesh.vertices[renumber_faces(mesh.faces, len(mesh.vertices))[0]]
    if not np.isfinite(mesh.vertices).all():
        count = int((~np.isfinite(mesh.vertices).all(axis=1)).sum())
        raise ValueError(f"the mesh has {count} vertices that are NaN or infinite; remove them first")
    if not (corners != corners[0]).any():
        raise ValueError("the mesh has zero extent: all corners of its faces are one point")
    return Similarity.normalizing(corners)


def spread_over_surface(mesh: Mesh, num_points: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return points (num_points, 3) that cover the area evenly, and the face of each (num_points,). Deterministic.

    Equal steps of accumulated area choose the faces. A low-discrepancy sequence (Roberts, 2018) chooses the place on
    each face. So the share of probes with a property estimates its share of the area with an error of about 1 /
    num_points.
    """
    areas = mesh.face_areas
    edges = np.cumsum(areas)
    targets = (np.arange(num_points) + 0.5) / num_points * edges[-1]
    faces = np.minimum(np.searchsorted(edges, targets), len(areas) - 1)
    step = np.array([0.7548776662466927, 0.5698402909980532])
    uv = np.modf(0.5 + step * np.arange(num_points)[:, None])[0]
    folded = uv.sum(axis=1) > 1
    uv[folded] = 1 - uv[folded]
    corners = mesh.triangles[faces]
    points = corners[:, 0] + uv[:, :1] * (corners[:, 1] - corners[:, 0]) + uv[:, 1:] * (corners[:, 2] - corners[:, 0])
    return points, faces


INSIDE_MARGIN = 0.1
"""A winding number within this distance of ½ counts as neither inside nor outside, as beside a flat open sheet."""

NUM_PROBES = 2000


@dataclass(frozen=True)
class SurfaceShares:
    """Shares of the area of a surface with solid only behind the face, only in front of it, and on both sides.

    The sum of these three shares is at most 1. The rest of the surface has air on both sides. `inverted` is the share
    of that rest beside a space that the surface wraps inside out, with a winding number below -½.
    """

    solid: float
    reversed: float
    buried: float
    inverted: float


def probe_surface(mesh: Mesh, *, step: float = SURFACE_STEP, num_probes: int = NUM_PROBES) -> SurfaceShares:
    """Return which sides of the surface of `mesh` (unit frame) are solid, from `num_probes` pairs of probes.

    The two probes of a pair lie at the distance `step` on either side of the surface.

    >>> flat = Mesh([[0, 0, 0], [1, 0, 0], [0, 1, 0]], [[0, 1, 2]])
    >>> probe_surface(flat)
    SurfaceShares(solid=0.0, reversed=0.0, buried=0.0, inverted=0.0)
    """
    points, faces = spread_over_surface(mesh, num_probes)
    normals = mesh.face_normals[faces]
    winding = WindingNumber(mesh)(np.concatenate([points - step * normals, points + step * normals])).reshape(2, -1)
    solid_behind, solid_before = winding > 0.5 + INSIDE_MARGIN
    air_behind, air_before = winding < 0.5 - INSIDE_MARGIN
    inverted = (winding < -0.5 - INSIDE_MARGIN).any(axis=0) & air_behind & air_before
    kinds = solid_behind & air_before, air_behind & solid_before, solid_behind & solid_before, inverted
    return SurfaceShares(*(float(kind.mean()) for kind in kinds))
