"""The pictures of a morph: one camera for all frames, ghosts of the shapes around a frame, colours by distance.

All pictures share a `View`: the box that the camera sees and the end of the colour scale. It is found before the first
frame is made and kept in the manifest, so that a frame made after an interruption looks like the others. Colours show
how far each place lies from the first frame's surface: warm where the shape has grown, cold where it has shrunk.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sdfnet.extraction.projection import project_to_level
from sdfnet.fields.adaptors import NeuralField
from sdfnet.fields.base import evaluate
from sdfnet.geometry.bounds import UNIT_BOUNDS, Bounds, Lattice
from sdfnet.mesh.distance import MeshDistance
from sdfnet.mesh.mesh import Mesh, replace_vertices
from sdfnet.morphs.config import MorphConfig
from sdfnet.morphs.plan import MorphPlan
from sdfnet.morphs.store import MorphFrame
from sdfnet.rendering.camera import fit_camera
from sdfnet.rendering.colormap import color_bar, diverging_colors, swatches
from sdfnet.rendering.renderer import Image, Renderer
from sdfnet.rendering.scene import PaintedMesh
from sdfnet.rendering.style import Color, Style

BEFORE, AFTER = (0.50, 0.40, 0.80), (0.32, 0.68, 0.40)
"""Tints of the ghosts of the shapes before and after a frame; neither is a colour of the scale."""

_RESOLUTION = 32
_NUM_FRAMES = 24
_STEPS = 3
_ON_SURFACE = 0.1
"""A projected point counts if its value is below this share of the coarse spacing."""

_QUANTILE = 0.9
"""So much of the farthest frame's surface lies within the colour scale; the rest takes the colour of its end."""


@dataclass(frozen=True, eq=False)
class View:
    """What the pictures of a morph share.

    Attributes
    ----------
    bounds : Bounds
        What the camera must see.
    color_limit : float or None
        Where the scale of `color=travel` ends, world length.
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


def plan_view(plan: MorphPlan) -> View:
    """Return what the pictures of a morph will share, from points of the surfaces of up to 24 frames, ends included.

    The box is short of a surface only by the bulge between two points. The ground is drawn at the box's lower side.
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


def _surface_points(plan: MorphPlan, index: int) -> NDArray[np.float64]:
    """Return points on the surface of a frame, as the camera sees them; nodes of the whole cube if none is found."""
    frame, lattice = plan.frames[index], Lattice.over(UNIT_BOUNDS, _RESOLUTION)
    nodes = torch.from_numpy(lattice.slab(0, lattice.shape[0]).reshape(-1, 3)).to(plan.run.latents)
    field = NeuralField(plan.run.decoder, frame.latent)
    reach = math.sqrt(3) / 2 * lattice.spacing  # every point of a surface lies within half a diagonal of a node
    near = nodes[evaluate(field, nodes).abs() < reach]
    points = project_to_level(field, near, steps=_STEPS, reach=2 * reach)
    found = points[evaluate(field, points).abs() < _ON_SURFACE * lattice.spacing]
    world = frame.similarity.to_world((found if len(found) else nodes).double().cpu().numpy())
    return world - ground_shift(plan.frames, index, config=plan.config)


def ground_shift(frames: Sequence[MorphFrame], index: int, *, config: MorphConfig) -> NDArray[np.float64]:
    """Return how far frame `index` has gone over the ground since the first, (3,) world; 0 unless followed."""
    shift = frames[index].similarity.center - frames[0].similarity.center
    shift["xyz".index(config.up_axis)] = 0.0
    return shift if config.follow else np.zeros(3)


def as_seen(mesh: Mesh, frames: Sequence[MorphFrame], index: int, *, config: MorphConfig) -> Mesh:
    """Return the mesh of a frame where the camera sees it, which may go along over the ground."""
    return replace_vertices(mesh, mesh.vertices - ground_shift(frames, index, config=config))


def paint_by_distance(mesh: Mesh, first: MeshDistance, *, limit: float) -> PaintedMesh:
    """Return `mesh`, placed as the camera sees it, coloured by its signed distance from the `first` one."""
    return PaintedMesh(mesh, vertex_colors=diverging_colors(first(mesh.vertices).sdf, limit=limit))


def frame_drawer(plan: MorphPlan, view: View, renderer: Renderer) -> Callable[[MorphFrame, Mesh], Callable[[], Image]]:
    """Return a function that draws what GL draws of a frame, and returns what gives the picture, in any thread.

    Frames may come in any order.
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
            before, after = plan.indices_around(frame.index)
            ghosts = [ghost(before, BEFORE), ghost(after, AFTER)]
        azimuth = config.azimuth + config.turntable * frame.index / num_steps
        return renderer.begin([painted], camera.turned(azimuth), ghosts=ghosts)

    return draw


def legend_strips(view: View, width: int, *, config: MorphConfig) -> list[Image]:
    """Return the strips, `width` pixels wide, that explain the colours of the pictures, if they mean anything."""
    strips = []
    if config.overlay:
        now = [] if config.color == "travel" else [(Style().color, "frame")]
        strips.append(swatches(width, [(BEFORE, "shape before"), *now, (AFTER, "shape after")]))
    if view.color_limit is not None and view.radius is not None:
        end = f"{100 * view.color_limit / view.radius:.2g} %"
        title = "moved from the first frame's surface, of its radius"
        strips.append(color_bar(width, low=f"{end} inside", high=f"{end} outside", title=title))
    return strips
