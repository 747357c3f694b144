"""What is written of a morph: files of each frame, and files of the whole, by format.

A format is either of a frame (`frame_0000.obj`, …; whatever `save_mesh` writes) or of the whole morph: then
`SEQUENCE_WRITERS` says which function writes `morph.mp4` and the like from a `MorphSequence`.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from sdfnet.geometry.mesh import Mesh
from sdfnet.geometry.writing import save_mesh
from sdfnet.latents.animated import write_animated_glb, write_player, write_usd
from sdfnet.latents.frames import MorphConfig, MorphFrame
from sdfnet.latents.measures import measure_frame
from sdfnet.latents.sequence import MadeFrame, MorphSequence, save_stored
from sdfnet.rendering.films import save_film
from sdfnet.rendering.images import save_image
from sdfnet.rendering.renderer import Image
from sdfnet.rendering.sheets import contact_sheet

_LOGGER = logging.getLogger(__name__)

SEQUENCE_NAME = "morph"
SHEET_NAME = "contact_sheet.png"
PICTURES = "pictures"
STORED = "frames"

_SHEET_FRAMES = 12
_SHEET_COLUMNS = 4
_SHEET_WIDTH = 640
"""Of one picture on the contact sheet, pixels, at most."""


def write_film(sequence: MorphSequence, path: Path) -> None:
    """Write the pictures of `sequence` in playing order as a film."""
    save_film((sequence.picture(index) for index in sequence.playback), path, fps=sequence.config.fps)


SEQUENCE_WRITERS: dict[str, Callable[[MorphSequence, Path], None]] = {
    "mp4": write_film,
    "gif": write_film,
    "webp": write_film,
    "glb": write_animated_glb,
    "html": write_player,
    "usd": write_usd,
}
"""By format, what writes a whole morph to a path whose suffix is the format."""

READS_MESHES: frozenset[str] = frozenset({"glb", "html", "usd"})
"""Those formats of SEQUENCE_WRITERS whose writers read meshes; for them each frame's mesh is kept in `frames/`."""


def sequence_formats(config: MorphConfig) -> tuple[str, ...]:
    return tuple(name for name in dict.fromkeys(config.format) if name in SEQUENCE_WRITERS)


def frame_formats(config: MorphConfig) -> tuple[str, ...]:
    return tuple(name for name in dict.fromkeys(config.format) if name not in SEQUENCE_WRITERS)


def write_frame(
    out: Path,
    made: MadeFrame,
    frame: MorphFrame,
    picture_of: Callable[[], Image],
    *,
    before: Mesh | None,
    config: MorphConfig,
) -> dict[str, Any]:
    """Measure one frame and write its files into `out`; return its record for the manifest.

    `picture_of` gives its picture, `before` is the mesh of the frame before it.
    """
    mesh = made.mesh
    meshes = {name: f"frame_{made.index:04d}.{name}" for name in frame_formats(config)}
    picture = f"{PICTURES}/frame_{made.index:04d}.png"
    for name in meshes.values():
        save_mesh(mesh, out / name)
    save_image(picture_of(), out / picture)
    files = [*meshes.values(), picture]
    record: dict[str, Any] = {
        "index": made.index,
        "time": frame.time,
        "shape": frame.shape,
        "piece": made.piece,
        "cut": made.cut,
        "stray": None if made.stray is None else dataclasses.asdict(made.stray),
        "meshes": meshes,
        "picture": picture,
    }
    if config.tracked or READS_MESHES.intersection(config.format):
        record["stored"] = f"{STORED}/frame_{made.index:04d}.npz"
        save_stored(mesh, out / record["stored"])
        files.append(record["stored"])
    return record | {
        "measures": measure_frame(made, before),
        "similarity": frame.similarity.to_dict(),
        "latent": frame.latent.tolist(),
        "files": {name: (out / name).stat().st_size for name in files},
    }


def write_sequence(sequence: MorphSequence, *, legend: Callable[[int], list[Image]], renew: bool) -> list[str]:
    """Write the files of the whole morph that are missing, or all if `renew`; return the names of all but the sheet.

    `legend` gives the strips, of a width in pixels, that stand below the pictures of the contact sheet.
    """
    names = {name: f"{SEQUENCE_NAME}.{name}" for name in sequence_formats(sequence.config)}
    animated = [file for name, file in names.items() if name in READS_MESHES]
    pictured = [
        name
        for name, asked in (("overlay", sequence.config.overlay), ("turntable", sequence.config.turntable))
        if asked
    ]
    if animated and pictured:
        _LOGGER.warning("%s: of pictures and films only, not of %s", " and ".join(pictured), ", ".join(animated))
    for name, file in names.items():
        if renew or not (sequence.out / file).is_file():
            SEQUENCE_WRITERS[name](sequence, sequence.out / file)
    if renew or not (sequence.out / SHEET_NAME).is_file():
        sheet = _sheet(sequence)
        save_image(np.concatenate([sheet, *legend(sheet.shape[1])]), sequence.out / SHEET_NAME)
    return list(names.values())


def _sheet(sequence: MorphSequence) -> Image:
    """Return a few pictures at even steps, first and last among them, labelled by shape or by time."""
    frames = sequence.frames
    chosen = np.unique(np.linspace(0, len(frames) - 1, _SHEET_FRAMES).round().astype(int)).tolist()
    labels = [frames[index].shape or f"{frames[index].time:.2f}" for index in chosen]
    images = [_shrunk(sequence.picture(index)) for index in chosen]
    return contact_sheet(images, columns=min(_SHEET_COLUMNS, len(images)), labels=labels)


def _shrunk(image: Image) -> Image:
    """Return `image` at most _SHEET_WIDTH pixels wide."""
    from PIL import Image as Pillow

    height, width = image.shape[:2]
    if width <= _SHEET_WIDTH:
        return image
    size = (_SHEET_WIDTH, round(height * _SHEET_WIDTH / width))
    return np.asarray(Pillow.fromarray(image).resize(size, Pillow.Resampling.LANCZOS)).copy()
