"""Newton steps that carry points onto a level of a field: sharper vertices than linear interpolation gives.

A mesh on its way, and how its vertices are put onto a surface: by Newton steps, or by looking along the normal.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sdfnet.fields.base import Field, check_points, evaluate, gradient
from sdfnet.mesh.edges import face_crosses, sum_at_vertices


def project_to_level(
    field: Field, points: Tensor, *, steps: int, reach: float, level: float = 0.0, chunk_size: int = 65536
) -> Tensor:
    """Return `points` (N, 3) moved along the field's gradient onto `level`.

    Each step is `-(f - level) * g / |g|²` with g the gradient. Of the places that a point visits, it ends at the one
    nearest the level (by value) and no farther than `reach` from its start, whatever an approximate field claims. Where
    the field is smooth, the error falls quadratically with the steps.

    Raises
    ------
    ValueError
        `steps` is negative or `reach` is not positive.

    >>> from sdfnet.fields.primitives import Sphere
    >>> near = torch.tensor([[1.1, 0.0, 0.0], [0.0, 0.9, 0.0]])
    >>> project_to_level(Sphere(1.0), near, steps=1, reach=0.5).norm(dim=1)
    tensor([1., 1.])
    """
    check_points(points)
    if steps < 0:
        raise ValueError(f"steps must be at least 0, got {steps}")
    if not reach > 0:
        raise ValueError(f"reach must be positive, got {reach}")
    parts = [
        _project_chunk(field, part, steps=steps, reach=reach, level=level)
        for part in points.reshape(-1, 3).split(chunk_size)
    ]
    return torch.cat(parts).reshape(points.shape) if parts else points.clone()


def _project_chunk(field: Field, points: Tensor, *, steps: int, reach: float, level: float) -> Tensor:
    best = points.clone()
    with torch.no_grad():
        best_error = (field(points) - level).abs()
    current = points.clone()
    for _ in range(steps):
        slope = gradient(field, current)
        with torch.no_grad():
            difference = field(current) - level
            step = (difference / slope.square().sum(dim=-1).clamp_min(1e-12))[:, None] * slope
            current = torch.nan_to_num(current - step)
            error = (field(current) - level).abs()
            better = (error < best_error) & ((current - points).norm(dim=-1) <= reach)
            best[better], best_error[better] = current[better], error[better]
    return best


_LEAST_AREA = 0.02
"""What must be left of a triangle, as a share of its area, seen along its normal before the move."""


def move_without_flips(
    vertices: NDArray[np.float64], moved: NDArray[np.float64], faces: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return `moved` (V, 3) instead of `vertices`, but where that would turn a face over or crush it, they stay.

    Faces without area to begin with are left out of account.

    >>> triangle = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]])
    >>> over = np.array([[0.0, 0, 0], [1, 0, 0], [0, -1, 0]])
    >>> bool((move_without_flips(triangle, over, np.array([[0, 1, 2]])) == triangle).all())
    True
    """
    before = _crosses(vertices, faces)
    squares = np.einsum("ij,ij->i", before, before)
    watched = squares > 0
    result = moved.copy()
    watch = np.flatnonzero(watched)
    while len(watch):  # A vertex that stays can spoil a face that was good; each round some more stay.
        after = _crosses(result, faces[watch])
        bad = np.einsum("ij,ij->i", before[watch], after) < _LEAST_AREA * squares[watch]
        stay = np.unique(faces[watch[bad]])
        stay = stay[(result[stay] != vertices[stay]).any(axis=1)]
        if not len(stay):
            break
        result[stay] = vertices[stay]
        touched = np.zeros(len(vertices), dtype=bool)
        touched[stay] = True
        watch = np.flatnonzero(watched & touched[faces].any(axis=1))
    return result


def _crosses(vertices: NDArray[np.float64], faces: NDArray[np.int64]) -> NDArray[np.float64]:
    first, second, third = vertices[faces[:, 0]], vertices[faces[:, 1]], vertices[faces[:, 2]]
    return np.cross(second - first, third - first)


CLOSE = 2e-5
"""Unit frame: vertices nearer to the surface than this are on it."""

FAR = 4e-4
"""Unit frame: a vertex farther from the surface than this has lost it."""

_NEWTON = 6
"""Newton steps at most after each sub-step."""

_FLATTEST = 0.1
"""Where the gradient is shorter, it is taken to be so long: at a saddle the way to the surface is not along it."""

_RESCUES = 3
_LOOK = 2
"""How often vertices that Newton steps leave off the surface look for it, and how far: in mean edge lengths."""


@dataclass(frozen=True, eq=False)
class Carried:
    """A mesh on its way.

    Attributes
    ----------
    vertices, normals : (U, 3) float64
        Each place once; unit normals from the field's gradient, where adrift from the mesh.
    distances : (U,) float64
        To the surface, to first order.
    faces : (F, 3) int64
    place_of : (V,) int64
        The place of each vertex of the mesh that was given.
    edge_length : float
        The mean at the start.
    centers : (B,) int64
        Places evenly spread, see `motion`.
    adrift : (U,) bool
        Which places have no surface to go to, and go with their neighbours.
    """

    vertices: NDArray[np.float64]
    normals: NDArray[np.float64]
    distances: NDArray[np.float64]
    faces: NDArray[np.int64]
    place_of: NDArray[np.int64]
    edge_length: float
    centers: NDArray[np.int64]
    adrift: NDArray[np.bool_]

    def expanded(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return values at places as values at vertices."""
        return values[self.place_of]


def onto(carried: Carried, field: Field) -> Carried:
    """Put the vertices onto the surface, and renew normals and distances.

    By Newton steps; what is still off is put between its neighbours, looks for the surface along the mesh's normal, and
    tries again.
    """
    vertices, values, slopes = newton(field, carried.vertices, carried.edge_length / 2)
    for _ in range(_RESCUES):
        lost = np.flatnonzero(np.abs(values) > FAR * lengths(slopes))
        if not len(lost):
            break
        vertices = vertices.copy()
        found = _searched(field, vertices, carried.faces, lost, carried.edge_length)
        vertices[lost], values[lost], slopes[lost] = newton(field, found, carried.edge_length / 2)
    return replace(carried, vertices=vertices, normals=directions(slopes), distances=values / lengths(slopes))


def newton(
    field: Field, points: NDArray[np.float64], reach: float
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return places nearer the level, with values and gradients; where a step does not help, half of it is next."""
    best, limit = points.copy(), np.full(len(points), reach)
    values, slopes = values_and_gradients(field, best)
    for _ in range(_NEWTON):
        steep = lengths(slopes)
        off = np.flatnonzero(np.abs(values) > CLOSE * steep)
        if not len(off):
            break
        step = np.clip(values[off] / steep[off], -limit[off], limit[off])
        tried = best[off] - (step / steep[off])[:, None] * slopes[off]
        new_values, new_slopes = values_and_gradients(field, tried)
        better = np.abs(new_values) < np.abs(values[off])
        limit[off] = np.where(better, limit[off], np.abs(step) / 2)
        kept = off[better]
        best[kept], values[kept], slopes[kept] = tried[better], new_values[better], new_slopes[better]
    return best, values, slopes


def values_and_gradients(
    field: Field, points: NDArray[np.float64], *, chunk_size: int = 8192
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the values (V,) and gradients (V, 3) of `field` at `points` (V, 3), both from one pass."""
    values, slopes = [], []
    for part in torch.from_numpy(points).float().split(chunk_size):
        with torch.inference_mode(False), torch.enable_grad():
            asked = part.clone().requires_grad_(True)
            sdf = field(asked)
            (slope,) = torch.autograd.grad(sdf.sum(), asked)
        values.append(sdf.detach().double().numpy())
        slopes.append(slope.double().numpy())
    return np.concatenate(values), np.concatenate(slopes)


def lengths(slopes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return how steep the field is, (V,), at its gradients (V, 3); never flatter than may be divided by."""
    return np.maximum(np.linalg.norm(slopes, axis=1), _FLATTEST)


def directions(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return vectors (V, 3) at unit length; those without length as they are."""
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=1), 1e-300)[:, None])


def _searched(
    field: Field, vertices: NDArray[np.float64], faces: NDArray[np.int64], lost: NDArray[np.int64], edge_length: float
) -> NDArray[np.float64]:
    """Return for the `lost` vertices the nearest place along the mesh's normal where the field turns to outside."""
    ring = faces[np.isin(faces, lost).any(axis=1)]
    sums = sum_at_vertices(
        ring,
        np.hstack([vertices[ring].sum(axis=1), np.ones((len(ring), 1)), face_crosses(vertices, ring)]),
        len(vertices),
    )[lost]
    middle = (sums[:, :3] / sums[:, 3:4] - vertices[lost]) / 2  # each face counts the vertex itself once
    normals = directions(sums[:, 4:])
    offsets = edge_length * np.linspace(-_LOOK, _LOOK, 8 * _LOOK + 1)
    places = middle[:, None] + offsets[:, None] * normals[:, None]
    flat = torch.from_numpy(places.reshape(-1, 3)).float()
    values = evaluate(field, flat).double().numpy().reshape(len(lost), -1)
    crossing: NDArray[np.bool_] = (values[:, :-1] <= 0) & (values[:, 1:] > 0)
    away = np.where(crossing, np.abs(offsets[:-1] + offsets[1:]), np.inf)
    at, row = np.asarray(away.argmin(axis=1)), np.arange(len(lost))
    any_crossing = np.asarray(crossing.any(axis=1))
    share = values[row, at] / np.where(crossing[row, at], values[row, at] - values[row, at + 1], 1.0)
    found = places[row, at] + share[:, None] * (places[row, at + 1] - places[row, at])
    return np.where(any_crossing[:, None], found, middle)
