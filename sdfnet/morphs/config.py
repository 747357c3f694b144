"""The options of a morph: its motion, and the files to write."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from sdfnet.correspondence.results import OnTopologyEvent
from sdfnet.geometry.bounds import check_resolution
from sdfnet.latents.interpolation import Easing, PathKind, Playback, ease
from sdfnet.mesh.components import MIN_PIECE, check_min_piece
from sdfnet.mesh.io.formats import WRITABLE
from sdfnet.mesh.io.usd import check_usd
from sdfnet.rendering.camera import UpAxis
from sdfnet.rendering.video import FILM_FORMATS

MorphPath = Literal[PathKind, "geodesic"]
"""How codes go from shape to shape: by a formula, or bent so that the surface stays in one piece."""

Pace = Literal["code", "surface"]
"""The quantity that moves evenly from frame to frame: the code, or the surface on average."""

Frame = Literal["world", "unit"]
"""Where meshes lie: in the units and at the places of their sources, or all in the network's own frame."""

MorphColor = Literal["none", "travel"]
"""What the colour of the surface shows: nothing, or how far it has moved from the first frame."""

if TYPE_CHECKING:
    MorphFormat = str
else:
    MorphFormat = Literal[(*WRITABLE, "html", "usd", "mp4", "gif", "webp")]
"""The formats of a morph: mesh formats, and formats with one file for the whole morph."""

ANIMATION_FORMATS = ("glb", "html", "usd")
"""One file for the whole morph, made from the meshes of all frames."""


@dataclass(frozen=True)
class MorphConfig:
    """How a morph moves and what is written.

    Notes
    -----
    With `pace="surface"` the surface moves the same mean distance from frame to frame, if no other `easing` is given.
    Without `key_times`, the number of frames between two shapes follows that distance. The distance does not include
    the movement over the ground (`follow`), which is even from shape to shape. A geodesic path takes about ten seconds
    for each pair of neighbouring shapes.

    A tracked morph has the same faces in every frame, and vertex k is the same place on the shape throughout. Where the
    topology changes or triangles would fold, a new mesh starts, and the report lists this cut. With `on_change="keep"`,
    one mesh continues through small changes, such as fingers that touch. The report then says where the mesh is off the
    surface.

    Between shapes, and in mixes, `min_piece` also removes larger components (up to 5 % of the volume) if the shapes
    have fewer components. The report lists what was removed.

    >>> MorphConfig(pace="surface").easing_used
    'linear'
    """

    frames: int = 60
    """Meshes in the morph, at least 2 and at least one for each shape; each shape falls exactly on a frame."""
    path: MorphPath = "linear"
    """linear, spherical, spline (Catmull-Rom), natural (cubic spline), or geodesic: the surface stays connected."""
    pace: Pace = "code"
    """Even steps from frame to frame of the code, or of the surface."""
    frame: Frame = "world"
    """world: meshes have the size and place of their sources, and both are interpolated; unit: the unit frame."""
    easing: Easing | None = None
    """Between shapes: linear, smooth, smoother, ease-in, ease-out; None is smooth, with pace=surface linear."""
    playback: Playback = "once"
    """once; loop: on from the last shape to the first without a seam; pingpong: a film that plays back again."""
    key_times: tuple[float, ...] | None = None
    """When each shape is reached, increasing from 0 to 1 (a loop has one more, its return); None spaces them evenly."""
    resolution: int = 96
    """Samples along each axis of the lattice on [-1.05, 1.05]³ of the unit frame, 8 to 4096."""
    project_steps: int = 0
    """Newton steps, 0 or more, that move the vertices onto the zero level; not with tracked, which does so itself."""
    min_piece: float = MIN_PIECE
    """Components and cavities below this share of the volume, 0 to 0.05, are left out and reported; 0 keeps all."""
    tracked: bool = False
    """Whether one mesh follows the surface: the same faces in every frame, and vertex k the same place throughout."""
    on_change: OnTopologyEvent = "cut"
    """Where the topology of a tracked morph changes: cut starts a new mesh, keep goes on, frames gives up tracking."""
    format: tuple[MorphFormat, ...] = ("obj", "mp4")
    """A mesh for each frame, one animation or a film."""
    fps: int = 20
    """Frames per second of the films, 1 or more."""
    width: int = 640
    """Width of the pictures in pixels, even, at least 16."""
    height: int = 480
    """Height of the pictures in pixels, even, at least 16."""
    color: MorphColor = "none"
    """travel colours the surface by how far it lies outside (warm) or inside (cold) the first frame's surface; none."""
    overlay: bool = False
    """Whether the shapes before and after are drawn transparent around each frame."""
    azimuth: float = 30.0
    """Angle of the camera around the up axis, degrees."""
    elevation: float = 20.0
    """Angle of the camera above the ground, degrees."""
    turntable: float = 0.0
    """Degrees that the camera turns from the first frame to the last."""
    up_axis: UpAxis = "y"
    """The axis that points up in the pictures: x, y or z."""
    follow: bool = True
    """Whether the camera moves along over the ground, so that the shapes of a film stay in place; meshes do not."""

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
        for name, allowed in {**choices, "playback": Playback}.items():
            if getattr(self, name) not in get_args(allowed):
                raise ValueError(f"{name} must be one of {', '.join(get_args(allowed))}, got {getattr(self, name)!r}")
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
    def animation_formats(self) -> tuple[str, ...]:
        return tuple(name for name in dict.fromkeys(self.format) if name in ANIMATION_FORMATS)

    @property
    def easing_used(self) -> Easing:
        """`easing`, or the default that goes with `pace`."""
        if self.easing is not None:
            return self.easing
        return "linear" if self.pace == "surface" else "smooth"
