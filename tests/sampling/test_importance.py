"""Samples where shapes are hard to learn: measures that do not depend on the triangulation."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from sdfnet.mesh.distance import MeshDistance
from sdfnet.mesh.mesh import Mesh
from sdfnet.sampling import sample_features
from sdfnet.sampling.samplers import find_creases, sample_curvature, sample_thin


def joined(*meshes: Mesh) -> Mesh:
    starts = np.cumsum([0, *(len(mesh.vertices) for mesh in meshes)])
    faces = [mesh.faces + start for mesh, start in zip(meshes, starts, strict=False)]
    return Mesh(np.concatenate([mesh.vertices for mesh in meshes]), np.concatenate(faces))


def subdivided(mesh: Mesh) -> Mesh:
    """Split each triangle into four."""
    corners = mesh.triangles
    middles = (corners + np.roll(corners, -1, axis=1)) / 2
    a, b, c = corners.transpose(1, 0, 2)
    ab, bc, ca = middles.transpose(1, 0, 2)
    small = np.stack([[a, ab, ca], [ab, b, bc], [ca, bc, c], [ab, bc, ca]]).transpose(0, 2, 1, 3).reshape(-1, 3)
    vertices, faces = np.unique(small.round(12), axis=0, return_inverse=True)
    return Mesh(vertices, faces.reshape(-1, 3))


def test_creases_agree_with_a_plain_loop(make_box: Callable[..., Mesh]) -> None:
    mesh = joined(subdivided(make_box((1, 2, 3))), Mesh([[9, 0, 0], [9, 1, 0], [9, 0, 1]], [[0, 1, 2]]))
    owners: dict[tuple[int, ...], list[int]] = {}
    for face, corners in enumerate(mesh.faces.tolist()):
        for k in range(3):
            owners.setdefault(tuple(sorted((corners[k], corners[k - 1]))), []).append(face)
    creases = find_creases(mesh)
    found = {tuple(edge): (tuple(sorted(pair)), angle) for edge, pair, angle in zip(
        creases.edges.tolist(), creases.faces.tolist(), creases.angles.tolist(), strict=True)}  # fmt: skip
    expected = {edge: tuple(faces) for edge, faces in owners.items() if len(faces) == 2}
    assert {edge: pair for edge, (pair, _) in found.items()} == expected
    for pair, angle in found.values():
        assert np.cos(angle) == pytest.approx(float(np.dot(*mesh.face_normals[list(pair)])), abs=1e-12)


def test_curvature_samples_lie_on_edges_in_proportion_to_their_length(
    make_box: Callable[..., Mesh], generator: torch.Generator
) -> None:
    points = sample_curvature(make_box((1, 1, 4)), 24_000, generator=generator)
    outermost = (points.abs() > torch.tensor([1, 1, 4], dtype=torch.float64) - 1e-9).sum(1)
    assert (outermost >= 2).all()  # on an edge of the box, not on the diagonals of its faces
    along_z = (points[:, 2].abs() < 4 - 1e-9).double().mean()
    assert float(along_z) == pytest.approx(4 * 8 / (4 * (8 + 2 + 2)), abs=0.012)


def test_curvature_does_not_depend_on_the_triangulation(make_box: Callable[..., Mesh]) -> None:
    coarse = make_box((1, 0.2, 3))
    shares = []
    for mesh in (coarse, subdivided(subdivided(coarse))):
        points = sample_curvature(mesh, 20_000, generator=torch.Generator().manual_seed(3))
        shares.append(float((points[:, 2].abs() > 3 - 1e-9).double().mean()))
    assert shares[0] == pytest.approx(shares[1], abs=0.015)


def test_a_thin_bar_gets_as_many_curvature_samples_as_a_thick_one(
    make_box: Callable[..., Mesh], generator: torch.Generator
) -> None:
    mesh = joined(make_box((0.01, 0.01, 1), (-2, 0, 0)), make_box((0.2, 0.2, 1), (2, 0, 0)))
    points = sample_curvature(mesh, 20_000, generator=generator)
    middle = points[points[:, 2].abs() < 1 - 1e-9]
    assert float((middle[:, 0] < 0).double().mean()) == pytest.approx(0.5, abs=0.015)


def test_thin_parts_get_samples_in_proportion_to_area_over_thickness(
    make_box: Callable[..., Mesh], generator: torch.Generator
) -> None:
    mesh = joined(make_box((1, 1, 0.05), (-2, 0, 0)), make_box((1, 1, 0.5), (2, 0, 0)))
    points, thickness = sample_thin(mesh, 20_000, generator=generator)
    plate = points[:, 0] < 0
    # Large faces 2 × 4 over the thickness, rims 8 × thickness over the width of 2.
    weights = [2 * 4 / t + 8 * t / 2 for t in (0.1, 1.0)]
    assert float(plate.double().mean()) == pytest.approx(weights[0] / sum(weights), abs=0.015)
    on_top = plate & (points[:, 2].abs() > 0.05 - 1e-9)
    assert thickness[on_top].numpy() == pytest.approx(0.1, abs=1e-6)


def test_about_a_third_of_samples_in_a_thin_plate_lie_inside(
    make_box: Callable[..., Mesh], generator: torch.Generator
) -> None:
    plate = make_box((1, 1, 0.002))
    points = sample_features(plate, 8_000, noise_std=0.05, generator=generator)[4_000:]
    inside = float((MeshDistance(plate)(points.numpy()).sdf < 0).mean())
    # Noise of half the thickness: P(0 < N(0, 1/2) < 1) = 0.477, and here half of the rays along the rim are long.
    assert 0.3 < inside < 0.5


def test_features_of_a_flat_open_mesh_are_spread_by_area(generator: torch.Generator) -> None:
    square = Mesh([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]], [[0, 1, 2], [0, 2, 3]])
    points = sample_features(square, 10_001, noise_std=0.0, generator=generator)
    assert points.shape == (10_001, 3)
    assert (points[:, 2] == 0).all()
    assert points[:, :2].std(0).tolist() == pytest.approx([12**-0.5] * 2, rel=0.03)


@pytest.mark.parametrize(("num_points", "noise_std"), [(-3, 0.1), (3, -0.1), (3, float("nan"))])
def test_nonsense_is_refused(num_points: int, noise_std: float, make_box: Callable[..., Mesh]) -> None:
    with pytest.raises(ValueError, match=f"got {num_points if num_points < 0 else noise_std}"):
        sample_features(make_box((1, 1, 1)), num_points, noise_std=noise_std, generator=torch.Generator())
