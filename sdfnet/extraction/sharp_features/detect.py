"""One look at a mesh cut into patches: which of them hold a sharp feature, and whether a fan around it is sound.

Which patches to make one, because their features belong together or one has the place of the other.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sdfnet.extraction.marching_cubes import LatticeMesh
from sdfnet.extraction.sharp_features.patches import Loops, cell_patches, disc_loops
from sdfnet.extraction.sharp_features.qef import (
    SHARP_ANGLE,
    SMALL_MISS,
    Features,
    Slope,
    find_crossings,
    find_features,
    meet,
    unit,
    widest_angles,
)
from sdfnet.extraction.sharp_features.triangulate import bad_triangles, saved_by_flips
from sdfnet.extraction.sparse import Sample
from sdfnet.mesh.edges import EdgeTable, label_connected

_SUSPECT_ANGLE = 20.0
"""Normals (in degrees) of a patch that diverge by less at the vertices of marching cubes are not looked at closer."""

_LINEAR = 1e-3
"""How far (in spacings) from the surface a vertex of marching cubes may lie without being moved onto it. Near an edge
the field bends, and linear interpolation misses by up to half a spacing."""

BEYOND = 1.0
"""How far (in spacings) from the box of its rim a feature may lie: a tilted edge can poke out of its cell."""


@dataclass(frozen=True, eq=False)
class PatchedMesh:
    """A mesh of marching cubes with its true vertices where something may be sharp.

    Attributes
    ----------
    mesh : LatticeMesh
    normals : (V, 3) float64
        Of the field, at the vertices.
    twins : (3F,) int64
        The other half-edge of the same edge, or -1 (`EdgeTable.twins`).
    patch_of : (F,) int64
        The patch of each face, one for each piece of the surface in a cell.
    is_suspect : (F,) bool
        Faces of the patches to be looked at.
    """

    mesh: LatticeMesh
    normals: NDArray[np.float64]
    twins: NDArray[np.int64]
    patch_of: NDArray[np.int64]
    is_suspect: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Detection:
    """What was seen with the mesh cut into patches as `patch_of` says.

    Attributes
    ----------
    patch_of : (F,) int64
    loops : Loops
        Rims of the suspect patches that are discs.
    features : Features
    lie_well : (P,) bool
        Features that are sharp, on the surface, and near their patch.
    bad : (P, L) bool
        Rim edges that make a bad triangle with the feature.
    sharp : (P,) bool
        Patches that can be replaced by a fan around their feature.
    """

    patch_of: NDArray[np.int64]
    loops: Loops
    features: Features
    lie_well: NDArray[np.bool_]
    bad: NDArray[np.bool_]
    sharp: NDArray[np.bool_]


def inspect(mesh: LatticeMesh, sample: Sample, slope: Slope) -> PatchedMesh:
    """Cut `mesh` into patches, and find those on whose rims the normals diverge."""
    twins = EdgeTable.of(mesh.faces, len(mesh.vertices)).twins
    patch_of = cell_patches(mesh, twins)
    vertices, normals = _true_crossings(mesh.vertices, sample, slope)
    loops = disc_loops(mesh.faces, twins, patch_of, np.ones(patch_of.max(initial=-1) + 1, dtype=bool))
    suspect = widest_angles(normals[loops.rims], loops.used) > _SUSPECT_ANGLE
    is_suspect = np.zeros(patch_of.max(initial=-1) + 1, dtype=bool)
    is_suspect[loops.patches[suspect]] = True
    return PatchedMesh(LatticeMesh(vertices, mesh.faces), normals, twins, patch_of, is_suspect[patch_of])


def look_at(
    surface: PatchedMesh, patch_of: NDArray[np.int64], sample: Sample, slope: Slope, *, before: Detection | None = None
) -> Detection:
    """Detection for a feature in each suspect patch, with the patches numbered by `patch_of` (F,).

    What was seen `before` of a patch with the same rim is not asked for again.
    """
    twins = surface.twins
    suspect = np.bincount(patch_of, weights=surface.is_suspect) > 0
    loops = disc_loops(surface.mesh.faces, twins, patch_of, suspect)
    points, normals = surface.mesh.vertices[loops.rims], surface.normals[loops.rims]
    if before is None:
        features = find_features(points, normals, loops.used, sample, slope)
    else:
        rows, new = _same_rims(loops, before.loops)
        found = find_features(points[new], normals[new], loops.used[new], sample, slope)
        features = before.features.take(rows, new, found)
    lie_well = _lie_well(features, points)
    bad = bad_triangles(features.places, points, normals, loops)
    across = twins[loops.sides]
    neighbors = np.where(across >= 0, patch_of[np.maximum(across, 0) // 3], -1)
    saved = saved_by_flips(features.places, points, normals, loops, neighbors, lie_well=lie_well, bad=bad)
    return Detection(patch_of, loops, features, lie_well, bad, lie_well & saved)


def _true_crossings(
    vertices: NDArray[np.float64], sample: Sample, slope: Slope
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the vertices where linear interpolation missed the surface moved onto it, and the normals of all."""
    slopes = slope(vertices)
    missed = np.abs(sample(vertices)) > _LINEAR * np.linalg.norm(slopes, axis=1)
    moved = vertices.copy()
    moved[missed] = find_crossings(vertices[missed], sample)
    slopes[missed] = slope(moved[missed])
    return moved, unit(slopes)


def _same_rims(loops: Loops, before: Loops) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return for each rim the row in `before` that has the same sides, (P,), and for which there is none."""
    keys, keys_before = (
        np.stack([rims.counts, np.where(rims.used, rims.sides, 0).sum(axis=1), rims.sides.min(axis=1)], axis=1)
        for rims in (loops, before)
    )
    _, names = np.unique(np.concatenate([keys_before, keys]), axis=0, return_inverse=True)
    row_of = np.full(names.max() + 1, -1)
    row_of[names[: len(keys_before)]] = np.arange(len(keys_before))
    rows = row_of[names[len(keys_before) :]]
    return np.maximum(rows, 0), rows < 0


def _lie_well(features: Features, points: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return which features (P,) are sharp, on the surface, and near the rims (P, L, 3) of their patches."""
    places = features.places
    near = (places >= points.min(axis=1) - BEYOND).all(axis=1) & (places <= points.max(axis=1) + BEYOND).all(axis=1)
    return (features.spreads > SHARP_ANGLE) & (features.misses < SMALL_MISS) & near


_SAME = 0.2
"""Features of neighbouring patches that are nearer to one another (in spacings) are one."""


def join_patches(surface: PatchedMesh, seen: Detection, sample: Sample, slope: Slope) -> Detection:
    """Detection again with neighbouring patches made one, wherever that gives a sound feature where there was none."""
    seen = _tried(surface, seen, _same_features(surface, seen), sample, slope)
    seen = _tried(surface, seen, _hidden_corners(surface, seen, sample, slope), sample, slope)
    return _tried(surface, seen, _misfits(surface, seen), sample, slope)


def _tried(surface: PatchedMesh, seen: Detection, pairs: NDArray[np.int64], sample: Sample, slope: Slope) -> Detection:
    """Detection again with `pairs` (K, 2) of patches made one, except where that leaves no sound feature."""
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


def _same_features(surface: PatchedMesh, seen: Detection) -> NDArray[np.int64]:
    """Return pairs of neighbouring patches that found the same place: a corner beyond its cell is seen from several."""
    rows = _touching(surface, seen, seen.sharp)
    apart = seen.features.places[rows[:, 0]] - seen.features.places[rows[:, 1]]
    return seen.loops.patches[rows[np.linalg.norm(apart, axis=1) < _SAME]]


def _misfits(surface: PatchedMesh, seen: Detection) -> NDArray[np.int64]:
    """Return pairs of a patch that its feature lies outside of, and the neighbour without a feature that it lies in."""
    rows, corners = np.nonzero(seen.bad & (seen.lie_well & (seen.bad.sum(axis=1) == 1))[:, None])
    across = surface.twins[seen.loops.sides[rows, corners]]
    neighbors = seen.patch_of[np.maximum(across, 0) // 3]
    is_sharp = np.isin(neighbors, seen.loops.patches[seen.sharp])
    return np.stack([seen.loops.patches[rows], neighbors], axis=1)[(across >= 0) & ~is_sharp]


def _hidden_corners(surface: PatchedMesh, seen: Detection, sample: Sample, slope: Slope) -> NDArray[np.int64]:
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


def _touching(surface: PatchedMesh, seen: Detection, chosen: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return pairs (K, 2) of rows of `seen.loops`, both `chosen`, whose patches have an edge in common."""
    twins = surface.twins
    row_of = np.full(int(seen.patch_of.max()) + 1, -1)
    row_of[seen.loops.patches[chosen]] = np.flatnonzero(chosen)
    side = np.flatnonzero(twins >= 0)
    pairs = np.stack([row_of[seen.patch_of[side // 3]], row_of[seen.patch_of[twins[side] // 3]]], axis=1)
    return np.unique(pairs[(pairs[:, 0] >= 0) & (pairs[:, 0] < pairs[:, 1])], axis=0)
