"""The extraction error comes from the dense extraction of the exact field, at a fraction of its cost."""

import numpy as np
import pytest
import torch
import trimesh

from sdfnet.evaluation.closest_points import Surface
from sdfnet.evaluation.extraction_error import extract_exact
from sdfnet.extraction.extract import extract_mesh
from sdfnet.fields.adaptors import MeshField
from sdfnet.geometry.bounds import UNIT_BOUNDS
from sdfnet.geometry.similarity import Similarity
from sdfnet.mesh.distance import MeshDistance
from sdfnet.mesh.mesh import Mesh


def unit(mesh: trimesh.Trimesh) -> Mesh:
    plain = Mesh(mesh.vertices, mesh.faces)
    return plain.to_unit(Similarity.normalizing(plain.vertices))


def thin_table() -> Mesh:
    """A plate thinner than the screen's cells on a thin leg."""
    plate = trimesh.creation.box((2, 2, 0.12))
    leg = trimesh.creation.cylinder(0.08, 2.0, sections=12).apply_translation([0.37, 0.11, -1])
    return unit(trimesh.boolean.union([plate, leg], engine="manifold"))


def bowl() -> Mesh:
    ball = trimesh.creation.icosphere(3)
    ball.update_faces(ball.triangles_center[:, 2] < 0.2)
    return unit(ball)


@pytest.mark.parametrize("resolution", [24, 61])
@pytest.mark.parametrize(
    ("mesh", "is_closed"),
    [(unit(trimesh.creation.torus(1, 0.3)), True), (thin_table(), True), (bowl(), False)],
    ids=["torus", "table", "bowl"],
)
def test_exact_equals_the_dense_extraction_of_the_exact_field(mesh: Mesh, is_closed: bool, resolution: int) -> None:
    exact = extract_exact(Surface.of(mesh, is_closed=is_closed), resolution=resolution)
    dense = extract_mesh(
        MeshField(mesh, closed=is_closed),
        resolution=resolution,
        bounds=UNIT_BOUNDS,
        vertex_normals=False,
        dtype=torch.float64,
        sparse=is_closed,  # for the same order of vertices and faces; that they are those of dense is tested elsewhere
    )
    assert np.array_equal(exact.faces, dense.faces)
    assert np.array_equal(exact.vertices, dense.vertices)


def test_exact_of_a_closed_source_asks_for_few_distances(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    original = MeshDistance.__call__

    def counting(self, points):
        asked.append(len(points))
        return original(self, points)

    monkeypatch.setattr(MeshDistance, "__call__", counting)
    extract_exact(Surface.of(unit(trimesh.creation.torus(1, 0.3))), resolution=64)
    assert sum(asked) < 64**3 / 4
