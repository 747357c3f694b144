"""A template that all shapes share, at points that the code moves. This gives correspondence between the shapes.

The code sets the place and size of the shape, and a displacement of the template on a coarse lattice. All are linear in
the code. A point of a shape takes the features of its place in the template, which costs no more however many shapes
there are. So a code *moves* a shape instead of making it anew, and codes of shapes that were not seen are found better.
Where the topology differs between shapes, features that the code generates can be added. Experiments:
`docs/notes/decoders.md`.
Legend: B shapes in a batch, N points per shape, L latent size, C channels, R resolution of the template, G resolution
of the displacement.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

import torch
from torch import Tensor, nn

from sdfnet.decoders.base import Decoder
from sdfnet.decoders.lookup import Lookup, look_up
from sdfnet.decoders.registry import DecoderConfig, DecoderKind, LearningRates
from sdfnet.decoders.volume import Activation, feature_generator, point_network

_FIRST_STD, _FIRST_BASE_STD = 0.02, 0.3
"""Standard deviations of the first weights of the displacement, so that shapes begin close to the template, and of the
template's first volume."""

_PLACE_NUMBERS, _PLACE_GAIN = 4, 0.5
"""How many numbers of a code shift and scale; and the shift (unit frame), or relative change of size, of a number 1.
With a larger gain, the steps of the codes shake the shapes. With a smaller one, shapes of very different sizes have
long codes, which the prior shrinks."""

_LEAST_SIZE = 0.1
"""Least size of a shape, as a share of that of the template, whatever the code is."""


@dataclass(frozen=True)
class TemplateConfig(DecoderConfig):
    """Options of `decoder=template`.

    >>> TemplateConfig().resolution
    64
    """

    kind: str = "template"
    latent_size: int = 256
    """Length of a code."""
    base_resolution: int = 4
    """Samples per axis of the first volume of the template; each stage doubles it."""
    channels: tuple[int, ...] = (128, 64, 32, 16, 8)
    """Channels of the template's first volume, of each doubling stage, and last of its features."""
    displacement_resolution: int = 24
    """Control points per axis of the displacement, at least 2; fewer are smoother."""
    placed: bool = True
    """Whether four numbers of the code shift and scale the whole template. Half-way codes give the mean size."""
    residual_channels: tuple[int, ...] = ()
    """Channels, as in `channels`, of features that the code adds where topology differs; empty adds none."""
    inverse_steps: int = 3
    """Steps that invert the displacement, so that it moves points of the template; with 1, it moves points of space."""
    bending_weight: float = 1e-6
    """Weight of the squared second differences of the displacement, which keep it smooth."""
    width: int = 64
    """Units of a hidden layer of the point network."""
    num_layers: int = 2
    """Hidden layers of the point network."""
    lookup: Lookup = "cubic"
    """How a point reads the template: linear (trilinear) or cubic (a B-spline: no facets of the volume)."""
    activation: Activation = "silu"
    """The function between the layers of the point network: relu, or silu, which has no kinks."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "channels", tuple(self.channels))
        object.__setattr__(self, "residual_channels", tuple(self.residual_channels))
        self.check_least(latent_size=1, base_resolution=1, displacement_resolution=2, inverse_steps=1)
        self.check_least(width=1, num_layers=1)
        if len(self.channels) < 2 or min(self.channels) < 1:
            raise ValueError(f"channels must be at least two positive numbers, got {list(self.channels)}")
        if self.resolution > 256:
            raise ValueError(f"the template may have at most 256 samples per axis, got {self.resolution}")
        residual = self.residual_channels
        if residual and (len(residual) < 2 or min(residual) < 1 or residual[-1] != self.channels[-1]):
            raise ValueError(
                f"residual_channels must be empty, or at least two positive numbers of which the last is the last of "
                f"channels ({self.channels[-1]}), got {list(residual)}"
            )
        for name, allowed in (("lookup", Lookup), ("activation", Activation)):
            if getattr(self, name) not in get_args(allowed):
                raise ValueError(f"{name} must be one of {', '.join(get_args(allowed))}, got {getattr(self, name)!r}")
        if self.placed and self.latent_size < _PLACE_NUMBERS:
            raise ValueError(f"latent_size must be at least {_PLACE_NUMBERS} with placed=true, got {self.latent_size}")
        if not self.bending_weight >= 0:
            raise ValueError(f"bending_weight must be 0 or more, got {self.bending_weight}")

    @property
    def resolution(self) -> int:
        """Samples per axis of the template, R."""
        return self.base_resolution * 2 ** (len(self.channels) - 1)


class TemplateDecoder(Decoder):
    """Map (point, code) to signed distance: the template's value at the place of the point in the template.

    The displacement d is a cubic B-spline with G control points per axis. It moves the place p of the template to
    p - d(p). Then the shape is scaled by a and shifted by t, so its point is x = a (p - d(p)) + t. The displacement,
    a - 1 and t are linear in the code, the last two in its first four numbers. So a code half-way between two has the
    mean size, and nearly the means of corresponding points. The place of a point x is found by fixed-point steps,
    p = (x - t) / a + d(p), the first of them at p = (x - t) / a. The code 0 is the template itself. The value is
    multiplied by a, so that it stays a distance. The generated features, if there are any, are looked up at the place.

    References
    ----------
    Zheng et al., "Deep Implicit Templates", CVPR 2021, and Deng et al., "Deformed Implicit Field", CVPR 2021: a
    template with learned correspondence. There, a network computes the displacement. Here, the displacement is a
    free-form deformation (Sederberg and Parry, SIGGRAPH 1986) with B-splines (Rueckert et al., 1999), inverted as in
    Chen et al., "A simple fixed-point approach to invert a deformation field", Medical Physics 35(1), 2008.
    """

    has_template = True
    adam_parts = ("displacement",)

    def __init__(self, config: TemplateConfig) -> None:
        super().__init__()
        self.latent_size = config.latent_size
        self.bending_weight = config.bending_weight
        size = config.displacement_resolution
        self._lattice = (3, size, size, size)
        self.base = nn.Parameter(torch.empty(1, config.channels[0], *[config.base_resolution] * 3))
        nn.init.normal_(self.base, std=_FIRST_BASE_STD)
        self.generator = feature_generator(config.channels)
        self.displacement = nn.Linear(config.latent_size, 3 * size**3, bias=False)
        nn.init.normal_(self.displacement.weight, std=_FIRST_STD)
        self._inverse_steps, self._placed = config.inverse_steps, config.placed
        self._lookup = config.lookup
        self.adds_to_template = bool(config.residual_channels)
        self.residual: nn.Module | None = None
        if config.residual_channels:
            first = (config.residual_channels[0], *[config.base_resolution] * 3)
            self.residual = nn.Sequential(
                nn.Linear(config.latent_size, first[0] * config.base_resolution**3, bias=False),
                nn.Unflatten(1, first),
                feature_generator(config.residual_channels, bias=False),
            )
        self.point_network, self.head = point_network(
            config.channels[-1], config.width, config.num_layers, config.activation
        )

    def condition(self, latents_BL: Tensor) -> tuple[Tensor, ...]:
        template = self.generator(self.base)
        dtype = torch.promote_types(template.dtype, torch.float32)
        volumes = [template.to(dtype), self._control(latents_BL)]
        if self.residual is not None:
            volumes.append(self.residual(latents_BL).to(dtype))
        if self._placed:
            numbers_B4 = _PLACE_GAIN * latents_BL[:, :_PLACE_NUMBERS].to(dtype)
            shifts_B3, sizes_B1 = numbers_B4[:, :3], (1 + numbers_B4[:, 3:]).clamp(min=_LEAST_SIZE)
            volumes.append(torch.cat([shifts_B3, sizes_B1], dim=1))
        return tuple(volumes)

    @torch.no_grad()
    def place(self, centers_S3: Tensor, sizes_S: Tensor, latents_SL: Tensor) -> Tensor:
        """Return codes that place the shapes. The template is at the mean place and has the mean size."""
        if not self._placed:
            return latents_SL
        sizes_S1 = (sizes_S / sizes_S.mean())[:, None]
        numbers_S4 = torch.cat([centers_S3 - sizes_S1 * centers_S3.mean(dim=0), sizes_S1 - 1], dim=1) / _PLACE_GAIN
        return torch.cat([numbers_S4.to(latents_SL), latents_SL[:, _PLACE_NUMBERS:]], dim=1)

    def _control(self, latents_BL: Tensor) -> Tensor:
        """Return the control points of the displacement, (B, 3, G, G, G), indexed [z, y, x]."""
        with torch.autocast(latents_BL.device.type, enabled=False):  # bfloat16 would move the surface.
            return self.displacement(latents_BL.to(self.displacement.weight.dtype)).unflatten(1, self._lattice)

    def template_points(self, points_BN3: Tensor, conditioned: tuple[Tensor, ...]) -> Tensor:
        if self._placed:
            shifts_B13, sizes_B11 = conditioned[-1].to(points_BN3.dtype)[:, None].split([3, 1], dim=2)
            points_BN3 = (points_BN3 - shifts_B13) / sizes_B11
        places_BN3 = points_BN3
        for _ in range(self._inverse_steps):
            places_BN3 = points_BN3 + look_up(conditioned[1], places_BN3, kind="cubic").to(points_BN3.dtype)
        return places_BN3

    def first_points(self, places_BN3: Tensor, conditioned: tuple[Tensor, ...]) -> Tensor:
        points_BN3 = places_BN3 - look_up(conditioned[1], places_BN3, kind="cubic").to(places_BN3.dtype)
        if not self._placed:
            return points_BN3
        shifts_B13, sizes_B11 = conditioned[-1].to(points_BN3.dtype)[:, None].split([3, 1], dim=2)
        return sizes_B11 * points_BN3 + shifts_B13

    def penalty(self, latents_BL: Tensor) -> Tensor | None:
        """Return the weighted mean square of the second derivatives of the displacement along the three axes."""
        if not self.bending_weight or self._lattice[1] < 3:
            return None
        control, spacing = self._control(latents_BL), 2 / (self._lattice[1] - 1)
        bends = [(control.diff(n=2, dim=axis) / spacing**2).square().mean() for axis in (2, 3, 4)]
        return self.bending_weight * torch.stack(bends).sum()

    def decode(self, points_BN3: Tensor, conditioned: tuple[Tensor, ...]) -> Tensor:
        moved_BN3 = self.template_points(points_BN3, conditioned)
        # All shapes share the template, so the points of all are looked up as those of one.
        features = look_up(conditioned[0], moved_BN3.flatten(0, 1)[None], kind=self._lookup)
        features = features.view(*points_BN3.shape[:2], -1)
        if self.residual is not None:
            features = features + look_up(conditioned[2], moved_BN3, kind=self._lookup)
        values_BN = self.head(self.point_network(features)).squeeze(-1)
        return values_BN * conditioned[-1][:, 3:].to(values_BN.dtype) if self._placed else values_BN


def template_jacobians(decoder: Decoder, points_BN3: Tensor, conditioned: tuple[Tensor, ...]) -> Tensor:
    """Return the derivatives (B, N, 3, 3) of the places in the template by the points: [..., i, j] is dt_i / dx_j.

    Where the determinant is 0 or less, the displacement folds space, and the points there correspond to nothing.

    Raises
    ------
    ValueError
        The decoder has no template.

    >>> from sdfnet.decoders import build_decoder
    >>> decoder = build_decoder(TemplateConfig(latent_size=4, channels=(4, 4)))
    >>> template_jacobians(decoder, torch.zeros(1, 1, 3), decoder.condition(torch.zeros(1, 4)))[0, 0].tolist()
    [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    """
    with torch.enable_grad():
        points = points_BN3.detach().requires_grad_(True)
        places = decoder.template_points(points, tuple(part.detach() for part in conditioned))
        rows = [torch.autograd.grad(places[..., row].sum(), points, retain_graph=row < 2)[0] for row in range(3)]
    return torch.stack(rows, dim=-2)


# Adam moves the displacement at 0.36 of Muon's rate: at the whole rate it folds. Codes move at a third of the rate of
# other decoders: they multiply the displacement, and shapes that differ much were not learned at the whole rate.
KIND = DecoderKind(
    TemplateConfig,
    TemplateDecoder,
    {"muon": LearningRates(1.4e-2, 7e-3), "adam": LearningRates(5e-3, 7e-3)},
    prior_weight=1e-2,
    prior_warmup_steps=600,
    normal_weight=1e-2,
    earlier={"inverse_steps": 1, "placed": False},
)
