"""Mesh, grid and neural fields."""

from __future__ import annotations

import math

import pytest
import torch

from conftest import BallDecoder, octahedron
from sdfnet.fields import GridField, MeshField, NeuralField, Sphere, evaluate, gradient
from sdfnet.geometry.bounds import Bounds


def test_mesh_field_of_an_octahedron_in_closed_form(generator):
    points = 0.5 * torch.randn(500, 3, generator=generator, dtype=torch.float64)
    inside = points.abs().sum(dim=-1) < 1
    expected = (points.abs().sum(dim=-1) - 1) / math.sqrt(3)
    torch.testing.assert_close(MeshField(octahedron())(points)[inside], expected[inside])


def test_mesh_field_gradient_on_a_face_is_its_normal():
    on_face = torch.tensor([[0.2, 0.3, 0.5], [0.2, 0.3, -0.5]], dtype=torch.float64)
    slopes = gradient(MeshField(octahedron()), on_face)
    expected = torch.tensor([[1.0, 1.0, 1.0], [1.0, 1.0, -1.0]], dtype=torch.float64) / math.sqrt(3)
    torch.testing.assert_close(slopes, expected)
    torch.testing.assert_close(gradient(MeshField(octahedron()), on_face.float()), expected.float())


def test_open_mesh_field_says_approximate():
    assert MeshField(octahedron()).accuracy == "exact"
    assert MeshField(octahedron(), closed=False).accuracy == "approximate"


def test_grid_field_gives_its_samples_back_indexed_xyz(generator):
    values = torch.rand(4, 5, 6, generator=generator, dtype=torch.float64) + 0.1
    field = GridField(values, bounds=Bounds([0, 0, 0], [3, 4, 5]))
    axes = [torch.arange(size, dtype=torch.float64) for size in values.shape]
    lattice = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)
    torch.testing.assert_close(field(lattice), values)


def test_grid_field_is_linear_between_samples():
    values = torch.arange(8, dtype=torch.float64).reshape(2, 2, 2) + 1
    field = GridField(values, bounds=Bounds([0, 0, 0], [1, 1, 1]))
    assert field(torch.tensor([0.25, 0.5, 0.75], dtype=torch.float64)).item() == pytest.approx(1 + 1 + 1 + 0.75)


def test_grid_field_error_falls_as_spacing_squared(generator):
    points = 0.8 * (2 * torch.rand(2000, 3, generator=generator, dtype=torch.float64) - 1)
    points = points[torch.linalg.vector_norm(points, dim=-1) > 0.3]
    errors = []
    for resolution in (17, 33):
        axis = torch.linspace(-1, 1, resolution, dtype=torch.float64)
        lattice = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), dim=-1)
        field = GridField(evaluate(Sphere(0.6), lattice), bounds=Bounds.cube(1.0))
        errors.append((field(points) - Sphere(0.6)(points)).abs().mean())
    assert errors[1] < errors[0] / 3.5


def test_grid_field_grows_by_the_distance_beyond_its_box():
    field = GridField(torch.full((2, 2, 2), 0.5), bounds=Bounds.cube(1.0))
    assert field(torch.tensor([[4.0, 5.0, 0.0]])).tolist() == [5.5]


@pytest.mark.parametrize(
    ("values", "bounds", "message"),
    [
        (
            torch.zeros(4, 4),
            Bounds.cube(1),
            r"values must have shape \(X, Y, Z\) with at least 2 along each, got \(4, 4\)",
        ),
        (torch.zeros(4, 1, 4), Bounds.cube(1), r"got \(4, 1, 4\)"),
        (torch.full((2, 2, 2), math.nan), Bounds.cube(1), "values must be finite and floating"),
        (torch.zeros(2, 2, 2), Bounds.infinite(), "bounds must be finite with a positive extent"),
    ],
)
def test_nonsense_grids_are_refused(values, bounds, message):
    with pytest.raises(ValueError, match=message):
        GridField(values, bounds=bounds)


def test_neural_field_conditions_once_and_decodes_each_call():
    calls = []

    class Counting(BallDecoder):
        def condition(self, latents_BL):
            calls.append(len(latents_BL))
            return super().condition(latents_BL)

    field = NeuralField(Counting(), torch.tensor([0.5, 1.0, 0.0, 0.0]))
    points = torch.tensor([[1.0, 0.0, 0.0], [1.0, 0.0, 2.0]])
    assert [field(points).tolist() for _ in range(3)] == [[-0.5, 1.5]] * 3
    assert calls == [1]


def test_neural_field_refuses_a_code_of_another_length():
    with pytest.raises(ValueError, match=r"latent must have shape \(4,\), got \(5,\)"):
        NeuralField(BallDecoder(), torch.zeros(5))
