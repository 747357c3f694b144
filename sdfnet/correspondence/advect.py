"""One step of tracking: the vertices of a mesh from one frame's surface to the next frame's.

How well a carried mesh is shaped: which triangles turn over, which are slivers, and which vertices should slide.

A mesh kept through small changes of topology: what has no surface to go to goes with its neighbours.

Where two fingers join, the vertices between them lie inside; where a web between them tears, its vertices lie outside.
Newton steps would take such vertices to some other part of the surface, and bunch them there. They are let go instead:
they follow the smooth motion of space, and share the corrections of the vertices around them, until the surface comes
back to where they are.

Bad spots of a carried mesh mended: triangles that face the wrong way, vertices that are off the surface.

Creases, narrow gaps and tips can turn triangles over, and smoothing does not turn them back. So for each vertex of a
bad spot places between its neighbours are put onto the surface, and it goes to the one where the worst of its triangles
is best. Nothing else moves, and no connection changes.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array, diags_array
from scipy.sparse.linalg import spsolve

from sdfnet.correspondence.flow import SteadyMotion, smooth_motion, spread_centers
from sdfnet.correspondence.narrow_band import FieldAt
from sdfnet.correspondence.tracked_mesh import FAR, Carried, directions, lengths, newton, onto, values_and_gradients
from sdfnet.fields.base import Field
from sdfnet.mesh.edges import require_closed
from sdfnet.mesh.mesh import Mesh, face_crosses, label_positions, sum_at_vertices
from sdfnet.mesh.quality import shape_quality, smallest_angles

_SLIDE_BELOW = 0.6
"""Vertices of triangles with a lower quality slide to even them; fully at half of it. (0.6 has an angle of 21° if the
other two are equal; 0.3 one of 10°.)"""


def turned_over(
    vertices: NDArray[np.float64], faces: NDArray[np.int64], normals: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """Whether each triangle faces against the surface's `normals` (V, 3) at all of its corners, (F,).

    A triangle across a crease narrower than an edge has corners of both kinds, and no right side of its own.
    """
    upright = np.einsum("fi,fci->fc", face_crosses(vertices, faces), normals[faces])
    return np.asarray((upright <= 0).all(axis=1))


def slides(
    vertices: NDArray[np.float64], faces: NDArray[np.int64], normals: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the vertices of badly shaped triangles, (N,), and how they should slide, (N, 3), along the surface.

    Towards the middle of the triangles around, the farther the worse the worst of these is: not at all where all are
    well enough shaped.
    """
    quality = np.where(turned_over(vertices, faces, normals), 0.0, shape_quality(vertices, faces))
    worst = np.ones(len(vertices))
    np.minimum.at(worst, faces.ravel(), np.repeat(quality, 3))
    bad = np.flatnonzero(worst < _SLIDE_BELOW)
    moving = np.zeros(len(vertices), dtype=bool)
    moving[bad] = True
    ring = faces[moving[faces].any(axis=1)]
    sums = sum_at_vertices(ring, np.hstack([vertices[ring].mean(axis=1), np.ones((len(ring), 1))]), len(vertices))[bad]
    way = sums[:, :3] / sums[:, 3:] - vertices[bad]
    way -= (way * normals[bad]).sum(axis=1, keepdims=True) * normals[bad]
    return bad, way * np.clip(2 - 2 * worst[bad] / _SLIDE_BELOW, 0, 1)[:, None]


_JUMP = 1.0
"""In mean edge lengths: a vertex that would have to go farther from where the motion of space takes it lets go."""

_ASIDE, _AGAIN = 0.2, 0.5
"""Least cosine between the mesh's normal and the surface's where a vertex stays on it, and where it comes back."""

_FAIRING = 0.1
"""How far what is adrift goes towards the middle of its neighbours in a sub-step: it stays smooth."""

_HOLD_ROUNDS = 12
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
    for step in range(_HOLD_ROUNDS):
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


_MEND_ROUNDS = 40
"""In each a set of vertices of bad spots moves of which no two are neighbours."""

_WIDEN = 5
"""After so many rounds the spots are taken one ring wider."""

_MEND_WIDEST = 3

_PLACES = 24
"""Tried for each vertex in a round."""

_UPRIGHT = 0.3
"""A triangle is upright if its normal has this cosine to that of the surface at one of its corners at least."""


def mended(carried: Carried, field: Field) -> Carried:
    """Return the mesh with its bad spots mended as far as they can be; vertices that are adrift stay. Deterministic."""
    generator = np.random.default_rng(0)
    for step in range(_MEND_ROUNDS):
        spot = _bad_spots(carried)
        if not spot.any():
            break
        for _ in range(min(step // _WIDEN, _MEND_WIDEST)):
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


_STRIDE = 0.5
"""How far the surface may move in a sub-step, in mean edge lengths; nearly everywhere (see `_QUANTILE`)."""

_QUANTILE = 0.999

_MOST_SUBSTEPS = 16

_FITS = 2
"""How often the smooth motion is fitted in a sub-step: first in whole, then what is left."""

_SLIDES, _MOST_SLIDES = 2, 16
"""Rounds of sliding in a sub-step, and while triangles are turned over."""

_MOST_SLIVERS = 0.04
"""A mesh with a larger share of triangles below 10° has been stretched too much."""

_MOST_STRETCH = 8.0
"""So has one with an edge longer than so many mean edges of the mesh it started as."""


def settle(mesh: Mesh, field: Field) -> Carried:
    """Weld the vertices of `mesh` that lie at one place, and put it onto the surface of `field`."""
    first, place_of = label_positions(mesh.vertices)
    order = np.argsort(first)
    rank = np.argsort(order)[place_of]
    vertices, faces = mesh.vertices[first[order]], rank[mesh.faces]
    require_closed(faces, len(vertices))
    length = float(np.linalg.norm(vertices[faces] - vertices[np.roll(faces, 1, axis=1)], axis=2).mean())
    on_ground = np.zeros(len(vertices), dtype=bool)
    start = Carried(vertices, vertices, vertices[:, 0], faces, rank, length, spread_centers(vertices), on_ground)
    return mended(onto(start, field), field)


def carry(
    carried: Carried,
    field_at: FieldAt,
    span: tuple[float, float],
    *,
    steady: SteadyMotion | None = None,
    keep: bool = False,
    finer: int = 1,
) -> tuple[Carried, float]:
    """Carry a mesh from the surface at `span[0]` to that at `span[1]`; return the last sub-step's time but one too.

    The motion is `steady`, and the smoothest that makes up for what that lacks. With `keep` vertices that have no
    surface to go to are let go of (`holding`) and stay so until it comes back. Sub-steps are `finer` times as many as
    the way asks for.
    """
    values, slopes = values_and_gradients(field_at(span[1]), carried.vertices)
    travel = float(np.quantile((np.abs(values) / lengths(slopes))[~carried.adrift], _QUANTILE))
    count = min(max(math.ceil(travel / (_STRIDE * carried.edge_length)), 1), _MOST_SUBSTEPS)
    count *= finer
    times = [span[0] + (span[1] - span[0]) * step / count for step in range(count + 1)]
    for before, time in itertools.pairwise(times):
        field, ahead = field_at(time), carried
        if steady is not None:
            ahead = replace(carried, vertices=carried.vertices + steady.displacement(carried.vertices, (before, time)))
        moved = _advanced(ahead, field, rest=steady is not None)
        landed = onto(moved, field)
        carried = mended(_evened(held(moved, landed, field) if keep else landed, field), field)
        turned = turned_over(carried.vertices, carried.faces, carried.normals)
        if turned.any():  # as they were before they moved, they were not
            adrift = carried.adrift.copy()
            adrift[carried.faces[turned]] = True
            carried = let_go(moved, carried, field, adrift)
            if not keep:
                carried = mended(onto(replace(carried, adrift=np.zeros_like(adrift)), field), field)
    return carried, times[-2]


def _advanced(carried: Carried, field: Field, *, rest: bool) -> Carried:
    """Move by the smoothest motion that agrees with the way to the new surface along its normals (`rest`: `motion`)."""
    vertices, limit = carried.vertices, 2 * _STRIDE * carried.edge_length
    for _ in range(_FITS):
        values, slopes = values_and_gradients(field, vertices)
        slopes[carried.adrift] = 0.0  # they say nothing about the motion
        steep = lengths(slopes)
        distances = np.where(carried.adrift, 0.0, np.clip(-values / steep, -limit, limit))
        motion = smooth_motion(vertices, slopes / steep[:, None], distances, carried.centers, rest=rest)
        longest = np.linalg.norm(motion, axis=1, keepdims=True)
        vertices = vertices + motion * np.minimum(1, 2 * limit / np.maximum(longest, 1e-300))
    return replace(carried, vertices=vertices)


def _evened(carried: Carried, field: Field) -> Carried:
    """Let the vertices of badly shaped triangles slide along the surface; longer while triangles are turned over."""
    for sliding in range(_MOST_SLIDES):
        bad, way = slides(carried.vertices, carried.faces, carried.normals)
        turned = turned_over(carried.vertices, carried.faces, carried.normals).any()
        if not len(bad) or (sliding >= _SLIDES and not turned):
            break
        found, values, slopes = newton(field, carried.vertices[bad] + way, carried.edge_length / 2)
        kept = (np.abs(values) <= FAR * lengths(slopes)) & ~carried.adrift[bad]
        vertices, normals = carried.vertices.copy(), carried.normals.copy()
        distances = carried.distances.copy()
        vertices[bad[kept]], distances[bad[kept]] = found[kept], (values / lengths(slopes))[kept]
        normals[bad[kept]] = directions(slopes)[kept]
        carried = replace(carried, vertices=vertices, normals=normals, distances=distances)
    return carried


def num_turned(carried: Carried) -> int:
    """Return how many triangles face the wrong way."""
    return int(np.count_nonzero(turned_over(carried.vertices, carried.faces, carried.normals)))


def fault(carried: Carried, *, tolerated: int = 0, keep: bool = False) -> str:
    """Say why this mesh cannot go on; empty if it can.

    So many triangles may be turned over as are `tolerated`; with `keep` what is adrift may be off the surface.
    """
    lost = np.abs(carried.distances) > FAR
    num_lost = np.count_nonzero(lost & ~carried.adrift if keep else lost)
    if num_lost:
        return f"{num_lost} vertices have lost the surface"
    if num_turned(carried) > tolerated:
        return f"{num_turned(carried)} triangles turn over"
    angles = smallest_angles(carried.vertices, carried.faces)
    slivers = np.count_nonzero(angles < 10) / len(angles)
    if slivers > _MOST_SLIVERS:
        return f"{100 * slivers:.1f} % of the triangles have an angle below 10°"
    sides = carried.vertices[carried.faces] - carried.vertices[np.roll(carried.faces, 1, axis=1)]
    longest = float(np.linalg.norm(sides, axis=2).max()) / carried.edge_length
    return f"an edge is {longest:.1f} times as long as the mean at the start" if longest > _MOST_STRETCH else ""
