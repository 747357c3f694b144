"""Hard and smooth booleans of fields.

A minimum or maximum of 1-Lipschitz functions is 1-Lipschitz, so every combination of exact or bound fields is a bound.
The blends use the quadratic polynomial smooth minimum of Quilez. The gradient of a blend is a convex combination of the
operands' gradients, so it is no longer than the longer of the two.

References: I. Quilez, "Smooth minimum", https://iquilezles.org/articles/smin/ (quadratic polynomial).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sdfnet.fields.arguments import check_positive
from sdfnet.fields.base import Accuracy, Field, check_points, worst_accuracy
from sdfnet.fields.extent import Confined, combined_bounds, outside_sign


class Complement(Field):
    """The space outside `field`. It has the accuracy of `field`.

    >>> from sdfnet.fields.primitives import Sphere
    >>> Complement(Sphere(1.0))(torch.zeros(1, 3)).tolist()
    [1.0]
    """

    def __init__(self, field: Field) -> None:
        self.field = field
        self.accuracy = field.accuracy
        self.bounds = field.bounds

    def __call__(self, points: Tensor) -> Tensor:
        return -self.field(points)


class Union(Field):
    """The points that are in at least one of `fields`. The values are a bound.

    If all fields are exact, the values are exact outside. Inside overlaps, their absolute values are too small.

    >>> from sdfnet.fields.primitives import Sphere
    >>> Union(Sphere(1.0), Sphere(1.0, center=[4, 0, 0]))(torch.tensor([[6.0, 0.0, 0.0]])).tolist()
    [1.0]
    """

    def __init__(self, *fields: Field) -> None:
        self.fields = _check_fields(fields)
        self.accuracy = _combined_accuracy(fields)
        self.bounds = combined_bounds([outside_sign(f) for f in fields], [f.bounds for f in fields], absorbing=-1)

    def __call__(self, points: Tensor) -> Tensor:
        check_points(points)
        return torch.stack([field(points) for field in self.fields]).amin(dim=0)


class Intersection(Field):
    """The points that are in all of `fields`. The values are a bound.

    If all fields are exact, the values are exact inside. Beyond edges, the values are too small.

    >>> from sdfnet.fields.primitives import HalfSpace, Sphere
    >>> Intersection(Sphere(1.0), HalfSpace([0, 1, 0]))(torch.tensor([[0.0, 0.5, 0.0]])).tolist()
    [0.5]
    """

    def __init__(self, *fields: Field) -> None:
        self.fields = _check_fields(fields)
        self.accuracy = _combined_accuracy(fields)
        self.bounds = combined_bounds([outside_sign(f) for f in fields], [f.bounds for f in fields], absorbing=1)

    def __call__(self, points: Tensor) -> Tensor:
        check_points(points)
        return torch.stack([field(points) for field in self.fields]).amax(dim=0)


class Difference(Field):
    """The points that are in `field` and in none of `removed`. The values are a bound.

    >>> from sdfnet.fields.primitives import Sphere
    >>> Difference(Sphere(2.0), Sphere(1.0))(torch.zeros(1, 3)).tolist()
    [1.0]
    """

    def __init__(self, field: Field, *removed: Field) -> None:
        self._intersection = Intersection(field, *(Complement(part) for part in _check_fields(removed)))
        self.accuracy, self.bounds = self._intersection.accuracy, self._intersection.bounds

    def __call__(self, points: Tensor) -> Tensor:
        return self._intersection(points)


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
        self.width = check_positive("width", width)
        self.accuracy = _combined_accuracy((first, second))
        self._parts = (Confined(first), Confined(second))
        signs, bounds = zip(*((part.sign, part.grown_bounds(0.0)) for part in self._parts), strict=True)
        self.bounds = combined_bounds(signs, bounds, absorbing=-1, margin=self.width / 4)

    def __call__(self, points: Tensor) -> Tensor:
        check_points(points)
        return _smooth_minimum(self._parts[0](points), self._parts[1](points), self.width)


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
        self._intersection = SmoothIntersection(field, Complement(removed), width=width)
        self.accuracy, self.bounds = self._intersection.accuracy, self._intersection.bounds

    def __call__(self, points: Tensor) -> Tensor:
        return self._intersection(points)


def _smooth_minimum(first: Tensor, second: Tensor, width: float) -> Tensor:
    share = ((width - (first - second).abs()) / width).clamp(min=0)
    return torch.minimum(first, second) - share**2 * (width / 4)


def _combined_accuracy(fields: Sequence[Field]) -> Accuracy:
    if len(fields) == 1:
        return fields[0].accuracy
    return worst_accuracy("bound", *(field.accuracy for field in fields))


def _check_fields(fields: tuple[Field, ...]) -> tuple[Field, ...]:
    if not fields:
        raise ValueError("fields must name at least one field, got none")
    return fields
