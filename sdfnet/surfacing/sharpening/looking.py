"""One look at a mesh cut into patches: which of them hold a sharp feature, and whether a fan around it is sound."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sdfnet.surfacing.blocks import Sample
from sdfnet.surfacing.marching import LatticeMesh
from sdfnet.surfacing.sharpening.fans import bad_triangles, saved_by_flips
from sdfnet.surfacing.sharpening.features import (
    SHARP_ANGLE,
    SMALL_MISS,
    Features,
    Slope,
    find_crossings,
    find_features,
    unit,
    widest_angles,
)
from sdfnet.surfacing.sharpening.patches import Loops, cell_patches, disc_loops, paired_sides

_SUSPECT_ANGLE = 20.0
"""Normals (in degrees) of a patch that diverge by less at the vertices of marching cubes are not looked at closer."""

_LINEAR = 1e-3
"""How far (in spacings) from the surface a vertex of marching cubes may lie without being moved onto it. Near an edge
the field bends, and linear interpolation misses by up to half a spacing."""

BEYOND = 1.0
"""How far (in spacings) from the box of its rim a feature may lie: a tilted edge can poke out of its cell."""


@dataclass(frozen=True, eq=False)
class Surface:
    """A mesh of marching cubes with its true vertices where something may be sharp.

    Attributes
    ----------
    mesh : LatticeMesh
    normals : (V, 3) float64
        Of the field, at the vertices.
    twins : (3F,) int64
        See `paired_sides`.
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
class Look:
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


def inspect(mesh: LatticeMesh, sample: Sample, slope: Slope) -> Surface:
    """Cut `mesh` into patches, and find those on whose rims the normals diverge."""
    twins = paired_sides(mesh.faces)
    patch_of = cell_patches(mesh, twins)
    vertices, normals = _true_crossings(mesh.vertices, sample, slope)
    loops = disc_loops(mesh.faces, twins, patch_of, np.ones(patch_of.max(initial=-1) + 1, dtype=bool))
    suspect = widest_angles(normals[loops.rims], loops.used) > _SUSPECT_ANGLE
    is_suspect = np.zeros(patch_of.max(initial=-1) + 1, dtype=bool)
    is_suspect[loops.patches[suspect]] = True
    return Surface(LatticeMesh(vertices, mesh.faces), normals, twins, patch_of, is_suspect[patch_of])


def look_at(
    surface: Surface, patch_of: NDArray[np.int64], sample: Sample, slope: Slope, *, before: Look | None = None
) -> Look:
    """Look for a feature in each suspect patch, with the patches numbered by `patch_of` (F,).

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
    return Look(patch_of, loops, features, lie_well, bad, lie_well & saved)


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
