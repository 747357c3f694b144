"""The pictures and files of a morph, with one camera for all frames.

All pictures share a `View`: the box that the camera sees and the end of the colour scale. The view is computed before
the first frame and stored in the manifest. So a frame that is made after an interruption looks like the others. Colours
show the distance of each place from the surface of the first frame: warm where the shape has grown, cold where it has
shrunk.

A mesh format gives one file for each frame (`frame_0000.obj`, …). Every other format gives one file for the whole
morph. Films are made from the pictures. Animated GLB and USD files and the HTML page are made from the meshes, with the
colours of the surface. Only pictures and films show ghosts and the turning of the camera.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import logging
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from sdfnet.extraction.projection import project_to_level
from sdfnet.fields.adaptors import NeuralField
from sdfnet.fields.base import evaluate
from sdfnet.geometry.arrays import FloatArray
from sdfnet.geometry.bounds import UNIT_BOUNDS, Bounds, Lattice
from sdfnet.mesh.distance import MeshDistance
from sdfnet.mesh.io.gltf_animation import save_animated_glb
from sdfnet.mesh.io.usd import save_usd
from sdfnet.mesh.io.write import save_mesh
from sdfnet.mesh.mesh import Mesh, replace_vertices
from sdfnet.mesh.sequence import MovingMesh, join_frames
from sdfnet.morphs.config import MorphConfig
from sdfnet.morphs.plan import MorphPlan
from sdfnet.morphs.report import measure_frame
from sdfnet.morphs.store import MorphFrame, MorphSequence, View, is_stored, save_stored
from sdfnet.rendering.camera import fit_camera
from sdfnet.rendering.colormap import color_bar, diverging_colors, swatches
from sdfnet.rendering.images import contact_sheet, save_image
from sdfnet.rendering.renderer import Image, Renderer
from sdfnet.rendering.scene import PaintedMesh
from sdfnet.rendering.style import Color, Style
from sdfnet.rendering.video import save_film
from sdfnet.rendering.web_page import PlayerConfig, save_player
from sdfnet.runs.folder import file_sizes

_LOGGER = logging.getLogger(__name__)

SHEET_FILE = "contact_sheet.png"

_SHEET_FRAMES, _SHEET_COLUMNS = 12, 4
_SHEET_WIDTH = 640  # largest width of one picture on the contact sheet, pixels

BEFORE, AFTER = (0.50, 0.40, 0.80), (0.32, 0.68, 0.40)
"""Colours of the ghosts: the shape before a frame, and the shape after it. The colour scale contains neither colour."""

_RESOLUTION = 32
_NUM_FRAMES = 24
_STEPS = 3
_ON_SURFACE = 0.1
"""A projected point counts if its value is below this share of the coarse spacing."""

_QUANTILE = 0.9
"""This share of the farthest frame's surface lies within the colour scale. The rest has the colour at the end of the
scale."""


def plan_view(plan: MorphPlan) -> View:
    """Return the box and the colour scale that all pictures of a morph share.

    The box holds surface points of up to 24 frames, with the first and the last frame among them. It misses at most the
    bulge of such a surface between two points. The ground is drawn at the lower side of the box.
    """
    frames = plan.frames
    chosen = np.unique(np.linspace(0, len(frames) - 1, _NUM_FRAMES).round().astype(int)).tolist()
    points = [_surface_points(plan, index) for index in chosen]
    bounds = Bounds.of(np.concatenate(points))
    if plan.config.color == "none":
        return View(bounds)
    first = plan.key_shapes[frames[0].shape].mesh
    distance = MeshDistance(first)
    limits = [float(np.quantile(distance.unsigned(each).distance, _QUANTILE)) for each in points]
    limit = max(1e-9 / frames[0].similarity.scale, *limits)
    return View(bounds, limit, float(np.linalg.norm(first.bounds.extent)) / 2)


def _surface_points(plan: MorphPlan, index: int) -> FloatArray:
    """Return points on the surface of a frame, placed as the camera sees them.

    If no point is found, return the lattice nodes of the whole cube.
    """
    frame, lattice = plan.frames[index], Lattice.over(UNIT_BOUNDS, _RESOLUTION)
    nodes = torch.from_numpy(lattice.slab(0, lattice.shape[0]).reshape(-1, 3)).to(plan.run.latents)
    field = NeuralField(plan.run.decoder, frame.latent)
    reach = math.sqrt(3) / 2 * lattice.spacing  # every point of a surface lies within half a diagonal of a node
    near = nodes[evaluate(field, nodes).abs() < reach]
    points = project_to_level(field, near, steps=_STEPS, reach=2 * reach)
    found = points[evaluate(field, points).abs() < _ON_SURFACE * lattice.spacing]
    world = frame.similarity.to_world((found if len(found) else nodes).double().cpu().numpy())
    return world - ground_shift(plan.frames, index, config=plan.config)


def ground_shift(frames: Sequence[MorphFrame], index: int, *, config: MorphConfig) -> FloatArray:
    """Return the shift over the ground from the first frame to frame `index`, (3,) world; 0 unless `config.follow`."""
    shift = frames[index].similarity.center - frames[0].similarity.center
    shift["xyz".index(config.up_axis)] = 0.0
    return shift if config.follow else np.zeros(3)


def as_seen(mesh: Mesh, frames: Sequence[MorphFrame], index: int, *, config: MorphConfig) -> Mesh:
    """Return `mesh` at the place where the camera sees it. The camera may follow the shape over the ground."""
    return replace_vertices(mesh, mesh.vertices - ground_shift(frames, index, config=config))


def paint_by_distance(mesh: Mesh, first: MeshDistance, *, limit: float) -> PaintedMesh:
    """Return `mesh` coloured by its signed distance from the `first` mesh; `mesh` is placed as the camera sees it."""
    return PaintedMesh(mesh, vertex_colors=diverging_colors(first(mesh.vertices).sdf, limit=limit))


def frame_drawer(plan: MorphPlan, view: View, renderer: Renderer) -> Callable[[MorphFrame, Mesh], Callable[[], Image]]:
    """Return a function that starts the picture of a frame.

    This function does the GL part in the calling thread. It returns a second function, which finishes the picture in
    any thread. Frames may come in any order.
    """
    config, frames, limit = plan.config, plan.frames, view.color_limit
    first = None if limit is None else MeshDistance(plan.key_shapes[frames[0].shape].mesh)
    camera = fit_camera(
        view.bounds,
        size=renderer.size,
        azimuth=config.azimuth,
        elevation=config.elevation,
        up_axis=config.up_axis,
        turntable=config.turntable != 0,
    )
    num_steps = len(frames) - (config.playback != "loop")

    @functools.cache
    def ghost(index: int, tint: Color) -> PaintedMesh:
        return PaintedMesh(as_seen(plan.key_shapes[frames[index].shape].mesh, frames, index, config=config), tint)

    def draw(frame: MorphFrame, mesh: Mesh) -> Callable[[], Image]:
        shown = as_seen(mesh, frames, frame.index, config=config)
        painted = shown if first is None or limit is None else paint_by_distance(shown, first, limit=limit)
        ghosts: list[PaintedMesh] = []
        if config.overlay and not frame.shape:
            ghosts = list(map(ghost, plan.indices_around(frame.index), (BEFORE, AFTER)))
        azimuth = config.azimuth + config.turntable * frame.index / num_steps
        return renderer.begin([painted], camera.turned(azimuth), ghosts=ghosts)

    return draw


def legend_strips(view: View, width: int, *, config: MorphConfig) -> list[Image]:
    """Return strips, `width` pixels wide, that explain the colours of the pictures, if they have a meaning."""
    strips = []
    if config.overlay:
        now = [] if config.color == "travel" else [(Style().color, "frame")]
        strips.append(swatches(width, [(BEFORE, "shape before"), *now, (AFTER, "shape after")]))
    if view.color_limit is not None and view.radius is not None:
        end = f"{100 * view.color_limit / view.radius:.2g} %"
        title = "moved from the first frame's surface, of its radius"
        strips.append(color_bar(width, low=f"{end} inside", high=f"{end} outside", title=title))
    return strips


def write_frame(
    out: Path,
    frame: MorphFrame,
    mesh: Mesh,
    picture_of: Callable[[], Image],
    *,
    before: Mesh | None,
    config: MorphConfig,
) -> MorphFrame:
    """Measure one frame and write its files into `out`; return the frame with the names of its files.

    `picture_of` returns the picture of the frame. `before` is the mesh of the previous frame.
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
    """Write `sequence` as one HTML file. Its camera follows the shapes if the camera of the films does."""
    config = sequence.config
    size = (config.width, config.height)
    seen = [
        as_seen(sequence.mesh(index), sequence.frames, index, config=config).bounds
        for index in range(len(sequence.frames))
    ]
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
"""For each format, the function that writes a whole morph to a path. The suffix of the path is the format."""


def write_sequence(sequence: MorphSequence, *, renew: bool) -> list[str]:
    """Write the missing files of the whole morph, or all of its files if `renew`.

    Return the names of all files of the whole morph except the contact sheet.
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
        legend = legend_strips(sequence.view, sheet.shape[1], config=config)
        save_image(np.concatenate([sheet, *legend]), sequence.out / SHEET_FILE)
    return list(files.values())


def moving_meshes(sequence: MorphSequence, *, follow: bool) -> Iterator[MovingMesh]:
    """Yield the pieces of `sequence` in order: frames that share their faces, or a single frame with its own faces."""
    limit = sequence.view.color_limit
    first = None if limit is None else MeshDistance(sequence.mesh(0))
    pieces = [-1 - frame.index if frame.piece is None else frame.piece for frame in sequence.frames]
    for _, run in itertools.groupby(range(len(pieces)), key=pieces.__getitem__):
        indices = list(run)
        loaded = [sequence.painted(index) for index in indices]
        meshes = [mesh for mesh, _ in loaded]
        seen = [
            as_seen(mesh, sequence.frames, index, config=sequence.config)
            for index, mesh in zip(indices, meshes, strict=True)
        ]
        colors = [each for _, each in loaded if each is not None]
        if first is not None and limit is not None:
            colors = [np.asarray(paint_by_distance(mesh, first, limit=limit).vertex_colors) for mesh in seen]
        yield join_frames(indices[0], seen if follow else meshes, colors=np.stack(colors) if colors else None)


def _named_frames(sequence: MorphSequence) -> tuple[tuple[int, str], ...]:
    """Return the frames that are shapes, with the shapes' names."""
    return tuple((frame.index, frame.shape) for frame in sequence.frames if frame.shape)


def _sheet(sequence: MorphSequence) -> Image:
    """Return a contact sheet of a few frames at even steps, with the first and the last, labelled by shape or time."""
    frames = sequence.frames
    chosen = np.unique(np.linspace(0, len(frames) - 1, _SHEET_FRAMES).round().astype(int)).tolist()
    labels = [frames[index].shape or f"{frames[index].time:.2f}" for index in chosen]
    images = [_shrunk(sequence.picture(index)) for index in chosen]
    return contact_sheet(images, columns=_SHEET_COLUMNS, labels=labels)


def _shrunk(image: Image) -> Image:
    """Return `image` at most _SHEET_WIDTH pixels wide."""
    from PIL import Image as Pillow

    height, width = image.shape[:2]
    if width <= _SHEET_WIDTH:
        return image
    size = (_SHEET_WIDTH, round(height * _SHEET_WIDTH / width))
    return np.asarray(Pillow.fromarray(image).resize(size, Pillow.Resampling.LANCZOS)).copy()
