"""The posterior of code and pose given a part: its mode by Gauss-Newton steps, and its covariance there (Laplace).

The unknowns are the coordinates of the code along the principal directions of the family (`family`) and the pose of
the part: a turn, a scale and a shift. The errors of the observed intervals are independent and heavy-tailed (Student's
t with three degrees of freedom), so that outliers hardly count. Besides its own noise, each observation has an error
that no code can remove. Neighbours share this error, so that many points say little more than a few hundred.

Legend: N rows of the observation, Q directions, K codes at a time.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor

from sdfnet.fitting.align import pose_jacobian, pose_precision, scale_std_of, start_similarities
from sdfnet.fitting.config import CompletionConfig
from sdfnet.fitting.family import FamilyPrior, clamp_distance_of
from sdfnet.fitting.observations.part import PartObservation
from sdfnet.geometry.similarity import Similarity
from sdfnet.runs import Run

DEGREES = 3.0
"""Degrees of freedom of Student's t."""

MODEL_STD = 0.004
"""Deviation of the true distance from that of the best code, unit frame."""

PATCHES = 300
"""Places of a surface at which that deviation is independent."""

SPREAD_PATCHES = 75
"""The same for the covariance. So few make the spread of the codes as wide as their errors are when each learned shape
is predicted from the others. For the most likely code, they are too few: thin parts and the size get lost."""

OUTLIER_WEIGHT = 0.15
"""A surface point that is believed less than this is an outlier: it lies more than about four deviations away."""

_STEP = 0.1
"""Finite difference along a principal direction, in standard deviations. The field is nearly linear over it."""

_AT_A_TIME = 16
"""Codes that are conditioned at a time."""

_COARSE_POINTS, _COARSE_DIRECTIONS, _COARSE_STEPS, _NUM_PLACES = 500, 8, 6, 5
_FINE_POINTS, _FINE_STEPS = 2500, 8
_ENOUGH = 1e-3
"""A step that lowers the objective by less than this share is the last."""


@dataclass(frozen=True, eq=False)
class Posterior:
    """The posterior of one part, about its mode.

    Attributes
    ----------
    coordinates : (Q,) float64
        The code along the principal directions, in standard deviations.
    similarity : Similarity
        From the world of the part to the unit frame.
    covariance : (Q + 7, Q + 7) float64
        Of the coordinates, then turn, log scale and shift about the middle of the part, unit frame.
    objective : float
        Half the negative log density, without constants.
    misfit : float
        Root of the median squared residual of the surface points, unit frame.
    weights : (M,) float64
        How far each surface point of the part is believed, 0 to 1; outliers are near 0.

    """

    coordinates: Tensor
    similarity: Similarity
    covariance: Tensor
    objective: float
    misfit: float
    weights: np.ndarray

    def to_dict(self) -> dict[str, Any]:
        """Return what `fit.json` says of it."""
        length = float(self.coordinates.norm()) / math.sqrt(max(len(self.coordinates), 1))
        rotation = self.similarity.rotation
        turn = 0.0 if rotation is None else float(np.linalg.norm(Rotation.from_matrix(rotation).as_rotvec()))
        return {
            "misfit": self.misfit,
            "misfit_world": self.misfit / self.similarity.scale,
            "code_length": length,
            "outlier_share": float((self.weights < OUTLIER_WEIGHT).mean()),
            "turned_degrees": math.degrees(turn),
        }


def find_posterior(run: Run, part: PartObservation, *, prior: FamilyPrior, config: CompletionConfig) -> Posterior:
    """Return the mode and the covariance of code and pose for one part. Deterministic.

    Raises
    ------
    ValueError
        The frame is not known, or the part is far too small or large: see `start_similarities`.
    """
    places = start_similarities(run, prior, part, config)[:_NUM_PLACES]
    coarse, fine = part.thinned(_COARSE_POINTS), part.thinned(_FINE_POINTS)
    problem = Problem(run, prior, config)
    start = torch.zeros(min(_COARSE_DIRECTIONS, prior.size), dtype=torch.float64)
    found = [problem.solve(coarse, start, place, steps=_COARSE_STEPS) for place in places]
    best = min(found, key=lambda each: each.objective)
    coordinates = torch.zeros(prior.size, dtype=torch.float64)
    coordinates[: len(best.coordinates)] = best.coordinates
    return problem.solve(fine, coordinates, best.similarity, steps=_FINE_STEPS)


@dataclass(frozen=True, eq=False)
class _Rows:
    """The rows of a part at one place, unit frame: points, bounds, and deviations without and with the shared error."""

    points: Tensor
    lower: Tensor
    upper: Tensor
    noise_std: Tensor
    std: Tensor
    is_surface: Tensor


@dataclass(frozen=True, eq=False)
class Problem:
    """A run, its prior and the options: what the posterior of every part of one fit shares."""

    run: Run
    prior: FamilyPrior
    config: CompletionConfig

    def rows(self, part: PartObservation, place: Similarity, num_patches: int = PATCHES) -> _Rows:
        """Return the part in the unit frame. Bounds beyond the clamp of the training say only that it is beyond."""
        clamp = 0.9 * clamp_distance_of(self.run)
        lower, upper = (torch.from_numpy(each) * place.scale for each in (part.lower, part.upper))
        lower = torch.where(lower > clamp, clamp, torch.where(lower < -clamp, -math.inf, lower))
        upper = torch.where(upper < -clamp, -clamp, torch.where(upper > clamp, math.inf, upper))
        shared = MODEL_STD * math.sqrt(max(1.0, len(part.points) / num_patches))
        noise = torch.from_numpy(part.noise_std) * place.scale
        std = torch.hypot(noise, torch.tensor(shared, dtype=torch.float64))
        points = torch.from_numpy(place.to_unit(part.points))
        return _Rows(points, lower, upper, noise, std, torch.from_numpy(part.is_surface))

    @torch.no_grad()
    def values(self, points: Tensor, coordinates_Kq: Tensor) -> Tensor:
        """Return the distances (K, N) of codes at points, float64."""
        latents = self.prior.latents(coordinates_Kq)
        points = points.to(latents)
        found = []
        for some in latents.split(_AT_A_TIME):
            conditioned = self.run.decoder.condition(some)
            found.append(self.run.decoder.decode(points.expand(len(some), -1, -1), conditioned))
        return torch.cat(found).double().cpu()

    def slope(self, points: Tensor, coordinates: Tensor) -> Tensor:
        """Return the gradient (N, 3) of one code's field at points."""
        latent = self.prior.latents(coordinates)[None]
        with torch.enable_grad():
            where = points.to(latent).detach().requires_grad_(True)
            sdf = self.run.decoder(where[None], latent)
            (gradient,) = torch.autograd.grad(sdf.sum(), where)
        return gradient.double().cpu()

    def objective(self, rows: _Rows, sdf: Tensor, coordinates: Tensor, place: Similarity) -> float:
        error = _excess(rows, sdf) / rows.std
        data = (DEGREES + 1) / 2 * torch.log1p(error.square() / DEGREES).sum()
        # The densities are those of world distances, so that a small scale does not explain everything. Each row counts
        # by its share of what is independent. A bound has a probability, not a density, so it does not count.
        own = torch.hypot(rows.noise_std, torch.tensor(MODEL_STD, dtype=torch.float64))
        density = (own / rows.std).square() * (own.log() - math.log(place.scale))
        data = data + density[rows.lower == rows.upper].sum()
        scale_std = scale_std_of(self.prior, self.config)
        offset = (math.log(place.scale) - self.prior.log_scale_mean) / max(scale_std, 1e-6)
        size = 0.0 if self.config.align == "none" else offset**2 / 2
        return float(data + coordinates.square().sum() / 2) + size

    def solve(self, part: PartObservation, coordinates: Tensor, place: Similarity, *, steps: int) -> Posterior:
        """Take damped Gauss-Newton steps on code and pose; the objective never rises."""
        damping = 1e-3
        rows = self.rows(part, place)
        sdf = self.values(rows.points, coordinates[None])[0]
        objective = self.objective(rows, sdf, coordinates, place)
        for _ in range(steps):
            normal, right = self.normal_equations(rows, sdf, coordinates, place)
            improved = False
            for _ in range(4):
                held = normal + damping * torch.diag(torch.diagonal(normal))
                delta = torch.linalg.solve(held, right)
                new_coordinates, new_place = self.moved(coordinates, place, part, delta)
                new_rows = self.rows(part, new_place)
                new_sdf = self.values(new_rows.points, new_coordinates[None])[0]
                new = self.objective(new_rows, new_sdf, new_coordinates, new_place)
                if new < objective:
                    improved = True
                    break
                damping *= 10
            if not improved:
                break
            gain = objective - new
            coordinates, place, rows, sdf, objective = new_coordinates, new_place, new_rows, new_sdf, new
            damping = max(damping / 5, 1e-6)
            if gain < _ENOUGH * max(1.0, abs(float(_excess(rows, sdf).square().div(rows.std.square()).sum()))):
                break
        normal, _ = self.normal_equations(self.rows(part, place, SPREAD_PATCHES), sdf, coordinates, place)
        error = _excess(rows, sdf)[rows.is_surface]
        believed = _weights(error / rows.std[rows.is_surface]) * DEGREES / (DEGREES + 1)
        covariance = torch.linalg.inv(normal)
        covariance = (covariance + covariance.T) / 2
        misfit = float(error.square().median().sqrt())
        return Posterior(coordinates, place, covariance, objective, misfit, believed.numpy())

    def again(self, part: PartObservation, posterior: Posterior) -> Posterior:
        """Return the posterior of code and pose, found from another one that is near."""
        fine = part.thinned(_FINE_POINTS)
        return self.solve(fine, posterior.coordinates, posterior.similarity, steps=_FINE_STEPS)

    def moved(
        self, coordinates: Tensor, place: Similarity, part: PartObservation, delta: Tensor
    ) -> tuple[Tensor, Similarity]:
        turn, log_scale, shift = delta[-7:-4].numpy(), float(delta[-4]), delta[-3:].numpy()
        middle = place.to_unit(self.middle(part))
        rotation = Rotation.from_rotvec(np.clip(turn, -0.5, 0.5)).as_matrix()
        scale = math.exp(min(max(log_scale, -0.3), 0.3))
        return coordinates + delta[:-7], place.then(rotation, scale, middle - scale * rotation @ middle + shift)

    def middle(self, part: PartObservation) -> np.ndarray:
        """The point that turn and scale leave fixed, world frame."""
        return np.median(part.surface, axis=0)

    def jacobian(self, points: Tensor, sdf: Tensor, coordinates: Tensor, middle: Tensor) -> tuple[Tensor, Tensor]:
        """Return the derivatives (N, Q + 7) of the distances by code and pose, and the gradients (N, 3).

        `middle` is the point that turn and scale leave fixed, unit frame.
        """
        steps = coordinates + _STEP * torch.eye(len(coordinates), dtype=torch.float64)
        by_code = (self.values(points, steps) - sdf).T / _STEP
        slope = self.slope(points, coordinates)
        by_pose = pose_jacobian(slope, points, middle)
        by_pose[:, 3] -= sdf  # Relative to the scale, for distances of the world.
        return torch.cat([by_code, by_pose], dim=1), slope

    def normal_equations(
        self, rows: _Rows, sdf: Tensor, coordinates: Tensor, place: Similarity
    ) -> tuple[Tensor, Tensor]:
        """Return the normal matrix and the right side of one Gauss-Newton step."""
        excess = _excess(rows, sdf)
        used = torch.nonzero((excess != 0) | (rows.lower == rows.upper))[:, 0]
        middle = torch.median(rows.points[rows.is_surface], dim=0).values
        jacobian, _ = self.jacobian(rows.points[used], sdf[used], coordinates, middle)
        weight = _weights(excess[used] / rows.std[used]) / rows.std[used].square()
        normal = jacobian.T @ (weight[:, None] * jacobian)
        right = -jacobian.T @ (weight * excess[used])
        scale_std = scale_std_of(self.prior, self.config)
        precision = torch.cat(
            [torch.ones(len(coordinates), dtype=torch.float64), pose_precision(self.config, scale_std)]
        )
        pull = torch.zeros_like(precision)
        pull[: len(coordinates)] = coordinates
        pull[-4] = math.log(place.scale) - self.prior.log_scale_mean if self.config.align != "none" else 0.0
        return normal + torch.diag(precision + 1e-6), right - precision * pull


def _excess(rows: _Rows, sdf: Tensor) -> Tensor:
    """Return how far distances lie outside their intervals, with sign; (N,)."""
    return (sdf - rows.upper).clamp(min=0) - (rows.lower - sdf).clamp(min=0)


def _weights(error: Tensor) -> Tensor:
    """Return the weights of iteratively reweighted least squares for Student's t."""
    return (DEGREES + 1) / (DEGREES + error.square())
