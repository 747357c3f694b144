"""The one idea of the project: a field is a batched function from points to signed distance.

The distance is negative inside, zero on the surface and positive outside. Everything else (gradients, evaluation in
chunks, meshing, rendering) is a function that takes a field. Only the operators `&`, `|` and `-` are methods. The
booleans that they make stand here, too. A minimum or maximum of 1-Lipschitz functions is 1-Lipschitz, so every
combination of exact or bound fields is a bound.
"""

from __future__ import annotations

import abc
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from sdfnet.fields.extent import combined_bounds, outside_sign
from sdfnet.geometry.bounds import Bounds

Accuracy = Literal["exact", "bound", "approximate"]
"""The meaning of a field's values: "exact" is the Euclidean distance. "bound" is a 1-Lipschitz lower bound of the
distance. For "approximate", only the sign and the zero set have a meaning."""

_ORDER: dict[Accuracy, int] = {"exact": 0, "bound": 1, "approximate": 2}


class Field(abc.ABC):
    """A signed distance field. Do not subclass a concrete field: to change a field, wrap the field.

    Attributes
    ----------
    bounds : Bounds
        A box that contains the zero set, in the frame of the points. The box may be infinite.
    accuracy : Accuracy

    >>> from sdfnet.fields import Intersection, Sphere
    >>> lens = Intersection(Sphere(1.0), Sphere(1.0, center=[1.0, 0.0, 0.0]))
    >>> lens(torch.tensor([[0.5, 0.0, 0.0], [2.0, 0.0, 0.0]])).tolist()
    [-0.5, 1.0]
    >>> lens.accuracy
    'bound'

    The operators `&`, `|` and `-` are the intersection, the union and the difference.

    >>> (Sphere(1.0) - Sphere(0.5))(torch.zeros(1, 3)).tolist()
    [0.5]
    """

    bounds: Bounds
    accuracy: Accuracy

    @abc.abstractmethod
    def __call__(self, points: Tensor) -> Tensor:
        """Return signed distances (...) at `points` (..., 3), with the device and dtype of `points`."""

    def __and__(self, other: Field) -> Intersection:
        return Intersection(self, other) if isinstance(other, Field) else NotImplemented

    def __or__(self, other: Field) -> Union:
        return Union(self, other) if isinstance(other, Field) else NotImplemented

    def __sub__(self, other: Field) -> Difference:
        return Difference(self, other) if isinstance(other, Field) else NotImplemented


def worst_accuracy(*accuracies: Accuracy) -> Accuracy:
    """Return the worst of `accuracies`, because a combination of fields is only as accurate as its worst part.

    >>> worst_accuracy("exact", "approximate", "bound")
    'approximate'
    """
    return max(accuracies, key=_ORDER.__getitem__)


def check_points(points: Tensor) -> None:
    """Raise ValueError if `points` is not a floating-point tensor of shape (..., 3)."""
    if points.ndim == 0 or points.shape[-1] != 3:
        hint = ". Transpose with points.T?" if points.ndim == 2 and points.shape[0] == 3 else ""
        raise ValueError(f"points must have shape (..., 3), got {tuple(points.shape)}{hint}")
    if not points.is_floating_point():
        raise ValueError(f"points must be floating, got {points.dtype}. Convert with points.float()?")


def evaluate(field: Field, points: Tensor, *, chunk_size: int = 65536) -> Tensor:
    """Evaluate `field` at many `points` without gradients, in chunks that bound the memory.

    The points (..., 3) may have any floating-point dtype, and must be on the device of the field. The values (...) have
    the dtype and the device of the points.

    >>> from sdfnet.fields import Sphere
    >>> evaluate(Sphere(1.0), torch.tensor([[3.0, 0.0, 0.0]]))
    tensor([2.])
    """
    check_points(points)
    if chunk_size < 1:
        raise ValueError(f"chunk_size must be at least 1, got {chunk_size}")
    flat = points.reshape(-1, 3)
    sdf = torch.empty(len(flat), dtype=points.dtype, device=points.device)
    with torch.inference_mode():
        for start in range(0, len(flat), chunk_size):
            part = flat[start : start + chunk_size]
            sdf[start : start + len(part)] = field(part)
    return sdf.reshape(points.shape[:-1])


def value_and_gradient(field: Field, points: Tensor, *, chunk_size: int = 65536) -> tuple[Tensor, Tensor]:
    """Return the values (...) and the raw gradients (..., 3) of `field` at `points` (..., 3), both from one pass.

    The gradients come from automatic differentiation, in chunks that bound the memory. The results carry no graph.

    >>> from sdfnet.fields.primitives import Sphere
    >>> sdf, slope = value_and_gradient(Sphere(1.0), torch.tensor([[0.0, 3.0, 0.0]]))
    >>> sdf.tolist(), slope.tolist()
    ([2.0], [[0.0, 1.0, 0.0]])
    """
    check_points(points)
    values, gradients = [], []
    for part in points.reshape(-1, 3).split(chunk_size):
        with torch.inference_mode(False), torch.enable_grad():  # also where the caller has switched gradients off
            part = part.detach().clone().requires_grad_(True)
            sdf = field(part)
            gradients.append(torch.autograd.grad(sdf.sum(), part)[0])
        values.append(sdf.detach())
    return torch.cat(values).reshape(points.shape[:-1]), torch.cat(gradients).reshape(points.shape)


def gradient(field: Field, points: Tensor, *, chunk_size: int = 65536) -> Tensor:
    """Return the raw gradient (..., 3) of `field` at `points` (..., 3) by automatic differentiation, in chunks.

    >>> from sdfnet.fields import Sphere
    >>> gradient(Sphere(1.0), torch.tensor([[2.0, 0.0, 0.0]])).tolist()
    [[1.0, 0.0, 0.0]]
    """
    return value_and_gradient(field, points, chunk_size=chunk_size)[1]


def normals(field: Field, points: Tensor, *, chunk_size: int = 65536) -> Tensor:
    """Return unit outward normals (..., 3): the normalised gradient, or zero where the gradient is zero.

    >>> from sdfnet.fields import Sphere
    >>> normals(Sphere(1.0), torch.tensor([[0.0, 3.0, 0.0]])).tolist()
    [[0.0, 1.0, 0.0]]
    """
    return torch.nn.functional.normalize(gradient(field, points, chunk_size=chunk_size), dim=-1)


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
        self.accuracy = combined_accuracy(fields)
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
        self.accuracy = combined_accuracy(fields)
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
        self.field, self.removed = field, _check_fields(removed)
        self._intersection = Intersection(field, *(Complement(part) for part in removed))
        self.accuracy, self.bounds = self._intersection.accuracy, self._intersection.bounds

    def __call__(self, points: Tensor) -> Tensor:
        return self._intersection(points)


def combined_accuracy(fields: Sequence[Field]) -> Accuracy:
    """Return the accuracy of a minimum or maximum of `fields`: at best a bound, unless there is only one field.

    >>> from sdfnet.fields.primitives import Sphere
    >>> combined_accuracy([Sphere(1.0)]), combined_accuracy([Sphere(1.0), Sphere(2.0)])
    ('exact', 'bound')
    """
    if len(fields) == 1:
        return fields[0].accuracy
    return worst_accuracy("bound", *(field.accuracy for field in fields))


def _check_fields(fields: tuple[Field, ...]) -> tuple[Field, ...]:
    if not fields:
        raise ValueError("fields must name at least one field, got none")
    return fields
