"""Metrics where the answer is known: shifted and scaled spheres, planes, overlapping boxes, open bowls."""

import math

import numpy as np
import pytest
import torch
import trimesh
from scipy.spatial import cKDTree

from sdfnet.evaluation.closest_points import Surface, match_surfaces
from sdfnet.evaluation.metrics import (
    chamfer_distance,
    chamfer_of,
    chamfer_of_sampling,
    distances_of,
    f_score,
    normal_consistency,
    surface_distance,
    volume_iou,
)
from sdfnet.geometry.similarity import UNIT_RADIUS
from sdfnet.mesh.mesh import Mesh
from sdfnet.sampling.samplers import sample_surface


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def sphere(radius: float = 1.0, center: tuple[float, float, float] = (0, 0, 0)) -> Mesh:
    ball = trimesh.creation.icosphere(4, radius=radius)
    return Mesh(ball.vertices + np.array(center), ball.faces)


def box(extents: tuple[float, float, float] = (1, 1, 1), center: tuple[float, float, float] = (0, 0, 0)) -> Mesh:
    cuboid = trimesh.creation.box(extents)
    return Mesh(cuboid.vertices + np.array(center), cuboid.faces)


def matched(result: Mesh, source: Mesh, *, is_closed: bool = True, num_points: int = 10_000, seed: int = 0):
    return match_surfaces(
        Surface.of(result), Surface.of(source, is_closed=is_closed), num_points=num_points, generator=seeded(seed)
    )


def half_bowl() -> Mesh:
    """The lower half of the unit sphere, open at the top."""
    ball = sphere()
    return Mesh(ball.vertices, ball.faces[ball.triangles[:, :, 2].max(axis=1) <= 1e-9])


def capped_bowl() -> Mesh:
    """The same half with a flat lid."""
    bowl = half_bowl()
    lid = trimesh.creation.annulus(1e-9, 1.0, 1e-9, sections=160)
    top = lid.faces[lid.face_normals[:, 2] > 0.5]
    return Mesh(
        np.concatenate([bowl.vertices, lid.vertices * [1, 1, 0]]),
        np.concatenate([bowl.faces, top + len(bowl.vertices)]),
    )


def test_a_surface_is_at_no_distance_from_itself() -> None:
    distance = surface_distance(box(), box(), generator=seeded())
    assert distance.max < 1e-10
    match = matched(box(), box())
    assert f_score(match) == 100
    assert normal_consistency(match) == pytest.approx(1)
    assert volume_iou(box(), box(), num_points=1000, generator=seeded()) == 1


@pytest.mark.parametrize("shift", [0.02, 0.3])
def test_shifted_spheres_have_their_closed_form_distance(shift: float) -> None:
    cosines = np.linspace(-1, 1, 200_001)
    gaps = np.abs(np.sqrt(1 + shift**2 + 2 * shift * cosines) - 1)
    distance = surface_distance(sphere(center=(shift, 0, 0)), sphere(), generator=seeded())
    assert distance.mean == pytest.approx(100 * gaps.mean(), rel=0.02)
    assert distance.p95 == pytest.approx(100 * np.percentile(gaps, 95), rel=0.02)
    assert distance.max == pytest.approx(100 * shift, rel=0.02)
    assert distance.result_to_source == pytest.approx(distance.source_to_result, rel=0.03)


def test_surface_distance_is_symmetric_for_surfaces_of_one_radius() -> None:
    a, b = sphere(), sphere(center=(0.1, 0.05, 0))
    there, back = surface_distance(a, b, generator=seeded(1)), surface_distance(b, a, generator=seeded(2))
    assert there.mean == pytest.approx(back.mean, rel=0.02)
    assert there.p95 == pytest.approx(back.p95, rel=0.02)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 25.4])
def test_every_measure_is_free_of_units_and_place(scale: float) -> None:
    def placed(mesh: Mesh) -> Mesh:
        return Mesh(scale * mesh.vertices + [1000 * scale, 0, 0], mesh.faces)

    result, source = sphere(1.03), sphere()
    match, match_placed = matched(result, source), matched(placed(result), placed(source))
    assert distances_of(match_placed).mean == pytest.approx(distances_of(match).mean, rel=1e-6)
    assert distances_of(match_placed).mean == pytest.approx(3, rel=0.01)
    assert f_score(match_placed, threshold=0.031) == f_score(match, threshold=0.031) == 100
    assert f_score(match_placed, threshold=0.028) == f_score(match, threshold=0.028) < 1
    assert chamfer_of(match_placed) == pytest.approx(chamfer_of(match), rel=1e-6)


def test_too_much_and_missing_are_told_apart() -> None:
    both = Mesh(
        np.concatenate([sphere().vertices, sphere(center=(9, 0, 0)).vertices]),
        np.concatenate([sphere().faces, sphere().faces + len(sphere().vertices)]),
    )
    distance = surface_distance(both, sphere(), generator=seeded())
    assert distance.source_to_result < 1e-10
    assert distance.result_to_source == pytest.approx(50 * 8, rel=0.05)
    match = matched(both, sphere())
    assert f_score(match) == pytest.approx(100 * 2 * 0.5 / 1.5, rel=0.02)


def test_normal_consistency_of_parallel_and_slanted_planes() -> None:
    square = [[-1.0, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]]
    flat = Mesh(square, [[0, 1, 2], [0, 2, 3]])
    slope = math.radians(20)
    turn = np.array([[1, 0, 0], [0, math.cos(slope), -math.sin(slope)], [0, math.sin(slope), math.cos(slope)]])
    slanted = Mesh(np.array(square) @ turn.T, flat.faces)
    assert normal_consistency(matched(slanted, flat)) == pytest.approx(math.cos(slope))
    assert normal_consistency(matched(Mesh(square, flat.faces[:, ::-1]), flat)) == 1


def test_chamfer_of_parallel_squares_is_twice_the_squared_gap() -> None:
    """Above the gap, sampling adds about 1 / (pi * density) to each squared distance."""
    square = Mesh([[-1.0, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]], [[0, 1, 2], [0, 2, 3]])
    gap = 0.1
    lifted = Mesh(np.add(square.vertices, [0, 0, gap]), square.faces)
    sampling = 4 / (math.pi * 30_000)
    unit = UNIT_RADIUS**2 / 2  # the square's radius is the root of 2
    chamfer = chamfer_distance(lifted, square, generator=seeded())
    assert chamfer == pytest.approx(1e3 * unit * 2 * (gap**2 + sampling), rel=0.01)
    assert chamfer_of_sampling(square, generator=seeded()) == pytest.approx(1e3 * unit * 2 * sampling, rel=0.05)


def test_chamfer_equals_its_slow_twin() -> None:
    a, b = sphere(), box()
    generator = seeded(5)
    points_a = sample_surface(a, 300, generator=generator).points.numpy()
    points_b = sample_surface(b, 300, generator=generator).points.numpy()
    squared = ((points_a[:, None] - points_b[None]) ** 2).sum(axis=-1)
    radius = math.sqrt(3) / 2
    twin = 1e3 * (squared.min(axis=1).mean() + squared.min(axis=0).mean()) * (UNIT_RADIUS / radius) ** 2
    assert chamfer_distance(a, b, num_points=300, generator=seeded(5)) == pytest.approx(twin)
    assert chamfer_of(matched(a, b, num_points=300, seed=5)) == pytest.approx(twin)


def test_chamfer_floor_of_a_sphere_follows_from_its_density_of_samples() -> None:
    """The nearest of random points of density d on a plane is at a mean squared distance of 1 / (pi d)."""
    assert chamfer_of_sampling(sphere(), generator=seeded()) == pytest.approx(
        1e3 * 2 * 4 * math.pi * UNIT_RADIUS**2 / (math.pi * 30_000), rel=0.05
    )


def test_volume_iou_of_overlapping_boxes() -> None:
    left, right = box((2, 1, 1)), box((2, 1, 1), center=(1, 0, 0))
    iou = volume_iou(left, right, num_points=100_000, generator=seeded())
    assert iou == pytest.approx(1 / 3, abs=0.01)
    assert volume_iou(right, left, num_points=100_000, generator=seeded()) == iou
    inside_out = Mesh(box().vertices, box().faces[:, ::-1])
    assert volume_iou(inside_out, box(), num_points=1000, generator=seeded()) == 0
    assert volume_iou(inside_out, inside_out, num_points=1000, generator=seeded()) == 0


def test_the_lid_over_an_open_source_is_left_out_and_its_size_given() -> None:
    match = matched(capped_bowl(), half_bowl(), is_closed=False)
    assert match.hole_share == pytest.approx(1 / 3, abs=0.01)  # pi of 3 pi
    assert distances_of(match).max < 0.51  # within HOLE_DISTANCE of the rim the lid counts
    assert distances_of(match).mean < 0.01
    assert f_score(match) == 100
    counted = matched(capped_bowl(), half_bowl())
    assert counted.hole_share == 0
    assert distances_of(counted).result_to_source > 5
    kept = match.from_result.counted
    twin = cKDTree(match.from_source.points).query(match.from_result.points[kept])[0]
    assert chamfer_of(match) < chamfer_of(counted) / 5
    assert twin.max() < 0.1


def test_a_bulge_on_the_closed_part_of_an_open_source_still_counts() -> None:
    bowl = half_bowl()
    bulged = Mesh(bowl.vertices * np.where(bowl.vertices[:, 2:] < -0.7, 1.1, 1.0), bowl.faces)
    match = matched(bulged, bowl, is_closed=False)
    assert match.hole_share < 0.01
    assert distances_of(match).max == pytest.approx(10 / math.hypot(1, 0.5), rel=0.02)


def test_percentages_refer_to_the_sphere_around_the_source() -> None:
    assert Surface.of(box((2, 4, 4), center=(7, 0, 0))).radius == pytest.approx(3)
    stray = Mesh(np.concatenate([box().vertices, [[50.0, 0, 0]]]), box().faces)
    assert Surface.of(stray).radius == pytest.approx(math.sqrt(3) / 2)


def test_the_same_generator_gives_the_same_numbers() -> None:
    first, again = (surface_distance(sphere(1.1), box(), num_points=500, generator=seeded(4)) for _ in range(2))
    assert first == again


def test_nothing_to_measure_is_an_error() -> None:
    with pytest.raises(ValueError, match="at least 1, got 0"):
        matched(box(), box(), num_points=0)
    lid = capped_bowl()
    only_lid = Mesh(lid.vertices * 0.5, lid.faces[lid.face_normals[:, 2] > 0.999])
    with pytest.raises(ValueError, match="nothing is left to measure"):
        distances_of(matched(only_lid, half_bowl(), is_closed=False))
