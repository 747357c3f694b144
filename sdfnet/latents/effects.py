"""What the directions of attributes do to the decoded shapes, measured, with intervals; and their calibration.

An attribute is read off a shape by its distances at fixed points of the unit frame, and by its size. How these depend
on the attributes is learned from the shapes of the table, by linear regression. The attributes of a new shape are those
that explain its distances and its size best (generalized least squares). Unlike a regression of the attributes on the
shape, this does not pull a hardly visible attribute towards its mean.

References: Brown 1982, "Multivariate calibration", Journal of the Royal Statistical Society B 44.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from tqdm import tqdm

from sdfnet.geometry.arrays import FloatArray
from sdfnet.latents.attributes import slopes
from sdfnet.latents.statistics import LEVEL, Estimates, oracle_shrinkage
from sdfnet.runs.run import Run
from sdfnet.runs.space import latent_of

_NUM_POINTS, _NEAR = 1500, 0.1
"""Points at which distances are taken, and how near some surface must be to each, unit frame."""

_SIZE_WEIGHT = 2.0
"""One standard deviation of the log size counts as much as so large a change of one squashed distance."""

_TOGETHER = 16
"""Shapes that are decoded at once."""

_RESAMPLES = 24

_ROUNDS = 3
"""Steps of calibration."""

_NUM_STARTS = 8
"""Shapes, drawn at random, that are moved. An effect differs from shape to shape; the mean over shapes is told."""

_START_SHARE = 0.5
"""They begin at this share of the way from the mean. Far from it, distances are squashed and effects look too small."""

_STEP = 1.0
"""Effects are measured between minus and plus so many standard deviations about each of these shapes."""


@dataclass(frozen=True, eq=False)
class Reader:
    """Reads attributes off distances: `rows = means + (features - middle) @ weights`.

    Attributes
    ----------
    middle : (P,) float64
    weights : (P, A) float64
    """

    middle: FloatArray
    weights: FloatArray


def fit_reader(features: FloatArray, rows: FloatArray) -> Reader:
    """Learn to read attributes (S, A) off features (S, P) by generalized least squares.

    >>> random = np.random.default_rng(0)
    >>> rows = random.normal(size=(100, 1))
    >>> reader = fit_reader(rows @ np.array([[1.0, 2.0, 0.0]]) + 0.1 * random.normal(size=(100, 3)), rows)
    >>> (np.array([[1.0, 2.0, 0.0]]) @ reader.weights).round(1).tolist()
    [[1.0]]
    """
    middle = features.mean(axis=0)
    found = slopes(features, rows)
    left = features - middle - (rows - rows.mean(axis=0)) @ found
    _, singular, axes = np.linalg.svd(left, full_matrices=False)
    variances = singular**2 / max(len(rows) - rows.shape[1] - 1, 1)
    share = oracle_shrinkage(variances, len(rows), size=features.shape[1])
    floor = max(share * variances.sum() / features.shape[1], 1e-12)
    # The inverse of (1 - s) C + s m I, without forming it.
    factors = 1 / ((1 - share) * variances + floor) - 1 / floor
    solved = (found @ axes.T * factors) @ axes + found / floor
    return Reader(middle, np.linalg.solve(found @ solved.T, solved).T)


def measure_effects(
    run: Run, placed: FloatArray, rows: FloatArray, *, generator: torch.Generator, progress: bool = False
) -> tuple[FloatArray, Estimates]:
    """Calibrate the directions of attributes (S, A) so that their measured effect is right, and measure it.

    Parameters
    ----------
    placed : (S, L + 7) float64
        The placed codes of the shapes of the table.

    Returns
    -------
    directions : (A, L + 7) float64
        The change of a placed code for one unit of each row, all others held.
    effects : Estimates of (A, A)
        Row i: if shapes move by one standard deviation of attribute i, by how many of their standard deviations the
        attributes change, on average over some shapes of the table. 1 on the diagonal and 0 elsewhere is right. The
        intervals are those of a bootstrap over the shapes: they say how well so few shapes fix the direction.
    """
    points = _points_near(run, placed, generator)
    weight = _SIZE_WEIGHT / max(float(placed[:, -1].std()), 1e-6)
    reader = fit_reader(_features(run, placed, points, weight), rows)
    deviations = rows.std(axis=0, ddof=1)
    some = placed[torch.randperm(len(placed), generator=generator)[:_NUM_STARTS].numpy(), None]
    starts = placed.mean(axis=0) + _START_SHARE * (some - placed.mean(axis=0))

    def effect(directions: FloatArray) -> FloatArray:
        steps = _STEP * deviations[:, None] * directions
        ends = [
            _features(run, (starts + sign * steps).reshape(-1, placed.shape[1]), points, weight) for sign in (1, -1)
        ]
        away = (ends[0] - ends[1]).reshape(len(starts), len(steps), -1).mean(axis=0)
        return np.asarray(away @ reader.weights / (2 * _STEP) / deviations)

    def calibrated(directions: FloatArray, measured: FloatArray) -> FloatArray:
        scaled = np.linalg.solve(measured, deviations[:, None] * directions)
        return np.asarray(scaled / deviations[:, None])

    directions = slopes(placed, rows)
    correction: FloatArray = np.eye(len(deviations))
    for _ in range(_ROUNDS):
        measured = effect(directions)
        if not np.linalg.cond(measured) < 1e3:
            break  # An attribute that the shapes do not show cannot be calibrated; its effect is told.
        correction = np.asarray(np.linalg.solve(measured, correction))
        directions = calibrated(directions, measured)
    value, resampled = effect(directions), []
    for _ in tqdm(range(_RESAMPLES), desc="effects", unit="resample", delay=2, leave=False, disable=not progress):
        drawn = torch.randint(len(rows), (len(rows),), generator=generator).numpy()
        scaled = correction @ (deviations[:, None] * slopes(placed[drawn], rows[drawn]))
        resampled.append(effect(scaled / deviations[:, None]))
    lower, upper = np.quantile(resampled, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    return directions, Estimates(value, np.minimum(lower, value), np.maximum(upper, value))


def _points_near(run: Run, placed: FloatArray, generator: torch.Generator) -> torch.Tensor:
    """Return points (P, 3) of the unit frame, each near the surface of some shape."""
    points = 2 * torch.rand(_NUM_POINTS * 20, 3, generator=generator, dtype=torch.float64) - 1
    few = placed[torch.randperm(len(placed), generator=generator)[:_TOGETHER].numpy()]
    near = (np.abs(_decode(run, few, points)) < _NEAR).any(axis=0)
    return points[torch.from_numpy(near)][:_NUM_POINTS]


def _features(run: Run, placed: FloatArray, points: torch.Tensor, size_weight: float) -> FloatArray:
    """Return what attributes are read off, (B, P + 1): squashed distances, and the scaled log size."""
    parts = [_decode(run, placed[start : start + _TOGETHER], points) for start in range(0, len(placed), _TOGETHER)]
    return np.concatenate([np.tanh(np.concatenate(parts) / _NEAR), placed[:, -1:] * size_weight], axis=1)


def _decode(run: Run, placed: FloatArray, points: torch.Tensor) -> FloatArray:
    """Return signed distances (B, P) of shapes (B, L + 7) at points (P, 3), unit frame."""
    latents = torch.stack([latent_of(each, run) for each in placed])
    with torch.inference_mode():
        sdf = run.decoder(points.to(run.latents).expand(len(latents), -1, 3), latents)
    return np.asarray(sdf.double().cpu().numpy())
