"""Bad spots of a carried mesh mended: triangles that face the wrong way, vertices that are off the surface.

Creases, narrow gaps and tips can turn triangles over, and smoothing does not turn them back. So for each vertex of a
bad spot places between its neighbours are put onto the surface, and it goes to the one where the worst of its triangles
is best. Nothing else moves, and no connection changes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sdfnet.fields.base import Field
from sdfnet.geometry.edges import face_crosses, shape_quality
from sdfnet.surfacing.landing import FAR, Carried, directions, lengths, newton
from sdfnet.surfacing.shapes import turned_over

_ROUNDS = 40
"""In each a set of vertices of bad spots moves of which no two are neighbours."""

_WIDEN = 5
"""After so many rounds the spots are taken one ring wider."""

_WIDEST = 3

_PLACES = 24
"""Tried for each vertex in a round."""

_UPRIGHT = 0.3
"""A triangle is upright if its normal has this cosine to that of the surface at one of its corners at least."""


def mended(carried: Carried, field: Field) -> Carried:
    """Return the mesh with its bad spots mended as far as they can be; vertices that are adrift stay. Deterministic."""
    generator = np.random.default_rng(0)
    for step in range(_ROUNDS):
        spot = _bad_spots(carried)
        if not spot.any():
            break
        for _ in range(min(step // _WIDEN, _WIDEST)):
            spot[carried.faces[spot[carried.faces].any(axis=1)]] = True
        moving = _apart(np.flatnonzero(spot & ~carried.adrift), carried, generator)
        if len(moving):
            carried = _moved(carried, field, moving, generator)
    return carried


def _bad_spots(carried: Carried) -> NDArray[np.bool_]:
    spot = np.abs(carried.distances) > FAR
    spot[carried.faces[turned_over(carried.vertices, carried.faces, carried.normals)]] = True
    return spot & ~carried.adrift


def _apart(vertices: NDArray[np.int64], carried: Carried, generator: np.random.Generator) -> NDArray[np.int64]:
    """Return a random set of `vertices` of which no two share a face."""
    rank = np.full(len(carried.vertices), np.inf)
    rank[vertices] = generator.random(len(vertices))
    lowest = rank.copy()
    np.minimum.at(lowest, carried.faces.ravel(), np.repeat(rank[carried.faces].min(axis=1), 3))
    return vertices[rank[vertices] <= lowest[vertices]]


@dataclass(frozen=True, eq=False)
class _Stars:
    """The faces around each of N vertices: their other two corners, (N, W) each; the last is repeated to fill rows."""

    second: NDArray[np.int64]
    third: NDArray[np.int64]

    @classmethod
    def of(cls, faces: NDArray[np.int64], vertices: NDArray[np.int64]) -> _Stars:
        near = np.zeros(faces.max() + 1, dtype=bool)
        near[vertices] = True
        corners = np.flatnonzero(near[faces.ravel()])
        corners = corners[np.argsort(faces.ravel()[corners], kind="stable")]
        first = np.searchsorted(faces.ravel()[corners], vertices)
        count = np.searchsorted(faces.ravel()[corners], vertices, side="right") - first
        sides = corners[first[:, None] + np.minimum(np.arange(count.max()), count[:, None] - 1)]
        return cls(faces[sides // 3, (sides + 1) % 3], faces[sides // 3, (sides + 2) % 3])


def _moved(carried: Carried, field: Field, moving: NDArray[np.int64], generator: np.random.Generator) -> Carried:
    """Put each of the `moving` vertices, no two of them neighbours, where the worst of its triangles is best."""
    stars = _Stars.of(carried.faces, moving)
    shares = generator.dirichlet(np.full(stars.second.shape[1], 0.5), size=(len(moving), _PLACES))
    shares[:, 0] = 1 / shares.shape[2]  # one of the places is the middle
    own = 0.8 * generator.random((len(moving), _PLACES, 1))
    between = own * carried.vertices[moving, None] + (1 - own) * (shares @ carried.vertices[stars.second])
    found, values, slopes = newton(field, between.reshape(-1, 3), carried.edge_length / 2)
    places = np.concatenate([carried.vertices[moving, None], found.reshape(between.shape)], axis=1)
    normals = np.concatenate([carried.normals[moving, None], directions(slopes).reshape(between.shape)], axis=1)
    off = (values / lengths(slopes)).reshape(between.shape[:2])
    distances = np.concatenate([carried.distances[moving, None], off], axis=1)
    scores = _scores(carried, stars, places, normals)
    best = np.where(np.abs(distances) > FAR / 2, -2 - np.abs(distances), scores).argmax(axis=1)
    row = np.arange(len(moving))
    new = [carried.vertices.copy(), carried.normals.copy(), carried.distances.copy()]
    for old, options in zip(new, (places, normals, distances), strict=True):
        old[moving] = options[row, best]
    return replace(carried, vertices=new[0], normals=new[1], distances=new[2])


def _scores(
    carried: Carried, stars: _Stars, places: NDArray[np.float64], normals: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return how good the worst triangle around each vertex is at each of its places, (N, P), from -1 to 1."""
    count, width = places.shape[1], stars.second.shape[1]

    def spread(values: NDArray[np.float64], corner: NDArray[np.int64]) -> NDArray[np.float64]:
        return np.broadcast_to(values[corner][:, None], (len(corner), count, width, 3)).reshape(-1, 3)

    first, own = (np.repeat(values, width, axis=1).reshape(-1, 3) for values in (places, normals))
    corners = np.concatenate([first, *(spread(carried.vertices, corner) for corner in (stars.second, stars.third))])
    triangles = np.arange(len(corners)).reshape(3, -1).T
    upright = directions(face_crosses(corners, triangles))
    around = [own, *(spread(carried.normals, corner) for corner in (stars.second, stars.third))]
    cosine = np.max([(upright * normal).sum(axis=1) for normal in around], axis=0)
    scores = shape_quality(corners, triangles) * np.clip(cosine / _UPRIGHT, -1, 1)
    return scores.reshape(-1, count, width).min(axis=2)
