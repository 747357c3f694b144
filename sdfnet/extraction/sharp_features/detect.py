"""Detect which patches of a mesh hold a sharp feature, and whether triangles around the feature would be valid.

Neighbouring patches are joined if they have the same feature, or if the feature of one patch lies in the other patch.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sdfnet.extraction.marching_cubes import LatticeMesh
from sdfnet.extraction.sharp_features.patches import (
    BoundaryLoops,
    bad_triangles,
    cell_patches,
    disc_boundaries,
    fixed_by_flips,
)
from sdfnet.extraction.sharp_features.qef import (
    SHARP_ANGLE,
    SMALL_MISS,
    Features,
    LatticeField,
    find_crossings,
    find_features,
    intersect_planes,
    widest_angles,
)
from sdfnet.geometry.arrays import BoolArray, FloatArray, IntArray, mask_of, unit_vectors
from sdfnet.mesh.edges import EdgeTable, label_connected
from sdfnet.mesh.mesh import faces_at

_SUSPECT_ANGLE = 20.0
"""If the normals at a patch's vertices of marching cubes diverge by less (in degrees), the patch holds no feature."""

_BENT = np.float32(np.cos(np.radians(4.0)))
"""A vertex is bent if the normals of two of its faces diverge by more than about this angle. Normals that diverge by
`_SUSPECT_ANGLE` within a patch pass several edges of faces, and one of them is bent."""

_RINGS = 6
"""The search for features needs the faces at bent vertices, the patches around them, and the patches next to these."""

_LINEAR = 1e-3
"""A vertex of marching cubes is moved onto the surface if it is farther from the surface than this, in spacings."""

BEYOND = 1.0
"""A feature may lie this far outside the box of its patch's boundary, because a tilted edge can leave its cell."""


@dataclass(frozen=True, eq=False)
class PatchedMesh:
    """A mesh of marching cubes, cut into patches. Near sharp edges, its vertices lie on the surface.

    Attributes
    ----------
    normals : (V, 3)
        The normals of the field at the vertices, zero far from bent vertices.
    twins : (3F,)
        For each half-edge, the other half-edge of the same edge, or -1 (`EdgeTable.twins`).
    patch_of, is_suspect : (F,)
        The patch of each face, and whether this patch may hold a feature. A patch is a connected part of the surface
        in one cell.
    """

    mesh: LatticeMesh
    normals: FloatArray
    twins: IntArray
    patch_of: IntArray
    is_suspect: BoolArray
    field: LatticeField


@dataclass(frozen=True, eq=False)
class PatchFeatures:
    """The features of a mesh cut into patches as `patch_of` says.

    Attributes
    ----------
    loops : BoundaryLoops
        Boundaries of the suspect patches that are discs.
    well_placed : (P,)
        Features that are sharp, on the surface, and near their patch.
    is_bad : (P, L)
        Boundary edges that make a bad triangle with the feature.
    is_sharp : (P,)
        Patches that can be replaced by triangles around their feature.
    """

    patch_of: IntArray
    loops: BoundaryLoops
    features: Features
    well_placed: BoolArray
    is_bad: BoolArray
    is_sharp: BoolArray


def bent_vertices(mesh: LatticeMesh) -> BoolArray:
    """Return at which vertices (V,) the faces of `mesh` bend so much that a sharp feature may be near.

    The faces alone decide, without an evaluation of the field.
    """
    corners = mesh.faces.T
    places = np.ascontiguousarray(mesh.vertices.T)
    first, second = ((places[:, corners[k]] - places[:, corners[0]]).astype(np.float32) for k in (1, 2))
    normals = np.cross(first, second, axis=0)
    normals /= np.maximum(np.sqrt((normals * normals).sum(axis=0)), np.float32(1e-30))
    any_normal = np.zeros(places.shape, dtype=np.float32)  # of one of the faces at each vertex
    for corner in corners:
        any_normal[:, corner] = normals
    bent = np.zeros(len(mesh.vertices), dtype=bool)
    for corner in corners:
        bent[corner[(normals * any_normal[:, corner]).sum(axis=0) < _BENT]] = True
    return bent


def faces_around(faces: IntArray, vertices: BoolArray, rings: int = _RINGS) -> BoolArray:
    """Return which `faces` (F, 3) can be reached from `vertices` (V,) through so many `rings` of faces, (F,).

    >>> strip = np.array([[0, 1, 2], [1, 2, 3], [2, 3, 4], [3, 4, 5]])
    >>> faces_around(strip, np.array([True, False, False, False, False, False]), rings=2).tolist()
    [True, True, True, False]
    """
    reached = vertices
    for _ in range(rings):
        touched = faces_at(faces, reached)
        reached = mask_of(faces[touched].ravel(), len(vertices))
    return touched


def cut_into_patches(mesh: LatticeMesh, bent: BoolArray, field: LatticeField) -> PatchedMesh:
    """Cut `mesh` into patches, and find the patches at `bent` vertices (V,) with diverging normals on the boundary.

    Only the vertices of patches at bent vertices, and of the patches next to these, are moved and get normals.
    """
    twins = EdgeTable.of(mesh.faces, len(mesh.vertices)).twins
    patch_of = cell_patches(mesh, twins)
    num_patches = int(patch_of.max(initial=-1)) + 1
    is_bent = mask_of(patch_of[faces_at(mesh.faces, bent)], num_patches)
    beside = twins[np.repeat(is_bent[patch_of], 3)]
    near = is_bent | mask_of(patch_of[beside[beside >= 0] // 3], num_patches)
    rows = np.flatnonzero(mask_of(mesh.faces[near[patch_of]].ravel(), len(mesh.vertices)))
    vertices, normals = mesh.vertices.copy(), np.zeros_like(mesh.vertices)
    vertices[rows], normals[rows] = _true_crossings(mesh.vertices[rows], field)
    loops = disc_boundaries(mesh.faces, twins, patch_of, is_bent)
    suspect = widest_angles(normals[loops.rims], loops.used) > _SUSPECT_ANGLE
    is_suspect = mask_of(loops.patches[suspect], num_patches)
    return PatchedMesh(LatticeMesh(vertices, mesh.faces), normals, twins, patch_of, is_suspect[patch_of], field)


def detect_features(cut: PatchedMesh, patch_of: IntArray, *, before: PatchFeatures | None = None) -> PatchFeatures:
    """Search for a feature in each suspect patch. A patch with a boundary that is in `before` keeps its feature."""
    twins = cut.twins
    suspect = np.bincount(patch_of, weights=cut.is_suspect) > 0
    loops = disc_boundaries(cut.mesh.faces, twins, patch_of, suspect)
    points, normals = cut.mesh.vertices[loops.rims], cut.normals[loops.rims]
    if before is None:
        features = find_features(points, normals, loops.used, cut.field)
    else:
        rows, new = _same_boundaries(loops, before.loops)
        found = find_features(points[new], normals[new], loops.used[new], cut.field)
        features = before.features.take(rows, new, found)
    well_placed = _are_well_placed(features, points)
    bad = bad_triangles(features.places, points, normals, loops)
    across = twins[loops.half_edges]
    neighbors = np.where(across >= 0, patch_of[np.maximum(across, 0) // 3], -1)
    fixed = fixed_by_flips(features.places, points, normals, loops, neighbors, well_placed=well_placed, bad=bad)
    return PatchFeatures(patch_of, loops, features, well_placed, bad, well_placed & fixed)


def _true_crossings(vertices: FloatArray, field: LatticeField) -> tuple[FloatArray, FloatArray]:
    """Move vertices that miss the surface onto the surface. Return all vertices (V, 3) and their normals (V, 3)."""
    slopes = field.gradients(vertices)
    missed = np.abs(field.values(vertices)) > _LINEAR * np.linalg.norm(slopes, axis=1)
    moved = vertices.copy()
    moved[missed] = find_crossings(vertices[missed], field.values)
    slopes[missed] = field.gradients(moved[missed])
    return moved, unit_vectors(slopes)


def _same_boundaries(loops: BoundaryLoops, before: BoundaryLoops) -> tuple[IntArray, BoolArray]:
    """Return for each boundary the row in `before` with the same half-edges, (P,), and whether there is none, (P,)."""
    keys, keys_before = (
        np.stack(
            [rims.counts, np.where(rims.used, rims.half_edges, 0).sum(axis=1), rims.half_edges.min(axis=1)], axis=1
        )
        for rims in (loops, before)
    )
    _, names = np.unique(np.concatenate([keys_before, keys]), axis=0, return_inverse=True)
    row_of = np.full(names.max() + 1, -1)
    row_of[names[: len(keys_before)]] = np.arange(len(keys_before))
    rows = row_of[names[len(keys_before) :]]
    return np.maximum(rows, 0), rows < 0


def _are_well_placed(features: Features, points: FloatArray) -> BoolArray:
    """Return which features (P,) are sharp, on the surface, and near the boundaries (P, L, 3) of their patches."""
    places = features.places
    near = (places >= points.min(axis=1) - BEYOND).all(axis=1) & (places <= points.max(axis=1) + BEYOND).all(axis=1)
    return (features.spreads > SHARP_ANGLE) & (features.misses < SMALL_MISS) & near


_SAME = 0.2
"""Two features of neighbouring patches are the same feature if their distance is below this, in spacings."""


def join_patches(cut: PatchedMesh, detected: PatchFeatures) -> PatchFeatures:
    """Join neighbouring patches and detect again, if this gives a valid feature that was not there before."""
    for find_pairs in (_same_features, _hidden_corners, _misplaced_features):
        detected = _join_where_better(cut, detected, find_pairs(cut, detected))
    return detected


def _join_where_better(cut: PatchedMesh, detected: PatchFeatures, pairs: IntArray) -> PatchFeatures:
    """Join `pairs` (K, 2) of patches and detect again. Keep a pair apart if the joined patch has no valid feature."""
    if not len(pairs):
        return detected
    _, union_of = label_connected(pairs[:, 0], pairs[:, 1], int(detected.patch_of.max()) + 1)
    tried = detect_features(cut, union_of[detected.patch_of], before=detected)
    is_sharp = mask_of(tried.loops.patches[tried.is_sharp], union_of.max() + 1)
    failed = ~is_sharp & (np.bincount(union_of) > 1)
    if not failed.any():
        return tried
    pairs = pairs[~failed[union_of[pairs[:, 0]]]]
    _, union_of = label_connected(pairs[:, 0], pairs[:, 1], len(union_of))
    return detect_features(cut, union_of[detected.patch_of], before=detected)


def _same_features(cut: PatchedMesh, detected: PatchFeatures) -> IntArray:
    """Return pairs of neighbouring patches with features at the same place. Several patches can show one corner."""
    rows = _adjacent_pairs(cut, detected, detected.is_sharp)
    apart = detected.features.places[rows[:, 0]] - detected.features.places[rows[:, 1]]
    return detected.loops.patches[rows[np.linalg.norm(apart, axis=1) < _SAME]]


def _misplaced_features(cut: PatchedMesh, detected: PatchFeatures) -> IntArray:
    """Return pairs of a patch and a neighbour without feature, if the feature of the patch lies in the neighbour."""
    rows, corners = np.nonzero(detected.is_bad & (detected.well_placed & (detected.is_bad.sum(axis=1) == 1))[:, None])
    across = cut.twins[detected.loops.half_edges[rows, corners]]
    neighbors = detected.patch_of[np.maximum(across, 0) // 3]
    is_sharp = np.isin(neighbors, detected.loops.patches[detected.is_sharp])
    return np.stack([detected.loops.patches[rows], neighbors], axis=1)[(across >= 0) & ~is_sharp]


def _hidden_corners(cut: PatchedMesh, detected: PatchFeatures) -> IntArray:
    """Return pairs of neighbouring patches whose edges meet in a corner that neither patch shows by itself."""
    loops, features = detected.loops, detected.features
    rows = _adjacent_pairs(cut, detected, detected.is_sharp & ~features.are_corners)
    if not len(rows):
        return np.zeros((0, 2), dtype=np.int64)
    rims = loops.rims[rows].reshape(len(rows), -1)
    used = loops.used[rows].reshape(rims.shape)
    points, normals = cut.mesh.vertices[rims], cut.normals[rims]
    promising = intersect_planes(points, normals, used, points.mean(axis=1))[1]
    rows, points, normals, used = rows[promising], points[promising], normals[promising], used[promising]
    if not len(rows):
        return np.zeros((0, 2), dtype=np.int64)
    found = find_features(points, normals, used, cut.field)
    inside = ((found.places > points.min(axis=1) - BEYOND) & (found.places < points.max(axis=1) + BEYOND)).all(axis=1)
    good = found.are_corners & (found.misses < SMALL_MISS) & (found.spreads > SHARP_ANGLE) & inside
    known = features.places[detected.is_sharp & features.are_corners]
    if len(known):
        from scipy.spatial import cKDTree  # Here, for a quick start (see mesh.edges).

        good &= cKDTree(known).query(found.places)[0] > _SAME
    rows, places = rows[good], found.places[good]
    far = np.linalg.norm(features.places[rows] - places[:, None], axis=-1).max(axis=1)
    return loops.patches[rows[_nearest_first(rows, far, places)]]


def _nearest_first(rows: IntArray, far: FloatArray, places: FloatArray) -> list[int]:
    """Choose pairs of `rows` (K, 2) with the least `far` (K,). Use each row once, and each of `places` (K, 3) once."""
    taken: list[int] = []
    for pair in np.argsort(far, kind="stable").tolist():
        apart = np.linalg.norm(places[taken] - places[pair], axis=1)
        if not np.isin(rows[pair], rows[taken]).any() and (apart > _SAME).all():
            taken.append(pair)
    return taken


def _adjacent_pairs(cut: PatchedMesh, detected: PatchFeatures, chosen: BoolArray) -> IntArray:
    """Return pairs (K, 2) of `chosen` rows of `detected.loops` whose patches have an edge in common."""
    twins = cut.twins
    row_of = np.full(int(detected.patch_of.max()) + 1, -1)
    row_of[detected.loops.patches[chosen]] = np.flatnonzero(chosen)
    side = np.flatnonzero(twins >= 0)
    pairs = np.stack([row_of[detected.patch_of[side // 3]], row_of[detected.patch_of[twins[side] // 3]]], axis=1)
    return np.unique(pairs[(pairs[:, 0] >= 0) & (pairs[:, 0] < pairs[:, 1])], axis=0)
