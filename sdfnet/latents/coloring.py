"""The colour of a morph's surfaces by travel: how far each place lies from the first frame's surface, and which side.

Warm is where the shape has grown beyond the first, cold where it has shrunk behind it. The limit of the scale is one
for the whole morph, and is found before any frame is made, so that a frame looks the same whenever it is drawn.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from sdfnet.fields.neural import NeuralField
from sdfnet.geometry.bounds import UNIT_BOUNDS, Lattice
from sdfnet.geometry.distance import MeshDistance
from sdfnet.geometry.mesh import Mesh
from sdfnet.latents.frames import MorphConfig, MorphFrame
from sdfnet.latents.pace import surface_points
from sdfnet.latents.view import ground_travel
from sdfnet.rendering.colors import color_bar, diverging_colors
from sdfnet.rendering.renderer import Image
from sdfnet.rendering.scene import PaintedMesh
from sdfnet.runs import Run

_RESOLUTION = 32
_NUM_FRAMES = 12
_QUANTILE = 0.9
"""So much of the farthest frame's surface lies within the scale; the rest takes the colour of its end."""


def travel_limit(run: Run, frames: Sequence[MorphFrame], first: MeshDistance, *, config: MorphConfig) -> float:
    """Return where the colour scale ends, world length, from a few points on up to 12 of the frames."""
    lattice = Lattice.over(UNIT_BOUNDS, _RESOLUTION)
    nodes = torch.from_numpy(lattice.slab(0, lattice.shape[0]).reshape(-1, 3)).to(run.latents)
    limits = [1e-9 / frames[0].similarity.scale]
    for index in np.unique(np.linspace(0, len(frames) - 1, _NUM_FRAMES).round().astype(int)).tolist():
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
