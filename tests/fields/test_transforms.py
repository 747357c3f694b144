"""Moved, mirrored, grown and hollowed fields."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from sdfnet.fields import (
    Box,
    Complement,
    Ellipsoid,
    HalfSpace,
    Mirrored,
    Offset,
    Shell,
    Sphere,
    Transformed,
    Tube,
    Union,
    rotation_about,
)


@pytest.fixture
def points(generator) -> torch.Tensor:
    return 3 * torch.randn(2000, 3, generator=generator, dtype=torch.float64)


def test_transformed_value_is_the_scaled_value_at_the_point_brought_back(points):
    box = Box([1, 2, 3])
    turn, shift = rotation_about([3, 1, -2], 77), np.array([4.0, 5.0, 6.0])
    moved = Transformed(box, rotation=turn, translation=shift, scale=2.5)
    places = torch.from_numpy(points.numpy() @ turn.T * 2.5 + shift)
    torch.testing.assert_close(moved(places), 2.5 * box(points))


def test_rotation_is_right_handed():
    np.testing.assert_allclose(rotation_about([0, 5, 0], 90) @ [0, 0, 1], [1, 0, 0], atol=1e-15)


def test_turned_box_has_the_box_of_its_corners(points):
    moved = Transformed(Box([1, 2, 3]), rotation=rotation_about([3, 1, -2], 77), translation=[4, 5, 6], scale=2.5)
    corners = np.array([[x, y, z] for x in (-1, 1) for y in (-2, 2) for z in (-3, 3)])
    places = corners @ moved.rotation.T * 2.5 + [4, 5, 6]
    np.testing.assert_allclose([moved.bounds.lower, moved.bounds.upper], [places.min(axis=0), places.max(axis=0)])


def test_turned_infinite_bounds_stay_infinite():
    bounds = Transformed(HalfSpace([0, 1, 0]), rotation=rotation_about([1, 1, 1], 30), translation=[1, 2, 3]).bounds
    assert np.isneginf(bounds.lower).all()
    assert np.isposinf(bounds.upper).all()


def test_mirrored_ball_is_two_balls(points):
    balls = Union(Sphere(0.5, center=[2, 1, 0]), Sphere(0.5, center=[-2, 1, 0]))
    torch.testing.assert_close(Mirrored(Sphere(0.5, center=[2, 1, 0]), "x")(points), balls(points))


def test_mirror_drops_what_lies_behind_it():
    field = Mirrored(Sphere(0.5, center=[-2, 0, 0]), "x")
    assert (field(torch.tensor([[2.0, 0.0, 0.0], [-2.0, 0.0, 0.0]])) > 0).all()


def test_offset_segment_is_a_capsule(points):
    thin = Tube([[0, 0, 0], [1, 1, 0]], 0.1)
    torch.testing.assert_close(Offset(thin, 0.4)(points), Tube([[0, 0, 0], [1, 1, 0]], 0.5)(points))


def test_offset_by_nothing_changes_nothing(points):
    box = Box([1, 2, 3])
    assert torch.equal(Offset(box, 0.0)(points), box(points))
    assert Offset(box, 0.0).accuracy == "exact"


def test_offset_of_a_bound_stays_in_the_grown_box():
    # An ellipsoid's bound scales the whole: its level 0.5 is half as large again, 3 beyond the far pole, not 0.5.
    spindle = Ellipsoid([1, 6, 1])
    poles = torch.tensor([[0.0, 6.4, 0.0], [0.0, 6.6, 0.0]])
    assert (spindle(poles) < 0.5).all()
    grown = Offset(spindle, 0.5)
    assert grown.bounds.upper.tolist() == [1.5, 6.5, 1.5]
    assert grown(poles).sign().tolist() == [-1, 1]


def test_offset_of_a_cavity_shrinks_it():
    grown = Offset(Complement(Sphere(2.0)), 0.5)
    assert grown(torch.tensor([[0.0, 1.4, 0.0], [0.0, 1.6, 0.0]])).sign().tolist() == [1, -1]


def test_shell_is_the_offset_without_the_erosion(points):
    ball = Sphere(2.0)
    shell = Shell(ball, 0.6)(points)
    torch.testing.assert_close(shell, torch.maximum(Offset(ball, 0.3)(points), -Offset(ball, -0.3)(points)))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Transformed(Sphere(), scale=0), "scale must be positive and finite, got 0"),
        (lambda: Transformed(Sphere(), rotation=2 * np.eye(3)), r"rotation must be an orthogonal \(3, 3\) matrix, got"),
        (lambda: rotation_about([0, 0, 0], 5), r"axis must not be zero, got \[0, 0, 0\]"),
        (lambda: rotation_about([0, 0, 1], math.inf), "degrees must be finite, got inf"),
        (lambda: Mirrored(Sphere(), "w"), "axis must be 'x', 'y' or 'z', got 'w'"),
        (lambda: Offset(Sphere(), math.nan), "radius must be finite, got nan"),
        (lambda: Shell(Sphere(), 0), "thickness must be positive and finite, got 0"),
    ],
)
def test_nonsense_is_refused_and_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
