"""Polygon File Format (PLY, Stanford): read positions, colours and faces, as text or binary; write binary float64."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from sdfnet.geometry.arrays import FloatArray
from sdfnet.mesh.io.coordinates import parse_floats, to_single_bytes
from sdfnet.mesh.io.polygons import PolygonMesh
from sdfnet.mesh.mesh import Mesh

_TYPES = {
    word: code
    for words, code in {
        "char int8": "i1",
        "uchar uint8": "u1",
        "short int16": "i2",
        "ushort uint16": "u2",
        "int int32": "i4",
        "uint uint32": "u4",
        "int64": "i8",
        "uint64": "u8",
        "float float32": "f4",
        "double float64": "f8",
    }.items()
    for word in words.split()
}
_INDEX_NAMES = ("vertex_indices", "vertex_index")
_CHANNELS = ("red", "green", "blue")


@dataclass(frozen=True)
class _Property:
    name: str
    dtype: np.dtype
    count_dtype: np.dtype | None
    """The type of a list's length, or None for a single value."""
    largest: float
    """The largest integer of the type that the header states, as which colours store 1; for floats 1."""


@dataclass(frozen=True)
class _Element:
    name: str
    num_rows: int
    properties: list[_Property] = field(default_factory=list)


def parse_ply(data: bytes) -> PolygonMesh:
    """Return the `vertex` and `face` elements of a PLY file. Text positions are float64 whatever the header states.

    Raises
    ------
    ValueError
        The file is not PLY, its header makes no sense, or it has less data than the header promises (checked before
        memory of that size is allocated).
    """
    elements, columns = _read_columns(data)
    vertex, face = columns.get("vertex", {}), columns.get("face", {})
    if not all(axis in vertex for axis in "xyz"):
        raise ValueError("it has no vertices with x, y and z")
    vertices = np.stack([vertex[axis] for axis in "xyz"], axis=1)
    if "tristrips" in columns:
        raise ValueError("its faces are triangle strips, which are not read; save it with plain faces")
    name = next((name for name in _INDEX_NAMES if name in face), None)
    lists = [
        f"{prop.name} of {element.name}"
        for element in elements
        for prop in element.properties
        if prop.count_dtype is not None and element.num_rows and element.name != "vertex"
    ]
    if name is None and lists:
        found = ", ".join(lists)
        raise ValueError(
            f"no faces, which must be the list {_INDEX_NAMES[0]} of face, only {found}; rename it, or export a surface"
        )
    if name is None:
        return PolygonMesh(vertices, [], [])
    return PolygonMesh(vertices, face[name], face[name + " count"], colors=_colors(elements, vertex))


def _colors(elements: list[_Element], vertex: dict[str, NDArray]) -> FloatArray | None:
    """Return the colours of the vertices, (V, 3) in [0, 1]; None without all three channels."""
    properties = [each for element in elements if element.name == "vertex" for each in element.properties]
    largest = {each.name: each.largest for each in properties}
    if not all(channel in vertex for channel in _CHANNELS):
        return None
    colors = np.stack([vertex[channel] / largest[channel] for channel in _CHANNELS], axis=1)
    return np.clip(np.nan_to_num(colors), 0.0, 1.0)


def read_ply_vertices(data: bytes) -> dict[str, NDArray]:
    """Return the columns of the `vertex` element of a PLY file, among them x, y and z, each (V,).

    Raises
    ------
    ValueError
        As `parse_ply`.
    """
    vertex = _read_columns(data)[1].get("vertex", {})
    if not all(axis in vertex for axis in "xyz"):
        raise ValueError("it has no vertices with x, y and z")
    return vertex


def _read_columns(data: bytes) -> tuple[list[_Element], dict[str, dict[str, NDArray]]]:
    """Return the elements of a PLY file, and the columns of each by its name."""
    if not data[:64].lstrip().lower().startswith(b"ply"):
        data = to_single_bytes(data)
    elements, is_text, body = _parse_header(data)
    if is_text:
        body = parse_floats(body.split()).astype("<f8").tobytes()
    columns: dict[str, dict[str, NDArray]] = {}
    offset = 0
    for element in elements:
        columns[element.name], offset = _read_element(element, body, offset)
    return elements, columns


def _parse_header(data: bytes) -> tuple[list[_Element], bool, bytes]:
    """Return the elements, whether the body is text, and the body."""
    start = len(data) - len(data.lstrip())
    if data[start : start + 3].lower() != b"ply":
        raise ValueError("it does not start with ply")
    end = data.find(b"end_header", start)
    if end < 0:
        raise ValueError("its header has no end")
    after = end + len(b"end_header")
    after += 2 if data[after : after + 2] == b"\r\n" else 1
    lines = [line.split() for line in data[start:end].decode("latin-1").splitlines()[1:]]
    kind = next((line[1] for line in lines if len(line) > 1 and line[0] == "format"), "")
    if kind not in ("ascii", "binary_little_endian", "binary_big_endian"):
        raise ValueError(f"its format must be ascii, binary_little_endian or binary_big_endian, got {kind!r}")
    elements: list[_Element] = []
    for line in lines:
        try:
            if line[:1] == ["element"]:
                elements.append(_Element(line[1], int(line[2])))
            elif line[:1] == ["property"]:
                elements[-1].properties.append(_parse_property(line, kind))
        except (IndexError, KeyError, ValueError):
            raise ValueError(f"its header makes no sense at {' '.join(line)[:60]!r}") from None
    return elements, kind == "ascii", data[after:]


def _parse_property(line: list[str], kind: str) -> _Property:
    def dtype(word: str) -> np.dtype:
        code = (">" if kind == "binary_big_endian" else "<") + _TYPES[word]
        # Text numbers are all held as float64, so that one reader serves text and binary.
        return np.dtype("<f8" if kind == "ascii" else code)

    words = line[2:5] if line[1] == "list" else line[1:3]
    stated = np.dtype(_TYPES[words[-2]])
    largest = float(np.iinfo(stated).max) if stated.kind in "iu" else 1.0
    return _Property(words[-1], dtype(words[-2]), dtype(words[0]) if line[1] == "list" else None, largest)


def _read_element(element: _Element, body: bytes, offset: int) -> tuple[dict[str, NDArray], int]:
    """Return the columns of an element and the offset of the next.

    Lists are flattened, and a column "NAME count" has their lengths.
    """
    smallest = sum((p.dtype if p.count_dtype is None else p.count_dtype).itemsize for p in element.properties)
    if element.num_rows < 0 or element.num_rows * smallest > len(body) - offset:
        raise ValueError(f"its header promises {element.num_rows} rows of {element.name!r}, but it ends before")
    if element.num_rows == 0 or not element.properties:
        lists = [prop.name + " count" for prop in element.properties if prop.count_dtype is not None]
        return dict.fromkeys([*lists, *(prop.name for prop in element.properties)], np.zeros(0)), offset
    return _read_equal_rows(element, body, offset) or _read_rows(element, body, offset)


def _read_equal_rows(element: _Element, body: bytes, offset: int) -> tuple[dict[str, NDArray], int] | None:
    """Read all rows at once if every list has the same length as in the first row. Otherwise return None."""
    fields: list[tuple] = []
    for values, prop in zip(_walk_row(element, body, offset), element.properties, strict=True):
        if prop.count_dtype is not None:
            fields += [(prop.name + " count", prop.count_dtype), (prop.name, prop.dtype, (len(values),))]
        else:
            fields.append((prop.name, prop.dtype))
    row = np.dtype(fields)
    if element.num_rows * row.itemsize > len(body) - offset:
        return None
    table = np.frombuffer(body, dtype=row, count=element.num_rows, offset=offset)
    columns = {name: table[name].reshape(-1) for name in table.dtype.names or ()}
    for prop in element.properties:
        if prop.count_dtype is not None and (columns[prop.name + " count"] != row[prop.name].shape[0]).any():
            return None
    return columns, offset + table.nbytes


def _read_rows(element: _Element, body: bytes, offset: int) -> tuple[dict[str, NDArray], int]:
    """Read the element row by row, because its polygons have different lengths."""
    parts: dict[str, list[NDArray]] = {prop.name: [] for prop in element.properties}
    for _ in range(element.num_rows):
        for values, prop in zip(_walk_row(element, body, offset), element.properties, strict=True):
            parts[prop.name].append(values)
            offset += values.nbytes + (0 if prop.count_dtype is None else prop.count_dtype.itemsize)
    columns = {name: np.concatenate(values) for name, values in parts.items()}
    for prop in element.properties:
        if prop.count_dtype is not None:
            columns[prop.name + " count"] = np.array([len(values) for values in parts[prop.name]])
    return columns, offset


def _walk_row(element: _Element, body: bytes, offset: int) -> Iterator[NDArray]:
    """Yield the values of each property of the row at `offset`."""
    for prop in element.properties:
        count = 1
        if prop.count_dtype is not None:
            count = int(np.frombuffer(body, dtype=prop.count_dtype, count=1, offset=offset)[0])
            offset += prop.count_dtype.itemsize
        if count < 0 or offset + count * prop.dtype.itemsize > len(body):
            raise ValueError(f"it ends within a row of {element.name!r}")
        yield np.frombuffer(body, dtype=prop.dtype, count=count, offset=offset)
        offset += count * prop.dtype.itemsize


def format_ply(
    mesh: Mesh, *, vertex_colors: FloatArray | None = None, attributes: Mapping[str, FloatArray] | None = None
) -> bytes:
    """Return `mesh` as little-endian binary PLY: float64 positions, and float32 normals if the mesh has normals.

    `vertex_colors` (V, 3), sRGB in [0, 1], become bytes. `attributes` (V,) become float32 columns of their names.
    """
    fields = [(axis, "<f8") for axis in "xyz"]
    if mesh.vertex_normals is not None:
        fields += [("n" + axis, "<f4") for axis in "xyz"]
    if vertex_colors is not None:
        fields += [(channel, "u1") for channel in _CHANNELS]
    fields += [(name, "<f4") for name in attributes or {}]
    vertices = np.zeros(len(mesh.vertices), dtype=fields)
    for name, values in (attributes or {}).items():
        vertices[name] = values
    for index, axis in enumerate("xyz"):
        vertices[axis] = mesh.vertices[:, index]
        if mesh.vertex_normals is not None:
            vertices["n" + axis] = mesh.vertex_normals[:, index]
        if vertex_colors is not None:
            vertices[_CHANNELS[index]] = np.rint(255 * vertex_colors[:, index])
    faces = np.zeros(len(mesh.faces), dtype=[("count", "u1"), ("corners", "<i4", 3)])
    faces["count"], faces["corners"] = 3, mesh.faces
    words = {"<f8": "double", "<f4": "float", "u1": "uchar"}
    lines = ["ply", "format binary_little_endian 1.0", "comment sdfnet", f"element vertex {len(vertices)}"]
    lines += [f"property {words[kind]} {name}" for name, kind in fields]
    lines += [f"element face {len(faces)}", "property list uchar int vertex_indices", "end_header", ""]
    return "\n".join(lines).encode("ascii") + vertices.tobytes() + faces.tobytes()
