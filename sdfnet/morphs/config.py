"""The options of a morph: what moves and how, and what is written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from sdfnet.correspondence.results import OnTopologyEvent
from sdfnet.geometry.bounds import check_resolution
from sdfnet.latents.interpolation import Easing, PathKind, Playback, check_playback, ease
from sdfnet.mesh.components import MIN_PIECE, check_min_piece
from sdfnet.mesh.io.formats import WRITABLE
from sdfnet.mesh.io.usd import check_usd
from sdfnet.rendering.camera import UpAxis
from sdfnet.rendering.video import FILM_FORMATS

MorphPath = Literal[PathKind, "geodesic"]
"""How codes go from shape to shape: by a formula, or bent so that the surface stays in one piece."""

Pace = Literal["code", "surface"]
"""Whose steps from frame to frame are even: the code's, or the surface's in the mean."""

Frame = Literal["world", "unit"]
"""Where meshes lie: in the units and at the places of their sources, or all in the network's own frame."""

MorphColor = Literal["none", "travel"]
"""What the colour of the surface shows: nothing, or how far it has moved from the first frame."""

if TYPE_CHECKING:
    MorphFormat = str
else:
    MorphFormat = Literal[(*WRITABLE, "html", "usd", "mp4", "gif", "webp")]
"""What can be written of a morph: mesh formats, and formats of one file for the whole."""

ANIMATION_FORMATS = ("glb", "html", "usd")
"""One file for the whole morph, made from the meshes of all frames."""


@dataclass(frozen=True)
class MorphConfig:
    """How a morph moves and what is written.

    Attributes
    ----------
    frames : int
        At least 2, and one for each shape; each shape falls exactly on a frame.
    path : MorphPath
        "linear", "spherical", "spline" (Catmull-Rom), "natural" (cubic spline); or "geodesic", a bent path along which
        the surface stays in one piece where it can, looked for between each two shapes in some ten seconds.
    pace : Pace
        "code", or "surface": from frame to frame the surface travels the same mean distance, if no other `easing` is
        given, and frames are shared out between the shapes by travel where no `key_times` are given. The way over the
        ground (`follow`) is no part of that travel and goes evenly from shape to shape.
    frame : Frame
        "world", where size and place are interpolated too, or "unit".
    easing : Easing or None
        Between each two shapes: "linear", "smooth", "smoother", "ease-in" or "ease-out". None is "smooth" with
        `pace="code"` and "linear" with `pace="surface"`, whose speed is then even; any other acts on its travel.
    playback : Playback
        "once"; "loop", on from the last shape to the first without a seam; "pingpong", a film that plays back again.
    key_times : tuple of float or None
        When each shape is reached, increasing from 0 to 1 (a loop has one more, its return); evenly by default.
    resolution : int
        Samples per axis of the lattice on [-1.05, 1.05]³, at least 8.
    project_steps : int
        Newton steps that carry vertices onto the zero level.
    sparse : bool
        Whether to visit only the part of the lattice that can hold the surface; false visits all, for the same mesh.
    min_piece : float
        Pieces and cavities below this share of the volume are left out, and between shapes and of mixes also larger
        ones (up to 5 %) beyond as many as the shapes have; 0 keeps all. What was left out is in the report.
    tracked : bool
        Whether one mesh is carried along, so that every frame has the same faces and vertex k is the same place on the
        shape throughout. Where the topology changes or triangles would fold, a new mesh starts, and the report says so.
        Vertices lie on the surface: `project_steps` is not asked for.
    on_change : OnTopologyEvent
        What a tracked morph does there: "cut"; "keep", where one mesh goes on through small changes, such as fingers
        that touch, and the report says where it is off the surface; "frames", faces of its own for every frame.
    format : tuple of str
        Mesh formats give a numbered mesh for each frame. The others give one file for the whole: an animated mesh
        ("glb", or "usd" with the extra sdfnet[usd]), a page that plays it offline ("html"), films ("mp4", "gif",
        "webp").
    fps : int
        Frames per second of the films.
    width, height : int
        Of the pictures, pixels, even.
    color : MorphColor
        "travel" colours the surface by how far it lies outside (warm) or inside (cold) the first frame's; "none".
    overlay : bool
        Whether the shapes before and after are drawn as ghosts around each frame.
    azimuth, elevation : float
        Of the camera, degrees.
    turntable : float
        Degrees that the camera turns from the first frame to the last.
    up_axis : str
        "x", "y" or "z".
    follow : bool
        Whether the camera moves along over the ground, so that in the film shapes from different places turn into each
        other on the spot. The meshes stay in the world either way.

    >>> MorphConfig(pace="surface").easing_used
    'linear'
    """

    frames: int = 60
    path: MorphPath = "linear"
    pace: Pace = "code"
    frame: Frame = "world"
    easing: Easing | None = None
    playback: Playback = "once"
    key_times: tuple[float, ...] | None = None
    resolution: int = 96
    project_steps: int = 0
    sparse: bool = True
    min_piece: float = MIN_PIECE
    tracked: bool = False
    on_change: OnTopologyEvent = "cut"
    format: tuple[MorphFormat, ...] = ("obj", "mp4")
    fps: int = 20
    width: int = 640
    height: int = 480
    color: MorphColor = "none"
    overlay: bool = False
    azimuth: float = 30.0
    elevation: float = 20.0
    turntable: float = 0.0
    up_axis: UpAxis = "y"
    follow: bool = True

    def __post_init__(self) -> None:
        for name, least in (("frames", 2), ("project_steps", 0), ("fps", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}")
        check_resolution(self.resolution, least=8)
        for name in ("width", "height"):
            if getattr(self, name) < 16 or getattr(self, name) % 2:
                raise ValueError(f"{name} must be even and at least 16, got {getattr(self, name)}")
        check_min_piece(self.min_piece)
        if self.tracked and self.project_steps:
            raise ValueError(f"project_steps has no effect with tracked=true, got {self.project_steps}")
        if self.on_change != "cut" and not self.tracked:
            raise ValueError(f"on_change={self.on_change} has an effect only with tracked=true")
        if not np.isfinite(self.turntable):
            raise ValueError(f"turntable must be a finite number of degrees, got {self.turntable}")
        choices = {"path": MorphPath, "pace": Pace, "frame": Frame, "color": MorphColor, "on_change": OnTopologyEvent}
        for name, allowed in choices.items():
            if getattr(self, name) not in get_args(allowed):
                raise ValueError(f"{name} must be one of {', '.join(get_args(allowed))}, got {getattr(self, name)!r}")
        check_playback(self.playback)
        ease(np.zeros(1), easing=self.easing_used)
        known = get_args(MorphFormat)
        unknown = [name for name in self.format if name not in known]
        if unknown or not self.format:
            raise ValueError(f"format must be some of {', '.join(known)}, got {', '.join(unknown) or 'none'}")
        if "usd" in self.format:
            check_usd(up_axis=self.up_axis)

    @property
    def frame_formats(self) -> tuple[str, ...]:
        """The formats with one file for each frame, in the order in which they were given."""
        whole = (*ANIMATION_FORMATS, *FILM_FORMATS)
        return tuple(name for name in dict.fromkeys(self.format) if name not in whole)

    @property
    def film_formats(self) -> tuple[str, ...]:
        return tuple(name for name in dict.fromkeys(self.format) if name in FILM_FORMATS)

    @property
    def animation_formats(self) -> tuple[str, ...]:
        return tuple(name for name in dict.fromkeys(self.format) if name in ANIMATION_FORMATS)

    @property
    def easing_used(self) -> Easing:
        """`easing`, or the default that goes with `pace`."""
        if self.easing is not None:
            return self.easing
        return "linear" if self.pace == "surface" else "smooth"
