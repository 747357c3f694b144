"""Write a moving mesh as one animated GLB: each tracked piece is a mesh with morph targets.

A piece of one frame is a plain mesh. If there are several pieces, each has a node whose scale steps between one and
zero: the glTF way to animate visibility. Exactly one piece is visible at any time.
Colours that change from frame to frame are morph targets too. Not written: texture coordinates, skin weights,
quantised or compressed vertices (extensions that not every program reads), cameras and lights.

References
----------
Khronos Group, "glTF 2.0 Specification", sections 3.5.3 (zero scale), 3.7.2.2 (morph targets), 3.11 (animations).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from sdfnet.geometry.bounds import Bounds
from sdfnet.mesh.io.coordinates import is_far_from_origin
from sdfnet.mesh.io.glb_writer import ARRAY_BUFFER, ELEMENT_BUFFER, MATERIAL, GlbBuffer, pack_glb, unit_normals
from sdfnet.mesh.io.write import write_file
from sdfnet.mesh.sequence import MovingMesh, check_order

Axis = Literal["x", "y", "z"]

MOST_TARGETS = 128
"""Morph targets of one mesh; a longer piece is cut into meshes that share a frame. WebGL promises 256 uniforms, and
three.js takes one for each target."""

_UPRIGHT = {
    "x": [0.5**0.5, 0.5**0.5, 0.0, 0.0],  # y to the right, x up, -z to the front
    "y": None,
    "z": [-(0.5**0.5), 0.0, 0.0, 0.5**0.5],  # x to the right, z up, -y to the front
}
"""Quaternions (x, y, z, w) that turn up and front, as cameras take them, to glTF's: y and z."""

_PAINTED = {
    **MATERIAL,
    "pbrMetallicRoughness": {**MATERIAL["pbrMetallicRoughness"], "baseColorFactor": [1.0, 1.0, 1.0, 1.0]},
}
"""Vertex colours are multiplied with the material's: white leaves them as they are."""


@dataclass(frozen=True, eq=False)
class _Part:
    """A node of the file: frames `start` to `stop` - 1 as a mesh with its morph targets."""

    node: int
    start: int
    stop: int


def save_animated_glb(
    pieces: Iterable[MovingMesh],
    path: str | Path,
    *,
    order: Sequence[int],
    fps: float = 20.0,
    keys: Sequence[tuple[int, str]] = (),
    up_axis: Axis = "y",
) -> None:
    """Write a moving mesh as one animated GLB.

    Each piece of several frames becomes a mesh with morph targets (one object with shape keys in Blender), weights
    going linearly from frame to frame; a piece of one frame a plain mesh. Of several pieces exactly one is visible at
    any time. The last frame of a piece stands still until the next piece begins. Positions are float32, six digits of
    a piece's extent; far from the origin the offset goes into the node. Normals and colours are kept.

    Parameters
    ----------
    pieces : iterable of MovingMesh
        In order, from frame 0 on, without gaps.
    order : sequence of int
        Frame numbers as they are played, each next to the one before it; each lasts 1 / `fps` seconds. Where the first
        is a neighbour of the last (there and back again), the animation leads on to it.
    keys : sequence of (int, str)
        Frames with names: they name morph targets, and the root node's `extras` hold names and seconds.
    up_axis : str
        Which axis of the vertices is up. It is turned to glTF's, y, by the root node; coordinates stay as they are.

    Raises
    ------
    ValueError
        Another suffix than .glb, pieces that do not follow each other, an order that jumps or names other frames, a key
        for a frame that is not there, an `fps` that is not positive, a place that cannot be written to.
    """
    path = Path(path)
    if path.suffix.lower() != ".glb":
        raise ValueError(f"cannot write {path}: the suffix of an animated GLB must be .glb")
    if not (math.isfinite(fps) and fps > 0):
        raise ValueError(f"fps must be positive, got {fps}")
    if up_axis not in get_args(Axis):
        raise ValueError(f"up_axis must be x, y or z, got {up_axis!r}")
    write_file(path, format_animated_glb(pieces, order=order, fps=fps, keys=keys, up_axis=up_axis))


def format_animated_glb(
    pieces: Iterable[MovingMesh],
    *,
    order: Sequence[int],
    fps: float,
    keys: Sequence[tuple[int, str]] = (),
    up_axis: Axis = "y",
) -> bytes:
    """Return `pieces` as the bytes of an animated GLB; parameters as in `save_animated_glb`."""
    buffer, meshes, parts = GlbBuffer(), [], []
    names = dict(keys)
    root: dict[str, Any] = {"name": "morph", "children": []}
    if _UPRIGHT[up_axis] is not None:
        root["rotation"] = _UPRIGHT[up_axis]
    nodes = [root]
    stop = 0
    for piece in pieces:
        if piece.start != stop:
            raise ValueError(f"pieces must follow each other: frame {stop} was due, got one from frame {piece.start}")
        stop = piece.stop
        points = piece.vertices.reshape(-1, 3)
        shift = Bounds.of(points).center if is_far_from_origin(points) else None
        for start, end in _cuts(piece):
            parts.append(_Part(len(nodes), start, end))
            root["children"].append(len(nodes))
            meshes.append(_mesh(buffer, piece, start, end, shift=np.zeros(3) if shift is None else shift, names=names))
            node = {"mesh": len(meshes) - 1, "name": meshes[-1]["name"]}
            nodes.append(node if shift is None else node | {"translation": shift.tolist()})
    if not parts:
        raise ValueError("an animated GLB needs at least one piece, got none")
    check_order(order, num_frames=stop)
    strays = sorted(frame for frame in names if not 0 <= frame < stop)
    if strays:
        raise ValueError(f"keys must name frames 0 to {stop - 1}, got {strays[0]}")
    animation = _animation(buffer, parts, nodes, order=order, fps=fps)
    root["extras"] = _extras(keys, order=order, fps=fps, num_frames=stop)
    document = {
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": nodes,
        "meshes": meshes,
        "materials": _materials(meshes),
    }
    return pack_glb(document | ({"animations": [animation]} if animation["channels"] else {}), buffer)


def _materials(meshes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the materials that `meshes` need, plain or painted, and give each mesh its own."""
    materials: list[dict[str, Any]] = []
    for primitive in [mesh["primitives"][0] for mesh in meshes]:
        material = _PAINTED if "COLOR_0" in primitive["attributes"] else MATERIAL
        if material not in materials:
            materials.append(material)
        primitive["material"] = materials.index(material)
    return materials


def _cuts(piece: MovingMesh) -> list[tuple[int, int]]:
    """Return first and last-plus-one frames of the meshes of a piece; each shares its last frame with the next."""
    starts = range(piece.start, max(piece.stop - 1, piece.start + 1), MOST_TARGETS)
    return [(start, min(start + MOST_TARGETS + 1, piece.stop)) for start in starts]


def _mesh(
    buffer: GlbBuffer, piece: MovingMesh, start: int, stop: int, *, shift: NDArray[np.float64], names: dict[int, str]
) -> dict[str, Any]:
    """Add frames `start` to `stop` - 1 of `piece` to `buffer`; return the mesh: first frame and differences to it."""
    first = start - piece.start
    base = (piece.vertices[first] - shift).astype("<f4")
    facing = unit_normals(piece.normals[first])
    attributes = {
        "POSITION": buffer.add(base, target=ARRAY_BUFFER, with_range=True),
        "NORMAL": buffer.add(facing, target=ARRAY_BUFFER),
    }
    if piece.colors is not None:
        tint = piece.linear_colors(first)
        attributes["COLOR_0"] = buffer.add(tint, target=ARRAY_BUFFER)
    # An index of 65535 would restart the primitive.
    dtype = "<u2" if piece.vertices.shape[1] <= 65535 else "<u4"
    indices = buffer.add(piece.faces.astype(dtype).reshape(-1), target=ELEMENT_BUFFER)
    targets = []
    for index in range(first + 1, stop - piece.start):
        moved = (piece.vertices[index] - shift - base).astype("<f4")
        turned = (unit_normals(piece.normals[index]) - facing).astype("<f4")
        target = {
            "POSITION": buffer.add(moved, target=ARRAY_BUFFER, with_range=True),
            "NORMAL": buffer.add(turned, target=ARRAY_BUFFER),
        }
        if piece.is_recolored:
            target["COLOR_0"] = buffer.add(piece.linear_colors(index) - tint, target=ARRAY_BUFFER)
        targets.append(target)
    labels = [f"frame {frame}" + (f" {names[frame]}" if frame in names else "") for frame in range(start, stop)]
    primitive: dict[str, Any] = {"attributes": attributes, "indices": indices}
    mesh: dict[str, Any] = {"name": labels[0], "primitives": [primitive]}
    if targets:
        primitive["targets"] = targets
        mesh |= {"weights": [0.0] * len(targets), "extras": {"targetNames": labels[1:]}}
    return mesh


def _animation(
    buffer: GlbBuffer, parts: Sequence[_Part], nodes: list[dict[str, Any]], *, order: Sequence[int], fps: float
) -> dict[str, Any]:
    """Return the animation; nodes hidden at the start get a scale of zero."""
    samplers: list[dict[str, Any]] = []
    channels: list[dict[str, Any]] = []

    def add_channel(node: int, path: str, interpolation: str, times: NDArray, values: NDArray) -> None:
        channels.append({"sampler": len(samplers), "target": {"node": node, "path": path}})
        samplers.append(
            {
                "input": buffer.add(times.astype("<f4"), target=None, with_range=True),
                "output": buffer.add(values.astype("<f4"), target=None),
                "interpolation": interpolation,
            }
        )

    shown = _shown(parts, order)
    for number, part in enumerate(parts):
        visible = np.array([index == number for index in shown])
        if not visible.any():
            nodes[part.node]["scale"] = [0.0, 0.0, 0.0]
            continue
        if part.stop - part.start > 1:
            places, weights = _weights(part, visible, order)
            add_channel(part.node, "weights", "LINEAR", places / fps, weights.reshape(-1))
        if len(parts) > 1:
            if not visible[0]:
                nodes[part.node]["scale"] = [0.0, 0.0, 0.0]
            changes = np.flatnonzero(np.diff(visible)) + 1
            places = np.concatenate([[0], changes, [len(order)]])
            steps = visible[np.minimum(places, len(order) - 1)]
            add_channel(part.node, "scale", "STEP", places / fps, np.repeat(steps[:, None], 3, axis=1))
    return {"name": "morph", "channels": channels, "samplers": samplers}


def _shown(parts: Sequence[_Part], order: Sequence[int]) -> list[int]:
    """Return which part shows each interval of the order: one that knows both its ends, else its first."""
    shown = []
    for frame, following in zip(order, [*order[1:], order[0]], strict=True):
        knowing = [index for index, part in enumerate(parts) if part.start <= frame < part.stop]
        both = [index for index in knowing if parts[index].start <= following < parts[index].stop]
        shown.append((both or knowing)[0])
    return shown


def _weights(part: _Part, visible: NDArray[np.bool_], order: Sequence[int]) -> tuple[NDArray[np.int64], NDArray]:
    """Return the places in the order that need a keyframe, (K,), and the weights there, (K, T - 1).

    An interval leads to the next frame where that is a neighbour in the same part, and stands still where it is not.
    """
    frames: dict[int, int] = {}
    for place in np.flatnonzero(visible).tolist():
        frame, following = order[place], order[(place + 1) % len(order)]
        leads = part.start <= following < part.stop and abs(following - frame) == 1
        frames[place], frames[place + 1] = frame, following if leads else frame
    local = np.array(list(frames.values())) - part.start
    return np.array(list(frames)), np.eye(part.stop - part.start)[local][:, 1:]


def _extras(keys: Sequence[tuple[int, str]], *, order: Sequence[int], fps: float, num_frames: int) -> dict[str, Any]:
    """Return what the root says: the key shapes with the seconds at which they are first reached."""
    names = dict(keys)
    reached = [(place, frame) for place, frame in enumerate(order) if frame in names]
    return {
        "fps": fps,
        "frames": num_frames,
        "key_names": [names[frame] for _, frame in reached],
        "key_times": [place / fps for place, _ in reached],
    }
