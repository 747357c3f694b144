"""What a run says about a shape before any is observed: a normal distribution of codes, and of the size in the world.

The mean and the principal directions of the learned codes span the family. Coordinates are in standard deviations, so
that the prior of every coordinate is a standard normal.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sdfnet.runs import Run
from sdfnet.training.config import TrainingConfig

MOST_DIRECTIONS = 96
"""Principal directions of a large family that a part is fitted with; later ones vary less than can be told."""

_LEAST_VARIANCE = 1e-4
"""Directions below this share of the largest variance are left out."""

_OUTER_RESOLUTION, _MOST_OUTER_SHAPES = 24, 64
"""Lattice points per axis that are tried as outer points, and learned shapes that are asked."""

_HALF_EXTENT = 1.05


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
        learned = [row for row, shape in enumerate(run.shapes) if shape.learned] or list(range(len(run.shapes)))
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
    learned = [row for row, shape in enumerate(run.shapes) if shape.learned] or list(range(len(run.shapes)))
    for row in learned[:: -(-len(learned) // _MOST_OUTER_SHAPES)]:
        least_N = torch.minimum(least_N, run.decoder(points_N3[None], run.latents[row][None])[0])
    near_1XYZ = (least_N < clamp_distance_of(run)).float().view(1, *[_OUTER_RESOLUTION] * 3)
    wide_1XYZ = torch.nn.functional.max_pool3d(near_1XYZ, kernel_size=3, stride=1, padding=1)
    return points_N3[wide_1XYZ.flatten() == 0]
