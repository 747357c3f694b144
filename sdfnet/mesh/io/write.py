"""Write mesh files, whole or not at all. Reading has far more to check, so it is a module of its own."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np

from sdfnet.files import write_atomic
from sdfnet.geometry.arrays import FloatArray
from sdfnet.mesh.io.formats import WRITABLE, find_format
from sdfnet.mesh.mesh import Mesh

_logger = logging.getLogger(__name__)


def save_mesh(mesh: Mesh, path: str | Path, *, vertex_colors: FloatArray | None = None) -> None:
    """Write `mesh` in the format that the suffix of `path` names. `sdfnet.mesh.io.formats` lists the formats.

    OBJ and PLY keep nine significant digits of the mesh's extent at any distance from the origin: OBJ writes enough
    digits, and PLY is binary float64. STL and GLB hold float32, which keeps six digits of the extent. Far from the
    origin, GLB stores the offset in its node, and STL becomes text. OBJ, PLY and GLB keep vertex normals. GLB and PLY
    keep `vertex_colors`, (V, 3) sRGB in [0, 1]; the other formats have none. Parent folders are created. The file
    appears only when it is complete.

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
    found = find_format(path)
    if found is None or found.writer is None:
        raise ValueError(f"cannot write {path}: the suffix must be one of .{', .'.join(WRITABLE)}")
    if not len(mesh.faces):
        raise ValueError(f"cannot write {path}: the mesh has no faces")
    if not np.isfinite(mesh.vertices).all():
        raise ValueError(f"cannot write {path}: vertices are NaN or infinite")
    if vertex_colors is not None and np.shape(vertex_colors) != mesh.vertices.shape:
        raise ValueError(f"vertex_colors must have shape {mesh.vertices.shape}, got {np.shape(vertex_colors)}")
    write_file(path, found.serialize(mesh, vertex_colors))


def write_file(path: Path, content: bytes) -> None:
    """Write `content` to `path`, whole or not at all. Raise ValueError if `path` cannot be written."""
    try:
        write_atomic(path, content)
    except OSError as error:
        raise ValueError(f"cannot write {path}: {error.strerror or error}. Choose another place.") from error
    _logger.debug("wrote %s", path)
