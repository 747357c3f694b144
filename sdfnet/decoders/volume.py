"""The default decoder. A convolutional generator makes a feature volume from the code; points interpolate in it.

The generator runs once per shape, so a point costs one look-up and a small network. On a CPU it takes about a hundred
times more points per second than DeepSDF's network. Experiments: `docs/notes/decoders.md`.
Legend: B shapes in a batch, N points per shape, L latent size, C channels, R resolution of the volume.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from sdfnet.decoders.base import Decoder
from sdfnet.decoders.lookup import Lookup, look_up
from sdfnet.decoders.registry import DecoderConfig, DecoderKind, LearningRates

Activation = Literal["relu", "silu"]


@dataclass(frozen=True)
class VolumeConfig(DecoderConfig):
    """Options of `decoder=volume`.

    >>> VolumeConfig().channels
    (128, 64, 32, 8)
    """

    kind: str = "volume"
    latent_size: int = 256
    """Length of a code."""
    base_resolution: int = 4
    """Samples per axis of the volume that the code is mapped to linearly; each stage doubles it."""
    channels: tuple[int, ...] = (128, 64, 32, 8)
    """Channels of the base volume, of each doubling stage, and last of the feature volume."""
    width: int = 64
    """Units of a hidden layer of the point network."""
    num_layers: int = 2
    """Hidden layers of the point network."""
    lookup: Lookup = "cubic"
    """How a point reads the feature volume: linear (trilinear) or cubic (a B-spline: no facets of the volume)."""
    activation: Activation = "silu"
    """The function between the layers of the point network: relu, or silu, which has no kinks."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "channels", tuple(self.channels))
        self.check_least(latent_size=1, base_resolution=1, width=1, num_layers=1)
        if len(self.channels) < 2 or min(self.channels) < 1:
            raise ValueError(f"channels must be at least two positive numbers, got {list(self.channels)}")
        if self.resolution > 256:
            raise ValueError(f"the feature volume may have at most 256 samples per axis, got {self.resolution}")
        for name, allowed in (("lookup", Lookup), ("activation", Activation)):
            if getattr(self, name) not in get_args(allowed):
                raise ValueError(f"{name} must be one of {', '.join(get_args(allowed))}, got {getattr(self, name)!r}")

    @property
    def resolution(self) -> int:
        """Samples per axis of the feature volume, R."""
        return self.base_resolution * 2 ** (len(self.channels) - 1)


def feature_generator(channels: Sequence[int], *, bias: bool = True) -> nn.Sequential:
    """Return the network that doubles a base volume (B, channels[0], r, r, r) once for each further channel count."""
    stages: list[nn.Module] = []
    for wide, narrow in itertools.pairwise(channels):
        stages += [nn.SiLU(), nn.ConvTranspose3d(wide, narrow, kernel_size=4, stride=2, padding=1, bias=bias)]
    # With channels innermost the convolutions of a step take a tenth to a fifth less time on a CPU.
    return nn.Sequential(*stages).to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]


def point_network(
    num_features: int, width: int, num_layers: int, activation: Activation = "relu"
) -> tuple[nn.Sequential, nn.Linear]:
    """Return the hidden layers and the head that map features (..., num_features) to a distance (..., 1)."""
    layers: list[nn.Module] = []
    for index in range(num_layers):
        layers.append(nn.Linear(num_features if index == 0 else width, width))
        layers.append(nn.ReLU() if activation == "relu" else nn.SiLU())
    head = nn.Linear(width, 1)
    nn.init.normal_(head.weight, std=0.01)
    nn.init.zeros_(head.bias)
    return nn.Sequential(*layers), head


class VolumeDecoder(Decoder):
    """Map (point, code) to signed distance through a generated feature volume, which is indexed [z, y, x].

    The gradient terms of training use finite differences, because cubic look-ups are differentiable once on a CPU.

    References
    ----------
    Peng et al., "Convolutional Occupancy Networks", ECCV 2020 (features in a volume, a small network per point), here
    driven by an auto-decoded code (Park et al., CVPR 2019) instead of an encoder.
    """

    def __init__(self, config: VolumeConfig) -> None:
        super().__init__()
        self.latent_size = config.latent_size
        self._lookup = config.lookup
        self._base = (config.channels[0], *[config.base_resolution] * 3)
        self.expand = nn.Linear(config.latent_size, config.channels[0] * config.base_resolution**3)
        self.generator = feature_generator(config.channels)
        self.point_network, self.head = point_network(
            config.channels[-1], config.width, config.num_layers, config.activation
        )

    def condition(self, latents_BL: Tensor) -> tuple[Tensor, ...]:
        base = self.expand(latents_BL).unflatten(1, self._base)
        # Interpolation runs in float32 at least: bfloat16 weights would move the surface by half a percent.
        volume = self.generator(base)
        return (volume.to(torch.promote_types(volume.dtype, torch.float32)),)

    def decode(self, points_BN3: Tensor, conditioned: tuple[Tensor, ...]) -> Tensor:
        (volume_BCRRR,) = conditioned
        features_BNC = look_up(volume_BCRRR, points_BN3, kind=self._lookup)
        return self.head(self.point_network(features_BNC)).squeeze(-1)


KIND = DecoderKind(
    VolumeConfig,
    VolumeDecoder,
    {"muon": LearningRates(1.4e-2, 2e-2), "adam": LearningRates(5e-3, 2e-2)},
    prior_weight=1e-2,
    prior_warmup_steps=600,
    normal_weight=3e-2,
    earlier={"latent_size": 64, "lookup": "linear", "activation": "relu"},
)
