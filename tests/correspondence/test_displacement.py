"""The smooth motion behind a normal motion."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from sdfnet.correspondence.flow import farthest_points, fit_displacement

Points = NDArray[np.float64]


def ellipsoid(count: int = 4000) -> tuple[Points, Points]:
    """Points of an ellipsoid of three different axes about a place that is not the origin, and its normals."""
    directions = np.random.default_rng(0).normal(size=(count, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    axes = np.array([0.25, 0.4, 0.8])
    normals = directions / axes
    return directions * axes + [0.05, -0.1, 0.02], normals / np.linalg.norm(normals, axis=1, keepdims=True)


def turn(p: Points) -> Points:
    return np.cross([0.3, -0.5, 0.2], p)


def stretch(p: Points) -> Points:
    return p * [0.6, 0.0, -0.2]


def twist(p: Points) -> Points:
    return np.stack([-p[:, 2] * p[:, 1], p[:, 2] * p[:, 0], 0 * p[:, 2]], axis=1)


def bend(p: Points) -> Points:
    return np.stack([p[:, 2] ** 2 / 2, 0 * p[:, 1], -p[:, 0] * p[:, 2]], axis=1)


@pytest.mark.parametrize("motion", [turn, stretch, twist, bend])
def test_the_motion_found_agrees_with_the_normal_motion(motion: Callable[[Points], Points]) -> None:
    points, normals = ellipsoid()
    along = (0.05 * motion(points) * normals).sum(axis=1)
    found = fit_displacement(points, normals, along, farthest_points(points))
    assert np.abs((found * normals).sum(axis=1) - along).max() < 0.03 * np.abs(along).max()


def test_a_stretch_is_found_from_its_part_along_the_normals() -> None:
    points, normals = ellipsoid()
    truth = 0.05 * stretch(points)
    found = fit_displacement(points, normals, (truth * normals).sum(axis=1), farthest_points(points))
    assert np.linalg.norm(found - truth, axis=1).mean() < 0.01 * np.linalg.norm(truth, axis=1).mean()


def test_a_sphere_that_only_turns_stays_where_it_is() -> None:
    points, _ = ellipsoid()
    points = points - points.mean(axis=0)
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    found = fit_displacement(points, points, np.zeros(len(points)), farthest_points(points))
    assert np.abs(found).max() < 1e-9


@pytest.mark.parametrize("motion", [turn, stretch, twist, bend])
def test_what_is_found_does_not_depend_on_the_axes(motion: Callable[[Points], Points]) -> None:
    points, normals = ellipsoid()
    distances = (0.05 * motion(points) * normals).sum(axis=1)
    centers = farthest_points(points)
    rotation = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))[0]
    found = fit_displacement(points, normals, distances, centers)
    turned = fit_displacement(points @ rotation.T, normals @ rotation.T, distances, centers)
    assert np.abs(turned - found @ rotation.T).max() < 1e-6


def test_centers_are_spread_and_never_twice_the_same() -> None:
    points, _ = ellipsoid()
    centers = farthest_points(points, 50)
    assert len(np.unique(centers)) == 50
    apart = np.linalg.norm(points[centers][:, None] - points[centers], axis=2)
    nearest = np.where(apart > 0, apart, np.inf).min(axis=1)
    assert nearest.min() > 0.6 * np.median(nearest)
