"""What is found wrong with meshes that are broken in one known way, and faces that cross."""

from __future__ import annotations

import numpy as np
import pytest

from sdfnet.extraction import extract_mesh
from sdfnet.fields.primitives import Box, Torus
from sdfnet.mesh.mesh import Mesh, join_meshes
from sdfnet.mesh.topology import check_closed

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
