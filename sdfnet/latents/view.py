"""What the camera of a film must see: a world box around all of a morph, found before any frame is extracted."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sdfnet.fields.base import evaluate
from sdfnet.fields.neural import NeuralField
from sdfnet.geometry.bounds import UNIT_BOUNDS, Bounds, Lattice
from sdfnet.latents.frames import MorphConfig, MorphFrame
from sdfnet.runs import Run
from sdfnet.surfacing.projection import project_to_level

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
