"""A whole morph as one file that moves: an animated GLB or USD, and an HTML page that plays it.

Colours of the surface go along as colours of vertices. Ghosts and the turning of the camera belong to pictures.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sdfnet.geometry.bounds import Bounds
from sdfnet.geometry.distance import MeshDistance
from sdfnet.geometry.mesh import Mesh, replace_vertices
from sdfnet.geometry.motion import MovingMesh, join_meshes
from sdfnet.geometry.usd import save_usd
from sdfnet.geometry.writing import save_animated_glb
from sdfnet.latents.coloring import painted_by_travel
from sdfnet.latents.sequence import MorphSequence
from sdfnet.latents.view import ground_travel
from sdfnet.rendering.camera import fit_camera
from sdfnet.rendering.player import PlayerConfig, save_player


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
        yield join_meshes(indices[0], [_mesh(sequence, index, follow=follow) for index in indices], colors=colors)


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
