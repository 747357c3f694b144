"""Wavefront OBJ: polygons with one-based or relative indices. Materials, textures, curves and colours are ignored."""

from __future__ import annotations

import contextlib
import re

import numpy as np
from numpy.typing import NDArray

from sdfnet.mesh.io.coordinates import coordinate_digits, format_rows, parse_floats, parse_ints, to_single_bytes
from sdfnet.mesh.io.polygons import PolygonMesh
from sdfnet.mesh.mesh import Mesh

_COMMENT = re.compile(rb"#[^\n]*")
_NUMBERS = re.compile(rb"(v|vt|vn|vp|f|l|p)\s")
_TEXTURE_AND_NORMAL = re.compile(rb"/\S*")


def parse_obj(data: bytes) -> PolygonMesh:
    """Return all objects and groups of an OBJ file as one mesh.

    Raises
    ------
    ValueError
        A vertex or face line contains something other than numbers.
    """
    text = to_single_bytes(data)
    lines = [line.strip() for line in text.splitlines()]
    if b"\\" in text:
        lines = _join_continued(lines)
    vertex_lines = [line for line in lines if line.startswith((b"v ", b"v\t"))]
    face_lines = [line for line in lines if line.startswith((b"f ", b"f\t"))]
    vertices = _parse_vertices(vertex_lines)
    corners, counts = _parse_faces(face_lines)
    if (corners < 0).any():
        is_vertex = np.array([line.startswith((b"v ", b"v\t")) for line in lines])
        is_face = np.array([line.startswith((b"f ", b"f\t")) for line in lines])
        known = np.repeat(np.cumsum(is_vertex)[is_face], counts)
        corners = np.where(corners < 0, corners + known, np.where(corners == 0, -1, corners - 1))
    else:
        corners = corners - 1
    return PolygonMesh(vertices, corners, counts)


def _join_continued(lines: list[bytes]) -> list[bytes]:
    """Join number lines that end in a backslash to the next line. Other lines may end in a Windows path."""
    joined: list[bytes] = []
    goes_on = False
    for line in lines:
        if goes_on:
            joined[-1] += b" " + line
        else:
            joined.append(line)
        last = joined[-1]
        goes_on = last.endswith(b"\\") and _NUMBERS.match(last) is not None and b"#" not in last
        if goes_on:
            joined[-1] = last[:-1]
    return joined


def _parse_vertices(lines: list[bytes]) -> NDArray[np.float64]:
    """Return the first three numbers of each line. A weight or a colour may follow them."""
    tokens = b"\n".join(lines).split()
    if not _is_regular(tokens, keyword=b"v", num_lines=len(lines)):
        tokens = [token for line in lines for token in line.split(None, 4)[:4]]
    try:
        if not _is_regular(tokens, keyword=b"v", num_lines=len(lines)):
            raise ValueError("a vertex must have three numbers")
        return np.stack([parse_floats(tokens[axis::4]) for axis in (1, 2, 3)], axis=1)
    except ValueError:
        for line in lines:
            with contextlib.suppress(ValueError):
                if len([float(token) for token in line.split()[1:4]]) == 3:
                    continue
            shown = line[:60].decode("ascii", "backslashreplace")
            raise ValueError(f"a vertex must have three numbers, got {shown!r}") from None
        raise


def _is_regular(tokens: list[bytes], *, keyword: bytes, num_lines: int) -> bool:
    """Whether `tokens` consist of `num_lines` groups of the keyword and three more tokens."""
    return len(tokens) == 4 * num_lines and tokens[::4].count(keyword) == num_lines


def _parse_faces(lines: list[bytes]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the position indices (C,) as written in the file, and the number of corners of each face (P,)."""
    text = b"\n".join(lines)
    if b"#" in text:
        text = _COMMENT.sub(b"", text)
    if b"/" in text:
        text = _TEXTURE_AND_NORMAL.sub(b"", text)
    tokens = text.split()
    try:
        if _is_regular(tokens, keyword=b"f", num_lines=len(lines)):
            columns = [parse_ints(tokens[corner::4]) for corner in (1, 2, 3)]
            return np.stack(columns, axis=1).reshape(-1), np.full(len(lines), 3)
        rows = [line.split()[1:] for line in text.split(b"\n")]
        corners = parse_ints(token for row in rows for token in row)
        return corners, np.array([len(row) for row in rows], dtype=np.int64)
    except (ValueError, OverflowError):
        raise ValueError("a face must have whole numbers such as 'f 1 2 3' or 'f 1/1/1 2/2/2 3/3/3'") from None


def format_obj(mesh: Mesh) -> bytes:
    """Return `mesh` as OBJ text with nine significant digits of its extent, and with normals if the mesh has them."""
    number = f"%.{coordinate_digits(mesh.vertices)}g"
    parts = ["# sdfnet\n", format_rows(f"v {number} {number} {number}\n", mesh.vertices)]
    indices = mesh.faces + 1
    if mesh.vertex_normals is None:
        parts.append(format_rows("f %d %d %d\n", indices))
    else:
        parts.append(format_rows("vn %.9g %.9g %.9g\n", mesh.vertex_normals))
        parts.append(format_rows("f %d//%d %d//%d %d//%d\n", np.repeat(indices, 2, axis=1)))
    return "".join(parts).encode("ascii")
