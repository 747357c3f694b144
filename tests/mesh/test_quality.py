"""Angles of known triangles, and meshes that do and do not run through themselves."""

import numpy as np
import pytest

from sdfnet.extraction.extract import extract_mesh
from sdfnet.fields import Sphere
from sdfnet.mesh.mesh import Mesh, join_meshes
from sdfnet.mesh.quality import count_self_intersections, smallest_angles, triangle_quality


def test_smallest_angles_are_those_of_the_textbook() -> None:
    corners = [[0, 0, 0], [1, 0, 0], [0.5, 0.75**0.5, 0], [1, 1, 0], [2, 0.01, 0], [3, 0, 0]]
    mesh = Mesh(corners, [[0, 1, 2], [1, 3, 0], [0, 4, 1], [0, 1, 5]])
    expected = [60, 45, np.degrees(np.arctan2(0.01, 1) - np.arctan2(0.01, 2)), 0]
    assert smallest_angles(mesh.vertices, mesh.faces) == pytest.approx(expected, abs=1e-9)
    quality = triangle_quality(mesh)
    assert (quality.worst_angle, quality.good_share) == (pytest.approx(0), 0.5)


def test_every_corner_can_be_the_smallest() -> None:
    thin = np.array([[0, 0, 0], [10, 0, 0], [10, 1, 0]], dtype=float)
    for turn in range(3):
        mesh = Mesh(np.roll(thin, turn, axis=0), [[0, 1, 2]])
        assert smallest_angles(mesh.vertices, mesh.faces)[0] == pytest.approx(np.degrees(np.arctan2(1, 10)))


def test_spheres_through_each_other_are_found_and_apart_are_not() -> None:
    ball = extract_mesh(Sphere(1.0), resolution=16)
    assert count_self_intersections(ball) == 0
    for offset, crossing in ((1.0, True), (3.0, False)):
        two = join_meshes([ball, Mesh(ball.vertices + np.array([offset, 0.0137, 0.0091]), ball.faces)])
        assert (count_self_intersections(two) > 10) == crossing


def test_two_triangles_through_each_other_are_one_pair() -> None:
    corners = [[0, 0, 0], [1, 0, 0], [0, 1, 0], [0.2, 0.2, -1], [0.3, 0.2, 1], [0.2, 0.3, 1]]
    assert count_self_intersections(Mesh(corners, [[0, 1, 2], [3, 4, 5]])) == 1
    assert count_self_intersections(Mesh(corners, [[0, 1, 2]])) == 0


def brute_force_crossings(mesh: Mesh) -> set[tuple[int, int]]:
    found = set()
    for one in range(len(mesh.faces)):
        for other in range(len(mesh.faces)):
            base, *ends = mesh.triangles[other]
            for corner in range(3):
                start, stop = mesh.triangles[one][[corner, (corner + 1) % 3]]
                matrix = np.stack([ends[0] - base, ends[1] - base, start - stop], axis=1)
                if one == other or abs(np.linalg.det(matrix)) < 1e-14:
                    continue
                u, v, t = np.linalg.solve(matrix, start - base)
                if u > 1e-9 and v > 1e-9 and u + v < 1 - 1e-9 and 0 < t < 1:
                    found.add((min(one, other), max(one, other)))
    return found


def test_crossings_of_a_soup_are_as_many_as_the_obvious_loop_finds() -> None:
    random = np.random.default_rng(3)
    soup = random.normal(size=(60, 3, 3)) * random.uniform(0.1, 1.5, size=(60, 1, 1))
    mesh = Mesh(soup.reshape(-1, 3), np.arange(180).reshape(-1, 3))
    assert count_self_intersections(mesh) == len(brute_force_crossings(mesh)) > 20
