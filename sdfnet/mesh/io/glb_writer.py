"""Writes GLB, the binary form of glTF 2.0, by struct and json."""

from __future__ import annotations

import json
import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdfnet.mesh.io.coordinates import is_far_from_origin
from sdfnet.mesh.mesh import Mesh

_COMPONENTS = {"float32": 5126, "uint32": 5125, "uint16": 5123}
_WIDTHS = {1: "SCALAR", 2: "VEC2", 3: "VEC3", 4: "VEC4"}
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
        self._parts: list[bytes] = []
        self._size = 0

    def add(self, items: NDArray, *, target: int | None, with_range: bool = False) -> int:
        """Append `items` ((N,) or (N, 2 to 4); float32, uint32 or uint16) and return the index of their accessor."""
        data = np.ascontiguousarray(items).tobytes()
        view: dict[str, Any] = {"buffer": 0, "byteOffset": self._size, "byteLength": len(data)}
        self.views.append(view if target is None else view | {"target": target})
        data += b"\0" * (-len(data) % 4)  # each view starts at a multiple of four, as section 3.6.2.4 asks
        self._parts.append(data)
        self._size += len(data)
        accessor: dict[str, Any] = {
            "bufferView": len(self.views) - 1,
            "componentType": _COMPONENTS[items.dtype.name],
            "count": len(items),
            "type": _WIDTHS[1 if items.ndim == 1 else items.shape[1]],
        }
        if with_range:
            accessor["min"] = np.atleast_1d(items.min(axis=0)).tolist()
            accessor["max"] = np.atleast_1d(items.max(axis=0)).tolist()
        self.accessors.append(accessor)
        return len(self.accessors) - 1

    def to_bytes(self) -> bytes:
        return b"".join(self._parts)


def format_glb(mesh: Mesh) -> bytes:
    """Return `mesh` as GLB: float32 positions under one node, which takes the offset of a mesh far from the origin."""
    translation = mesh.bounds.center if is_far_from_origin(mesh.vertices) else None
    buffer = GlbBuffer()
    shift = np.zeros(3) if translation is None else translation
    positions = (mesh.vertices - shift).astype("<f4")
    attributes = {"POSITION": buffer.add(positions, target=ARRAY_BUFFER, with_range=True)}
    if mesh.vertex_normals is not None:
        attributes["NORMAL"] = buffer.add(unit_normals(mesh.vertex_normals), target=ARRAY_BUFFER)
    indices = buffer.add(mesh.faces.astype("<u4").reshape(-1), target=ELEMENT_BUFFER)
    node: dict[str, Any] = {"mesh": 0}
    if translation is not None:
        node["translation"] = translation.tolist()
    document = {
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [node],
        "meshes": [{"primitives": [{"attributes": attributes, "indices": indices, "material": 0}]}],
        "materials": [MATERIAL],
    }
    return pack_glb(document, buffer)


def pack_glb(document: dict[str, Any], buffer: GlbBuffer) -> bytes:
    """Return the file of `document` (without asset, buffers, views and accessors, which are added) and `buffer`."""
    binary = buffer.to_bytes()
    whole = {
        "asset": {"version": "2.0", "generator": "sdfnet"},
        **document,
        "buffers": [{"byteLength": len(binary)}],
        "bufferViews": buffer.views,
        "accessors": buffer.accessors,
    }
    text = json.dumps(whole, separators=(",", ":"), allow_nan=False).encode("ascii")
    text += b" " * (-len(text) % 4)
    binary += b"\0" * (-len(binary) % 4)
    length = 12 + 8 + len(text) + 8 + len(binary)
    header = struct.pack("<4sII", b"glTF", 2, length)
    return header + struct.pack("<I4s", len(text), b"JSON") + text + struct.pack("<I4s", len(binary), b"BIN\0") + binary


def unit_normals(normals: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return normals that the format allows: unit length, and upward where there is none."""
    lengths = np.linalg.norm(normals, axis=1, keepdims=True)
    return np.where(lengths > 0, normals / np.where(lengths > 0, lengths, 1.0), [0.0, 0.0, 1.0]).astype("<f4")
