"""The map between a shape and the template of its decoder, in both directions.

A decoder with a template moves each point of a shape by a displacement (`Decoder.template_points`). The way back, from
a place in the template to the point of a shape, has no closed form: `points_at` finds it by Newton's method.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sdfnet.decoders import Decoder
from sdfnet.decoders.template import template_jacobians
from sdfnet.geometry.arrays import BoolArray, FloatArray

_CHUNK = 65536
"""Points that are moved at a time."""

_STEPS, _LONGEST_STEP, _TOLERANCE = 30, 0.1, 1e-5
"""Newton steps at most, the length to which a step is shortened, and the distance from the place at which a point has
arrived; unit frame."""

_LEAST_DETERMINANT = 0.05
"""Where the determinant is smaller, a fixed-point step replaces the Newton step."""


@dataclass(frozen=True, eq=False)
class MappedPoints:
    """Points of a shape at given places of the template.

    Attributes
    ----------
    points : (N, 3) float64, unit frame
    residuals : (N,) float64
        How far the map takes each point from its place; 0 where the inverse was found.
    determinants : (N,) float64
        The determinant of the map's derivative at each point: above 0 unless the displacement folds space.

    >>> found = MappedPoints(np.zeros((2, 3)), np.array([0.0, 0.1]), np.ones(2))
    >>> found.found.tolist()
    [True, False]
    """

    points: FloatArray
    residuals: FloatArray
    determinants: FloatArray

    @property
    def found(self) -> BoolArray:
        """Return where the inverse was found and the displacement does not fold."""
        return (self.residuals <= 10 * _TOLERANCE) & (self.determinants > 0)


def template_places(decoder: Decoder, latent: Tensor, points: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the places (N, 3) in the template of points (N, 3) of a shape, and the determinants (N,) of the map there.

    Points and places are float64, in the unit frame; the map itself has the decoder's precision.

    Raises
    ------
    ValueError
        The decoder has no template.

    >>> from sdfnet.decoders import TemplateConfig, build_decoder
    >>> decoder = build_decoder(TemplateConfig(latent_size=4, channels=(4, 4)))
    >>> places, determinants = template_places(decoder, torch.zeros(4), np.array([[0.1, 0.2, 0.3]]))
    >>> places.round(6).tolist(), determinants.tolist()
    ([[0.1, 0.2, 0.3]], [1.0])
    """
    with torch.no_grad():
        conditioned = decoder.condition(latent[None])
    parts = [_map(decoder, conditioned, part) for part in _chunks(points, latent)]
    places = [moved for moved, _ in parts] or [torch.zeros(0, 3)]
    determinants = [torch.linalg.det(jacobian) for _, jacobian in parts] or [torch.zeros(0)]
    return _numpy(torch.cat(places)), _numpy(torch.cat(determinants))


def map_jacobians(decoder: Decoder, latent: Tensor, points: FloatArray) -> FloatArray:
    """Return the derivatives (N, 3, 3) float64 of the places in the template by the points (N, 3) of a shape.

    Raises
    ------
    ValueError
        The decoder has no template.

    >>> from sdfnet.decoders import TemplateConfig, build_decoder
    >>> decoder = build_decoder(TemplateConfig(latent_size=4, channels=(4, 4)))
    >>> map_jacobians(decoder, torch.zeros(4), np.zeros((1, 3))).shape
    (1, 3, 3)
    """
    with torch.no_grad():
        conditioned = decoder.condition(latent[None])
    parts = [template_jacobians(decoder, part[None], conditioned)[0] for part in _chunks(points, latent)]
    return _numpy(torch.cat(parts)) if parts else np.zeros((0, 3, 3))


def points_at(
    decoder: Decoder, latent: Tensor, places: FloatArray, *, starts: FloatArray | None = None
) -> MappedPoints:
    """Return the points of a shape that lie at `places` (N, 3) of the template, both float64 in the unit frame.

    Newton's method falls back to the fixed point of x = place - displacement(x) where the derivative is nearly
    singular. Where the displacement folds, no point or several may lie at a place: see `MappedPoints.found`.

    Parameters
    ----------
    starts : (N, 3) float64, optional
        Where Newton's method starts; by default, where the decoder expects the points (`Decoder.first_points`).

    Raises
    ------
    ValueError
        The decoder has no template.

    >>> from sdfnet.decoders import TemplateConfig, build_decoder
    >>> decoder = build_decoder(TemplateConfig(latent_size=4, channels=(4, 4)))
    >>> points_at(decoder, torch.zeros(4), np.array([[0.1, 0.2, 0.3]])).points.round(6).tolist()
    [[0.1, 0.2, 0.3]]
    """
    with torch.no_grad():
        conditioned = decoder.condition(latent[None])
    begins = _chunks(places if starts is None else starts, latent)
    parts = [
        _invert(decoder, conditioned, part, None if starts is None else begin)
        for part, begin in zip(_chunks(places, latent), begins, strict=True)
    ]
    if not parts:
        return MappedPoints(np.zeros((0, 3)), np.zeros(0), np.zeros(0))
    points, residuals, determinants = (_numpy(torch.cat(each)) for each in zip(*parts, strict=True))
    return MappedPoints(points, residuals, determinants)


def _chunks(points: FloatArray, like: Tensor) -> tuple[Tensor, ...]:
    moved = torch.from_numpy(np.ascontiguousarray(points)).to(like)
    return moved.split(_CHUNK) if len(moved) else ()


def _numpy(values: Tensor) -> FloatArray:
    return values.detach().to("cpu", torch.float64).numpy()


def _map(decoder: Decoder, conditioned: tuple[Tensor, ...], points: Tensor) -> tuple[Tensor, Tensor]:
    """Return the places (N, 3) of points (N, 3) of one shape, and the derivatives (N, 3, 3) there."""
    jacobians = template_jacobians(decoder, points[None], conditioned)[0]
    with torch.no_grad():
        return decoder.template_points(points[None], conditioned)[0], jacobians


def _invert(
    decoder: Decoder, conditioned: tuple[Tensor, ...], places: Tensor, starts: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Return points, residuals and determinants for places (N, 3) of one shape."""
    points = starts
    if points is None:
        with torch.no_grad():
            points = decoder.first_points(places[None], conditioned)[0]
    for _ in range(_STEPS):
        moved, jacobians = _map(decoder, conditioned, points)
        misses = places - moved
        if bool((misses.norm(dim=1) <= _TOLERANCE).all()):
            return points, misses.norm(dim=1), torch.linalg.det(jacobians)
        regular = torch.linalg.det(jacobians) > _LEAST_DETERMINANT
        identity = torch.eye(3, dtype=jacobians.dtype, device=jacobians.device)
        steps = torch.linalg.solve(torch.where(regular[:, None, None], jacobians, identity), misses)
        lengths = steps.norm(dim=1, keepdim=True).clamp(min=_TOLERANCE)
        points = points + steps * (_LONGEST_STEP / lengths).clamp(max=1)
    moved, jacobians = _map(decoder, conditioned, points)
    return points, (places - moved).norm(dim=1), torch.linalg.det(jacobians)
