"""One step of tracking: the vertices of a mesh from one frame's surface to the next frame's."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from sdfnet.fields.base import Field, evaluate
from sdfnet.geometry.mesh import Mesh
from sdfnet.geometry.remeshing import check_closed, face_crosses, sum_at_vertices
from sdfnet.surfacing.motion import smooth_motion, spread_centers
from sdfnet.surfacing.shapes import slides, smallest_angles, turned_over
from sdfnet.surfacing.window import FieldAt

_STRIDE = 0.5
"""How far the surface may move in a sub-step, in mean edge lengths; nearly everywhere (see `_QUANTILE`)."""

_QUANTILE = 0.999

_MOST_SUBSTEPS = 16

_NEWTON = 6
"""Newton steps at most after each sub-step."""

_FLATTEST = 0.1
"""Where the gradient is shorter, it is taken to be so long: at a saddle the way to the surface is not along it."""

_FITS = 2
"""How often the smooth motion is fitted in a sub-step: first in whole, then what is left."""

_RESCUES = 3
_LOOK = 2
"""How often vertices that Newton steps leave off the surface look for it, and how far: in mean edge lengths."""

_CLOSE = 2e-5
"""Unit frame: vertices nearer to the surface than this are on it."""

_FAR = 4e-4
"""Unit frame: a vertex farther from the surface than this has lost it."""

_FEW = 5e-4
"""Vertices that have lost the surface, and triangles turned over, that a mesh goes on with: in creases and at tips
finer than an edge there are some in every mesh."""

_SLIDES, _MOST_SLIDES = 2, 16
"""Rounds of sliding in a sub-step, and while triangles are turned over."""

_MOST_SLIVERS = 0.04
"""A mesh with a larger share of triangles below 10° has been stretched too much."""

_MOST_STRETCH = 8.0
"""So has one with an edge longer than so many mean edges of the mesh it started as."""


@dataclass(frozen=True, eq=False)
class Carried:
    """A mesh on its way.

    Attributes
    ----------
    vertices, normals : (U, 3) float64
        Each place once; unit normals from the field's gradient.
    distances : (U,) float64
        To the surface, to first order.
    faces : (F, 3) int64
    place_of : (V,) int64
        The place of each vertex of the mesh that was given.
    edge_length : float
        The mean at the start.
    centers : (B,) int64
        Places evenly spread, see `motion`.
    """

    vertices: NDArray[np.float64]
    normals: NDArray[np.float64]
    distances: NDArray[np.float64]
    faces: NDArray[np.int64]
    place_of: NDArray[np.int64]
    edge_length: float
    centers: NDArray[np.int64]

    def expanded(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return values at places as values at vertices."""
        return values[self.place_of]


def settle(mesh: Mesh, field: Field) -> Carried:
    """Weld the vertices of `mesh` that lie at one place, and put it onto the surface of `field`."""
    places, place_of = np.unique(mesh.vertices, axis=0, return_inverse=True)
    first_seen = np.full(len(places), len(place_of))
    np.minimum.at(first_seen, place_of.ravel(), np.arange(len(place_of)))
    order = np.argsort(first_seen)
    rank = np.argsort(order)[place_of.ravel()]
    vertices, faces = places[order], rank[mesh.faces]
    check_closed(Mesh(vertices, faces))
    length = float(np.linalg.norm(vertices[faces] - vertices[np.roll(faces, 1, axis=1)], axis=2).mean())
    start = Carried(vertices, vertices, vertices[:, 0], faces, rank, length, spread_centers(vertices))
    return _onto(start, field)


def carry(carried: Carried, field_at: FieldAt, span: tuple[float, float]) -> tuple[Carried, float]:
    """Carry a mesh from the surface at `span[0]` to that at `span[1]`; return the last sub-step's time but one too."""
    values, slopes = values_and_gradients(field_at(span[1]), carried.vertices)
    travel = float(np.quantile(np.abs(values) / _lengths(slopes), _QUANTILE))
    count = min(max(math.ceil(travel / (_STRIDE * carried.edge_length)), 1), _MOST_SUBSTEPS)
    times = [span[0] + (span[1] - span[0]) * step / count for step in range(count + 1)]
    for time in times[1:]:
        field = field_at(time)
        carried = _onto(_advanced(carried, field), field)
        carried = _evened(carried, field)
    return carried, times[-2]


def _advanced(carried: Carried, field: Field) -> Carried:
    """Move by the smoothest motion that agrees with the way to the new surface along its normals."""
    vertices, limit = carried.vertices, 2 * _STRIDE * carried.edge_length
    for _ in range(_FITS):
        values, slopes = values_and_gradients(field, vertices)
        steep = _lengths(slopes)
        distances = np.clip(-values / steep, -limit, limit)
        motion = smooth_motion(vertices, slopes / steep[:, None], distances, carried.centers)
        longest = np.linalg.norm(motion, axis=1, keepdims=True)
        vertices = vertices + motion * np.minimum(1, 2 * limit / np.maximum(longest, 1e-300))
    return replace(carried, vertices=vertices)


def _onto(carried: Carried, field: Field) -> Carried:
    """Put the vertices onto the surface, and renew normals and distances.

    By Newton steps; what is still off is put between its neighbours, looks for the surface along the mesh's normal, and
    tries again.
    """
    vertices, values, slopes = _newton(field, carried.vertices, carried.edge_length / 2)
    for _ in range(_RESCUES):
        lost = np.flatnonzero(np.abs(values) > _FAR * _lengths(slopes))
        if not len(lost):
            break
        vertices = vertices.copy()
        found = _searched(field, vertices, carried.faces, lost, carried.edge_length)
        vertices[lost], values[lost], slopes[lost] = _newton(field, found, carried.edge_length / 2)
    steep = np.linalg.norm(slopes, axis=1)
    normals = slopes / np.maximum(steep, 1e-12)[:, None]
    return replace(carried, vertices=vertices, normals=normals, distances=values / _lengths(slopes))


def _newton(
    field: Field, vertices: NDArray[np.float64], reach: float
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return places nearer the level, with values and gradients; where a step does not help, half of it is next."""
    best, limit = vertices.copy(), np.full(len(vertices), reach)
    values, slopes = values_and_gradients(field, best)
    for _ in range(_NEWTON):
        steep = _lengths(slopes)
        off = np.flatnonzero(np.abs(values) > _CLOSE * steep)
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
    normals = sums[:, 4:] / np.maximum(np.linalg.norm(sums[:, 4:], axis=1, keepdims=True), 1e-300)
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


def _evened(carried: Carried, field: Field) -> Carried:
    """Let the vertices of badly shaped triangles slide along the surface; longer while triangles are turned over."""
    for sliding in range(_MOST_SLIDES):
        bad, way = slides(carried.vertices, carried.faces, carried.normals)
        turned = turned_over(carried.vertices, carried.faces, carried.normals).any()
        if not len(bad) or (sliding >= _SLIDES and not turned):
            break
        found, values, slopes = _newton(field, carried.vertices[bad] + way, carried.edge_length / 2)
        kept = np.abs(values) <= _FAR * _lengths(slopes)
        vertices, normals = carried.vertices.copy(), carried.normals.copy()
        distances = carried.distances.copy()
        vertices[bad[kept]], distances[bad[kept]] = found[kept], (values / _lengths(slopes))[kept]
        normals[bad[kept]] = (slopes / np.maximum(np.linalg.norm(slopes, axis=1), 1e-12)[:, None])[kept]
        carried = replace(carried, vertices=vertices, normals=normals, distances=distances)
    return carried


def fault(carried: Carried) -> str:
    """Say why this mesh cannot go on; empty if it can."""
    lost = np.abs(carried.distances) > _FAR
    if np.count_nonzero(lost) > _FEW * len(lost) or not np.abs(carried.distances).max() < carried.edge_length:
        return f"{np.count_nonzero(lost)} vertices have lost the surface"
    num_turned = np.count_nonzero(turned_over(carried.vertices, carried.faces, carried.normals))
    if num_turned > _FEW * len(carried.faces):
        return f"{num_turned} triangles turn over"
    angles = smallest_angles(carried.vertices, carried.faces)
    slivers = np.count_nonzero(angles < 10) / len(angles)
    if slivers > _MOST_SLIVERS:
        return f"{100 * slivers:.1f} % of the triangles have an angle below 10°"
    sides = carried.vertices[carried.faces] - carried.vertices[np.roll(carried.faces, 1, axis=1)]
    longest = float(np.linalg.norm(sides, axis=2).max()) / carried.edge_length
    return f"an edge is {longest:.1f} times as long as the mean at the start" if longest > _MOST_STRETCH else ""


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


def _lengths(slopes: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.maximum(np.linalg.norm(slopes, axis=1), _FLATTEST)
