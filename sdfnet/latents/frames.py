"""The frames of a morph before anything is extracted: what moves, how, and where each frame lies in the world."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal, get_args

import torch
from torch import Tensor

from sdfnet.geometry.bounds import check_resolution
from sdfnet.geometry.similarity import Similarity
from sdfnet.geometry.writing import MESH_FORMATS
from sdfnet.latents.interpolation import (
    Easing,
    PathKind,
    Playback,
    check_playback,
    ease,
    frame_times,
    interpolate,
)
from sdfnet.rendering.camera import UpAxis
from sdfnet.rendering.films import FILM_FORMATS
from sdfnet.runs import Run, select_shapes

MorphFormat = Literal["obj", "ply", "stl", "glb", "mp4", "gif", "webp"]


@dataclass(frozen=True)
class MorphConfig:
    """How a morph moves and what is written.

    Attributes
    ----------
    frames : int
        At least 2, and one for each shape; each shape falls exactly on a frame.
    path : PathKind
        "linear", "spherical", "spline" (Catmull-Rom) or "natural" (cubic spline).
    easing : Easing
        Between each two shapes: "linear", "smooth", "smoother", "ease-in" or "ease-out".
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
    format : tuple of str
        Mesh formats ("obj", "ply", "stl", "glb") of the sequence and film formats ("mp4", "gif", "webp").
    fps : int
        Frames per second of the films.
    width, height : int
        Of the pictures, pixels, even.
    azimuth, elevation : float
        Of the camera, degrees.
    up_axis : str
        "x", "y" or "z".
    follow : bool
        Whether the camera moves along over the ground, so that in the film shapes from different places turn into each
        other on the spot. The meshes stay in the world either way.
    """

    frames: int = 60
    path: PathKind = "linear"
    easing: Easing = "smooth"
    playback: Playback = "once"
    key_times: tuple[float, ...] | None = None
    resolution: int = 96
    project_steps: int = 0
    sparse: bool = True
    format: tuple[MorphFormat, ...] = ("obj", "mp4")
    fps: int = 20
    width: int = 640
    height: int = 480
    azimuth: float = 30.0
    elevation: float = 20.0
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
        if self.path not in get_args(PathKind):
            raise ValueError(f"path must be one of {', '.join(get_args(PathKind))}, got {self.path!r}")
        check_playback(self.playback)
        ease(torch.zeros(1).numpy(), easing=self.easing)
        known = get_args(MorphFormat)
        unknown = [name for name in self.format if name not in known]
        if unknown or not self.format:
            raise ValueError(f"format must be some of {', '.join(known)}, got {', '.join(unknown) or 'none'}")

    @property
    def mesh_formats(self) -> tuple[str, ...]:
        return tuple(name for name in dict.fromkeys(self.format) if name in MESH_FORMATS)

    @property
    def film_formats(self) -> tuple[str, ...]:
        return tuple(name for name in dict.fromkeys(self.format) if name in FILM_FORMATS)


@dataclass(frozen=True, eq=False)
class MorphFrame:
    """One frame.

    Attributes
    ----------
    time : float
        In [0, 1].
    latent : (L,) Tensor
    similarity : Similarity
        Between the unit frame and the world of this frame.
    shape : str
        The shape that this frame is, exactly; empty between shapes.
    """

    time: float
    latent: Tensor
    similarity: Similarity
    shape: str


def morph_keys(names: Sequence[str], shapes: str | Sequence[str]) -> list[str]:
    """Return the names of the shapes that a morph goes through, in order; a shape may come more than once.

    Raises
    ------
    ValueError
        Fewer than two, or one that is not among `names`.

    >>> morph_keys(["a", "b", "c"], ["b", "a", "b"])
    ['b', 'a', 'b']
    """
    patterns = [shapes] if isinstance(shapes, str) else list(shapes)
    keys = [name for pattern in patterns for name in select_shapes(names, pattern)]
    if len(keys) < 2:
        raise ValueError(f"a morph needs at least two shapes, got {', '.join(keys) or 'none'}")
    return keys


def plan_frames(run: Run, keys: Sequence[str], *, config: MorphConfig) -> list[MorphFrame]:
    """Return the frames of a morph of `run` through the shapes `keys`.

    The codes follow `config.path`. In the world, centres move along the same kind of path (straight where codes go on
    an arc) and scales change by equal factors in equal time, both at the pace of the codes. A frame that is a shape
    has its code and its similarity to the bit.

    Raises
    ------
    ValueError
        Fewer frames than shapes; key times that do not fit them.
    """
    times = frame_times(config.frames, num_keys=len(keys), key_times=config.key_times, playback=config.playback)
    follow = partial(interpolate, easing=config.easing, key_times=config.key_times, closed=config.playback == "loop")
    latents = torch.stack([run.latent(name) for name in keys])
    codes = follow(latents, times, kind=config.path)
    similarities = [run.similarity(name) for name in keys]
    places = torch.tensor(
        [[*s.center.tolist(), math.log(s.scale), index] for index, s in enumerate(similarities)], dtype=torch.float64
    )
    moved = follow(places, times, kind="linear" if config.path == "spherical" else config.path)
    frames = []
    for time, code, place in zip(times.tolist(), codes, moved, strict=True):
        # The key's own row comes back bit for bit, and its last number says which key it is.
        at_key = [index for index in range(len(keys)) if torch.equal(place, places[index])]
        similarity = similarities[at_key[0]] if at_key else Similarity(place[:3].tolist(), math.exp(float(place[3])))
        frames.append(MorphFrame(time, code, similarity, keys[at_key[0]] if at_key else ""))
    return frames
