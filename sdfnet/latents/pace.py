"""How far the surface travels along a path.

Travel is normal to the surface: a place on the surface of the field f moves by |∂f/∂t| / |∇f|, whatever slides along
the surface unseen. In the world, what the similarity moves is added to it before the mean over the surface is taken.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sdfnet.decoders import Decoder
from sdfnet.fields.base import evaluate, gradient
from sdfnet.fields.neural import NeuralField
from sdfnet.geometry.bounds import UNIT_BOUNDS, Lattice
from sdfnet.surfacing.projection import project_to_level

_RESOLUTION = 40
"""Of the lattice whose nodes near the surface are projected onto it: some 900 points on a body or a chair."""

_CHUNK = 4096
"""Points per call: small ones stay in the cache, which is three times faster for the default decoder."""

_STEPS = 3
_ON_SURFACE = 0.05
"""A projected point counts if its value is below this share of the spacing: near a piece not yet born none does."""

_FLATTEST = 0.3
"""A slope below it is taken for it: where two sheets meet the gradient vanishes, but nothing moves infinitely fast."""


def surface_travel(decoder: Decoder, latents: Tensor, places: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean travel of the surface over each of S steps of a path, (S,), world lengths.

    The surface is taken half-way through each step (some 900 points, even by area), its travel from the values there
    at both ends of the step; the error falls as the square of the step.

    Parameters
    ----------
    latents : (2 S + 1, L)
        Codes at both ends and in the middle of the steps.
    places : (2 S + 1, 4) float64
        Centre in the world and logarithm of the scale (unit lengths per world length) at the same times.

    Raises
    ------
    ValueError
        An even number of codes, or fewer than three; places that do not fit them.

    >>> import math
    >>> from sdfnet.decoders import build_decoder, DeepSDFConfig
    >>> still = torch.zeros(3, 256)
    >>> surface_travel(build_decoder(DeepSDFConfig()), still, np.zeros((3, 4))).tolist()
    [0.0]
    """
    if len(latents) < 3 or len(latents) % 2 == 0 or places.shape != (len(latents), 4):
        raise ValueError(
            "latents must be an odd number of codes, three or more, and places (the same number, 4), "
            f"got {tuple(latents.shape)} and {places.shape}"
        )
    lattice = Lattice.over(UNIT_BOUNDS, _RESOLUTION)
    nodes = torch.from_numpy(lattice.slab(0, lattice.shape[0]).reshape(-1, 3)).to(latents)
    before = NeuralField(decoder, latents[0])
    travels = []
    for middle in range(1, len(latents), 2):
        after = NeuralField(decoder, latents[middle + 1])
        field = NeuralField(decoder, latents[middle])
        points = surface_points(field, nodes, lattice.spacing)
        travels.append(_mean_travel(field, points, before, after, places[middle - 1 : middle + 2]))
        before = after
    return np.array(travels)


def surface_points(field: NeuralField, nodes: Tensor, spacing: float) -> Tensor:
    """Return points (N, 3) of the surface, even by area: the lattice nodes in a layer around it, projected.

    The layer is one `spacing` thick, so the points are about the area over the square of the spacing.
    """
    sdf = evaluate(field, nodes, chunk_size=_CHUNK)
    near = nodes[sdf.abs() < spacing]  # slopes of a network are seldom above 2
    slope = gradient(field, near)
    points = near[evaluate(field, near).abs() < spacing / 2 * slope.norm(dim=-1).clamp_min(_FLATTEST)]
    points = project_to_level(field, points, steps=_STEPS, reach=spacing)
    return points[evaluate(field, points).abs() < _ON_SURFACE * spacing]


def _mean_travel(
    field: NeuralField, points: Tensor, before: NeuralField, after: NeuralField, places: NDArray[np.float64]
) -> float:
    """Return the mean normal travel at `points` of the middle surface; `places` (3, 4) are at start, middle, end."""
    if not len(points):
        return 0.0
    slope = gradient(field, points)
    steepness = slope.norm(dim=-1)
    normals = (slope / steepness.clamp_min(1e-12)[:, None]).double().cpu().numpy()
    outward = evaluate(before, points) - evaluate(after, points)
    travel_unit = (outward / steepness.clamp_min(_FLATTEST)).double().cpu().numpy()
    # A fixed place x of the unit frame is at x / s + c in the world, which moves by dc - x / s * d(log s).
    scale = np.exp(places[1, 3])
    moved = places[2] - places[0]
    carried = moved[:3] - points.double().cpu().numpy() / scale * moved[3]
    return float(np.abs(travel_unit / scale + (normals * carried).sum(axis=1)).mean())
