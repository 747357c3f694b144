"""The plain samplers: exact counts, exact places, known distributions."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from sdfnet.geometry.bounds import Bounds
from sdfnet.mesh.mesh import Mesh
from sdfnet.sampling import sample_ball, sample_near_surface, sample_surface, sample_volume
from sdfnet.sampling.samplers import draw_by_weight, split_by_shares

TWO_TRIANGLES = Mesh([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 2], [3, 0, 2], [0, 1, 2]], [[0, 1, 2], [3, 4, 5]])


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("num_points", [0, 1, 7, 1000])
def test_every_sampler_draws_exactly_as_many_points_as_asked(
    num_points: int, make_box: Callable[..., Mesh], generator: torch.Generator
) -> None:
    box = make_box((1, 1, 1))
    assert sample_surface(box, num_points, generator=generator).points.shape == (num_points, 3)
    assert sample_near_surface(box, num_points, noise_std=[0.1, 0.2], generator=generator).shape == (num_points, 3)
    assert sample_volume(Bounds.cube(1), num_points, generator=generator).shape == (num_points, 3)
    assert sample_ball(num_points, generator=generator).shape == (num_points, 3)


def test_the_same_generator_gives_the_same_points_and_another_gives_others() -> None:
    first, again, other = (sample_surface(TWO_TRIANGLES, 50, generator=seeded(seed)).points for seed in (1, 1, 2))
    assert (first == again).all()
    assert not (first == other).all(dim=1).any()


def test_faces_are_hit_in_proportion_to_area(generator: torch.Generator) -> None:
    faces = sample_surface(TWO_TRIANGLES, 40_000, generator=generator).faces
    # Areas 0.5 and 1.5; four standard deviations of a binomial share.
    assert float((faces == 1).double().mean()) == pytest.approx(0.75, abs=4 * (0.75 * 0.25 / 40_000) ** 0.5)


def test_points_lie_on_their_faces_uniformly(generator: torch.Generator) -> None:
    samples = sample_surface(TWO_TRIANGLES, 60_000, generator=generator)
    large = samples.points[samples.faces == 1]
    assert large[:, 2].numpy() == pytest.approx(2, abs=1e-12)
    weights = torch.stack([large[:, 0] / 3, large[:, 1]])
    assert (weights >= 0).all()
    assert (weights.sum(0) <= 1 + 1e-12).all()
    # Uniform barycentric weights: mean 1/3, variance 1/18, covariance -1/36.
    assert weights.mean(1).tolist() == pytest.approx([1 / 3, 1 / 3], abs=0.005)
    covariance = torch.cov(weights)
    assert covariance.flatten().tolist() == pytest.approx([1 / 18, -1 / 36, -1 / 36, 1 / 18], abs=0.001)


def test_normals_are_those_of_the_faces_outward(make_box: Callable[..., Mesh], generator: torch.Generator) -> None:
    samples = sample_surface(make_box((1, 1, 1)), 500, generator=generator)
    # On this box the outward normal is the axis of the coordinate that is ±1.
    expected = torch.where(samples.points.abs() > 1 - 1e-12, samples.points.sign(), 0.0)
    assert (samples.normals == expected).all()


def test_faces_without_area_are_never_hit(generator: torch.Generator) -> None:
    flat = Mesh([[0, 0, 0], [1, 0, 0], [0, 1, 0], [2, 0, 0]], [[0, 1, 3], [0, 1, 2], [0, 1, 3]])
    assert (sample_surface(flat, 1000, generator=generator).faces == 1).all()


def test_offsets_have_the_stated_standard_deviations(generator: torch.Generator) -> None:
    square = Mesh([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]], [[0, 1, 2], [0, 2, 3]])
    heights = sample_near_surface(square, 90_000, noise_std=[0.3, 0.01, 0.002], generator=generator)[:, 2]
    for part, noise_std in zip(heights.split(30_000), [0.3, 0.01, 0.002], strict=True):
        assert float(part.std()) == pytest.approx(noise_std, rel=0.02)
        assert abs(float(part.mean())) < 4 * noise_std / 30_000**0.5


def test_the_offset_is_the_same_along_all_axes(generator: torch.Generator) -> None:
    speck = Mesh([[0, 0, 0], [1e-9, 0, 0], [0, 1e-9, 0]], [[0, 1, 2]])
    points = sample_near_surface(speck, 50_000, noise_std=0.5, generator=generator)
    assert torch.cov(points.T).flatten().tolist() == pytest.approx((0.25 * np.eye(3)).ravel().tolist(), abs=0.006)


def test_volume_samples_are_uniform_in_the_box(generator: torch.Generator) -> None:
    points = sample_volume(Bounds([0, -1, 5], [1, 3, 5]), 40_000, generator=generator)
    assert (points[:, 2] == 5).all()
    assert points[:, :2].mean(0).tolist() == pytest.approx([0.5, 1.0], abs=0.03)
    assert points[:, :2].std(0).tolist() == pytest.approx([1 / 12**0.5, 4 / 12**0.5], rel=0.02)


def test_ball_samples_are_uniform_in_the_ball(generator: torch.Generator) -> None:
    points = sample_ball(40_000, radius=2.0, generator=generator)
    shares = (points.norm(dim=1) / 2).pow(3)
    assert float(shares.max()) <= 1
    assert torch.quantile(shares, torch.tensor([0.1, 0.5, 0.9]).double()).tolist() == pytest.approx(
        [0.1, 0.5, 0.9], abs=0.01
    )
    assert points.mean(0).abs().max() < 0.03


def test_weights_of_zero_are_never_drawn_even_last(generator: torch.Generator) -> None:
    drawn = draw_by_weight(torch.tensor([0.0, 1.0, 0.0, 3.0, 0.0], dtype=torch.float64), 20_000, generator=generator)
    counts = torch.bincount(drawn, minlength=5)
    assert counts[[0, 2, 4]].tolist() == [0, 0, 0]
    assert float(counts[3]) / 20_000 == pytest.approx(0.75, abs=0.015)


@pytest.mark.parametrize("num_points", [0, 1, 10, 999])
def test_shares_split_a_count_exactly(num_points: int) -> None:
    shares = [0.3, 0.0, 0.25, 0.15, 2.0]
    counts = split_by_shares(num_points, shares)
    assert sum(counts) == num_points
    assert counts[1] == 0
    assert all(abs(count - num_points * share / 2.7) < 1 for count, share in zip(counts, shares, strict=True))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: sample_surface(TWO_TRIANGLES, -1, generator=seeded()), "num_points must be 0 or more, got -1"),
        (lambda: sample_surface(Mesh([[0, 0, 0]], []), 1, generator=seeded()), r"without area \(0 faces\)"),
        (lambda: sample_near_surface(TWO_TRIANGLES, 1, noise_std=-0.5, generator=seeded()), r"noise_std .* got -0.5"),
        (lambda: sample_near_surface(TWO_TRIANGLES, 1, noise_std=[], generator=seeded()), r"noise_std .* got \[\]"),
        (lambda: sample_volume(Bounds.infinite(), 1, generator=seeded()), "infinite bounds"),
        (lambda: sample_ball(1, radius=0, generator=seeded()), "radius must be positive and finite, got 0"),
    ],
)
def test_nonsense_is_refused_by_name_and_value(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
