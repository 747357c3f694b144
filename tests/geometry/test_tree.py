"""The search tree against loops over all triangles, and its signs against exact sums."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from sdfnet.geometry.distance import MeshDistance
from sdfnet.geometry.edges import surplus_edges
from sdfnet.geometry.loading import folder_similarities, load_shape
from sdfnet.geometry.mesh import Mesh
from sdfnet.geometry.reading import find_meshes
from sdfnet.geometry.winding import WindingNumber

BOX_CORNERS = np.array([[x, y, z] for x in (-1.0, 1.0) for y in (-1.0, 1.0) for z in (-1.0, 1.0)])
BOX_FACES = np.reshape(  # two triangles for each of x, y and z, below and above
    [int(digit) for digit in "013032467475045051237276026064157173"], (12, 3)
)


def make_box(half: tuple[float, float, float]) -> Mesh:
    return Mesh(BOX_CORNERS * half, BOX_FACES)


def join(*meshes: Mesh) -> Mesh:
    starts = np.cumsum([0, *(len(mesh.vertices) for mesh in meshes)])
    return Mesh(
        np.concatenate([mesh.vertices for mesh in meshes]),
        np.concatenate([mesh.faces + start for mesh, start in zip(meshes, starts[:-1], strict=True)]),
    )


def points_about(mesh: Mesh, spread: float) -> NDArray[np.float64]:
    random = np.random.default_rng(0)
    near = mesh.vertices[random.integers(len(mesh.vertices), size=20_000)] + spread * random.normal(size=(20_000, 3))
    return np.concatenate([near, random.uniform(-1.05, 1.05, (20_000, 3))])


def check(mesh: Mesh, spread: float) -> None:
    assert len(surplus_edges(mesh.faces, len(mesh.vertices))) == 0
    points = points_about(mesh, spread)
    found, winding = MeshDistance(mesh)(points), WindingNumber(mesh)(points)
    assert (found.sdf < 0).mean() > 0.01
    np.testing.assert_array_equal(found.sdf < 0, winding > 0.5)
    np.testing.assert_array_equal(found.winding, np.rint(winding))


def test_a_thin_box_inside_a_cavity_has_the_signs_of_all_winding_numbers() -> None:
    cavity = make_box((0.6, 0.6, 0.6))
    turned = Mesh(cavity.vertices, cavity.faces[:, ::-1])
    check(join(make_box((0.9, 0.8, 0.7)), turned, make_box((0.5, 0.01, 0.5))), spread=0.02)


def test_boxes_through_one_another_have_the_signs_of_all_winding_numbers() -> None:
    check(join(make_box((0.9, 0.2, 0.2)), make_box((0.2, 0.9, 0.3)), make_box((0.3, 0.3, 0.9))), spread=0.05)


@pytest.mark.parametrize("name", ["bodies", "blobs", "wings"])
def test_real_meshes_have_the_signs_of_all_winding_numbers(name: str, data_folder: Path) -> None:
    shape = load_shape(next(iter(find_meshes(data_folder / name).values())))
    assert shape.closed
    check(shape.mesh.to_unit(folder_similarities([shape])[0]), spread=0.005)


def test_closed_means_that_every_edge_is_run_both_ways() -> None:
    box = make_box((1, 1, 1))
    twice = np.concatenate([box.faces, box.faces])
    cancelled = np.concatenate([box.faces, box.faces[:, ::-1]])
    flipped = box.faces.copy()
    flipped[3] = flipped[3, ::-1]
    with_flat = np.concatenate([box.faces, [[0, 1, 1], [2, 2, 2]]])
    for faces in (box.faces, twice, cancelled, with_flat):
        assert len(surplus_edges(faces, 8)) == 0
    for faces in (box.faces[1:], flipped, np.concatenate([box.faces, box.faces[:1]])):
        assert len(surplus_edges(faces, 8)) > 0
