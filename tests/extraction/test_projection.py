"""Newton projection onto a level."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor

from sdfnet.extraction.projection import move_without_flips, newton_steps, project_to_level
from sdfnet.fields.base import Field
from sdfnet.fields.primitives import Sphere
from sdfnet.geometry.bounds import Bounds


class _Curved(Field):
    """The unit sphere as |p|² - 1: right zero set, wrong distance."""

    bounds = Bounds.cube(1.0)
    accuracy = "approximate"

    def __call__(self, points: Tensor) -> Tensor:
        return points.square().sum(dim=-1) - 1


def _points() -> Tensor:
    generator = torch.Generator().manual_seed(3)
    directions = torch.nn.functional.normalize(torch.randn(500, 3, generator=generator, dtype=torch.float64), dim=-1)
    return directions * (1 + 0.1 * torch.rand(500, 1, generator=generator, dtype=torch.float64))


def test_the_error_falls_quadratically() -> None:
    errors = []
    for steps in range(4):
        moved = project_to_level(_Curved(), _points(), steps=steps, reach=0.5)
        errors.append(float((moved.norm(dim=-1) - 1).abs().max()))
    # Newton for r² - 1: the error e becomes e² / (2 (1 + e)).
    for before, after in itertools.pairwise(errors):
        assert after == pytest.approx(before**2 / (2 * (1 + before)), rel=1e-2, abs=1e-14)


def test_no_point_moves_farther_than_the_reach() -> None:
    points = 3 * _points()
    moved = project_to_level(_Curved(), points, steps=5, reach=0.2)
    assert float((moved - points).norm(dim=-1).max()) <= 0.2


def test_a_point_without_gradient_stays_finite() -> None:
    moved = project_to_level(_Curved(), torch.zeros(1, 3), steps=3, reach=2.0)
    assert torch.isfinite(moved).all()


def test_points_reach_another_level() -> None:
    moved = project_to_level(Sphere(1.0), _points(), steps=1, reach=0.5, level=0.25)
    torch.testing.assert_close(moved.norm(dim=-1), torch.full((500,), 1.25, dtype=torch.float64))


def test_bad_arguments_are_refused_with_their_value() -> None:
    with pytest.raises(ValueError, match="steps must be at least 0, got -1"):
        project_to_level(Sphere(1.0), torch.zeros(1, 3), steps=-1, reach=1.0)
    with pytest.raises(ValueError, match=r"reach must be positive, got 0\.0"):
        project_to_level(Sphere(1.0), torch.zeros(1, 3), steps=1, reach=0.0)


def test_an_empty_batch_stays_empty() -> None:
    assert project_to_level(Sphere(1.0), torch.zeros(0, 3), steps=2, reach=1.0).shape == (0, 3)


def _steep_then_flat(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The root of x, whose Newton steps from x > 0 lead to -x, as far from zero as before."""
    x = points[:, 0]
    gradients = np.zeros_like(points)
    gradients[:, 0] = 0.5 / np.sqrt(np.maximum(np.abs(x), 1e-12))
    return np.sign(x) * np.sqrt(np.abs(x)), gradients


def test_a_step_that_does_not_help_is_halved_and_not_taken() -> None:
    start = np.array([[0.25, 0.0, 0.0]])
    assert newton_steps(_steep_then_flat, start, steps=1).points.tolist() == start.tolist()
    assert newton_steps(_steep_then_flat, start, steps=2).points[0, 0] == pytest.approx(0.0, abs=1e-12)
    assert newton_steps(_steep_then_flat, start, steps=1, take_worse=True).points[0, 0] == pytest.approx(-0.25)


def test_points_nearer_than_the_tolerance_stay_and_the_others_take_steps_of_limited_length() -> None:
    def plane(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return 4 * points[:, 2], np.tile([0.0, 0.0, 4.0], (len(points), 1))

    found = newton_steps(plane, np.array([[0, 0, 0.01], [0, 0, 0.5]]), steps=3, longest_step=0.125, tolerance=0.02)
    np.testing.assert_array_equal(found.points[:, 2], [0.01, 0.125])
    np.testing.assert_array_equal(found.values, 4 * found.points[:, 2])
    np.testing.assert_array_equal(found.gradients, plane(found.points)[1])


def test_a_move_that_turns_a_face_over_is_not_made() -> None:
    square = np.array([[0.0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0], [5, 5, 0], [6, 5, 0], [5, 6, 0]])
    faces = np.array([[0, 1, 2], [0, 2, 3], [4, 5, 6]])
    moved = square + np.array([0.0, 0.0, 0.1])
    moved[1] = [-1.0, 2.0, 0.0]  # across the diagonal
    found = move_without_flips(square, moved, faces)
    np.testing.assert_array_equal(found[[0, 1, 2]], square[[0, 1, 2]])
    np.testing.assert_array_equal(found[4:], moved[4:])
    before, after = (
        np.cross(v[faces[:, 1]] - v[faces[:, 0]], v[faces[:, 2]] - v[faces[:, 0]]) for v in (square, found)
    )
    assert (np.einsum("ij,ij->i", before, after) > 0).all()


def test_a_face_without_area_does_not_hold_its_vertices() -> None:
    line = np.array([[0.0, 0, 0], [1, 0, 0], [2, 0, 0]])
    moved = line + np.array([0.0, 1.0, 0.0])
    np.testing.assert_array_equal(move_without_flips(line, moved, np.array([[0, 1, 2]])), moved)
