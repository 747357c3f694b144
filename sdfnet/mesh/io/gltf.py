"""Read glTF 2.0 and its binary form GLB, and write GLB. Reading applies all node transforms to the triangles.

The reader supports triangles, strips and fans; strided, sparse and normalised accessors; buffers in the file, in data
URIs and in files beside it; skins and morph targets in the pose without animation; instances; invisible nodes; colours
of vertices. It ignores materials. It refuses compressed buffers if the file has no plain copy of them.

References
----------
Khronos Group, "glTF 2.0 Specification", sections 3.5 (nodes), 3.6 (accessors), 3.7 (primitives, morph targets, skins),
4.4 (GLB); the extensions EXT_mesh_gpu_instancing and KHR_node_visibility.
"""

from __future__ import annotations

import base64
import json
import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote

import numpy as np
from numpy.typing import NDArray

from sdfnet.geometry.arrays import FloatArray
from sdfnet.geometry.bounds import Bounds
from sdfnet.mesh.io.coordinates import is_far_from_origin
from sdfnet.mesh.io.polygons import FileFacts, PolygonMesh, join_parts, place_part
from sdfnet.mesh.mesh import Mesh
from sdfnet.mesh.sequence import from_linear_srgb, to_linear_srgb

_JSON_CHUNK, _BINARY_CHUNK = 0x4E4F534A, 0x004E4942
_DTYPES = {5120: "<i1", 5121: "<u1", 5122: "<i2", 5123: "<u2", 5125: "<u4", 5126: "<f4"}
_COMPONENTS = {np.dtype(kind): code for code, kind in _DTYPES.items()}
_WIDTHS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT4": 16}
_COMPRESSIONS = ("KHR_draco_mesh_compression", "EXT_meshopt_compression", "KHR_meshopt_compression")
_UNDERSTOOD = (*_COMPRESSIONS, "EXT_mesh_gpu_instancing", "KHR_node_visibility", "KHR_mesh_quantization")
_APPEARANCE = re.compile(r"[A-Z0-9]+_(materials|texture|lights|packing|techniques|xmp)")
"""Extensions that never change the shape."""
_MOST_ITEMS = 100_000_000
_TRIANGLES, _STRIP, _FAN = 4, 5, 6


def parse_gltf(data: bytes, *, folder: Path) -> PolygonMesh:
    """Return the default scene as one mesh in the scene's frame. `folder` holds the buffers that the file names.

    Raises
    ------
    ValueError
        Not glTF 2, a required extension that may change the shape, compressed buffers without a plain copy, a buffer
        that is missing or too short, nodes that form no tree.
    """
    document, binary = _split(data)
    version = str(document.get("asset", {}).get("version", "2.0"))
    if not version.startswith("2"):
        raise ValueError(f"it is glTF {version}, only glTF 2 is read; convert it with a newer exporter")
    unknown = [name for name in document.get("extensionsRequired", []) if not _is_understood(name)]
    if unknown:
        raise ValueError(f"it requires {', '.join(unknown)}, which may change the shape; export it without")
    scene = _Scene(document, _read_buffers(document, binary, folder))
    parts = scene.instances()
    return join_parts(parts, facts=FileFacts(unit="m", up_axis="y"), colors=scene.joined_colors())  # section 3.4


def external_files(data: bytes, *, folder: Path) -> list[Path]:
    """Return the files, existing or not, that hold the buffers of a glTF file."""
    document, _ = _split(data)
    uris = [buffer["uri"] for buffer in document.get("buffers", []) if "uri" in buffer]
    return [_find_buffer(uri, folder) for uri in uris if not uri.startswith("data:")]


def _is_understood(extension: str) -> bool:
    return extension in _UNDERSTOOD or _APPEARANCE.match(extension) is not None


def _split(data: bytes) -> tuple[dict[str, Any], bytes]:
    """Return the JSON document and the binary chunk (empty if there is none)."""
    if data[:4] != b"glTF":
        document, binary = json.loads(data.rstrip(b"\0")), b""
    else:
        chunks: dict[int, bytes] = {}
        offset = 12
        while offset + 8 <= len(data):
            length, kind = struct.unpack_from("<II", data, offset)
            if offset + 8 + length > len(data):
                raise ValueError("it is not whole: a chunk goes on behind the end of the file")
            chunks.setdefault(kind, data[offset + 8 : offset + 8 + length])
            offset += 8 + length
        document, binary = json.loads(chunks.get(_JSON_CHUNK, b"").rstrip(b"\0")), chunks.get(_BINARY_CHUNK, b"")
    if not isinstance(document, dict):
        raise ValueError("its JSON is not an object")
    return document, binary


def _read_buffers(document: dict[str, Any], binary: bytes, folder: Path) -> list[bytes]:
    buffers = []
    for index, buffer in enumerate(document.get("buffers", [])):
        uri = buffer.get("uri")
        if uri is None:
            buffers.append(binary if index == 0 else b"")  # the place of what only the compressed copy holds
        elif uri.startswith("data:"):
            buffers.append(base64.b64decode(uri.partition(",")[2]))
        else:
            path = _find_buffer(uri, folder)
            if not path.is_file():
                raise ValueError(f"the file {uri[:80]!r} with its vertices is missing; put it beside the mesh")
            buffers.append(path.read_bytes())
    return buffers


def _find_buffer(uri: str, folder: Path) -> Path:
    """Return the file, existing or not, that a URI names.

    Some exporters write `file:` and backslashes, often with a folder of another machine. Then a file beside the mesh is
    used whose name is the last name of the path.
    """
    path = unquote(uri)
    plain = re.sub("^file:(//(localhost)?(?=/))?", "", path, flags=re.IGNORECASE).replace("\\", "/")
    names = [path, uri, plain] if plain == path else [path, uri, plain, PurePosixPath(plain).name]
    return next((folder / name for name in names if (folder / name).is_file()), folder / path)


@dataclass(frozen=True, eq=False)
class _Scene:
    """A document with its buffers.

    Attributes
    ----------
    colors : list of (V, 3) or int
        The colours of each part that `instances` has returned, or the number of its vertices if it has none.
    """

    document: dict[str, Any]
    buffers: list[bytes]
    colors: list[FloatArray | int] = field(default_factory=list)

    @cached_property
    def nodes(self) -> list[dict[str, Any]]:
        return self.document.get("nodes", [])

    @cached_property
    def parents(self) -> dict[int, int]:
        return {child: index for index, node in enumerate(self.nodes) for child in node.get("children", [])}

    def instances(self) -> list[tuple[NDArray[np.float64], NDArray[np.int64]]]:
        """Return vertices and faces of each mesh primitive, once for every node or instance with this primitive."""
        scenes = self.document.get("scenes")
        if scenes:
            roots = scenes[self.document.get("scene", 0)].get("nodes", [])
        else:
            roots = [index for index in range(len(self.nodes)) if index not in self.parents]
        parts = []
        seen: set[int] = set()
        stack = [(index, np.eye(4)) for index in reversed(roots)]
        while stack:
            index, parent = stack.pop()
            if index in seen:
                raise ValueError(f"node {index} has two parents, but nodes must form a tree")
            seen.add(index)
            node = self.nodes[index]
            if not node.get("extensions", {}).get("KHR_node_visibility", {}).get("visible", True):
                continue  # its children are hidden too
            transform = parent @ _node_transform(node)
            if "mesh" in node:
                parts += self._node_parts(node, transform)
            stack += [(child, transform) for child in reversed(node.get("children", []))]
        return parts

    def _node_parts(
        self, node: dict[str, Any], transform: NDArray[np.float64]
    ) -> list[tuple[NDArray[np.float64], NDArray[np.int64]]]:
        """Return vertices and faces of each primitive of a node with a mesh, after posing and placing them."""
        mesh = self.document["meshes"][node["mesh"]]
        parts = []
        for primitive in mesh["primitives"]:
            vertices, faces = self._primitive(primitive, node.get("weights", mesh.get("weights", [])))
            colors = self._primitive_colors(primitive, len(vertices))
            if "skin" in node and "JOINTS_0" in primitive["attributes"] and len(vertices):
                # Section 3.7.3.3: the transform of a skinned node does not count.
                parts.append(place_part(vertices, faces, self._skin_transforms(node["skin"], primitive["attributes"])))
                self.colors.append(colors)
                continue
            placements = self._placements(node, transform)
            if len(placements) * len(vertices) > _MOST_ITEMS:
                raise ValueError(f"its {len(placements)} instances are too many; export one of them")
            # Section 3.5.3: a scale of zero hides a node, as those of an animated morph.
            shown = [placement for placement in placements if placement[:3, :3].any()]
            parts += [place_part(vertices, faces, placement) for placement in shown]
            self.colors.extend([colors] * len(shown))
        return parts

    def _primitive_colors(self, primitive: dict[str, Any], num_vertices: int) -> FloatArray | int:
        """Return the sRGB colours (V, 3) of a primitive, or the number of its vertices if it has none."""
        if "COLOR_0" not in primitive["attributes"] or not num_vertices:
            return num_vertices
        colors = self._accessor(primitive["attributes"]["COLOR_0"])[:, :3].astype(np.float64)
        if colors.shape != (num_vertices, 3):
            return num_vertices
        return from_linear_srgb(np.clip(np.nan_to_num(colors), 0.0, 1.0))

    def joined_colors(self) -> FloatArray | None:
        """Return the colours of all parts of `instances`; parts without colours are white. None if no part has any."""
        if all(isinstance(each, int) for each in self.colors):
            return None
        return np.concatenate([np.ones((each, 3)) if isinstance(each, int) else each for each in self.colors])

    def _placements(self, node: dict[str, Any], transform: NDArray[np.float64]) -> list[NDArray[np.float64]]:
        """Return the 4x4 matrix of each instance of a node's mesh (EXT_mesh_gpu_instancing), usually only one."""
        attributes = node.get("extensions", {}).get("EXT_mesh_gpu_instancing", {}).get("attributes", {})
        known = [name for name in ("TRANSLATION", "ROTATION", "SCALE") if name in attributes]
        if not known:
            return [transform]
        rows = zip(*(self._accessor(attributes[name]) for name in known), strict=True)
        keys = [name.lower() for name in known]
        return [transform @ _node_transform(dict(zip(keys, row, strict=True))) for row in rows]

    def _skin_transforms(self, skin_index: int, attributes: dict[str, int]) -> NDArray[np.float64]:
        """Return the 4x4 matrix of each vertex of a skinned primitive, (V, 4, 4): the weighted mean over its joints."""
        skin = self.document["skins"][skin_index]
        matrices = np.stack([self._world_transform(joint) for joint in skin["joints"]])
        if "inverseBindMatrices" in skin:
            inverse = self._accessor(skin["inverseBindMatrices"]).reshape(-1, 4, 4).transpose(0, 2, 1)
            matrices = matrices @ inverse[: len(matrices)]
        sets = range(sum(name.startswith("JOINTS_") for name in attributes))
        joints = np.concatenate([self._accessor(attributes[f"JOINTS_{each}"]) for each in sets], axis=1)
        weights = np.concatenate([self._accessor(attributes[f"WEIGHTS_{each}"]) for each in sets], axis=1)
        weights = weights.astype(np.float64)
        weights[~weights.any(axis=1), 0] = 1.0
        weights /= weights.sum(axis=1, keepdims=True)
        columns = zip(joints.T, weights.T, strict=True)
        return np.sum([weight[:, None, None] * matrices[joint] for joint, weight in columns], axis=0)

    def _world_transform(self, index: int) -> NDArray[np.float64]:
        """Return the 4x4 matrix from a node to the scene. The node need not belong to the default scene."""
        transform = np.eye(4)
        for _ in self.nodes:
            transform = _node_transform(self.nodes[index]) @ transform
            if index not in self.parents:
                return transform
            index = self.parents[index]
        raise ValueError(f"node {index} is its own ancestor, but nodes must form a tree")

    def _primitive(
        self, primitive: dict[str, Any], morph_weights: Sequence[float]
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        mode = primitive.get("mode", _TRIANGLES)
        if mode not in (_TRIANGLES, _STRIP, _FAN) or "POSITION" not in primitive["attributes"]:
            return np.zeros((0, 3)), np.zeros((0, 3), dtype=np.int64)
        vertices = self._accessor(primitive["attributes"]["POSITION"]).astype(np.float64)
        if vertices.shape[1] != 3:
            raise ValueError("positions must have three numbers")
        for weight, target in zip(morph_weights, primitive.get("targets", []), strict=False):
            if weight and "POSITION" in target:
                vertices = vertices + weight * self._accessor(target["POSITION"])
        if "indices" in primitive:
            indices = self._accessor(primitive["indices"]).reshape(-1).astype(np.int64)
        else:
            indices = np.arange(len(vertices))
        if len(indices) and indices.max() >= len(vertices):
            raise ValueError(f"a face names vertex {indices.max()}, but there are only {len(vertices)} vertices")
        return vertices, _primitive_faces(indices, mode)

    def _accessor(self, index: int) -> NDArray:
        """Return the items of an accessor, (N, width). Normalised integers become float64 in [-1, 1]."""
        accessor = self.document["accessors"][index]
        dtype, width, count = np.dtype(_DTYPES[accessor["componentType"]]), _WIDTHS[accessor["type"]], accessor["count"]
        if not 0 <= count <= _MOST_ITEMS:
            raise ValueError(f"accessor {index} promises {count} items")
        if "bufferView" in accessor:
            items = self._view(accessor["bufferView"], accessor.get("byteOffset", 0), dtype, width, count)
        elif "sparse" in accessor:
            items = np.zeros((count, width), dtype=dtype)
        else:
            used = [*self.document.get("extensionsUsed", []), *self.document.get("extensionsRequired", [])]
            found = ", ".join(name for name in _COMPRESSIONS if name in used) or f"accessor {index} has no data"
            raise ValueError(f"it is compressed ({found}); export it without compression")
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
        """Return `count` rows of `width` numbers from a buffer view, with the view's stride."""
        view = self.document["bufferViews"][index]
        start = view.get("byteOffset", 0)
        data = self.buffers[view["buffer"]][start : start + view["byteLength"]]
        row = width * dtype.itemsize
        stride = view.get("byteStride", row)
        if offset < 0 or stride < row or offset + (count - 1) * stride + row > len(data):
            if any(name in view.get("extensions", {}) for name in _COMPRESSIONS):
                raise ValueError("it is compressed (meshopt); export it without compression")
            raise ValueError(f"buffer view {index} is shorter than its accessor promises")
        return np.ndarray((count, width), dtype=dtype, buffer=data, offset=offset, strides=(stride, dtype.itemsize))


def _node_transform(node: dict[str, Any]) -> NDArray[np.float64]:
    """Return the 4x4 matrix of a node: its own matrix (column-major), or translation · rotation · scale."""
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
    """Return triangles (F, 3). Every second triangle of a strip is turned over."""
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
"""The default material of glTF is bare metal, which looks black without surroundings to mirror."""

PAINTED_MATERIAL = {
    **MATERIAL,
    "pbrMetallicRoughness": {**MATERIAL["pbrMetallicRoughness"], "baseColorFactor": [1.0, 1.0, 1.0, 1.0]},
}
"""glTF multiplies vertex colours with the material's colour, so a white material does not change them."""


class GlbBuffer:
    """The growing binary chunk of a GLB file, with the accessors that describe its parts."""

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


def format_glb(mesh: Mesh, *, vertex_colors: FloatArray | None = None) -> bytes:
    """Return `mesh` as GLB with float32 positions. The node stores the offset of a mesh far from the origin.

    `vertex_colors` (V, 3), sRGB in [0, 1], replace the colour of the material.
    """
    buffer, node = GlbBuffer(), {"mesh": 0}
    shift = offset_to_node(node, mesh.vertices)
    attributes = {"POSITION": buffer.add((mesh.vertices - shift).astype("<f4"), target=ARRAY_BUFFER, with_range=True)}
    if mesh.vertex_normals is not None:
        attributes["NORMAL"] = buffer.add(unit_normals(mesh.vertex_normals), target=ARRAY_BUFFER)
    material = MATERIAL
    if vertex_colors is not None:
        attributes["COLOR_0"] = buffer.add(to_linear_srgb(vertex_colors), target=ARRAY_BUFFER)
        material = PAINTED_MATERIAL
    indices = buffer.add(mesh.faces.astype("<u4").reshape(-1), target=ELEMENT_BUFFER)
    primitive = {"attributes": attributes, "indices": indices, "material": 0}
    return pack_glb(buffer, nodes=[node], meshes=[{"primitives": [primitive]}], materials=[material])


def offset_to_node(node: dict[str, Any], vertices: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the offset to subtract from `vertices` (V, 3) before rounding to float32. `node` gets the same offset."""
    if not is_far_from_origin(vertices):
        return np.zeros(3)
    center = Bounds.of(vertices).center
    node["translation"] = center.tolist()
    return center


def pack_glb(buffer: GlbBuffer, **document: Any) -> bytes:
    """Return the bytes of a GLB file whose scene is the first node. `document` holds nodes, meshes and materials."""
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
    """Return normals that glTF allows: of unit length, and upward where a normal is zero."""
    lengths = np.linalg.norm(normals, axis=1, keepdims=True)
    return np.where(lengths > 0, normals / np.where(lengths > 0, lengths, 1.0), [0.0, 0.0, 1.0]).astype("<f4")
