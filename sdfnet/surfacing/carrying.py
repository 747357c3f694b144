"""One step of tracking: the vertices of a mesh from one frame's surface to the next frame's."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np

from sdfnet.fields.base import Field
from sdfnet.geometry.edges import check_closed
from sdfnet.geometry.mesh import Mesh
from sdfnet.surfacing.holding import held, let_go
from sdfnet.surfacing.landing import FAR, Carried, directions, lengths, newton, onto
from sdfnet.surfacing.landing import values_and_gradients as values_and_gradients
from sdfnet.surfacing.mending import mended
from sdfnet.surfacing.motion import smooth_motion, spread_centers
from sdfnet.surfacing.shapes import slides, smallest_angles, turned_over
from sdfnet.surfacing.steadiness import SteadyMotion
from sdfnet.surfacing.window import FieldAt

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
    places, place_of = np.unique(mesh.vertices, axis=0, return_inverse=True)
    first_seen = np.full(len(places), len(place_of))
    np.minimum.at(first_seen, place_of.ravel(), np.arange(len(place_of)))
    order = np.argsort(first_seen)
    rank = np.argsort(order)[place_of.ravel()]
    vertices, faces = places[order], rank[mesh.faces]
    check_closed(Mesh(vertices, faces))
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
