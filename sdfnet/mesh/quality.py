"""The quality of triangles: angles, side lengths, evenness, and faces that cross each other."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

import sdfnet.mesh.winding  # noqa: F401  (caps the threads of libigl before that is loaded)
from sdfnet.mesh.mesh import Mesh, face_crosses

POOR_ANGLE = 10.0
"""A triangle is poor if its smallest angle is below this, degrees."""


@dataclass(frozen=True)
class TriangleQuality:
    """Measures of the triangles of one mesh.

    Attributes
    ----------
    worst_angle : float
        The smallest angle of all faces, degrees. It is 0 if a face has no area.
    good_share : float
        Share of the faces whose smallest angle is at least POOR_ANGLE.
    self_intersections : int
        Pairs of faces that cross or overlap outside the corners and edges that they share.
    """

    worst_angle: float
    good_share: float
    self_intersections: int


def triangle_quality(mesh: Mesh) -> TriangleQuality:
    """Measure the triangles of `mesh`. The mesh must have faces.

    >>> triangle_quality(Mesh([[0, 0, 0], [1, 0, 0], [0, 1, 0]], [[0, 1, 2]]))
    TriangleQuality(worst_angle=45.0, good_share=1.0, self_intersections=0)
    """
    angles = smallest_angles(mesh.vertices, mesh.faces)
    return TriangleQuality(float(angles.min()), float((angles >= POOR_ANGLE).mean()), count_self_intersections(mesh))


def smallest_angles(vertices: NDArray[np.float64], faces: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the smallest angle of each face in degrees, (F,). It is 0 for a face without area."""
    corners = vertices[faces]
    sides = np.roll(corners, -1, axis=1) - corners
    squared = np.einsum("fij,fij->fi", sides, sides)
    doubled = np.linalg.norm(face_crosses(vertices, faces), axis=1)
    # The smallest angle lies between the two longer sides.
    shortest = squared.argmin(axis=1)
    rows = np.arange(len(corners))
    dots = -np.einsum("fi,fi->f", sides[rows, (shortest + 1) % 3], sides[rows, (shortest + 2) % 3])
    return np.degrees(np.where(doubled > 0, np.arctan2(doubled, dots), 0.0))


def side_lengths(vertices: NDArray[np.float64], faces: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the lengths (F, 3) of the sides from each corner to the next.

    >>> side_lengths(np.array([[0.0, 0, 0], [3, 0, 0], [0, 4, 0]]), np.array([[0, 1, 2]])).tolist()
    [[3.0, 5.0, 4.0]]
    """
    corners = vertices[faces]
    return np.linalg.norm(np.roll(corners, -1, axis=1) - corners, axis=2)


def shape_quality(vertices: NDArray[np.float64], faces: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return 4√3 area / (sum of squared sides) of each triangle, (F,): 1 for equal sides, 0 for no area.

    >>> shape_quality(np.array([[0.0, 0, 0], [1, 0, 0], [0.5, 0.75**0.5, 0]]), np.array([[0, 1, 2]])).round(9).tolist()
    [1.0]
    """
    squares = (side_lengths(vertices, faces) ** 2).sum(axis=1)
    return 2 * np.sqrt(3) * np.linalg.norm(face_crosses(vertices, faces), axis=1) / np.maximum(squares, 1e-300)


def count_self_intersections(mesh: Mesh) -> int:
    """Count the pairs of faces that cross each other, by exact predicates (libigl).

    >>> from sdfnet.extraction import extract_mesh
    >>> from sdfnet.fields import Sphere
    >>> count_self_intersections(extract_mesh(Sphere(1.0), resolution=16))
    0
    """
    import igl.predicates

    if len(mesh.faces) < 2:
        return 0
    found, pairs, _ = igl.predicates.find_self_intersections(mesh.vertices, mesh.faces)
    return len(pairs) if found else 0
