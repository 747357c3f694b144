"""Solids swept along lines and curves: rods, tapered legs, bent tubes, bent sheets, extruded and turned outlines.

Curves are polylines; a curve with enough points looks smooth. Plane outlines lie in the (x, z) plane and are extruded
along y. `Transformed` can turn the solid.

References: I. Quilez, "3D distance functions" (round cone, capped cone, extrusion) and "2D distance functions"
(polygon), https://iquilezles.org/articles/.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from sdfnet.fields.arguments import check_curve, check_not_negative, check_positive, check_vector
from sdfnet.fields.base import Accuracy, Field, check_points
from sdfnet.fields.extent import corner_distance, vector_length
from sdfnet.geometry.bounds import Bounds


class Tube(Field):
    """A round tube along a polyline, with spherical joints and ends. The radius may change along the polyline.

    The values are exact for one straight piece, which is the convex hull of two balls. Several pieces are a union, so
    the values are a bound.

    Parameters
    ----------
    curve : (K, 3)
        At least two points.
    radius : float or (K,)
        One radius, or one for each point. Radii of neighbouring points must differ by less than the points' distance.
    closed : bool
        Whether the last point is joined to the first.

    >>> Tube([[0, 0, 0], [0, 2, 0]], 0.5)(torch.tensor([[1.5, 1.0, 0.0], [0.0, 3.0, 0.0]])).tolist()
    [1.0, 0.5]
    """

    def __init__(self, curve: ArrayLike, radius: ArrayLike, *, closed: bool = False) -> None:
        self.curve = check_curve("curve", curve, axes=3, at_least=2)
        try:
            self.radius = np.broadcast_to(np.array(radius, dtype=np.float64), len(self.curve))
        except ValueError:
            raise ValueError(f"radius must be one number or {len(self.curve)}, got {np.shape(radius)}") from None
        if not (np.isfinite(self.radius).all() and self.radius.min() > 0):
            raise ValueError(f"radius must be positive and finite, got {radius!r}")
        self.closed = closed
        order = np.arange(len(self.curve) + 1) % len(self.curve) if closed else np.arange(len(self.curve))
        self._starts, ends = self.curve[order[:-1]], self.curve[order[1:]]
        self._lengths = np.linalg.norm(ends - self._starts, axis=1)
        self._start_radii = self.radius[order[:-1]]
        self._end_radii = self.radius[order[1:]]
        if not (np.abs(self._start_radii - self._end_radii) < self._lengths).all():
            raise ValueError("radius must change by less than the distance between neighbours along the curve")
        self._directions = (ends - self._starts) / self._lengths[:, None]
        self.accuracy = "exact" if len(self._lengths) == 1 else "bound"
        reach = self.radius[:, None]
        self.bounds = Bounds((self.curve - reach).min(axis=0), (self.curve + reach).max(axis=0))

    def __call__(self, points: Tensor) -> Tensor:
        check_points(points)
        # Arrays are (..., K, 3). The formula is sdRoundCone of Quilez in the half plane (radial, along).
        local = points[..., None, :] - points.new_tensor(self._starts)
        directions = points.new_tensor(self._directions)
        along = torch.einsum("...kd,kd->...k", local, directions)
        radial = vector_length(*(local - along[..., None] * directions).unbind(dim=-1))
        lengths = points.new_tensor(self._lengths)
        start_radii, end_radii = points.new_tensor(self._start_radii), points.new_tensor(self._end_radii)
        slope = (start_radii - end_radii) / lengths
        flat = (1 - slope**2).sqrt()
        place = flat * along - slope * radial
        at_start = vector_length(*local.unbind(dim=-1)) - start_radii
        at_end = vector_length(*(local - lengths[:, None] * directions).unbind(dim=-1)) - end_radii
        on_side = flat * radial + slope * along - start_radii
        pieces = torch.where(place < 0, at_start, torch.where(place > flat * lengths, at_end, on_side))
        return pieces.amin(dim=-1)


class Frustum(Field):
    """A cone cut flat at both ends, with `start_radius` at `start` and `end_radius` at `end`. The distance is exact.

    >>> frustum = Frustum([0, 0, 0], [0, 2, 0], start_radius=1.0, end_radius=1.0)
    >>> frustum(torch.tensor([[0.0, 3.0, 0.0], [0.75, 1.0, 0.0]])).tolist()
    [1.0, -0.25]
    """

    accuracy: Accuracy = "exact"

    def __init__(self, start: ArrayLike, end: ArrayLike, *, start_radius: float, end_radius: float) -> None:
        self.start, self.end = check_vector("start", start), check_vector("end", end)
        self.start_radius = check_positive("start_radius", start_radius)
        self.end_radius = check_positive("end_radius", end_radius)
        self.length = float(np.linalg.norm(self.end - self.start))
        if self.length == 0:
            raise ValueError(f"start and end must differ, got {start!r} twice")
        self.direction = (self.end - self.start) / self.length
        # A disc of radius r with normal n reaches r sqrt(1 - n²) along each axis.
        disc = np.sqrt(np.clip(1 - self.direction**2, 0, None))
        lower = np.minimum(self.start - self.start_radius * disc, self.end - self.end_radius * disc)
        upper = np.maximum(self.start + self.start_radius * disc, self.end + self.end_radius * disc)
        self.bounds = Bounds(lower, upper)

    def __call__(self, points: Tensor) -> Tensor:
        check_points(points)
        local = points - points.new_tensor(self.start)
        direction = points.new_tensor(self.direction)
        along = (local * direction).sum(dim=-1)
        radial = vector_length(*(local - along[..., None] * direction).unbind(dim=-1))
        growth = self.end_radius - self.start_radius
        beyond = (along - self.length / 2).abs() - self.length / 2
        cap_radius = torch.full_like(along, self.end_radius).masked_fill(along < self.length / 2, self.start_radius)
        to_cap = (radial - cap_radius).clamp(min=0), beyond
        square = growth**2 + self.length**2
        share = ((growth * (radial - self.start_radius) + along * self.length) / square).clamp(0, 1)
        to_side = radial - self.start_radius - share * growth, along - share * self.length
        # The norms alone give the same values, but on the surface their gradient is the direction of a rounding error.
        beyond_side = ((radial - self.start_radius) * self.length - along * growth) / math.sqrt(square)
        is_side = (share > 0) & (share < 1) & (beyond_side >= 0)
        side = torch.where(is_side, beyond_side, vector_length(*to_side))
        is_cap = (radial <= cap_radius) & (beyond >= 0)
        outside = torch.minimum(torch.where(is_cap, beyond, vector_length(*to_cap)), side)
        return torch.where((beyond_side < 0) & (beyond < 0), torch.maximum(beyond_side, beyond), outside)


class Ribbon(Field):
    """A bent sheet: a curve in the (x, z) plane, extruded along y to ±half_height, with `radius` on each side.

    All edges are fully rounded. The values are exact for one straight piece, and a bound for several pieces.

    Parameters
    ----------
    curve : (K, 2)
        The x and z of at least two points.

    >>> Ribbon([[-1, 0], [1, 0]], 2.0, radius=0.25)(torch.tensor([[0.0, 0.0, 1.0], [0.0, 3.0, 0.0]])).tolist()
    [0.75, 0.75]
    """

    def __init__(self, curve: ArrayLike, half_height: float, *, radius: float, closed: bool = False) -> None:
        self.curve = check_curve("curve", curve, axes=2, at_least=2)
        self.half_height = check_positive("half_height", half_height)
        self.radius = check_positive("radius", radius)
        self.closed = closed
        self._corners = np.concatenate([self.curve, self.curve[:1]]) if closed else self.curve
        self.accuracy = "exact" if len(self._corners) == 2 else "bound"
        self.bounds = _extruded_bounds(self.curve, self.half_height).grown(self.radius)

    def __call__(self, points: Tensor) -> Tensor:
        check_points(points)
        across, *_ = _to_segments(points[..., 0::2], self._corners[:-1], self._corners[1:])
        beyond = (points[..., 1].abs() - self.half_height).clamp(min=0)
        return vector_length(*across.unbind(dim=-1), beyond) - self.radius


class Extrusion(Field):
    """A simple polygon in the (x, z) plane, extruded along y to ±half_height and grown by `rounding` on all sides.

    Here `rounding` adds material, unlike in the other solids, because a polygon that shrinks may split. The values are
    exact if the polygon is convex or `rounding` is zero; otherwise they are a bound.

    Parameters
    ----------
    polygon : (K, 2)
        The x and z of the corners, clockwise or counter-clockwise. The last corner is joined to the first.

    >>> square = Extrusion([[-1, -1], [1, -1], [1, 1], [-1, 1]], 2.0)
    >>> square(torch.tensor([[4.0, 6.0, 0.0], [0.5, 0.0, 0.0]])).tolist()
    [5.0, -0.5]
    """

    def __init__(self, polygon: ArrayLike, half_height: float, *, rounding: float = 0.0) -> None:
        self.polygon = check_curve("polygon", polygon, axes=2, at_least=3)
        self.half_height = check_positive("half_height", half_height)
        self.rounding = check_not_negative("rounding", rounding)
        self._outline = _Outline(self.polygon, keep_all=True)
        self.accuracy = "exact" if self.rounding == 0 or _is_convex(self.polygon) else "bound"
        self.bounds = _extruded_bounds(self.polygon, self.half_height).grown(self.rounding)

    def __call__(self, points: Tensor) -> Tensor:
        check_points(points)
        flat = self._outline(points[..., 0::2])
        return corner_distance(flat, points[..., 1].abs() - self.half_height) - self.rounding


class Revolution(Field):
    """A simple polygon in the half plane (r, y), turned about the y axis: a lathe. The distance is exact.

    Parameters
    ----------
    polygon : (K, 2)
        The distance from the axis, and y, of the corners, in either direction. The last corner is joined to the first.

    Raises
    ------
    ValueError
        A corner has a negative distance from the axis, or all lie on the axis.

    >>> cone = Revolution([[0, 0], [3, 0], [0, 4]])
    >>> cone(torch.tensor([[0.0, -1.0, 0.0], [0.0, 0.5, 0.5]])).tolist()
    [1.0, -0.5]
    """

    accuracy: Accuracy = "exact"

    def __init__(self, polygon: ArrayLike) -> None:
        self.polygon = check_curve("polygon", polygon, axes=2, at_least=3)
        if self.polygon[:, 0].min() < 0 or self.polygon[:, 0].max() == 0:
            raise ValueError(f"polygon must lie where r is 0 or more, and not on the axis, got {self.polygon.tolist()}")
        self._outline = _Outline(self.polygon)
        reach = float(self.polygon[:, 0].max())
        low, high = self.polygon[:, 1].min(), self.polygon[:, 1].max()
        self.bounds = Bounds([-reach, low, -reach], [reach, high, reach])

    def __call__(self, points: Tensor) -> Tensor:
        check_points(points)
        radial = vector_length(points[..., 0], points[..., 2])
        return self._outline(torch.stack([radial, points[..., 1]], dim=-1))


class _Outline:
    """The signed distance to a polygon (K, 2) in the plane. Edges on the line where the first axis is 0 do not count.

    Of an outline that is turned about this line, such edges are no surface.
    """

    def __init__(self, polygon: np.ndarray, *, keep_all: bool = False) -> None:
        corners = np.concatenate([polygon, polygon[:1]])
        edges = np.diff(corners, axis=0)
        normals = np.stack([edges[:, 1], -edges[:, 0]], axis=1) / np.linalg.norm(edges, axis=1, keepdims=True)
        x, z = corners.T
        doubled_area = np.sum(x[:-1] * z[1:] - x[1:] * z[:-1])
        counts = np.ones(len(edges), dtype=bool) if keep_all else (x[:-1] != 0) | (x[1:] != 0)
        self._starts, self._ends = corners[:-1][counts], corners[1:][counts]
        self._normals = (normals * np.sign(doubled_area))[counts]

    def __call__(self, plane: Tensor) -> Tensor:
        """Return the signed distance (...) at the points `plane` (..., 2)."""
        offsets, nearest, shares = _to_segments(plane, self._starts, self._ends)
        distance = vector_length(*offsets.unbind(dim=-1))
        at_corner = torch.where(_in_polygon(plane, self._starts, self._ends), -distance, distance)
        # Beside an edge, the edge's normal gives the sign. The gradient of a norm would be only a rounding error there.
        beside_edge = (offsets * plane.new_tensor(self._normals)[nearest]).sum(dim=-1)
        return torch.where((shares > 0) & (shares < 1), beside_edge, at_corner)


def _to_segments(plane: Tensor, starts_K2: np.ndarray, ends_K2: np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
    """Find the nearest place on the segments to each point of `plane` (..., 2).

    Return the vectors (..., 2) from the places to the points, the numbers (...) of the edges on which the places lie,
    and the shares (...) of the edges before the places: 0 at the start of an edge, 1 at its end.
    """
    starts, edges = plane.new_tensor(starts_K2), plane.new_tensor(ends_K2 - starts_K2)
    # Axis by axis: reductions over an axis of two are slow in torch.
    x, z = plane[..., None, 0] - starts[:, 0], plane[..., None, 1] - starts[:, 1]
    shares = ((x * edges[:, 0] + z * edges[:, 1]) / (edges**2).sum(dim=-1)).clamp(0, 1)
    x, z = x - shares * edges[:, 0], z - shares * edges[:, 1]
    nearest = (x.detach() ** 2 + z.detach() ** 2).argmin(dim=-1, keepdim=True)
    chosen = [part.gather(-1, nearest).squeeze(-1) for part in (x, z, shares)]
    return torch.stack(chosen[:2], dim=-1), nearest.squeeze(-1), chosen[2]


def _in_polygon(plane: Tensor, starts_K2: np.ndarray, ends_K2: np.ndarray) -> Tensor:
    """Return which points of `plane` (..., 2) lie in the polygon. Count the edges that a ray along +x crosses."""
    starts, ends = plane.new_tensor(starts_K2), plane.new_tensor(ends_K2)
    x, z = plane[..., None, 0], plane[..., None, 1]
    spans = (starts[:, 1] <= z) != (ends[:, 1] <= z)
    turn = (ends[:, 0] - starts[:, 0]) * (z - starts[:, 1]) - (x - starts[:, 0]) * (ends[:, 1] - starts[:, 1])
    crosses = spans & ((turn > 0) == (ends[:, 1] > starts[:, 1]))
    return crosses.sum(dim=-1) % 2 == 1


def _is_convex(polygon: np.ndarray) -> bool:
    edges = np.roll(polygon, -1, axis=0) - polygon
    following = np.roll(edges, -1, axis=0)
    turns = edges[:, 0] * following[:, 1] - edges[:, 1] * following[:, 0]
    angles = np.arctan2(turns, (edges * following).sum(axis=1))
    once_round = math.isclose(abs(angles.sum()), 2 * math.pi, rel_tol=1e-6)
    return bool(once_round and ((turns >= 0).all() or (turns <= 0).all()))


def _extruded_bounds(curve: np.ndarray, half_height: float) -> Bounds:
    (x_low, z_low), (x_high, z_high) = curve.min(axis=0), curve.max(axis=0)
    return Bounds([x_low, -half_height, z_low], [x_high, half_height, z_high])
