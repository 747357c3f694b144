"""The files of a morph: those of each frame, and those of the whole, by format.

A mesh format gives one file for each frame (`frame_0000.obj`, …). The other formats give one file for the whole morph:
films are made from the pictures; an animated GLB or USD file, and an HTML page that plays the morph, are made from the
meshes. They carry the colours of the surface. Ghosts and the turning of the camera are in the pictures only.
"""

from __future__ import annotations

import dataclasses
import itertools
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from sdfnet.geometry.bounds import Bounds
from sdfnet.mesh.distance import MeshDistance
from sdfnet.mesh.io.gltf_animation import save_animated_glb
from sdfnet.mesh.io.usd import save_usd
from sdfnet.mesh.io.write import save_mesh
from sdfnet.mesh.mesh import Mesh
from sdfnet.mesh.sequence import MovingMesh, join_frames
from sdfnet.morphs.config import MorphConfig
from sdfnet.morphs.film import as_seen, paint_by_distance
from sdfnet.morphs.report import measure_frame
from sdfnet.morphs.store import MorphFrame, MorphSequence, is_stored, save_stored
from sdfnet.rendering.camera import fit_camera
from sdfnet.rendering.images import contact_sheet, save_image
from sdfnet.rendering.renderer import Image
from sdfnet.rendering.video import save_film
from sdfnet.rendering.web_page import PlayerConfig, save_player
from sdfnet.runs.folder import file_sizes

_LOGGER = logging.getLogger(__name__)

SHEET_FILE = "contact_sheet.png"

_SHEET_FRAMES = 12
_SHEET_COLUMNS = 4
_SHEET_WIDTH = 640
"""Of one picture on the contact sheet, pixels, at most."""


def write_frame(
    out: Path,
    frame: MorphFrame,
    mesh: Mesh,
    picture_of: Callable[[], Image],
    *,
    before: Mesh | None,
    config: MorphConfig,
) -> MorphFrame:
    """Measure one frame and write its files into `out`; return the frame with what was written.

    `picture_of` gives its picture, `before` is the mesh of the frame before it.
    """
    name = f"frame_{frame.index:04d}"
    meshes = {suffix: f"{name}.{suffix}" for suffix in config.frame_formats}
    for file in meshes.values():
        save_mesh(mesh, out / file)
    picture = f"pictures/{name}.png"
    save_image(picture_of(), out / picture)
    stored = f"frames/{name}.npz" if is_stored(frame.index, config) else ""
    if stored:
        save_stored(mesh, out / stored)
    files = [*meshes.values(), picture, *([stored] if stored else [])]
    return dataclasses.replace(
        frame,
        meshes=meshes,
        picture=picture,
        stored=stored,
        measures=measure_frame(frame, mesh, before),
        files=file_sizes(out, files),
    )


def write_film(sequence: MorphSequence, path: Path) -> None:
    """Write the pictures of `sequence` in playing order as a film."""
    save_film((sequence.picture(index) for index in sequence.playback), path, fps=sequence.config.fps)


def write_animation(sequence: MorphSequence, path: Path) -> None:
    """Write the meshes of `sequence`, in the world, as one animated GLB or USD file that plays like the films."""
    save = save_usd if path.suffix == ".usd" else save_animated_glb
    save(
        moving_meshes(sequence, follow=False),
        path,
        order=sequence.playback,
        fps=sequence.config.fps,
        keys=_named_frames(sequence),
        up_axis=sequence.config.up_axis,
    )


def write_player(sequence: MorphSequence, path: Path) -> None:
    """Write `sequence` as one HTML file; where the films' camera goes along over the ground, so does this one."""
    config = sequence.config
    size = (config.width, config.height)
    seen = [Bounds.of(_mesh(sequence, index, follow=True).vertices) for index in range(len(sequence.frames))]
    camera = fit_camera(seen, size=size, azimuth=config.azimuth, elevation=config.elevation, up_axis=config.up_axis)
    options = PlayerConfig(fps=config.fps, playback=config.playback, keys=_named_frames(sequence), size=size)
    save_player(moving_meshes(sequence, follow=True), path, camera=camera, config=options)


SEQUENCE_WRITERS: dict[str, Callable[[MorphSequence, Path], None]] = {
    "mp4": write_film,
    "gif": write_film,
    "webp": write_film,
    "glb": write_animation,
    "html": write_player,
    "usd": write_animation,
}
"""By format, what writes a whole morph to a path whose suffix is the format."""


def write_sequence(sequence: MorphSequence, *, legend: Callable[[int], list[Image]], renew: bool) -> list[str]:
    """Write the files of the whole morph that are missing, or all if `renew`; return the names of all but the sheet.

    `legend` gives the strips, of a width in pixels, that stand below the pictures of the contact sheet.
    """
    config = sequence.config
    pictured = [name for name in ("overlay", "turntable") if getattr(config, name)]
    if config.animation_formats and pictured:
        animated = ", ".join(f"morph.{name}" for name in config.animation_formats)
        _LOGGER.warning("%s: of pictures and films only, not of %s", " and ".join(pictured), animated)
    files = {name: f"morph.{name}" for name in dict.fromkeys(config.format) if name in SEQUENCE_WRITERS}
    for name, file in files.items():
        if renew or not (sequence.out / file).is_file():
            SEQUENCE_WRITERS[name](sequence, sequence.out / file)
    if renew or not (sequence.out / SHEET_FILE).is_file():
        sheet = _sheet(sequence)
        save_image(np.concatenate([sheet, *legend(sheet.shape[1])]), sequence.out / SHEET_FILE)
    return list(files.values())


def moving_meshes(sequence: MorphSequence, *, follow: bool) -> Iterator[MovingMesh]:
    """Yield the tracked pieces of `sequence` in turn; a frame with faces of its own is a piece."""
    first = None if sequence.color_limit is None else MeshDistance(sequence.mesh(0))
    pieces = [-1 - frame.index if frame.piece is None else frame.piece for frame in sequence.frames]
    for _, run in itertools.groupby(range(len(pieces)), key=pieces.__getitem__):
        indices, colors = list(run), None
        if first is not None and sequence.color_limit is not None:
            seen = [_mesh(sequence, index, follow=True) for index in indices]
            painted = [paint_by_distance(mesh, first, limit=sequence.color_limit) for mesh in seen]
            colors = np.stack([np.asarray(each.vertex_colors) for each in painted])
        yield join_frames(indices[0], [_mesh(sequence, index, follow=follow) for index in indices], colors=colors)


def _mesh(sequence: MorphSequence, index: int, *, follow: bool) -> Mesh:
    """Return the mesh of a frame, where the camera sees it if that is to `follow` over the ground."""
    mesh = sequence.mesh(index)
    return as_seen(mesh, sequence.frames, index, config=sequence.config) if follow else mesh


def _named_frames(sequence: MorphSequence) -> tuple[tuple[int, str], ...]:
    """Return the frames that are shapes, with the shapes' names."""
    return tuple((frame.index, frame.shape) for frame in sequence.frames if frame.shape)


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
