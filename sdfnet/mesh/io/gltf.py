"""glTF 2.0 and its binary form GLB: read the triangles of a scene, flattened with their node transforms; write GLB.

Read: triangles, strips and fans; strided, sparse and normalised accessors; buffers in the file, as data URIs and as
files beside it. Not read: materials, skins, morph targets, compressed buffers (an error says so).

References
----------
Khronos Group, "glTF 2.0 Specification", sections 3.5 (nodes), 3.6 (accessors), 3.7 (primitives), 4.4 (GLB).
"""

from __future__ import annotations

import base64
import json
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
from numpy.typing import NDArray

from sdfnet.geometry.bounds import Bounds
from sdfnet.mesh.io.coordinates import is_far_from_origin
from sdfnet.mesh.io.polygons import PolygonMesh
from sdfnet.mesh.mesh import Mesh

_JSON_CHUNK, _BINARY_CHUNK = 0x4E4F534A, 0x004E4942
_DTYPES = {5120: "<i1", 5121: "<u1", 5122: "<i2", 5123: "<u2", 5125: "<u4", 5126: "<f4"}
_COMPONENTS = {np.dtype(kind): code for code, kind in _DTYPES.items()}
_WIDTHS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4}
_COMPRESSIONS = ("KHR_draco_mesh_compression", "EXT_meshopt_compression", "KHR_meshopt_compression")
_MOST_ITEMS = 100_000_000
_TRIANGLES, _STRIP, _FAN = 4, 5, 6


def parse_gltf(data: bytes, *, folder: Path) -> PolygonMesh:
    """Return the default scene as one mesh, in the scene's frame; `folder` holds the buffers that the file names.

    Raises
    ------
    ValueError
        Not glTF 2, compressed buffers, a buffer that is missing or too short, nodes that form no tree.
    """
    document, binary = _split(data)
    version = str(document.get("asset", {}).get("version", "2.0"))
    if not version.startswith("2"):
        raise ValueError(f"it is glTF {version}, only glTF 2 is read; convert it with a newer exporter")
    used = [name for name in _COMPRESSIONS if name in document.get("extensionsRequired", [])]
    if used:
        raise ValueError(f"it is compressed ({used[0]}); export it without compression")
    parts = _Scene(document, _read_buffers(document, binary, folder)).instances()
    offsets = np.cumsum([0] + [len(vertices) for vertices, _ in parts])
    vertices = np.concatenate([np.zeros((0, 3))] + [vertices for vertices, _ in parts])
    faces = [faces + offset for (_, faces), offset in zip(parts, offsets, strict=False)]
    return PolygonMesh.of_triangles(vertices, np.concatenate([np.zeros((0, 3), dtype=np.int64), *faces]))


def external_files(data: bytes, *, folder: Path) -> list[Path]:
    """Return the files that a glTF file takes its buffers from, whether they exist or not."""
    document, _ = _split(data)
    uris = [buffer["uri"] for buffer in document.get("buffers", []) if "uri" in buffer]
    return [folder / unquote(uri) for uri in uris if not uri.startswith("data:")]


def _split(data: bytes) -> tuple[dict[str, Any], bytes]:
    """Return the JSON document and the binary chunk (empty if there is none)."""
    if data[:4] != b"glTF":
        document, binary = json.loads(data), b""
    else:
        chunks: dict[int, bytes] = {}
        offset = 12
        while offset + 8 <= len(data):
            length, kind = struct.unpack_from("<II", data, offset)
            if offset + 8 + length > len(data):
                raise ValueError("it is not whole: a chunk goes on behind the end of the file")
            chunks.setdefault(kind, data[offset + 8 : offset + 8 + length])
            offset += 8 + length
        document, binary = json.loads(chunks.get(_JSON_CHUNK, b"")), chunks.get(_BINARY_CHUNK, b"")
    if not isinstance(document, dict):
        raise ValueError("its JSON is not an object")
    return document, binary


def _read_buffers(document: dict[str, Any], binary: bytes, folder: Path) -> list[bytes]:
    buffers = []
    for buffer in document.get("buffers", []):
        uri = buffer.get("uri")
        if uri is None:
            buffers.append(binary)
        elif uri.startswith("data:"):
            buffers.append(base64.b64decode(uri.partition(",")[2]))
        else:
            path = folder / unquote(uri)
            if "://" in uri or not path.is_file():
                raise ValueError(f"the file {uri[:80]!r} with its vertices is missing; put it beside the mesh")
            buffers.append(path.read_bytes())
    return buffers


@dataclass(frozen=True, eq=False)
class _Scene:
    """A document with its buffers."""

    document: dict[str, Any]
    buffers: list[bytes]

    def instances(self) -> list[tuple[NDArray[np.float64], NDArray[np.int64]]]:
        """Return vertices and faces of each mesh primitive, once for each node that shows it."""
        nodes, scenes = self.document.get("nodes", []), self.document.get("scenes")
        if scenes:
            roots = scenes[self.document.get("scene", 0)].get("nodes", [])
        else:
            children = {child for node in nodes for child in node.get("children", [])}
            roots = [index for index in range(len(nodes)) if index not in children]
        parts = []
        seen: set[int] = set()
        stack = [(index, np.eye(4)) for index in reversed(roots)]
        while stack:
            index, parent = stack.pop()
            if index in seen:
                raise ValueError(f"node {index} has two parents, but nodes must form a tree")
            seen.add(index)
            node = nodes[index]
            transform = parent @ _node_transform(node)
            if not transform[:3, :3].any():
                continue  # section 3.5.3: a scale of zero hides a node, as those of an animated morph
            if "mesh" in node:
                for primitive in self.document["meshes"][node["mesh"]]["primitives"]:
                    vertices, faces = self._primitive(primitive)
                    if np.linalg.det(transform[:3, :3]) < 0:
                        faces = faces[:, ::-1]  # section 3.7.4: a mirrored node turns the winding
                    parts.append((vertices @ transform[:3, :3].T + transform[:3, 3], faces))
            stack += [(child, transform) for child in reversed(node.get("children", []))]
        return parts

    def _primitive(self, primitive: dict[str, Any]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        mode = primitive.get("mode", _TRIANGLES)
        if mode not in (_TRIANGLES, _STRIP, _FAN) or "POSITION" not in primitive["attributes"]:
            return np.zeros((0, 3)), np.zeros((0, 3), dtype=np.int64)
        if any(name in primitive.get("extensions", {}) for name in _COMPRESSIONS):
            raise ValueError("it is compressed (Draco); export it without compression")
        vertices = self._accessor(primitive["attributes"]["POSITION"]).astype(np.float64)
        if vertices.shape[1] != 3:
            raise ValueError("positions must have three numbers")
        if "indices" in primitive:
            indices = self._accessor(primitive["indices"]).reshape(-1).astype(np.int64)
        else:
            indices = np.arange(len(vertices))
        if len(indices) and indices.max() >= len(vertices):
            raise ValueError(f"a face names vertex {indices.max()}, but there are only {len(vertices)} vertices")
        return vertices, _primitive_faces(indices, mode)

    def _accessor(self, index: int) -> NDArray:
        """Return the items of an accessor, (N, width); normalised integers as float64 in [-1, 1]."""
        accessor = self.document["accessors"][index]
        dtype, width, count = np.dtype(_DTYPES[accessor["componentType"]]), _WIDTHS[accessor["type"]], accessor["count"]
        if not 0 <= count <= _MOST_ITEMS:
            raise ValueError(f"accessor {index} promises {count} items")
        if "bufferView" in accessor:
            items = self._view(accessor["bufferView"], accessor.get("byteOffset", 0), dtype, width, count)
        elif "sparse" in accessor:
            items = np.zeros((count, width), dtype=dtype)
        else:
            raise ValueError(f"accessor {index} has no data; export the mesh without compression")
        if "sparse" in accessor:
            places, values, count = (accessor["sparse"][key] for key in ("indices", "values", "count"))
            kind = np.dtype(_DTYPES[places["componentType"]])
            rows = self._view(places["bufferView"], places.get("byteOffset", 0), kind, 1, count)
            items = items.copy()
            items[rows[:, 0]] = self._view(values["bufferView"], values.get("byteOffset", 0), dtype, width, count)
        if accessor.get("normalized") and dtype.kind in "iu":
            return np.maximum(items / np.iinfo(dtype).max, -1.0)
        return items

    def _view(self, index: int, offset: int, dtype: np.dtype, width: int, count: int) -> NDArray:
        """Return `count` rows of `width` numbers from a buffer view, honouring its stride."""
        view = self.document["bufferViews"][index]
        if any(name in view.get("extensions", {}) for name in _COMPRESSIONS):
            raise ValueError("it is compressed (meshopt); export it without compression")
        start = view.get("byteOffset", 0)
        data = self.buffers[view["buffer"]][start : start + view["byteLength"]]
        row = width * dtype.itemsize
        stride = view.get("byteStride", row)
        if offset < 0 or stride < row or offset + (count - 1) * stride + row > len(data):
            raise ValueError(f"buffer view {index} is shorter than its accessor promises")
        return np.ndarray((count, width), dtype=dtype, buffer=data, offset=offset, strides=(stride, dtype.itemsize))


def _node_transform(node: dict[str, Any]) -> NDArray[np.float64]:
    """Return the 4x4 matrix of a node: given (column-major), or translation · rotation · scale."""
    if "matrix" in node:
        return np.array(node["matrix"], dtype=np.float64).reshape(4, 4).T
    x, y, z, w = np.array(node.get("rotation", [0, 0, 0, 1]), dtype=np.float64)
    rotation = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]
    transform = np.eye(4)
    transform[:3, :3] = np.array(rotation) * np.array(node.get("scale", [1, 1, 1]), dtype=np.float64)
    transform[:3, 3] = node.get("translation", [0, 0, 0])
    return transform


def _primitive_faces(indices: NDArray[np.int64], mode: int) -> NDArray[np.int64]:
    """Return triangles (F, 3); every second one of a strip is turned."""
    if mode == _TRIANGLES:
        return indices[: len(indices) // 3 * 3].reshape(-1, 3)
    if mode == _FAN:
        return np.stack([np.broadcast_to(indices[:1], len(indices[2:])), indices[1:-1], indices[2:]], axis=1)
    faces = np.stack([indices[:-2], indices[1:-1], indices[2:]], axis=1)
    faces[1::2] = faces[1::2][:, [1, 0, 2]]
    return faces


ARRAY_BUFFER, ELEMENT_BUFFER = 34962, 34963
MATERIAL: dict[str, Any] = {
    "doubleSided": True,
    "pbrMetallicRoughness": {"baseColorFactor": [0.8, 0.8, 0.8, 1.0], "metallicFactor": 0.0, "roughnessFactor": 0.6},
}
"""glTF's own default is a bare metal, which is black without a surrounding to mirror."""


class GlbBuffer:
    """The binary chunk of a GLB file while it grows, with the accessors that name its parts."""

    def __init__(self) -> None:
        self.views: list[dict[str, Any]] = []
        self.accessors: list[dict[str, Any]] = []
        self.data = bytearray()

    def add(self, items: NDArray, *, target: int | None, with_range: bool = False) -> int:
        """Append `items` ((N,) or (N, 2 to 4); float32, uint32 or uint16) and return the index of their accessor."""
        data = np.ascontiguousarray(items).tobytes()
        view: dict[str, Any] = {"buffer": 0, "byteOffset": len(self.data), "byteLength": len(data)}
        self.views.append(view if target is None else view | {"target": target})
        self.data += data + b"\0" * (-len(data) % 4)  # each view starts at a multiple of four: section 3.6.2.4
        accessor: dict[str, Any] = {
            "bufferView": len(self.views) - 1,
            "componentType": _COMPONENTS[items.dtype],
            "count": len(items),
            "type": list(_WIDTHS)[items[0].size - 1],
        }
        if with_range:
            accessor["min"] = np.atleast_1d(items.min(axis=0)).tolist()
            accessor["max"] = np.atleast_1d(items.max(axis=0)).tolist()
        self.accessors.append(accessor)
        return len(self.accessors) - 1


def format_glb(mesh: Mesh) -> bytes:
    """Return `mesh` as GLB: float32 positions under one node, which takes the offset of a mesh far from the origin."""
    buffer, node = GlbBuffer(), {"mesh": 0}
    shift = offset_to_node(node, mesh.vertices)
    attributes = {"POSITION": buffer.add((mesh.vertices - shift).astype("<f4"), target=ARRAY_BUFFER, with_range=True)}
    if mesh.vertex_normals is not None:
        attributes["NORMAL"] = buffer.add(unit_normals(mesh.vertex_normals), target=ARRAY_BUFFER)
    indices = buffer.add(mesh.faces.astype("<u4").reshape(-1), target=ELEMENT_BUFFER)
    primitive = {"attributes": attributes, "indices": indices, "material": 0}
    return pack_glb(buffer, nodes=[node], meshes=[{"primitives": [primitive]}], materials=[MATERIAL])


def offset_to_node(node: dict[str, Any], vertices: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return what to subtract from `vertices` (V, 3) before rounding to float32, and let `node` add it again."""
    if not is_far_from_origin(vertices):
        return np.zeros(3)
    center = Bounds.of(vertices).center
    node["translation"] = center.tolist()
    return center


def pack_glb(buffer: GlbBuffer, **document: Any) -> bytes:
    """Return a file of `buffer` and one scene, the first node; `document` holds nodes, meshes and materials."""
    binary = bytes(buffer.data)
    whole = {
        "asset": {"version": "2.0", "generator": "sdfnet"},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        **document,
        "buffers": [{"byteLength": len(binary)}],
        "bufferViews": buffer.views,
        "accessors": buffer.accessors,
    }
    text = json.dumps(whole, separators=(",", ":"), allow_nan=False).encode("ascii")
    text += b" " * (-len(text) % 4)
    length = 12 + 8 + len(text) + 8 + len(binary)
    header = struct.pack("<4sII", b"glTF", 2, length)
    return header + struct.pack("<I4s", len(text), b"JSON") + text + struct.pack("<I4s", len(binary), b"BIN\0") + binary


def unit_normals(normals: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return normals that the format allows: unit length, and upward where there is none."""
    lengths = np.linalg.norm(normals, axis=1, keepdims=True)
    return np.where(lengths > 0, normals / np.where(lengths > 0, lengths, 1.0), [0.0, 0.0, 1.0]).astype("<f4")
