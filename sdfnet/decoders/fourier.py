"""A ReLU network on positionally encoded points. The encoding counters spectral bias and gives sharp detail.

Legend: B shapes in a batch, N points per shape, L latent size.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sdfnet.decoders.base import Decoder, latent_product, positional_encoding, x_product
from sdfnet.decoders.registry import DecoderConfig, DecoderKind, LearningRates


@dataclass(frozen=True)
class FourierConfig(DecoderConfig):
    """Options of `decoder=fourier`.

    >>> FourierConfig(latent_size=32).kind
    'fourier'
    """

    kind: str = "fourier"
    latent_size: int = 128
    """Length of a code."""
    num_frequencies: int = 6
    """Octaves of the positional encoding; the finest has a wavelength of 2^(2 - num_frequencies) unit lengths."""
    width: int = 256
    """Units of a hidden layer."""
    num_layers: int = 5
    """Hidden layers, at least 2."""

    def __post_init__(self) -> None:
        self.check_least(latent_size=1, width=1, num_layers=2)
        if not 1 <= self.num_frequencies <= 16:
            raise ValueError(f"num_frequencies must be in [1, 16], got {self.num_frequencies}")


class FourierDecoder(Decoder):
    """Map (encoded point, code) to signed distance. The code enters the first layer and the middle layer.

    References
    ----------
    Tancik et al., "Fourier Features Let Networks Learn High Frequency Functions in Low Dimensional Domains",
    NeurIPS 2020; the octave encoding is NeRF's (`positional_encoding`).
    """

    def __init__(self, config: FourierConfig) -> None:
        super().__init__()
        self.latent_size = config.latent_size
        self.num_frequencies = config.num_frequencies
        inputs = 3 + 6 * config.num_frequencies + config.latent_size
        self.first = nn.Linear(inputs, config.width)
        middle = config.num_layers // 2
        self.before = nn.ModuleList(nn.Linear(config.width, config.width) for _ in range(middle - 1))
        self.joint = nn.Linear(config.width + config.latent_size, config.width)
        self.after = nn.ModuleList(nn.Linear(config.width, config.width) for _ in range(config.num_layers - middle - 1))
        self.head = nn.Linear(config.width, 1)

    def condition(self, latents_BL: Tensor) -> tuple[Tensor, ...]:
        return latent_product(self.first, latents_BL), latent_product(self.joint, latents_BL)

    def decode(self, points_BN3: Tensor, conditioned: tuple[Tensor, ...]) -> Tensor:
        encoded = positional_encoding(points_BN3, self.num_frequencies)
        hidden = torch.relu(x_product(self.first, encoded) + conditioned[0])
        for layer in self.before:
            hidden = torch.relu(layer(hidden))
        hidden = torch.relu(x_product(self.joint, hidden) + conditioned[1])
        for layer in self.after:
            hidden = torch.relu(layer(hidden))
        return self.head(hidden).squeeze(-1)


KIND = DecoderKind(FourierConfig, FourierDecoder, {"adam": LearningRates(1e-3, 2e-3)})
