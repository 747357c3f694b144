"""Find where a part lies in the frame of the family: several starts, from coarse to fine.

The coarse stage knows the learned shapes only as a few grids of distances: the mean code and some learned codes far
from each other. Many turned and shifted starts are compared, and the best move down the misfit. The fine stage
(`posterior`) moves the best few places together with the code.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor

from sdfnet.fields.adaptors import NeuralField
from sdfnet.fields.base import evaluate
from sdfnet.fitting.config import CompletionConfig
from sdfnet.fitting.family import FamilyPrior
from sdfnet.fitting.observations.part import PartObservation
from sdfnet.geometry.arrays import FloatArray
from sdfnet.geometry.bounds import UNIT_BOUNDS, Lattice
from sdfnet.geometry.similarity import Similarity
from sdfnet.runs import Run

SCALE_SLACK = 0.12
"""Standard deviation of the logarithm of the scale, beyond that of the family, where the scale is free."""

_GRID = 40
_NUM_ATLAS = 6
_POINTS = 300
_TURN = 35.0
_NUM_YAWS = 16
_KEPT, _STEPS = 48, 15
_COARSE_STD = 0.05
"""Deviation of the coarse stage, unit frame: shapes of a family differ by about so much."""

_SAME = 0.05
"""Places whose maps of the part differ by less (unit frame, mean) are one."""


def start_similarities(
    run: Run, prior: FamilyPrior, part: PartObservation, config: CompletionConfig
) -> list[Similarity]:
    """Return the likely places of `part`, the best first; exactly one where `align` is none.

    Raises
    ------
    ValueError
        `align=none` without a frame; a part that is far too small or large for the family.
    """
    if config.align == "none":
        return [_known_frame(run, config)]
    base = Similarity(np.median(part.surface, axis=0), math.exp(prior.log_scale_mean))
    reach = part.extent * base.scale
    if not 0.05 < reach < 4:
        radius = 1 / base.scale
        raise ValueError(
            f"the input extends over {part.extent:.4g}, but a learned shape has a radius of about {radius:.4g} in the "
            "world. Are the units the same? Scale the input, or train on shapes in its units"
        )
    points = torch.from_numpy(base.to_unit(part.thinned(_POINTS).surface)).float()
    atlas = _atlas(run, prior)
    starts = _starts(points.double().numpy(), config)
    found = _descend(atlas, points, starts, prior, config)
    return [base.then(*each) for each in found]


def _known_frame(run: Run, config: CompletionConfig) -> Similarity:
    if config.frame_of is not None:
        return run.similarity(config.frame_of)
    if run.document.get("config", {}).get("normalize") != "shared":
        raise ValueError(
            "align=none needs the frame: name the shape whose frame the input lies in (frame_of=NAME), or use a run "
            "trained with normalize=shared"
        )
    return run.shapes[0].similarity


def _atlas(run: Run, prior: FamilyPrior) -> Tensor:
    """Return grids (K, 1, Z, Y, X) of distances over [-1.05, 1.05]³: of the mean, and of learned shapes far apart."""
    coordinates = prior.coordinates(run.latents).cpu()
    chosen = [prior.mean]
    distance = coordinates.square().sum(dim=1)
    for _ in range(min(_NUM_ATLAS - 1, len(coordinates))):
        # Near the mean first, then the one farthest from all chosen ones among the likely half.
        likely = coordinates.square().sum(dim=1) <= coordinates.square().sum(dim=1).median()
        row = int(torch.where(likely, distance, -1.0).argmax())
        chosen.append(run.latents[row])
        distance = torch.minimum(distance, (coordinates - coordinates[row]).square().sum(dim=1))
    lattice = Lattice.over(UNIT_BOUNDS, _GRID)
    points = torch.from_numpy(lattice.slab(0, _GRID)).to(run.latents)
    grids = [evaluate(NeuralField(run.decoder, latent), points).cpu() for latent in chosen]
    return torch.stack(grids).permute(0, 3, 2, 1)[:, None]


def _starts(points: FloatArray, config: CompletionConfig) -> list[tuple[FloatArray, FloatArray]]:
    """Return rotations and shifts: the part's box touches the unit box from within, or lies in its middle."""
    if config.align == "yaw":
        axis = np.eye(3)["xyz".index(config.up_axis)]
        turns = [axis * angle for angle in np.linspace(0, 2 * math.pi, _NUM_YAWS, endpoint=False)]
    else:
        axes = [sign * row for row in np.eye(3) for sign in (1, -1)]
        turns = [np.zeros(3), *(math.radians(_TURN) * axis for axis in axes)]
        turns += [math.radians(angle) * np.eye(3)[1] for angle in (90, 180, 270)]
    starts = []
    for turn in turns:
        rotation = Rotation.from_rotvec(turn).as_matrix()
        moved = points @ rotation.T
        low, high = np.quantile(moved, [0.02, 0.98], axis=0)
        options = []
        for axis in range(3):
            middle = -(low[axis] + high[axis]) / 2
            slack = max(0.0, 0.75 - (high[axis] - low[axis]) / 2)
            options.append([middle] if slack < 0.1 else [middle - slack * 0.7, middle, middle + slack * 0.7])
        starts += [(rotation, np.array(shift)) for shift in itertools.product(*options)]
    return starts


def _look_up(atlas: Tensor, owners: Tensor, points_KN3: Tensor) -> Tensor:
    """Return the distances (K, N) at points of the grid that owns each start; farther away, the way back is added."""
    inside = points_KN3.clamp(-1.05, 1.05)
    found = torch.empty(points_KN3.shape[:2])
    for owner in owners.unique().tolist():
        rows = torch.nonzero(owners == owner)[:, 0]
        where = (inside[rows] / 1.05).reshape(1, -1, 1, 1, 3)
        values = torch.nn.functional.grid_sample(atlas[owner : owner + 1], where, align_corners=True)
        found = found.index_put((rows,), values.reshape(len(rows), -1))
    return found + (points_KN3 - inside).norm(dim=-1)


def _descend(
    atlas: Tensor,
    points: Tensor,
    starts: Sequence[tuple[FloatArray, FloatArray]],
    prior: FamilyPrior,
    config: CompletionConfig,
) -> list[tuple[FloatArray, float, FloatArray]]:
    """Compare all starts with the mean shape, move the best with each grid, and return distinct places, best first."""
    rotations = torch.from_numpy(np.stack([each for each, _ in starts])).float()
    shifts = torch.from_numpy(np.stack([each for _, each in starts])).float()
    log_scales = torch.zeros(len(starts))
    first = torch.zeros(len(starts), dtype=torch.long)
    losses = _loss(_look_up(atlas, first, _moved(points, rotations, log_scales, shifts)), 2 * _COARSE_STD)
    best = losses.argsort()[: _KEPT // 2]
    repeats = len(atlas)
    pick = best.repeat(repeats)
    owners = torch.arange(repeats).repeat_interleave(len(best))
    state = (rotations[pick], log_scales[pick], shifts[pick])
    scale_std = scale_std_of(prior, config)
    for step in range(_STEPS):
        deviation = _COARSE_STD * (2.0 if step < _STEPS // 2 else 1.0)
        state = _step(atlas, owners, points, state, deviation=deviation, scale_std=scale_std, config=config)
    losses = _loss(_look_up(atlas, owners, _moved(points, *state)), _COARSE_STD)
    losses = losses + (state[1] / max(scale_std, 1e-6)).square() / 2 / len(points)
    chosen: list[int] = []
    places = _moved(points, *state)
    for row in losses.argsort().tolist():
        if all(float((places[row] - places[other]).norm(dim=1).mean()) > _SAME for other in chosen):
            chosen.append(row)
    return [
        (state[0][row].double().numpy(), math.exp(float(state[1][row])), state[2][row].double().numpy())
        for row in chosen
    ]


def scale_std_of(prior: FamilyPrior, config: CompletionConfig) -> float:
    """Return the standard deviation of the logarithm of the scale of a part, before it is seen."""
    return math.hypot(prior.log_scale_std, 0.0 if config.align == "rigid" else SCALE_SLACK)


def _moved(points: Tensor, rotations: Tensor, log_scales: Tensor, shifts: Tensor) -> Tensor:
    turned = torch.einsum("kij,nj->kni", rotations, points)
    return log_scales.exp()[:, None, None] * turned + shifts[:, None]


def _loss(sdf_KN: Tensor, deviation: float) -> Tensor:
    return (2.0 * torch.log1p((sdf_KN / deviation).square() / 3)).mean(dim=1)


def _step(
    atlas: Tensor,
    owners: Tensor,
    points: Tensor,
    state: tuple[Tensor, Tensor, Tensor],
    *,
    deviation: float,
    scale_std: float,
    config: CompletionConfig,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return all places after one reweighted Gauss-Newton step."""
    rotations, log_scales, shifts = state
    where = _moved(points, rotations, log_scales, shifts).requires_grad_(True)
    sdf = _look_up(atlas, owners, where)
    (slope,) = torch.autograd.grad(sdf.sum(), where)
    where, sdf = where.detach(), sdf.detach()
    jacobian = pose_jacobian(slope, where, shifts[:, None])
    weight = 4 / (3 + (sdf / deviation).square()) / deviation**2
    normal = torch.einsum("kn,kni,knj->kij", weight, jacobian, jacobian)
    right = -torch.einsum("kn,kni,kn->ki", weight, jacobian, sdf)
    normal += torch.diag(pose_precision(config, scale_std)).float() + 1e-3 * torch.eye(7)
    right[:, 3] -= log_scales / max(scale_std, 1e-6) ** 2
    delta = torch.linalg.solve(normal, right[..., None])[..., 0].clamp(-0.3, 0.3)
    turn = torch.from_numpy(Rotation.from_rotvec(delta[:, :3].double().numpy()).as_matrix()).float()
    return turn @ rotations, log_scales + delta[:, 3], shifts + delta[:, 4:]


def pose_jacobian(slope: Tensor, where: Tensor, shift: Tensor) -> Tensor:
    """Return the derivatives (..., N, 7) of field values by turn, log scale and shift, about the part's own middle.

    `slope` (..., N, 3) is the gradient of the field at `where` (..., N, 3). The turn and the scale leave `shift` fixed.
    """
    around = where - shift
    return torch.cat([torch.linalg.cross(around, slope), (slope * around).sum(-1, keepdim=True), slope], dim=-1)


def pose_precision(config: CompletionConfig, scale_std: float) -> Tensor:
    """Return the diagonal (7,) of the prior on turn, log scale and shift: huge where a direction is held."""
    held = 1e9
    precision = torch.zeros(7, dtype=torch.float64)
    if config.align == "none":
        return precision + held
    precision[3] = 1 / max(scale_std, 1e-6) ** 2
    if config.align == "yaw":
        precision[:3] = held
        precision["xyz".index(config.up_axis)] = 0.0
    return precision
