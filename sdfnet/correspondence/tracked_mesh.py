"""The state of a tracked mesh, and how its vertices are brought onto a surface.

Newton steps bring most vertices onto the surface. The rest search for it along the normals of the mesh.
`flow`, `advect` and `track` all work on this state.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from sdfnet.extraction.projection import newton_steps
from sdfnet.fields.base import Field, evaluate, value_and_gradient
from sdfnet.mesh.mesh import face_crosses, sum_at_vertices

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
    """Return points nearer to the surface, with values and gradients there; no step is longer than `reach`."""
    found = newton_steps(
        lambda positions: values_and_gradients(field, positions),
        points,
        steps=_NEWTON,
        longest_step=reach,
        tolerance=CLOSE,
        smallest_slope=_FLATTEST,
    )
    return found.points, found.values, found.gradients


def values_and_gradients(
    field: Field, points: NDArray[np.float64], *, chunk_size: int = 8192
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the values (V,) and gradients (V, 3) of `field` at `points` (V, 3), both from one pass."""
    sdf, gradients = value_and_gradient(field, torch.from_numpy(points).float(), chunk_size=chunk_size)
    return sdf.double().numpy(), gradients.double().numpy()


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
