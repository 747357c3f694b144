"""Which patches to make one, because their features belong together or one has the place of the other."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sdfnet.geometry.connectivity import label_connected
from sdfnet.surfacing.blocks import Sample
from sdfnet.surfacing.sharpening.features import SHARP_ANGLE, SMALL_MISS, Slope, find_features, meet
from sdfnet.surfacing.sharpening.looking import BEYOND, Look, Surface, look_at

_SAME = 0.2
"""Features of neighbouring patches that are nearer to one another (in spacings) are one."""


def join_patches(surface: Surface, seen: Look, sample: Sample, slope: Slope) -> Look:
    """Look again with neighbouring patches made one, wherever that gives a sound feature where there was none."""
    seen = _tried(surface, seen, _same_features(surface, seen), sample, slope)
    seen = _tried(surface, seen, _hidden_corners(surface, seen, sample, slope), sample, slope)
    return _tried(surface, seen, _misfits(surface, seen), sample, slope)


def _tried(surface: Surface, seen: Look, pairs: NDArray[np.int64], sample: Sample, slope: Slope) -> Look:
    """Look again with `pairs` (K, 2) of patches made one, except where that leaves no sound feature."""
    if not len(pairs):
        return seen
    _, union_of = label_connected(pairs[:, 0], pairs[:, 1], int(seen.patch_of.max()) + 1)
    tried = look_at(surface, union_of[seen.patch_of], sample, slope, before=seen)
    is_sharp = np.zeros(union_of.max() + 1, dtype=bool)
    is_sharp[tried.loops.patches[tried.sharp]] = True
    failed = ~is_sharp & (np.bincount(union_of) > 1)
    if not failed.any():
        return tried
    pairs = pairs[~failed[union_of[pairs[:, 0]]]]
    _, union_of = label_connected(pairs[:, 0], pairs[:, 1], len(union_of))
    return look_at(surface, union_of[seen.patch_of], sample, slope, before=seen)


def _same_features(surface: Surface, seen: Look) -> NDArray[np.int64]:
    """Return pairs of neighbouring patches that found the same place: a corner beyond its cell is seen from several."""
    rows = _touching(surface, seen, seen.sharp)
    apart = seen.features.places[rows[:, 0]] - seen.features.places[rows[:, 1]]
    return seen.loops.patches[rows[np.linalg.norm(apart, axis=1) < _SAME]]


def _misfits(surface: Surface, seen: Look) -> NDArray[np.int64]:
    """Return pairs of a patch that its feature lies outside of, and the neighbour without a feature that it lies in."""
    rows, corners = np.nonzero(seen.bad & (seen.lie_well & (seen.bad.sum(axis=1) == 1))[:, None])
    across = surface.twins[seen.loops.sides[rows, corners]]
    neighbors = seen.patch_of[np.maximum(across, 0) // 3]
    is_sharp = np.isin(neighbors, seen.loops.patches[seen.sharp])
    return np.stack([seen.loops.patches[rows], neighbors], axis=1)[(across >= 0) & ~is_sharp]


def _hidden_corners(surface: Surface, seen: Look, sample: Sample, slope: Slope) -> NDArray[np.int64]:
    """Return pairs of neighbouring patches with an edge each that meet in a corner which neither sees by itself."""
    loops, features = seen.loops, seen.features
    rows = _touching(surface, seen, seen.sharp & ~features.are_corners)
    if not len(rows):
        return np.zeros((0, 2), dtype=np.int64)
    rims = loops.rims[rows].reshape(len(rows), -1)
    used = loops.used[rows].reshape(rims.shape)
    points, normals = surface.mesh.vertices[rims], surface.normals[rims]
    promising = meet(points, normals, used, points.mean(axis=1))[1]
    rows, points, normals, used = rows[promising], points[promising], normals[promising], used[promising]
    if not len(rows):
        return np.zeros((0, 2), dtype=np.int64)
    found = find_features(points, normals, used, sample, slope)
    inside = ((found.places > points.min(axis=1) - BEYOND) & (found.places < points.max(axis=1) + BEYOND)).all(axis=1)
    good = found.are_corners & (found.misses < SMALL_MISS) & (found.spreads > SHARP_ANGLE) & inside
    known = features.places[seen.sharp & features.are_corners]
    if len(known):
        from scipy.spatial import cKDTree  # Here, for a quick start (see geometry.connectivity).

        good &= cKDTree(known).query(found.places)[0] > _SAME
    rows, places = rows[good], found.places[good]
    far = np.linalg.norm(features.places[rows] - places[:, None], axis=-1).max(axis=1)
    return loops.patches[rows[_nearest_first(rows, far, places)]]


def _nearest_first(rows: NDArray[np.int64], far: NDArray[np.float64], places: NDArray[np.float64]) -> list[int]:
    """Return which pairs of `rows` (K, 2) to take: the least `far` from each of the `places` (K, 3), no row twice."""
    taken: list[int] = []
    for pair in np.argsort(far, kind="stable").tolist():
        apart = np.linalg.norm(places[taken] - places[pair], axis=1)
        if not np.isin(rows[pair], rows[taken]).any() and (apart > _SAME).all():
            taken.append(pair)
    return taken


def _touching(surface: Surface, seen: Look, chosen: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return pairs (K, 2) of rows of `seen.loops`, both `chosen`, whose patches have an edge in common."""
    twins = surface.twins
    row_of = np.full(int(seen.patch_of.max()) + 1, -1)
    row_of[seen.loops.patches[chosen]] = np.flatnonzero(chosen)
    side = np.flatnonzero(twins >= 0)
    pairs = np.stack([row_of[seen.patch_of[side // 3]], row_of[seen.patch_of[twins[side] // 3]]], axis=1)
    return np.unique(pairs[(pairs[:, 0] >= 0) & (pairs[:, 0] < pairs[:, 1])], axis=0)
