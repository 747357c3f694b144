"""The losses of a training. All distances are in the unit frame. Every loss is a mean over its samples.

Legend: B shapes in a batch, N points per shape, L latent size.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from sdfnet.training.batches import Batch
from sdfnet.training.checkpoint import TrainingState
from sdfnet.training.config import TrainingConfig

DIFFERENCE_STEP = 0.0025
"""Half step of the central differences, unit frame. It is well below the features of a shape and well above rounding.
An edge becomes at least this round (docs/notes/decoders.md)."""

_NORMAL_ROUNDING = 1e-3

SurfaceFunction = Callable[[Tensor], Tensor]
"""Maps points (B, N, 3) to signed distances (B, N)."""


def clamped_residual(sdf_pred: Tensor, sdf_true: Tensor, *, clamp_distance: float) -> Tensor:
    """Return `clamp(pred) - clamp(true)`, but clamp the prediction only if the truth is clamped on the same side.

    DeepSDF clamps both (Park et al. 2019, equation 4). Then a prediction beyond the clamp on the *wrong* side has no
    gradient, and a network that is positive everywhere at the start stays positive. Here the gradient is zero only if
    truth and prediction are both beyond the clamp on the same side.

    >>> truth = torch.tensor([0.5, 0.05, -0.5])
    >>> clamped_residual(torch.tensor([0.7, 0.3, 0.2]), truth, clamp_distance=0.1)
    tensor([0.0000, 0.2500, 0.3000])
    """
    beyond = torch.where(
        sdf_true >= clamp_distance,
        sdf_pred.clamp(max=clamp_distance),
        torch.where(sdf_true <= -clamp_distance, sdf_pred.clamp(min=-clamp_distance), sdf_pred),
    )
    return beyond - sdf_true.clamp(-clamp_distance, clamp_distance)


def curriculum_residual(residual: Tensor, sdf_true: Tensor, *, progress: float) -> Tensor:
    """Return |residual| minus a falling tolerance. The weight of hard samples grows as training proceeds.

    Tolerance 0.025, 0.01, 0.0025, 0 and hard-sample weight 0, 0.1, 0.2, 0.5 in four stages that split `progress`
    (0 to 1) as the paper splits its epochs (200, 600, 1000 of 2000). A sample is hard where the prediction has the
    wrong sign or is nearer to the surface than the truth.

    References
    ----------
    Duan et al., "Curriculum DeepSDF", ECCV 2020, sections 3.2 and 3.3.
    """
    stage = sum(progress >= bound for bound in (0.1, 0.3, 0.5))
    tolerance = (0.025, 0.01, 0.0025, 0.0)[stage]
    weight = (0.0, 0.1, 0.2, 0.5)[stage]
    hardness = torch.sign(sdf_true) * torch.sign(-residual)
    return (1 + weight * hardness) * (residual.abs() - tolerance).clamp(min=0)


def latent_prior(latents_BL: Tensor) -> Tensor:
    """Return the mean squared length of the codes (Park et al. 2019, equation 9, without its factor)."""
    return latents_BL.square().sum(dim=1).mean()


def difference_gradient(function: SurfaceFunction, points_BN3: Tensor) -> Tensor:
    """Return the gradient (B, N, 3) of `function` by central differences, differentiable in its weights.

    The differences take six evaluations. Differentiating a trilinear look-up twice would cost as much as 7 to 16
    evaluations on a CPU. The error is of second order in DIFFERENCE_STEP.
    """
    offsets_63 = DIFFERENCE_STEP * torch.cat([torch.eye(3), -torch.eye(3)]).to(points_BN3)
    shifted = (points_BN3[:, None] + offsets_63[:, None]).flatten(1, 2)
    sdf_B6N = function(shifted).unflatten(1, (6, points_BN3.shape[1]))
    return (sdf_B6N[:, :3] - sdf_B6N[:, 3:]).transpose(1, 2) / (2 * DIFFERENCE_STEP)


def eikonal_loss(gradient: Tensor) -> Tensor:
    """Return the mean of (|gradient| - 1)² (Gropp et al., "Implicit Geometric Regularization", ICML 2020, eq. 2)."""
    return (gradient.norm(dim=-1) - 1).square().mean()


def normal_loss(gradient: Tensor, normals: Tensor) -> Tensor:
    """Return the mean distance between the direction of `gradient` and the unit outward `normals`, both (..., 3).

    The distance is nearly the angle in radians if the angle is small. Its square, which is 1 - cosine up to a factor,
    averages the normals on both sides of an edge and so rounds the edge. The distance, and the length of `gradient`,
    are rounded off below _NORMAL_ROUNDING, because the length of a zero vector has no derivative.
    """
    direction = torch.nn.functional.normalize(gradient, dim=-1, eps=_NORMAL_ROUNDING)
    squared = (direction - normals).square().sum(dim=-1)
    return ((squared + _NORMAL_ROUNDING**2).sqrt() - _NORMAL_ROUNDING).mean()


def compute_losses(
    state: TrainingState, batch: Batch, config: TrainingConfig, *, share: float, precision: str
) -> dict[str, Tensor]:
    """Return the unweighted losses that `config` enables, by name."""
    latents_BL = torch.nn.functional.embedding(batch.slots, state.latents)
    device_type = batch.points_BN3.device.type
    with torch.autocast(device_type, dtype=torch.bfloat16, enabled=precision == "bfloat16"):
        conditioned = state.condition(latents_BL)
        sdf_pred = state.decode(batch.points_BN3, conditioned)
    residual = clamped_residual(sdf_pred.float(), batch.sdf_BN, clamp_distance=config.clamp_distance)
    if config.curriculum:
        residual = curriculum_residual(residual, batch.sdf_BN, progress=share)
    losses = {"sdf": residual.abs().mean(), "prior": latent_prior(latents_BL)}
    penalty = state.decoder.penalty(latents_BL)
    if penalty is not None:
        losses["penalty"] = penalty

    # Differences of rounded values would be noise, so the gradient terms are computed in float32.
    def decode(points_BN3: Tensor) -> Tensor:
        return state.decode(points_BN3, tuple(part.float() for part in conditioned))

    if config.eikonal_weight > 0:
        # The samples are stored shuffled, so the first ones are a fair draw.
        losses["eikonal"] = eikonal_loss(difference_gradient(decode, batch.points_BN3[:, : config.gradient_points]))
    if config.normal_weight and share >= config.normal_start:
        assert batch.surface_BM6 is not None
        gradient = difference_gradient(decode, batch.surface_BM6[..., :3])
        losses["normal"] = normal_loss(gradient, batch.surface_BM6[..., 3:])
    return losses
