"""Remeshing of surfaces whose measures are known."""

from __future__ import annotations

import numpy as np
import pytest

from sdfnet.extraction.extract import extract_mesh
from sdfnet.fields.primitives import Sphere, Torus
from sdfnet.mesh.mesh import Mesh
from sdfnet.mesh.remesh import collapse_faces, remesh
from sdfnet.mesh.topology import components_and_genus

TORUS = extract_mesh(Torus(0.6, 0.25), resolution=32)


def test_edges_get_the_length_asked_for_and_handles_stay() -> None:
    even = remesh(TORUS, edge_length=0.1)
    sides = even.vertices[even.faces] - even.vertices[np.roll(even.faces, 1, axis=1)]
    lengths = np.linalg.norm(sides, axis=2)
    assert abs(lengths.mean() - 0.1) < 0.015  # between 4/5 and 4/3, more at the lower end
    assert (np.abs(lengths / 0.1 - 1) < 0.45).all()
    assert components_and_genus(even).genus == 1


def test_collapsing_faces_takes_chosen_ones_away_and_nothing_else() -> None:
    ball = remesh(extract_mesh(Sphere(0.8), resolution=24), edge_length=0.15)
    chosen = np.zeros(len(ball.faces), dtype=bool)
    chosen[[3, 200]] = True
    fewer = collapse_faces(ball, chosen)
    assert len(fewer.faces) == len(ball.faces) - 4  # each edge has two faces
    assert components_and_genus(fewer) == components_and_genus(ball)
    triangles = {tuple(np.sort(triangle, axis=0).ravel()) for triangle in ball.triangles}
    kept = sum(tuple(np.sort(triangle, axis=0).ravel()) in triangles for triangle in fewer.triangles)
    assert kept > len(fewer.faces) - 20
    assert not any(tuple(np.sort(ball.triangles[face], axis=0).ravel()) in _all(fewer) for face in (3, 200))


def test_no_edge_collapses_where_that_would_close_a_tetrahedron() -> None:
    corners = [[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]]
    solid = Mesh(corners, [[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]])
    assert len(collapse_faces(solid, np.ones(4, dtype=bool)).faces) == 4


def test_an_open_mesh_and_a_length_of_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="edge_length must be positive, got 0"):
        remesh(TORUS, edge_length=0)
    with pytest.raises(ValueError, match=r"closed and manifold, got 3 unpaired of \d+ half-edges"):
        remesh(Mesh(TORUS.vertices, TORUS.faces[1:]), edge_length=0.1)


def _all(mesh: Mesh) -> set[tuple[float, ...]]:
    return {tuple(np.sort(triangle, axis=0).ravel()) for triangle in mesh.triangles}
