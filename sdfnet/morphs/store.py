"""The record of a frame, and the folder of a morph.

A `MorphFrame` is planned, then made, then written; each step fills more of its fields. The manifest holds one record
for every frame whose files are whole on disk. So an interrupted morph continues where it stopped. Until a morph is
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
from sdfnet.geometry.arrays import FloatArray
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
"""Fields of a frame that are read from the manifest. The other fields come from the plan."""


@dataclass(frozen=True, eq=False)
class View:
    """The box and the colour scale that all pictures of a morph share.

    Attributes
    ----------
    bounds : Bounds
        The box that the camera must see.
    color_limit : float or None
        The distance at the end of the colour scale of `color=travel`, world length; None without colours.
    radius : float or None
        The length that is 100 % in the legend.
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
        The map between the unit frame and the world, for this frame.
    shape : str
        The name of the shape that this frame shows exactly; empty between shapes.
    displacement : float or None
        Planned mean displacement of the surface from the previous frame, world length, without the movement over the
        ground. In a loop, the last frame precedes the first. Otherwise the first frame has None. With `pace="code"` all
        have None.
    piece : int or None
        Frames with the same number have the same faces, and vertex k is the same place in all of them. None where each
        frame has its own faces.
    cut : str
        The reason why a new tracked mesh starts at this frame; empty if the mesh continues or nothing is tracked.
    deviation : dict or None
        The distance of the mesh from the surface, if the mesh was kept through a change of topology; None if the mesh
        is on the surface. The manifest calls it `stray`.
    removed : tuple of RemovedComponent
        Loose components that were left out, the largest first.
    num_extra : int
        Number of components above that of the shapes before and after. They are too large to count as loose.
    meshes, picture, stored : dict and str
        File names of the mesh in each format, of the picture, and of the bit-exact mesh ("" if it is not stored).
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
        """Return the record of the frame for the manifest."""
        written = {name: getattr(self, name) for name in _WRITTEN if name != "stored" or self.stored}
        plan = {"index": self.index, "time": self.time, "shape": self.shape}
        written["stray"] = self.deviation
        return plan | written | {"similarity": self.similarity.to_dict(), "latent": self.latent.tolist()}

    def with_record(self, record: Mapping[str, Any]) -> MorphFrame:
        """Return this planned frame with the fields of its `record` in the manifest."""
        written = {name: record[name] for name in _WRITTEN if name in record}
        return dataclasses.replace(self, **written, deviation=record.get("stray"))


@dataclass(frozen=True, eq=False)
class MorphSequence:
    """A finished morph in its folder `out`. `playback` lists the frame numbers in the order of the film."""

    out: Path
    config: MorphConfig
    frames: tuple[MorphFrame, ...]
    playback: tuple[int, ...]
    view: View

    def painted(self, index: int) -> tuple[Mesh, FloatArray | None]:
        """Return the mesh of frame `index`, world frame, bit for bit as it was made, and its colours if it has some."""
        return load_painted(self.out / self.frames[index].stored)

    def mesh(self, index: int) -> Mesh:
        return self.painted(index)[0]

    def picture(self, index: int) -> Image:
        return load_image(self.out / self.frames[index].picture)


def save_stored(mesh: Mesh, path: Path, *, vertex_colors: FloatArray | None = None) -> None:
    """Write `mesh` with its normals and colours (V, 3), so that `load_stored` returns them bit for bit."""
    arrays: dict[str, Any] = {"vertices": mesh.vertices, "faces": mesh.faces.astype(np.int32)}
    if mesh.vertex_normals is not None:
        arrays["normals"] = mesh.vertex_normals
    if vertex_colors is not None:
        arrays["colors"] = vertex_colors
    with atomic_path(path) as temporary:
        np.savez(temporary, allow_pickle=False, **arrays)


def load_stored(path: Path) -> Mesh:
    """Read a mesh that `save_stored` wrote."""
    return load_painted(path)[0]


def load_painted(path: Path) -> tuple[Mesh, FloatArray | None]:
    """Read a mesh that `save_stored` wrote, and its colours (V, 3) if it has some."""
    with np.load(path, allow_pickle=False) as arrays:
        return Mesh(arrays["vertices"], arrays["faces"], arrays.get("normals")), arrays.get("colors")


def is_stored(index: int, config: MorphConfig) -> bool:
    """Tell whether a later step reads the mesh of frame `index`: a writer, or the measure that closes a loop."""
    closes_loop = config.playback == "loop" and index == config.frames - 1
    return config.tracked or bool(config.animation_formats) or closes_loop


def written_frames(
    out: Path, manifest: Mapping[str, Any], frames: Sequence[MorphFrame], *, config: MorphConfig
) -> dict[int, MorphFrame]:
    """Return the planned `frames` whose files all exist with the recorded size, by index."""
    whole = (record for record in manifest["frames"] if is_whole(out, record))
    found = (frames[record["index"]].with_record(record) for record in whole)
    return {frame.index: frame for frame in found if frame.stored or not is_stored(frame.index, config)}


def save_manifest(out: Path, manifest: Mapping[str, Any], written: Mapping[int, MorphFrame]) -> None:
    """Write `manifest` with the records of the `written` frames into `out`, whole or not at all."""
    save_folder(out, {**manifest, "frames": [written[index].to_record() for index in sorted(written)]}, MORPH_FOLDER)
