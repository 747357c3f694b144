"""Cameras see what they are fitted to, as large as can be."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from numpy.typing import NDArray

from sdfnet.extraction.extract import extract_mesh
from sdfnet.fields.primitives import Torus
from sdfnet.geometry.bounds import Bounds
from sdfnet.mesh.mesh import Mesh
from sdfnet.rendering.camera import Camera, camera_axes, fit_camera


def _projected(points: NDArray[np.float64], camera: Camera, size: tuple[int, int]) -> NDArray[np.float64]:
    """Return places in the picture, from -1 to 1 on both axes, written out point by point."""
    result = []
    for point in points:
        right, up, back = camera.axes @ (point - camera.position)
        result.append([right / -back, up / -back] / camera.slopes(size))
    return np.array(result)


@pytest.mark.parametrize("up_axis", ["x", "y", "z"])
def test_axes_are_a_rotation_that_keeps_up_upright(up_axis: str) -> None:
    up = np.eye(3)["xyz".index(up_axis)]
    for azimuth, elevation in itertools.product([-200, 0, 35, 90], [-90, -20, 0, 60, 90]):
        axes = camera_axes(azimuth, elevation, up_axis)  # type: ignore[arg-type]
        np.testing.assert_allclose(axes @ axes.T, np.eye(3), atol=1e-12)
        assert np.linalg.det(axes) == pytest.approx(1)
        assert axes[0] @ up == pytest.approx(0)
        assert axes[2] @ up == pytest.approx(np.sin(np.radians(elevation)))


def test_the_front_is_where_modelling_programs_have_it() -> None:
    np.testing.assert_allclose(Camera([0, 0, 0], 2, azimuth=0, elevation=0).position, [0, 0, 2], atol=1e-12)
    camera = Camera([0, 0, 0], 2, azimuth=0, elevation=0, up_axis="z")
    np.testing.assert_allclose(camera.position, [0, -2, 0], atol=1e-12)
    np.testing.assert_allclose(camera.turned(90).position, [2, 0, 0], atol=1e-12)


@pytest.mark.parametrize("size", [(640, 480), (300, 700), (200, 200)])
@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_a_fitted_camera_leaves_exactly_the_margin(size: tuple[int, int], offset: float) -> None:
    points = np.random.default_rng(1).normal(size=(60, 3)) * [3, 1, 0.5] + offset
    mesh = Mesh(points, np.arange(60).reshape(-1, 3))
    places = _projected(points, fit_camera(mesh, size=size, azimuth=40, elevation=25), size)
    reach = np.abs(places).max(axis=0)
    assert reach.max() == pytest.approx(0.92, abs=1e-6)
    # As much room on one side as on the other.
    np.testing.assert_allclose(places.max(axis=0), -places.min(axis=0), atol=1e-6)


def test_a_camera_for_many_shapes_sees_them_all_and_stands_on_the_lowest() -> None:
    shapes = [Bounds([0, 1, 0], [1, 2, 1]), Bounds([5, -3, 0], [6, 0, 2]), Mesh(np.eye(3) * 9, [[0, 1, 2]])]
    camera = fit_camera(shapes)
    corners = np.array([[0, 1, 0], [1, 2, 1], [5, -3, 0], [6, 0, 2], [9, 0, 0], [0, 9, 0], [0, 0, 9]], dtype=float)
    assert np.abs(_projected(corners, camera, (640, 480))).max() < 1
    assert camera.ground == -3
    assert fit_camera(shapes, up_axis="z").ground == 0


def test_a_turntable_loses_sight_of_nothing() -> None:
    mesh = extract_mesh(Torus(1.0, 0.2, center=[4, 0, 0]), resolution=16)
    camera = fit_camera(mesh, turntable=True)
    reach = [np.abs(_projected(mesh.vertices, camera.turned(turn), (640, 480))).max() for turn in range(0, 360, 7)]
    assert max(reach) < 0.93
    assert max(reach) > 0.87


def test_bad_arguments_are_refused_with_their_value() -> None:
    with pytest.raises(ValueError, match=r"elevation must be in \[-90, 90\] degrees, got 91"):
        fit_camera(Bounds.cube(1), elevation=91)
    with pytest.raises(ValueError, match="up_axis must be x, y or z, got 'w'"):
        fit_camera(Bounds.cube(1), up_axis="w")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no shapes"):
        fit_camera([])
    with pytest.raises(ValueError, match="infinite bounds"):
        fit_camera(Bounds.infinite())
    with pytest.raises(ValueError, match="no extent"):
        fit_camera(Bounds([1, 2, 3], [1, 2, 3]))
    with pytest.raises(ValueError, match="without faces"):
        fit_camera(Mesh(np.eye(3), np.zeros((0, 3), dtype=int)))
    with pytest.raises(ValueError, match="distance must be positive and finite, got 0"):
        Camera([0, 0, 0], 0)
