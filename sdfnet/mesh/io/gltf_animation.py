"""Write a moving mesh as one animated GLB. Each tracked piece becomes a mesh with morph targets.

A piece of one frame is a plain mesh. The scale of each piece's node steps between one and zero, because glTF animates
visibility in this way. Exactly one piece is visible at any time. Colours that change are morph targets too.

References
----------
Khronos Group, "glTF 2.0 Specification", sections 3.5.3 (zero scale), 3.7.2.2 (morph targets), 3.11 (animations).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from sdfnet.mesh.io.gltf import (
    ARRAY_BUFFER,
    ELEMENT_BUFFER,
    MATERIAL,
    PAINTED_MATERIAL,
    GlbBuffer,
    offset_to_node,
    pack_glb,
    unit_normals,
)
from sdfnet.mesh.io.write import write_file
from sdfnet.mesh.sequence import MovingMesh, check_order

Axis = Literal["x", "y", "z"]

MOST_TARGETS = 128
"""Largest number of morph targets of one mesh. A longer piece is cut into meshes that share a frame. WebGL guarantees
256 uniforms, and three.js uses one for each target."""

_UPRIGHT = {
    "x": [0.5**0.5, 0.5**0.5, 0.0, 0.0],  # y to the right, x up, -z to the front
    "y": None,
    "z": [-(0.5**0.5), 0.0, 0.0, 0.5**0.5],  # x to the right, z up, -y to the front
}
"""Quaternions (x, y, z, w) that turn the up and front axes of the cameras to the axes of glTF: y and z."""


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

    The weights of morph targets change linearly from frame to frame. The last frame of a piece stays until the next
    piece begins. Positions are float32, which keeps six digits of a piece's extent. Far from the origin, the node
    stores the offset. Normals and colours are kept.

    Parameters
    ----------
    pieces : iterable of MovingMesh
        The pieces in order, from frame 0 on, without gaps.
    order : sequence of int
        Frame numbers in the order of playing. Each number differs by one from the number before. Each frame lasts 1 /
        `fps` seconds. If the first frame is a neighbour of the last one, the animation returns to the first frame.
    keys : sequence of (int, str)
        Frames with names. Morph targets get these names, and the root node's `extras` hold names and seconds.
    up_axis : str
        The upward axis of the vertices. The root node turns this axis to glTF's upward axis, y. Coordinates do not
        change.

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
    buffer, parts = GlbBuffer(), []
    meshes: list[dict[str, Any]] = []
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
        for part in _cuts(piece):
            parts.append(part)
            root["children"].append(len(nodes))
            nodes.append({"mesh": len(meshes), "name": _label(part.start, names)})
            shift = offset_to_node(nodes[-1], piece.vertices.reshape(-1, 3))
            meshes.append(_mesh(buffer, piece, part, shift=shift, names=names))
    if not parts:
        raise ValueError("an animated GLB needs at least one piece, got none")
    check_order(order, num_frames=stop)
    strays = sorted(frame for frame in names if not 0 <= frame < stop)
    if strays:
        raise ValueError(f"keys must name frames 0 to {stop - 1}, got {strays[0]}")
    animation = _animation(buffer, parts, nodes, order=order, fps=fps)
    reached = [(place, frame) for place, frame in enumerate(order) if frame in names]
    root["extras"] = {
        "fps": fps,
        "frames": stop,
        "key_names": [names[frame] for _, frame in reached],
        "key_times": [place / fps for place, _ in reached],
    }
    document = {"nodes": nodes, "meshes": meshes, "materials": _materials(meshes)}
    write_file(path, pack_glb(buffer, **document, **({"animations": [animation]} if animation["channels"] else {})))


def _materials(meshes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the materials that `meshes` need, plain or painted, and assign a material to each mesh."""
    materials: list[dict[str, Any]] = []
    for primitive in [mesh["primitives"][0] for mesh in meshes]:
        material = PAINTED_MATERIAL if "COLOR_0" in primitive["attributes"] else MATERIAL
        if material not in materials:
            materials.append(material)
        primitive["material"] = materials.index(material)
    return materials


def _cuts(piece: MovingMesh) -> list[range]:
    """Return the frames of each mesh of a piece. Each mesh shares its last frame with the next mesh."""
    starts = range(piece.start, max(piece.stop - 1, piece.start + 1), MOST_TARGETS)
    return [range(start, min(start + MOST_TARGETS + 1, piece.stop)) for start in starts]


def _label(frame: int, names: dict[int, str]) -> str:
    return f"frame {frame}" + (f" {names[frame]}" if frame in names else "")


def _mesh(
    buffer: GlbBuffer, piece: MovingMesh, part: range, *, shift: NDArray[np.float64], names: dict[int, str]
) -> dict[str, Any]:
    """Add the frames `part` of `piece` to `buffer`. Return the mesh: the first frame and differences to this frame."""
    first = part.start - piece.start
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
    for index in range(first + 1, part.stop - piece.start):
        moved = (piece.vertices[index] - shift - base).astype("<f4")
        turned = (unit_normals(piece.normals[index]) - facing).astype("<f4")
        target = {
            "POSITION": buffer.add(moved, target=ARRAY_BUFFER, with_range=True),
            "NORMAL": buffer.add(turned, target=ARRAY_BUFFER),
        }
        if piece.is_recolored:
            target["COLOR_0"] = buffer.add(piece.linear_colors(index) - tint, target=ARRAY_BUFFER)
        targets.append(target)
    primitive: dict[str, Any] = {"attributes": attributes, "indices": indices}
    mesh: dict[str, Any] = {"name": _label(part.start, names), "primitives": [primitive]}
    if targets:
        primitive["targets"] = targets
        labels = [_label(frame, names) for frame in part[1:]]
        mesh |= {"weights": [0.0] * len(targets), "extras": {"targetNames": labels}}
    return mesh


def _animation(
    buffer: GlbBuffer, parts: Sequence[range], nodes: list[dict[str, Any]], *, order: Sequence[int], fps: float
) -> dict[str, Any]:
    """Return the animation. Nodes that are hidden at the start get a scale of zero."""
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
    for node, part in enumerate(parts, start=1):  # node 0 is the root
        visible = np.array([index + 1 == node for index in shown])
        if not visible[0]:
            nodes[node]["scale"] = [0.0, 0.0, 0.0]
        if visible.any() and len(part) > 1:
            places, weights = _weights(part, visible, order)
            add_channel(node, "weights", "LINEAR", places / fps, weights.reshape(-1))
        if visible.any() and len(parts) > 1:
            changes = np.flatnonzero(np.diff(visible)) + 1
            places = np.concatenate([[0], changes, [len(order)]])
            steps = visible[np.minimum(places, len(order) - 1)]
            add_channel(node, "scale", "STEP", places / fps, np.repeat(steps[:, None], 3, axis=1))
    return {"name": "morph", "channels": channels, "samplers": samplers}


def _shown(parts: Sequence[range], order: Sequence[int]) -> list[int]:
    """Return which part shows each interval of the order: a part with both end frames, or else with the first."""
    shown = []
    for frame, following in zip(order, [*order[1:], order[0]], strict=True):
        knowing = [index for index, part in enumerate(parts) if frame in part]
        both = [index for index in knowing if following in parts[index]]
        shown.append((both or knowing)[0])
    return shown


def _weights(part: range, visible: NDArray[np.bool_], order: Sequence[int]) -> tuple[NDArray[np.int64], NDArray]:
    """Return the positions of keyframes in the order, (K,), and the weights at these keyframes, (K, T - 1)."""
    frames: dict[int, int] = {}
    for place in np.flatnonzero(visible).tolist():
        frame, following = order[place], order[(place + 1) % len(order)]
        leads = following in part and abs(following - frame) == 1
        frames[place], frames[place + 1] = frame, following if leads else frame
    local = np.array(list(frames.values())) - part.start
    return np.array(list(frames)), np.eye(len(part))[local][:, 1:]
