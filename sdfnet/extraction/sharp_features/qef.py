"""Find a sharp edge or corner near given points of the surface, as the minimum of a quadric error function.

The tangent planes at points of the surface meet in a corner, or along an edge (Kobbelt et al., "Feature sensitive
surface extraction", SIGGRAPH 2001; Ju et al., "Dual contouring of Hermite data", SIGGRAPH 2002). The papers solve once.
Here, the points then move towards the solution and are projected onto the surface, and the planes at the new points are
solved again. So curved surfaces meet exactly. If the normals agree in the end, there is only a bend and no edge.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from sdfnet.extraction.projection import newton_steps
from sdfnet.extraction.sparse import Sample
from sdfnet.geometry.arrays import BoolArray, FloatArray, IntArray, unit_vectors

SHARP_ANGLE, SMALL_MISS = 25.0, 0.05
"""Normals that still diverge by more than this (in degrees) at very near points show an edge. A feature may lie this
far from the surface, in spacings."""

_FLATTEST = 0.05
"""If the third direction has less than this share of the normals' squares, there is a bent edge and no corner."""

_ZOOMS = (0.3, 0.1)
"""In each later solution, the points are nearer to the feature: at this share of their first distances."""

_FARTHEST = 1.0
"""How far (in spacings) a point may move onto the surface."""

_ROOT_ROUNDS = 24
_ROOT_TOLERANCE = 1e-5
"""The tolerance of roots: in spacings, and as a share of the difference of the values at the two ends."""


@dataclass(frozen=True, eq=False)
class LatticeField:
    """A field in lattice coordinates: functions from positions (N, 3) to values (N,) and to gradients (N, 3)."""

    values: Sample
    gradients: Callable[[FloatArray], FloatArray]


@dataclass(frozen=True, eq=False)
class Features:
    """The features of P patches.

    Attributes
    ----------
    spreads : (P,)
        The largest angle between two normals near the feature, in degrees. It is small if the surface is only bent.
    misses : (P,)
        The distance from the feature to the surface (value / slope). It is infinite if there is only a bend.
    are_corners : (P,)
        Whether the feature is a corner of three surfaces. Otherwise it is an edge, and its place is the point of the
        edge nearest to the patch.
    """

    places: FloatArray
    spreads: FloatArray
    misses: FloatArray
    are_corners: BoolArray

    def take(self, rows: IntArray, new: BoolArray, found: Features) -> Features:
        """Return these features at `rows` (K,), but take the features that are `new` (K,) from `found`."""
        merged = {}
        for name in ("places", "spreads", "misses", "are_corners"):
            merged[name] = getattr(self, name)[rows]
            merged[name][new] = getattr(found, name)
        return Features(**merged)


def find_features(
    points: FloatArray, normals: FloatArray, used: BoolArray, field: LatticeField, *, near: FloatArray | None = None
) -> Features:
    """Find the feature of each of P patches from its `used` (P, L) `points` (P, L, 3) on the surface.

    The place of an edge is its point nearest to `near` (P, 3). By default, `near` is where the normals turn.
    """
    near = _where_normals_turn(points, normals, used) if near is None else near
    places, are_corners = intersect_planes(points, normals, used, near)
    spreads, misses = widest_angles(normals, used), np.full(len(points), np.inf)
    for zoom in _ZOOMS:
        rows = np.flatnonzero(spreads > SHARP_ANGLE)  # the rest is settled
        among = used[rows]
        nearer = places[rows, None] + zoom * (points[rows] - places[rows, None])
        normals_there = np.zeros_like(nearer)
        nearer[among], normals_there[among] = _project(nearer[among], field)
        places[rows], are_corners[rows] = intersect_planes(nearer, normals_there, among, places[rows])
        spreads[rows] = np.minimum(spreads[rows], widest_angles(normals_there, among))
    rows = np.flatnonzero(spreads > SHARP_ANGLE)
    values, slopes = field.values(places[rows]).astype(np.float64), field.gradients(places[rows])
    misses[rows] = np.abs(values) / np.maximum(np.linalg.norm(slopes, axis=1), 1e-300)
    return Features(places, spreads, misses, are_corners)


def _where_normals_turn(points: FloatArray, normals: FloatArray, used: BoolArray) -> FloatArray:
    """Return a weighted mean (P, 3) of `points` (P, L, 3). A point with an unusual normal has a large weight."""
    alike = np.einsum("pli,pmi,pm->pl", normals, normals, used) / used.sum(axis=1, keepdims=True)
    weights = used * np.clip(1 - alike, 1e-6, None)
    return np.asarray(np.einsum("pl,pli->pi", weights, points) / weights.sum(axis=1, keepdims=True))


def intersect_planes(
    points: FloatArray, normals: FloatArray, used: BoolArray, near: FloatArray
) -> tuple[FloatArray, BoolArray]:
    """Return where the planes of each patch meet, (P, 3), nearest to `near` (P, 3), and whether at one point, (P,)."""
    weights = used / np.maximum(used.sum(axis=1, keepdims=True), 1)
    heights = np.einsum("pli,pli->pl", normals, points - near[:, None])
    quadrics = np.einsum("pl,pli,plj->pij", weights, normals, normals)
    right_sides = np.einsum("pl,pl,pli->pi", weights, heights, normals)
    eigenvalues, directions = np.linalg.eigh(quadrics)
    is_determined = eigenvalues > _FLATTEST * eigenvalues.sum(axis=1, keepdims=True)
    is_determined[:, 2] = True
    projected = np.einsum("pji,pj->pi", directions, right_sides)
    steps = np.divide(projected, eigenvalues, out=np.zeros_like(projected), where=is_determined & (eigenvalues > 0))
    return near + np.einsum("pij,pj->pi", directions, steps), is_determined[:, 0]


def widest_angles(normals: FloatArray, used: BoolArray) -> FloatArray:
    """Return the largest angle between two of the used `normals` (P, L, 3) of each patch, in degrees, (P,)."""
    cosines = np.einsum("pli,pmi->plm", normals, normals)
    cosines[~(used[:, :, None] & used[:, None, :])] = 1.0
    return np.degrees(np.arccos(np.clip(cosines.min(axis=(1, 2), initial=1.0), -1, 1)))


def _project(points: FloatArray, field: LatticeField) -> tuple[FloatArray, FloatArray]:
    """Return `points` (N, 3) projected onto the surface by one Newton step, and the unit normals there, (N, 3)."""
    found = newton_steps(
        lambda positions: (field.values(positions).astype(np.float64), field.gradients(positions)),
        points,
        steps=1,
        longest_step=_FARTHEST,
        smallest_slope=1e-150,
        take_worse=True,  # the normals at the new points count, not their distances
    )
    return found.points, unit_vectors(found.gradients)


def find_crossings(vertices: FloatArray, sample: Sample) -> FloatArray:
    """Move `vertices` (N, 3) along their lattice edges to the places where the values are zero.

    The method is false position, with bisection in every third round. A vertex stays if it lies on no lattice edge, or
    if the values at the ends of its edge have the same sign.
    """
    between = vertices != np.rint(vertices)
    rows = np.flatnonzero(between.sum(axis=1) == 1)
    axes = between[rows].argmax(axis=1)
    ends = np.repeat(vertices[rows][None], 2, axis=0)  # (2, N, 3)
    ends[0, np.arange(len(rows)), axes] = np.floor(vertices[rows, axes])
    ends[1, np.arange(len(rows)), axes] = np.ceil(vertices[rows, axes])
    heights = sample(ends.reshape(-1, 3)).reshape(2, -1).astype(np.float64)
    crossed = (heights[0] <= 0) != (heights[1] <= 0)
    rows, ends, heights = rows[crossed], ends[:, crossed], heights[:, crossed]
    shares = _bracketed_roots(ends, heights, sample)
    moved = vertices.copy()
    moved[rows] = ends[0] + shares[:, None] * (ends[1] - ends[0])
    return moved


def _bracketed_roots(ends: FloatArray, heights: FloatArray, sample: Sample) -> FloatArray:
    """Return the share of the way from ends[0] to ends[1] at which the values are zero, (N,)."""
    low, high = np.zeros(len(heights[0])), np.ones(len(heights[0]))
    at_low, at_high = heights.copy()
    best = np.full(len(low), 0.5)
    active = np.arange(len(low))
    for round_ in range(_ROOT_ROUNDS):
        a, b, fa, fb = low[active], high[active], at_low[active], at_high[active]
        share = (a + b) / 2 if round_ % 3 == 2 else a + (b - a) * np.clip(fa / (fa - fb), 0.01, 0.99)
        value = sample(ends[0, active] + share[:, None] * (ends[1, active] - ends[0, active])).astype(np.float64)
        best[active] = share
        below = (value <= 0) == (fa <= 0)
        low[active], at_low[active] = np.where(below, share, a), np.where(below, value, fa)
        high[active], at_high[active] = np.where(below, b, share), np.where(below, fb, value)
        steepness = np.abs(heights[0, active] - heights[1, active])
        active = active[(np.abs(value) > _ROOT_TOLERANCE * steepness) & (high[active] - low[active] > _ROOT_TOLERANCE)]
        if not len(active):
            break
    return best
