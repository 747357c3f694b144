"""Arc length of a path of codes: how far the surface moves from each code to the next.

Displacement is measured along the normal. A point on the surface of the field f moves by |Δf| / |∇f|. Sliding along
the surface does not count. The similarity adds the motion of the frame in the world to each displacement; then the mean
over the surface is taken.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from sdfnet.decoders import Decoder
from sdfnet.extraction.projection import project_to_level
from sdfnet.fields.adaptors import NeuralField
from sdfnet.fields.base import evaluate, gradient
from sdfnet.geometry.arrays import FloatArray
from sdfnet.geometry.bounds import LATTICE_MARGIN

_SPACING = 0.08
"""The spacing of the coarse lattice. Each coarse node near the surface stands for 3³ finer nodes. With fewer nodes,
thin parts such as the spindles of a chair get too few points."""

_ROTATIONS = ((0.7, 0.4, 1.1), (-0.9, 0.8, 0.3))
"""The rotation vectors of two lattices, which alternate from code to code. In a lattice along the world's axes, a flat
seat would contain a whole layer of nodes or none."""

_REACH, _MAX_SLOPE = 0.08, 2.0
"""A coarse node is refined if it is nearer to the surface than the first number; its finer nodes are at most 0.047
away. The slope of a network is seldom above the second number."""

_MAX_NODES = 1500
"""The number of coarse nodes near the surface is limited to this. A body or a chair has about 800. If an untrained
network has more nodes, only every n-th node is used."""

_CHUNK = 4096
"""Points per call: small chunks stay in the cache, which is three times faster for the default decoder."""

_STEPS = 2
_ON_SURFACE = 0.05
"""A projected point counts if its value is below this share of the spacing."""

MIN_SLOPE = 0.3
"""Smaller slopes are replaced by this one. Where two sheets meet, the slope is zero, but no point moves infinitely
fast."""


def surface_displacements(decoder: Decoder, latents: Tensor, places: FloatArray) -> FloatArray:
    """Return the mean displacement (T - 1,) of the surface from each of T codes to the next, in world lengths.

    About 4,000 points are spread evenly by area over each surface. The result is the mean of both directions: from the
    points of each surface to the other surface. The distances are accurate to first order.

    Parameters
    ----------
    latents : (T, L)
        Codes along the path, at least two.
    places : (T, 4) float64
        For each code, its centre in the world and the logarithm of its scale (unit lengths per world length).

    Raises
    ------
    ValueError
        Fewer than two codes, or places of another shape than (T, 4).

    >>> from sdfnet.decoders import build_decoder, DeepSDFConfig
    >>> still = torch.zeros(2, 8)
    >>> decoder = build_decoder(DeepSDFConfig(latent_size=8, width=16))
    >>> surface_displacements(decoder, still, np.zeros((2, 4))).tolist()
    [0.0]
    """
    if len(latents) < 2 or places.shape != (len(latents), 4):
        raise ValueError(
            "latents must be two codes or more, and places (the same number, 4), "
            f"got {tuple(latents.shape)} and {places.shape}"
        )
    lattices = [_rotated_lattice(rotation, like=latents) for rotation in _ROTATIONS]
    before = NeuralField(decoder, latents[0])
    points_before = _even_points(before, *lattices[0])
    displacements = []
    for k in range(1, len(latents)):
        after = NeuralField(decoder, latents[k])
        points_after = _even_points(after, *lattices[k % 2])
        between, moved = (places[k - 1] + places[k]) / 2, places[k] - places[k - 1]
        both = [
            _distances(before, after, points_before, between, moved),
            _distances(after, before, points_after, between, -moved),
        ]
        means = [float(distances.mean()) for distances in both if len(distances)]
        displacements.append(sum(means) / len(means) if means else 0.0)
        before, points_before = after, points_after
    return np.array(displacements)


def even_points(field: NeuralField) -> Tensor:
    """Return about 4,000 points (N, 3) of the surface of a field, spread evenly by area; none without a surface.

    >>> from sdfnet.runs import load_run
    >>> run = load_run("runs/chairs")
    >>> even_points(run.field("chair_00")).shape[1]
    3
    """
    return _even_points(field, *_rotated_lattice(_ROTATIONS[0], like=field.latent))


def _rotated_lattice(rotation: tuple[float, float, float], *, like: Tensor) -> tuple[Tensor, Tensor]:
    """Return the nodes (N, 3) of a coarse lattice, and the offsets (27, 3) from a node to its finer nodes."""
    from scipy.spatial.transform import Rotation

    axes = torch.from_numpy(Rotation.from_rotvec(rotation).as_matrix()).to(like)
    reach = 1 + LATTICE_MARGIN
    steps = torch.arange(math.ceil(math.sqrt(3) * reach / _SPACING) + 1).to(like)
    steps = torch.cat([-steps[1:].flip(0), steps]) * _SPACING
    nodes = torch.cartesian_prod(steps, steps, steps) @ axes
    fine = torch.tensor([-1.0, 0.0, 1.0]).to(like) * _SPACING / 3
    return nodes[(nodes.abs() <= reach).all(dim=1)], torch.cartesian_prod(fine, fine, fine) @ axes


def _even_points(field: NeuralField, nodes: Tensor, offsets: Tensor) -> Tensor:
    """Return points (N, 3) of the surface, spread evenly by area.

    The points are the fine nodes in a layer around the surface, projected onto the surface. The layer is one fine
    spacing thick, so each point stands for an area of about one squared fine spacing.
    """
    near, spacing = _nodes_near(field, nodes, _REACH), _SPACING / 3
    near = near[:: 1 + len(near) // _MAX_NODES]
    points = _nodes_near(field, (near[:, None] + offsets).reshape(-1, 3), spacing / 2)
    points = project_to_level(field, points, steps=_STEPS, reach=spacing, chunk_size=_CHUNK)
    return points[evaluate(field, points, chunk_size=_CHUNK).abs() < _ON_SURFACE * spacing]


def _nodes_near(field: NeuralField, nodes: Tensor, reach: float) -> Tensor:
    """Return the nodes whose distance to the surface, to first order, is below `reach`."""
    values = evaluate(field, nodes, chunk_size=_CHUNK).abs()
    likely = values < reach * _MAX_SLOPE
    slopes = gradient(field, nodes[likely], chunk_size=_CHUNK).norm(dim=-1).clamp_min(MIN_SLOPE)
    return nodes[likely][values[likely] < reach * slopes]


def _distances(
    own: NeuralField, other: NeuralField, points: Tensor, between: FloatArray, moved: FloatArray
) -> FloatArray:
    """Return the distances from `points` on the surface of `own` to the surface of `other`, in world lengths.

    `moved` is the change of the places from `own` to `other`; `between` is the mean of both places.
    """
    gradients = gradient(other, points, chunk_size=_CHUNK)
    slopes = gradients.norm(dim=-1)
    normals = (gradients / slopes.clamp_min(1e-12)[:, None]).double().cpu().numpy()
    # Use the change of the field, not its value, because a projected point may be off by more than the surface moves.
    change = evaluate(other, points, chunk_size=_CHUNK) - evaluate(own, points, chunk_size=_CHUNK)
    outward = (-change / slopes.clamp_min(MIN_SLOPE)).double().cpu().numpy()
    # A fixed place x of the unit frame is at x / s + c in the world, which moves by dc - x / s * d(log s). Taken
    # half-way between the surfaces, the error is of third order.
    scale = np.exp(between[3])
    half_way = points.double().cpu().numpy() + outward[:, None] / 2 * normals
    frame_motion = moved[:3] - half_way / scale * moved[3]
    return np.asarray(np.abs(outward / scale + (normals * frame_motion).sum(axis=1)))
