"""Fit codes of shapes that were not trained on to observations. The decoder does not change.

This is DeepSDF's inference (Park et al. 2019, section 4.3). It finds the code that minimises the misfit of an
observation plus a multiple of the code's squared length. An observation holds the observed points and defines the
misfit: see `observations`.

Legend: S learned shapes, B shapes to fit, K starts of each, C learned codes that are tried, I codes moved at a time,
N points, L latent size.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from scipy.spatial import cKDTree
from torch import Tensor
from tqdm import tqdm

from sdfnet.fitting.config import FitConfig
from sdfnet.fitting.family import clamp_distance_of, outer_points
from sdfnet.fitting.observations import Observation
from sdfnet.runs import Run, RunShape
from sdfnet.training.config import TrainingConfig

_CODES_AT_A_TIME, _MOST_CANDIDATES = 8, 1000
"""Largest numbers of codes that one step moves, and of learned codes to try as starts. A try costs as much as a
step."""

_BETAS = (0.9, 0.99)
"""Adam's, as in training: a few hundred steps are too few for a longer memory."""

_START_POINTS, _FINAL_POINTS = 1024, 8192
"""Points by which start codes are chosen, and by which codes are compared in the end."""

_EXPLORING_SHARE = 0.2
"""Share of the steps after which only the best start of each shape goes on."""

_OUTER_POINTS, _OUTER_DISTANCE = 256, 0.15
"""Points outside the family's envelope that each step reads, and how far from all observed points they are."""

_RATE = 0.125
"""Peak rate of Adam as a share of the typical distance of a learned code from the mean code. For codes of 256 numbers,
shares from 0.08 to 0.3 gave the same result. A share of 0.02 is too slow: with a strong prior the learned codes are
short, and a new shape needs a longer one."""


@dataclass(frozen=True, eq=False)
class FittedCodes:
    """The codes that `fit_codes` found.

    Attributes
    ----------
    latents : (B, L) float32, on the run's device
    losses : (B,) floats
        The misfit of each observation, without the prior. Of signed distances: the mean clamped difference, unit frame.
    starts : (B,) texts or None
        The learned shape whose code was the start of each fit; None if the mean code was the start.

    >>> FittedCodes(torch.zeros(1, 2), (0.01,), (None,)).losses
    (0.01,)
    """

    latents: Tensor
    losses: tuple[float, ...]
    starts: tuple[str | None, ...]


def fit_codes(
    run: Run, observations: Sequence[Observation], *, config: FitConfig | None = None, progress: bool = False
) -> FittedCodes:
    """Find the code of each observed shape; the decoder stays as it is.

    Adam minimises misfit + `prior_weight` |code|² from several starts: the mean of the learned codes, and the learned
    codes that fit best. The shape must also keep the clamp distance at points where neither the observation nor any
    learned shape has a surface. The result is never worse than the best start. The code of a shape depends only on its
    own observation, up to rounding. The result is deterministic given the seed, the machine and the number of threads.

    Raises
    ------
    ValueError
        No observations; a fit that diverges.

    References
    ----------
    Park et al., "DeepSDF", CVPR 2019, equation 10, https://arxiv.org/abs/1901.05103. Here: several starts, a falling
    rate, and predictions clamped as in training (see `clamped_residual`).

    >>> from sdfnet.fitting import DistanceObservation
    >>> from sdfnet.runs import load_run
    >>> points = torch.nn.functional.normalize(torch.randn(1000, 3, generator=torch.Generator().manual_seed(0)), dim=1)
    >>> ball = DistanceObservation(torch.cat([0.5 * points, torch.zeros(1000, 1)], dim=1))
    >>> found = fit_codes(load_run("runs/chairs"), [ball], config=FitConfig(steps=5, batch_points=100))
    >>> len(found.latents), len(found.losses)
    (1, 1)
    """
    config = config or FitConfig()
    run.check_is_family("a fit")
    if not len(observations):
        raise ValueError("observations must hold at least one, got none")
    problem = _make_problem(run, observations, config)
    was_training = run.decoder.training
    run.decoder.eval()
    try:
        return _fit(problem, progress=progress)
    finally:
        run.decoder.train(was_training)


def with_fitted(run: Run, shapes: Sequence[RunShape], latents: Tensor) -> Run:
    """Return `run` with the fitted shapes after the learned shapes.

    A fitted shape replaces a learned shape of the same name. The result is a run for every other function: extraction,
    morphs between learned and fitted shapes, evaluation.

    >>> from sdfnet.runs import load_run
    >>> run = load_run("runs/chairs")
    >>> from sdfnet.geometry.similarity import Similarity
    >>> described = RunShape("ball", Similarity.identity(), "", "", closed=True)
    >>> with_fitted(run, [described], run.latent("chair_00")[None]).names
    ('chair_00', 'chair_01', 'ball')
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


@dataclass(frozen=True, eq=False)
class _Problem:
    """The constant data of a fit. `rows` holds the shuffled rows of each observation, on the run's device.

    `outer` has, for each observation, points where neither the observation nor the family has a surface.
    """

    run: Run
    observations: tuple[Observation, ...]
    rows: tuple[Tensor, ...]
    outer: tuple[Tensor, ...]
    clamp_distance: float
    config: FitConfig
    rate: float

    def take(self, shapes: Sequence[int], start: int, count: int) -> list[Tensor]:
        """Return `count` rows (count, W) of each of `shapes` from row `start` on, in a circle."""
        rows = [self.rows[shape] for shape in shapes]
        return [each[torch.arange(start, start + count, device=each.device) % len(each)] for each in rows]

    def misfit(self, shapes: Sequence[int], sdf_pred_IN: Tensor, rows: Sequence[Tensor]) -> Tensor:
        """Return the misfit (I,) of the predictions for each of `shapes` at its rows."""
        misfits = [
            self.observations[shape].misfit(sdf_pred, each, clamp_distance=self.clamp_distance)
            for shape, sdf_pred, each in zip(shapes, sdf_pred_IN, rows, strict=True)
        ]
        return torch.stack(misfits)

    def misfit_of(self, shapes: Sequence[int], latents_IL: Tensor, start: int, count: int) -> Tensor:
        """Return the misfit (I,) of each code for its shape at its rows from number `start` on."""
        rows = self.take(shapes, start, count)
        return self.misfit(shapes, self.run.decoder(_points(rows), latents_IL), rows)

    def step_misfit(self, shapes: Sequence[int], latents_IL: Tensor, step: int) -> Tensor:
        """Return the misfit (I,) at the rows of a step, plus that at points where nothing asks for a surface.

        The second is how far the shape comes inside the clamp distance, in the mean over its outer points.
        """
        count = self.config.batch_points
        rows = self.take(shapes, step * count, count)
        has_outer_I = torch.tensor([len(self.outer[shape]) > 0 for shape in shapes], device=latents_IL.device)
        nowhere = latents_IL.new_zeros(1, 3)
        outer_I = [self.outer[shape] if len(self.outer[shape]) else nowhere for shape in shapes]
        taken = torch.arange(step * _OUTER_POINTS, (step + 1) * _OUTER_POINTS, device=latents_IL.device)
        outer_IM3 = torch.stack([points[taken % len(points)] for points in outer_I])
        sdf_pred = self.run.decoder(torch.cat([_points(rows), outer_IM3], dim=1), latents_IL)
        inside_I = (self.clamp_distance - sdf_pred[:, count:]).clamp(min=0).mean(dim=1)
        return self.misfit(shapes, sdf_pred[:, :count], rows) + has_outer_I * inside_I

    def prior(self, latents_IL: Tensor) -> Tensor:
        return self.config.prior_weight * latents_IL.square().sum(dim=1)


def _make_problem(run: Run, observations: Sequence[Observation], config: FitConfig) -> _Problem:
    """Shuffle the rows of the observations and bring them to the device."""
    generator = torch.Generator().manual_seed(config.seed)
    shuffled = []
    for each in observations:
        # The same seed for every shape: its order must not depend on how many shapes stand before it.
        order = torch.randperm(len(each.rows), generator=generator.manual_seed(config.seed))
        shuffled.append(each.rows.detach().cpu().to(torch.float32)[order].to(run.device))
    rate = config.learning_rate or _RATE * math.sqrt(run.latents.shape[1]) * _spread(run.latents)
    order = torch.randperm(len(outer := outer_points(run)), generator=generator.manual_seed(config.seed))
    far = tuple(_far_from(outer[order.to(outer.device)], rows[:, :3]) for rows in shuffled)
    return _Problem(run, tuple(observations), tuple(shuffled), far, clamp_distance_of(run), config, rate)


def _far_from(points_N3: Tensor, observed_M3: Tensor) -> Tensor:
    """Return the points that are far from all observed points."""
    nearest_N = cKDTree(observed_M3.cpu().numpy()).query(points_N3.cpu().numpy(), distance_upper_bound=_OUTER_DISTANCE)[
        0
    ]
    return points_N3[torch.from_numpy(nearest_N > _OUTER_DISTANCE).to(points_N3.device)]


def _points(rows: Sequence[Tensor]) -> Tensor:
    return torch.stack([each[:, :3] for each in rows])


def _spread(latents_SL: Tensor) -> float:
    """Return the standard deviation of the numbers of the codes; of a single code, a tenth of their size."""
    deviation = float((latents_SL - latents_SL.mean(dim=0)).square().mean().sqrt())
    size = float(latents_SL.square().mean().sqrt())
    return max(deviation, 0.1 * size) or TrainingConfig.latent_std


def _fit(problem: _Problem, *, progress: bool) -> FittedCodes:
    config, num_shapes = problem.config, len(problem.observations)
    generator = torch.Generator().manual_seed(config.seed)
    starts_BKL, names = _choose_starts(problem, config.num_starts, generator=generator)
    num_starts = starts_BKL.shape[1]
    exploring = math.ceil(_EXPLORING_SHARE * config.steps) if num_starts > 1 else 0
    total = num_shapes * (num_starts * exploring + config.steps - exploring)
    owners = torch.arange(num_shapes).repeat_interleave(num_starts)
    with tqdm(total=total, desc="fitting", unit="step", delay=2, leave=False, disable=not progress) as bar:
        moved = _descend(problem, starts_BKL.flatten(0, 1), owners, steps=range(exploring), bar=bar)
        best_B = _compare(problem, moved, owners)[1].nan_to_num(math.inf).view(num_shapes, num_starts).argmin(dim=1)
        everyone = torch.arange(num_shapes)
        chosen = moved.view(num_shapes, num_starts, -1)[everyone, best_B]
        ends_BL = _descend(problem, chosen, everyone, steps=range(exploring, config.steps), bar=bar)
    # Each step sees only a few points, so the end can fit worse than the start. Then the start is kept.
    begun_BL = starts_BKL[everyone, best_B]
    (misfit_old, objective_old), (misfit_new, objective_new) = (
        _compare(problem, latents, everyone) for latents in (begun_BL, ends_BL)
    )
    if not torch.isfinite(objective_new).all():
        raise ValueError(f"the fit has diverged with learning_rate={problem.rate:g}; choose a smaller one")
    better = objective_new <= objective_old
    return FittedCodes(
        torch.where(better[:, None].to(ends_BL.device), ends_BL, begun_BL),
        tuple(torch.where(better, misfit_new, misfit_old).tolist()),
        tuple(names[shape][int(best_B[shape])] for shape in range(num_shapes)),
    )


def _choose_starts(
    problem: _Problem, num_starts: int, *, generator: torch.Generator
) -> tuple[Tensor, list[list[str | None]]]:
    """Return the first codes (B, K, L) and their names: the mean code, then the learned ones that fit best."""
    run = problem.run
    rows_C = torch.randperm(len(run.latents), generator=generator)[:_MOST_CANDIDATES].sort().values
    num_near = min(num_starts - 1, len(rows_C))
    mean_L = run.latents.mean(dim=0)
    starts, names = [], []
    table_BC = _try_codes(problem, run.latents[rows_C]) if num_near else torch.empty(len(problem.observations), 0)
    for losses_C in table_BC:
        near = rows_C[losses_C.argsort(stable=True)[:num_near]].tolist()
        starts.append(torch.stack([mean_L, *run.latents[near]]))
        names.append([None, *(run.names[row] for row in near)])
    return torch.stack(starts), names


@torch.no_grad()
def _try_codes(problem: _Problem, latents_CL: Tensor) -> Tensor:
    """Return the objective of every code for every shape, (B, C) on the CPU, each conditioned once for all shapes."""
    shapes = range(len(problem.observations))
    rows = problem.take(shapes, 0, _START_POINTS)
    points_BN3 = _points(rows)
    columns = []
    for latent_1L in latents_CL.split(1):
        sdf_BN = problem.run.decoder(points_BN3.flatten(0, 1)[None], latent_1L).view(points_BN3.shape[:2])
        columns.append(problem.misfit(shapes, sdf_BN, rows) + problem.prior(latent_1L))
    return torch.stack(columns, dim=1).cpu()


@torch.no_grad()
def _compare(problem: _Problem, latents_IL: Tensor, shapes_I: Tensor) -> tuple[Tensor, Tensor]:
    """Return misfit and objective of each code for its shape, (I,) each, by more points than a step sees."""
    groups = zip(latents_IL.split(_CODES_AT_A_TIME), shapes_I.split(_CODES_AT_A_TIME), strict=True)
    misfit_I = torch.cat([problem.misfit_of(shapes.tolist(), latents, 0, _FINAL_POINTS) for latents, shapes in groups])
    return misfit_I.cpu(), (misfit_I + problem.prior(latents_IL)).cpu()


def _descend(problem: _Problem, begun_IL: Tensor, shapes_I: Tensor, *, steps: range, bar: tqdm) -> Tensor:
    """Move each code for its shape by Adam's `steps` of all steps, and return where they end, (I, L).

    A few codes move at a time. The sum of their objectives is minimised, so the codes do not affect each other.
    """
    config, ends = problem.config, []
    for begun, owners in zip(begun_IL.split(_CODES_AT_A_TIME), shapes_I.split(_CODES_AT_A_TIME), strict=True):
        latents, shapes = begun.detach().clone().requires_grad_(True), owners.tolist()
        optimizer = torch.optim.Adam([latents], betas=_BETAS)
        for step in steps:
            optimizer.param_groups[0]["lr"] = 0.5 * problem.rate * (1 + math.cos(math.pi * step / config.steps))
            objective = problem.step_misfit(shapes, latents, step) + problem.prior(latents)
            (latents.grad,) = torch.autograd.grad(objective.sum(), latents)  # and none of the decoder's weights
            optimizer.step()
            bar.update(len(shapes))
        ends.append(latents.detach())
    return torch.cat(ends)
