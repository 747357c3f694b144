"""The triangles of a picture, ready to draw: float32 arrays around the camera's target, with normals and colours.

Drawing uses its own frame: the camera's target is the origin, and the camera is one unit away. So float32 is precise
enough even for a part that lies a million units from the world's origin.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sdfnet.geometry.arrays import Float32Array, FloatArray, IntArray
from sdfnet.mesh.mesh import Mesh, label_positions
from sdfnet.rendering.camera import Camera
from sdfnet.rendering.style import Color, check_color, to_linear

CREASE_ANGLE = 40.0
"""If a mesh has no normals, an edge is drawn sharp where the angle between its faces is above this, in degrees."""


@dataclass(frozen=True, eq=False)
class PaintedMesh:
    """A mesh with a colour.

    Attributes
    ----------
    mesh : Mesh
    color : Color or None
    vertex_colors : (V, 3) or None
        sRGB in [0, 1]; give at most one of `color` and this. Without them the style's colour is drawn.

    >>> painted = PaintedMesh(Mesh([[0, 0, 0], [1, 0, 0], [0, 1, 0]], [[0, 1, 2]]), color=(1.0, 0.5, 0.0))
    >>> painted.color
    (1.0, 0.5, 0.0)
    """

    mesh: Mesh
    color: Color | None = None
    vertex_colors: NDArray[np.floating] | None = None

    def __post_init__(self) -> None:
        if self.color is not None and self.vertex_colors is not None:
            raise ValueError("give only one of color and vertex_colors")
        if self.color is not None:
            check_color("color", self.color)
        colors = self.vertex_colors
        if colors is not None and np.shape(colors) != self.mesh.vertices.shape:
            raise ValueError(f"vertex_colors must have shape {self.mesh.vertices.shape}, got {np.shape(colors)}")
        if colors is not None and not (np.min(colors) >= 0 and np.max(colors) <= 1):
            raise ValueError(f"vertex_colors must be in [0, 1], got {np.min(colors)} to {np.max(colors)}")


Drawable = Mesh | PaintedMesh


@dataclass(frozen=True, eq=False)
class Scene:
    """Triangles of all drawables together, (V, 3) and (F, 3), in the drawing frame; albedo is linear."""

    vertices: Float32Array
    normals: Float32Array
    albedo: Float32Array
    faces: NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class Layer:
    """A drawn scene without a background.

    Attributes
    ----------
    color : (H, W, 3) float32
        Stored colour times coverage.
    coverage : (H, W) float32
        Share of each pixel that a surface covers.
    depth : (H, W) float32
        Depth along the view of the surface in the middle of each pixel, drawing frame; infinite without a surface.
    """

    color: Float32Array
    coverage: Float32Array
    depth: Float32Array


def make_scene(drawables: Sequence[Drawable], camera: Camera, *, color: Color) -> Scene:
    """Return `drawables` in the drawing frame of `camera`.

    Raises
    ------
    ValueError
        Nothing to draw, or vertices that are not finite.
    """
    parts = [_corners(drawable, color) for drawable in drawables]
    parts = [part for part in parts if len(part[3])]
    if not parts:
        raise ValueError("nothing to draw: give at least one mesh with faces")
    vertices = (np.concatenate([part[0] for part in parts]) - camera.target) / camera.distance
    if not np.isfinite(vertices).all():
        raise ValueError(f"vertices must be finite, got {int((~np.isfinite(vertices)).sum())} numbers that are not")
    starts = np.cumsum([0, *(len(part[0]) for part in parts[:-1])])
    faces = np.concatenate([part[3] + start for part, start in zip(parts, starts, strict=True)])
    normals, albedo = (np.concatenate([part[column] for part in parts]) for column in (1, 2))
    return Scene(vertices.astype(np.float32), normals.astype(np.float32), albedo, faces.astype(np.int32))


def _corners(drawable: Drawable, default: Color) -> tuple[FloatArray, FloatArray, Float32Array, IntArray]:
    """Return vertices, normals, albedo and faces; without vertex normals, every corner becomes a vertex."""
    painted = drawable if isinstance(drawable, PaintedMesh) else PaintedMesh(drawable)
    mesh = painted.mesh
    vertices, faces, normals, colors = mesh.vertices, mesh.faces, mesh.vertex_normals, painted.vertex_colors
    if colors is None:
        colors = np.broadcast_to(np.array(painted.color or default), vertices.shape)
    if normals is None:
        corners = faces.ravel()
        vertices, normals, colors = vertices[corners], crease_normals(mesh).reshape(-1, 3), colors[corners]
        faces = np.arange(len(corners)).reshape(-1, 3)
    return vertices, normals, to_linear(colors), faces


def crease_normals(mesh: Mesh, *, crease_angle: float = CREASE_ANGLE) -> FloatArray:
    """Return a unit normal for each corner of each face, (F, 3, 3): smooth across flat edges, sharp across creases.

    The normal of a corner is the area-weighted mean of the normals of faces around its place. Only faces count whose
    normals differ by less than `crease_angle` degrees from that of the corner's own face. Vertices at one place count
    as one, so files that split them are shaded the same.

    >>> mesh = Mesh([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]], [[0, 2, 1], [0, 1, 3]])
    >>> crease_normals(mesh)[0].tolist() == [[0, 0, -1]] * 3  # the faces meet at a right angle
    True
    """
    crosses, normals = mesh.face_crosses, mesh.face_normals
    corners = label_positions(mesh.vertices)[1][mesh.faces.ravel()]
    order = np.argsort(corners, kind="stable")
    valence = np.bincount(corners)
    start = np.cumsum(valence) - valence
    # Every pair of a corner and a corner at the same place, the second counting up within its group.
    own = np.repeat(np.arange(len(corners)), valence[corners])
    first = np.repeat(np.cumsum(valence[corners]) - valence[corners], valence[corners])
    other = order[start[corners[own]] + np.arange(len(own)) - first]
    flat = np.einsum("ij,ij->i", normals[own // 3], normals[other // 3]) > np.cos(np.radians(crease_angle))
    own, other = own[flat], other[flat]
    summed = np.stack(
        [np.bincount(own, weights=crosses[other // 3, axis], minlength=len(corners)) for axis in range(3)], axis=-1
    )
    lengths = np.linalg.norm(summed, axis=1, keepdims=True)
    return np.divide(summed, lengths, out=np.zeros_like(summed), where=lengths > 0).reshape(-1, 3, 3)


def split_creases(mesh: Mesh, *, crease_angle: float = 30.0) -> Mesh:
    """Return `mesh` with a vertex of its own for each of the `crease_normals` at a place, and with these normals.

    Programs that compute vertex normals themselves, as browsers do, then draw the same creases. Faces of coarse meshes
    are long, and a normal that is shared across a crease shades them as a whole; so the angle is smaller here.

    >>> mesh = Mesh([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]], [[0, 2, 1], [0, 1, 3]])
    >>> len(split_creases(mesh).vertices)  # the edge that both faces share is a crease
    6
    """
    normals = crease_normals(mesh, crease_angle=crease_angle).reshape(-1, 3)
    place = label_positions(mesh.vertices)[1][mesh.faces.ravel()]
    first, vertex_of_corner = label_positions(normals.round(6), place)
    return Mesh(mesh.vertices[mesh.faces.ravel()[first]], vertex_of_corner.reshape(-1, 3), normals[first])
