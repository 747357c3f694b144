"""Extended marching cubes: the sequence of steps that restores sharp edges and corners.

The last step completes feature lines. If a sharp edge passes through a cell whose corners have one sign, a feature
vertex has no neighbour further along the edge. The nearest of the vertices around it is then moved onto the edge.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sdfnet.extraction.marching_cubes import LatticeMesh
from sdfnet.extraction.projection import move_without_flips
from sdfnet.extraction.sharp_features.detect import (
    bent_vertices,
    cut_into_patches,
    detect_features,
    faces_around,
    join_patches,
)
from sdfnet.extraction.sharp_features.patches import faces_around_features
from sdfnet.extraction.sharp_features.qef import SHARP_ANGLE, SMALL_MISS, LatticeField, find_features, intersect_planes
from sdfnet.geometry.arrays import BoolArray, FloatArray, IntArray, mask_of, unit_vectors
from sdfnet.mesh.edges import EdgeTable
from sdfnet.mesh.mesh import Mesh, faces_at, renumber_faces
from sdfnet.mesh.topology import check_closed

_ROUNDS = 4
"""In each round a feature line grows by one vertex at each of its ends."""

_FARTHEST, _CLOSEST = 1.0, 0.05
"""The largest move of a vertex, and the smallest distance of a new feature vertex from another, in spacings."""

_SAME_DIRECTION = 0.7
"""Two directions from a feature lead the same way along the sharp edge if the cosine of their angle is above this."""


@dataclass(frozen=True, eq=False)
class SharpMesh:
    """A mesh with its sharp edges.

    Attributes
    ----------
    is_feature : (V,)
        Which vertices lie on sharp edges and corners.
    is_sound : bool
        Whether the mesh has the same defects (`check_closed`) as the mesh without sharp edges.
    """

    mesh: LatticeMesh
    is_feature: BoolArray
    is_sound: bool


def sharpen(mesh: LatticeMesh, field: LatticeField) -> SharpMesh:
    """Restore the sharp edges and corners of the surface in `mesh`, a mesh that marching cubes gives for `field`.

    Only patches that hold a feature are replaced, and the vertices on their boundaries are moved onto the surface. Only
    the part of the mesh around bent vertices is examined.

    >>> from sdfnet.extraction.marching_cubes import march
    >>> def sample(positions):  # a box, in lattice coordinates
    ...     return (np.abs(positions - 4.5).max(axis=-1) - 2.3).astype(np.float32)
    >>> def sample_gradient(positions):
    ...     away = positions - 4.5
    ...     return np.sign(away) * (np.abs(away) == np.abs(away).max(axis=-1, keepdims=True))
    >>> values = sample(np.moveaxis(np.indices((10, 10, 10)), 0, -1))
    >>> sharp = sharpen(march(values, spacing=1.0), LatticeField(sample, sample_gradient))
    >>> (sharp.mesh.vertices[sharp.is_feature].max(axis=0) - 4.5).round(3).tolist()
    [2.3, 2.3, 2.3]
    """
    bent = bent_vertices(mesh)
    if not bent.any():
        return _unchanged(mesh)
    near = faces_around(mesh.faces, bent)
    used, faces = renumber_faces(mesh.faces[near], len(mesh.vertices))
    part = LatticeMesh(mesh.vertices[used], faces)
    found = _sharpen_part(part, bent[used], field)
    if found is None:
        return _unchanged(mesh)
    kept, sharp, feature_vertices = found
    is_sound = _has_same_defects(part, sharp, kept)
    # Back into the whole mesh.
    number = np.concatenate([used, len(mesh.vertices) + np.arange(len(sharp.vertices) - len(used))])
    vertices = np.concatenate([mesh.vertices, sharp.vertices[len(used) :]])
    vertices[used] = sharp.vertices[: len(used)]
    is_kept = ~near
    is_kept[near] = kept
    faces = np.concatenate([mesh.faces[is_kept], number[sharp.faces[int(kept.sum()) :]]])
    used, compact = renumber_faces(faces, len(vertices))
    is_feature = mask_of(number[feature_vertices], len(vertices))[used]
    return SharpMesh(LatticeMesh(vertices[used], compact), is_feature, is_sound=is_sound)


def _unchanged(mesh: LatticeMesh) -> SharpMesh:
    return SharpMesh(mesh, np.zeros(len(mesh.vertices), dtype=bool), is_sound=True)


def _has_same_defects(part: LatticeMesh, sharp: LatticeMesh, kept: BoolArray) -> bool:
    """Return whether the faces that differ, and the faces next to them, have the same defects in both meshes."""
    new = sharp.faces[int(kept.sum()) :]
    changed = (part.vertices != sharp.vertices[: len(part.vertices)]).any(axis=1)
    changed[part.faces[~kept].ravel()] = True
    beside = part.faces[kept & faces_at(part.faces, changed)]
    before = check_closed(Mesh(part.vertices, np.concatenate([beside, part.faces[~kept]])))
    return before == check_closed(Mesh(sharp.vertices, np.concatenate([beside, new])))


def _sharpen_part(
    mesh: LatticeMesh, bent: BoolArray, field: LatticeField
) -> tuple[BoolArray, LatticeMesh, IntArray] | None:
    """Return which faces are kept (F,), the mesh with its sharp edges, and its feature vertices. None without features.

    The kept faces are the first faces of the returned mesh, and the new vertices are its last vertices.
    """
    cut = cut_into_patches(mesh, bent, field)
    detected = join_patches(cut, detect_features(cut, cut.patch_of))
    if not detected.is_sharp.any():
        return None
    places, loops = detected.features.places[detected.is_sharp], detected.loops.rows(detected.is_sharp)
    vertices = np.concatenate([cut.mesh.vertices, places])
    around = faces_around_features(loops, vertices, cut.normals)
    kept = ~mask_of(loops.patches, int(detected.patch_of.max()) + 1)[detected.patch_of]
    faces = np.concatenate([mesh.faces[kept], around])
    features = _FeatureVertices(
        len(mesh.vertices) + np.arange(len(places)), cut.mesh.vertices[loops.rims], cut.normals[loops.rims], loops.used
    )
    elsewhere = np.flatnonzero(~mask_of(loops.rims, len(mesh.vertices)))
    vertices[elsewhere] = mesh.vertices[elsewhere]
    vertices, feature_vertices = _complete_feature_lines(vertices, faces, features, field)
    return kept, LatticeMesh(vertices, faces), feature_vertices


@dataclass(frozen=True, eq=False)
class _FeatureVertices:
    """Vertices on sharp edges and corners, and points of the surface around them.

    Attributes
    ----------
    points, normals : (P, L, 3)
        Points of the smooth surfaces that meet at the vertices, and the normals at these points.
    used : (P, L)
        Which of the points are used; the other points only fill the rows.
    """

    vertices: IntArray
    points: FloatArray
    normals: FloatArray
    used: BoolArray

    def rows(self, chosen: NDArray[np.integer]) -> _FeatureVertices:
        return _FeatureVertices(self.vertices[chosen], self.points[chosen], self.normals[chosen], self.used[chosen])


def _complete_feature_lines(
    vertices: FloatArray, faces: IntArray, features: _FeatureVertices, field: LatticeField
) -> tuple[FloatArray, IntArray]:
    """Move some `vertices` onto interrupted sharp edges. Return all vertices, and the numbers of feature vertices."""
    edges = EdgeTable.of(faces, len(vertices)).ends
    reached = mask_of(features.vertices, len(vertices))
    reached = mask_of(edges[reached[edges].any(axis=1)].ravel(), len(vertices))
    around = edges[reached[edges].any(axis=1)]
    edges = np.concatenate([around, around[:, ::-1]])
    for _ in range(_ROUNDS):
        added, places = _next_vertices(vertices, edges, features, field)
        moved = vertices.copy()
        moved[added.vertices] = places
        settled = move_without_flips(vertices, moved, faces)
        done = (settled[added.vertices] == places).all(axis=1)
        if not done.any():
            break
        vertices, added = settled, added.rows(np.flatnonzero(done))
        features = _FeatureVertices(
            np.concatenate([features.vertices, added.vertices]),
            np.concatenate([features.points, added.points]),
            np.concatenate([features.normals, added.normals]),
            np.concatenate([features.used, added.used]),
        )
    return vertices, features.vertices


def _next_vertices(
    vertices: FloatArray, edges: IntArray, features: _FeatureVertices, field: LatticeField
) -> tuple[_FeatureVertices, FloatArray]:
    """Return the vertices that continue interrupted sharp edges, and their new places (K, 3)."""
    row_of = np.full(len(vertices), -1)
    row_of[features.vertices] = np.arange(len(features.vertices))
    start, stop = edges[(row_of[edges[:, 0]] >= 0) & (row_of[edges[:, 1]] < 0)].T
    rows = row_of[start]
    # A first estimate from the planes alone costs no evaluation. Most vertices are too far, or have a neighbour.
    rough = intersect_planes(features.points[rows], features.normals[rows], features.used[rows], vertices[stop])[0]
    likely = np.linalg.norm(rough - vertices[stop], axis=1) < 2 * _FARTHEST
    likely &= ~_has_neighbor(vertices, edges, row_of, start, rough)
    start, stop, rows = start[likely], stop[likely], rows[likely]
    found = find_features(
        features.points[rows], features.normals[rows], features.used[rows], field, near=vertices[stop]
    )
    moves = np.linalg.norm(found.places - vertices[stop], axis=1)
    good = (moves < _FARTHEST) & (found.misses < SMALL_MISS) & (found.spreads > SHARP_ANGLE) & ~found.are_corners
    from scipy.spatial import cKDTree  # Here, for a quick start (see mesh.edges).

    good &= cKDTree(vertices[features.vertices]).query(found.places)[0] > _CLOSEST
    good &= ~_has_neighbor(vertices, edges, row_of, start, found.places)
    best = np.flatnonzero(good)[np.argsort(moves[good], kind="stable")]
    best = best[np.unique(stop[best], return_index=True)[1]]  # each vertex once, for the nearest edge
    best = best[np.argsort(moves[best], kind="stable")]
    directions = unit_vectors(found.places - vertices[start])
    taken: dict[int, list[int]] = {}
    for row in best.tolist():
        others = taken.setdefault(int(start[row]), [])
        if all(directions[row] @ directions[other] < _SAME_DIRECTION for other in others):
            others.append(row)
    chosen = np.array([row for others in taken.values() for row in others], dtype=np.int64)
    added = features.rows(rows[chosen])
    return _FeatureVertices(stop[chosen], added.points, added.normals, added.used), found.places[chosen]


def _has_neighbor(
    vertices: FloatArray, edges: IntArray, row_of: IntArray, start: IntArray, places: FloatArray
) -> BoolArray:
    """Return whether the features `start` (K,) have a neighbouring feature on the way to `places` (K, 3) already."""
    between = edges[(row_of[edges[:, 0]] >= 0) & (row_of[edges[:, 1]] >= 0)]
    between = between[np.argsort(between[:, 0], kind="stable")]
    first = np.searchsorted(between[:, 0], start, side="left")
    counts = np.searchsorted(between[:, 0], start, side="right") - first
    directions = unit_vectors(places - vertices[start])
    found = np.zeros(len(start), dtype=bool)
    for number in range(int(counts.max(initial=0))):
        has = np.flatnonzero(counts > number)
        neighbor = between[first[has] + number, 1]
        other = unit_vectors(vertices[neighbor] - vertices[start[has]])
        found[has] |= np.einsum("ij,ij->i", directions[has], other) > _SAME_DIRECTION
    return found
