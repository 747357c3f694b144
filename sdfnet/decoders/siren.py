"""A network of sines. The code shifts the phases. All derivatives of the network are smooth.

Legend: B shapes in a batch, N points per shape, L latent size.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sdfnet.decoders.base import Decoder, whole_product
from sdfnet.decoders.registry import DecoderConfig, DecoderKind, LearningRates


@dataclass(frozen=True)
class SirenConfig(DecoderConfig):
    """Options of `decoder=siren`.

    >>> SirenConfig(width=64).num_layers
    4
    """

    kind: str = "siren"
    latent_size: int = 128
    """Length of a code."""
    width: int = 256
    """Units of a hidden layer."""
    num_layers: int = 4
    """Hidden layers, at least 1."""
    frequency: float = 15.0
    """Factor omega_0 inside the sines. The paper's 30 suits images; shapes in [-1, 1] are smoother."""

    def __post_init__(self) -> None:
        self.check_least(latent_size=1, width=1, num_layers=1)
        if not self.frequency > 0:
            raise ValueError(f"frequency must be positive, got {self.frequency}")


class SirenDecoder(Decoder):
    """Map a point to signed distance through sin(omega_0 (W x + b + shift(code))) layers.

    References
    ----------
    Sitzmann et al., "Implicit Neural Representations with Periodic Activation Functions", NeurIPS 2020: layers and
    initialisation (section 3.2). Shift modulation by a linear map of the code: Dupont et al., "From data to functa",
    ICML 2022, section 3.1.
    """

    def __init__(self, config: SirenConfig) -> None:
        super().__init__()
        self.latent_size = config.latent_size
        self.frequency = config.frequency
        widths = [3] + [config.width] * config.num_layers
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise(widths))
        self.shifts = nn.Linear(config.latent_size, config.width * config.num_layers)
        self.head = nn.Linear(config.width, 1)
        with torch.no_grad():
            for index, layer in enumerate([*self.layers, self.head]):
                assert isinstance(layer, nn.Linear)
                limit = 1 / 3 if index == 0 else math.sqrt(6 / config.width) / config.frequency
                layer.weight.uniform_(-limit, limit)
            self.shifts.weight.mul_(1 / config.frequency)
            self.shifts.bias.zero_()

    def condition(self, latents_BL: Tensor) -> tuple[Tensor, ...]:
        return self.shifts(latents_BL)[:, None].chunk(len(self.layers), dim=-1)

    def decode(self, points_BN3: Tensor, conditioned: tuple[Tensor, ...]) -> Tensor:
        hidden = points_BN3
        for layer, shift in zip(self.layers, conditioned, strict=True):
            assert isinstance(layer, nn.Linear)
            hidden = torch.sin(self.frequency * (whole_product(layer, hidden) + shift))
        return self.head(hidden).squeeze(-1)


KIND = DecoderKind(SirenConfig, SirenDecoder, {"adam": LearningRates(2e-4, 1e-3)})
