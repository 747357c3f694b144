"""Swept solids against closed forms and against slow, obvious loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from sdfnet.fields import Box, Cylinder, Extrusion, Frustum, Ribbon, Transformed, Tube, rotation_about


def to_segment(point, start, end):
    share = np.clip(np.dot(point - start, end - start) / np.dot(end - start, end - start), 0, 1)
    return np.linalg.norm(point - start - share * (end - start))


def test_tube_of_one_radius_is_the_distance_to_its_polyline(generator):
    curve = np.array([[0, 0, 0], [1, 0.5, 0], [1, 1, 1.0]])
    points = 2 * torch.randn(200, 3, generator=generator, dtype=torch.float64)
    twin = [min(to_segment(p, *curve[i : i + 2]) for i in range(2)) - 0.2 for p in points.numpy()]
    np.testing.assert_allclose(Tube(curve, 0.2)(points), twin, atol=1e-12)


def test_closed_tube_joins_its_ends():
    triangle = [[0, 0, 0], [2, 0, 0], [0, 2, 0]]
    middle = torch.tensor([[0.0, 1.0, 0.0]], dtype=torch.float64)
    assert Tube(triangle, 0.1, closed=True)(middle).item() == pytest.approx(-0.1)
    assert Tube(triangle, 0.1)(middle).item() == pytest.approx(math.sqrt(0.5) - 0.1)


def test_tapered_tube_is_the_hull_of_its_end_balls(generator):
    # The hull of two balls is the union of all balls between them, radius and centre going linearly.
    points = 2 * torch.randn(200, 3, generator=generator, dtype=torch.float64)
    shares = torch.linspace(0, 1, 20001, dtype=torch.float64)
    centers = shares[:, None] * torch.tensor([0.0, 2.0, 0.0])
    balls = torch.cdist(points, centers) - (0.6 - 0.5 * shares)
    outside = (twin := balls.amin(dim=1)) > 0
    torch.testing.assert_close(
        Tube([[0, 0, 0], [0, 2, 0]], [0.6, 0.1])(points)[outside], twin[outside], atol=1e-6, rtol=0
    )


def test_frustum_of_equal_radii_is_a_cylinder(generator):
    points = 3 * torch.randn(500, 3, generator=generator, dtype=torch.float64)
    frustum = Frustum([0, -1.5, 0], [0, 1.5, 0], start_radius=0.7, end_radius=0.7)
    torch.testing.assert_close(frustum(points), Cylinder(0.7, 1.5)(points))


def test_frustum_does_not_care_which_end_comes_first(generator):
    points = 3 * torch.randn(500, 3, generator=generator, dtype=torch.float64)
    up = Frustum([0, 0, 0], [1, 2, 0], start_radius=0.7, end_radius=0.2)
    down = Frustum([1, 2, 0], [0, 0, 0], start_radius=0.2, end_radius=0.7)
    torch.testing.assert_close(up(points), down(points))


def test_extruded_rectangle_is_a_box_in_either_sense_of_rotation(generator):
    points = 3 * torch.randn(500, 3, generator=generator, dtype=torch.float64)
    corners = [[-1, -2], [1, -2], [1, 2], [-1, 2]]
    box = Box([1, 0.5, 2])(points)
    torch.testing.assert_close(Extrusion(corners, 0.5)(points), box)
    torch.testing.assert_close(Extrusion(corners[::-1], 0.5)(points), box)


def test_rounding_of_an_extrusion_adds_to_its_size():
    square = Extrusion([[-1, -1], [1, -1], [1, 1], [-1, 1]], 0.5, rounding=0.25)
    assert square(torch.tensor([[1.25, 0.0, 0.0], [0.0, 0.75, 0.0]])).abs().max() == 0
    assert square.bounds.upper.tolist() == [1.25, 0.75, 1.25]


def test_notch_of_an_extrusion_is_outside():
    notched = Extrusion([[-2, -2], [0, 0], [2, -2], [2, 2], [-2, 2]], 1.0)
    outside, inside = notched(torch.tensor([[0.0, 0.0, -1.0], [0.0, 0.0, 1.0]])).tolist()
    assert outside == pytest.approx(math.sqrt(0.5))
    assert inside == pytest.approx(-1.0)


@pytest.mark.parametrize("rounding", [0.0, 0.1])
def test_extrusion_says_bound_only_where_it_is_one(rounding):
    notched = Extrusion([[-2, -2], [0, 0], [2, -2], [2, 2], [-2, 2]], 1.0, rounding=rounding)
    assert notched.accuracy == ("bound" if rounding else "exact")


def test_straight_ribbon_is_a_swept_capsule(generator):
    points = 2 * torch.randn(500, 3, generator=generator, dtype=torch.float64)
    ribbon = Ribbon([[-1, 0], [1, 0]], 1e-9, radius=0.3)
    torch.testing.assert_close(ribbon(points), Tube([[-1, 0, 0], [1, 0, 0]], 0.3)(points), atol=1e-8, rtol=0)


def test_ribbon_bends_in_the_plane_of_x_and_z():
    angles = np.linspace(0, 2 * math.pi, 400, endpoint=False)
    hoop = Ribbon(np.stack([np.cos(angles), np.sin(angles)], axis=1), 0.5, radius=0.1, closed=True)
    points = torch.tensor([[0.0, 0.0, 0.0], [0.0, 0.5, 2.0], [0.0, 1.6, 1.0]], dtype=torch.float64)
    np.testing.assert_allclose(hoop(points), [0.9, 0.9, 1.0], atol=1e-4)


def test_turned_tube_equals_tube_of_turned_curve(generator):
    points = torch.randn(300, 3, generator=generator, dtype=torch.float64)
    curve, turn = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0.5]]), rotation_about([1, 1, 0], 70)
    first = Transformed(Tube(curve, [0.3, 0.2, 0.1]), rotation=turn)
    torch.testing.assert_close(first(points), Tube(curve @ turn.T, [0.3, 0.2, 0.1])(points))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Tube([[0, 0, 0]], 1), r"curve must have shape \(K, 3\) with K at least 2, got \(1, 3\)"),
        (lambda: Tube([[0, 0, 0], [0, 0, 0]], 1), "curve must not repeat a point"),
        (lambda: Tube([[0, 0, 0], [0, 1, 0]], [1, 2, 3]), r"radius must be one number or 2, got \(3,\)"),
        (lambda: Tube([[0, 0, 0], [0, 1, 0]], [0.2, 1.5]), "radius must change by less than the distance"),
        (lambda: Tube([[0, 0, 0], [0, 1, 0]], 0), "radius must be positive and finite, got 0"),
        (lambda: Frustum([0, 0, 0], [0, 0, 0], start_radius=1, end_radius=1), "start and end must differ"),
        (lambda: Extrusion([[0, 0], [1, 0]], 1), r"polygon must have shape \(K, 2\) with K at least 3, got \(2, 2\)"),
        (lambda: Ribbon([[0, 0], [math.inf, 0]], 1, radius=1), "curve must be finite"),
    ],
)
def test_nonsense_is_refused_and_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
