"""What is written of a morph: files of each frame, and files of the whole, by format.

A format is either of a frame (`frame_0000.obj`, …; whatever `save_mesh` writes) or of the whole morph: then
`SEQUENCE_WRITERS` says which function writes `morph.mp4` and the like from a `MorphSequence`.

A whole morph as one file that moves: an animated GLB or USD, and an HTML page that plays it.

Colours of the surface go along as colours of vertices. Ghosts and the turning of the camera belong to pictures.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdfnet.correspondence.results import Deviation
from sdfnet.geometry.bounds import Bounds
from sdfnet.mesh.distance import MeshDistance
from sdfnet.mesh.io.gltf_animation import save_animated_glb
from sdfnet.mesh.io.usd import save_usd
from sdfnet.mesh.io.write import save_mesh
from sdfnet.mesh.mesh import Mesh, replace_vertices
from sdfnet.mesh.sequence import MovingMesh, join_frames
from sdfnet.morphs.film import ground_travel, painted_by_travel
from sdfnet.morphs.plan import MorphConfig, MorphFrame
from sdfnet.morphs.report import measure_frame
from sdfnet.morphs.store import MadeFrame, MorphSequence, save_stored
from sdfnet.rendering.camera import fit_camera
from sdfnet.rendering.contact_sheet import contact_sheet
from sdfnet.rendering.images import save_image
from sdfnet.rendering.renderer import Image
from sdfnet.rendering.video import save_film
from sdfnet.rendering.web_page import PlayerConfig, save_player


def write_animated_glb(sequence: MorphSequence, path: Path) -> None:
    """Write the meshes of `sequence`, in the world, as one animated GLB that plays like the films."""
    config = sequence.config
    save_animated_glb(
        _pieces(sequence, follow=False),
        path,
        order=sequence.playback,
        fps=config.fps,
        keys=_keys(sequence),
        up_axis=config.up_axis,
    )


def write_usd(sequence: MorphSequence, path: Path) -> None:
    """Write the meshes of `sequence`, in the world, as one USD mesh with time samples; needs the extra `usd`."""
    config = sequence.config
    save_usd(
        _pieces(sequence, follow=False),
        path,
        order=sequence.playback,
        fps=config.fps,
        keys=_keys(sequence),
        up_axis=config.up_axis,
    )


def write_player(sequence: MorphSequence, path: Path) -> None:
    """Write `sequence` as one HTML file; where the films' camera goes along over the ground, so does this one."""
    config = sequence.config
    size = (config.width, config.height)
    seen = [Bounds.of(_mesh(sequence, index, follow=True).vertices) for index in range(len(sequence.frames))]
    camera = fit_camera(seen, size=size, azimuth=config.azimuth, elevation=config.elevation, up_axis=config.up_axis)
    options = PlayerConfig(fps=config.fps, playback=config.playback, keys=_keys(sequence), size=size)
    save_player(_pieces(sequence, follow=True), path, camera=camera, config=options)


def _pieces(sequence: MorphSequence, *, follow: bool) -> Iterator[MovingMesh]:
    """Yield the tracked pieces of `sequence` in turn; a frame with faces of its own is a piece."""
    first = None if sequence.travel_limit is None else MeshDistance(sequence.mesh(0))
    numbers = [sequence.piece(index) for index in range(len(sequence.frames))]
    ranks = [-1 - index if number is None else number for index, number in enumerate(numbers)]
    for _, run in itertools.groupby(range(len(ranks)), key=ranks.__getitem__):
        indices = list(run)
        colors = None if first is None else np.stack([_colors(sequence, index, first) for index in indices])
        yield join_frames(indices[0], [_mesh(sequence, index, follow=follow) for index in indices], colors=colors)


def _colors(sequence: MorphSequence, index: int, first: MeshDistance) -> NDArray[np.floating]:
    """Return the colours of a frame's vertices, (V, 3), as in its picture."""
    assert sequence.travel_limit is not None
    painted = painted_by_travel(_mesh(sequence, index, follow=True), first, limit=sequence.travel_limit)
    assert painted.vertex_colors is not None
    return painted.vertex_colors


def _mesh(sequence: MorphSequence, index: int, *, follow: bool) -> Mesh:
    """Return the mesh of a frame, without its travel over the ground if that is to be followed."""
    mesh = sequence.mesh(index)
    travel = ground_travel(sequence.frames, index, config=sequence.config) if follow else np.zeros(3)
    return replace_vertices(mesh, mesh.vertices - travel) if travel.any() else mesh


def _keys(sequence: MorphSequence) -> tuple[tuple[int, str], ...]:
    """Return the frames that are shapes, with the shapes' names."""
    return tuple((index, frame.shape) for index, frame in enumerate(sequence.frames) if frame.shape)


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


def _stray_record(deviation: Deviation) -> dict[str, Any]:
    """Return the `stray` of a frame's record, whose keys are older than the names of `Deviation`."""
    return {
        "frame": deviation.frame,
        "vertices": deviation.num_vertices,
        "share": deviation.area_share,
        "farthest": deviation.largest_distance,
        "bare": deviation.uncovered_share,
    }


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
        "stray": None if made.stray is None else _stray_record(made.stray),
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
