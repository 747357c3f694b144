"""How well shaped the triangles of a mesh are, and whether any run through each other."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

import sdfnet.mesh.winding  # noqa: F401  (caps the threads of libigl before that is loaded)
from sdfnet.mesh.mesh import Mesh

POOR_ANGLE = 10.0
"""Degrees: a triangle whose smallest angle is below is poor."""


@dataclass(frozen=True)
class TriangleQuality:
    """What is told about the triangles of one mesh.

    Attributes
    ----------
    worst_angle : float
        The smallest angle of all, degrees; 0 where a face has no area.
    good_share : float
        Share of the faces whose smallest angle is at least POOR_ANGLE.
    self_intersections : int
        Pairs of faces that run through each other or overlap; faces that share a corner or an edge only count where
        they have more than that in common.
    """

    worst_angle: float
    good_share: float
    self_intersections: int


def triangle_quality(mesh: Mesh) -> TriangleQuality:
    """Measure the triangles of `mesh`, which must have some.

    >>> half_square = Mesh([[0, 0, 0], [1, 0, 0], [0, 1, 0]], [[0, 1, 2]])
    >>> quality = triangle_quality(half_square)
    >>> round(quality.worst_angle, 6), quality.good_share, quality.self_intersections
    (45.0, 1.0, 0)
    """
    angles = smallest_angles(mesh)
    return TriangleQuality(float(angles.min()), float((angles >= POOR_ANGLE).mean()), count_self_intersections(mesh))


def smallest_angles(mesh: Mesh) -> NDArray[np.float64]:
    """Return the smallest angle of each face, (F,), degrees; 0 for a face without area."""
    corners = mesh.triangles
    sides = np.roll(corners, -1, axis=1) - corners
    squared = np.einsum("fij,fij->fi", sides, sides)
    doubled = np.linalg.norm(mesh.face_crosses, axis=1)
    # The smallest angle lies between the two longer sides.
    shortest = squared.argmin(axis=1)
    rows = np.arange(len(corners))
    dots = -np.einsum("fi,fi->f", sides[rows, (shortest + 1) % 3], sides[rows, (shortest + 2) % 3])
    return np.degrees(np.where(doubled > 0, np.arctan2(doubled, dots), 0.0))


def count_self_intersections(mesh: Mesh) -> int:
    """Return how many pairs of faces run through each other, by exact predicates (libigl)."""
    import igl.predicates

    if len(mesh.faces) < 2:
        return 0
    found, pairs, _ = igl.predicates.find_self_intersections(mesh.vertices, mesh.faces)
    return len(pairs) if found else 0
