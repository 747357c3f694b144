"""A family whose correspondence is known in closed form: a ball, stretched along x and bent along y by its code."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sdfnet.decoders import Decoder
from sdfnet.geometry.arrays import FloatArray
from sdfnet.geometry.similarity import Similarity
from sdfnet.runs import Run, RunShape

RADIUS = 0.5
STRETCH, BEND = 0.3, 0.4


class MovedBall(Decoder):
    """The template is a ball. The code (stretch, bend, second ball) moves points; a second ball is another topology."""

    latent_size = 3
    has_template = True
    adds_to_template = True

    def condition(self, latents_BL: Tensor) -> tuple[Tensor, ...]:
        return (latents_BL,)

    def template_points(self, points_BN3: Tensor, conditioned: tuple[Tensor, ...]) -> Tensor:
        stretch, bend = (conditioned[0][:, None, axis] for axis in (0, 1))
        x, y, z = points_BN3.unbind(dim=-1)
        return torch.stack([x + STRETCH * stretch * x, y + BEND * bend * x**2, z], dim=-1)

    def decode(self, points_BN3: Tensor, conditioned: tuple[Tensor, ...]) -> Tensor:
        ball = self.template_points(points_BN3, conditioned).norm(dim=-1) - RADIUS
        corner = points_BN3.new_tensor([0.8, 0.8, 0.8])
        second = (points_BN3 - corner).norm(dim=-1) - 0.2 + 10 * (conditioned[0][:, None, 2] < 0.5)
        return torch.minimum(ball, second)


CODES = {"ball": [0.0, 0.0, 0.0], "long": [-1.0, 0.0, 0.0], "bent": [0.5, 1.0, 0.0], "two": [0.0, 0.0, 1.0]}


@dataclass(frozen=True)
class Family:
    """The run, and what is known of it."""

    run: Run

    def truth(self, source: str, target: str, points_world: FloatArray) -> FloatArray:
        """Where points of `source` lie on `target`, both in their worlds."""
        x, y, z = self.run.similarity(source).to_unit(points_world).T
        stretch, bend, _ = CODES[source]
        place = np.array([x + STRETCH * stretch * x, y + BEND * bend * x**2, z])
        stretch, bend, _ = CODES[target]
        x = place[0] / (1 + STRETCH * stretch)
        return self.run.similarity(target).to_world(np.stack([x, place[1] - BEND * bend * x**2, place[2]], axis=1))

    def surface(self, name: str, count: int = 200) -> FloatArray:
        """Points of the surface of a shape, in its world."""
        directions = np.random.default_rng(5).normal(size=(count, 3))
        ball = RADIUS * directions / np.linalg.norm(directions, axis=1, keepdims=True)
        return self.truth("ball", name, self.run.similarity("ball").to_world(ball))


def moved_balls(folder: Path) -> Family:
    """Return the family; every shape has a similarity of its own."""
    shapes = tuple(
        RunShape(name, Similarity(np.array([number, 2.0, 0.0]), 1.0 + 0.5 * number), "", f"hash {name}", closed=True)
        for number, name in enumerate(CODES)
    )
    return Family(Run(folder, {"config": {}}, MovedBall().eval(), torch.tensor(list(CODES.values())), shapes, 0))
