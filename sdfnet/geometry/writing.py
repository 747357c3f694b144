"""Mesh files out: OBJ, PLY, STL and GLB, whole or not at all."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np

from sdfnet.files import write_atomic
from sdfnet.geometry.formats.glb import format_glb
from sdfnet.geometry.formats.obj import format_obj
from sdfnet.geometry.formats.ply import format_ply
from sdfnet.geometry.formats.stl import format_stl, format_stl_text
from sdfnet.geometry.mesh import Mesh

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
    try:
        write_atomic(path, _format(mesh, kind))
    except OSError as error:
        raise ValueError(f"cannot write {path}: {error.strerror or error}. Choose another place.") from error
    _logger.debug("wrote %s", path)


def _format(mesh: Mesh, kind: str) -> bytes:
    if kind == "obj":
        return format_obj(mesh)
    if kind == "ply":
        return format_ply(mesh)
    far = _is_far_from_origin(mesh)
    if kind == "stl":
        return format_stl_text(mesh) if far else format_stl(mesh)
    return format_glb(mesh, translation=mesh.bounds.center if far else None)


def _is_far_from_origin(mesh: Mesh) -> bool:
    """Whether float32 coordinates would move a vertex by more than _FLOAT32_HARM of the extent."""
    with np.errstate(over="ignore"):
        moved = np.abs(mesh.vertices - mesh.vertices.astype(np.float32)).max()
    return bool(not moved <= _FLOAT32_HARM * mesh.bounds.extent.max())
