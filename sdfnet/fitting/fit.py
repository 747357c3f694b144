"""Fitting codes to observations: a shape that was not trained on, found by its code alone, with the decoder as it is.

DeepSDF's inference (Park et al. 2019, section 4.3): the code that minimises the clamped distance between prediction and
observation plus a multiple of its squared length. What is observed is points with signed distances in the unit frame;
where they come from (a mesh, a scan) is the caller's business.
Legend: S learned shapes, B shapes to fit, K starts of each, N points, L latent size.

The descent behind `fitting`: which codes to begin at, how they are moved, and which of two is better.

Legend: S learned shapes, B shapes to fit, K starts of each, C learned codes that are tried, I codes moved at a time,
N points, L latent size.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor
from tqdm import tqdm

from sdfnet.runs import Run, RunShape
from sdfnet.training.config import TrainingConfig
from sdfnet.training.losses import clamped_residual

_CODES_AT_A_TIME = 8
"""Codes that one step moves: their volumes are held together, as a step of training holds them."""

_MOST_CANDIDATES = 1000
"""Of more learned codes so many are tried as starts: trying one costs as much as a step."""

_BETAS = (0.9, 0.99)
"""Adam's, as in training: a few hundred steps are too few for a longer memory."""

_TRIED_POINTS, _JUDGED_POINTS = 1024, 8192
"""Points by which starts are chosen, and by which codes are compared in the end."""


@dataclass(frozen=True, eq=False)
class Problem:
    """What stays the same over a fit.

    Attributes
    ----------
    samples : tuple of (N, 4) float32
        Of each shape, shuffled, on the run's device.
    clamp_distance : float
        Distances beyond it need only be beyond it, as in the run's training.
    steps, batch_points : int
    rate : float
        Adam's, at its peak.
    prior_weight : float
    """

    run: Run
    samples: tuple[Tensor, ...]
    clamp_distance: float
    steps: int
    batch_points: int
    rate: float
    prior_weight: float

    def take(self, shapes: Sequence[int], start: int, count: int) -> Tensor:
        """Return (I, count, 4): of each of `shapes`, samples from number `start` on, round and round."""
        rows = [self.samples[shape] for shape in shapes]
        return torch.stack([each[torch.arange(start, start + count, device=each.device) % len(each)] for each in rows])

    def misfit(self, sdf_pred: Tensor, sdf_true: Tensor) -> Tensor:
        """Return the mean clamped difference of each row, (I, N) to (I,)."""
        return clamped_residual(sdf_pred, sdf_true, clamp_distance=self.clamp_distance).abs().mean(dim=1)

    def prior(self, latents_IL: Tensor) -> Tensor:
        return self.prior_weight * latents_IL.square().sum(dim=1)


def choose_starts(
    problem: Problem, num_starts: int, *, generator: torch.Generator
) -> tuple[Tensor, list[list[str | None]]]:
    """Return the first codes (B, K, L) and their names: the mean code, then the learned ones that fit best."""
    run = problem.run
    rows_C = torch.randperm(len(run.latents), generator=generator)[:_MOST_CANDIDATES].sort().values
    num_near = min(num_starts - 1, len(rows_C))
    mean_L = run.latents.mean(dim=0)
    starts, names = [], []
    table_BC = _try_codes(problem, run.latents[rows_C]) if num_near else torch.empty(len(problem.samples), 0)
    for losses_C in table_BC:
        near = rows_C[losses_C.argsort(stable=True)[:num_near]].tolist()
        starts.append(torch.stack([mean_L, *run.latents[near]]))
        names.append([None, *(run.names[row] for row in near)])
    return torch.stack(starts), names


@torch.no_grad()
def _try_codes(problem: Problem, latents_CL: Tensor) -> Tensor:
    """Return the objective of every code for every shape, (B, C) on the CPU, each conditioned once for all shapes."""
    few_BN4 = problem.take(range(len(problem.samples)), 0, _TRIED_POINTS)
    columns = []
    for latent_1L in latents_CL.split(1):
        sdf_1N = problem.run.decoder(few_BN4[..., :3].flatten(0, 1)[None], latent_1L)
        columns.append(problem.misfit(sdf_1N.view(few_BN4.shape[:2]), few_BN4[..., 3]) + problem.prior(latent_1L))
    return torch.stack(columns, dim=1).cpu()


@torch.no_grad()
def judge(problem: Problem, latents_IL: Tensor, shapes_I: Tensor) -> tuple[Tensor, Tensor]:
    """Return misfit and objective of each code for its shape, (I,) each, by more points than a step sees."""
    misfits = []
    for latents, shapes in zip(latents_IL.split(_CODES_AT_A_TIME), shapes_I.split(_CODES_AT_A_TIME), strict=True):
        points = problem.take(shapes.tolist(), 0, _JUDGED_POINTS)
        misfits.append(problem.misfit(problem.run.decoder(points[..., :3], latents), points[..., 3]))
    misfit_I = torch.cat(misfits)
    return misfit_I.cpu(), (misfit_I + problem.prior(latents_IL)).cpu()


def descend(problem: Problem, latents_IL: Tensor, shapes_I: Tensor, *, steps: range, bar: tqdm) -> Tensor:
    """Move each code for its shape, a few codes at a time, and return where they end, (I, L)."""
    ends = [
        _descend_together(problem, latents, shapes.tolist(), steps=steps, bar=bar)
        for latents, shapes in zip(latents_IL.split(_CODES_AT_A_TIME), shapes_I.split(_CODES_AT_A_TIME), strict=True)
    ]
    return torch.cat(ends)


def _descend_together(
    problem: Problem, latents_IL: Tensor, shapes: Sequence[int], *, steps: range, bar: tqdm
) -> Tensor:
    """Take Adam's `steps` of all steps; the sum over the codes is minimised, so that none feels the others."""
    latents = latents_IL.detach().clone().requires_grad_(True)
    optimizer = torch.optim.Adam([latents], betas=_BETAS)
    for step in steps:
        optimizer.param_groups[0]["lr"] = 0.5 * problem.rate * (1 + math.cos(math.pi * step / problem.steps))
        points = problem.take(shapes, step * problem.batch_points, problem.batch_points)
        sdf_pred = problem.run.decoder(points[..., :3], latents)
        objective = problem.misfit(sdf_pred, points[..., 3]) + problem.prior(latents)
        (latents.grad,) = torch.autograd.grad(objective.sum(), latents)  # and none of the decoder's weights
        optimizer.step()
        bar.update(len(shapes))
    return latents.detach()


_EXPLORING_SHARE = 0.2
"""Share of the steps after which only the best start of each shape goes on."""

_RATE = 0.3
"""Peak rate of Adam in spreads of the learned codes. From 0.2 to 0.6 the same was found, 0.05 was too slow."""


@dataclass(frozen=True)
class FitConfig:
    """How codes are fitted.

    Attributes
    ----------
    steps : int
        Optimiser steps; the rate falls to 0 along a cosine.
    batch_points : int
        Points per shape and step.
    num_starts : int
        The mean code and the learned codes that fit best; after a fifth of the steps the best of them goes on.
    learning_rate : float or None
        Peak rate; None takes 0.3 of the spread of the learned codes.
    prior_weight : float
        Weight of the squared length of the code (DeepSDF's 1 / sigma²); more keeps a shape nearer to the family.
    seed : int
        Of the order of the points, and of which learned codes are tried where there are very many.
    """

    steps: int = 300
    batch_points: int = 2048
    num_starts: int = 4
    learning_rate: float | None = None
    prior_weight: float = 1e-4
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "batch_points", "num_starts"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.learning_rate is not None and not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise ValueError(f"learning_rate must be positive and finite, or null, got {self.learning_rate}")
        for name in ("prior_weight", "seed"):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) >= 0):
                raise ValueError(f"{name} must be 0 or more, got {getattr(self, name)}")


@dataclass(frozen=True, eq=False)
class FittedCodes:
    """What `fit_codes` found.

    Attributes
    ----------
    latents : (B, L) float32, on the run's device
    losses : (B,) floats
        Mean clamped difference between prediction and observation, unit frame, without the prior.
    starts : (B,) texts or None
        The learned shape whose code each fit began at; None where that was the mean code.
    """

    latents: Tensor
    losses: tuple[float, ...]
    starts: tuple[str | None, ...]


def fit_codes(
    run: Run, samples: Sequence[ArrayLike | Tensor], *, config: FitConfig | None = None, progress: bool = False
) -> FittedCodes:
    """Find the code of each shape from its samples; the decoder stays as it is.

    Minimises the mean of |clamped difference| + `prior_weight` |code|² by Adam from several starts: the mean of the
    learned codes and those learned codes that fit best. Never worse than the best start. Each shape's result depends
    on its own samples alone, up to rounding. Deterministic given the seed, machine and number of threads.

    Parameters
    ----------
    samples : sequence of (N, 4) float arrays
        Of each shape x, y, z and the signed distance there, unit frame; N may differ. They are shuffled here.

    Raises
    ------
    ValueError
        No samples, another shape of array, values that are not finite; a fit that diverges.

    References
    ----------
    Park et al., "DeepSDF", CVPR 2019, equation 10, https://arxiv.org/abs/1901.05103. Here: several starts, a falling
    rate, and predictions clamped as in training (see `clamped_residual`).
    """
    config = config or FitConfig()
    problem = _pose(run, samples, config)
    was_training = run.decoder.training
    run.decoder.eval()
    try:
        return _fit(problem, config, progress=progress)
    finally:
        run.decoder.train(was_training)


def with_fitted(run: Run, shapes: Sequence[RunShape], latents: Tensor) -> Run:
    """Return `run` with fitted shapes as shapes of it, behind the learned ones; a learned one of the same name goes.

    Whatever takes a run takes the result: extraction, morphs between learned and fitted shapes, evaluation.
    """
    new = {shape.name for shape in shapes}
    if len(new) != len(shapes) or latents.shape != (len(shapes), run.latents.shape[1]):
        raise ValueError(
            f"shapes must have names of their own and one code of {run.latents.shape[1]} numbers each, got "
            f"{len(new)} names for {len(shapes)} shapes and codes of shape {tuple(latents.shape)}"
        )
    kept = [row for row, shape in enumerate(run.shapes) if shape.name not in new]
    return dataclasses.replace(
        run,
        latents=torch.cat([run.latents[kept], latents.to(run.latents)]),
        shapes=(*(run.shapes[row] for row in kept), *shapes),
    )


def _pose(run: Run, samples: Sequence[ArrayLike | Tensor], config: FitConfig) -> Problem:
    """Check the samples and bring them to the device, shuffled."""
    if not len(samples):
        raise ValueError("samples must hold at least one shape's, got none")
    generator = torch.Generator().manual_seed(config.seed)
    shuffled = []
    for number, each in enumerate(samples):
        rows = each.detach().cpu() if isinstance(each, Tensor) else torch.from_numpy(np.asarray(each))
        if rows.ndim != 2 or rows.shape[1] != 4 or not len(rows):
            raise ValueError(f"samples must have shape (N, 4), got {tuple(rows.shape)} for shape number {number}")
        if not torch.isfinite(rows).all():
            raise ValueError(f"samples must be finite, those of shape number {number} are not")
        # The same seed for every shape: its order must not depend on how many shapes stand before it.
        order = torch.randperm(len(rows), generator=generator.manual_seed(config.seed))
        shuffled.append(rows.to(torch.float32)[order].to(run.latents.device))
    training: dict[str, Any] = run.document.get("config", {}).get("training", {})
    clamp_distance = float(training.get("clamp_distance", TrainingConfig.clamp_distance))
    return Problem(
        run,
        tuple(shuffled),
        clamp_distance=clamp_distance,
        steps=config.steps,
        batch_points=config.batch_points,
        rate=config.learning_rate or _RATE * _spread(run.latents),
        prior_weight=config.prior_weight,
    )


def _spread(latents_SL: Tensor) -> float:
    """Return the standard deviation of the numbers of the codes; of a single code, a tenth of their size."""
    deviation = float((latents_SL - latents_SL.mean(dim=0)).square().mean().sqrt())
    size = float(latents_SL.square().mean().sqrt())
    return max(deviation, 0.1 * size) or TrainingConfig.latent_std


def _fit(problem: Problem, config: FitConfig, *, progress: bool) -> FittedCodes:
    num_shapes = len(problem.samples)
    generator = torch.Generator().manual_seed(config.seed)
    starts_BKL, names = choose_starts(problem, config.num_starts, generator=generator)
    num_starts = starts_BKL.shape[1]
    exploring = math.ceil(_EXPLORING_SHARE * config.steps) if num_starts > 1 else 0
    total = num_shapes * (num_starts * exploring + config.steps - exploring)
    owners = torch.arange(num_shapes).repeat_interleave(num_starts)
    with tqdm(total=total, desc="fitting", unit="step", delay=2, leave=False, disable=not progress) as bar:
        moved = descend(problem, starts_BKL.flatten(0, 1), owners, steps=range(exploring), bar=bar)
        best_B = judge(problem, moved, owners)[1].nan_to_num(math.inf).view(num_shapes, num_starts).argmin(dim=1)
        everyone = torch.arange(num_shapes)
        chosen = moved.view(num_shapes, num_starts, -1)[everyone, best_B]
        ends_BL = descend(problem, chosen, everyone, steps=range(exploring, config.steps), bar=bar)
    # A start that fits better than where it led stays: the way is drawn by a few points at a time.
    begun_BL = starts_BKL[everyone, best_B]
    (misfit_old, objective_old), (misfit_new, objective_new) = (
        judge(problem, latents, everyone) for latents in (begun_BL, ends_BL)
    )
    if not torch.isfinite(objective_new).all():
        raise ValueError(f"the fit has diverged with learning_rate={problem.rate:g}; choose a smaller one")
    better = objective_new <= objective_old
    return FittedCodes(
        torch.where(better[:, None].to(ends_BL.device), ends_BL, begun_BL),
        tuple(torch.where(better, misfit_new, misfit_old).tolist()),
        tuple(names[shape][int(best_B[shape])] for shape in range(num_shapes)),
    )
