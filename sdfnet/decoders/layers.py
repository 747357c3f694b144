"""Pieces that several decoders share: the positional encoding, and linear layers whose input is partly per shape.

Legend: B shapes in a batch, N points per shape, L latent size, C channels.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


def positional_encoding(points: Tensor, num_frequencies: int) -> Tensor:
    """Return `points` with sines and cosines of them at octave frequencies, (..., 3 + 6 num_frequencies).

    gamma(p) = (sin(2^k pi p), cos(2^k pi p)) for k = 0 .. num_frequencies - 1.

    References
    ----------
    Mildenhall et al., "NeRF", ECCV 2020, equation 4; the raw coordinates are kept beside it, as its code does.

    >>> positional_encoding(torch.zeros(1, 3), 2).shape
    torch.Size([1, 15])
    """
    octaves = math.pi * 2.0 ** torch.arange(num_frequencies, dtype=points.dtype, device=points.device)
    angles = (points[..., None, :] * octaves[:, None]).flatten(-2)
    return torch.cat([points, torch.sin(angles), torch.cos(angles)], dim=-1)


def latent_product(layer: nn.Linear, latents_BL: Tensor) -> Tensor:
    """Return the part of `layer` that depends on the code alone, (B, 1, C): its last L columns times it, and the bias.

    `layer([x, latent])` equals `x_product(layer, x) + latent_product(layer, latent)`: the code's share is computed
    once per shape instead of once per point.
    """
    size = latents_BL.shape[1]
    return nn.functional.linear(latents_BL, layer.weight[:, -size:], layer.bias)[:, None]


def x_product(layer: nn.Linear, x_BNC: Tensor) -> Tensor:
    """Return the part of `layer` that depends on the point, (B, N, C'): its first columns times `x_BNC`, no bias."""
    return nn.functional.linear(x_BNC, layer.weight[:, : x_BNC.shape[-1]])
