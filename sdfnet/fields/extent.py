"""Bounds of combined fields, which booleans, offsets and grids share: where the zero set of a combination can be.

Finite bounds contain the zero set, so beyond them a field keeps one sign. That sign tells a solid from its complement,
and with it the box of a combination can be both safe and tight.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import torch
from torch import Tensor

from sdfnet.fields.base import Field
from sdfnet.geometry.bounds import Bounds


def outside_sign(field: Field) -> int:
    """Return the sign of `field` beyond its bounds: +1 for a solid, -1 for a complement, 0 if they are infinite."""
    if not field.bounds.is_finite:
        return 0
    beyond = field.bounds.upper + 0.01 * float(field.bounds.extent.max()) + 1e-6
    with torch.no_grad():
        sdf = field(torch.tensor(beyond, dtype=torch.float64))
    return 1 if float(sdf) > 0 else -1


def box_distance(bounds: Bounds, points: Tensor) -> Tensor:
    """Return the signed distance (...) of `points` (..., 3) to the surface of a box, whose sides may be infinite."""
    return corner_distance(
        torch.maximum(points.new_tensor(bounds.lower) - points, points - points.new_tensor(bounds.upper))
    )


def corner_distance(excess: Tensor) -> Tensor:
    """Return the distance to the corner at 0 of the negative orthant, (..., D) -> (...); negative inside it."""
    outside = torch.linalg.vector_norm(excess.clamp(min=0), dim=-1)
    return outside + excess.amax(dim=-1).clamp(max=0)


class Confined:
    """The values of a field, raised beyond its bounds to at least the distance to the bounds. A step of other fields.

    An exact field is unchanged. A bound may lag behind the true distance, so its level sets, unlike its zero set, can
    leave the grown box. The larger of two 1-Lipschitz functions is 1-Lipschitz, and {value = r} now lies within
    bounds.grown(r).
    """

    def __init__(self, field: Field) -> None:
        self.field = field
        self.sign = outside_sign(field)
        self._needed = field.accuracy != "exact" and self.sign != 0
        self.is_confined = field.accuracy == "exact" or self.sign != 0

    def __call__(self, points: Tensor) -> Tensor:
        sdf = self.field(points)
        if not self._needed:
            return sdf
        box = box_distance(self.field.bounds, points)
        return torch.maximum(sdf, box) if self.sign > 0 else torch.minimum(sdf, -box)

    def grown_bounds(self, radius: float) -> Bounds:
        """Return a box that contains the levels between -radius and radius."""
        return self.field.bounds.grown(radius) if self.is_confined else Bounds.infinite()


def combined_bounds(signs: Sequence[int], bounds: Sequence[Bounds], *, absorbing: int, margin: float = 0.0) -> Bounds:
    """Return the box of a minimum (absorbing = -1) or a maximum (absorbing = +1) of fields.

    The minimum is zero only where no field is negative. Beyond the bounds of a complement that field is negative, so
    the zero set lies within the bounds of every complement. Without one it lies within the union of all boxes, grown
    by `margin` where a blend may bulge. The maximum mirrors this with solids.
    """
    limits = [box for sign, box in zip(signs, bounds, strict=True) if sign == absorbing]
    if limits:
        return functools.reduce(Bounds.intersection, limits)
    return functools.reduce(Bounds.union, bounds).grown(margin)
