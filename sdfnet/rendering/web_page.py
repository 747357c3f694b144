"""A moving mesh as one HTML file that plays offline: play, scrub, orbit, zoom, names of the shapes; or sliders.

The page is `player.html` beside this file, plain JavaScript over WebGL 2, with the meshes packed into it. Vertices are
quantised to 16 bits in their piece's box (0.0008 % of its extent), which is for looking, not for measuring. Frames of
one piece share their faces and blend into each other; the browser computes the normals. Lights, material and camera are
those of sdfnet's own pictures.

viser can also write one HTML file with a timeline. But it needs a running server and ten further packages, and it does
not know key shapes, playing there and back, shared faces or blending. three.js would have to be shipped or fetched.
"""

from __future__ import annotations

import base64
import html
import json
import math
import zlib
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from sdfnet.files import write_atomic
from sdfnet.geometry.arrays import FloatArray
from sdfnet.geometry.bounds import Bounds
from sdfnet.mesh.sequence import MovingMesh
from sdfnet.rendering.camera import Camera, camera_axes
from sdfnet.rendering.style import AMBIENT, LIGHTS, Style

PlayerMode = Literal["once", "loop", "pingpong"]

_STEPS = 65535
_LEVEL = 6  # of zlib; 9 takes three times as long for 2 % less


@dataclass(frozen=True)
class PlayerSlider:
    """A slider of the page: frames that follow each other, of which the slider shows one.

    Attributes
    ----------
    name : str
    start : int
        The first of its frames.
    marks : tuple of str or float
        What each of its frames is called: a name, or the value of the slider.
    at : int
        Which of its frames is shown first.
    """

    name: str
    start: int
    marks: tuple[str | float, ...]
    at: int = 0


@dataclass(frozen=True)
class PlayerConfig:
    """How a player plays and looks when it is opened.

    Attributes
    ----------
    keys : tuple of (int, str)
        The frames that have a name on the timeline, with their names.
    sliders : tuple of PlayerSlider
        If given, the page has these sliders in place of the timeline. One is moved at a time.
    size : tuple of int
        Width and height that the camera was fitted to. A window of any shape shows this whole picture.
    """

    fps: float = 20.0
    playback: PlayerMode = "once"
    keys: tuple[tuple[int, str], ...] = ()
    sliders: tuple[PlayerSlider, ...] = ()
    size: tuple[int, int] = (640, 480)
    style: Style = field(default_factory=Style)

    def __post_init__(self) -> None:
        if not (math.isfinite(self.fps) and self.fps > 0):
            raise ValueError(f"fps must be positive, got {self.fps}")
        if self.playback not in get_args(PlayerMode):
            raise ValueError(f"playback must be one of {', '.join(get_args(PlayerMode))}, got {self.playback!r}")
        if min(self.size) < 1:
            raise ValueError(f"size must be two positive numbers, got {self.size}")


def save_player(
    pieces: Iterable[MovingMesh], path: str | Path, *, camera: Camera, config: PlayerConfig | None = None
) -> None:
    """Write a moving mesh as one self-contained HTML file. The same pieces give the same bytes.

    Parameters
    ----------
    pieces : iterable of MovingMesh
        In order, from frame 0 on, without gaps.
    camera : Camera
        The first view. Its ground receives the shadow.

    Raises
    ------
    ValueError
        Another suffix than .html, no pieces or pieces that do not follow each other, a key for a frame that is not
        there, a place that cannot be written to.
    """
    config = config or PlayerConfig()
    path = Path(path)
    if path.suffix.lower() not in (".html", ".htm"):
        raise ValueError(f"cannot write {path}: the suffix of a player must be .html")
    packer = zlib.compressobj(_LEVEL)
    packed: list[bytes] = []
    heads: list[dict[str, Any]] = []
    offset, box = 0, None
    for piece in pieces:
        due = heads[-1]["start"] + heads[-1]["count"] if heads else 0
        if piece.start != due:
            raise ValueError(f"pieces must follow each other: frame {due} was due, got one from frame {piece.start}")
        drawn = (piece.vertices - camera.target) / camera.distance
        held = Bounds.of(drawn.reshape(-1, 3))
        box = held if box is None else box.union(held)
        data = _pack(piece, drawn, held)
        heads.append(
            {
                "start": piece.start,
                "count": len(piece.vertices),
                "vertices": piece.vertices.shape[1],
                "faces": len(piece.faces),
                "lower": held.lower.tolist(),
                "extent": held.extent.tolist(),
                "tints": 0 if piece.colors is None else len(piece.colors) if piece.is_recolored else 1,
                "offset": offset,
            }
        )
        offset += len(data)
        packed.append(packer.compress(data))
    if box is None:
        raise ValueError("a player needs at least one piece, got none")
    page = _page(_meta(heads, box, camera, config), b"".join([*packed, packer.flush()]))
    try:
        write_atomic(path, page)
    except OSError as error:
        raise ValueError(f"cannot write {path}: {error.strerror or error}. Choose another place.") from error


def _pack(piece: MovingMesh, drawn: FloatArray, held: Bounds) -> bytes:
    """Return faces, positions and colours as bytes that compress well: differences, split into planes of bytes.

    A face index is stored as its difference from the index before. In the first frame, a coordinate is stored as its
    difference from the vertex before. In later frames, the change of this difference is stored. Colours are stored in
    the same way.
    """
    extent = np.where(held.extent > 0, held.extent, 1.0)
    quantised = np.rint((drawn - held.lower) / extent * _STEPS).astype(np.uint16)
    indices = piece.faces.astype(np.uint32).reshape(-1)
    parts = [_planes(np.diff(indices, prepend=np.uint32(0))), *_moves(quantised)]
    if piece.colors is not None:
        parts += _moves(np.rint(piece.colors * 255).astype(np.uint8).reshape(-1, *quantised.shape[1:]))
    return b"".join(parts)


def _moves(frames: NDArray[np.unsignedinteger]) -> list[bytes]:
    """Return (T, V, 3) as differences between vertices of the differences between frames."""
    moves = np.diff(frames, axis=0, prepend=np.zeros_like(frames[:1]))
    steps = np.diff(moves, axis=1, prepend=np.zeros_like(moves[:, :1]))
    return [_planes(steps[frame, :, axis]) for frame in range(len(steps)) for axis in range(3)]


def _planes(steps: NDArray[np.unsignedinteger]) -> bytes:
    """Return differences as planes of bytes, lowest first. Small differences of either sign become small numbers."""
    width = steps.dtype.itemsize
    signed = np.ascontiguousarray(steps).view(f"i{width}")
    folded = (signed << 1) ^ (signed >> (8 * width - 1))
    return folded.astype(f"<i{width}").view(np.uint8).reshape(-1, width).T.tobytes()


def _meta(heads: list[dict[str, Any]], box: Bounds, camera: Camera, config: PlayerConfig) -> dict[str, Any]:
    """Return the page's data in the drawing frame: the camera's target is the origin, the camera one unit away."""
    frames = heads[-1]["start"] + heads[-1]["count"]
    outside = [frame for frame, _ in config.keys if not 0 <= frame < frames]
    if outside:
        raise ValueError(f"keys must name frames 0 to {frames - 1}, got {outside[0]}")
    for slider in config.sliders:
        if not (slider.marks and slider.start >= 0 and slider.start + len(slider.marks) <= frames):
            raise ValueError(f"the slider {slider.name} must name some of the frames 0 to {frames - 1}")
    front = camera_axes(0, 0, camera.up_axis)
    ground = None if camera.ground is None else camera.ground - float(front[1] @ camera.target)
    return {
        "frames": frames,
        "fps": config.fps,
        "playback": config.playback,
        "keys": [{"frame": frame, "name": name} for frame, name in config.keys],
        "sliders": [asdict(each) for each in config.sliders],
        "size": list(config.size),
        "azimuth": camera.azimuth,
        "elevation": camera.elevation,
        "slope": math.tan(math.radians(camera.field_of_view) / 2),
        "front": front.tolist(),
        "ground": None if ground is None else ground / camera.distance,
        "center": box.center.tolist(),
        "radius": max(float(np.linalg.norm(box.extent)) / 2, 1e-6),
        "color": list(config.style.color),
        "background": list(config.style.background),
        "roughness": max(config.style.roughness, 0.04),
        "lights": [
            {"direction": list(light.direction), "radiance": [light.intensity * channel for channel in light.color]}
            for light in LIGHTS
        ],
        "ambient": list(AMBIENT),
        "pieces": heads,
    }


def _page(meta: dict[str, Any], packed: bytes) -> str:
    template = resources.files("sdfnet.rendering").joinpath("player.html").read_text(encoding="utf-8")
    names = list(dict.fromkeys(key["name"] for key in meta["keys"]))
    # No "<" in a name can then end the script that holds it.
    told = json.dumps(meta, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    values = {
        "%%TITLE%%": html.escape(" → ".join(names) or "morph"),
        "%%META%%": told,
        "%%DATA%%": base64.b64encode(packed).decode("ascii"),
    }
    before, *others = template.split("%%")
    return before + "".join(values.get(f"%%{part}%%", part) for part in others)
