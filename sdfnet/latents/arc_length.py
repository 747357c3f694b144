"""How far the surface travels along a path.

Travel is normal to the surface: a place on the surface of the field f moves by |Δf| / |∇f|, whatever slides along the
surface unseen. In the world, what the similarity moves is added to it before the mean over the surface is taken.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sdfnet.decoders import Decoder
from sdfnet.extraction.projection import project_to_level
from sdfnet.fields.base import evaluate, gradient
from sdfnet.fields.neural import NeuralField
from sdfnet.geometry.bounds import LATTICE_MARGIN

_SPACING = 0.08
"""Of the coarse lattice, each of whose nodes near the surface stands for 3³ finer ones: at half as many along each axis
the spindles of a chair, as they come and go, are too few points."""

_TURNS = ((0.7, 0.4, 1.1), (-0.9, 0.8, 0.3))
"""Rotation vectors of two lattices, which take turns from code to code. Along the axes of the world a seat would meet
all nodes of a plane or none; and what one lattice misses, the other may meet."""

_REACH, _STEEPEST = 0.08, 2.0
"""Farthest from the surface that a coarse node is asked for finer ones, which are at most 0.047 away from it: to first
order, and by value where no slope is above the steepest."""

_MOST_NEAR = 1500
"""Coarse nodes near the surface: some 800 on a body or a chair. Of more than this, as untrained networks have, every
n-th is taken."""

_CHUNK = 4096
"""Points per call: small ones stay in the cache, which is three times faster for the default decoder."""

_STEPS = 2
_ON_SURFACE = 0.05
"""A projected point counts if its value is below this share of the spacing: near a piece not yet born none does."""

_FLATTEST = 0.3
"""A slope below it is taken for it: where two sheets meet the gradient vanishes, but nothing moves infinitely fast."""


@dataclass(frozen=True, eq=False)
class _TurnedLattice:
    """Coarse nodes (N, 3), and what leads from one of them to the finer nodes that it stands for, (27, 3)."""

    nodes: Tensor
    around: Tensor

    @classmethod
    def over_unit_bounds(cls, turn: tuple[float, float, float], *, like: Tensor) -> _TurnedLattice:
        from scipy.spatial.transform import Rotation

        axes = torch.from_numpy(Rotation.from_rotvec(turn).as_matrix()).to(like)
        reach = 1 + LATTICE_MARGIN
        steps = torch.arange(math.ceil(math.sqrt(3) * reach / _SPACING) + 1).to(like)
        steps = torch.cat([-steps[1:].flip(0), steps]) * _SPACING
        nodes = torch.cartesian_prod(steps, steps, steps) @ axes
        fine = torch.tensor([-1.0, 0.0, 1.0]).to(like) * _SPACING / 3
        return cls(nodes[(nodes.abs() <= reach).all(dim=1)], torch.cartesian_prod(fine, fine, fine) @ axes)


def surface_travel(decoder: Decoder, latents: Tensor, places: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean travel of the surface from each of T codes to the next, (T - 1,), world lengths.

    It is the mean of both ways: from some 4,000 points of each surface, even by area, to the other, to first order.

    Parameters
    ----------
    latents : (T, L)
        Codes along the path, at least two.
    places : (T, 4) float64
        Centre in the world and logarithm of the scale (unit lengths per world length) of each.

    Raises
    ------
    ValueError
        Fewer than two codes; places that do not fit them.

    >>> from sdfnet.decoders import build_decoder, DeepSDFConfig
    >>> still = torch.zeros(2, 8)
    >>> surface_travel(build_decoder(DeepSDFConfig(latent_size=8, width=16)), still, np.zeros((2, 4))).tolist()
    [0.0]
    """
    if len(latents) < 2 or places.shape != (len(latents), 4):
        raise ValueError(
            "latents must be two codes or more, and places (the same number, 4), "
            f"got {tuple(latents.shape)} and {places.shape}"
        )
    lattices = [_TurnedLattice.over_unit_bounds(turn, like=latents) for turn in _TURNS]
    before = NeuralField(decoder, latents[0])
    surface = _even_points(before, lattices[0])
    travels = []
    for k in range(1, len(latents)):
        after = NeuralField(decoder, latents[k])
        reached = _even_points(after, lattices[k % 2])
        between, moved = (places[k - 1] + places[k]) / 2, places[k] - places[k - 1]
        ways = [_distances(before, after, surface, between, moved), _distances(after, before, reached, between, -moved)]
        means = [float(way.mean()) for way in ways if len(way)]
        travels.append(sum(means) / len(means) if means else 0.0)
        before, surface = after, reached
    return np.array(travels)


def surface_points(field: NeuralField, nodes: Tensor, spacing: float) -> Tensor:
    """Return points (N, 3) of the surface, even by area: the lattice nodes in a layer around it, projected.

    The layer is one `spacing` thick, so the points are about the area over the square of the spacing.
    """
    near, values = _nodes_near(field, nodes, spacing)  # slopes of a network are seldom above 2
    layer = spacing / 2 * gradient(field, near, chunk_size=_CHUNK).norm(dim=-1).clamp_min(_FLATTEST)
    points = near[values < layer]
    points = project_to_level(field, points, steps=_STEPS, reach=spacing, chunk_size=_CHUNK)
    return points[evaluate(field, points, chunk_size=_CHUNK).abs() < _ON_SURFACE * spacing]


def _even_points(field: NeuralField, lattice: _TurnedLattice) -> Tensor:
    """Return `surface_points` on a fine lattice, of which only what may be near the surface is evaluated."""
    near, values = _nodes_near(field, lattice.nodes, _REACH * _STEEPEST)
    steepness = gradient(field, near, chunk_size=_CHUNK).norm(dim=-1).clamp_min(_FLATTEST)
    near = near[values < _REACH * steepness]
    near = near[:: 1 + len(near) // _MOST_NEAR]
    return surface_points(field, (near[:, None] + lattice.around).reshape(-1, 3), _SPACING / 3)


def _nodes_near(field: NeuralField, nodes: Tensor, value: float) -> tuple[Tensor, Tensor]:
    """Return those nodes at which the field is below `value`, whichever its sign, and its absolute values there."""
    values = evaluate(field, nodes, chunk_size=_CHUNK).abs()
    return nodes[values < value], values[values < value]


def _distances(
    own: NeuralField, other: NeuralField, points: Tensor, between: NDArray[np.float64], moved: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return how far the surface goes from `points` of `own` to that of `other`, where places change by `moved`."""
    slope = gradient(other, points, chunk_size=_CHUNK)
    steepness = slope.norm(dim=-1)
    normals = (slope / steepness.clamp_min(1e-12)[:, None]).double().cpu().numpy()
    # By how much the field changes: projected points may be farther from the surface than it travels in a step.
    change = evaluate(other, points, chunk_size=_CHUNK) - evaluate(own, points, chunk_size=_CHUNK)
    outward_unit = -change / steepness.clamp_min(_FLATTEST)
    outward = outward_unit.double().cpu().numpy()
    # A fixed place x of the unit frame is at x / s + c in the world, which moves by dc - x / s * d(log s). Taken
    # half-way between the surfaces, the error is of third order.
    scale = np.exp(between[3])
    half_way = points.double().cpu().numpy() + outward[:, None] / 2 * normals
    carried = moved[:3] - half_way / scale * moved[3]
    return np.asarray(np.abs(outward / scale + (normals * carried).sum(axis=1)))
