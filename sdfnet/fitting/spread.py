"""How sure a completed shape is: the spread at each vertex, which part was seen, and other shapes that agree as well.

All of it comes from the normal distribution of code and pose about their mode (Laplace approximation), carried to the
surface by the derivative of the field. Where a residual is added or could be, its deviation rises from the noise at the
data to its prior value one correlation length away (the kriging variance of the nearest datum).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from scipy.cluster.vq import kmeans2
from scipy.spatial import cKDTree
from torch import Tensor

from sdfnet.fitting.complete import Fit, part_residual, residual_process
from sdfnet.fitting.posterior import MODEL_STD, Problem
from sdfnet.geometry.arrays import BoolArray, FloatArray, IntArray
from sdfnet.geometry.similarity import Similarity
from sdfnet.mesh.mesh import Mesh

_MOST_VERTICES = 3000
"""Vertices whose spread is computed; the others take that of the nearest."""

_SEEN = 0.03
"""A vertex is seen if an observed point lies within this distance, unit frame, or within twice their usual spacing."""

_DRAWS, _SAME = 1000, 7e-4
"""Draws from the posterior that hypotheses are made of. Hypotheses whose surfaces differ by less than the second value
on average, unit frame, are one."""

_ENOUGH_HIDDEN = 100
"""With so many vertices that the input does not show, hypotheses differ there; else, anywhere."""


@dataclass(frozen=True, eq=False)
class VertexSpread:
    """What is known of each vertex of a completed shape.

    Attributes
    ----------
    spread : (V,) float64
        Standard deviation of the surface along its normal, world units.
    distance : (V,) float64
        To the nearest observed point that is no outlier, world units.
    seen : (V,) bool
        Whether the input shows the surface there.
    """

    spread: FloatArray
    distance: FloatArray
    seen: BoolArray


@dataclass(frozen=True, eq=False)
class Hypothesis:
    """One shape that agrees with the observation.

    Attributes
    ----------
    coordinates : (Q,) float64
        The code along the principal directions.
    similarity : Similarity
        Its place.
    residual : Tensor or None
        Its correction (R, R, R), with `refine="shape"`.
    probability : float
        The share of the posterior that lies nearest to this shape.
    """

    coordinates: Tensor
    similarity: Similarity
    residual: Tensor | None
    probability: float


def vertex_spread(fit: Fit, index: int, mesh: Mesh) -> VertexSpread:
    """Return the spread of the completed shape number `index` at the vertices of its `mesh`, world frame.

    >>> import numpy as np
    >>> import sdfnet
    >>> from sdfnet.fitting import CompletionConfig, fit
    >>> from sdfnet.fitting.observations import surface_part
    >>> run, mesh = sdfnet.load_run("runs/chairs"), sdfnet.read_mesh("chairs/chair_00.obj")
    >>> top = mesh.vertices[mesh.vertices[:, 1] > np.median(mesh.vertices[:, 1])]
    >>> done = fit(run, surface_part(top, noise_std=0.5), config=CompletionConfig("none", frame_of="chair_00"))
    >>> known = vertex_spread(done, 0, mesh)
    >>> known.spread.shape == (len(mesh.vertices),), bool(known.seen.any())
    (True, True)
    """
    part, posterior = fit.parts[index], fit.posteriors[index]
    points = posterior.similarity.to_unit(mesh.vertices)
    distance = _distance_to_input(fit, index, points)
    chosen = np.random.default_rng(0).permutation(len(points))[:_MOST_VERTICES]
    moved = _surface_derivative(fit, index, points[chosen])
    by_posterior = np.einsum("ni,ij,nj->n", moved, posterior.covariance.numpy(), moved)
    nearest = cKDTree(points[chosen]).query(points)[1]
    noise = float(np.median(part.noise_std[part.is_surface])) * posterior.similarity.scale
    process = residual_process(part, posterior)
    known = np.zeros(len(points))
    if fit.config.refine == "shape":
        known = process.kernel(torch.from_numpy(distance)).numpy() / process.std**2
    free = np.maximum(by_posterior[nearest], 0.0) + process.std**2
    spread = np.sqrt(free * (1 - known**2) + noise**2 * known**2) / posterior.similarity.scale
    return VertexSpread(spread, distance / posterior.similarity.scale, distance < seen_distance(fit, index))


def _distance_to_input(fit: Fit, index: int, points: FloatArray) -> FloatArray:
    """Return the distance of points to the nearest observed surface point that is believed, unit frame."""
    return np.asarray(cKDTree(_believed(fit, index)).query(points)[0])


def _believed(fit: Fit, index: int) -> FloatArray:
    part, posterior = fit.parts[index], fit.posteriors[index]
    surface = posterior.similarity.to_unit(part.surface)
    problem = Problem(fit.run, fit.prior, fit.config)
    sdf = problem.values(torch.from_numpy(surface), posterior.coordinates[None])[0].numpy()
    noise = part.noise_std[part.is_surface] * posterior.similarity.scale
    good = np.abs(sdf) < 4 * np.hypot(noise, 4 * MODEL_STD)
    return surface[good] if good.any() else surface


def seen_distance(fit: Fit, index: int) -> float:
    """Return how near an input point the surface counts as seen, unit frame.

    >>> import sdfnet
    >>> from sdfnet.fitting import CompletionConfig, fit
    >>> from sdfnet.fitting.observations import surface_part
    >>> run, mesh = sdfnet.load_run("runs/chairs"), sdfnet.read_mesh("chairs/chair_00.obj")
    >>> part = surface_part(mesh.vertices, noise_std=0.5)
    >>> done = fit(run, part, config=CompletionConfig("none", frame_of="chair_00"))
    >>> seen_distance(done, 0) >= 0.03
    True
    """
    surface = _believed(fit, index)
    if len(surface) < 2:
        return _SEEN
    spacing = float(np.median(cKDTree(surface).query(surface[:2000], k=2)[0][:, 1]))
    return max(_SEEN, 2 * spacing)


def _surface_derivative(fit: Fit, index: int, points: FloatArray) -> FloatArray:
    """Return how far the surface moves along its normal at points (N, 3), by code and pose, (N, Q + 7), unit frame."""
    part, posterior = fit.parts[index], fit.posteriors[index]
    problem = Problem(fit.run, fit.prior, fit.config)
    where = torch.from_numpy(np.asarray(points))
    sdf = problem.values(where, posterior.coordinates[None])[0]
    middle = torch.from_numpy(np.median(posterior.similarity.to_unit(part.surface), axis=0))
    jacobian, slope = problem.jacobian(where, sdf, posterior.coordinates, middle)
    return np.asarray((-jacobian / slope.norm(dim=1, keepdim=True).clamp(min=0.2)).numpy())


def draw_hypotheses(fit: Fit, index: int, mesh: Mesh, count: int, *, seed: int = 0) -> list[Hypothesis]:
    """Return up to `count` different shapes that agree with the observation, the most probable first.

    Draws from the posterior of code and pose are grouped by where they put the surface that the input does not show
    (k-means). A hypothesis is the mean of a group, and its probability the share of the group. `mesh` is the completed
    shape, world frame. Where the observation leaves no room, fewer hypotheses come back, at least one.

    Raises
    ------
    ValueError
        `count` below 1.

    >>> import sdfnet
    >>> from sdfnet.fitting import CompletionConfig, fit
    >>> from sdfnet.fitting.observations import surface_part
    >>> run, mesh = sdfnet.load_run("runs/chairs"), sdfnet.read_mesh("chairs/chair_00.obj")
    >>> part = surface_part(mesh.vertices[:500], noise_std=0.5)
    >>> done = fit(run, part, config=CompletionConfig("none", frame_of="chair_00"))
    >>> 1 <= len(draw_hypotheses(done, 0, mesh, 2)) <= 2
    True
    """
    if count < 1:
        raise ValueError(f"count must be at least 1, got {count}")
    posterior = fit.posteriors[index]
    generator = torch.Generator().manual_seed(seed)
    size = len(posterior.covariance)
    factor = torch.linalg.cholesky(posterior.covariance + 1e-12 * torch.eye(size, dtype=torch.float64))
    deltas = (factor @ torch.randn(size, _DRAWS, dtype=torch.float64, generator=generator)).T.numpy()
    places = posterior.similarity.to_unit(mesh.vertices)
    hidden = np.flatnonzero(_distance_to_input(fit, index, places) >= seen_distance(fit, index))
    candidates = hidden if len(hidden) >= _ENOUGH_HIDDEN else np.arange(len(places))
    chosen = np.random.default_rng(seed).permutation(candidates)[:400]
    surfaces = deltas @ _surface_derivative(fit, index, places[chosen]).T
    groups = _group(surfaces, count, seed)
    problem, part = Problem(fit.run, fit.prior, fit.config), fit.parts[index]
    found = []
    for members in groups:
        delta = torch.from_numpy(deltas[members].mean(axis=0))
        coordinates, place = problem.moved(posterior.coordinates, posterior.similarity, part, delta)
        residual = None
        if fit.config.refine == "shape":
            moved = type(posterior)(coordinates, place, posterior.covariance, 0.0, posterior.misfit, posterior.weights)
            residual = part_residual(problem, part, moved)
        found.append(Hypothesis(coordinates, place, residual, len(members) / _DRAWS))
    return found


def _group(surfaces: FloatArray, count: int, seed: int) -> list[IntArray]:
    """Return the rows of each group of draws (M, V), the largest first; groups that are alike are one."""
    for wanted in range(min(count, len(surfaces)), 1, -1):
        _, labels = kmeans2(surfaces, wanted, minit="++", rng=np.random.default_rng(seed))
        groups = [np.flatnonzero(labels == label) for label in range(wanted)]
        groups = [group for group in groups if len(group)]
        centers = np.stack([surfaces[group].mean(axis=0) for group in groups])
        apart = [np.abs(a - b).mean() for i, a in enumerate(centers) for b in centers[:i]]
        if len(groups) == wanted and min(apart, default=math.inf) > _SAME:
            return sorted(groups, key=len, reverse=True)
    return [np.arange(len(surfaces))]
