"""Sharp edges and corners against closed forms, and what sharpening must leave as it is."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch
from exact_spheres import sphere_run
from scipy.spatial import cKDTree

from sdfnet.extraction import extract, extract_mesh
from sdfnet.extraction.marching_cubes import march
from sdfnet.extraction.sharp_features.detect import bent_vertices, faces_around
from sdfnet.extraction.sharp_features.qef import find_crossings, intersect_planes
from sdfnet.fields import (
    Box,
    Cylinder,
    Difference,
    Field,
    HalfSpace,
    Intersection,
    Sphere,
    Torus,
    Transformed,
    evaluate,
    rotation_about,
)
from sdfnet.geometry.bounds import Bounds, Lattice
from sdfnet.mesh.distance import MeshDistance
from sdfnet.mesh.mesh import Mesh
from sdfnet.mesh.quality import count_self_intersections
from sdfnet.mesh.topology import Closedness, check_closed

HALF = np.array([0.8, 0.5, 0.6])
TURN = rotation_about([1, 2, 0.5], 31)
BRACKET = Difference(Box(HALF), Cylinder(0.3, 2.0))
SIGNS = 2 * np.array(list(np.ndindex(2, 2, 2))) - 1


def sharp_mesh(field: Field, resolution: int, **options) -> Mesh:
    return extract_mesh(field, resolution=resolution, sharp=True, **options)


def spacing_of(field: Field, resolution: int) -> float:
    return Lattice.over(field.bounds, resolution).spacing


def edge_points() -> np.ndarray:
    """Points along the twelve edges of the box and the rims of the hole."""
    along, turn = np.linspace(-1, 1, 500), np.linspace(0, 2 * np.pi, 1000)
    lines = []
    for axis in range(3):
        for signs in SIGNS[SIGNS[:, axis] > 0]:
            points = np.tile(signs * HALF, (len(along), 1))
            points[:, axis] *= along
            lines.append(points)
    for side in (-HALF[1], HALF[1]):
        lines.append(np.stack([0.3 * np.cos(turn), np.full_like(turn, side), 0.3 * np.sin(turn)], axis=1))
    return np.concatenate(lines)


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("resolution", [24, 41, 64])
def test_the_corners_of_a_box_are_exact(resolution: int, turned: bool) -> None:
    box = Transformed(Box(HALF), rotation=TURN if turned else np.eye(3))
    corners = (SIGNS * HALF) @ TURN.T if turned else SIGNS * HALF
    mesh = sharp_mesh(box, resolution)
    assert cKDTree(mesh.vertices).query(corners)[0].max() < 1e-3 * spacing_of(box, resolution)
    assert mesh.signed_volume == pytest.approx(8 * HALF.prod(), rel=2e-4)


@pytest.mark.parametrize("turned", [False, True])
def test_a_box_less_a_cylinder_keeps_its_edges_straight(turned: bool) -> None:
    field = Transformed(BRACKET, rotation=TURN) if turned else BRACKET
    edges = edge_points() @ TURN.T if turned else edge_points()
    spacing = spacing_of(field, 64)
    plain = MeshDistance(extract_mesh(field, resolution=64)).unsigned(edges).distance / spacing
    mesh = sharp_mesh(field, 64)
    found = MeshDistance(mesh).unsigned(edges).distance / spacing
    assert plain.mean() > 0.3
    assert found.mean() < 1e-3
    assert (found > 0.1).mean() < 0.002  # a gap that nothing could close
    assert found.max() < (0.3 if turned else 0.01)
    assert mesh.signed_volume == pytest.approx(8 * HALF.prod() - np.pi * 0.09, rel=1e-3)
    assert check_closed(mesh).is_clean
    assert count_self_intersections(mesh) == 0


def test_the_rim_of_a_cylinder_is_a_circle_and_converges_as_the_square() -> None:
    off = []
    for resolution in (33, 65):
        field = Cylinder(0.5, 1.0)
        mesh = sharp_mesh(field, resolution)
        solid = mesh.to_trimesh()
        ends = np.unique(solid.face_adjacency_edges[solid.face_adjacency_angles > np.radians(60)])
        ring = mesh.vertices[ends]
        apart = np.hypot(np.hypot(ring[:, 0], ring[:, 2]) - 0.5, np.abs(ring[:, 1]) - 1.0)
        assert len(ends) > 50
        assert apart.max() < 2e-3 * spacing_of(field, resolution)
        off.append(np.pi * 0.5 - mesh.signed_volume)
    assert 3.0 < off[0] / off[1] < 5.5


def test_normals_at_an_edge_are_between_its_sides() -> None:
    mesh = sharp_mesh(Box([1.0, 1.0, 1.0]), 24)
    corner = cKDTree(mesh.vertices).query([1.0, 1.0, 1.0])[1]
    assert mesh.vertex_normals is not None
    assert (mesh.vertex_normals[corner] > 0.3).all()


@pytest.mark.parametrize(
    "field", [Sphere(0.6), Torus(0.6, 0.2), Box([0.7, 0.5, 0.4], rounding=0.3), HalfSpace([0.3, 1, 0.2])]
)
@pytest.mark.parametrize("resolution", [20, 48])
def test_what_is_smooth_is_left_alone(field: Field, resolution: int) -> None:
    bounds = Bounds.cube(1.0)
    plain, sharp = (extract_mesh(field, resolution=resolution, bounds=bounds, sharp=sharp) for sharp in (False, True))
    np.testing.assert_array_equal(sharp.vertices, plain.vertices)
    np.testing.assert_array_equal(sharp.faces, plain.faces)


def test_a_learned_sphere_is_left_alone() -> None:
    run = sphere_run({"ball": 0.6})
    plain, sharp = (extract_mesh(run.field("ball"), resolution=40, sharp=sharp) for sharp in (False, True))
    np.testing.assert_array_equal(sharp.vertices, plain.vertices)


@pytest.mark.parametrize("resolution", [32, pytest.param(49, marks=pytest.mark.slow)])
def test_every_field_stays_as_sound_as_it_was(example, resolution: int, caplog: pytest.LogCaptureFixture) -> None:
    field = example.make()
    bounds = field.bounds if field.bounds.is_finite else Bounds.cube(2.5)
    with caplog.at_level(logging.WARNING):
        plain, sharp = (
            extract_mesh(field, resolution=resolution, bounds=bounds, sharp=sharp, vertex_normals=False)
            for sharp in (False, True)
        )
    assert check_closed(sharp) == check_closed(plain)
    assert "with its sharp edges" not in caplog.text
    assert euler_number(sharp) == euler_number(plain)
    # The star's tips are thinner than a spacing at their ends: there the two sides' vertices may pass one another.
    assert count_self_intersections(sharp) <= (5 if example.name == "star" else 0)  # overlaps in a plane count, too


def euler_number(mesh: Mesh) -> int:
    edges = np.sort(mesh.faces[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2), axis=1)
    return len(np.unique(mesh.faces)) - len(np.unique(edges, axis=0)) + len(mesh.faces)


def test_dense_and_sparse_extraction_are_sharpened_alike() -> None:
    field = Transformed(BRACKET, rotation=TURN)
    dense, sparse = (sharp_mesh(field, 64, sparse=sparse) for sparse in (False, True))
    assert len(dense.faces) == len(sparse.faces)
    assert cKDTree(dense.vertices).query(sparse.vertices)[0].max() < 1e-3 * spacing_of(field, 64)


def test_another_level_and_frame() -> None:
    far = Transformed(Box([1.0, 0.7, 0.5]), rotation=TURN, translation=[300, -200, 100])
    mesh = sharp_mesh(far, 40, dtype=torch.float64, level=-0.1)
    corners = (SIGNS * [0.9, 0.6, 0.4]) @ TURN.T + [300, -200, 100]
    assert cKDTree(mesh.vertices).query(corners)[0].max() < 1e-3 * spacing_of(far, 40)


def test_a_blunt_edge_is_an_edge_and_a_bend_is_none() -> None:
    for degrees, is_edge in ((40, True), (10, False)):
        half = np.radians(degrees / 2)
        roof = Intersection(HalfSpace([np.sin(half), np.cos(half), 0]), HalfSpace([-np.sin(half), np.cos(half), 0]))
        plain, sharp = (extract_mesh(roof, resolution=40, bounds=Bounds.cube(1.0), sharp=s) for s in (False, True))
        # On the lattice's middle plane the edge is cut by marching cubes; its top is at the origin.
        assert (len(sharp.faces) != len(plain.faces)) == is_edge


def test_three_planes_meet_in_a_point_and_two_along_a_line() -> None:
    normals = np.eye(3)[None]
    points = np.array([[[1.0, 5, 7], [4, 2, 9], [8, 6, 3]]])
    used = np.ones((1, 3), dtype=bool)
    place, is_corner = intersect_planes(points, normals, used, np.zeros((1, 3)))
    np.testing.assert_allclose(place, [[1, 2, 3]])
    assert is_corner.all()
    used[0, 2] = False
    normals = normals * used[..., None]
    place, is_corner = intersect_planes(points, normals, used, np.array([[0.0, 0, 11]]))
    np.testing.assert_allclose(place, [[1, 2, 11]])
    assert not is_corner.any()


def test_crossings_are_found_on_their_lattice_edges() -> None:
    def sample(positions: np.ndarray) -> np.ndarray:
        return (positions[:, 0] ** 3 - 0.2).astype(np.float32)

    moved = find_crossings(np.array([[0.5, 0, 0], [0.0, 0.3, 0.0], [0, 0, 0]]), sample)
    np.testing.assert_allclose(moved[0], [0.2 ** (1 / 3), 0, 0], atol=1e-4)
    np.testing.assert_array_equal(moved[1:], [[0, 0.3, 0], [0, 0, 0]])


def test_only_vertices_near_edges_are_examined() -> None:
    """The part around bent vertices holds every edge, and nothing else, of a fine box that is turned."""
    field = Transformed(Box(HALF), rotation=TURN)
    lattice = Lattice.over(field.bounds, 96)
    points = lattice.origin + lattice.spacing * np.moveaxis(np.indices(lattice.shape), 0, -1)
    values = evaluate(field, torch.from_numpy(points).float()).numpy()
    marched = march(values, spacing=lattice.spacing)
    bent = bent_vertices(marched)
    places = (lattice.origin + lattice.spacing * marched.vertices) @ TURN  # in the box's own axes
    beside = np.sort(HALF - np.abs(places), axis=1)[:, 1] / lattice.spacing  # from the nearest edge
    assert bent[beside < 0.5].mean() > 0.9
    assert bent[beside > 3].mean() < 0.01  # slivers
    near = faces_around(marched.faces, bent)
    assert near.mean() < 0.6
    assert near[(beside[marched.faces] < 1).any(axis=1)].all()


def test_damage_is_warned_of_with_what_to_do_unless_the_caller_does_it(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(extract, "check_closed", lambda mesh: Closedness(0, 0, 0, 0, len(mesh.faces), 0))
    extract_mesh(Box([0.5] * 3), resolution=12, sharp=True, warn_if_damaged=False)
    assert caplog.text == ""
    extract_mesh(Box([0.5] * 3), resolution=12, sharp=True)
    assert "degenerate faces; another resolution or sharp=false may help" in caplog.text
