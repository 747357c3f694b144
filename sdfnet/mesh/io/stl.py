"""STL, binary and text: loose triangles; normals and colours are not read."""

from __future__ import annotations

import re

import numpy as np

from sdfnet.mesh.io.coordinates import coordinate_digits, format_rows, is_far_from_origin, parse_floats, to_single_bytes
from sdfnet.mesh.io.polygons import PolygonMesh
from sdfnet.mesh.mesh import Mesh

_HEADER_BYTES = 84
_FACET = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attribute", "<u2")])
_VERTEX = re.compile(rb"\bvertex\s+(\S+)\s+(\S+)\s+(\S+)", re.IGNORECASE)


def parse_stl(data: bytes) -> PolygonMesh:
    """Return all solids of an STL file; each triangle has its own three vertices, in the file's order.

    Which of the two kinds a file is, its length decides: binary files that start with "solid" are common.

    Raises
    ------
    ValueError
        A binary file that ends before its last facet, a text facet without three vertices.
    """
    num_facets = int.from_bytes(data[80:84], "little") if len(data) >= _HEADER_BYTES else 0
    expected = _HEADER_BYTES + num_facets * _FACET.itemsize
    if len(data) >= _HEADER_BYTES and len(data) == expected:
        return _from_corners(_facets(data, num_facets))
    text = to_single_bytes(data)
    if text[:1024].lstrip()[:5].lower() == b"solid" and (b"\0" not in text[:1024] or _VERTEX.search(text)):
        numbers = parse_floats(token for vertex in _VERTEX.findall(text) for token in vertex)
        if len(numbers) % 9:
            raise ValueError(f"it has {len(numbers) // 3} vertices, not three for each triangle")
        return _from_corners(numbers)
    if len(data) < _HEADER_BYTES:
        raise ValueError(f"it holds {len(data)} bytes, too few for STL")
    if expected < len(data) < 2 * expected and num_facets > 0:
        return _from_corners(_facets(data, num_facets))  # some exporters append data of their own
    complete = (len(data) - _HEADER_BYTES) // _FACET.itemsize
    raise ValueError(f"its header promises {num_facets} triangles, but it ends after {complete}")


def _facets(data: bytes, num_facets: int) -> np.ndarray:
    return np.frombuffer(data, dtype=_FACET, count=num_facets, offset=_HEADER_BYTES)["corners"]


def _from_corners(corners: np.ndarray) -> PolygonMesh:
    vertices = np.asarray(corners, dtype=np.float64).reshape(-1, 3)
    return PolygonMesh.of_triangles(vertices, np.arange(len(vertices)).reshape(-1, 3))


def format_stl(mesh: Mesh) -> bytes:
    """Return `mesh` as binary STL (float32), or as text where it lies so far from the origin that float32 harms it."""
    if is_far_from_origin(mesh.vertices):
        return _format_text(mesh)
    facets = np.zeros(len(mesh.faces), dtype=_FACET)
    facets["normal"] = mesh.face_normals
    facets["corners"] = mesh.triangles
    header = b"sdfnet".ljust(80, b"\0") + len(facets).to_bytes(4, "little")
    return header + facets.tobytes()


def _format_text(mesh: Mesh) -> bytes:
    number = f"%.{coordinate_digits(mesh.vertices)}g"
    vertex = f"vertex {number} {number} {number}\n"
    template = "facet normal %.9g %.9g %.9g\nouter loop\n" + 3 * vertex + "endloop\nendfacet\n"
    rows = format_rows(template, np.concatenate([mesh.face_normals, mesh.triangles.reshape(-1, 9)], axis=1))
    return f"solid sdfnet\n{rows}endsolid sdfnet\n".encode("ascii")
