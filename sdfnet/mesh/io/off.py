"""Read the Object File Format (OFF) and its coloured variants, as text only."""

from __future__ import annotations

import re

from sdfnet.mesh.io.coordinates import parse_floats, parse_ints, to_single_bytes
from sdfnet.mesh.io.polygons import PolygonMesh

_HEADER = re.compile(rb"\s*(ST)?(C)?(N)?(4)?(n)?OFF(?=\s|\d)", re.IGNORECASE)


def parse_off(data: bytes) -> PolygonMesh:
    """Return the polygons of an OFF file. Colours and normals are skipped.

    Raises
    ------
    ValueError
        Not OFF, binary OFF, four-dimensional OFF, or fewer lines than the header promises (checked before anything of
        that size is allocated).
    """
    text = re.sub(rb"#[^\r\n]*", b"", to_single_bytes(data))
    header = _HEADER.match(text)
    if header is None:
        raise ValueError("it does not start with OFF")
    if header[4] or header[5]:
        raise ValueError("its vertices are not three-dimensional; save it as plain OFF")
    lines = [tokens for tokens in (line.split() for line in text[header.end() :].splitlines()) if tokens]
    if not lines:
        raise ValueError("it ends after the word OFF")
    if lines[0][0].upper() == b"BINARY":
        raise ValueError("it is binary OFF, which is not read; save it as text")
    if len(lines[0]) < 2:
        raise ValueError("the counts of vertices and faces are missing")
    num_vertices, num_faces = int(lines[0][0]), int(lines[0][1])
    if num_vertices < 0 or num_faces < 0 or num_vertices + num_faces > len(lines) - 1:
        raise ValueError(
            f"its header promises {num_vertices} vertices and {num_faces} faces, but {len(lines) - 1} lines follow"
        )
    vertex_rows = [row[:3] for row in lines[1 : 1 + num_vertices]]
    face_rows = [row[1 : 1 + int(row[0])] for row in lines[1 + num_vertices : 1 + num_vertices + num_faces]]
    if any(len(row) < 3 for row in vertex_rows):
        raise ValueError("a vertex has fewer than three numbers")
    if any(len(face) != int(row[0]) for face, row in zip(face_rows, lines[1 + num_vertices :], strict=False)):
        raise ValueError("a face has fewer corners than it promises")
    vertices = parse_floats(token for row in vertex_rows for token in row)
    corners = parse_ints(token for row in face_rows for token in row)
    return PolygonMesh(vertices, corners, [len(row) for row in face_rows])
