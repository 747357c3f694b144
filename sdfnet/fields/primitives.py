"""Solids with closed-form distances, which booleans and transforms combine.

Conventions: y is up. The axis of a `Cylinder` or `Torus` is parallel to y and passes through `center`; `Transformed`
can turn the solid. Sizes are outer sizes: `rounding` takes material from the corners and never adds any. Numbers are
kept in float64 and converted to the dtype and device of the points at each call. Every gradient is finite everywhere.
At centres and edges, where the distance has no gradient, the gradient is zero or a mean.

References: I. Quilez, "3D distance functions", https://iquilezles.org/articles/distfunctions/.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from torch import Tensor

from sdfnet.fields.arguments import check_direction, check_not_negative, check_positive, check_vector
from sdfnet.fields.base import Accuracy, Field, check_points
from sdfnet.fields.extent import corner_distance, vector_length
from sdfnet.geometry.bounds import Bounds

ORIGIN = (0.0, 0.0, 0.0)


class Sphere(Field):
    """A ball, with the exact distance |p - center| - radius.

    >>> import torch
    >>> Sphere(2.0)(torch.tensor([[0.0, 3.0, 4.0]])).tolist()
    [3.0]
    """

    accuracy: Accuracy = "exact"

    def __init__(self, radius: float = 1.0, *, center: ArrayLike = ORIGIN) -> None:
        self.radius = check_positive("radius", radius)
        self.center = check_vector("center", center)
        self.bounds = Bounds(self.center - self.radius, self.center + self.radius)

    def __call__(self, points: Tensor) -> Tensor:
        return vector_length(*_centered(points, self.center).unbind(dim=-1)) - self.radius


class HalfSpace(Field):
    """The half space behind a plane, with the exact distance normal · (p - point) and infinite bounds.

    `normal` points outward.

    >>> import torch
    >>> HalfSpace([0, 1, 0], point=[0, 2, 0])(torch.tensor([[5.0, 3.0, 0.0]])).tolist()
    [1.0]
    """

    accuracy: Accuracy = "exact"

    def __init__(self, normal: ArrayLike, *, point: ArrayLike = ORIGIN) -> None:
        self.normal = check_direction("normal", normal)
        self.point = check_vector("point", point)
        self.bounds = Bounds.infinite()

    def __call__(self, points: Tensor) -> Tensor:
        return (_centered(points, self.point) * points.new_tensor(self.normal)).sum(dim=-1)


class Box(Field):
    """An axis-aligned box of `half_extents` (3,), with edges rounded by `rounding`.

    The exact distance is |max(q, 0)| + min(max(q), 0) - rounding, with q = |p - center| - half_extents + rounding.

    Raises
    ------
    ValueError
        A half extent is not positive, or `rounding` exceeds the smallest half extent.

    >>> import torch
    >>> Box([1, 2, 3])(torch.tensor([[4.0, 6.0, 0.0], [0.0, 0.0, 0.0]])).tolist()
    [5.0, -1.0]
    """

    accuracy: Accuracy = "exact"

    def __init__(self, half_extents: ArrayLike, *, rounding: float = 0.0, center: ArrayLike = ORIGIN) -> None:
        self.half_extents = check_vector("half_extents", half_extents)
        self.rounding = check_not_negative("rounding", rounding)
        self.center = check_vector("center", center)
        if self.half_extents.min() <= 0:
            raise ValueError(f"half_extents must be positive, got {half_extents!r}")
        if self.rounding > self.half_extents.min():
            raise ValueError(
                f"rounding must not exceed the smallest half extent {self.half_extents.min()}, got {rounding}"
            )
        self.bounds = Bounds(self.center - self.half_extents, self.center + self.half_extents)

    def __call__(self, points: Tensor) -> Tensor:
        core = (self.half_extents - self.rounding).tolist()
        local = _centered(points, self.center).abs().unbind(dim=-1)
        return corner_distance(*(place - half for place, half in zip(local, core, strict=True))) - self.rounding


class Cylinder(Field):
    """A cylinder of `radius` about the y axis, from -half_height to +half_height, with rounded rims.

    The exact distance is the formula of `Box` in two coordinates: the distance from the axis, and y.

    >>> import torch
    >>> Cylinder(1.0, 2.0)(torch.tensor([[4.0, 6.0, 0.0], [0.5, 0.0, 0.0]])).tolist()
    [5.0, -0.5]
    """

    accuracy: Accuracy = "exact"

    def __init__(self, radius: float, half_height: float, *, rounding: float = 0.0, center: ArrayLike = ORIGIN) -> None:
        self.radius = check_positive("radius", radius)
        self.half_height = check_positive("half_height", half_height)
        self.rounding = check_not_negative("rounding", rounding)
        self.center = check_vector("center", center)
        if self.rounding > min(self.radius, self.half_height):
            raise ValueError(f"rounding must not exceed radius {radius} and half_height {half_height}, got {rounding}")
        reach = check_vector("reach", [self.radius, self.half_height, self.radius])
        self.bounds = Bounds(self.center - reach, self.center + reach)

    def __call__(self, points: Tensor) -> Tensor:
        local = _centered(points, self.center)
        around = _radial(local) - (self.radius - self.rounding)
        along = local[..., 1].abs() - (self.half_height - self.rounding)
        return corner_distance(around, along) - self.rounding


class Torus(Field):
    """A ring about the y axis: a tube of radius `minor_radius` around a circle of radius `major_radius`.

    The exact distance is |(r - major_radius, y)| - minor_radius, where r is the distance from the axis.

    Raises
    ------
    ValueError
        `minor_radius` is not below `major_radius` (the tube would intersect itself).

    >>> import torch
    >>> Torus(2.0, 0.5)(torch.tensor([[2.0, 1.0, 0.0], [0.0, 0.0, 0.0]])).tolist()
    [0.5, 1.5]
    """

    accuracy: Accuracy = "exact"

    def __init__(self, major_radius: float, minor_radius: float, *, center: ArrayLike = ORIGIN) -> None:
        self.major_radius = check_positive("major_radius", major_radius)
        self.minor_radius = check_positive("minor_radius", minor_radius)
        self.center = check_vector("center", center)
        if self.minor_radius >= self.major_radius:
            raise ValueError(f"minor_radius must be below major_radius {major_radius}, got {minor_radius}")
        outer = self.major_radius + self.minor_radius
        reach = check_vector("reach", [outer, self.minor_radius, outer])
        self.bounds = Bounds(self.center - reach, self.center + reach)

    def __call__(self, points: Tensor) -> Tensor:
        local = _centered(points, self.center)
        return vector_length(_radial(local) - self.major_radius, local[..., 1]) - self.minor_radius


class Ellipsoid(Field):
    """An ellipsoid of `semi_axes` (3,). The values are a bound.

    The value is (|p / a| - 1) · min a for the semi-axes a; its gradient is no longer than one. The tighter formula
    `k0 (k0 - 1) / k1` of Quilez is not used, because it overestimates the distance in places.

    >>> import torch
    >>> Ellipsoid([1, 2, 4])(torch.tensor([[0.0, 0.0, 4.0], [3.0, 0.0, 0.0]])).tolist()
    [0.0, 2.0]
    """

    accuracy: Accuracy = "bound"

    def __init__(self, semi_axes: ArrayLike, *, center: ArrayLike = ORIGIN) -> None:
        self.semi_axes = check_vector("semi_axes", semi_axes)
        self.center = check_vector("center", center)
        if self.semi_axes.min() <= 0:
            raise ValueError(f"semi_axes must be positive, got {semi_axes!r}")
        self.bounds = Bounds(self.center - self.semi_axes, self.center + self.semi_axes)

    def __call__(self, points: Tensor) -> Tensor:
        scaled = _centered(points, self.center) / points.new_tensor(self.semi_axes)
        return (vector_length(*scaled.unbind(dim=-1)) - 1) * float(self.semi_axes.min())


def _centered(points: Tensor, center: ArrayLike) -> Tensor:
    check_points(points)
    return points - points.new_tensor(center) if np.any(center) else points


def _radial(local: Tensor) -> Tensor:
    """Return the distance (...) of `local` (..., 3) from the y axis."""
    return vector_length(local[..., 0], local[..., 2])
