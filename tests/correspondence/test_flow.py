"""The steadiest motion behind a sequence of surfaces whose motion is known."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from sdfnet.correspondence.flow import (
    Flow,
    MotionBasis,
    NormalSpeeds,
    farthest_points,
    fit_displacement,
    fit_flow,
    fit_flow_to_speeds,
)
from sdfnet.fields.base import Field
from sdfnet.fields.primitives import Sphere

Points = NDArray[np.float64]
TIMES = np.linspace(0, 1, 7).tolist()


def ball(count: int = 400) -> Points:
    """Points spread evenly over the unit sphere: Fibonacci's."""
    height = 1 - (2 * np.arange(count) + 1) / count
    angle = np.pi * (3 - np.sqrt(5)) * np.arange(count)
    around = np.sqrt(1 - height**2)
    return np.stack([around * np.cos(angle), around * np.sin(angle), height], axis=1)


def bent(points: Points, amount: float) -> Points:
    """Bend the z axis into an arc of curvature `amount`."""
    if amount == 0:
        return points
    x, y, z = points.T
    return np.stack(
        [1 / amount - (1 / amount - x) * np.cos(z * amount), y, (1 / amount - x) * np.sin(z * amount)], axis=1
    )


def stretched(points: Points, amount: float) -> Points:
    return points * [1 + amount, 1, 1 - 0.3 * amount]


def drifting(points: Points, amount: float) -> Points:
    """Shift, ever faster, and grow."""
    return points * (1 + 0.5 * amount) + [amount + amount**2, 0.2 * amount, 0]


Move = Callable[[Points, float], Points]


def velocity_of(move: Move, start: Points, amount: float) -> Points:
    small = 1e-5
    return (move(start, amount + small) - move(start, amount)) / small


def seen_of(
    move: Move, start: Points, times: list[float], pace: Callable[[float], float] = lambda time: 1.0
) -> list[NormalSpeeds]:
    """What a moved unit sphere shows, at amounts equal to the times; normals from the map's derivative."""
    seen = []
    for time in times:
        gradient = np.stack(
            [(move(start + 1e-5 * axis, time) - move(start, time)) / 1e-5 for axis in np.eye(3)], axis=2
        )
        normals = np.linalg.solve(gradient.transpose(0, 2, 1), start[:, :, None])[:, :, 0]
        normals /= np.linalg.norm(normals, axis=1, keepdims=True)
        speeds = pace(time) * (velocity_of(move, start, time) * normals).sum(axis=1)
        seen.append(NormalSpeeds(move(start, time), normals, speeds))
    return seen


def found(seen: list[NormalSpeeds], times: list[float]) -> Flow:
    motion = fit_flow_to_speeds(seen, times)
    assert motion is not None
    return motion


def velocity_at(motion: Flow, index: int, points: Points) -> Points:
    return motion.basis.values(points) @ motion.velocities[index]


def relative_error(motion: Flow, move: Move, start: Points, times: list[float], index: int) -> float:
    truth = velocity_of(move, start, times[index])
    error = velocity_at(motion, index, move(start, times[index])) - truth
    return float(np.linalg.norm(error) / np.linalg.norm(truth))


@pytest.mark.parametrize("move", [stretched, drifting])
def test_motions_that_are_affine_at_each_time_are_found_however_they_change(move: Move) -> None:
    motion = found(seen_of(move, ball(), TIMES), TIMES)
    assert max(relative_error(motion, move, ball(), TIMES, index) for index in range(len(TIMES))) < 0.02


def test_the_bean_that_it_becomes_tells_how_a_sphere_begins_to_bend() -> None:
    """To 0.12 of it; with fifty times the price on changes 0.18, with a twentieth 0.29."""
    seen = seen_of(bent, ball(), TIMES)
    motion = found(seen, TIMES)
    alone = fit_displacement(seen[0].points, seen[0].normals, seen[0].speeds, farthest_points(seen[0].points))
    truth = velocity_of(bent, ball(), 0)
    assert np.linalg.norm(alone - truth) > 1.0 * np.linalg.norm(truth)  # nothing at that time alone tells
    assert relative_error(motion, bent, ball(), TIMES, 0) < 0.15


def test_errors_of_a_learned_field_make_few_bends_of_a_stretch() -> None:
    """They make 0.23; with half the price of bends, or none on forces, 0.26."""
    generator = np.random.default_rng(0)
    waves, phases = 5 * generator.normal(size=(3, 6)), generator.uniform(0, 2 * np.pi, 6)
    times = np.linspace(0, 0.6, 7).tolist()
    seen = [
        NormalSpeeds(one.points, one.normals, one.speeds + 0.06 * np.cos(one.normals @ waves + phases).sum(axis=1))
        for one in seen_of(stretched, ball(), times)
    ]
    motion = found(seen, times)
    assert max(relative_error(motion, stretched, ball(), times, index) for index in (0, 3, 6)) < 0.25


def all_three(points: Points, amount: float) -> Points:
    """Stretch a body of radius 0.55, twist it about the z axis and bend that."""
    x, y, z = (0.55 * points * [1 + amount, 1, 1 - 0.3 * amount]).T
    cosine, sine = np.cos(amount * z), np.sin(amount * z)
    return bent(np.stack([cosine * x - sine * y, sine * x + cosine * y, z], axis=1), amount)


@pytest.mark.parametrize(("move", "amount", "most"), [(bent, 0.66, 0.3), (all_three, 0.8, 0.5)])
def test_a_sphere_goes_where_it_belongs(move: Move, amount: float, most: float) -> None:
    """Shares of the error of the nearest point of the end.

    With half the price of bends the first comes to 0.45, without prices on forces and turns the second to 1.
    """
    times = np.linspace(0, amount, 17).tolist()
    motion = found(seen_of(move, ball(), times), times)
    start = ball(1000)
    places = move(start, 0)
    for span in itertools.pairwise(np.linspace(0, amount, 65).tolist()):
        places = places + motion.displacement(places, span)
    truth, end = move(start, amount), move(ball(20_000), amount)
    carried = np.linalg.norm(places - truth, axis=1).mean()
    nearest = np.linalg.norm(end[cKDTree(end).query(move(start, 0))[1]] - truth, axis=1).mean()
    assert carried < most * nearest


def test_a_body_that_shows_a_turn_is_turned() -> None:
    def turned(points: Points, amount: float) -> Points:
        pear = points * [1, 0.6, 0.8] * (1 + 0.3 * points[:, :1] ** 3 + 0.2 * points[:, 2:] ** 3)
        cosine, sine = np.cos(amount + amount**2), np.sin(amount + amount**2)
        return pear @ np.array([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1]]).T

    motion = found(seen_of(turned, ball(), TIMES), TIMES)
    assert max(relative_error(motion, turned, ball(), TIMES, index) for index in range(len(TIMES))) < 0.02


def test_motion_turns_shifts_and_scales_with_what_is_seen() -> None:
    seen = seen_of(bent, ball(), TIMES)
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    turn *= np.sign(np.linalg.det(turn))
    other = [NormalSpeeds(3 * one.points @ turn.T + [1, 2, 3], one.normals @ turn.T, 3 * one.speeds) for one in seen]
    first, again = found(seen, TIMES), found(other, TIMES)
    for index in (0, 3):
        expected = 3 * velocity_at(first, index, seen[index].points) @ turn.T
        assert np.abs(velocity_at(again, index, other[index].points) - expected).max() < 1e-4


def test_the_speed_of_the_morph_does_not_matter() -> None:
    """Twice the way in the first half: the same motion at each place, in proportion to the pace there."""
    slow = found(seen_of(bent, ball(), TIMES), TIMES)
    times = [time**2 for time in TIMES]  # the amount is the square root of the time
    seen = seen_of(bent, ball(), TIMES)
    paces = [1 / (2 * max(amount, 0.1)) for amount in TIMES]
    eased = [NormalSpeeds(one.points, one.normals, pace * one.speeds) for one, pace in zip(seen, paces, strict=True)]
    quick = found(eased, times)
    points = seen[3].points
    difference = velocity_at(quick, 3, points) / paces[3] - velocity_at(slow, 3, points)
    assert np.linalg.norm(difference) < 0.1 * np.linalg.norm(velocity_at(slow, 3, points))


def test_second_derivatives_are_those_of_the_functions() -> None:
    points = ball(50)
    basis = MotionBasis.over(points, points[farthest_points(points, 12)])
    bends = basis.second_derivatives(points).reshape(6, 50, -1)
    small, axes = 1e-4, np.eye(3)
    for row, (i, j) in enumerate([(0, 0), (1, 1), (2, 2), (0, 1), (1, 2), (2, 0)]):
        a, b = small * axes[i], small * axes[j]
        corners = [(points + s * a + t * b, s * t) for s in (-1, 1) for t in (-1, 1)]
        twin = sum(sign * basis.values(place) for place, sign in corners) / (4 * small**2)
        factor = basis.radius**2 * (1 if i == j else np.sqrt(2))
        assert np.abs(bends[row] - factor * twin).max() < 1e-5 * np.abs(bends).max()


def test_bends_and_twists_need_no_force_and_the_conformal_motion_of_a_sphere_does() -> None:
    points = np.random.default_rng(0).normal(size=(50, 3))  # on an ellipsoid quadratic functions are not independent
    basis = MotionBasis.over(points, points[farthest_points(points, 12)])
    x, y, z = ((points - basis.middle) / basis.radius).T
    zero = np.zeros_like(x)

    def force_of(motion: Points) -> Points:
        coefficients = np.zeros((22, 3))
        coefficients[:10] = np.linalg.lstsq(basis.values(points)[:, :10], motion, rcond=None)[0]
        return (basis.elastic_forces(points) @ coefficients.T.ravel()).reshape(3, -1).T

    for motion in ([x + 2 * y, z, x], [z * z / 2, zero, -x * z], [-z * y, z * x, zero]):
        assert np.abs(force_of(np.stack(motion, axis=1))).max() < 1e-8
    conformal = np.stack([y * y + z * z - x * x, -2 * x * y, -2 * x * z], axis=1)
    assert np.abs(force_of(conformal) - [-4, 0, 0]).max() < 1e-8


def test_forces_and_turns_are_derivatives_of_the_functions() -> None:
    points = ball(50) * [1, 0.5, 0.7] + [0.3, 0, 0.1]
    basis = MotionBasis.over(points, points[farthest_points(points, 12)])
    turns, forces = basis.rotations(points).reshape(3, 3, -1), basis.elastic_forces(points).reshape(3, 50, 3, -1)
    step = 1e-4 * basis.radius

    def second(i: int, j: int) -> Points:
        """The second derivatives (V, B) in units of 1 / radius²."""
        a, b = step * np.eye(3)[i], step * np.eye(3)[j]
        corners = [(points + s * a + t * b, s * t) for s in (-1, 1) for t in (-1, 1)]
        return sum(sign * basis.values(place) for place, sign in corners) / (4 * 1e-8)

    laplacian = sum(second(i, i) for i in range(3))
    for i, j in itertools.product(range(3), repeat=2):
        assert np.abs(forces[i, :, j] - second(i, j) - (laplacian if i == j else 0)).max() < 1e-5 * np.abs(forces).max()
    slopes = [
        (basis.values(points + step * axis) - basis.values(points - step * axis)).mean(axis=0) / 2e-4
        for axis in np.eye(3)
    ]
    for row, (i, j) in enumerate([(0, 1), (1, 2), (2, 0)]):
        assert np.abs(turns[row, i] - slopes[j] / np.sqrt(2)).max() < 1e-6
        assert np.abs(turns[row, j] + slopes[i] / np.sqrt(2)).max() < 1e-6
        assert not turns[row, 3 - i - j].any()


def test_samples_follow_the_surface_and_measure_its_speed() -> None:
    def field_at(time: float) -> Field:
        return Sphere(0.4 + 0.2 * time, center=[0.5 * time - 0.25, 0.0, 0.0])

    motion = fit_flow(field_at, TIMES, 0.4 * ball() - [0.25, 0, 0])
    assert motion is not None
    start = 0.4 * ball()
    for index, time in enumerate(TIMES):
        points = start * (0.4 + 0.2 * time) / 0.4 + [0.5 * time - 0.25, 0, 0]
        assert np.abs(velocity_at(motion, index, points) - (start / 2 + [0.5, 0, 0])).max() < 0.02


def test_one_time_or_no_surface_gives_no_motion() -> None:
    seen = seen_of(stretched, ball(), TIMES)
    assert fit_flow_to_speeds(seen[:1], TIMES[:1]) is None
    nothing = NormalSpeeds(np.zeros((0, 3)), np.zeros((0, 3)), np.zeros(0))
    assert fit_flow_to_speeds([*seen[:-1], nothing], TIMES) is None
