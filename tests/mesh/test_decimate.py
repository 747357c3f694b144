"""Fewer faces: the number asked for, the same topology, and a surface no farther off than said."""

from __future__ import annotations

import re

import numpy as np
import pytest

from sdfnet.extraction import extract_mesh, with_field_normals
from sdfnet.fields import Box, Cylinder, Difference, Sphere, Torus
from sdfnet.mesh.distance import MeshDistance
from sdfnet.mesh.mesh import Mesh, join_meshes
from sdfnet.mesh.quality import count_self_intersections
from sdfnet.mesh.remesh import simplify_mesh
from sdfnet.mesh.topology import check_closed, components_and_genus


@pytest.mark.parametrize(
    ("field", "genus", "volume"),
    [
        (Sphere(0.8), 0, 4 / 3 * np.pi * 0.8**3),
        (Torus(0.6, 0.2), 1, 2 * np.pi**2 * 0.6 * 0.2**2),
        (Difference(Box([0.8, 0.5, 0.6]), Cylinder(0.3, 2.0)), 1, 8 * 0.8 * 0.5 * 0.6 - np.pi * 0.09),
    ],
)
def test_shape_survives(field, genus: int, volume: float) -> None:
    mesh = extract_mesh(field, resolution=64, sharp=True)
    for max_faces, error in ((4000, 0.006), (1000, 0.015)):
        found = simplify_mesh(mesh, max_faces=max_faces)
        assert max_faces - 1 <= len(found.mesh.faces) <= max_faces
        assert found.num_faces_before == len(mesh.faces)
        assert check_closed(found.mesh).is_clean
        assert components_and_genus(found.mesh).genus == genus
        # Faces of one flat side may overlap in its plane, which counts; none runs through another.
        assert count_self_intersections(found.mesh) <= (4 if isinstance(field, Difference) else 0)
        assert found.mesh.signed_volume == pytest.approx(volume, rel=error)


def test_the_distance_is_the_one_measured() -> None:
    mesh = extract_mesh(Torus(0.6, 0.2), resolution=48)
    found = simplify_mesh(mesh, max_faces=600)
    points = np.concatenate([found.mesh.vertices, found.mesh.triangles.mean(axis=1)])
    there = MeshDistance(mesh).unsigned(points).distance.max()
    back = MeshDistance(found.mesh).unsigned(mesh.vertices).distance.max()
    assert max(there, back) <= found.distance < 0.02


def test_a_mesh_far_away_and_large_is_simplified_alike() -> None:
    mesh = extract_mesh(Torus(0.6, 0.2), resolution=32, vertex_normals=False)
    far = Mesh(1000 * mesh.vertices + 1e5, mesh.faces)
    near, there = simplify_mesh(mesh, max_faces=500), simplify_mesh(far, max_faces=500)
    assert len(there.mesh.faces) == len(near.mesh.faces)
    assert there.distance == pytest.approx(1000 * near.distance, rel=0.2)
    assert there.mesh.signed_volume == pytest.approx(1e9 * near.mesh.signed_volume, rel=0.01)


def test_what_cannot_be_reached_is_said(caplog: pytest.LogCaptureFixture) -> None:
    ball = extract_mesh(Sphere(0.1), resolution=6, vertex_normals=False)
    balls = join_meshes([Mesh(ball.vertices + np.array([shift, 0.0, 0.0]), ball.faces) for shift in range(10)])
    found = simplify_mesh(balls, max_faces=20)
    assert len(found.mesh.faces) >= 40
    assert check_closed(found.mesh).is_clean
    assert f"simplified to {len(found.mesh.faces)} faces only" in caplog.text


def test_few_enough_faces_are_left_alone() -> None:
    mesh = extract_mesh(Sphere(0.8), resolution=12)
    found = simplify_mesh(mesh, max_faces=len(mesh.faces))
    np.testing.assert_array_equal(found.mesh.faces, mesh.faces)
    assert found.distance == 0


def test_nonsense_is_refused() -> None:
    with pytest.raises(ValueError, match=re.escape("max_faces must be at least 4 (a tetrahedron), got 3")):
        simplify_mesh(extract_mesh(Sphere(0.8), resolution=12), max_faces=3)
    mesh = extract_mesh(Sphere(0.8), resolution=12)
    doubled = Mesh(mesh.vertices, np.concatenate([mesh.faces, mesh.faces[:1]]))
    with pytest.raises(ValueError, match="not an oriented surface: it has 3 crowded edges"):
        simplify_mesh(doubled, max_faces=100)


def test_normals_come_from_the_field_and_at_edges_from_the_faces() -> None:
    field = Box([1.0, 1.0, 1.0])
    found = simplify_mesh(extract_mesh(field, resolution=24, sharp=True), max_faces=12)
    mesh = with_field_normals(found.mesh, field, may_crease=True)
    assert mesh.vertex_normals is not None
    outward = np.einsum("ij,ij->i", mesh.vertex_normals, np.sign(mesh.vertices)) / np.sqrt(3)
    assert (outward > 0.7).all()
    ball = simplify_mesh(extract_mesh(Sphere(0.8), resolution=24), max_faces=300).mesh
    normals = with_field_normals(ball, Sphere(0.8), may_crease=True).vertex_normals
    assert normals is not None
    radial = ball.vertices / np.linalg.norm(ball.vertices, axis=1, keepdims=True)
    np.testing.assert_allclose(normals, radial, atol=1e-5)
