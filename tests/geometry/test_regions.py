"""Borrowing a neighbour's winding number gives what asking for every point gives, and for no point more than that."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from sdfnet.geometry import distance as distance_module
from sdfnet.geometry.distance import MeshDistance
from sdfnet.geometry.loading import folder_similarities, load_shape
from sdfnet.geometry.mesh import Mesh
from sdfnet.geometry.reading import find_meshes
from sdfnet.geometry.regions import TOO_NEAR, is_boundless, shared_regions
from sdfnet.geometry.winding import WindingNumber, morton_order

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
    assert is_boundless(mesh.faces, len(mesh.vertices))
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


def test_regions_are_balls_that_overlap_in_a_chain() -> None:
    mesh = make_box((0.8, 0.5, 0.1))
    points = points_about(mesh, 0.1)
    points = points[morton_order(points)]
    away = MeshDistance(mesh).unsigned(points).distance
    regions = shared_regions(points, away)
    np.testing.assert_array_equal(regions.take(regions), regions)
    assert (regions <= np.arange(len(points))).all()
    assert 0.02 < (regions == np.arange(len(points))).mean() < 0.3
    inside = (np.abs(points) < [0.8, 0.5, 0.1]).all(axis=1)
    np.testing.assert_array_equal(inside[regions], inside)
    for step in (1, 2, 3):
        linked = np.flatnonzero(regions[step:] == np.arange(len(points) - step))
        gaps = np.linalg.norm(points[linked + step] - points[linked], axis=1)
        assert len(linked) > 100
        # one link of that length, or several over others between
        assert (gaps < away[linked + step] + away[linked]).mean() > 0.5


def test_a_point_on_the_surface_lends_no_sign() -> None:
    points = np.array([[0, 0, 0.1 * TOO_NEAR], [0, 0, 0.5], [0, 0, 0.9], [0, 0, -0.9 * TOO_NEAR]])
    assert shared_regions(points, np.abs(points[:, 2])).tolist() == [0, 1, 1, 3]


def test_balls_that_only_touch_share_nothing() -> None:
    points = np.array([[0, 0, 0.0], [0, 0, 0.5]])
    assert shared_regions(points, np.array([0.25, 0.25])).tolist() == [0, 1]
    assert shared_regions(points, np.array([0.25, 0.25 + 1e-8])).tolist() == [0, 1]  # rounding is no overlap
    assert shared_regions(points, np.array([0.25, 0.2501])).tolist() == [0, 0]


def test_few_points_have_regions() -> None:
    for num in range(4):
        assert shared_regions(np.zeros((num, 3)), np.ones(num)).tolist() == [0] * num


def test_closed_means_that_every_edge_is_run_both_ways() -> None:
    box = make_box((1, 1, 1))
    twice = np.concatenate([box.faces, box.faces])
    cancelled = np.concatenate([box.faces, box.faces[:, ::-1]])
    flipped = box.faces.copy()
    flipped[3] = flipped[3, ::-1]
    with_flat = np.concatenate([box.faces, [[0, 1, 1], [2, 2, 2]]])
    for faces in (box.faces, twice, cancelled, with_flat):
        assert is_boundless(faces, 8)
    for faces in (box.faces[1:], flipped, np.concatenate([box.faces, box.faces[:1]])):
        assert not is_boundless(faces, 8)


def test_an_open_mesh_lends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any) -> None:
        raise AssertionError("regions of an open mesh were asked for")

    box = make_box((0.5, 0.5, 0.5))
    monkeypatch.setattr(distance_module, "shared_regions", refuse)
    points = points_about(box, 0.1)
    MeshDistance(Mesh(box.vertices, box.faces[1:]))(points)
    with pytest.raises(AssertionError, match="regions of an open mesh"):
        MeshDistance(box)(points)


def test_distances_without_signs_build_no_tree_for_signs() -> None:
    distance = MeshDistance(make_box((0.5, 0.5, 0.5)))
    distance.unsigned(np.zeros((1, 3)))
    assert "_winding_tree" not in vars(distance)
    distance(np.zeros((1, 3)))
    assert "_winding_tree" in vars(distance)
