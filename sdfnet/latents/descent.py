"""The descent behind `fitting`: which codes to begin at, how they are moved, and which of two is better.

Legend: S learned shapes, B shapes to fit, K starts of each, C learned codes that are tried, I codes moved at a time,
N points, L latent size.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from tqdm import tqdm

from sdfnet.runs import Run
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
