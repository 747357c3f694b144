"""Polygon meshes, as they are stored in files, and their triangulation.

A fan of triangles is correct only for convex polygons. For the ring in a typical CAD export, the area of the fan is 13
times too large. So each fan is checked. If the check fails, manifold3d triangulates the polygon in its own plane.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

_SLIVER = 1e-9
"""A fan is used if each of its triangles has more than this share of the polygon's area. A thinner triangle would be
dropped as degenerate later and leave a slit."""


@dataclass(frozen=True)
class FileFacts:
    """Facts about a mesh file besides its surface.

    Attributes
    ----------
    notes : tuple of str
        Faults of the file that did not prevent reading.
    unit, up_axis : str or None
        The unit and the axis that the format or the file defines, such as "m" and "y"; None if neither defines them.
    """

    notes: tuple[str, ...] = ()
    unit: str | None = None
    up_axis: str | None = None


@dataclass(frozen=True, eq=False)
class PolygonMesh:
    """Polygons over shared vertices.

    Attributes
    ----------
    vertices : (V, 3) float64
    corners : (C,) int64
        The vertex of each corner, polygon by polygon, counter-clockwise seen from outside.
    counts : (P,) int64
        Number of corners of each polygon; the sum is C.
    facts : FileFacts
    colors : (V, 3) float64 or None
        The colours of the vertices, sRGB in [0, 1].
    """

    vertices: NDArray[np.float64]
    corners: NDArray[np.int64]
    counts: NDArray[np.int64]
    facts: FileFacts
    colors: NDArray[np.float64] | None

    def __init__(
        self,
        vertices: ArrayLike,
        corners: ArrayLike,
        counts: ArrayLike,
        *,
        facts: FileFacts | None = None,
        colors: NDArray[np.float64] | None = None,
    ) -> None:
        object.__setattr__(self, "vertices", np.asarray(vertices, dtype=np.float64).reshape(-1, 3))
        object.__setattr__(self, "corners", np.asarray(corners, dtype=np.int64).reshape(-1))
        object.__setattr__(self, "counts", np.asarray(counts, dtype=np.int64).reshape(-1))
        object.__setattr__(self, "facts", facts or FileFacts())
        object.__setattr__(self, "colors", colors)
        assert self.counts.sum() == len(self.corners)

    @classmethod
    def of_triangles(
        cls,
        vertices: ArrayLike,
        faces: NDArray[np.integer],
        *,
        facts: FileFacts | None = None,
        colors: NDArray[np.float64] | None = None,
    ) -> PolygonMesh:
        """Return `faces` (F, 3) as polygons of three corners."""
        return cls(vertices, faces, np.full(len(faces), 3), facts=facts, colors=colors)


def join_parts(
    parts: Sequence[tuple[NDArray[np.float64], NDArray[np.int64]]],
    *,
    facts: FileFacts | None = None,
    colors: NDArray[np.float64] | None = None,
) -> PolygonMesh:
    """Return the parts of a scene as one mesh. Each part is a pair of vertices (V, 3) and triangles (F, 3).

    `colors` are those of all vertices, in the order of the parts.
    """
    offsets = np.cumsum([0] + [len(vertices) for vertices, _ in parts])
    vertices = np.concatenate([np.zeros((0, 3))] + [vertices for vertices, _ in parts])
    faces = [faces + offset for (_, faces), offset in zip(parts, offsets, strict=False)]
    triangles = np.concatenate([np.zeros((0, 3), dtype=np.int64), *faces])
    return PolygonMesh.of_triangles(vertices, triangles, facts=facts, colors=colors)


def place_part(
    vertices: NDArray[np.float64], faces: NDArray[np.int64], transform: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Move all vertices by one matrix (4, 4), or each by its own (V, 4, 4). A mirrored part keeps its faces outward."""
    linear, offset = transform[..., :3, :3], transform[..., :3, 3]
    if (np.linalg.det(linear) < 0).mean() > 0.5:
        faces = faces[:, ::-1]  # a mirrored part turns its winding, in glTF by section 3.7.4
    moved = vertices @ linear.T if transform.ndim == 2 else np.einsum("vij,vj->vi", linear, vertices)
    return moved + offset, faces


def triangulate(polygons: PolygonMesh) -> NDArray[np.int64]:
    """Return the polygons as triangles (F, 3) with the same winding, in the polygons' order.

    A polygon of n corners gives n - 2 triangles; a polygon of fewer than three corners gives none. The triangles of a
    concave polygon have the same area as the polygon, even for rings with a bridge between the two outlines.
    Deterministic.

    Raises
    ------
    ValueError
        A polygon names a vertex that does not exist.

    >>> square = PolygonMesh([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]], [0, 1, 2, 3], [4])
    >>> triangulate(square).tolist()
    [[0, 1, 2], [0, 2, 3]]
    """
    _check_corners(polygons)
    counts = polygons.counts
    starts = np.cumsum(counts) - counts
    num_triangles = np.maximum(counts - 2, 0)
    first_triangles = np.cumsum(num_triangles) - num_triangles
    faces = np.empty((int(num_triangles.sum()), 3), dtype=np.int64)
    for count in np.unique(counts[counts >= 3]).tolist():
        chosen = np.flatnonzero(counts == count)
        corners = polygons.corners[starts[chosen, None] + np.arange(count)]
        rows = first_triangles[chosen, None] + np.arange(count - 2)
        with np.errstate(all="ignore"):  # NaN and huge vertices have no area, and are for others to refuse
            faces[rows] = _triangulate_equal(polygons.vertices, corners)
    return faces


def _check_corners(polygons: PolygonMesh) -> None:
    corners, num_vertices = polygons.corners, len(polygons.vertices)
    wrong = np.flatnonzero((corners < 0) | (corners >= num_vertices))
    if len(wrong):
        face = int(np.searchsorted(np.cumsum(polygons.counts), wrong[0], side="right"))
        raise ValueError(
            f"face {face + 1} names vertex {corners[wrong[0]] + 1}, but there are only vertices 1 to {num_vertices}"
        )


def _triangulate_equal(vertices: NDArray[np.float64], corners: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return triangles (P, n - 2, 3) of `corners` (P, n): polygons with the same number of corners."""
    fans = np.stack(np.broadcast_arrays(corners[:, :1], corners[:, 1:-1], corners[:, 2:]), axis=2)
    if corners.shape[1] == 3:
        return fans
    positions = vertices[corners]
    arms = positions[:, 1:] - positions[:, :1]
    crosses = np.cross(arms[:, :-1], arms[:, 1:])
    areas_3 = crosses.sum(axis=1)
    areas = np.linalg.norm(areas_3, axis=1)
    shares = np.einsum("pti,pi->pt", crosses, areas_3) / (areas**2)[:, None]
    bad = ~(shares > _SLIVER).all(axis=1) & np.isfinite(areas) & (areas > 0)
    for polygon in np.flatnonzero(bad).tolist():
        local = _triangulate_plane(positions[polygon], areas_3[polygon] / areas[polygon])
        if len(local) == fans.shape[1]:
            fans[polygon] = corners[polygon][local]
    return fans


def _triangulate_plane(positions: NDArray[np.float64], normal: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return triangles (n - 2, 3) of one polygon (n, 3), seen along its unit `normal`."""
    import manifold3d

    axis = np.zeros(3)
    axis[np.argmin(np.abs(normal))] = 1.0
    right = np.cross(axis, normal)
    right /= np.linalg.norm(right)
    up = np.cross(normal, right)
    flat = (positions - positions[0]) @ np.stack([right, up], axis=1)
    flat /= np.abs(flat).max()
    triangles = manifold3d.triangulate([np.ascontiguousarray(flat)], allow_convex=False)
    return np.asarray(triangles, dtype=np.int64).reshape(-1, 3)
