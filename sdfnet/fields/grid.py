"""The adaptor from a voxel grid of signed distances to a field."""

from __future__ import annotations

import torch
from torch import Tensor

from sdfnet.fields.base import Accuracy, Field, check_points
from sdfnet.fields.extent import box_distance
from sdfnet.geometry.bounds import Bounds


class GridField(Field):
    """Trilinear interpolation of `values` (X, Y, Z), whose first and last samples lie on the faces of `bounds`.

    Approximate. Beyond the box the value at the nearest point of the box plus the distance to it is used. A solid that
    the box cuts is closed there, so that the zero set stays within `bounds`. Differentiable with respect to the points;
    twice only at a price (`torch.nn.functional.grid_sample`).

    Raises
    ------
    ValueError
        `values` is not three-dimensional with at least two samples per axis, or not finite and floating; `bounds` is
        infinite or flat.

    >>> values = torch.linspace(-1, 1, 3)[:, None, None].expand(3, 2, 2)
    >>> GridField(values, bounds=Bounds.cube(1.0))(torch.tensor([[0.25, 0.0, 0.0]])).tolist()
    [0.25]
    """

    accuracy: Accuracy = "approximate"

    def __init__(self, values: Tensor, *, bounds: Bounds) -> None:
        if values.ndim != 3 or min(values.shape) < 2:
            raise ValueError(f"values must have shape (X, Y, Z) with at least 2 along each, got {tuple(values.shape)}")
        if not (values.is_floating_point() and bool(values.isfinite().all())):
            raise ValueError(f"values must be finite and floating, got {values.dtype} with some not finite or not real")
        if not (bounds.is_finite and bounds.extent.min() > 0):
            raise ValueError(f"bounds must be finite with a positive extent, got {bounds}")
        self.bounds = bounds
        # grid_sample wants (batch, channel, depth, height, width), and coordinates in the order width, height, depth.
        self._volume = values.detach().clone().permute(2, 1, 0)[None, None]

    def __call__(self, points: Tensor) -> Tensor:
        check_points(points)
        lower, upper = points.new_tensor(self.bounds.lower), points.new_tensor(self.bounds.upper)
        flat = points.reshape(1, 1, 1, -1, 3)
        places = (2 * (flat - lower) / (upper - lower) - 1).clamp(-1, 1)
        inner = torch.nn.functional.grid_sample(
            self._volume.to(points), places, mode="bilinear", padding_mode="border", align_corners=True
        ).reshape(points.shape[:-1])
        to_box = box_distance(self.bounds, points)
        return torch.maximum(inner + to_box.clamp(min=0), to_box)
