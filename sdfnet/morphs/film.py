"""How the frames of a morph are pictured: one camera for all, and what is drawn around and onto the surface.

What all pictures share (the box that the camera sees, the end of the colour scale) is found before the first frame and
kept in the manifest, so that a frame made after an interruption looks like the others.

What the camera of a film must see: a world box around all of a morph, found before any frame is extracted.

The colour of a morph's surfaces by travel: how far each place lies from the first frame's surface, and which side.

Warm is where the shape has grown beyond the first, cold where it has shrunk behind it. The limit of the scale is one
for the whole morph, and is found before any frame is made, so that a frame looks the same whenever it is drawn.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sdfnet.extraction.projection import project_to_level
from sdfnet.fields.adaptors import NeuralField
from sdfnet.fields.base import evaluate
from sdfnet.geometry.bounds import UNIT_BOUNDS, Bounds, Lattice
from sdfnet.latents.arc_length import surface_points
from sdfnet.mesh.distance import MeshDistance
from sdfnet.mesh.mesh import Mesh, replace_vertices
from sdfnet.morphs.plan import MorphConfig, MorphFrame
from sdfnet.morphs.store import MadeFrame, shapes_around
from sdfnet.rendering.camera import Camera, fit_camera
from sdfnet.rendering.colormap import color_bar, diverging_colors, swatches
from sdfnet.rendering.renderer import Ghost, Image, Renderer
from sdfnet.rendering.scene import PaintedMesh
from sdfnet.rendering.style import Look
from sdfnet.runs import Run

_RESOLUTION = 32
_NUM_FRAMES = 24
_STEPS = 3
_ON_SURFACE = 0.1
"""A projected point counts if its value is below this share of the coarse spacing."""


def ground_travel(frames: Sequence[MorphFrame], index: int, *, config: MorphConfig) -> NDArray[np.float64]:
    """Return how far frame `index` has gone over the ground since the first, (3,) world; 0 unless followed."""
    travel = frames[index].similarity.center - frames[0].similarity.center
    travel["xyz".index(config.up_axis)] = 0.0
    return travel if config.follow else np.zeros(3)


def view_bounds(run: Run, frames: Sequence[MorphFrame], *, config: MorphConfig) -> Bounds:
    """Return a box around the surfaces of `frames` as the camera sees them, from up to 24 of them, ends included.

    The points of a coarse lattice near a surface are projected onto it, so the box is short of it only by the bulge
    of the surface between two of them; the ground, drawn at its lower side, lies at the feet.
    """
    lattice = Lattice.over(UNIT_BOUNDS, _RESOLUTION)
    nodes = torch.from_numpy(lattice.slab(0, lattice.shape[0]).reshape(-1, 3)).to(run.latents)
    box = None
    for index in np.unique(np.linspace(0, len(frames) - 1, _NUM_FRAMES).round().astype(int)):
        frame = frames[index]
        held = Bounds.of(_on_surface(NeuralField(run.decoder, frame.latent), nodes, lattice.spacing))
        travel = ground_travel(frames, int(index), config=config)
        world = Bounds(frame.similarity.to_world(held.lower) - travel, frame.similarity.to_world(held.upper) - travel)
        box = world if box is None else box.union(world)
    assert box is not None
    return box


def _on_surface(field: NeuralField, nodes: Tensor, spacing: float) -> NDArray[np.float64]:
    """Return points of the surface of `field`, or all of `nodes` if none is found."""
    # Every point of a surface lies within half a cell's diagonal of a node.
    reach = math.sqrt(3) / 2 * spacing
    near = nodes[evaluate(field, nodes).abs() < reach]
    points = project_to_level(field, near, steps=_STEPS, reach=2 * reach)
    found = points[evaluate(field, points).abs() < _ON_SURFACE * spacing]
    return (found if len(found) else nodes).double().cpu().numpy()


_COLOR_RESOLUTION = 32
_COLOR_FRAMES = 12
_QUANTILE = 0.9
"""So much of the farthest frame's surface lies within the scale; the rest takes the colour of its end."""


def travel_limit(run: Run, frames: Sequence[MorphFrame], first: MeshDistance, *, config: MorphConfig) -> float:
    """Return where the colour scale ends, world length, from a few points on up to 12 of the frames."""
    lattice = Lattice.over(UNIT_BOUNDS, _COLOR_RESOLUTION)
    nodes = torch.from_numpy(lattice.slab(0, lattice.shape[0]).reshape(-1, 3)).to(run.latents)
    limits = [1e-9 / frames[0].similarity.scale]
    for index in np.unique(np.linspace(0, len(frames) - 1, _COLOR_FRAMES).round().astype(int)).tolist():
        points = surface_points(NeuralField(run.decoder, frames[index].latent), nodes, lattice.spacing)
        if len(points):
            world = frames[index].similarity.to_world(points.double().cpu().numpy())
            shown = world - ground_travel(frames, index, config=config)
            limits.append(float(np.quantile(first.unsigned(shown).distance, _QUANTILE)))
    return max(limits)


def painted_by_travel(shown: Mesh, first: MeshDistance, *, limit: float) -> PaintedMesh:
    """Return `shown`, a mesh as the camera sees it, coloured by its distance from the `first` one."""
    return PaintedMesh(shown, vertex_colors=diverging_colors(first(shown.vertices).sdf, limit=limit))


def travel_legend(width: int, *, limit: float, radius: float) -> Image:
    """Return the strip that explains the colours: ends in percent of `radius`, the first frame's."""
    percent = f"{100 * limit / radius:.2g} %"
    title = "moved from the first frame's surface, of its radius"
    return color_bar(width, low=f"{percent} inside", middle="0", high=f"{percent} outside", title=title)


BEFORE, AFTER = (0.50, 0.40, 0.80), (0.32, 0.68, 0.40)
"""Tints of the ghosts of the shapes before and after a frame; neither is a colour of travel."""


@dataclass(frozen=True, eq=False)
class Staging:
    """What the pictures of a morph share.

    Attributes
    ----------
    bounds : Bounds
        What the camera must see.
    travel_limit : float or None
        Where the scale of `color=travel` ends, world length.
    radius : float or None
        The length that the legend gives shares of.
    """

    bounds: Bounds
    travel_limit: float | None = None
    radius: float | None = None

    def to_dict(self) -> dict[str, Any]:
        box = {"lower": self.bounds.lower.tolist(), "upper": self.bounds.upper.tolist()}
        return box | {"travel_limit": self.travel_limit, "radius": self.radius}

    @classmethod
    def from_dict(cls, document: dict[str, Any]) -> Staging:
        bounds = Bounds(document["lower"], document["upper"])
        return cls(bounds, document["travel_limit"], document["radius"])


def plan_staging(
    run: Run, frames: Sequence[MorphFrame], mesh_of: Callable[[int], Mesh], *, config: MorphConfig
) -> Staging:
    """Return what the pictures of a morph will share; `mesh_of` gives the mesh of a frame."""
    bounds = view_bounds(run, frames, config=config)
    if config.color == "none":
        return Staging(bounds)
    first = mesh_of(0)
    limit = travel_limit(run, frames, MeshDistance(first), config=config)
    return Staging(bounds, limit, float(np.linalg.norm(first.bounds.extent)) / 2)


class Filming:
    """Takes the pictures of a morph, frame by frame, in any order.

    Parameters
    ----------
    mesh_of
        From a frame's number to its mesh, for the shapes that are drawn as ghosts and the first frame.
    """

    def __init__(
        self,
        staging: Staging,
        frames: Sequence[MorphFrame],
        mesh_of: Callable[[int], Mesh],
        renderer: Renderer,
        *,
        config: MorphConfig,
    ) -> None:
        self._frames, self._mesh_of, self._renderer, self._config = frames, mesh_of, renderer, config
        self._staging = staging
        self._first = None if staging.travel_limit is None else MeshDistance(mesh_of(0))
        self._shown: dict[int, Mesh] = {}
        self._camera = fit_camera(
            staging.bounds,
            size=renderer.size,
            azimuth=config.azimuth,
            elevation=config.elevation,
            up_axis=config.up_axis,
            turntable=config.turntable != 0,
        )

    def begin(self, made: MadeFrame) -> Callable[[], Image]:
        """Draw what GL draws of one frame; return what gives the picture, in any thread."""
        shown = self._moved(made.mesh, made.index)
        limit, first = self._staging.travel_limit, self._first
        painted = shown if limit is None or first is None else painted_by_travel(shown, first, limit=limit)
        return self._renderer.begin(painted, camera=self._camera_at(made.index), ghosts=self._ghosts(made.index))

    def _camera_at(self, index: int) -> Camera:
        steps = len(self._frames) - (self._config.playback != "loop")
        return self._camera.turned(self._config.azimuth + self._config.turntable * index / steps)

    def _ghosts(self, index: int) -> list[Ghost]:
        if not self._config.overlay or self._frames[index].shape:
            return []
        before, after = shapes_around(self._frames, index)
        return [Ghost(self._shape(before), BEFORE), Ghost(self._shape(after), AFTER)]

    def _shape(self, index: int) -> Mesh:
        if index not in self._shown:
            self._shown[index] = self._moved(self._mesh_of(index), index)
        return self._shown[index]

    def _moved(self, mesh: Mesh, index: int) -> Mesh:
        """Return `mesh` as the camera sees it, which may go along over the ground."""
        return replace_vertices(mesh, mesh.vertices - ground_travel(self._frames, index, config=self._config))


def legend_of(staging: Staging, width: int, *, config: MorphConfig) -> list[Image]:
    """Return the strips, `width` pixels wide, that explain the colours of the pictures, if they mean anything."""
    strips = []
    if config.overlay:
        now = [] if config.color == "travel" else [(Look().color, "frame")]
        strips.append(swatches(width, [(BEFORE, "shape before"), *now, (AFTER, "shape after")]))
    if staging.travel_limit is not None and staging.radius is not None:
        strips.append(travel_legend(width, limit=staging.travel_limit, radius=staging.radius))
    return strips
