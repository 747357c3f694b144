"""A local blend of shapes: one field inside a mask, another outside, and a smooth seam between them.

The mask is any field. Where the mask is positive, the result is the first field, to the bit. From the surface of the
mask inwards, the second field takes over smoothly. So a chair can have the back of another chair.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sdfnet.fields.adaptors import MeshField
from sdfnet.fields.arguments import check_positive
from sdfnet.fields.base import Accuracy, Field, check_points
from sdfnet.geometry.bounds import Bounds
from sdfnet.mesh.mesh import Mesh


class MaskedBlend(Field):
    """`field` outside `mask`, `other` inside it, with a seam of width `seam` inside the mask.

    The weight of `other` rises from 0 on the surface of the mask to 1 at the depth `seam`, with two continuous
    derivatives. Outside the mask, the values are those of `field`, exactly. The field is approximate.

    Raises
    ------
    ValueError
        `seam` is not positive and finite.

    >>> from sdfnet.fields.primitives import Box, Sphere
    >>> blend = MaskedBlend(Sphere(0.5), Sphere(0.8), mask=Box([1, 1, 1], center=[1, 0, 0]), seam=0.2)
    >>> blend(torch.tensor([[-1.0, 0.0, 0.0], [1.0, 0.0, 0.0]])).tolist()
    [0.5, 0.19999998807907104]
    """

    accuracy: Accuracy = "approximate"

    def __init__(self, field: Field, other: Field, *, mask: Field, seam: float) -> None:
        self.field, self.other, self.mask = field, other, mask
        self.seam = check_positive("seam", seam)
        # Inside the mask, the zero set may lie between those of both fields, so within the box around both.
        both = field.bounds.union(other.bounds)
        self.bounds = field.bounds.union(both.intersection(mask.bounds)) if mask.bounds.is_finite else both

    def __call__(self, points: Tensor) -> Tensor:
        check_points(points)
        weight, first = self.weight(points), self.field(points)
        return torch.where(weight > 0, torch.lerp(first, self.other(points), weight), first)

    def weight(self, points: Tensor) -> Tensor:
        """Return the share of `other` (...) at `points` (..., 3): 0 outside the mask, 1 deeper inside than the seam."""
        share = (-self.mask(points) / self.seam).clamp(0, 1)
        return share**3 * (share * (6 * share - 15) + 10)


class NearestPart(Field):
    """A mask for a part of a mesh: negative where the `part` is nearer than the `rest` of the mesh.

    The value is half the difference of the two distances. It is a bound of the distance to the surface between both.

    >>> corners = [[0, 0, 0], [1, 0, 0], [0, 1, 0]]
    >>> part = Mesh(corners, [[0, 1, 2]])
    >>> rest = Mesh([[x, y, z + 4] for x, y, z in corners], [[0, 1, 2]])
    >>> NearestPart(part, rest)(torch.tensor([[0.1, 0.1, 1.0], [0.1, 0.1, 2.0]])).tolist()
    [-1.0, 0.0]
    """

    accuracy: Accuracy = "bound"
    bounds = Bounds.infinite()

    def __init__(self, part: Mesh, rest: Mesh) -> None:
        self._part, self._rest = (MeshField(mesh, closed=False) for mesh in (part, rest))

    def __call__(self, points: Tensor) -> Tensor:
        return (self._part(points).abs() - self._rest(points).abs()) / 2
