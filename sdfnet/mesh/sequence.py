"""Moving meshes: a sequence of frames that is cut into pieces. All frames of a piece have the same faces.

A tracked sequence is one long piece, or a few pieces. An untracked sequence has as many pieces as frames. Writers of
moving meshes (animated GLB, USD, the HTML player) take one piece after the other, so that only one piece is in memory
at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sdfnet.geometry.arrays import Float32Array, FloatArray
from sdfnet.mesh.mesh import Mesh, vertex_normals

_LINEAR_FROM = 0.04045
"""Below this stored value the sRGB curve is a straight line (IEC 61966-2-1)."""


@dataclass(frozen=True, eq=False)
class MovingMesh:
    """Consecutive frames with the same faces. Vertex k is the same point of the shape in all frames.

    Attributes
    ----------
    start : int
        Number of the piece's first frame in the sequence.
    vertices : (T, V, 3) float64
        Positions for each of the T frames, at least one.
    faces : (F, 3) int64
        Counter-clockwise seen from outside, at least one face.
    normals : (T, V, 3) float64
        Outward, of unit length, or zero at a vertex without faces. The default comes from `vertex_normals`.
    colors : (V, 3) or (T, V, 3) float64, or None
        sRGB in [0, 1]: the same colours in all frames, or colours for each frame.

    Raises
    ------
    ValueError
        Wrong shapes, no frames or faces, wrong vertex numbers, numbers that are not finite, colours out of range.

    >>> MovingMesh(3, [[[0, 0, 0], [1, 0, 0], [0, 1, 0]]] * 2, [[0, 1, 2]]).stop
    5
    """

    start: int
    vertices: NDArray[np.float64]
    faces: NDArray[np.int64]
    normals: NDArray[np.float64]
    colors: NDArray[np.float64] | None = field(default=None)

    def __init__(
        self,
        start: int,
        vertices: ArrayLike,
        faces: ArrayLike,
        *,
        normals: ArrayLike | None = None,
        colors: ArrayLike | None = None,
    ) -> None:
        moving = np.ascontiguousarray(vertices, dtype=np.float64)
        if moving.ndim != 3 or moving.shape[2] != 3 or not moving.size:
            raise ValueError(f"vertices must have shape (T, V, 3), T and V at least 1, got {moving.shape}")
        if not np.isfinite(moving).all():
            raise ValueError(f"vertices of the piece from frame {start} on are NaN or infinite")
        first = Mesh(moving[0], faces)  # checks the faces
        if not len(first.faces):
            raise ValueError(f"the piece from frame {start} on has no faces")
        if normals is None:
            normals = np.stack([vertex_normals(frame, first.faces) for frame in moving])
        facing = np.ascontiguousarray(normals, dtype=np.float64)
        if facing.shape != moving.shape or not np.isfinite(facing).all():
            raise ValueError(f"normals must be finite and have shape {moving.shape}, got {facing.shape}")
        object.__setattr__(self, "start", int(start))
        object.__setattr__(self, "vertices", moving)
        object.__setattr__(self, "faces", first.faces)
        object.__setattr__(self, "normals", facing)
        if colors is not None:
            tints = np.ascontiguousarray(colors, dtype=np.float64)
            if tints.shape not in (moving.shape[1:], moving.shape):
                raise ValueError(f"colors must have shape {moving.shape[1:]} or {moving.shape}, got {tints.shape}")
            if not (tints.min() >= 0 and tints.max() <= 1):
                raise ValueError(f"colors must be in [0, 1], got {tints.min()} to {tints.max()}")
            object.__setattr__(self, "colors", tints)

    @property
    def stop(self) -> int:
        """One more than the number of the piece's last frame."""
        return self.start + len(self.vertices)

    @property
    def is_recolored(self) -> bool:
        """Whether the colours change from frame to frame."""
        return self.colors is not None and self.colors.ndim == 3

    def linear_colors(self, index: int) -> NDArray[np.float32]:
        """Return the linear colours of frame `index` of this piece, (V, 3). glTF and USD store linear colours."""
        assert self.colors is not None
        colors = self.colors[index] if self.is_recolored else self.colors
        return to_linear_srgb(colors)


def to_linear_srgb(colors: FloatArray) -> Float32Array:
    """Return sRGB colours in [0, 1] of any shape as linear light, which glTF and USD store.

    >>> to_linear_srgb(np.array([0.0, 0.5, 1.0])).round(3).tolist()
    [0.0, 0.21400000154972076, 1.0]
    """
    return np.where(colors <= _LINEAR_FROM, colors / 12.92, ((colors + 0.055) / 1.055) ** 2.4).astype("<f4")


def from_linear_srgb(colors: FloatArray) -> FloatArray:
    """Return linear light in [0, 1], of any shape, as sRGB colours: the inverse of `to_linear_srgb`.

    >>> from_linear_srgb(np.array([0.0, 0.214, 1.0])).round(3).tolist()
    [0.0, 0.5, 1.0]
    """
    curved = 1.055 * np.maximum(colors, 0.0) ** (1 / 2.4) - 0.055
    return np.where(colors <= _LINEAR_FROM / 12.92, 12.92 * colors, curved).astype(np.float64)


def join_frames(start: int, meshes: Sequence[Mesh], *, colors: ArrayLike | None = None) -> MovingMesh:
    """Return consecutive `meshes` with the same faces as one piece. Missing normals are computed from the faces.

    Raises
    ------
    ValueError
        No meshes, or faces that differ (the message says where).

    >>> triangle = Mesh([[0, 0, 0], [1, 0, 0], [0, 1, 0]], [[0, 1, 2]])
    >>> join_frames(0, [triangle, triangle]).vertices.shape
    (2, 3, 3)
    """
    if not meshes:
        raise ValueError("a piece needs at least one mesh, got none")
    first = meshes[0]
    for number, mesh in enumerate(meshes):
        if mesh.vertices.shape != first.vertices.shape or not np.array_equal(mesh.faces, first.faces):
            raise ValueError(f"meshes of a piece must have the same faces, but frame {start + number} has others")
    normals = [
        vertex_normals(mesh.vertices, mesh.faces) if mesh.vertex_normals is None else mesh.vertex_normals
        for mesh in meshes
    ]
    vertices = np.stack([mesh.vertices for mesh in meshes])
    return MovingMesh(start, vertices, first.faces, normals=np.stack(normals), colors=colors)


def check_order(order: Sequence[int], *, num_frames: int) -> None:
    """Raise ValueError unless `order` plays the frames 0 to `num_frames` - 1 without jumps."""
    if not len(order):
        raise ValueError("order must name at least one frame, got none")
    for place, (frame, before) in enumerate(zip(order, [order[0], *order], strict=False)):
        if not 0 <= frame < num_frames:
            raise ValueError(f"order must name frames 0 to {num_frames - 1}, got {frame} at place {place}")
        if abs(frame - before) > 1:
            raise ValueError(f"order must go frame by frame, got {before} and then {frame} at place {place}")
