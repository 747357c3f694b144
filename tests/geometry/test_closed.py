"""What is found wrong with meshes that are broken in one known way, and faces that cross."""

from __future__ import annotations

import numpy as np
import pytest

from sdfnet.fields.primitives import Box, Sphere, Torus
from sdfnet.geometry.closed import check_closed
from sdfnet.geometry.crossing import crossing_faces
from sdfnet.geometry.mesh import Mesh
from sdfnet.geometry.parts import join_meshes
from sdfnet.surfacing import extract_mesh

TORUS = extract_mesh(Torus(0.6, 0.2), resolution=24, vertex_normals=False)
BOX = extract_mesh(Box([1.0, 1.0, 1.0]), resolution=8, vertex_normals=False)


def scaled(mesh: Mesh, scale: float, shift: float = 0.0) -> Mesh:
    return Mesh(scale * mesh.vertices + shift, mesh.faces)


def turned(mesh: Mesh) -> Mesh:
    return Mesh(mesh.vertices, mesh.faces[:, ::-1])


def counts(mesh: Mesh) -> dict[str, int]:
    return {name: count for name, count in vars(check_closed(mesh)).items() if count}


def test_a_sound_mesh_is_clean_and_says_so() -> None:
    assert check_closed(TORUS).is_clean
    assert str(check_closed(TORUS)) == "closed, outward and manifold"


def test_each_fault_is_counted() -> None:
    assert counts(Mesh(TORUS.vertices, TORUS.faces[1:])) == {"num_open_edges": 3}
    flipped = TORUS.faces.copy()
    flipped[0] = flipped[0, ::-1]
    assert counts(Mesh(TORUS.vertices, flipped)) == {"num_twisted_edges": 3}
    doubled = counts(Mesh(TORUS.vertices, np.concatenate([TORUS.faces, TORUS.faces[:1]])))
    assert doubled == {"num_crowded_edges": 3, "num_pinched_vertices": 3}
    crushed = TORUS.vertices.copy()
    a, b, c = TORUS.faces[0]
    crushed[a] = (crushed[b] + crushed[c]) / 2
    assert counts(Mesh(crushed, TORUS.faces)) == {"num_degenerate_faces": 1}
    assert str(check_closed(Mesh(TORUS.vertices, TORUS.faces[1:]))) == "3 open edges"


def test_two_solids_that_share_a_vertex_are_pinched() -> None:
    corners = [[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [-1, 0, 0], [0, -1, 0], [0, 0, -1]]
    one = np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]])
    other = np.where(one > 0, one + 3, 0)[:, ::-1]
    assert counts(Mesh(corners, np.concatenate([one, other]))) == {"num_pinched_vertices": 1}


@pytest.mark.parametrize(
    ("parts", "num_turned"),
    [
        ([turned(TORUS)], 1),
        ([TORUS, scaled(TORUS, 1.0, 5.0)], 0),
        ([BOX, turned(scaled(BOX, 0.5))], 0),  # a cavity
        ([BOX, turned(scaled(BOX, 0.5, 5.0))], 1),
        ([BOX, scaled(BOX, 0.5)], 1),  # buried
        ([BOX, turned(scaled(BOX, 0.5)), scaled(BOX, 0.2)], 0),  # a kernel in a cavity
    ],
)
def test_components_must_be_outward_or_cavities(parts: list[Mesh], num_turned: int) -> None:
    assert check_closed(join_meshes(parts)).num_turned_components == num_turned


def brute_force_crossings(mesh: Mesh) -> set[tuple[int, int]]:
    found = set()
    for one in range(len(mesh.faces)):
        for other in range(len(mesh.faces)):
            if set(mesh.faces[one]) & set(mesh.faces[other]):
                continue
            base, *ends = mesh.triangles[other]
            for corner in range(3):
                start, stop = mesh.triangles[one][[corner, (corner + 1) % 3]]
                matrix = np.stack([ends[0] - base, ends[1] - base, start - stop], axis=1)
                if abs(np.linalg.det(matrix)) < 1e-14:
                    continue
                u, v, t = np.linalg.solve(matrix, start - base)
                if u > 1e-9 and v > 1e-9 and u + v < 1 - 1e-9 and 0 < t < 1:
                    found.add((min(one, other), max(one, other)))
    return found


def test_crossings_are_those_of_the_obvious_loop() -> None:
    random = np.random.default_rng(3)
    soup = random.normal(size=(60, 3, 3)) * random.uniform(0.1, 1.5, size=(60, 1, 1))
    mesh = Mesh(soup.reshape(-1, 3), np.arange(180).reshape(-1, 3))
    found = {(min(pair), max(pair)) for pair in map(tuple, crossing_faces(mesh).tolist())}
    assert len(found) > 20
    assert found == brute_force_crossings(mesh)


def test_two_balls_cross_where_they_overlap_only() -> None:
    ball = extract_mesh(Sphere(1.0), resolution=16, vertex_normals=False)
    assert len(crossing_faces(ball)) == 0
    assert len(crossing_faces(join_meshes([ball, scaled(ball, 1.0, 0.71)]))) > 20
    assert len(crossing_faces(join_meshes([ball, scaled(ball, 1.0, 1.5)]))) == 0
