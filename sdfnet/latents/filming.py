"""How the frames of a morph are pictured: one camera for all, and what is drawn around and onto the surface.

What all pictures share (the box that the camera sees, the end of the colour scale) is found before the first frame and
kept in the manifest, so that a frame made after an interruption looks like the others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sdfnet.geometry.bounds import Bounds
from sdfnet.geometry.distance import MeshDistance
from sdfnet.geometry.mesh import Mesh, replace_vertices
from sdfnet.latents.coloring import painted_by_travel, travel_legend, travel_limit
from sdfnet.latents.frames import MorphConfig, MorphFrame
from sdfnet.latents.sequence import MadeFrame, shapes_around
from sdfnet.latents.view import ground_travel, view_bounds
from sdfnet.rendering.camera import Camera, fit_camera
from sdfnet.rendering.colors import swatches
from sdfnet.rendering.ghosts import Ghost
from sdfnet.rendering.look import Look
from sdfnet.rendering.renderer import Image, Renderer
from sdfnet.runs import Run

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
