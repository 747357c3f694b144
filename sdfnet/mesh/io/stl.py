"""STL, binary and text: separate triangles. Normals and colours are not read."""

from __future__ import annotations

import re

import numpy as np

from sdfnet.mesh.io.coordinates import coordinate_digits, format_rows, is_far_from_origin, parse_floats, to_single_bytes
from sdfnet.mesh.io.polygons import FileFacts, PolygonMesh
from sdfnet.mesh.mesh import Mesh

_HEADER_BYTES = 84
_FACET = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attribute", "<u2")])
_VERTEX = re.compile(rb"\bvertex\s+(\S+)\s+(\S+)\s+(\S+)", re.IGNORECASE)


def parse_stl(data: bytes) -> PolygonMesh:
    """Return all solids of an STL file. Each triangle has its own three vertices, in the file's order.

    The length of the file tells binary from text, because many binary files start with "solid". The length of a binary
    file may not fit its count of triangles. Such a file is read if it is several files joined into one, if it has
    attributes between the triangles, or if only the count is wrong. A note in `facts` says so.

    Raises
    ------
    ValueError
        A binary file that ends before its last facet, a text facet without three vertices, text and binary files that
        were joined.
    """
    num_facets = int.from_bytes(data[80:84], "little") if len(data) >= _HEADER_BYTES else 0
    expected = _HEADER_BYTES + num_facets * _FACET.itemsize
    if len(data) >= _HEADER_BYTES and len(data) == expected:
        return _from_corners(_facets(data, num_facets)["corners"])
    joined = _read_joined(data)
    if joined is not None:
        return joined
    text = to_single_bytes(data)
    if text[:1024].lstrip()[:5].lower() == b"solid" and (b"\0" not in text[:1024] or _VERTEX.search(text)):
        tail = text[max(text.rfind(b"endsolid"), text.rfind(b"ENDSOLID"), 0) :].rstrip(b"\0 \r\n")
        if b"\0" in tail and tail[:8].lower() == b"endsolid":
            raise ValueError("binary data follows its text; if two files were joined, save them as separate files")
        numbers = parse_floats(token for vertex in _VERTEX.findall(text) for token in vertex)
        if len(numbers) % 9:
            raise ValueError(f"it has {len(numbers) // 3} vertices, not three for each triangle")
        return _from_corners(numbers)
    if len(data) < _HEADER_BYTES:
        raise ValueError(f"it holds {len(data)} bytes, too few for STL")
    return _parse_miscounted(data, num_facets)


def _facets(data: bytes, num_facets: int, *, offset: int = 0) -> np.ndarray:
    return np.frombuffer(data, dtype=_FACET, count=num_facets, offset=offset + _HEADER_BYTES)


def _read_joined(data: bytes) -> PolygonMesh | None:
    """Return the triangles of all binary files that were joined into this file, or None if bytes are left over."""
    parts = []
    offset = 0
    while offset + _HEADER_BYTES < len(data):
        count = int.from_bytes(data[offset + 80 : offset + 84], "little")
        end = offset + _HEADER_BYTES + count * _FACET.itemsize
        if count == 0 or end > len(data):
            break
        parts.append(_facets(data, count, offset=offset)["corners"])
        offset = end
    if parts and data[offset:].lstrip()[:5].lower() == b"solid" and _VERTEX.search(data, offset):
        raise ValueError("a text STL follows its binary data; save the two as separate files")
    if len(parts) < 2 or offset < len(data):
        return None
    return _from_corners(np.concatenate(parts), f"{len(parts)} STL files joined into one: all read")


def _parse_miscounted(data: bytes, num_facets: int) -> PolygonMesh:
    """Read a binary file whose length does not fit its count of triangles."""
    surplus = len(data) - _HEADER_BYTES - num_facets * _FACET.itemsize
    if surplus > 0 and (records := _walk_records(data, num_facets)):
        return _from_corners(np.frombuffer(b"".join(records), dtype=_FACET)["corners"])
    fitting, rest = divmod(len(data) - _HEADER_BYTES, _FACET.itemsize)
    facets = _facets(data, fitting)
    if rest == 0 and _is_surface(facets, num_facets):
        note = f"its header promises {num_facets} triangles, but its size is that of {fitting}: all {fitting} read"
        return _from_corners(facets["corners"], note)
    if surplus < 0:
        raise ValueError(f"its header promises {num_facets} triangles, but it ends after {fitting}")
    if num_facets == 0 or surplus >= len(data) - surplus:
        raise ValueError(f"its header promises {num_facets} triangles, but {surplus} more bytes follow them")
    # Some exporters append data of their own.
    return _from_corners(facets["corners"][:num_facets], f"{surplus} bytes after its triangles left out")


def _walk_records(data: bytes, num_facets: int) -> list[bytes] | None:
    """Return the records of facets with attributes behind each, or None if their lengths do not fit the file."""
    records = []
    offset = _HEADER_BYTES
    for _ in range(num_facets):
        record = data[offset : offset + _FACET.itemsize]
        records.append(record)
        offset += _FACET.itemsize + int.from_bytes(record[-2:], "little")
        if offset > len(data):
            return None
    return records if offset == len(data) else None


def _is_surface(facets: np.ndarray, num_promised: int) -> bool:
    """Whether the data are a surface although the header gives another count.

    If the header counts fewer facets, the other records must look like facets. If it counts more, the surface must be
    closed, because an open surface means that the file was cut off between two triangles.
    """
    if num_promised > len(facets):
        _, corners = np.unique(facets["corners"].reshape(-1, 3), axis=0, return_inverse=True)
        edges = np.sort(corners.reshape(-1, 3)[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), axis=1)
        return bool((np.unique(edges, axis=0, return_counts=True)[1] % 2 == 0).all()) and len(facets) > 0
    more = facets[num_promised:]
    lengths = np.linalg.norm(more["normal"].astype(np.float64), axis=1)
    is_normal = (lengths == 0) | (np.abs(lengths - 1) < 0.01)
    return bool(is_normal.all() and np.isfinite(more["corners"]).all() and np.ptp(more["corners"], axis=1).any())


def _from_corners(corners: np.ndarray, *notes: str) -> PolygonMesh:
    vertices = np.asarray(corners, dtype=np.float64).reshape(-1, 3)
    faces = np.arange(len(vertices)).reshape(-1, 3)
    return PolygonMesh.of_triangles(vertices, faces, facts=FileFacts(notes))


def format_stl(mesh: Mesh) -> bytes:
    """Return `mesh` as binary STL (float32), or as text if the mesh is too far from the origin for float32."""
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
