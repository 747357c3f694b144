"""What every decoder is: a network from points and latent codes to signed distance, in two steps.

Legend: B shapes in a batch, N points per shape, L latent size.
"""

from __future__ import annotations

import abc

from torch import Tensor, nn


class Decoder(nn.Module, abc.ABC):
    """A latent-conditioned signed distance network, shared by all shapes. Unit frame in and out.

    `conditioned = decoder.condition(latents_BL)` does once per shape what depends on the code alone;
    `decoder.decode(points_BN3, conditioned)` does the rest and returns (B, N). Calling the decoder is the two in turn.

    Attributes
    ----------
    latent_size : int
        L, the length of a code.

    >>> import torch
    >>> from sdfnet.decoders import SirenConfig, build_decoder
    >>> decoder = build_decoder(SirenConfig(latent_size=8))
    >>> decoder(torch.zeros(2, 5, 3), torch.zeros(2, 8)).shape
    torch.Size([2, 5])
    """

    latent_size: int

    @abc.abstractmethod
    def condition(self, latents_BL: Tensor) -> tuple[Tensor, ...]:
        """Return what depends on the codes alone; every tensor has the batch axis B first."""

    @abc.abstractmethod
    def decode(self, points_BN3: Tensor, conditioned: tuple[Tensor, ...]) -> Tensor:
        """Return signed distances (B, N) at points (B, N, 3) of the conditioned shapes."""

    def forward(self, points_BN3: Tensor, latents_BL: Tensor) -> Tensor:
        return self.decode(points_BN3, self.condition(latents_BL))
