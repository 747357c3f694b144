"""What lies between the frames of a morph and the files made of them: one made frame, and the whole sequence.

Whatever makes the surfaces (extraction frame by frame, or one mesh carried along) gives `MadeFrame`s; whatever writes a
whole morph (a film, one animated file) is given a `MorphSequence`, which holds no mesh but reads them one at a time.

The manifest of a morph: what each file in its folder is, and what is needed to go on after an interruption.

A frame stands in the manifest only after all its files are whole on disk. The manifest of an unfinished morph says
`"complete": false`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sdfnet.correspondence.results import Deviation
from sdfnet.files import atomic_path, write_json
from sdfnet.mesh.components import RemovedComponent
from sdfnet.mesh.mesh import Mesh
from sdfnet.morphs.plan import MorphConfig, MorphFrame
from sdfnet.rendering.images import load_image
from sdfnet.rendering.renderer import Image


@dataclass(frozen=True, eq=False)
class MadeFrame:
    """The surface of one frame.

    Attributes
    ----------
    index : int
        Which frame.
    mesh : Mesh
        World frame.
    piece : int or None
        Frames of the same number share their faces, and vertex k is the same place in all of them; None where every
        frame has faces of its own.
    removed : tuple of RemovedComponent
        What was taken away from the surface, the largest first.
    num_pieces, num_cavities : int
        What is left.
    num_extra : int
        Pieces more than the shapes before and after have: too large to be called loose.
    cut : str
        Why no mesh could be carried to this frame from the one before; empty where one was, or none was to be.
    stray : Deviation or None
        How far a mesh that was kept through changes of topology is from the surface; None where it is on it.
    """

    index: int
    mesh: Mesh
    piece: int | None = None
    removed: tuple[RemovedComponent, ...] = ()
    num_pieces: int = 1
    num_cavities: int = 0
    num_extra: int = 0
    cut: str = ""
    stray: Deviation | None = None


@dataclass(frozen=True, eq=False)
class MorphSequence:
    """A whole morph as the writers of films and animated files see it.

    Attributes
    ----------
    out : Path
    config : MorphConfig
    frames : tuple of MorphFrame
    records : tuple of dict
        One for each frame, as the manifest has it: `piece`, `picture`, `stored` (its mesh; only where some writer of
        the morph reads meshes).
    playback : tuple of int
        Frame numbers in the order in which a film shows them.
    travel_limit : float or None
        Where the scale of `color=travel` ends, world length; None where nothing is coloured.
    """

    out: Path
    config: MorphConfig
    frames: tuple[MorphFrame, ...]
    records: tuple[dict[str, Any], ...]
    playback: tuple[int, ...]
    travel_limit: float | None = None

    def mesh(self, index: int) -> Mesh:
        """Return the mesh of frame `index`, world frame, bit for bit as it was made."""
        return load_stored(self.out / self.records[index]["stored"])

    def picture(self, index: int) -> Image:
        return load_image(self.out / self.records[index]["picture"])

    def piece(self, index: int) -> int | None:
        """Return the tracked piece that frame `index` belongs to; None where its faces are its own."""
        piece = self.records[index]["piece"]
        return None if piece is None else int(piece)


def shapes_around(frames: Sequence[MorphFrame], index: int) -> tuple[int, int]:
    """Return the frames at which the shapes before and after frame `index` are; a shape is its own neighbour.

    After the last shape of a loop comes the first.
    """
    at_shape = [number for number, frame in enumerate(frames) if frame.shape]
    before = max((number for number in at_shape if number <= index), default=at_shape[-1])
    after = min((number for number in at_shape if number >= index), default=at_shape[0])
    return before, after


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


MANIFEST_FILE = "manifest.json"
MANIFEST_FORMAT = 2


def open_manifest(out: Path, settings: dict[str, Any], *, overwrite: bool) -> dict[str, Any]:
    """Return the manifest to go on with: that of `out` if it has the same `settings`, else a new one.

    Raises
    ------
    ValueError
        `out` holds another morph, or frames that no manifest explains, and `overwrite` is false.
    """
    fresh = {"format": MANIFEST_FORMAT, "complete": False, "settings": settings, "frames": []}
    settings = json.loads(json.dumps(settings))  # as it will be read back: lists for tuples
    earlier = _read(out / MANIFEST_FILE)
    if earlier is None:
        strays = sorted(path.name for path in out.glob("frame_*"))
        if strays and not overwrite:
            raise ValueError(f"{out} holds {strays[0]} but no {MANIFEST_FILE}; choose another out, or overwrite=true")
        return fresh
    difference = _difference(earlier, settings)
    if not difference:
        return earlier
    if not overwrite:
        raise ValueError(f"{out} holds another morph: {difference}. Choose another out, or overwrite=true")
    names = list(earlier.get("films", []))
    for record in earlier.get("frames", []):
        names += record.get("files", {})
    for name in names:
        (out / name).unlink(missing_ok=True)
    return fresh


def save_manifest(out: Path, manifest: dict[str, Any]) -> None:
    """Write `manifest` into `out`, whole."""
    write_json(out / MANIFEST_FILE, manifest)


def finished_frames(out: Path, manifest: dict[str, Any]) -> dict[int, dict[str, Any]]:
    """Return the records by frame number of those frames whose files are all there with the size that was written."""
    return {
        record["index"]: record
        for record in manifest["frames"]
        if all(_size(out / name) == size for name, size in record["files"].items())
    }


def _size(path: Path) -> int | None:
    return path.stat().st_size if path.is_file() else None


def _read(path: Path) -> dict[str, Any] | None:
    if not path.exists():
        return None
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is damaged ({error}). Remove it or choose another out.") from error
    return document if isinstance(document, dict) else {}


def _difference(earlier: dict[str, Any], settings: dict[str, Any]) -> str:
    """Say in which setting two morphs differ; empty if in none."""
    if earlier.get("format") != MANIFEST_FORMAT:
        return f"its manifest has format {earlier.get('format')!r}, this version writes {MANIFEST_FORMAT}"
    before = earlier.get("settings", {})
    for key in dict.fromkeys([*settings, *before]):
        if before.get(key) != settings.get(key):
            return f"{key} is {before.get(key)!r} there and {settings.get(key)!r} now"
    return ""
