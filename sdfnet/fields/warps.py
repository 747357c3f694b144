"""Fields that bend space, or repeat another field: twists, bends, rows and rings.

A twist and a bend keep no distance, so their fields are approximate: only the sign and the zero set have a meaning. A
row and a ring are unions of copies, and as accurate as a union.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from sdfnet.fields.arguments import check_vector
from sdfnet.fields.base import Accuracy, Field, Union, check_points
from sdfnet.fields.extent import vector_length
from sdfnet.fields.transforms import Transformed, rotation_about
from sdfnet.geometry.bounds import Bounds

_MOST_COPIES = 1000


class Twisted(Field):
    """`field` twisted about the y axis: at height y, it is turned by `degrees_per_unit` times y. Approximate.

    The turn is right-handed about y, and zero at y = 0.

    Raises
    ------
    ValueError
        `field` has infinite bounds, or the angle is not finite.

    >>> from sdfnet.fields.primitives import Box
    >>> bar = Twisted(Box([2, 4, 0.5]), degrees_per_unit=45)
    >>> (bar(torch.tensor([[1.5, 0.0, 0.0], [1.5, 2.0, 0.0], [0.0, 2.0, 1.5]])) < 0).tolist()
    [True, False, True]
    """

    accuracy: Accuracy = "approximate"

    def __init__(self, field: Field, *, degrees_per_unit: float) -> None:
        if not math.isfinite(degrees_per_unit):
            raise ValueError(f"degrees_per_unit must be finite, got {degrees_per_unit}")
        self.field = field
        self.degrees_per_unit = float(degrees_per_unit)
        low, high = _finite(field.bounds)
        reach = math.hypot(max(abs(low[0]), abs(high[0])), max(abs(low[2]), abs(high[2])))
        self.bounds = Bounds([-reach, low[1], -reach], [reach, high[1], reach])

    def __call__(self, points: Tensor) -> Tensor:
        check_points(points)
        return self.field(self.inner_points(points))

    def inner_points(self, points: Tensor) -> Tensor:
        """Return the points (..., 3) of `field` that are at `points` (..., 3) of this field."""
        x, y, z = points.unbind(dim=-1)
        angle = math.radians(self.degrees_per_unit) * y
        cosine, sine = angle.cos(), angle.sin()
        return torch.stack([cosine * x - sine * z, y, sine * x + cosine * z], dim=-1)


class Bent(Field):
    """`field` bent upwards, so that its x axis becomes a circle of `radius` about (0, radius, 0). Approximate.

    Lengths along the x axis are kept: the point (x, 0, 0) moves along the circle by x. So the part of `field` that is
    bent must lie below y = radius, and be shorter than the circle.

    Raises
    ------
    ValueError
        `radius` is not positive, or `field` does not lie below y = radius and within |x| < pi · radius.

    >>> from sdfnet.fields.primitives import Box
    >>> arch = Bent(Box([4.0, 0.1, 0.5]), radius=2.0)
    >>> (arch(torch.tensor([[0.0, 0.0, 0.0], [2.0, 2.0, 0.0], [2.0, 0.0, 0.0]])) < 0).tolist()
    [True, True, False]
    """

    accuracy: Accuracy = "approximate"

    def __init__(self, field: Field, *, radius: float) -> None:
        if not (math.isfinite(radius) and radius > 0):
            raise ValueError(f"radius must be positive and finite, got {radius}")
        self.field = field
        self.radius = float(radius)
        low, high = _finite(field.bounds)
        if high[1] >= radius:
            raise ValueError(f"radius must be above {high[1]:g}, the highest y of what is bent, got {radius}")
        if max(-low[0], high[0]) >= math.pi * radius:
            longest = max(-low[0], high[0])
            raise ValueError(f"radius must be above {longest / math.pi:g}, so that its circle is longer, got {radius}")
        # An arc reaches farthest along an axis at its ends, or where the axis meets it.
        quarters = math.pi / 2 * np.arange(-2, 3)
        ends = np.array([low[0], high[0]]) / radius
        angles = np.concatenate([ends, quarters[(quarters > ends[0]) & (quarters < ends[1])]])
        arms = radius - np.array([[low[1]], [high[1]]])
        x, y = (arms * np.sin(angles)).ravel(), (radius - arms * np.cos(angles)).ravel()
        self.bounds = Bounds([x.min(), y.min(), low[2]], [x.max(), y.max(), high[2]])

    def __call__(self, points: Tensor) -> Tensor:
        check_points(points)
        return self.field(self.inner_points(points))

    def inner_points(self, points: Tensor) -> Tensor:
        """Return the points (..., 3) of `field` that are at `points` (..., 3) of this field."""
        x, y, z = points.unbind(dim=-1)
        down = self.radius - y
        # In the middle of the circle, the angle has no gradient.
        at_middle = (x == 0) & (down == 0)
        safe = down.masked_fill(at_middle, 1.0)
        arm = vector_length(x, safe).masked_fill(at_middle, 0.0)
        return torch.stack([self.radius * torch.atan2(x, safe), self.radius - arm, z], dim=-1)


class _Copies:
    """Copies of a field: their union, and the points of the field that are at points of the union."""

    def __init__(self, field: Field, placings: list[dict[str, ArrayLike]]) -> None:
        if not 1 <= len(placings) <= _MOST_COPIES:
            raise ValueError(f"count must be from 1 to {_MOST_COPIES} copies, got {len(placings)}")
        self.copies = [Transformed(field, **placing) for placing in placings]  # type: ignore[arg-type]
        self.union = Union(*self.copies)

    def inner_points(self, points: Tensor) -> Tensor:
        nearest = torch.stack([copy(points) for copy in self.copies]).argmin(dim=0)
        inner = torch.stack([copy.inner_points(points) for copy in self.copies])
        return inner.gather(0, nearest[None, ..., None].expand(1, *points.shape))[0]


class Row(Field):
    """`count` copies of `field` in a row, each moved by `step` (3,) from the one before. The first is `field` itself.

    The values are those of a union. A grid of copies is a row of rows.

    >>> from sdfnet.fields.primitives import Sphere
    >>> Row(Sphere(1.0), count=3, step=[4, 0, 0])(torch.tensor([[8.0, 0.0, 2.0]])).tolist()
    [1.0]
    """

    def __init__(self, field: Field, *, count: int, step: ArrayLike) -> None:
        self.field, self.count, self.step = field, count, check_vector("step", step)
        self._copies = _Copies(field, [{"translation": number * self.step} for number in range(count)])
        self.accuracy, self.bounds = self._copies.union.accuracy, self._copies.union.bounds

    def __call__(self, points: Tensor) -> Tensor:
        return self._copies.union(points)

    def inner_points(self, points: Tensor) -> Tensor:
        """Return the points (..., 3) of `field` that are at `points` (..., 3) of the nearest copy."""
        return self._copies.inner_points(points)


class Ring(Field):
    """`count` copies of `field` about an axis through the origin, evenly over `degrees`. The first is `field` itself.

    Over less than a whole turn, the last copy stands at `degrees`. The values are those of a union.

    >>> from sdfnet.fields.primitives import Sphere
    >>> Ring(Sphere(1.0, center=[5, 0, 0]), count=4)(torch.tensor([[0.0, 0.0, -3.0]])).round(decimals=5).tolist()
    [1.0]
    """

    def __init__(self, field: Field, *, count: int, axis: Literal["x", "y", "z"] = "y", degrees: float = 360.0) -> None:
        if axis not in ("x", "y", "z"):
            raise ValueError(f"axis must be 'x', 'y' or 'z', got {axis!r}")
        if not 0 < abs(degrees) <= 360:
            raise ValueError(f"degrees must be from 0 to 360, got {degrees}")
        self.field, self.count, self.axis, self.degrees = field, count, axis, float(degrees)
        step = self.degrees / (count if abs(self.degrees) == 360 else max(count - 1, 1))
        unit = np.eye(3)["xyz".index(axis)]
        self._copies = _Copies(field, [{"rotation": rotation_about(unit, number * step)} for number in range(count)])
        self.accuracy, self.bounds = self._copies.union.accuracy, self._copies.union.bounds

    def __call__(self, points: Tensor) -> Tensor:
        return self._copies.union(points)

    def inner_points(self, points: Tensor) -> Tensor:
        """Return the points (..., 3) of `field` that are at `points` (..., 3) of the nearest copy."""
        return self._copies.inner_points(points)


def _finite(bounds: Bounds) -> tuple[list[float], list[float]]:
    if not bounds.is_finite:
        raise ValueError("field must have finite bounds to be twisted or bent; intersect it with a box first")
    return bounds.lower.tolist(), bounds.upper.tolist()
