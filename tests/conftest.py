"""What all tests share: an instance of every field for the axioms, and the one place that decides skips."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

if num_workers := int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", 0)):
    # Workers, and what they start, share the cores: threads that wait for others' cores made the tests half as fast.
    os.environ.setdefault("OMP_NUM_THREADS", str(max((os.cpu_count() or 1) // num_workers, 1)))

import numpy as np
import pytest
import torch
from torch import Tensor

from sdfnet.decoders.base import Decoder
from sdfnet.fields import (
    Bent,
    Box,
    Complement,
    Cylinder,
    Difference,
    Ellipsoid,
    Extrusion,
    Field,
    Frustum,
    GridField,
    HalfSpace,
    Intersection,
    LocalBlend,
    MaskedBlend,
    MeshField,
    Mirrored,
    NearestPart,
    NeuralField,
    Offset,
    Revolution,
    Ribbon,
    Ring,
    Row,
    Shell,
    SmoothDifference,
    SmoothIntersection,
    SmoothUnion,
    Sphere,
    Torus,
    Transformed,
    Tube,
    Twisted,
    Union,
    evaluate,
    rotation_about,
)
from sdfnet.geometry.bounds import Bounds, Lattice
from sdfnet.mesh.mesh import Mesh, replace_vertices


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder of real meshes that SDFNET_DATA names; tests that need it are skipped without."""
    folder = os.environ.get("SDFNET_DATA")
    if not folder:
        pytest.skip("SDFNET_DATA is not set: it names the folder of real meshes that this test needs")
    if not Path(folder).is_dir():
        raise ValueError(f"SDFNET_DATA names {folder}, which is not a folder")
    return Path(folder)


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


class BallDecoder(Decoder):
    """A decoder that knows balls only, in closed form: the code is the radius and the centre."""

    def __init__(self) -> None:
        super().__init__()
        self.latent_size = 4

    def condition(self, latents_BL: Tensor) -> tuple[Tensor, ...]:
        return (latents_BL[:, :1], latents_BL[:, None, 1:])

    def decode(self, points_BN3: Tensor, conditioned: tuple[Tensor, ...]) -> Tensor:
        radius, center = conditioned
        return torch.linalg.vector_norm(points_BN3 - center, dim=-1) - radius


@dataclass(frozen=True)
class Example:
    """A field, one point in its solid and one outside, for the axioms."""

    name: str
    make: Callable[[], Field]
    inside: tuple[float, float, float]
    outside: tuple[float, float, float]


def octahedron() -> Mesh:
    """|x| + |y| + |z| = 1."""
    vertices = [[1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1], [0, 0, -1]]
    faces = [[0, 2, 4], [2, 1, 4], [1, 3, 4], [3, 0, 4], [2, 0, 5], [1, 2, 5], [3, 1, 5], [0, 3, 5]]
    return Mesh(vertices, faces)


def moved_octahedron() -> Mesh:
    mesh = octahedron()
    return replace_vertices(mesh, mesh.vertices + np.array([3.0, 0.0, 0.0]))


def _ball_grid() -> GridField:
    lattice = Lattice.over(Bounds.cube(1.0), 17)
    points = torch.from_numpy(lattice.slab(0, lattice.shape[0]))
    return GridField(evaluate(Sphere(0.6), points), bounds=Bounds.cube(1.05))


def _cut_grid() -> GridField:
    values = torch.linspace(-1, 1, 5)[:, None, None].expand(5, 4, 3)
    return GridField(values, bounds=Bounds([0, 0, 0], [4, 3, 2]))


ROOM = Box([2, 1, 1.5])
BALL = Sphere(1.0, center=[1.5, 0.5, 0])
SPINDLE = Ellipsoid([0.2, 2, 0.2])
"""Its value lags so far behind the distance that its levels reach far beyond its grown box."""

EXAMPLES = [
    Example("sphere", lambda: Sphere(0.7, center=[1, 2, 3]), (1, 2, 3.6), (1, 2, 3.8)),
    Example("half_space", lambda: HalfSpace([1, 2, 2], point=[0, 1, 0]), (0, 0.9, 0), (0, 1.1, 0)),
    Example("box", lambda: Box([1, 2, 0.5], center=[0, 1, 0]), (0.9, 2.9, 0.4), (1.1, 0, 0)),
    Example("rounded_box", lambda: Box([1, 2, 0.5], rounding=0.3), (0.8, 1.8, 0.3), (0.98, 1.98, 0)),
    Example("pill_box", lambda: Box([1, 2, 0.5], rounding=0.5), (0.6, 1.6, 0.1), (0.98, 1.98, 0)),
    Example("cylinder", lambda: Cylinder(0.5, 1.0), (0.4, 0.9, 0), (0.4, 1.1, 0)),
    Example(
        "rounded_cylinder", lambda: Cylinder(0.5, 1.0, rounding=0.2, center=[0, 1, 0]), (0, 1.9, 0), (0.49, 1.99, 0)
    ),
    Example("torus", lambda: Torus(1.0, 0.25, center=[1, 0, 0]), (2.2, 0, 0), (1, 0, 0)),
    Example("ellipsoid", lambda: Ellipsoid([1, 2, 0.5]), (0, 1.9, 0), (0, 0, 0.6)),
    Example("capsule", lambda: Tube([[0, 0, 0], [1, 1, 0]], 0.3), (0.5, 0.5, 0.2), (0.5, 0.5, 0.4)),
    Example("tapered_rod", lambda: Tube([[0, 0, 0], [0, 2, 0]], [0.5, 0.1]), (0.4, 0, 0), (0.4, 1.9, 0)),
    Example(
        "bent_tube",
        lambda: Tube([[0, 0, 0], [1, 1, 0], [2, 0, 1]], [0.2, 0.3, 0.2], closed=True),
        (1, 0.05, 0.5),
        (1, 0.4, 0.1),
    ),
    Example(
        "frustum", lambda: Frustum([0, 0, 0], [1, 2, 0], start_radius=0.6, end_radius=0.2), (0, 0.1, 0.5), (1, 2, 0.5)
    ),
    Example("ribbon", lambda: Ribbon([[-1, 0], [0, 0.5], [1, 0]], 0.8, radius=0.1), (0, 0.85, 0.5), (0, 0.95, 0.5)),
    Example("plate", lambda: Ribbon([[-1, 0], [1, 0]], 0.8, radius=0.1), (0.5, 0.5, 0.05), (0.5, 0.5, 0.15)),
    Example("prism", lambda: Extrusion([[-1, -1], [1, -1], [0, 1]], 0.5), (0, 0.4, 0.8), (0.8, 0, 0.8)),
    Example(
        "star",
        lambda: Extrusion([[-1, -1], [0, -0.2], [1, -1], [0, 1]], 0.5),
        (0, 0, 0),
        (0, 0, -0.5),
    ),
    Example(
        "round_prism",
        lambda: Extrusion([[-1, -1], [-1, 1], [1, 1], [1, -1]], 0.5, rounding=0.2),
        (1.1, 0, 0),
        (1.1, 0.6, 1.18),
    ),
    Example("mesh", lambda: MeshField(octahedron()), (0.3, 0.3, 0.3), (0.4, 0.4, 0.4)),
    Example(
        "neural", lambda: NeuralField(BallDecoder(), torch.tensor([0.5, 0.1, 0.2, 0.0])), (0.1, 0.2, 0.4), (0, 0, 0.9)
    ),
    Example("grid", _ball_grid, (0, 0.5, 0), (0, 0.7, 0)),
    Example("cut_grid", _cut_grid, (1.0, 1.5, 1), (3, 1.5, 1)),
    Example("complement", lambda: Complement(BALL), (4, 0, 0), (1.5, 0.5, 0)),
    Example("union", lambda: Union(ROOM, BALL), (2.4, 0.5, 0), (2.4, -0.5, 0)),
    Example("union_with_complement", lambda: Union(Complement(ROOM), BALL), (5, 0, 0), (-1, 0, 0)),
    Example("intersection", lambda: Intersection(ROOM, BALL), (1.9, 0.9, 0), (2.1, 0.5, 0)),
    Example("wedge", lambda: Intersection(HalfSpace([0.3, 1, 0]), HalfSpace([-0.3, 1, 0])), (0, -0.1, 0), (0, 0.1, 0)),
    Example("difference", lambda: Difference(ROOM, BALL, Sphere(0.2)), (-1, 0, 0), (1.5, 0.5, 0)),
    Example("smooth_union", lambda: SmoothUnion(ROOM, BALL, width=0.4), (2.0, 1.03, 0), (3, 1, 1)),
    Example("smooth_spindle", lambda: SmoothUnion(SPINDLE, BALL, width=0.8), (0, 1.9, 0), (0, 2.3, 0)),
    Example("smooth_intersection", lambda: SmoothIntersection(ROOM, BALL, width=0.4), (1.8, 0.5, 0), (0.65, 0.99, 0)),
    Example("smooth_difference", lambda: SmoothDifference(ROOM, BALL, width=0.4), (-1, 0, 0), (1.5, 0.5, 0)),
    Example(
        "transformed",
        lambda: Transformed(ROOM, rotation=rotation_about([1, 2, 3], 40), translation=[1, 0, 2], scale=0.5),
        (1, 0, 2.4),
        (1, 0, 3.1),
    ),
    Example(
        "turned_half_space", lambda: Transformed(HalfSpace([0, 1, 0]), translation=[0, 1, 0]), (0, 0.5, 0), (0, 2, 0)
    ),
    Example("mirrored", lambda: Mirrored(Tube([[-0.2, 0, 0], [1, 1, 0]], 0.2), "x"), (-1, 1, 0), (0, 1, 0)),
    Example("offset", lambda: Offset(ROOM, 0.3), (2.2, 0, 0), (2.25, 1.25, 0)),
    Example("offset_spindle", lambda: Offset(SPINDLE, 0.5), (0, 2.4, 0), (0, 2.6, 0)),
    Example("eroded", lambda: Offset(ROOM, -0.3), (1.6, 0, 0), (1.8, 0, 0)),
    Example("offset_cavity", lambda: Offset(Complement(SPINDLE), -0.5), (0, 2.6, 0), (0, 2.4, 0)),
    Example(
        "masked_blend",
        lambda: MaskedBlend(ROOM, BALL, mask=Sphere(1.5, center=[2, 0, 0]), seam=0.3),
        (-1, 0, 0),
        (-2.2, 0, 0),
    ),
    Example("nearest_part", lambda: NearestPart(octahedron(), moved_octahedron()), (0, 0, 0), (3, 0, 0)),
    Example("shell", lambda: Shell(ROOM, 0.2), (2.05, 0, 0), (1.8, 0, 0)),
    Example("revolution", lambda: Revolution([[0.5, -1], [1, -1], [1.2, 0.8], [0.5, 1]]), (0, 0, 0.8), (0, 0, 0.3)),
    Example("turned_cone", lambda: Revolution([[0, -1], [1, -1], [0, 1]]), (0, 0.8, 0), (0.6, 0.4, 0)),
    Example(
        "local_blend",
        lambda: LocalBlend(ROOM, BALL, width=0.6, where=Sphere(1.0, center=[2, 1, 0]), fade=0.5),
        (2.1, 1.02, 0),
        (1, 1.1, 1.4),
    ),
    Example("twisted", lambda: Twisted(ROOM, degrees_per_unit=60), (0, 0.9, 1.4), (1.9, 0.9, 1.3)),
    Example("bent", lambda: Bent(Box([2, 0.3, 1]), radius=1.5), (1.398, 0.956, 0), (0, 1.5, 0)),
    Example("row", lambda: Row(BALL, count=3, step=[1.5, 0, 1]), (4.5, 0.5, 2), (3, 0.5, -0.5)),
    Example("ring", lambda: Ring(BALL, count=5, axis="z", degrees=-200), (-1.5, 0, 0), (0, 0, 0)),
    Example("spindle_shell", lambda: Shell(SPINDLE, 0.2), (0, 2.05, 0), (0, 0, 0)),
]


def _each(examples: list[Example]) -> Callable[[Callable[..., Example]], Callable[..., Example]]:
    return pytest.fixture(params=examples, ids=lambda example: example.name)


@_each(EXAMPLES)
def example(request: pytest.FixtureRequest) -> Example:
    """Each field in turn."""
    return request.param


@_each([example for example in EXAMPLES if example.make().accuracy == "exact"])
def exact_example(request: pytest.FixtureRequest) -> Example:
    """Each field that says its values are distances."""
    return request.param


@_each([example for example in EXAMPLES if example.make().accuracy != "approximate"])
def honest_example(request: pytest.FixtureRequest) -> Example:
    """Each field that says it never overestimates."""
    return request.param


@_each([example for example in EXAMPLES if example.make().bounds.is_finite])
def finite_example(request: pytest.FixtureRequest) -> Example:
    """Each field whose box says something."""
    return request.param
