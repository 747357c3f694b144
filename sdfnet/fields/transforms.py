"""Fields that move, turn, scale, mirror, grow or hollow another field.

Rigid motion and uniform scale keep the accuracy. Other maps of space are left out on purpose, because they make every
field approximate.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from sdfnet.fields.arguments import check_direction, check_positive, check_vector
from sdfnet.fields.base import Field, check_points, worst_accuracy
from sdfnet.fields.extent import Confined
from sdfnet.geometry.arrays import FloatArray
from sdfnet.geometry.bounds import Bounds


def rotation_about(axis: ArrayLike, degrees: float) -> FloatArray:
    """Return the (3, 3) float64 matrix of the right-handed rotation by `degrees` about `axis` (Rodrigues' formula).

    >>> (rotation_about([0, 0, 1], 90) @ [1, 0, 0]).round(12).tolist()
    [0.0, 1.0, 0.0]
    """
    x, y, z = check_direction("axis", axis)
    if not math.isfinite(degrees):
        raise ValueError(f"degrees must be finite, got {degrees}")
    angle = math.radians(degrees)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + math.sin(angle) * cross + (1 - math.cos(angle)) * (cross @ cross)


X = (1.0, 0.0, 0.0)
"""The direction of the x axis."""
Y = (0.0, 1.0, 0.0)
"""The direction of the y axis."""
Z = (0.0, 0.0, 1.0)
"""The direction of the z axis."""


def orientation(axis: ArrayLike) -> FloatArray:
    """Return a (3, 3) float64 rotation matrix that turns the y axis onto the direction `axis`.

    For x and z, the matrix is the cyclic exchange of the axes, without rounding. Other directions get the smallest
    rotation.

    >>> (orientation(X) @ Y).tolist()
    [1.0, 0.0, 0.0]
    """
    x, y, z = direction = check_direction("axis", axis)
    for turns, other in ((0, Y), (1, Z), (2, X)):
        if tuple(direction) == other:
            return np.roll(np.eye(3), turns, axis=0)
    angle = math.degrees(math.atan2(math.hypot(x, z), y))
    return rotation_about([z, 0.0, -x] if x or z else X, angle)


def orient(field: Field, axis: ArrayLike) -> Transformed:
    """Return `field` turned so that its y axis points along `axis`. The axis of a cylinder or a torus is y.

    >>> from sdfnet.fields.primitives import Cylinder
    >>> orient(Cylinder(1.0, 3.0), X).bounds.upper.tolist()
    [3.0, 1.0, 1.0]
    """
    return Transformed(field, rotation=orientation(axis))


class Transformed(Field):
    """`field` scaled, then turned, then moved: `p -> rotation @ (scale * p) + translation`.

    The accuracy is that of `field`.

    Parameters
    ----------
    rotation : (3, 3), optional
        An orthogonal matrix; a reflection (determinant -1) is allowed. See `rotation_about`.
    translation : (3,)
    scale : float
        Uniform and positive.

    Raises
    ------
    ValueError
        `rotation` is not orthogonal (tolerance 10⁻⁶), or `scale` is not positive.

    >>> from sdfnet.fields.primitives import Box
    >>> moved = Transformed(Box([1, 2, 3]), rotation=rotation_about([0, 0, 1], 90), translation=[5, 0, 0], scale=2)
    >>> moved.bounds.lower.round(12).tolist(), moved.bounds.upper.round(12).tolist()
    ([1.0, -2.0, -6.0], [9.0, 2.0, 6.0])
    """

    def __init__(
        self,
        field: Field,
        *,
        rotation: ArrayLike | None = None,
        translation: ArrayLike = (0.0, 0.0, 0.0),
        scale: float = 1.0,
    ) -> None:
        self.field = field
        self.rotation = np.eye(3) if rotation is None else np.array(rotation, dtype=np.float64)
        if self.rotation.shape != (3, 3) or not np.allclose(self.rotation @ self.rotation.T, np.eye(3), atol=1e-6):
            raise ValueError(f"rotation must be an orthogonal (3, 3) matrix, got {self.rotation.tolist()}")
        self.translation = check_vector("translation", translation)
        self.scale = check_positive("scale", scale)
        self.accuracy = field.accuracy
        self.bounds = self._moved_bounds()
        exchanges = self.scale == 1 and (self.rotation == (self.rotation == 1)).all()  # only exchanges axes
        self._columns = self.rotation.argmax(axis=0).tolist() if exchanges else None

    def __call__(self, points: Tensor) -> Tensor:
        check_points(points)
        return self.field(self.inner_points(points)) * self.scale

    def inner_points(self, points: Tensor) -> Tensor:
        """Return the points (..., 3) of `field` that are at `points` (..., 3) of this field."""
        local = points - points.new_tensor(self.translation) if self.translation.any() else points
        if self._columns is not None:
            return torch.stack([local[..., column] for column in self._columns], dim=-1)
        return local @ points.new_tensor(self.rotation / self.scale)  # the transpose, so the inverse, of R @ p

    def _moved_bounds(self) -> Bounds:
        matrix = self.scale * self.rotation
        low, high = self.field.bounds.lower, self.field.bounds.upper
        # Zero entries are masked, because 0 · inf is not a number.
        corners = [matrix * np.clip(corner, -1e250, 1e250) for corner in (low, high)]
        ends = np.where(matrix == 0, 0.0, np.stack(corners))
        lower, upper = ends.min(axis=0).sum(axis=1), ends.max(axis=0).sum(axis=1)
        return Bounds(
            np.where(lower < -_HUGE, -math.inf, lower) + self.translation,
            np.where(upper > _HUGE, math.inf, upper) + self.translation,
        )


_HUGE = 1e200
"""While a box is turned, its infinite corners are clipped to 10²⁵⁰. Results beyond this value become infinite again."""


class Mirrored(Field):
    """The half of `field` where the coordinate along `axis` is positive, and the mirror image of this half.

    The values are at best a bound. Folding space is 1-Lipschitz, so the values never overestimate the distance. They
    are exact only where `field` does not cross the mirror or is itself symmetric, which is not checked.

    >>> from sdfnet.fields.primitives import Sphere
    >>> Mirrored(Sphere(1.0, center=[3, 0, 0]), "x")(torch.tensor([[-3.0, 2.0, 0.0]])).tolist()
    [1.0]
    """

    def __init__(self, field: Field, axis: Literal["x", "y", "z"]) -> None:
        if axis not in ("x", "y", "z"):
            raise ValueError(f"axis must be 'x', 'y' or 'z', got {axis!r}")
        self.field, self.axis = field, axis
        self._index = "xyz".index(axis)
        self.accuracy = worst_accuracy("bound", field.accuracy)
        reach = max(float(field.bounds.upper[self._index]), 0.0)
        lower, upper = field.bounds.lower.copy(), field.bounds.upper.copy()
        lower[self._index], upper[self._index] = -reach, reach
        self.bounds = Bounds(lower, upper)

    def __call__(self, points: Tensor) -> Tensor:
        check_points(points)
        return self.field(self.inner_points(points))

    def inner_points(self, points: Tensor) -> Tensor:
        """Return the points (..., 3) of `field` that are at `points` (..., 3) of this field."""
        columns = list(points.unbind(dim=-1))
        columns[self._index] = columns[self._index].abs()
        return torch.stack(columns, dim=-1)


class Offset(Field):
    """`field` grown by `radius` on all sides, or shrunk if `radius` is negative.

    The values are at best a bound, unless `radius` is 0. A grown exact field is exact outside and has rounded corners.
    Inside, and after shrinking, the values may be smaller than the distance. A grown bound has the shape of the level
    set of the bound. This level set may have sharp corners where the true offset is round, but it is kept within the
    grown bounds. If `field` has infinite bounds and is not exact, the result has infinite bounds.

    >>> from sdfnet.fields.primitives import Box
    >>> Offset(Box([1, 1, 1]), 0.5)(torch.tensor([[4.0, 5.0, 0.0]])).tolist()
    [4.5]
    """

    def __init__(self, field: Field, radius: float) -> None:
        if not math.isfinite(radius):
            raise ValueError(f"radius must be finite, got {radius}")
        self.field = field
        self.radius = float(radius)
        self.accuracy = field.accuracy if radius == 0 else worst_accuracy("bound", field.accuracy)
        self._confined = Confined(field)
        outward = self.radius if self._confined.sign >= 0 else -self.radius
        self.bounds = field.bounds if outward <= 0 and self._confined.sign else self._confined.grown_bounds(abs(radius))

    def __call__(self, points: Tensor) -> Tensor:
        return self._confined(points) - self.radius


class Shell(Field):
    """A wall along the surface of `field`, with half of the `thickness` on each side. The values are at best a bound.

    >>> from sdfnet.fields.primitives import Sphere
    >>> Shell(Sphere(2.0), 0.5)(torch.tensor([[0.0, 0.0, 0.0], [2.0, 0.0, 0.0]])).tolist()
    [1.75, -0.25]
    """

    def __init__(self, field: Field, thickness: float) -> None:
        self.field = field
        self.thickness = check_positive("thickness", thickness)
        self.accuracy = worst_accuracy("bound", field.accuracy)
        self._confined = Confined(field)
        self.bounds = self._confined.grown_bounds(self.thickness / 2)

    def __call__(self, points: Tensor) -> Tensor:
        return self._confined(points).abs() - self.thickness / 2
