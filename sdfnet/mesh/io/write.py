"""Mesh files out: OBJ, PLY, STL and GLB, whole or not at all."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from sdfnet.files import write_atomic
from sdfnet.geometry.bounds import Bounds
from sdfnet.mesh.io.glb_writer import format_glb
from sdfnet.mesh.io.gltf_animation import format_animated_glb
from sdfnet.mesh.io.obj import format_obj
from sdfnet.mesh.io.ply import format_ply
from sdfnet.mesh.io.stl import format_stl, format_stl_text
from sdfnet.mesh.mesh import Mesh
from sdfnet.mesh.sequence import MovingMesh

Axis = Literal["x", "y", "z"]

MESH_FORMATS = ("obj", "ply", "stl", "glb")

_FLOAT32_HARM = 1e-6
"""Share of the extent that rounding to float32 may move a vertex; from 16 extents off the origin it is more."""

_logger = logging.getLogger(__name__)


def save_mesh(mesh: Mesh, path: str | Path) -> None:
    """Write `mesh` in the format that the suffix of `path` names: .obj, .ply, .stl or .glb.

    Coordinates keep nine significant digits of the mesh's extent wherever it lies, in these ways: OBJ writes as many
    digits as that takes (9 near the origin, 15 for a part a million times its size away), PLY is binary float64. STL
    and GLB hold float32, six digits of the extent; far from the origin GLB puts the offset into its node and STL
    becomes text.
    Vertex normals are kept in OBJ, PLY and GLB. Parent folders are made; the file appears when it is whole.

    Raises
    ------
    ValueError
        Another suffix, a mesh without faces or with NaN or infinite vertices, a place that cannot be written to.

    >>> import tempfile
    >>> triangle = Mesh([[0, 0, 0], [1, 0, 0], [0, 1, 0]], [[0, 1, 2]])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_mesh(triangle, Path(folder) / "triangle.obj")
    ...     print((Path(folder) / "triangle.obj").read_text().splitlines()[-1])
    f 1 2 3
    """
    path = Path(path)
    kind = path.suffix.lower().removeprefix(".")
    if kind not in MESH_FORMATS:
        raise ValueError(f"cannot write {path}: the suffix must be one of .{', .'.join(MESH_FORMATS)}")
    if not len(mesh.faces):
        raise ValueError(f"cannot write {path}: the mesh has no faces")
    if not np.isfinite(mesh.vertices).all():
        raise ValueError(f"cannot write {path}: vertices are NaN or infinite")
    _write(path, _format(mesh, kind))


def save_animated_glb(
    pieces: Iterable[MovingMesh],
    path: str | Path,
    *,
    order: Sequence[int],
    fps: float = 20.0,
    keys: Sequence[tuple[int, str]] = (),
    up_axis: Axis = "y",
) -> None:
    """Write a moving mesh as one animated GLB.

    Each piece of several frames becomes a mesh with morph targets (one object with shape keys in Blender), weights
    going linearly from frame to frame; a piece of one frame a plain mesh. Of several pieces exactly one is visible at
    any time. The last frame of a piece stands still until the next piece begins. Positions are float32, six digits of
    a piece's extent; far from the origin the offset goes into the node. Normals and colours are kept.

    Parameters
    ----------
    pieces : iterable of MovingMesh
        In order, from frame 0 on, without gaps.
    order : sequence of int
        Frame numbers as they are played, each next to the one before it; each lasts 1 / `fps` seconds. Where the first
        is a neighbour of the last (there and back again), the animation leads on to it.
    keys : sequence of (int, str)
        Frames with names: they name morph targets, and the root node's `extras` hold names and seconds.
    up_axis : str
        Which axis of the vertices is up. It is turned to glTF's, y, by the root node; coordinates stay as they are.

    Raises
    ------
    ValueError
        Another suffix than .glb, pieces that do not follow each other, an order that jumps or names other frames, a key
        for a frame that is not there, an `fps` that is not positive, a place that cannot be written to.
    """
    path = Path(path)
    if path.suffix.lower() != ".glb":
        raise ValueError(f"cannot write {path}: the suffix of an animated GLB must be .glb")
    if not (math.isfinite(fps) and fps > 0):
        raise ValueError(f"fps must be positive, got {fps}")
    if up_axis not in get_args(Axis):
        raise ValueError(f"up_axis must be x, y or z, got {up_axis!r}")

    def locate(piece: MovingMesh) -> NDArray[np.float64] | None:
        vertices = piece.vertices.reshape(-1, 3)
        return Bounds.of(vertices).center if _is_far_from_origin(vertices) else None

    _write(path, format_animated_glb(pieces, order=order, fps=fps, keys=keys, up_axis=up_axis, locate=locate))


def _write(path: Path, content: bytes) -> None:
    try:
        write_atomic(path, content)
    except OSError as error:
        raise ValueError(f"cannot write {path}: {error.strerror or error}. Choose another place.") from error
    _logger.debug("wrote %s", path)


def _format(mesh: Mesh, kind: str) -> bytes:
    if kind == "obj":
        return format_obj(mesh)
    if kind == "ply":
        return format_ply(mesh)
    far = _is_far_from_origin(mesh.vertices)
    if kind == "stl":
        return format_stl_text(mesh) if far else format_stl(mesh)
    return format_glb(mesh, translation=mesh.bounds.center if far else None)


def _is_far_from_origin(vertices: NDArray[np.float64]) -> bool:
    """Whether float32 coordinates would move one of `vertices` (V, 3) by more than _FLOAT32_HARM of the extent."""
    with np.errstate(over="ignore"):
        moved = np.abs(vertices - vertices.astype(np.float32)).max()
    return bool(not moved <= _FLOAT32_HARM * Bounds.of(vertices).extent.max())
