"""Newton steps that bring points onto a level of a field, and a move of mesh vertices that turns no face over.

All projections in the project use `newton_steps`, with float64 NumPy arrays. `project_to_level` does the same for a
field and a tensor of points.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sdfnet.fields.base import Field, check_points, value_and_gradient
from sdfnet.geometry.arrays import FloatArray, IntArray, mask_of
from sdfnet.mesh.mesh import face_crosses

ValueAndGradient = Callable[[FloatArray], tuple[FloatArray, FloatArray]]
"""A function from points (N, 3) to values (N,), which are zero on the level, and gradients (N, 3)."""


@dataclass(frozen=True, eq=False)
class ProjectedPoints:
    """Points brought nearer to a level.

    Attributes
    ----------
    points : (N, 3) float64
    values, gradients : (N,), (N, 3) float64
        Values and gradients of the field at `points`. The values are zero on the level.
    """

    points: FloatArray
    values: FloatArray
    gradients: FloatArray


def newton_steps(
    evaluate: ValueAndGradient,
    points: FloatArray,
    *,
    steps: int,
    longest_step: float = np.inf,
    reach: float = np.inf,
    tolerance: float = 0.0,
    smallest_slope: float = 1e-6,
    take_worse: bool = False,
) -> ProjectedPoints:
    """Move `points` (N, 3) by Newton steps towards the level where the values are zero.

    A step is `-value * gradient / |gradient|²`. A point takes the step only if the value at the end is nearer to zero
    and the end is within `reach`. Otherwise the next step has half the length. If the field is smooth, the error falls
    quadratically.

    Parameters
    ----------
    longest_step : float
        Longer steps are shortened to this length.
    reach : float
        The largest distance of a point from its start.
    tolerance : float
        A point stays where it is if its distance to the level, to first order, is below this.
    smallest_slope : float
        Shorter gradients are taken to be this long. At a saddle the gradient does not point to the surface.
    take_worse : bool
        Whether to take a step even if the value at its end is farther from zero.

    >>> def evaluate(points):  # the unit sphere as r² - 1
    ...     return (points**2).sum(axis=1) - 1, 2 * points
    >>> newton_steps(evaluate, np.array([[1.2, 0.0, 0.0]]), steps=4, longest_step=1.0).points.round(6).tolist()
    [[1.0, 0.0, 0.0]]
    """
    best, limits = points.copy(), np.full(len(points), longest_step)
    values, gradients = evaluate(best)
    for _ in range(steps):
        slopes = np.maximum(np.linalg.norm(gradients, axis=1), smallest_slope)
        off = np.flatnonzero(np.abs(values) > tolerance * slopes)
        if not len(off):
            break
        lengths = np.clip(values[off] / slopes[off], -limits[off], limits[off])
        tried = best[off] - np.nan_to_num((lengths / slopes[off])[:, None] * gradients[off])
        new_values, new_gradients = evaluate(tried)
        better = (np.abs(new_values) < np.abs(values[off])) | take_worse
        if np.isfinite(reach):
            better &= np.linalg.norm(tried - points[off], axis=1) <= reach
        limits[off] = np.where(better, limits[off], np.abs(lengths) / 2)
        kept = off[better]
        best[kept], values[kept], gradients[kept] = tried[better], new_values[better], new_gradients[better]
    return ProjectedPoints(best, values, gradients)


def project_to_level(
    field: Field, points: Tensor, *, steps: int, reach: float, level: float = 0.0, chunk_size: int = 65536
) -> Tensor:
    """Return `points` (N, 3) moved along the field's gradient onto `level`, no farther than `reach` from their start.

    The field is evaluated in the dtype and on the device of `points` (see `newton_steps`). At the end, the value of a
    point is never farther from the level than at its start, even if the field is approximate. The result carries no
    graph.

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

    def evaluate(positions: FloatArray) -> tuple[FloatArray, FloatArray]:
        sdf, gradients = value_and_gradient(field, torch.from_numpy(positions).to(points), chunk_size=chunk_size)
        return sdf.double().cpu().numpy() - level, gradients.double().cpu().numpy()

    starts = points.detach().double().cpu().numpy().reshape(-1, 3)
    found = newton_steps(evaluate, starts, steps=steps, reach=reach)
    return torch.from_numpy(found.points).to(points).reshape(points.shape)


_LEAST_AREA = 0.02
"""A triangle must keep at least this share of its area, projected along its normal before the move."""


def move_without_flips(vertices: FloatArray, moved: FloatArray, faces: IntArray) -> FloatArray:
    """Return `moved` (V, 3), but leave vertices at `vertices` (V, 3) where the move would flip or crush a face.

    Faces that have no area before the move are ignored.

    >>> triangle = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]])
    >>> over = np.array([[0.0, 0, 0], [1, 0, 0], [0, -1, 0]])
    >>> bool((move_without_flips(triangle, over, np.array([[0, 1, 2]])) == triangle).all())
    True
    """
    before = face_crosses(vertices, faces)
    squares = np.einsum("ij,ij->i", before, before)
    watched = squares > 0
    result = moved.copy()
    watch = np.flatnonzero(watched)
    while len(watch):  # A vertex that stays can spoil a good face, so more vertices may stay in each round.
        after = face_crosses(result, faces[watch])
        bad = np.einsum("ij,ij->i", before[watch], after) < _LEAST_AREA * squares[watch]
        stay = np.unique(faces[watch[bad]])
        stay = stay[(result[stay] != vertices[stay]).any(axis=1)]
        if not len(stay):
            break
        result[stay] = vertices[stay]
        watch = np.flatnonzero(watched & mask_of(stay, len(vertices))[faces].any(axis=1))
    return result
