"""Normals and colours that drawing needs."""

from __future__ import annotations

import numpy as np
import pytest

from sdfnet.extraction.extract import extract_mesh
from sdfnet.fields.primitives import Sphere
from sdfnet.mesh.mesh import Mesh
from sdfnet.rendering.camera import fit_camera
from sdfnet.rendering.scene import PaintedMesh, crease_normals, make_scene
from sdfnet.rendering.style import Style

CUBE = Mesh(
    np.array(np.meshgrid([0, 1], [0, 1], [0, 1], indexing="ij")).reshape(3, -1).T,
    [[0, 1, 3], [0, 3, 2], [4, 6, 7], [4, 7, 5], [0, 4, 5], [0, 5, 1],
     [2, 3, 7], [2, 7, 6], [0, 2, 6], [0, 6, 4], [1, 5, 7], [1, 7, 3]],
)  # fmt: skip


def test_a_cube_stays_sharp() -> None:
    assert CUBE.signed_volume == pytest.approx(1)
    normals = crease_normals(CUBE)
    np.testing.assert_allclose(normals, np.repeat(CUBE.face_normals[:, None], 3, axis=1), atol=1e-12)


def test_a_ball_is_smooth_also_as_a_soup_of_triangles() -> None:
    ball = extract_mesh(Sphere(), resolution=24)
    soup = Mesh(ball.triangles.reshape(-1, 3), np.arange(3 * len(ball.faces)).reshape(-1, 3))
    radial = soup.vertices / np.linalg.norm(soup.vertices, axis=1, keepdims=True)
    agreement = np.einsum("ij,ij->i", crease_normals(soup).reshape(-1, 3), radial)
    assert agreement.min() > 0.98


def test_crease_normals_equal_a_plain_loop() -> None:
    generator = np.random.default_rng(5)
    mesh = Mesh(generator.normal(size=(12, 3)), generator.integers(0, 12, size=(30, 3)))
    expected = np.zeros((30, 3, 3))
    for face in range(30):
        for corner in range(3):
            for other in range(30):
                for vertex in mesh.faces[other]:
                    turn = mesh.face_normals[face] @ mesh.face_normals[other]
                    if vertex == mesh.faces[face, corner] and turn > np.cos(np.radians(60)):
                        expected[face, corner] += mesh.face_crosses[other]
    expected /= np.maximum(np.linalg.norm(expected, axis=-1, keepdims=True), 1e-300)
    np.testing.assert_allclose(crease_normals(mesh, crease_angle=60), expected, atol=1e-12)


def test_a_scene_keeps_precision_a_million_units_away() -> None:
    here = make_scene([CUBE], fit_camera(CUBE), color=(1, 1, 1))
    away = Mesh(CUBE.vertices + 1e6, CUBE.faces)
    there = make_scene([away], fit_camera(away), color=(1, 1, 1))
    np.testing.assert_allclose(here.vertices, there.vertices, atol=1e-6)


def test_colours_reach_their_places() -> None:
    corners = np.linspace(0, 1, 24).reshape(8, 3)
    scene = make_scene([PaintedMesh(CUBE, vertex_colors=corners)], fit_camera(CUBE), color=(1, 1, 1))
    np.testing.assert_allclose(scene.albedo[scene.faces], corners[CUBE.faces] ** 2.2, atol=1e-6)
    scene = make_scene([CUBE, PaintedMesh(CUBE, color=(0, 0, 1))], fit_camera(CUBE), color=(1, 0, 0))
    assert len(scene.faces) == 24
    np.testing.assert_array_equal(scene.albedo[scene.faces[0, 0]], [1, 0, 0])
    np.testing.assert_array_equal(scene.albedo[scene.faces[12, 0]], [0, 0, 1])


def test_bad_colours_are_refused_with_their_value() -> None:
    with pytest.raises(ValueError, match="only one of"):
        PaintedMesh(CUBE, color=(1, 1, 1), vertex_colors=np.ones((8, 3)))
    with pytest.raises(ValueError, match=r"vertex_colors must have shape \(8, 3\), got \(7, 3\)"):
        PaintedMesh(CUBE, vertex_colors=np.ones((7, 3)))
    with pytest.raises(ValueError, match=r"vertex_colors must be in \[0, 1\], got 0.0 to 255.0"):
        PaintedMesh(CUBE, vertex_colors=np.array([[0, 0, 255.0]] * 8))
    with pytest.raises(ValueError, match=r"color must be three numbers in \[0, 1\], got \(2, 0, 0\)"):
        Style(color=(2, 0, 0))
    with pytest.raises(ValueError, match=r"roughness must be in \[0, 1\], got 3"):
        Style(roughness=3)


def test_what_cannot_be_drawn_is_refused() -> None:
    camera = fit_camera(CUBE)
    with pytest.raises(ValueError, match="nothing to draw"):
        make_scene([], camera, color=(1, 1, 1))
    broken = CUBE.vertices.copy()
    broken[3, 1] = np.nan
    with pytest.raises(ValueError, match="vertices must be finite, got"):
        make_scene([Mesh(broken, CUBE.faces)], camera, color=(1, 1, 1))
