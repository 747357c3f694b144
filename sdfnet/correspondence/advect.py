"""Move a mesh from the surface of one frame to the surface of the next.

Each sub-step has four parts:

1. The vertices move with the flow of all frames and a smooth correction of it (`flow`).
2. Newton steps project the vertices onto the surface (`tracked_mesh`).
3. Relaxation slides the vertices of badly shaped triangles along the surface.
4. Untangling moves the vertices of triangles that are still inverted.

A mesh may be kept through a small topology event, such as two fingers that join. Some vertices then have no surface on
which they can lie. These vertices are *detached*: they follow the smooth motion and share the corrections of the
vertices around them. They attach again when the surface comes back.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
from scipy.sparse import coo_array, diags_array
from scipy.sparse.linalg import spsolve

from sdfnet.correspondence.flow import Flow, farthest_points, fit_displacement
from sdfnet.correspondence.narrow_band import FieldAt
from sdfnet.correspondence.tracked_mesh import (
    OFF_SURFACE,
    TrackedMesh,
    gradient_norms,
    newton,
    project,
    values_and_gradients,
)
from sdfnet.fields.base import Field
from sdfnet.geometry.arrays import BoolArray, FloatArray, IntArray, mask_of, unit_vectors
from sdfnet.mesh.edges import require_closed
from sdfnet.mesh.mesh import Mesh, face_crosses, label_positions, sum_at_vertices, vertex_normals
from sdfnet.mesh.quality import shape_quality, side_lengths

_STEP_LENGTH, _QUANTILE, _MAX_SUBSTEPS = 0.5, 0.999, 16
"""The distance that the surface may move in a sub-step, in mean edge lengths; the quantile of the vertices at which
this distance is measured; and the largest number of sub-steps."""

_FITS = 2
"""The number of smooth displacements that a sub-step fits. The first fits the whole distance, the next the rest."""

_RELAX_BELOW = 0.6
"""Vertices of triangles with a lower quality slide. At half of this quality, they slide by the full distance. At 0.6, a
triangle may have an angle of 21°."""

_RELAXATIONS, _MAX_RELAXATIONS = 2, 16
"""The number of rounds of relaxation in a sub-step, and the limit of rounds while triangles are inverted."""

_MAX_JUMP = 1.0
"""A vertex detaches if projection moves it farther than this, in mean edge lengths."""

_DETACH_COSINE, _ATTACH_COSINE = 0.2, 0.5
"""The cosine is between the normal of the mesh and the normal of the surface. A vertex stays on the surface while the
cosine is above the first number. A detached vertex attaches again if the cosine is above the second number."""

_FAIRING = 0.1
"""In each sub-step, a detached vertex moves this share of the way to the mean of its neighbours, for a smooth mesh."""

_DETACHINGS, _MAX_RINGS = 12, 3
"""While triangles are inverted, their vertices are detached too. These are the limits for the number of rounds, and for
the number of rings of faces around the triangles."""

_SMOOTHINGS = 30
"""The limit of rounds that smooth triangles that stay inverted."""

_UNTANGLINGS, _ROUNDS_A_RING, _PLACES = 40, 5, 24
"""The limit of rounds of untangling; the number of rounds until one more ring of vertices may move; and the number of
places tried for a vertex."""

_UPRIGHT = 0.3
"""A triangle is upright if its normal has this cosine to the surface's normal at one of its corners at least."""


def place_on_surface(mesh: Mesh, field: Field) -> TrackedMesh:
    """Merge the vertices of `mesh` that lie at one place, project them onto the surface of `field`, and untangle them.

    Raises
    ------
    ValueError
        The mesh is not closed after merging.
    """
    first, position_of = label_positions(mesh.vertices)
    order = np.argsort(first)  # merged vertices keep the order of the mesh
    merged_index = np.argsort(order)[position_of]
    vertices, faces = mesh.vertices[first[order]], merged_index[mesh.faces]
    require_closed(faces, len(vertices))
    # In this order the mean has the same last bit as in the morphs of earlier versions.
    edge_length = float(side_lengths(vertices, np.roll(faces, 1, axis=1)).mean())
    start = TrackedMesh(
        vertices,
        normals=vertices,
        distances=vertices[:, 0],
        faces=faces,
        merged_index=merged_index,
        edge_length=edge_length,
        centers=farthest_points(vertices),
        detached=np.zeros(len(vertices), dtype=bool),
    )
    return untangle(project(start, field), field)


def advect(
    tracked: TrackedMesh,
    field_at: FieldAt,
    span: tuple[float, float],
    *,
    flow: Flow | None = None,
    keep: bool = False,
    refinement: int = 1,
) -> tuple[TrackedMesh, float]:
    """Move a mesh from the surface at time `span[0]` to the surface at time `span[1]`.

    Return the mesh, and the time at which the last sub-step starts. Each sub-step adds a smooth correction to the
    `flow`. With `keep`, vertices without a surface are detached until the surface comes back. The number of sub-steps
    depends on the distance and is multiplied by `refinement`.
    """
    values, gradients = values_and_gradients(field_at(span[1]), tracked.vertices)
    distance = float(np.quantile((np.abs(values) / gradient_norms(gradients))[~tracked.detached], _QUANTILE))
    count = min(max(math.ceil(distance / (_STEP_LENGTH * tracked.edge_length)), 1), _MAX_SUBSTEPS) * refinement
    times = [span[0] + (span[1] - span[0]) * step / count for step in range(count + 1)]
    for before, time in itertools.pairwise(times):
        field, moved = field_at(time), tracked
        if flow is not None:
            moved = replace(tracked, vertices=tracked.vertices + flow.displacement(tracked.vertices, (before, time)))
        moved = _displace_smoothly(moved, field, residual=flow is not None)
        projected = project(moved, field)
        if keep:
            projected = _detach_lost(moved, projected, field)
        tracked = untangle(_relax(projected, field), field)
        inverted = tracked.inverted
        if inverted.any():  # the smooth motion alone does not invert triangles
            detached = tracked.detached.copy()
            detached[tracked.faces[inverted]] = True
            tracked = _detach(moved, tracked, field, detached)
            if not keep:
                tracked = untangle(project(replace(tracked, detached=np.zeros_like(detached)), field), field)
    return tracked, times[-2]


def _displace_smoothly(tracked: TrackedMesh, field: Field, *, residual: bool) -> TrackedMesh:
    """Move the vertices by the smoothest displacement that agrees with their distances to the new surface."""
    vertices, limit = tracked.vertices, 2 * _STEP_LENGTH * tracked.edge_length
    for _ in range(_FITS):
        values, gradients = values_and_gradients(field, vertices)
        gradients[tracked.detached] = 0.0  # detached vertices say nothing about the motion
        norms = gradient_norms(gradients)
        distances = np.where(tracked.detached, 0.0, np.clip(-values / norms, -limit, limit))
        normals = gradients / norms[:, None]
        motion = fit_displacement(vertices, normals, distances, tracked.centers, residual=residual)
        longest = np.linalg.norm(motion, axis=1, keepdims=True)
        vertices = vertices + motion * np.minimum(1, 2 * limit / np.maximum(longest, 1e-300))
    return replace(tracked, vertices=vertices)


def _relax(tracked: TrackedMesh, field: Field) -> TrackedMesh:
    """Slide the vertices of badly shaped triangles along the surface. Do more rounds while triangles are inverted."""
    for step in range(_MAX_RELAXATIONS):
        inverted = tracked.inverted
        bad, slide = _relaxing_slides(tracked, inverted)
        if not len(bad) or (step >= _RELAXATIONS and not inverted.any()):
            break
        found, values, gradients = newton(field, tracked.vertices[bad] + slide, tracked.edge_length / 2)
        norms = gradient_norms(gradients)
        kept = (np.abs(values) <= OFF_SURFACE * norms) & ~tracked.detached[bad]
        distances = values / norms
        tracked = _with_vertices(tracked, bad[kept], found[kept], unit_vectors(gradients)[kept], distances[kept])
    return tracked


def _relaxing_slides(tracked: TrackedMesh, inverted: BoolArray) -> tuple[IntArray, FloatArray]:
    """Return the vertices of bad triangles, and their slides towards the mean centre of the triangles around them."""
    vertices, faces, normals = tracked.vertices, tracked.faces, tracked.normals
    quality = np.where(inverted, 0.0, shape_quality(vertices, faces))
    worst = np.ones(len(vertices))
    np.minimum.at(worst, faces.ravel(), np.repeat(quality, 3))
    bad = np.flatnonzero(worst < _RELAX_BELOW)
    ring = faces[(worst < _RELAX_BELOW)[faces].any(axis=1)]
    sums = sum_at_vertices(ring, np.hstack([vertices[ring].mean(axis=1), np.ones((len(ring), 1))]), len(vertices))[bad]
    slide = sums[:, :3] / sums[:, 3:] - vertices[bad]
    slide -= (slide * normals[bad]).sum(axis=1, keepdims=True) * normals[bad]
    return bad, slide * np.clip(2 - 2 * worst[bad] / _RELAX_BELOW, 0, 1)[:, None]


def _detach_lost(moved: TrackedMesh, projected: TrackedMesh, field: Field) -> TrackedMesh:
    """Detach the vertices of `projected` that have lost the surface. `moved` is the mesh before the projection."""
    cosine = (vertex_normals(moved.vertices, moved.faces) * projected.normals).sum(axis=1)
    jump = np.linalg.norm(projected.vertices - moved.vertices, axis=1) / moved.edge_length
    stays = (cosine > _DETACH_COSINE) & (jump < _MAX_JUMP)
    returns = (cosine > _ATTACH_COSINE) & (jump < _MAX_JUMP / 2)
    detached = ~np.where(moved.detached, returns, stays) | projected.off_surface
    return _detach(moved, projected, field, detached)


def _detach(moved: TrackedMesh, projected: TrackedMesh, field: Field, detached: BoolArray) -> TrackedMesh:
    """Detach these vertices of `projected`, and more vertices where triangles would be inverted."""
    for step in range(_DETACHINGS):
        result = _interpolate_detached(moved, projected, field, detached)
        inverted = result.inverted
        if not inverted.any():
            break
        around = _grown(mask_of(result.faces[inverted], len(detached)), result.faces, min(step, _MAX_RINGS))
        detached = detached | around
    return _smooth_inverted(result, field)


def _interpolate_detached(moved: TrackedMesh, projected: TrackedMesh, field: Field, detached: BoolArray) -> TrackedMesh:
    """Give detached vertices the harmonic mean of the corrections that projection makes to the others."""
    if not detached.any():
        return replace(projected, detached=detached)
    loose, size = np.flatnonzero(detached), len(detached)
    starts, stops = moved.faces.ravel(), np.roll(moved.faces, -1, axis=1).ravel()
    adjacent = coo_array((np.ones(len(starts)), (starts, stops)), shape=(size, size)).tocsr()[loose]  # each edge twice
    valence = np.maximum(np.asarray(adjacent.sum(axis=1)).ravel(), 1)
    fixed = np.where(detached[:, None], 0.0, projected.vertices - moved.vertices)
    inner = diags_array(valence * (1 + 1e-6)) - adjacent[:, loose]  # so that components without a fixed vertex stay
    vertices = projected.vertices.copy()
    vertices[loose] = moved.vertices[loose] + spsolve(inner.tocsc(), adjacent @ fixed).reshape(-1, 3)
    vertices[loose] += _FAIRING * (adjacent @ vertices / valence[:, None] - vertices[loose])
    return _remeasure(replace(projected, vertices=vertices, detached=detached), detached, field)


def _smooth_inverted(tracked: TrackedMesh, field: Field) -> TrackedMesh:
    """Detach the vertices of inverted triangles and one ring around them. Move them to the mean of their neighbours."""
    for _ in range(_SMOOTHINGS):
        inverted = tracked.inverted
        if not inverted.any():
            break
        spot = _grown(mask_of(tracked.faces[inverted], len(tracked.vertices)), tracked.faces, 1)
        ring = tracked.faces[spot[tracked.faces].any(axis=1)]
        sums = np.hstack([tracked.vertices[ring].sum(axis=1), np.full((len(ring), 1), 3.0)])
        sums = sum_at_vertices(ring, sums, len(spot))[spot]
        vertices = tracked.vertices.copy()
        vertices[spot] = sums[:, :3] / sums[:, 3:]
        tracked = _remeasure(replace(tracked, vertices=vertices, detached=tracked.detached | spot), spot, field)
    return tracked


def _remeasure(tracked: TrackedMesh, chosen: BoolArray, field: Field) -> TrackedMesh:
    """Renew the distances of the `chosen` vertices, and give them the normals of the mesh."""
    distances, normals = tracked.distances.copy(), tracked.normals.copy()
    values, gradients = values_and_gradients(field, tracked.vertices[chosen])
    distances[chosen] = values / gradient_norms(gradients)
    normals[chosen] = vertex_normals(tracked.vertices, tracked.faces)[chosen]
    return replace(tracked, distances=distances, normals=normals)


def _grown(spot: BoolArray, faces: IntArray, rings: int) -> BoolArray:
    """Add this number of rings of faces to a set of vertices, `spot` (U,), in place. Return the set."""
    for _ in range(rings):
        spot[faces[spot[faces].any(axis=1)]] = True
    return spot


def untangle(tracked: TrackedMesh, field: Field) -> TrackedMesh:
    """Move the vertices of inverted triangles, and vertices off the surface, to better places on the surface.

    Random places between the neighbours of a vertex are projected onto the surface. The vertex goes to the place where
    the worst of its triangles is best. Detached vertices stay. Deterministic.

    >>> import trimesh
    >>> from sdfnet.fields import Sphere
    >>> ball = trimesh.creation.icosphere(subdivisions=2)
    >>> start = place_on_surface(Mesh(ball.vertices, ball.faces), Sphere(0.5))
    >>> untangle(start, Sphere(0.5)) is start
    True
    """
    generator = np.random.default_rng(0)
    for step in range(_UNTANGLINGS):
        spot = tracked.off_surface
        spot[tracked.faces[tracked.inverted]] = True
        spot &= ~tracked.detached
        if not spot.any():
            break
        _grown(spot, tracked.faces, min(step // _ROUNDS_A_RING, _MAX_RINGS))
        moving = _independent(np.flatnonzero(spot & ~tracked.detached), tracked, generator)
        if len(moving):
            tracked = _move_to_best_places(tracked, field, moving, generator)
    return tracked


def _independent(vertices: IntArray, tracked: TrackedMesh, generator: np.random.Generator) -> IntArray:
    """Return a random subset of `vertices` in which no two vertices share a face."""
    rank = np.full(len(tracked.vertices), np.inf)
    rank[vertices] = generator.random(len(vertices))
    lowest = rank.copy()
    np.minimum.at(lowest, tracked.faces.ravel(), np.repeat(rank[tracked.faces].min(axis=1), 3))
    return vertices[rank[vertices] <= lowest[vertices]]


def _corners_around(faces: IntArray, vertices: IntArray) -> tuple[IntArray, IntArray]:
    """Return the other two corners of the faces around each vertex, (N, W) each. The last face is repeated in a row."""
    corners = np.flatnonzero(mask_of(vertices, faces.max() + 1)[faces.ravel()])
    corners = corners[np.argsort(faces.ravel()[corners], kind="stable")]
    first = np.searchsorted(faces.ravel()[corners], vertices)
    count = np.searchsorted(faces.ravel()[corners], vertices, side="right") - first
    sides = corners[first[:, None] + np.minimum(np.arange(count.max()), count[:, None] - 1)]
    return faces[sides // 3, (sides + 1) % 3], faces[sides // 3, (sides + 2) % 3]


def _move_to_best_places(
    tracked: TrackedMesh, field: Field, moving: IntArray, generator: np.random.Generator
) -> TrackedMesh:
    """Move each vertex of `moving` to the place where its worst triangle is best. No two of these are neighbours."""
    around = _corners_around(tracked.faces, moving)
    shares = generator.dirichlet(np.full(around[0].shape[1], 0.5), size=(len(moving), _PLACES))
    shares[:, 0] = 1 / shares.shape[2]  # one of the places is the middle
    own = 0.8 * generator.random((len(moving), _PLACES, 1))
    between = own * tracked.vertices[moving, None] + (1 - own) * (shares @ tracked.vertices[around[0]])
    found, values, gradients = newton(field, between.reshape(-1, 3), tracked.edge_length / 2)
    places = np.concatenate([tracked.vertices[moving, None], found.reshape(between.shape)], axis=1)
    normals = np.concatenate([tracked.normals[moving, None], unit_vectors(gradients).reshape(between.shape)], axis=1)
    off = (values / gradient_norms(gradients)).reshape(between.shape[:2])
    distances = np.concatenate([tracked.distances[moving, None], off], axis=1)
    scores = _scores(tracked, around, places, normals)
    best = np.where(np.abs(distances) > OFF_SURFACE / 2, -2 - np.abs(distances), scores).argmax(axis=1)
    row = np.arange(len(moving))
    return _with_vertices(tracked, moving, places[row, best], normals[row, best], distances[row, best])


def _scores(
    tracked: TrackedMesh, around: tuple[IntArray, IntArray], places: FloatArray, normals: FloatArray
) -> FloatArray:
    """Return the quality (N, P), from -1 to 1, of the worst triangle around each vertex at each of its places."""
    count, width = places.shape[1], around[0].shape[1]

    def at_corners(own: FloatArray, values: FloatArray) -> list[FloatArray]:
        shape = (len(own), count, width, 3)
        spread = [own[:, :, None], *(values[corner][:, None] for corner in around)]
        return [np.broadcast_to(each, shape).reshape(-1, 3) for each in spread]

    corners = np.concatenate(at_corners(places, tracked.vertices))
    triangles = np.arange(len(corners)).reshape(3, -1).T
    upright = unit_vectors(face_crosses(corners, triangles))
    cosine = np.max([(upright * normal).sum(axis=1) for normal in at_corners(normals, tracked.normals)], axis=0)
    scores = shape_quality(corners, triangles) * np.clip(cosine / _UPRIGHT, -1, 1)
    return scores.reshape(-1, count, width).min(axis=2)


def _with_vertices(
    tracked: TrackedMesh, chosen: IntArray, vertices: FloatArray, normals: FloatArray, distances: FloatArray
) -> TrackedMesh:
    """Return the mesh with new places, normals and distances of the `chosen` vertices."""
    arrays = tracked.vertices.copy(), tracked.normals.copy(), tracked.distances.copy()
    for array, values in zip(arrays, (vertices, normals, distances), strict=True):
        array[chosen] = values
    return replace(tracked, vertices=arrays[0], normals=arrays[1], distances=arrays[2])
