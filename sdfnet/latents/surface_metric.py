"""How far the surface moves when a code changes: a metric of codes in which components are those of the surface.

A step of one unit in a code moves the surface far along some directions and hardly along others. Distances and
principal components of plain codes do not see the difference. The metric of a direction is the mean square of the
movement along the normal, to first order: the change of the field divided by its slope, over points of learned
surfaces. It needs no correspondence, so it holds for any decoder.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from sdfnet.fields.adaptors import NeuralField
from sdfnet.fields.base import gradient
from sdfnet.geometry.arrays import FloatArray
from sdfnet.geometry.similarity import UNIT_RADIUS
from sdfnet.latents.arc_length import MIN_SLOPE, even_points
from sdfnet.latents.statistics import Components, farthest_first, fit_components
from sdfnet.runs.run import Run

_STEP = 0.1
"""Standard deviations along each component over which the field is differentiated. Shorter steps drown in rounding."""

_MOST_DECODED, _LEAST_SURFACES, _MOST_SURFACES = 2000, 4, 24
"""The number of surfaces is such that about this many codes are decoded, between these bounds."""

_NUM_POINTS = 300
_TOGETHER = 16
"""Points on each surface, and codes that are decoded at once."""

_ROUNDS, _DAMPING = 3, 1e-4
"""Gauss-Newton steps of `nearest_code`, and their damping as a share of the largest squared movement."""


def surface_metric(run: Run, codes: FloatArray) -> FloatArray:
    """Return the root (K, L) of the metric of codes (S, L), the shapes of `run` or some of them.

    `root @ step` has the length of the movement of the surface for a small step (L,) of a code: its root mean square
    along the normal, over learned surfaces, as a share of the radius. The metric is that of the directions in which the
    codes differ. It is exact to first order, and deterministic.

    Raises
    ------
    ValueError
        The codes are all equal, or none of them has a surface yet.

    >>> from sdfnet.runs import load_run
    >>> run = load_run("runs/chairs")
    >>> surface_metric(run, run.latents.double().numpy()).shape
    (1, 2)
    """
    plain = fit_components(codes)
    steps = torch.from_numpy(_STEP * plain.axes).to(run.latents)
    num = min(max(_MOST_DECODED // len(steps), _LEAST_SURFACES), _MOST_SURFACES)
    squares, used = np.zeros((len(steps), len(steps))), 0
    for row in farthest_first(codes, num):
        latent = torch.from_numpy(codes[row]).to(run.latents)
        points = _some_points(NeuralField(run.decoder, latent))
        if len(points):
            _, moved = _movements(run, latent, steps, points)
            squares += moved.T @ moved / (_STEP**2 * len(points))
            used += 1
    if not used:
        raise ValueError(f"no shape of {run.directory} has a surface yet: train longer")
    values, vectors = np.linalg.eigh(squares / used)
    root = np.sqrt(values.clip(min=0))[:, None] * vectors.T
    return np.asarray(root @ plain.projection / UNIT_RADIUS)


def nearest_code(run: Run, components: Components, code: FloatArray, num: int) -> FloatArray:
    """Return the code (L,) of the first `num` components whose surface is nearest to the surface of `code` (L,).

    Nearest is meant in the root mean square of the distances from the surface of `code`. The search starts from the
    scores of `code` and takes Gauss-Newton steps, none of which makes the distance longer.

    >>> from sdfnet.runs import load_run
    >>> run = load_run("runs/chairs")
    >>> codes = run.latents.double().numpy()
    >>> bool(np.allclose(nearest_code(run, fit_components(codes), codes[0], 1), codes[0], atol=1e-2))
    True
    """
    points = _some_points(NeuralField(run.decoder, torch.from_numpy(code).to(run.latents)))
    scores, axes = components.scores(code)[:num], components.axes[:num]
    num = len(scores)
    if not (num and len(points)):
        return components.codes(scores)
    steps = torch.from_numpy(_STEP * axes).to(run.latents)

    def around(scores: FloatArray) -> tuple[FloatArray, FloatArray]:
        away, moved = _movements(run, torch.from_numpy(components.codes(scores)).to(run.latents), steps, points)
        return away, moved / _STEP

    away, moved = around(scores)
    for _ in range(_ROUNDS):
        squares = moved.T @ moved
        squares += _DAMPING * max(squares.diagonal().max(), 1e-300) * np.eye(num)
        tried = scores - np.linalg.solve(squares, moved.T @ away)
        new_away, new_moved = around(tried)
        if not (new_away**2).sum() < (away**2).sum():
            break
        scores, away, moved = tried, new_away, new_moved
    return components.codes(scores)


def _some_points(field: NeuralField) -> Tensor:
    """Return points (N, 3) spread evenly over a surface; none where there is no surface."""
    points = even_points(field)
    return points[:: 1 + len(points) // _NUM_POINTS]


def _movements(run: Run, latent: Tensor, steps: Tensor, points: Tensor) -> tuple[FloatArray, FloatArray]:
    """Return how far points (N, 3) are outside the surface of a code, (N,), and how much each step (K, L) changes this.

    Distances are to first order, unit frame; the changes are (N, K).
    """
    slopes = gradient(NeuralField(run.decoder, latent), points).norm(dim=-1).clamp_min(MIN_SLOPE)
    latents = torch.cat([latent[None], latent + steps])
    with torch.inference_mode():
        parts = [run.decoder(points.expand(len(each), -1, 3), each) for each in latents.split(_TOGETHER)]
    distances = (torch.cat(parts) / slopes).double().cpu().numpy()
    return distances[0], (distances[1:] - distances[0]).T
