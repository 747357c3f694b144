"""Newton steps that carry points onto a level of a field: sharper vertices than linear interpolation gives."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sdfnet.fields.base import Field, check_points, gradient


def project_to_level(
    field: Field, points: Tensor, *, steps: int, reach: float, level: float = 0.0, chunk_size: int = 65536
) -> Tensor:
    """Return `points` (N, 3) moved along the field's gradient onto `level`.

    Each step is `-(f - level) * g / |g|²` with g the gradient. Of the places that a point visits, it ends at the one
    nearest the level (by value) and no farther than `reach` from its start, whatever an approximate field claims. Where
    the field is smooth, the error falls quadratically with the steps.

    Raises
    ------
    ValueError
        `steps` is negative or `reach` is not positive.

    >>> from sdfnet.fields.primitives import Sphere
    >>> near = torch.tensor([[1.1, 0.0, 0.0], [0.0, 0.9, 0.0]])
    >>> project_to_level(Sphere(1.0), near, steps=1, reach=0.5).norm(dim=1)
    tensor([1., 1.])
    """
    check_points(points)
    if steps < 0:
        raise ValueError(f"steps must be at least 0, got {steps}")
    if not reach > 0:
        raise ValueError(f"reach must be positive, got {reach}")
    parts = [
        _project_chunk(field, part, steps=steps, reach=reach, level=level)
        for part in points.reshape(-1, 3).split(chunk_size)
    ]
    return torch.cat(parts).reshape(points.shape) if parts else points.clone()


def _project_chunk(field: Field, points: Tensor, *, steps: int, reach: float, level: float) -> Tensor:
    best = points.clone()
    with torch.no_grad():
        best_error = (field(points) - level).abs()
    current = points.clone()
    for _ in range(steps):
        slope = gradient(field, current)
        with torch.no_grad():
            difference = field(current) - level
            step = (difference / slope.square().sum(dim=-1).clamp_min(1e-12))[:, None] * slope
            current = torch.nan_to_num(current - step)
            error = (field(current) - level).abs()
            better = (error < best_error) & ((current - points).norm(dim=-1) <= reach)
            best[better], best_error[better] = current[better], error[better]
    return best


_LEAST_AREA = 0.02
"""What must be left of a triangle, as a share of its area, seen along its normal before the move."""


def move_without_flips(
    vertices: NDArray[np.float64], moved: NDArray[np.float64], faces: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return `moved` (V, 3) instead of `vertices`, but where that would turn a face over or crush it, they stay.

    Faces without area to begin with are left out of account.

    >>> triangle = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]])
    >>> over = np.array([[0.0, 0, 0], [1, 0, 0], [0, -1, 0]])
    >>> bool((move_without_flips(triangle, over, np.array([[0, 1, 2]])) == triangle).all())
    True
    """
    before = _crosses(vertices, faces)
    squares = np.einsum("ij,ij->i", before, before)
    watched = squares > 0
    result = moved.copy()
    watch = np.flatnonzero(watched)
    while len(watch):  # A vertex that stays can spoil a face that was good; each round some more stay.
        after = _crosses(result, faces[watch])
        bad = np.einsum("ij,ij->i", before[watch], after) < _LEAST_AREA * squares[watch]
        stay = np.unique(faces[watch[bad]])
        stay = stay[(result[stay] != vertices[stay]).any(axis=1)]
        if not len(stay):
            break
        result[stay] = vertices[stay]
        touched = np.zeros(len(vertices), dtype=bool)
        touched[stay] = True
        watch = np.flatnonzero(watched & touched[faces].any(axis=1))
    return result


def _crosses(vertices: NDArray[np.float64], faces: NDArray[np.int64]) -> NDArray[np.float64]:
    first, second, third = vertices[faces[:, 0]], vertices[faces[:, 1]], vertices[faces[:, 2]]
    return np.cross(second - first, third - first)
