"""Marching cubes with exact zeros: the mesh stays closed and has no face without area."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh
from numpy.typing import NDArray

from sdfnet.extraction.marching_cubes import march

GRID = np.moveaxis(np.indices((9, 9, 9)), 0, -1) - 4.0


def _solid(values: NDArray[np.floating]) -> trimesh.Trimesh:
    mesh = march(values.astype(np.float32), spacing=1.0)
    return trimesh.Trimesh(vertices=mesh.vertices, faces=mesh.faces, process=False)


def _box(center: tuple[float, float, float], half: float) -> NDArray[np.float64]:
    return np.abs(GRID - center).max(axis=-1) - half


def _ball(center: tuple[float, float, float], radius: float) -> NDArray[np.float64]:
    return np.linalg.norm(GRID - center, axis=-1) - radius


@pytest.mark.parametrize(
    ("values", "volume"),
    [
        (_box((0, 0, 0), 2), 64.0),
        (np.abs(GRID).sum(axis=-1) - 3, 36.0),
        (np.minimum(_box((-1, 0, 0), 1), _box((1, 0, 0), 1)), 16.0),
    ],
    ids=["box", "octahedron", "two boxes that share a face"],
)
def test_solids_with_corners_on_samples_are_exact(values: NDArray[np.floating], volume: float) -> None:
    solid = _solid(values)
    assert solid.is_watertight
    assert solid.volume == pytest.approx(volume, abs=1e-9)
    assert solid.area_faces.min() > 0.1
    assert solid.euler_number == 2


@pytest.mark.parametrize(
    "values",
    [
        np.minimum(_ball((-1.5, 0, 0), 1.5), _ball((1.5, 0, 0), 1.5)),
        np.minimum(_box((-1, -1, 0), 1), _box((1, 1, 0), 1)),
        np.minimum(_box((-1, -1, -1), 1), _box((1, 1, 1), 1)),
    ],
    ids=["balls at a point", "boxes along an edge", "boxes at a corner"],
)
def test_solids_that_touch_at_samples_stay_closed(values: NDArray[np.floating]) -> None:
    solid = _solid(values)
    assert solid.is_watertight
    assert solid.is_winding_consistent
    assert solid.area_faces.min() > 0


@pytest.mark.parametrize("seed", range(30))
def test_random_small_integers_give_a_closed_mesh(seed: int) -> None:
    inside = np.random.default_rng(seed).integers(-2, 3, size=(7, 7, 7))
    solid = _solid(np.pad(inside, 1, constant_values=1))
    assert solid.is_watertight
    assert solid.volume > 0
    assert solid.area_faces.min() > 0


def test_a_sample_that_only_touches_the_surface_makes_no_face() -> None:
    values = np.ones((5, 5, 5))
    values[2, 2, 2] = 0
    assert len(_solid(values).faces) == 0


def test_vertices_are_where_linear_interpolation_says() -> None:
    values = GRID[..., 0] - np.float32(0.123456789)
    mesh = march(values.astype(np.float32), spacing=1.0)
    np.testing.assert_allclose(mesh.vertices[:, 0], 4.123456789, atol=2e-7)
