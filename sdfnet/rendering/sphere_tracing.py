"""Sphere tracing: where rays meet the surface of a field, without a mesh.

A step as long as the distance cannot pass through a surface if the field is exact or a bound. An approximate field
gives no such guarantee. So each step is shortened and limited, and if a step ends inside, bisection finds the surface.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from sdfnet.fields.base import Field, check_points, evaluate
from sdfnet.geometry.bounds import Bounds

_APPROXIMATE_SCALE = 0.7  # a step is this share of the value, where the field is only approximate
_APPROXIMATE_STEPS = 48  # such a field is evaluated at least this often on a ray across its bounds
_CHUNK = 1 << 15  # rays in one batch, whose arrays stay in the cache
_HALVINGS = 20
_MOST_STEPS = 256


@dataclass(frozen=True, eq=False)
class Trace:
    """Hits of rays on a field: `distances` (R,) along the rays, `points` (R, 3). Without a hit: infinity and NaN."""

    hit: Tensor
    distances: Tensor
    points: Tensor


def sphere_trace(
    field: Field, origins: Tensor, directions: Tensor, *, max_distance: float = float("inf"), tolerance: float = 1e-4
) -> Trace:
    """Return where rays from `origins` (R, 3) along `directions` (R, 3) first come within `tolerance` of the surface.

    Only the part of a ray inside `field.bounds` and nearer than `max_distance` is searched. A ray that starts inside
    the solid hits it at its origin. The result is exact for a field that is exact or a bound. In an approximate field,
    parts thinner than 1/48 of the diagonal of its bounds may be missed.

    Raises
    ------
    ValueError
        Shapes that differ, directions of no length, or no end to a ray: infinite bounds and no `max_distance`.

    >>> from sdfnet.fields.primitives import Sphere
    >>> trace = sphere_trace(Sphere(1.0), torch.tensor([[0.0, 0, 3], [0, 2, 3]]), torch.tensor([[0.0, 0, -1]] * 2))
    >>> trace.hit.tolist(), round(trace.distances[0].item(), 4)
    ([True, False], 2.0)
    """
    check_points(origins)
    check_points(directions)
    if origins.ndim != 2 or origins.shape != directions.shape:
        raise ValueError(
            "origins and directions must both have shape (R, 3), "
            f"got {tuple(origins.shape)} and {tuple(directions.shape)}"
        )
    if len(directions) and not bool((directions.norm(dim=-1) > 0).all()):
        raise ValueError("directions must not be zero")
    directions = torch.nn.functional.normalize(directions, dim=-1)
    near, far = _span(field.bounds, origins, directions, max_distance, 2 * tolerance)
    if bool((torch.isfinite(near) & torch.isposinf(far)).any()):
        raise ValueError("rays have no end: the field has infinite bounds; give max_distance")
    longest = float("inf")
    if field.accuracy == "approximate":
        spans = (far - near)[near <= far]
        longest = max(float(spans.max()) / _APPROXIMATE_STEPS if len(spans) else 0.0, tolerance)
    march = partial(_march, field, longest=longest, tolerance=tolerance)
    chunks = zip(*(values.split(_CHUNK) for values in (origins, directions, near, far)), strict=True)
    distances = torch.cat([near[:0], *(march(*chunk) for chunk in chunks)])
    hit = torch.isfinite(distances)
    return Trace(hit, distances, torch.where(hit[:, None], origins + distances[:, None] * directions, float("nan")))


def _march(
    field: Field, origins: Tensor, directions: Tensor, near: Tensor, far: Tensor, *, longest: float, tolerance: float
) -> Tensor:
    """Return the distance of the first surface on each ray between `near` and `far`, else infinity."""
    scale = _APPROXIMATE_SCALE if field.accuracy == "approximate" else 1.0
    distances = torch.full_like(near, float("inf"))
    rays = torch.nonzero((near <= far) & torch.isfinite(near))[:, 0]
    current, before = near[rays], near[rays]
    for _ in range(_MOST_STEPS):
        if not len(rays):
            break
        sdf = evaluate(field, origins[rays] + current[:, None] * directions[rays])
        found = sdf <= tolerance
        crossed = found & (sdf < -tolerance) & (current > before)
        met = current.clone()
        met[crossed] = _halved(
            field, origins[rays[crossed]], directions[rays[crossed]], before[crossed], current[crossed]
        )
        distances[rays[found]] = met[found]
        step = (scale * sdf).clamp(tolerance, longest)
        going = ~found & (current + step <= far[rays])
        rays, before, current = rays[going], current[going], (current + step)[going]
    return distances


def _halved(field: Field, origins: Tensor, directions: Tensor, outside: Tensor, inside: Tensor) -> Tensor:
    """Return distances of the surface between an `outside` and an `inside` distance on each ray, by bisection."""
    for _ in range(_HALVINGS if len(origins) else 0):
        middle = (outside + inside) / 2
        within = evaluate(field, origins + middle[:, None] * directions) <= 0
        inside, outside = torch.where(within, middle, inside), torch.where(within, outside, middle)
    return inside


def _span(
    bounds: Bounds, origins: Tensor, directions: Tensor, max_distance: float, margin: float
) -> tuple[Tensor, Tensor]:
    """Return the distances, in [0, max_distance], at which rays enter and leave `bounds`.

    If a ray misses the box, the first distance is the larger one.
    """
    lower = origins.new_tensor(bounds.lower - margin)
    upper = origins.new_tensor(bounds.upper + margin)
    # A direction that is zero along an axis divides to ±inf, which the comparison wants; 0/0 is on the face: inside.
    first, second = (lower - origins) / directions, (upper - origins) / directions
    near = torch.minimum(first, second).nan_to_num(nan=-torch.inf, posinf=torch.inf, neginf=-torch.inf).amax(dim=-1)
    far = torch.maximum(first, second).nan_to_num(nan=torch.inf, posinf=torch.inf, neginf=-torch.inf).amin(dim=-1)
    return near.clamp_min(0.0), far.clamp_max(max_distance)
