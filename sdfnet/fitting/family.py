"""What a run says about a shape before any is observed: a normal distribution of codes, and of the size in the world.

The mean and the principal directions of the learned codes span the family. Coordinates are in standard deviations, so
that the prior of every coordinate is a standard normal.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sdfnet.fitting.config import CompletionConfig
from sdfnet.geometry.arrays import FloatArray
from sdfnet.runs import Run
from sdfnet.training.config import TrainingConfig

MOST_DIRECTIONS = 96
"""Principal directions of a large family that a part is fitted with; later ones vary less than can be told."""

_LEAST_VARIANCE = 1e-4
"""Directions below this share of the largest variance are left out."""

_OUTER_RESOLUTION, _MOST_OUTER_SHAPES = 24, 64
"""Lattice points per axis that are tried as outer points, and learned shapes that are asked."""

_HALF_EXTENT = 1.05

_MIRROR_RESOLUTION, _MIRROR_SHAPES, _MIRROR_BAND = 37, 6, 0.05
"""Lattice, learned shapes and distances from their surfaces by which a family is found to be its own mirror image."""

_MIRROR_LIMIT, _LEAST_MIRROR_STD = 0.01, 0.001
"""Shapes that differ from their mirror images by more, root mean square in the unit frame, are not symmetric. What is
learned is never known to be more exact than the second."""


@dataclass(frozen=True, eq=False)
class FamilyPrior:
    """The distribution of the codes of a run, and of the scales of its shapes.

    Attributes
    ----------
    mean : (L,) float32
    directions : (Q, L) float32
        One standard deviation along each principal direction, the largest first.
    log_scale_mean, log_scale_std : float
        Of the logarithm of the scales from the world to the unit frame; the deviation is 0 if all shapes share one.

    >>> from sdfnet.runs import load_run
    >>> FamilyPrior.of(load_run("runs/chairs")).directions.shape
    torch.Size([1, 2])
    """

    mean: Tensor
    directions: Tensor
    log_scale_mean: float
    log_scale_std: float

    @classmethod
    def of(cls, run: Run) -> FamilyPrior:
        """Return the prior of the learned shapes of a run; fitted shapes do not count."""
        learned = learned_rows(run)
        latents = run.latents[learned].double().cpu()
        mean = latents.mean(dim=0)
        _, sizes, axes = torch.linalg.svd(latents - mean, full_matrices=False)
        deviations = sizes / math.sqrt(max(len(learned) - 1, 1))
        kept = (deviations.square() > _LEAST_VARIANCE * deviations[0].square()) & (deviations > 0)
        kept[MOST_DIRECTIONS:] = False
        scales = np.log([run.shapes[row].similarity.scale for row in learned])
        directions = (axes * deviations[:, None])[kept].to(run.latents)
        return cls(mean.to(run.latents), directions, float(scales.mean()), float(scales.std()))

    @property
    def size(self) -> int:
        """Q, the number of principal directions."""
        return len(self.directions)

    def latents(self, coordinates: Tensor) -> Tensor:
        """Return the codes (..., L) at coordinates (..., q) along the first q directions."""
        used = self.directions[: coordinates.shape[-1]]
        return self.mean + coordinates.to(used) @ used

    def coordinates(self, latents: Tensor) -> Tensor:
        """Return the coordinates (..., Q) of codes (..., L), in standard deviations.

        >>> from sdfnet.runs import load_run
        >>> run = load_run("runs/chairs")
        >>> prior = FamilyPrior.of(run)
        >>> [round(each, 2) for each in prior.coordinates(run.latents).abs().flatten().tolist()]
        [0.71, 0.71]
        """
        return (latents - self.mean) @ self.directions.T / self.directions.square().sum(dim=1)


def clamp_distance_of(run: Run) -> float:
    """Return the distance beyond which the training of a run told only the sign, unit frame."""
    training = run.document.get("config", {}).get("training", {})
    return float(training.get("clamp_distance", TrainingConfig.clamp_distance))


@torch.no_grad()
def outer_points(run: Run) -> Tensor:
    """Return points (N, 3), unit frame, where no learned shape of a run is near: outside the family's envelope.

    They are points of a coarse lattice on [-1.05, 1.05]³ that are beyond the clamp distance of all learned shapes, as
    are their 26 neighbours. Of very many shapes, some at equal intervals are asked.

    >>> from sdfnet.runs import load_run
    >>> points = outer_points(load_run("runs/chairs"))
    >>> points.shape[1]
    3
    """
    axis = torch.linspace(-_HALF_EXTENT, _HALF_EXTENT, _OUTER_RESOLUTION, device=run.device)
    points_N3 = torch.cartesian_prod(axis, axis, axis)
    least_N = torch.full((len(points_N3),), math.inf, device=run.device)
    learned = learned_rows(run)
    for row in learned[:: -(-len(learned) // _MOST_OUTER_SHAPES)]:
        least_N = torch.minimum(least_N, run.decoder(points_N3[None], run.latents[row][None])[0])
    near_1XYZ = (least_N < clamp_distance_of(run)).float().view(1, *[_OUTER_RESOLUTION] * 3)
    wide_1XYZ = torch.nn.functional.max_pool3d(near_1XYZ, kernel_size=3, stride=1, padding=1)
    return points_N3[wide_1XYZ.flatten() == 0]


@dataclass(frozen=True)
class Symmetry:
    """A plane through the middle of the unit frame in which the shapes of a family are their own mirror images.

    Attributes
    ----------
    axis : 0, 1 or 2
        The axis at right angles to the plane.
    std : float
        Standard deviation of the distance between a surface and its mirror image, unit frame.

    >>> Symmetry(0, 0.002).mirrored(np.array([[0.5, 0.2, 0.1]])).tolist()
    [[-0.5, 0.2, 0.1]]
    """

    axis: int
    std: float

    def mirrored(self, points_unit: FloatArray) -> FloatArray:
        """Return the mirror images (N, 3) of points (N, 3) in the unit frame."""
        return points_unit * np.where(np.arange(3) == self.axis, -1.0, 1.0)


@torch.no_grad()
def find_symmetry(run: Run, *, axes: Sequence[int] = (0, 1, 2), limit: float = _MIRROR_LIMIT) -> Symmetry | None:
    """Return the plane in which the learned shapes are the most symmetric; None if they differ by more than `limit`.

    The distances of some learned shapes are compared with those at the mirrored points, near the surfaces. The median
    shape decides, so that a single odd one does not.

    >>> from sdfnet.runs import load_run
    >>> find_symmetry(load_run("runs/chairs"), axes=[1], limit=math.inf).axis
    1
    """
    axis = torch.linspace(-_HALF_EXTENT, _HALF_EXTENT, _MIRROR_RESOLUTION, device=run.device)
    points_N3 = torch.cartesian_prod(axis, axis, axis)
    rows = learned_rows(run)
    rows = rows[:: -(-len(rows) // _MIRROR_SHAPES)]
    squares: dict[int, list[float]] = {each: [] for each in axes}
    for row in rows:
        sdf = run.decoder(points_N3[None], run.latents[row][None])[0].view(*[_MIRROR_RESOLUTION] * 3)
        near = sdf.abs() < _MIRROR_BAND
        for each in axes:
            found = (sdf - sdf.flip(each)).clamp(-2 * _MIRROR_BAND, 2 * _MIRROR_BAND)[near].square()
            squares[each] += [float(found.mean())] if len(found) else []
    stds = {each: math.sqrt(np.median(found)) for each, found in squares.items() if found}
    best = min(stds, key=stds.__getitem__, default=None)
    if best is None or stds[best] > limit:
        return None
    return Symmetry(best, max(stds[best], _LEAST_MIRROR_STD))


def symmetry_of(run: Run, config: CompletionConfig) -> Symmetry | None:
    """Return the symmetry that the options ask for, or, with `symmetry=auto`, that of the learned shapes, if any.

    >>> from sdfnet.runs import load_run
    >>> symmetry_of(load_run("runs/chairs"), CompletionConfig(symmetry="x")).axis
    0
    """
    if config.symmetry == "none":
        return None
    if config.symmetry == "auto":
        return find_symmetry(run)
    found = find_symmetry(run, axes=["xyz".index(config.symmetry)], limit=math.inf)
    return None if found is None else Symmetry(found.axis, min(found.std, _MIRROR_LIMIT))


def learned_rows(run: Run) -> list[int]:
    """Return the rows of the learned shapes of a run; all rows if none is said to be learned.

    >>> from sdfnet.runs import load_run
    >>> learned_rows(load_run("runs/chairs"))
    [0, 1]
    """
    return [row for row, shape in enumerate(run.shapes) if shape.learned] or list(range(len(run.shapes)))
