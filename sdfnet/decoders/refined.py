"""A decoder with corrections of single shapes: a trained decoder, plus one small grid of residuals for each such shape.

`sdfnet fit refine=shape` writes it; no training chooses it. A code is that of the trained decoder, followed by one
weight for each grid. A shape's own grid has the weight 1, and a learned shape has none. So a mix or a morph weights the
grids as it weights the codes, and every function of a run works as before.

Legend: B shapes in a batch, K grids, L latent size of the trained decoder, R samples of a grid along each axis.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from sdfnet.decoders.base import Decoder
from sdfnet.decoders.registry import DecoderConfig, DecoderKind, build_decoder, decoder_config

UNIT_WEIGHT = 1e-3
"""A weight of 1 is written as this number in a code, so that the lengths of codes hardly change."""

_HALF_EXTENT = 1.05


@dataclass(frozen=True)
class RefinedConfig(DecoderConfig):
    """Options of a refined decoder.

    >>> RefinedConfig(base={"kind": "siren", "latent_size": 4}, latent_size=5, num_residuals=1).resolution
    64
    """

    kind: str = "refined"
    latent_size: int = 0
    """Length of a code, with the weights of the grids."""
    base: Mapping[str, Any] = field(default_factory=dict)
    """Options of the trained decoder."""
    num_residuals: int = 0
    """K, the number of grids."""
    resolution: int = 64
    """R, over [-1.05, 1.05]³."""

    def __post_init__(self) -> None:
        self.check_least(num_residuals=0, resolution=2)


class RefinedDecoder(Decoder):
    """The distance of a trained decoder plus a weighted sum of residual grids, each indexed [k, z, y, x].

    >>> config = RefinedConfig(base={"kind": "siren", "latent_size": 4}, latent_size=5, num_residuals=1, resolution=8)
    >>> decoder = RefinedDecoder(config)
    >>> decoder.residuals.fill_(0.25)[0, 0, 0, 0].item()
    0.25
    >>> points, code = torch.zeros(1, 1, 3), torch.tensor([[1.0, 0.0, 0.0, 0.0, UNIT_WEIGHT]])
    >>> round((decoder(points, code) - decoder.base(points, code[:, :4])).item(), 4)
    0.25
    """

    residuals: Tensor

    def __init__(self, config: RefinedConfig, base: Decoder | None = None) -> None:
        super().__init__()
        self.base: Decoder = build_decoder(decoder_config(config.base)) if base is None else base
        self.latent_size = self.base.latent_size + config.num_residuals
        grids = torch.zeros(config.num_residuals, *[config.resolution] * 3, dtype=torch.float16)
        self.register_buffer("residuals", grids)

    def condition(self, latents_BL: Tensor) -> tuple[Tensor, ...]:
        size = self.base.latent_size
        weights_BK = latents_BL[:, size:] / UNIT_WEIGHT
        summed = torch.einsum("bk,kzyx->bzyx", weights_BK, self.residuals.to(weights_BK))
        return (*self.base.condition(latents_BL[:, :size]), summed[:, None])

    def decode(self, points_BN3: Tensor, conditioned: tuple[Tensor, ...]) -> Tensor:
        *parts, grid_B1RRR = conditioned
        where = (points_BN3 / _HALF_EXTENT).to(grid_B1RRR.dtype)[:, :, None, None]
        residual = nn.functional.grid_sample(grid_B1RRR, where, align_corners=True, padding_mode="border")
        sdf = self.base.decode(points_BN3, tuple(parts))
        return sdf + residual[:, 0, :, 0, 0].to(sdf)


def refined_decoder(
    decoder: Decoder, options: Mapping[str, Any], grids: Tensor
) -> tuple[RefinedDecoder, DecoderConfig]:
    """Return `decoder`, whose configuration is `options`, with `grids` (K, R, R, R) added, and its configuration.

    Where `decoder` is refined already, its own grids stay before the new ones. They must have the same resolution.

    Raises
    ------
    ValueError
        Grids of another resolution than those that are there.
    """
    base, known = decoder, dict(options)
    if isinstance(decoder, RefinedDecoder):
        if len(decoder.residuals) and decoder.residuals.shape[1:] != grids.shape[1:]:
            raise ValueError(f"the run has residuals of resolution {decoder.residuals.shape[1]}, got {grids.shape[1]}")
        grids = torch.cat([decoder.residuals.to(grids), grids]) if len(decoder.residuals) else grids
        base, known = decoder.base, dict(options["base"])
    size = base.latent_size + len(grids)
    config = RefinedConfig(base=known, latent_size=size, num_residuals=len(grids), resolution=grids.shape[1])
    refined = RefinedDecoder(config, base)
    refined.residuals = grids.to(torch.float16)
    return refined.eval().requires_grad_(False), config


KIND = DecoderKind(RefinedConfig, RefinedDecoder)
