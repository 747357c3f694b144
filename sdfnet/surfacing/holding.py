"""A mesh kept through small changes of topology: what has no surface to go to goes with its neighbours.

Where two fingers join, the vertices between them lie inside; where a web between them tears, its vertices lie outside.
Newton steps would take such vertices to some other part of the surface, and bunch them there. They are let go instead:
they follow the smooth motion of space, and share the corrections of the vertices around them, until the surface comes
back to where they are.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array, diags_array
from scipy.sparse.linalg import spsolve

from sdfnet.fields.base import Field
from sdfnet.geometry.edges import face_crosses, sum_at_vertices
from sdfnet.surfacing.landing import FAR, Carried, directions, lengths, values_and_gradients
from sdfnet.surfacing.shapes import turned_over

_JUMP = 1.0
"""In mean edge lengths: a vertex that would have to go farther from where the motion of space takes it lets go."""

_ASIDE, _AGAIN = 0.2, 0.5
"""Least cosine between the mesh's normal and the surface's where a vertex stays on it, and where it comes back."""

_FAIRING = 0.1
"""How far what is adrift goes towards the middle of its neighbours in a sub-step: it stays smooth."""

_ROUNDS = 12
_WIDEST = 3
"""While triangles are turned over, their vertices let go as well, so often at most, and so many rings around them."""

_LAST_ROUNDS = 30
"""What is turned over even so is smoothed, as often as this at most."""


def held(moved: Carried, landed: Carried, field: Field) -> Carried:
    """Return `landed`, with what has no surface to go to held between its neighbours.

    `moved` is the mesh as the smooth motion of space takes it; its `adrift` says what had let go before.
    """
    normals = mesh_normals(moved)
    cosine = (normals * landed.normals).sum(axis=1)
    jump = np.linalg.norm(landed.vertices - moved.vertices, axis=1) / moved.edge_length
    stays = (cosine > _ASIDE) & (jump < _JUMP)
    returns = (cosine > _AGAIN) & (jump < _JUMP / 2)
    adrift = ~np.where(moved.adrift, returns, stays) | (np.abs(landed.distances) > FAR)
    return let_go(moved, landed, field, adrift)


def let_go(moved: Carried, landed: Carried, field: Field, adrift: NDArray[np.bool_]) -> Carried:
    """Return `landed` with the vertices that are `adrift`, and more where triangles would turn over, between others."""
    for step in range(_ROUNDS):
        result = _between(moved, landed, field, adrift)
        turned = turned_over(result.vertices, result.faces, result.normals)
        if not turned.any():
            break
        adrift = adrift | _around(result.faces, turned, len(adrift), rings=min(step, _WIDEST))
    return _smoothed(result, field)


def mesh_normals(carried: Carried) -> NDArray[np.float64]:
    """Return the normals (U, 3) of the mesh itself: means over the faces around, by area."""
    crosses = face_crosses(carried.vertices, carried.faces)
    return directions(sum_at_vertices(carried.faces, crosses, len(carried.vertices)))


def _smoothed(carried: Carried, field: Field) -> Carried:
    """Put vertices of triangles still turned over, and of those around, in the middle of their neighbours."""
    for _ in range(_LAST_ROUNDS):
        turned = turned_over(carried.vertices, carried.faces, carried.normals)
        if not turned.any():
            break
        spot = _around(carried.faces, turned, len(carried.adrift), rings=1)
        ring = carried.faces[spot[carried.faces].any(axis=1)]
        sums = np.hstack([carried.vertices[ring].sum(axis=1), np.full((len(ring), 1), 3.0)])
        sums = sum_at_vertices(ring, sums, len(spot))[spot]
        vertices = carried.vertices.copy()
        vertices[spot] = sums[:, :3] / sums[:, 3:]
        carried = _measured(replace(carried, vertices=vertices, adrift=carried.adrift | spot), spot, field)
    return carried


def _around(faces: NDArray[np.int64], chosen: NDArray[np.bool_], size: int, *, rings: int) -> NDArray[np.bool_]:
    """Return which of `size` vertices the `chosen` faces (F,) have, and so many rings of faces around them."""
    spot = np.zeros(size, dtype=bool)
    spot[faces[chosen]] = True
    for _ in range(rings):
        spot[faces[spot[faces].any(axis=1)]] = True
    return spot


def _measured(carried: Carried, adrift: NDArray[np.bool_], field: Field) -> Carried:
    """Renew the distances of what is adrift, and give it the mesh's normals."""
    distances, normals = carried.distances.copy(), carried.normals.copy()
    values, slopes = values_and_gradients(field, carried.vertices[adrift])
    distances[adrift] = values / lengths(slopes)
    normals[adrift] = mesh_normals(carried)[adrift]
    return replace(carried, distances=distances, normals=normals)


def _between(moved: Carried, landed: Carried, field: Field, adrift: NDArray[np.bool_]) -> Carried:
    """Give what is adrift the harmonic mean of the others' corrections of the smooth motion, and the mesh's normals."""
    if not adrift.any():
        return replace(landed, adrift=adrift)
    loose, size = np.flatnonzero(adrift), len(adrift)
    starts = moved.faces.ravel()
    ones = np.ones(len(starts))
    stops = np.roll(moved.faces, -1, axis=1).ravel()
    adjacent = coo_array((ones, (starts, stops)), shape=(size, size)).tocsr()[loose]  # closed: each way once
    valence = np.maximum(np.asarray(adjacent.sum(axis=1)).ravel(), 1)
    fixed = np.where(adrift[:, None], 0.0, landed.vertices - moved.vertices)
    inner = diags_array(valence * (1 + 1e-6)) - adjacent[:, loose]  # a part without any fixed neighbour stays
    vertices = landed.vertices.copy()
    correction = spsolve(inner.tocsc(), adjacent @ fixed).reshape(-1, 3)
    vertices[loose] = moved.vertices[loose] + correction
    vertices[loose] += _FAIRING * (adjacent @ vertices / valence[:, None] - vertices[loose])
    return _measured(replace(landed, vertices=vertices, adrift=adrift), adrift, field)
