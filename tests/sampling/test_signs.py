"""The short cut to the signs of a closed mesh gives what asking every point gives."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sdfnet.geometry.distance import MeshDistance
from sdfnet.geometry.loading import folder_similarities, load_shape
from sdfnet.geometry.mesh import Mesh
from sdfnet.geometry.reading import find_meshes
from sdfnet.geometry.winding import WindingNumber
from sdfnet.sampling.signs import closed_signed_distance


class CountingWinding(WindingNumber):
    """Counts the points that it was asked for."""

    count = 0

    def __call__(self, points: np.ndarray) -> np.ndarray:
        self.count += len(points)
        return super().__call__(points)


def check(mesh: Mesh, *, spread: float) -> None:
    random = np.random.default_rng(0)
    near = mesh.vertices[random.integers(len(mesh.vertices), size=20_000)] + spread * random.normal(size=(20_000, 3))
    points = np.concatenate([near, random.uniform(-1.05, 1.05, (20_000, 3))])
    distance, winding = MeshDistance(mesh), CountingWinding(mesh)
    sdf = closed_signed_distance(distance, winding, points)
    expected = distance(points).sdf
    assert abs(sdf - expected).max() < 1e-15
    assert (expected < 0).mean() > 0.01
    assert winding.count < 0.6 * len(points)


def test_a_thin_box_inside_a_cavity_has_the_same_signed_distances(make_box: Callable[..., Mesh]) -> None:
    outer, cavity, inner = make_box((0.9, 0.8, 0.7)), make_box((0.6, 0.6, 0.6)), make_box((0.5, 0.01, 0.5))
    vertices = np.concatenate([outer.vertices, cavity.vertices, inner.vertices])
    check(Mesh(vertices, np.concatenate([outer.faces, cavity.faces[:, ::-1] + 8, inner.faces + 16])), spread=0.02)


@pytest.mark.parametrize("name", ["bodies", "blobs", "wings"])
def test_real_meshes_have_the_same_signed_distances(name: str, data_folder: Path) -> None:
    shape = load_shape(next(iter(find_meshes(data_folder / name).values())))
    assert shape.closed
    check(shape.mesh.to_unit(folder_similarities([shape])[0]), spread=0.005)


def test_no_points_give_no_distances(make_box: Callable[..., Mesh]) -> None:
    box = make_box((1, 1, 1))
    assert closed_signed_distance(MeshDistance(box), WindingNumber(box), np.zeros((0, 3))).shape == (0,)
