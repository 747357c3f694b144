"""The record of a frame, and the folder that a morph is kept in.

A `MorphFrame` is planned, then made, then written; each step fills more of its fields. The manifest holds one record
for every frame whose files are whole on disk, so that an interrupted morph goes on where it stopped. Until a morph is
finished, its manifest says `"complete": false`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from sdfnet.files import atomic_path
from sdfnet.geometry.bounds import Bounds
from sdfnet.geometry.similarity import Similarity
from sdfnet.mesh.components import RemovedComponent
from sdfnet.mesh.mesh import Mesh
from sdfnet.morphs.config import MorphConfig
from sdfnet.rendering.images import load_image
from sdfnet.rendering.renderer import Image
from sdfnet.runs.folder import FolderKind, is_whole, save_folder

MORPH_FOLDER = FolderKind(
    what="morph",
    file="manifest.json",
    format=2,
    records="frames",
    listed=True,
    other_files=("films", "sheet", "report", "plot"),
    pattern="frame_*",
)

_WRITTEN = ("piece", "cut", "meshes", "picture", "stored", "measures", "files")
"""Fields that the manifest gives back; the others come from the plan."""


@dataclass(frozen=True, eq=False)
class View:
    """What the pictures of a morph share.

    Attributes
    ----------
    bounds : Bounds
        What the camera must see.
    color_limit : float or None
        Where the scale of `color=travel` ends, world length; None where nothing is coloured.
    radius : float or None
        The length that the legend gives shares of.
    """

    bounds: Bounds
    color_limit: float | None = None
    radius: float | None = None

    def to_dict(self) -> dict[str, Any]:
        box = {"lower": self.bounds.lower.tolist(), "upper": self.bounds.upper.tolist()}
        return box | {"travel_limit": self.color_limit, "radius": self.radius}

    @classmethod
    def from_dict(cls, document: dict[str, Any]) -> View:
        bounds = Bounds(document["lower"], document["upper"])
        return cls(bounds, document["travel_limit"], document["radius"])


@dataclass(frozen=True, eq=False)
class MorphFrame:
    """One frame of a morph.

    Attributes
    ----------
    latent : (L,) Tensor
    similarity : Similarity
        Between the unit frame and the world of this frame.
    shape : str
        The shape that this frame is, exactly; empty between shapes.
    displacement : float or None
        Planned mean displacement of the surface from the frame before (for the first frame of a loop, from the last),
        in world lengths, without the way over the ground. None for a first frame, or with `pace="code"`.
    piece : int or None
        Frames with the same number have the same faces, and vertex k is the same place in all of them. None where each
        frame has its own faces.
    cut : str
        Why a tracked mesh starts anew at this frame; empty where it goes on, or where nothing is tracked.
    deviation : dict or None
        How far a mesh that is kept through changes of topology is from the surface; None where it is on the surface.
        It is called `stray` in the manifest.
    removed : tuple of RemovedComponent
        Loose components that were left out, the largest first.
    num_extra : int
        Components more than the shapes before and after have, too large to be called loose.
    meshes, picture, stored : dict and str
        File names: of the mesh by format; of the picture; of the mesh bit for bit, or "" where it is not kept.
    measures : dict
        Plain numbers (`measure_frame`).
    files : dict
        The size in bytes of every file of the frame.
    """

    index: int
    time: float
    latent: Tensor
    similarity: Similarity
    shape: str = ""
    displacement: float | None = None
    piece: int | None = None
    cut: str = ""
    deviation: Mapping[str, Any] | None = None
    removed: tuple[RemovedComponent, ...] = ()
    num_extra: int = 0
    meshes: Mapping[str, str] = field(default_factory=dict)
    picture: str = ""
    stored: str = ""
    measures: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, int] = field(default_factory=dict)

    def to_record(self) -> dict[str, Any]:
        """Return what the manifest says of the frame."""
        written = {name: getattr(self, name) for name in _WRITTEN if name != "stored" or self.stored}
        plan = {"index": self.index, "time": self.time, "shape": self.shape}
        written["stray"] = self.deviation
        return plan | written | {"similarity": self.similarity.to_dict(), "latent": self.latent.tolist()}

    def with_record(self, record: Mapping[str, Any]) -> MorphFrame:
        """Return this planned frame as the manifest says it was written."""
        written = {name: record[name] for name in _WRITTEN if name in record}
        return dataclasses.replace(self, **written, deviation=record.get("stray"))


@dataclass(frozen=True, eq=False)
class MorphSequence:
    """A finished morph in its folder `out`; `playback` has frame numbers in the order in which a film shows them."""

    out: Path
    config: MorphConfig
    frames: tuple[MorphFrame, ...]
    playback: tuple[int, ...]
    view: View

    def mesh(self, index: int) -> Mesh:
        """Return the mesh of frame `index`, world frame, bit for bit as it was made."""
        return load_stored(self.out / self.frames[index].stored)

    def picture(self, index: int) -> Image:
        return load_image(self.out / self.frames[index].picture)


def save_stored(mesh: Mesh, path: Path) -> None:
    """Write `mesh` so that it comes back bit for bit, normals and all."""
    arrays: dict[str, Any] = {"vertices": mesh.vertices, "faces": mesh.faces.astype(np.int32)}
    if mesh.vertex_normals is not None:
        arrays["normals"] = mesh.vertex_normals
    with atomic_path(path) as temporary:
        np.savez(temporary, allow_pickle=False, **arrays)


def load_stored(path: Path) -> Mesh:
    """Read what `save_stored` wrote."""
    with np.load(path, allow_pickle=False) as arrays:
        return Mesh(arrays["vertices"], arrays["faces"], arrays.get("normals"))


def is_stored(index: int, config: MorphConfig) -> bool:
    """Return whether a later step reads the mesh of frame `index`: a writer, or the measure that closes a loop."""
    closes_loop = config.playback == "loop" and index == config.frames - 1
    return config.tracked or bool(config.animation_formats) or closes_loop


def written_frames(
    out: Path, manifest: Mapping[str, Any], frames: Sequence[MorphFrame], *, config: MorphConfig
) -> dict[int, MorphFrame]:
    """Return, by index, those of the planned `frames` whose files are all there with the size that was written."""
    whole = (record for record in manifest["frames"] if is_whole(out, record))
    found = (frames[record["index"]].with_record(record) for record in whole)
    return {frame.index: frame for frame in found if frame.stored or not is_stored(frame.index, config)}


def save_manifest(out: Path, manifest: Mapping[str, Any], written: Mapping[int, MorphFrame]) -> None:
    """Write `manifest` with the records of the `written` frames into `out`, whole."""
    save_folder(out, {**manifest, "frames": [written[index].to_record() for index in sorted(written)]}, MORPH_FOLDER)
