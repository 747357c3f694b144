"""Smooth booleans of fields. The hard ones stand in `base`, because the operators of `Field` make them.

The blends use the quadratic polynomial smooth minimum of Quilez. The gradient of a blend is a convex combination of the
operands' gradients, so it is no longer than the longer of the two.

References: I. Quilez, "Smooth minimum", https://iquilezles.org/articles/smin/ (quadratic polynomial).
"""

from __future__ import annotations

import torch
from torch import Tensor

from sdfnet.fields.arguments import check_positive
from sdfnet.fields.base import Accuracy, Complement, Field, check_points, combined_accuracy
from sdfnet.fields.extent import Confined, combined_bounds


class SmoothUnion(Field):
    """The union of two fields, with a fillet in the crease between them. The values are a bound.

    Where the two values differ by less than `width`, the result is lowered by up to `width` / 4. Elsewhere the result
    is the plain union. The operation is commutative but, like every polynomial blend, not associative.

    Outside the box of an operand that is not exact, the distance to the box replaces smaller values of the operand. So
    the fillet cannot leave the operands' boxes by more than `width` / 4.

    >>> from sdfnet.fields.primitives import Sphere
    >>> ball = Sphere(1.0)
    >>> SmoothUnion(ball, ball, width=0.4)(torch.tensor([[2.0, 0.0, 0.0]]))
    tensor([0.9000])
    """

    def __init__(self, first: Field, second: Field, *, width: float) -> None:
        self.first, self.second = first, second
        self.width = check_positive("width", width)
        self.accuracy = combined_accuracy((first, second))
        self.parts = (Confined(first), Confined(second))
        signs, bounds = zip(*((part.sign, part.grown_bounds(0.0)) for part in self.parts), strict=True)
        self.bounds = combined_bounds(signs, bounds, absorbing=-1, margin=self.width / 4)

    def __call__(self, points: Tensor) -> Tensor:
        check_points(points)
        return _smooth_minimum(self.parts[0](points), self.parts[1](points), self.width)


class SmoothIntersection(Field):
    """The intersection of two fields, with its edge rounded off. The values are a bound.

    The solid lies within the plain intersection. Where the two values differ by less than `width`, the result is raised
    by up to `width` / 4.

    >>> from sdfnet.fields.primitives import Sphere
    >>> ball = Sphere(1.0)
    >>> SmoothIntersection(ball, ball, width=0.4)(torch.tensor([[2.0, 0.0, 0.0]]))
    tensor([1.1000])
    """

    def __init__(self, first: Field, second: Field, *, width: float) -> None:
        self.first, self.second, self.width = first, second, check_positive("width", width)
        self._union = SmoothUnion(Complement(first), Complement(second), width=width)
        self.accuracy, self.bounds = self._union.accuracy, self._union.bounds

    def __call__(self, points: Tensor) -> Tensor:
        return -self._union(points)


class SmoothDifference(Field):
    """The points that are in `field` and not in `removed`, with the cut's edge rounded off. The values are a bound.

    >>> from sdfnet.fields.primitives import Sphere
    >>> SmoothDifference(Sphere(2.0), Sphere(1.0), width=0.5)(torch.zeros(1, 3)).tolist()
    [1.0]
    """

    def __init__(self, field: Field, removed: Field, *, width: float) -> None:
        self.field, self.removed, self.width = field, removed, check_positive("width", width)
        self._intersection = SmoothIntersection(field, Complement(removed), width=width)
        self.accuracy, self.bounds = self._intersection.accuracy, self._intersection.bounds

    def __call__(self, points: Tensor) -> Tensor:
        return self._intersection(points)


class LocalBlend(Field):
    """The union of two fields, with a fillet only where the field `where` is negative. Approximate.

    Within `where`, the result is that of `SmoothUnion`. From its surface outwards, the fillet fades to nothing over the
    distance `fade`. The width then changes from place to place, so the values are no bound.

    >>> from sdfnet.fields.primitives import Sphere
    >>> ball, right = Sphere(1.0), Sphere(0.5, center=[2, 0, 0])
    >>> field = LocalBlend(ball, ball, width=0.4, where=right, fade=0.5)
    >>> field(torch.tensor([[2.0, 0.0, 0.0], [-2.0, 0.0, 0.0]]))
    tensor([0.9000, 1.0000])
    """

    accuracy: Accuracy = "approximate"

    def __init__(self, first: Field, second: Field, *, width: float, where: Field, fade: float) -> None:
        self.first, self.second, self.where = first, second, where
        self.fade = check_positive("fade", fade)
        smooth = SmoothUnion(first, second, width=width)
        self.width, self.bounds, self._parts = smooth.width, smooth.bounds, smooth.parts

    def __call__(self, points: Tensor) -> Tensor:
        check_points(points)
        inside = (1 - self.where(points) / self.fade).clamp(0, 1)
        width = self.width * inside**2 * (3 - 2 * inside)
        return _smooth_minimum(self._parts[0](points), self._parts[1](points), width.clamp(min=1e-4 * self.width))


def _smooth_minimum(first: Tensor, second: Tensor, width: float | Tensor) -> Tensor:
    share = ((width - (first - second).abs()) / width).clamp(min=0)
    return torch.minimum(first, second) - share**2 * (width / 4)
