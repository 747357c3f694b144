"""Distances known in closed form, at points inside, on, outside and at corners."""

from __future__ import annotations

import math

import pytest
import torch

from sdfnet.fields import Box, Cylinder, Ellipsoid, HalfSpace, Sphere, Torus


def values(field, *points):
    return field(torch.tensor(points, dtype=torch.float64)).tolist()


def test_sphere():
    assert values(Sphere(2.0, center=[1, 0, 0]), (1, 0, 0), (1, 2, 0), (1, 3, 4), (4, 4, 0)) == [-2, 0, 3, 3]


def test_box_inside_on_face_edge_and_corner():
    box = Box([1, 2, 3], center=[10, 0, 0])
    assert values(box, (10, 0, 0), (10.5, 0, 0), (11, 0, 0), (14, 6, 0), (12, 4, 5)) == [-1, -0.5, 0, 5, 3]


def test_rounded_box_has_the_outer_size_and_round_corners():
    box = Box([2, 2, 2], rounding=0.5)
    flat, corner = values(box, (3, 0, 0), (2, 2, 2))
    assert flat == 1
    assert corner == pytest.approx(0.5 * math.sqrt(3) - 0.5)


def test_half_space_does_not_care_for_the_length_of_its_normal():
    assert values(HalfSpace([0, 0, 10], point=[0, 0, 2]), (7, 7, 5), (0, 0, -1)) == [3, -3]


def test_cylinder_side_cap_and_rim():
    assert values(Cylinder(1, 2, center=[0, 2, 0]), (0, 0, 3), (0, 6, 0), (0, 7, 5), (0, 2, 0)) == [2, 2, 5, -1]


def test_rounded_cylinder_rim():
    (rim,) = values(Cylinder(1, 2, rounding=0.5), (1, 2, 0))
    assert rim == pytest.approx(0.5 * math.sqrt(2) - 0.5)


def test_torus_in_the_hole_and_in_the_tube():
    assert values(Torus(3, 1), (0, 0, 0), (3, 0, 0), (0, 4, 3), (7, 3, 0)) == [2, -1, 3, 4]


def test_ellipsoid_is_zero_at_its_poles_and_never_overestimates():
    ellipsoid = Ellipsoid([1, 2, 5])
    assert values(ellipsoid, (1, 0, 0), (0, -2, 0), (0, 0, 5)) == [0, 0, 0]
    points = torch.tensor([[0.0, 0.0, 9.0], [0.0, 0.0, 0.0], [0.0, 6.0, 0.0]], dtype=torch.float64)
    assert (ellipsoid(points).abs() <= torch.tensor([4.0, 1.0, 4.0])).all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Sphere(-1), "radius must be positive and finite, got -1"),
        (lambda: Sphere(math.nan), "radius must be positive and finite, got nan"),
        (lambda: Sphere(1, center=[0, 1]), r"center must be three finite numbers, got \[0, 1\]"),
        (lambda: Box([1, 0, 1]), r"half_extents must be positive, got \[1, 0, 1\]"),
        (lambda: Box([1, 2, 3], rounding=1.5), "rounding must not exceed the smallest half extent 1.0, got 1.5"),
        (lambda: Box([1, 2, 3], rounding=-1), "rounding must be zero or more and finite, got -1"),
        (lambda: Cylinder(1, 2, rounding=1.5), "rounding must not exceed radius 1 and half_height 2, got 1.5"),
        (lambda: Torus(1, 1), "minor_radius must be below major_radius 1, got 1"),
        (lambda: HalfSpace([0, 0, 0]), r"normal must not be zero, got \[0, 0, 0\]"),
        (lambda: Ellipsoid([1, 1, -1]), r"semi_axes must be positive, got \[1, 1, -1\]"),
    ],
)
def test_nonsense_is_refused_and_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
