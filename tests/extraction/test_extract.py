"""The mesh of a field: closed-form surfaces, orientation, frames and refusals."""

from __future__ import annotations

import logging
import re

import numpy as np
import pytest
import torch
from torch import Tensor

from sdfnet.extraction.extract import extract_mesh
from sdfnet.fields.base import Field
from sdfnet.fields.primitives import Box, HalfSpace, Sphere, Torus
from sdfnet.geometry.bounds import Bounds, Lattice
from sdfnet.geometry.similarity import Similarity

SYMMETRIC = Bounds.cube(1 / 1.05)
"""Its lattice spans exactly [-1, 1]."""


def _radius_error(resolution: int, **options: int) -> float:
    mesh = extract_mesh(Sphere(0.6), resolution=resolution, bounds=SYMMETRIC, **options)  # type: ignore[arg-type]
    return float(np.abs(np.linalg.norm(mesh.vertices, axis=1) - 0.6).max())


def test_vertex_error_on_a_sphere_falls_as_the_square_of_the_spacing() -> None:
    coarse, fine = _radius_error(25), _radius_error(49)
    assert 3.4 < coarse / fine < 4.6
    assert fine < 0.25 * (2 / 48) ** 2 / 0.6


@pytest.mark.parametrize(("resolution", "loss"), [(17, 0.0135), (33, 0.0034), (65, 0.00085)])
def test_area_of_a_sphere_is_low_by_the_known_share(resolution: int, loss: float) -> None:
    mesh = extract_mesh(Sphere(0.6), resolution=resolution, bounds=SYMMETRIC)
    assert 1 - mesh.face_areas.sum() / (4 * np.pi * 0.36) == pytest.approx(loss, rel=0.05)


def test_projection_puts_vertices_on_the_sphere() -> None:
    assert _radius_error(25, project_steps=1) < 1e-6


def test_a_box_is_closed_outward_and_within_a_quarter_of_the_spacing() -> None:
    half = np.array([0.71, 0.43, 0.27])
    mesh = extract_mesh(Box(half), resolution=64)
    spacing = Lattice.over(Box(half).bounds, 64).spacing
    assert mesh.to_trimesh().is_watertight
    assert np.abs(mesh.bounds.upper - half).max() < spacing / 4
    assert mesh.signed_volume == pytest.approx(8 * half.prod(), rel=0.01)


def test_a_torus_has_one_handle() -> None:
    solid = extract_mesh(Torus(0.6, 0.2), resolution=48).to_trimesh()
    assert solid.is_watertight
    assert solid.euler_number == 0
    assert solid.volume == pytest.approx(2 * np.pi**2 * 0.6 * 0.2**2, rel=0.02)


def test_axes_are_not_exchanged() -> None:
    sphere = Sphere(0.2, center=[0.5, -0.3, 0.1])
    mesh = extract_mesh(sphere, resolution=40, bounds=Bounds([-0.2, -0.6, -0.9], [0.9, 0.2, 0.5]))
    np.testing.assert_allclose(mesh.bounds.center, [0.5, -0.3, 0.1], atol=2e-3)


def test_vertex_normals_are_the_gradient_and_outward() -> None:
    mesh = extract_mesh(Sphere(0.6), resolution=32)
    assert mesh.vertex_normals is not None
    radial = mesh.vertices / np.linalg.norm(mesh.vertices, axis=1, keepdims=True)
    np.testing.assert_allclose(mesh.vertex_normals, radial, atol=1e-5)
    assert extract_mesh(Sphere(0.6), resolution=8, vertex_normals=False).vertex_normals is None


def test_a_shape_a_million_units_away_comes_back_unharmed() -> None:
    similarity = Similarity([1e6, -2e6, 3e6], 1 / 50.0)
    mesh = extract_mesh(Sphere(0.9), resolution=48, similarity=similarity)
    unit = extract_mesh(Sphere(0.9), resolution=48)
    np.testing.assert_allclose(similarity.to_unit(mesh.vertices), unit.vertices, atol=1e-10)
    distance = np.linalg.norm(mesh.vertices - similarity.center, axis=1)
    np.testing.assert_allclose(distance, 45.0, atol=0.05)
    np.testing.assert_array_equal(mesh.faces, unit.faces)


def test_a_surface_exactly_through_lattice_samples_is_clean() -> None:
    # At spacing 1/8 the faces, edges and corners of the box lie on samples.
    solid = extract_mesh(Box([0.5, 0.25, 0.375]), resolution=17, bounds=SYMMETRIC).to_trimesh()
    assert solid.is_watertight
    assert solid.area_faces.min() > 1e-4
    assert solid.volume == pytest.approx(8 * 0.5 * 0.25 * 0.375, rel=1e-6)


def test_another_level_is_an_offset() -> None:
    mesh = extract_mesh(Sphere(0.5), resolution=64, bounds=SYMMETRIC, level=0.1)
    np.testing.assert_allclose(np.linalg.norm(mesh.vertices, axis=1), 0.6, atol=1e-3)
    inner = extract_mesh(Sphere(0.5), resolution=64, bounds=SYMMETRIC, level=-0.2, project_steps=1)
    np.testing.assert_allclose(np.linalg.norm(inner.vertices, axis=1), 0.3, atol=1e-6)


def test_no_surface_is_an_error_that_gives_the_range_of_values() -> None:
    # The lattice spans [-0.105, 0.105]; the sphere of radius 1 contains it: -1 to sqrt(3) * 0.105 - 1.
    with pytest.raises(ValueError, match=r"no surface at level 0: field is in \[-1, -0.8181\] on the grid; enlarge"):
        extract_mesh(Sphere(1.0), resolution=9, bounds=Bounds.cube(0.1))
    with pytest.raises(ValueError, match=re.escape("no surface at level 5: field is in [-0.9, 0.8")):
        extract_mesh(Sphere(0.9), resolution=9, level=5, bounds=Bounds.cube(0.95))


def test_resolution_one_and_infinite_bounds_are_refused() -> None:
    with pytest.raises(ValueError, match="resolution must be from 2 to 4096, got 1"):
        extract_mesh(Sphere(1.0), resolution=1)
    with pytest.raises(ValueError, match="infinite bounds"):
        extract_mesh(HalfSpace([0, 1, 0]))


def test_an_open_border_is_left_open_and_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        mesh = extract_mesh(HalfSpace([0, 1, 0]), resolution=8, bounds=Bounds.cube(1.0))
    assert "leaves the lattice" in caplog.text
    assert not mesh.to_trimesh().is_watertight
    np.testing.assert_allclose(mesh.vertices[:, 1], 0, atol=1e-6)
    caplog.clear()
    extract_mesh(Sphere(0.9), resolution=16)
    assert caplog.text == ""


class _Broken(Field):
    bounds = Bounds.cube(1.0)
    accuracy = "approximate"

    def __call__(self, points: Tensor) -> Tensor:
        return torch.where(points[..., 0] > 0.9, float("nan"), points.norm(dim=-1) - 0.5)


def test_values_that_are_not_finite_are_refused_with_their_number() -> None:
    with pytest.raises(ValueError, match="not finite at 81 of 729 lattice points"):
        extract_mesh(_Broken(), resolution=9)
