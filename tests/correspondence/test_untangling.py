"""Bad spots made on purpose in a good mesh."""

from __future__ import annotations

import numpy as np

from sdfnet.correspondence.advect import place_on_surface
from sdfnet.correspondence.track import extract_even_mesh
from sdfnet.correspondence.tracked_mesh import OFF_SURFACE
from sdfnet.fields.primitives import Sphere
from sdfnet.mesh.mesh import Mesh

BALL = Sphere(0.6)
EVEN = extract_even_mesh(BALL, resolution=24)


def spoilt(seed: int) -> tuple[Mesh, np.ndarray]:
    """The ball with a vertex and two of its neighbours, on the surface still, dragged across the triangles around."""
    vertices = EVEN.vertices.copy()
    center = np.random.default_rng(seed).integers(len(vertices))
    ring = np.setdiff1d(EVEN.faces[(EVEN.faces == center).any(axis=1)], center)
    for vertex, target in ((center, ring[0]), (ring[1], ring[3]), (ring[2], ring[4])):
        dragged = vertices[vertex] + 1.4 * (EVEN.vertices[target] - vertices[vertex])
        vertices[vertex] = 0.6 * dragged / np.linalg.norm(dragged)
    return Mesh(vertices, EVEN.faces), ring


def turned_in(mesh: Mesh) -> int:
    """How many triangles of a ball about the origin face inward."""
    return int((np.einsum("fi,fi->f", mesh.face_crosses, mesh.triangles.mean(axis=1)) <= 0).sum())


def test_triangles_turned_over_are_turned_back_on_the_surface_and_the_rest_stays() -> None:
    num_spoilt = 0
    for seed in range(6):
        mesh, ring = spoilt(seed)
        num_spoilt += turned_in(mesh) > 0
        placed = place_on_surface(mesh, BALL)
        good = Mesh(placed.expanded(placed.vertices), mesh.faces)
        assert turned_in(good) == placed.inverted.sum() == 0
        assert np.abs(np.linalg.norm(good.vertices, axis=1) - 0.6).max() < OFF_SURFACE
        assert not placed.fault()
        far = np.linalg.norm(mesh.vertices - mesh.vertices[ring].mean(axis=0), axis=1) > 6 * placed.edge_length
        assert np.abs(good.vertices - mesh.vertices)[far].max() < 1e-4
    assert num_spoilt >= 5


def test_untangling_is_the_same_each_time() -> None:
    mesh, _ = spoilt(0)
    assert np.array_equal(place_on_surface(mesh, BALL).vertices, place_on_surface(mesh, BALL).vertices)


def test_a_mesh_with_a_triangle_turned_over_is_at_fault_unless_that_is_tolerated() -> None:
    placed = place_on_surface(EVEN, BALL)
    placed.normals[:] *= -1  # against which all triangles are turned over
    assert placed.fault() == f"{len(EVEN.faces)} triangles turn over"
    assert not placed.fault(max_inverted=len(EVEN.faces))
