"""The base class of decoders: networks from points and latent codes to signed distance, in two steps.

The module also holds shared parts: the positional encoding, and linear layers with inputs that are the same for all
points of a shape. Legend: B shapes in a batch, N points per shape, L latent size, C channels.
"""

from __future__ import annotations

import abc
import math
from typing import ClassVar

import torch
from torch import Tensor, nn


class Decoder(nn.Module, abc.ABC):
    """A latent-conditioned signed distance network that all shapes share. Points and distances are in the unit frame.

    `conditioned = decoder.condition(latents_BL)` does the work that depends on the code alone, once per shape.
    `decoder.decode(points_BN3, conditioned)` does the rest and returns (B, N). A call of the decoder does both steps.

    Attributes
    ----------
    latent_size : int
        L, the length of a code.
    has_template : bool
        Whether the decoder maps the points of every shape into one template (`template_points`).
    adds_to_template : bool
        Whether shapes may differ from the moved template, so that their topology may differ from the template's.
    holds_one_shape : bool
        Whether the decoder stands for exactly one shape, whatever the code is.
    adam_parts : tuple of str
        Submodules whose matrices Adam moves in any training, also where Muon moves the others.

    >>> import torch
    >>> from sdfnet.decoders import SirenConfig, build_decoder
    >>> decoder = build_decoder(SirenConfig(latent_size=8))
    >>> decoder(torch.zeros(2, 5, 3), torch.zeros(2, 8)).shape
    torch.Size([2, 5])
    """

    latent_size: int
    has_template: ClassVar[bool] = False
    adds_to_template: bool = False
    holds_one_shape: ClassVar[bool] = False
    adam_parts: ClassVar[tuple[str, ...]] = ()

    def adapt(self, surface_N3: Tensor) -> None:
        """Fit the structure of a new decoder of one shape to points near its surface. Others have nothing to fit."""

    def place(self, centers_S3: Tensor, sizes_S: Tensor, latents_SL: Tensor) -> Tensor:
        """Start a new decoder from where the shapes are and how large they are. Return the codes to start with, (S, L).

        `centers_S3` and `sizes_S` are float64, unit frame; only the ratios of the sizes count. Most decoders do
        nothing, and return the codes as they came.
        """
        return latents_SL

    @abc.abstractmethod
    def condition(self, latents_BL: Tensor) -> tuple[Tensor, ...]:
        """Return what depends on no point. The first axis of each tensor is B, or 1 if all shapes share it."""

    @abc.abstractmethod
    def decode(self, points_BN3: Tensor, conditioned: tuple[Tensor, ...]) -> Tensor:
        """Return signed distances (B, N) at points (B, N, 3) of the conditioned shapes."""

    def template_points(self, points_BN3: Tensor, conditioned: tuple[Tensor, ...]) -> Tensor:
        """Return the places (B, N, 3) of the points in the template that all shapes share.

        Two points of two shapes correspond if they have the same place in the template. Raises ValueError for a decoder
        without a template.
        """
        raise ValueError(f"{type(self).__name__} has no template, so its shapes have no correspondence")

    def first_points(self, places_BN3: Tensor, conditioned: tuple[Tensor, ...]) -> Tensor:
        """Return points (B, N, 3) near those that have these places in the template, where a search for them starts."""
        return 2 * places_BN3 - self.template_points(places_BN3, conditioned)

    def penalty(self, latents_BL: Tensor) -> Tensor | None:
        """Return a term, already weighted, that the decoder adds to the loss of a training; None without one."""
        return None

    def saved_weights(self) -> dict[str, Tensor]:
        """Return the weights that a run keeps for inference, which may have less precision than the training."""
        return self.state_dict()

    def forward(self, points_BN3: Tensor, latents_BL: Tensor) -> Tensor:
        return self.decode(points_BN3, self.condition(latents_BL))


def positional_encoding(points: Tensor, num_frequencies: int) -> Tensor:
    """Return `points` followed by their sines and cosines at octave frequencies, (..., 3 + 6 num_frequencies).

    gamma(p) = (sin(2^k pi p), cos(2^k pi p)) for k = 0 .. num_frequencies - 1.

    References
    ---------- Mildenhall et al., "NeRF", ECCV 2020, equation 4; the raw coordinates are kept beside the encoding, as in
    NeRF's code.

    >>> positional_encoding(torch.zeros(1, 3), 2).shape
    torch.Size([1, 15])
    """
    octaves = math.pi * 2.0 ** torch.arange(num_frequencies, dtype=points.dtype, device=points.device)
    angles = (points[..., None, :] * octaves[:, None]).flatten(-2)
    return torch.cat([points, torch.sin(angles), torch.cos(angles)], dim=-1)


def preferred_multiple(device_type: str) -> int:
    """Return a number such that widths that are its multiples are fast on the device.

    Tensor cores need rows that start at multiples of 16 bytes, which are 8 numbers of 16 bits. With other widths, such
    as DeepSDF's 3 and 253, the whole product runs in slower kernels.
    """
    return 8 if device_type == "cuda" else 1


def padded_linear(x: Tensor, weight: Tensor, bias: Tensor | None = None, *, multiple: int) -> Tensor:
    """Return `linear(x, weight, bias)`, computed with both widths padded with zeros to multiples of `multiple`."""
    width_out, width_in = weight.shape
    more_in, more_out = -width_in % multiple, -width_out % multiple
    if more_in or more_out:
        x, weight = nn.functional.pad(x, (0, more_in)), nn.functional.pad(weight, (0, more_in, 0, more_out))
        bias = None if bias is None else nn.functional.pad(bias, (0, more_out))
        return nn.functional.linear(x, weight, bias)[..., :width_out]
    return nn.functional.linear(x, weight, bias)


def latent_product(layer: nn.Linear, latents_BL: Tensor) -> Tensor:
    """Return the part of `layer` that depends on the code, (B, 1, C): its last L columns times the code, plus the bias.

    `layer([x, latent])` equals `x_product(layer, x) + latent_product(layer, latent)`. So the product with the code is
    computed once per shape instead of once per point.
    """
    size = latents_BL.shape[1]
    return nn.functional.linear(latents_BL, layer.weight[:, -size:], layer.bias)[:, None]


def x_product(layer: nn.Linear, x_BNC: Tensor) -> Tensor:
    """Return the part of `layer` that depends on the point, (B, N, C'): its first columns times `x_BNC`. No bias."""
    weight = layer.weight[:, : x_BNC.shape[-1]]
    return padded_linear(x_BNC, weight, multiple=preferred_multiple(x_BNC.device.type))


def whole_product(layer: nn.Linear, x_BNC: Tensor) -> Tensor:
    """Return `layer(x_BNC)`, padded to the widths at which the device is fast."""
    return padded_linear(x_BNC, layer.weight, layer.bias, multiple=preferred_multiple(x_BNC.device.type))
