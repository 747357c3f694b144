"""The state of a tracked mesh, and how its vertices are projected onto a surface.

Newton steps bring most vertices onto the surface. The rest search for the surface along the normals of the mesh.
`flow`, `advect` and `track` all work on this state.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from sdfnet.extraction.projection import newton_steps
from sdfnet.fields.base import Field, evaluate, value_and_gradient
from sdfnet.geometry.arrays import BoolArray, FloatArray, IntArray, unit_vectors
from sdfnet.mesh.mesh import face_crosses, sum_at_vertices
from sdfnet.mesh.quality import side_lengths, smallest_angles

ON_SURFACE = 2e-5
"""A vertex nearer to the surface than this lies on it; unit frame."""

OFF_SURFACE = 4e-4
"""A vertex farther from the surface than this has lost it; unit frame."""

_NEWTON_STEPS, _CHUNK = 6, 8192

_MIN_GRADIENT = 0.1
"""Shorter gradients are taken to be this long, because at a saddle the gradient does not point to the surface."""

_SEARCHES, _SEARCH_LENGTH = 3, 2
"""Vertices that are off the surface after Newton steps search for the surface along the normals. These are the number
of searches, and their reach to both sides in mean edge lengths."""

_MAX_SLIVERS, _MAX_STRETCH = 0.04, 8.0
"""A mesh is stretched too much if the share of triangles with an angle below 10° is above the first number, or if an
edge is longer than the second number times the mean edge at the start."""


@dataclass(frozen=True, eq=False)
class TrackedMesh:
    """A closed mesh near the surface of one moment.

    Vertices at one place are merged. `expanded` converts values to the vertices of the given mesh.

    Attributes
    ----------
    vertices, normals : (U, 3)
        Unit normals come from the field's gradient; detached vertices have the normals of the mesh.
    distances : (U,)
        Signed distance to the surface, to first order.
    merged_index : (V,)
        For each vertex of the given mesh, its number among the merged vertices.
    edge_length : float
        Mean edge length at the start.
    centers : (C,)
        Numbers of evenly spread vertices: the centres of the Gaussians of `flow.MotionBasis`.
    detached : (U,)
        Whether a vertex has lost the surface. Detached vertices move with their neighbours (see `advect`).
    """

    vertices: FloatArray
    normals: FloatArray
    distances: FloatArray
    faces: IntArray
    merged_index: IntArray
    edge_length: float
    centers: IntArray
    detached: BoolArray

    def expanded(self, values: FloatArray) -> FloatArray:
        """Return values at merged vertices as values at the vertices of the given mesh."""
        return values[self.merged_index]

    @property
    def off_surface(self) -> BoolArray:
        """Return which vertices are off the surface, (U,)."""
        return np.abs(self.distances) > OFF_SURFACE

    @property
    def inverted(self) -> BoolArray:
        """Return which triangles are inverted, (F,); see `inverted_triangles`."""
        return inverted_triangles(self.vertices, self.faces, self.normals)

    def fault(self, *, max_inverted: int = 0, keep: bool = False) -> str:
        """Return why this mesh cannot be tracked further; empty if it can.

        Up to `max_inverted` triangles may be inverted. With `keep`, detached vertices may be off the surface.
        """
        num_lost = np.count_nonzero(self.off_surface & ~self.detached if keep else self.off_surface)
        if num_lost:
            return f"{num_lost} vertices have lost the surface"
        num_inverted = np.count_nonzero(self.inverted)
        if num_inverted > max_inverted:
            return f"{num_inverted} triangles turn over"
        slivers = float((smallest_angles(self.vertices, self.faces) < 10).mean())
        if slivers > _MAX_SLIVERS:
            return f"{100 * slivers:.1f} % of the triangles have an angle below 10°"
        stretch = float(side_lengths(self.vertices, self.faces).max()) / self.edge_length
        return f"an edge is {stretch:.1f} times as long as the mean at the start" if stretch > _MAX_STRETCH else ""


def inverted_triangles(vertices: FloatArray, faces: IntArray, normals: FloatArray) -> BoolArray:
    """Return whether each triangle faces against the surface's `normals` (V, 3) at all three corners, (F,).

    One corner is not enough, because a good triangle across a narrow crease may face against one corner's normal.
    """
    upright = np.einsum("fi,fci->fc", face_crosses(vertices, faces), normals[faces])
    return np.asarray((upright <= 0).all(axis=1))


def project(tracked: TrackedMesh, field: Field) -> TrackedMesh:
    """Project the vertices onto the surface, and renew normals and distances.

    Newton steps come first. A vertex that is still off the surface moves between its neighbours, searches for the
    surface along the mesh's normal, and takes Newton steps again.
    """
    vertices, values, gradients = newton(field, tracked.vertices, tracked.edge_length / 2)
    for _ in range(_SEARCHES):
        lost = np.flatnonzero(np.abs(values) > OFF_SURFACE * gradient_norms(gradients))
        if not len(lost):
            break
        vertices = vertices.copy()
        found = _search_along_normals(field, vertices, tracked.faces, lost, tracked.edge_length)
        vertices[lost], values[lost], gradients[lost] = newton(field, found, tracked.edge_length / 2)
    distances = values / gradient_norms(gradients)
    return replace(tracked, vertices=vertices, normals=unit_vectors(gradients), distances=distances)


def newton(field: Field, points: FloatArray, reach: float) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Move `points` (N, 3) towards the surface by Newton steps, each of at most `reach`.

    Return the points (N, 3), and the field's values (N,) and gradients (N, 3) there.
    """
    found = newton_steps(
        lambda positions: values_and_gradients(field, positions),
        points,
        steps=_NEWTON_STEPS,
        longest_step=reach,
        tolerance=ON_SURFACE,
        smallest_slope=_MIN_GRADIENT,
    )
    return found.points, found.values, found.gradients


def values_and_gradients(field: Field, points: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the values (N,) and gradients (N, 3) of `field` at `points` (N, 3), both from one pass."""
    sdf, gradients = value_and_gradient(field, torch.from_numpy(points).float(), chunk_size=_CHUNK)
    return sdf.double().numpy(), gradients.double().numpy()


def gradient_norms(gradients: FloatArray) -> FloatArray:
    """Return the lengths (N,) of gradients (N, 3). A lower bound makes division by the lengths safe."""
    return np.maximum(np.linalg.norm(gradients, axis=1), _MIN_GRADIENT)


def _search_along_normals(
    field: Field, vertices: FloatArray, faces: IntArray, lost: IntArray, edge_length: float
) -> FloatArray:
    """Search for the surface along the mesh's normal at each `lost` vertex, and return the nearest place found.

    At this place, the field turns from inside to outside. The search starts from the middle of the neighbours. If it
    finds no surface, it returns the middle.
    """
    ring = faces[np.isin(faces, lost).any(axis=1)]
    sums = sum_at_vertices(
        ring,
        np.hstack([vertices[ring].sum(axis=1), np.ones((len(ring), 1)), face_crosses(vertices, ring)]),
        len(vertices),
    )[lost]
    middle = (sums[:, :3] / sums[:, 3:4] - vertices[lost]) / 2  # each face counts the vertex itself once
    normals = unit_vectors(sums[:, 4:])
    offsets = edge_length * np.linspace(-_SEARCH_LENGTH, _SEARCH_LENGTH, 8 * _SEARCH_LENGTH + 1)
    places = middle[:, None] + offsets[:, None] * normals[:, None]
    flat = torch.from_numpy(places.reshape(-1, 3)).float()
    values = evaluate(field, flat).double().numpy().reshape(len(lost), -1)
    crossing: BoolArray = (values[:, :-1] <= 0) & (values[:, 1:] > 0)
    away = np.where(crossing, np.abs(offsets[:-1] + offsets[1:]), np.inf)
    at, row = np.asarray(away.argmin(axis=1)), np.arange(len(lost))
    share = values[row, at] / np.where(crossing[row, at], values[row, at] - values[row, at + 1], 1.0)
    found = places[row, at] + share[:, None] * (places[row, at + 1] - places[row, at])
    any_crossing = np.asarray(crossing.any(axis=1))
    return np.where(any_crossing[:, None], found, middle)
