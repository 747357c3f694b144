"""Known maps of space, and what they show of tracking: analytic fields moved by them.

`stretch`, `twist` and `bend` return the map by an amount and its inverse. `print_map` carries a mesh along a field that
moves so, and compares the carried vertices, and nearest points between the end meshes, with where the map takes them.
`print_unseen` says what is left of the error where all but the twist of a sphere is known: nothing shows how it begins.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import trimesh
from torch import Tensor

from sdfnet.correspondence.track import TrackConfig, track_surface
from sdfnet.fields import Box, Difference, Ellipsoid, Field, Sphere
from sdfnet.geometry.bounds import UNIT_BOUNDS
from sdfnet.geometry.similarity import UNIT_RADIUS, Similarity
from sdfnet.mesh.distance import MeshDistance
from sdfnet.mesh.mesh import Mesh

Map = Callable[[Tensor], Tensor]

MakeMap = Callable[[float], tuple[Map, Map]]
"""From an amount to the map and its inverse."""


class Warped(Field):
    """A field moved by a map of space that is given by its inverse."""

    def __init__(self, field: Field, inverse: Map) -> None:
        self.bounds, self.accuracy, self._field, self._inverse = UNIT_BOUNDS, "approximate", field, inverse

    def __call__(self, points: Tensor) -> Tensor:
        return self._field(self._inverse(points))


def stretch(amount: float) -> tuple[Map, Map]:
    def factors(points: Tensor) -> Tensor:
        return points.new_tensor([1 + amount, 1.0, 1 - 0.3 * amount])

    return (lambda p: p * factors(p)), (lambda p: p / factors(p))


def twist(amount: float) -> tuple[Map, Map]:
    """Turn about the z axis by `amount` radians for each unit along it."""

    def turned(points: Tensor, sign: float) -> Tensor:
        x, y, z = points.unbind(-1)
        cosine, sine = torch.cos(sign * amount * z), torch.sin(sign * amount * z)
        return torch.stack([cosine * x - sine * y, sine * x + cosine * y, z], dim=-1)

    return (lambda p: turned(p, 1.0)), (lambda p: turned(p, -1.0))


def bend(amount: float) -> tuple[Map, Map]:
    """Bend the z axis into an arc of curvature `amount`."""
    if amount == 0:
        return (lambda p: p), (lambda p: p)
    radius = 1 / amount

    def forward(points: Tensor) -> Tensor:
        x, y, z = points.unbind(-1)
        return torch.stack(
            [radius - (radius - x) * torch.cos(z / radius), y, (radius - x) * torch.sin(z / radius)], dim=-1
        )

    def inverse(points: Tensor) -> Tensor:
        x, y, z = points.unbind(-1)
        return torch.stack([radius - torch.hypot(radius - x, z), y, radius * torch.atan2(z, radius - x)], dim=-1)

    return forward, inverse


def all_three(amount: float) -> tuple[Map, Map]:
    """Stretch, then twist, then bend, each by `amount`."""
    steps = [make(amount) for make in (stretch, twist, bend)]

    def forward(points: Tensor) -> Tensor:
        for there, _ in steps:
            points = there(points)
        return points

    def inverse(points: Tensor) -> Tensor:
        for _, back in reversed(steps):
            points = back(points)
        return points

    return forward, inverse


FRAME_SIZES = [[0.35, 0.3, 0.6], [1, 0.18, 0.42], [0.22, 1, 0.42], [0.22, 0.18, 1]]
"""Half sizes of a box, and of the three boxes that are cut out of it."""


def box_frame() -> Field:
    """A box with a window through each pair of faces: genus 5."""
    whole, *windows = (Box(sizes) for sizes in FRAME_SIZES)
    return Difference(whole, *windows)


FAMILIES: dict[str, tuple[Field, MakeMap, float]] = {
    "sphere, stretched": (Sphere(0.55), stretch, 0.6),
    "sphere, bent": (Sphere(0.55), bend, 1.2),
    "sphere, all three": (Sphere(0.55), all_three, 0.8),
    "ellipsoid, bent": (Ellipsoid([0.2, 0.3, 0.7]), bend, 1.2),
    "box frame, stretched": (box_frame(), stretch, 0.5),
    "box frame, twisted": (box_frame(), twist, 1.0),
    "box frame, bent": (box_frame(), bend, 1.0),
}


def print_map(name: str, field: Field, make: MakeMap, amount: float) -> None:
    times = np.linspace(0, 1, 13)
    morph = track_surface(lambda at: Warped(field, make(amount * at)[1]), times, config=TrackConfig(resolution=64))
    piece = morph.segments[0]
    forward = make(amount * times[piece.last_frame])[0]
    truth = forward(torch.from_numpy(piece.vertices[0])).numpy()
    carried = np.linalg.norm(piece.vertices[-1] - truth, axis=1).mean()
    closest = MeshDistance(piece.mesh(piece.last_frame)).unsigned(piece.vertices[0]).closest_points
    nearest = np.linalg.norm(closest - truth, axis=1).mean()
    percent = 100 / UNIT_RADIUS
    print(f"{name:24} pieces {len(morph.segments)}, mean error of carried vertices {percent * carried:.3f} %, "
          f"of nearest points {percent * nearest:.3f} %, ratio {carried / nearest:.3f}")  # fmt: skip


def print_unseen(amount: float = 0.8) -> None:
    ball = trimesh.creation.icosphere(subdivisions=5, radius=0.55)
    start = torch.from_numpy(ball.vertices)
    truth = all_three(amount)[0](start).numpy()
    end = MeshDistance(Mesh(truth, ball.faces))
    before, after = (Similarity.normalizing(points) for points in (ball.vertices, truth))
    guesses = {
        "nearest in the world": ball.vertices,
        "nearest in the unit frame": after.to_world(before.to_unit(ball.vertices)),
        "all but the twist known": bend(amount)[0](stretch(amount)[0](start)).numpy(),
    }
    for name, guess in guesses.items():
        error = np.linalg.norm(end.unsigned(guess).closest_points - truth, axis=1).mean()
        percent = 100 * after.scale / UNIT_RADIUS
        print(f"sphere, all three: {name}, then the nearest point of the end: {percent * error:.2f} %")
