"""One training step: condition, decode, losses, optimizers. The plan is timed with the same function.

Legend: B shapes in a batch, N points per shape, L latent size.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sdfnet.decoders import LearningRates
from sdfnet.training.batches import Batch
from sdfnet.training.checkpoint import TrainingState, set_learning_rates
from sdfnet.training.config import TrainingConfig
from sdfnet.training.distributed import sum_in_place
from sdfnet.training.losses import (
    clamped_residual,
    curriculum_residual,
    difference_gradient,
    eikonal_loss,
    latent_prior,
    normal_loss,
)
from sdfnet.training.optimizers import clear_gradients


def train_step(
    state: TrainingState,
    batch: Batch,
    config: TrainingConfig,
    *,
    rates: LearningRates,
    share: float,
    precision: torch.dtype,
) -> dict[str, Tensor]:
    """Take one step in place and return its losses by name, as scalars still on the device.

    Every loss is a mean over shapes with equally many samples each. So the loss of the whole batch is the sum of the
    losses of all processes, each times its share of the shapes. The same holds for the gradient of the decoder. The
    gradients of codes are not sent: every process owns its codes.

    Parameters
    ----------
    share : float
        How far the training is, 0 to 1: drives the schedules of rate, prior and curriculum.
    """
    set_learning_rates(state, rates, share=share, warmup_share=config.warmup_share)
    losses = compute_losses(state, batch, config, share=share, precision=precision)
    prior_ramp = min(1.0, share / config.prior_warmup_share) if config.prior_warmup_share else 1.0
    weights = {
        "sdf": 1.0,
        "prior": config.prior_weight * prior_ramp,
        "eikonal": config.eikonal_weight,
        "normal": config.normal_weight,
    }
    total = torch.stack([weights[name] * loss for name, loss in losses.items()]).sum()
    clear_gradients(state.optimizers)
    found = {"loss": total.detach(), **{name: loss.detach() for name, loss in losses.items()}}
    if state.processes.count == 1:
        total.backward()
    else:
        (total * batch.weight).backward()
        found = _add_up(state, found, batch.weight)
    for optimizer in state.optimizers:
        optimizer.step()
    return found


def _add_up(state: TrainingState, losses: dict[str, Tensor], weight: float) -> dict[str, Tensor]:
    """Sum the decoder's gradients and the weighted `losses` over the processes; return the sums of the losses."""
    sums = torch.stack(list(losses.values())) * weight
    gradients = [parameter.grad for parameter in state.decoder.parameters() if parameter.grad is not None]
    sum_in_place(state.processes, [*gradients, sums])
    return dict(zip(losses, sums, strict=True))


def compute_losses(
    state: TrainingState, batch: Batch, config: TrainingConfig, *, share: float, precision: torch.dtype
) -> dict[str, Tensor]:
    """Return the unweighted losses that `config` asks for, by name."""
    latents_BL = torch.nn.functional.embedding(batch.slots, state.latents)
    device_type = batch.points_BN3.device.type
    with torch.autocast(device_type, dtype=torch.bfloat16, enabled=precision == torch.bfloat16):
        conditioned = state.condition(latents_BL)
        sdf_pred = state.decode(batch.points_BN3, conditioned)
    residual = clamped_residual(sdf_pred.float(), batch.sdf_BN, clamp_distance=config.clamp_distance)
    if config.curriculum:
        residual = curriculum_residual(residual, batch.sdf_BN, progress=share)
    losses = {"sdf": residual.abs().mean(), "prior": latent_prior(latents_BL)}

    # Differences of rounded values would be noise, so the gradient terms are computed in float32.
    def decode(points_BN3: Tensor) -> Tensor:
        return state.decode(points_BN3, tuple(part.float() for part in conditioned))

    if config.eikonal_weight > 0:
        # The samples are stored shuffled, so the first ones are a fair draw.
        losses["eikonal"] = eikonal_loss(difference_gradient(decode, batch.points_BN3[:, : config.gradient_points]))
    if config.normal_weight > 0:
        assert batch.surface_BM6 is not None
        gradient = difference_gradient(decode, batch.surface_BM6[..., :3])
        losses["normal"] = normal_loss(gradient, batch.surface_BM6[..., 3:])
    return losses
