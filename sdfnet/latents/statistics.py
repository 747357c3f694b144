"""Statistics of a family's codes: principal components, compactness, typical and unusual shapes, neighbours.

All functions take codes (S, L) float64, one row a shape, and know nothing of decoders. Distances between codes are
Euclidean in the codes' own unit. For those of the surface, multiply the codes by the root of its metric
(`sdfnet.latents.surface_metric`). Scores are in standard deviations along the components.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from sdfnet.geometry.arrays import BoolArray, FloatArray, IntArray

LEVEL = 0.95
"""Every interval is meant to hold the true value with this probability."""

_FLAT = 1e-10
"""Components with a smaller share of the variance are rounding errors."""

_MOST_COMPONENTS = 0.4
"""Compactness has intervals up to this many components for each shape. A resample has about 0.63 S different shapes."""

_UNUSUAL = 3.5
"""A shape is an outlier if the logarithm of its distance lies this many robust deviations above the median (Iglewicz
and Hoaglin 1993, "How to detect and handle outliers")."""

_MAD = 1.4826
"""The standard deviation of a normal variable is this many times the median absolute deviation."""


@dataclass(frozen=True, eq=False)
class Components:
    """Principal components of codes, the largest variance first.

    Attributes
    ----------
    mean : (L,) float64
    axes : (K, L) float64
        The change of a code for one standard deviation along each component.
    projection : (K, L) float64
        The scores of a code are `projection @ (code - mean)`.
    variances : (K,) float64
        Variance along each component.

    >>> found = fit_components(np.array([[-1.0, 0.0], [0.0, 0.0], [1.0, 0.0]]))
    >>> found.variances.round(6).tolist(), found.axes[0].round(6).tolist()
    ([1.0], [1.0, 0.0])
    """

    mean: FloatArray
    axes: FloatArray
    projection: FloatArray
    variances: FloatArray

    def scores(self, codes: FloatArray) -> FloatArray:
        """Return scores (..., K) of codes (..., L)."""
        return np.asarray((codes - self.mean) @ self.projection.T)

    def codes(self, scores: FloatArray) -> FloatArray:
        """Return codes (..., L) with the first scores (..., J), J at most K; the other scores are 0."""
        return np.asarray(self.mean + scores @ self.axes[: scores.shape[-1]])


def fit_components(codes: FloatArray, *, metric: FloatArray | None = None) -> Components:
    """Return the principal components of codes (S, L). The sign of an axis makes its largest number positive.

    Parameters
    ----------
    metric : (M, L) float64, optional
        The root of a metric: a step (L,) has the length of `metric @ step`. Then variances, axes and projection are
        those of this metric (a generalized eigenproblem): axes are combinations of the codes that are orthogonal in it.
        The default is the identity.

    Raises
    ------
    ValueError
        Fewer than two codes, not finite, or all equal.

    >>> fit_components(np.array([[0.0, 0.0], [0.0, 2.0]])).scores(np.array([0.0, 2.0])).round(3).tolist()
    [0.707]
    """
    _check(codes)
    mean = codes.mean(axis=0)
    away = codes - mean
    measured = away if metric is None else away @ metric.T
    shares, singular, directions = np.linalg.svd(measured, full_matrices=False)
    variances = singular**2 / (len(codes) - 1)
    kept = variances > _FLAT * variances.sum()
    if not kept.any():
        raise ValueError(f"the {len(codes)} codes are all equal: the family has no components")
    variances, directions = variances[kept], directions[kept]
    # A direction of the metric's space is the image of this combination of the codes.
    axes = directions if metric is None else (shares[:, kept] / singular[kept]).T @ away
    signs = np.sign(axes[np.arange(len(axes)), np.abs(axes).argmax(axis=1)])[:, None]
    deviations = np.sqrt(variances)[:, None]
    projection = directions if metric is None else directions @ metric
    return Components(mean, signs * deviations * axes, signs * projection / deviations, variances)


@dataclass(frozen=True, eq=False)
class Estimates:
    """Numbers with the ends of their intervals: three arrays of one shape.

    >>> Estimates(np.array([0.5]), np.array([0.4]), np.array([0.6])).to_list()
    [[0.5, 0.4, 0.6]]
    """

    values: FloatArray
    lower: FloatArray
    upper: FloatArray

    def to_list(self) -> list[Any]:
        """Return [value, lower, upper] of each number, for JSON; None where an end is unknown (NaN)."""
        stacked = np.stack([self.values, self.lower, self.upper], axis=-1).round(6)
        plain: list[Any] = np.where(np.isnan(stacked), None, stacked).tolist()  # type: ignore[call-overload]
        return plain


def compactness(codes: FloatArray, *, num_resamples: int = 1000, generator: torch.Generator) -> Estimates:
    """Return the share of the variance in the first 1, 2, … components, with bootstrap intervals over shapes.

    A resample holds some shapes twice, so that it looks more compact than the family. And few shapes look more compact
    than the population that they come from. The intervals correct this bias, so that they may lie below the value: they
    are pivotal (Davison and Hinkley 1997, equation 5.6) in the logarithm of the share that is left. Simulated normal
    families of 24 and 80 shapes were inside in 80 to 100 and 91 to 94 of 100 cases. Beyond 0.4 S components, resamples
    have nearly nothing left, and the ends are NaN.

    >>> codes = np.array([[-1.0, 0.0], [1.0, 0.0], [0.0, 0.5], [0.0, -0.5]])
    >>> compactness(codes, num_resamples=20, generator=torch.Generator()).values.round(3).tolist()
    [0.8, 1.0]
    """
    _check(codes)
    components = fit_components(codes)
    plain = components.scores(codes) * np.sqrt(components.variances)  # the same family in at most S - 1 numbers
    values = np.cumsum(components.variances) / components.variances.sum()
    resampled = []
    for counts in _resample_counts(len(codes), num_resamples, generator):
        mean = counts @ plain / len(codes)
        covariance = (plain * counts[:, None]).T @ plain - len(codes) * np.outer(mean, mean)
        variances = np.linalg.eigvalsh(covariance)[::-1].clip(min=0)
        if variances.sum() > 0:
            resampled.append(np.cumsum(variances) / variances.sum())
    left, left_resampled = (np.maximum(1 - shares, 1e-12) for shares in (values, np.array(resampled)))
    low, high = np.quantile(left_resampled, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    lower, upper = np.clip(1 - left**2 / low, 0, 1), np.clip(1 - left**2 / high, 0, 1)
    beyond = math.ceil(_MOST_COMPONENTS * len(codes))
    lower[beyond:] = upper[beyond:] = np.nan
    return Estimates(values, lower, upper)


def mean_interval(values: FloatArray, *, num_resamples: int = 1000, generator: torch.Generator) -> Estimates:
    """Return the means over the first axis of values (N, ...), with bootstrap percentile intervals over it.

    >>> mean_interval(np.array([1.0, 3.0]), num_resamples=50, generator=torch.Generator()).values.item()
    2.0
    """
    values = np.asarray(values, dtype=np.float64)
    counts = np.stack(list(_resample_counts(len(values), num_resamples, generator)))
    means = np.tensordot(counts / len(values), values, axes=1)
    lower, upper = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    return Estimates(values.mean(axis=0), lower, upper)


def typical_distances(codes: FloatArray) -> FloatArray:
    """Return how far each code (S, L) is from what the other codes lead one to expect, (S,).

    The distance is the root of the squared Mahalanobis distance per dimension: about 1 for a typical shape. Mean and
    covariance are those of the other codes. The covariance is shrunk towards a multiple of the identity, because there
    are often fewer shapes than numbers in a code (oracle approximating shrinkage).

    References: Chen, Wiesel, Eldar and Hero 2010, "Shrinkage algorithms for MMSE covariance estimation", equation 23.

    >>> generator = np.random.default_rng(0)
    >>> codes = generator.normal(size=(50, 3))
    >>> codes[7] = 9.0
    >>> int(typical_distances(codes).argmax())
    7
    """
    _check(codes)
    components = fit_components(codes)
    scores = components.scores(codes)  # variances 1: leaving one out is then a formula
    size, num = len(components.variances), len(codes)
    shrinkage = oracle_shrinkage(components.variances, num)
    # In the scores, a covariance (1 - s) C + s m I has the entries below on its diagonal; C without row i is a
    # rank-one change of C (Sherman and Morrison).
    target = shrinkage * components.variances.mean() / components.variances
    # C without row i, about its own mean: (num - 1) / (num - 2) C - num / ((num - 1) (num - 2)) x x'.
    grown = (1 - shrinkage) * (num - 1) / max(num - 2, 1) + target
    weight = (1 - shrinkage) * num / ((num - 1) * max(num - 2, 1))
    lengths = (scores**2 / grown).sum(axis=1)
    left_out = lengths / np.maximum(1 - weight * lengths, 1e-12)
    return np.asarray(np.sqrt(left_out / size) * num / (num - 1))


def outliers(distances: FloatArray) -> BoolArray:
    """Tell which of the typical distances (S,) are unusually large.

    >>> outliers(np.array([1.0, 1.1, 0.9, 1.05, 6.0])).tolist()
    [False, False, False, False, True]
    """
    logs = np.log(np.maximum(distances, 1e-12))
    middle = np.median(logs)
    spread = _MAD * np.median(np.abs(logs - middle))
    return np.asarray(logs - middle > _UNUSUAL * max(spread, 0.02))


def nearest_neighbours(codes: FloatArray, num: int) -> tuple[IntArray, FloatArray]:
    """Return, for each code (S, L), the `num` other codes that are nearest and their distances, (S, num) each.

    >>> nearest_neighbours(np.array([[0.0], [1.0], [5.0]]), 1)[0].ravel().tolist()
    [1, 0, 1]
    """
    num = min(num, len(codes) - 1)
    squares = (codes**2).sum(axis=1)
    squared = squares[:, None] + squares[None] - 2 * codes @ codes.T
    np.fill_diagonal(squared, math.inf)
    order = np.argsort(squared, axis=1, kind="stable")[:, :num]
    return order, np.sqrt(np.take_along_axis(squared, order, axis=1).clip(min=0))


def oracle_shrinkage(variances: FloatArray, num: int, *, size: int | None = None) -> float:
    """Return the share of the identity in a shrunk covariance of `num` vectors with these principal variances.

    `size` is the length of the vectors, if it is larger than the number of variances.

    References: Chen, Wiesel, Eldar and Hero 2010, "Shrinkage algorithms for MMSE covariance estimation", equation 23.

    >>> round(oracle_shrinkage(np.ones(4), 10), 3), round(oracle_shrinkage(np.array([9.0, 1.0]), 1000), 3)
    (1.0, 0.003)
    """
    size = len(variances) if size is None else size
    square, trace = float((variances**2).sum()), float(variances.sum()) ** 2
    below = (num + 1 - 2 / size) * (square - trace / size)
    return min(1.0, ((1 - 2 / size) * square + trace) / below) if below > 0 else 1.0


def farthest_first(points: FloatArray, most: int) -> list[int]:
    """Return the rows of up to `most` points (N, D), each as far as possible from all before it.

    The first is the farthest from the mean.

    >>> farthest_first(np.array([[0.0], [1.0], [5.0], [9.0]]), 3)
    [3, 0, 2]
    """
    chosen = [int(np.linalg.norm(points - points.mean(axis=0), axis=1).argmax())]
    away = np.full(len(points), np.inf)
    while len(chosen) < min(most, len(points)):
        away = np.minimum(away, ((points - points[chosen[-1]]) ** 2).sum(axis=1))
        chosen.append(int(away.argmax()))
    return chosen


def _check(codes: FloatArray) -> None:
    if codes.ndim != 2 or len(codes) < 2:
        raise ValueError(f"codes must have shape (S, L) with at least 2 shapes, got {codes.shape}")
    if not np.isfinite(codes).all():
        raise ValueError("codes must be finite; was the training broken off before its first result?")


def _resample_counts(size: int, num_resamples: int, generator: torch.Generator) -> FloatArray:
    """Return how often each shape is in each bootstrap resample, (num_resamples, size)."""
    drawn = torch.randint(size, (num_resamples, size), generator=generator)
    counts = torch.zeros(num_resamples, size, dtype=torch.float64)
    return counts.scatter_add_(1, drawn, torch.ones_like(counts)).numpy()
