"""The permutation test: uniform p-values where nothing differs, power where something does, and its parts."""

import numpy as np
import pytest
import torch
from scipy.stats import kstest

from sdfnet.extraction import extract_mesh
from sdfnet.fields import Sphere
from sdfnet.geometry.arrays import FloatArray
from sdfnet.latents.groups import align_rigidly, compare_groups, local_form

BALL = extract_mesh(Sphere(0.9), resolution=24).vertices


def family(num: int, seed: int = 0) -> FloatArray:
    """Balls that are stretched along the axes, and bent a little."""
    random = np.random.default_rng(seed)
    stretched = BALL * (1 + 0.15 * random.normal(size=(num, 1, 3)))
    stretched[..., 1] += 0.1 * random.normal(size=(num, 1)) * BALL[:, 0] ** 2
    return stretched + 0.001 * random.normal(size=stretched.shape)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_p_values_are_uniform_where_the_groups_do_not_differ() -> None:
    shapes, random = family(30), np.random.default_rng(1)
    few = shapes[:, :: len(BALL) // 150]
    p_values = [
        compare_groups(few, random.permutation(30) < 12, num_permutations=99, generator=generator(seed)).p_value
        for seed in range(150)
    ]
    assert kstest(p_values, "uniform").pvalue > 0.01
    assert np.mean(np.array(p_values) <= 0.05) < 0.1


def test_a_small_bump_is_found_where_it_is_although_the_shapes_vary_much_more() -> None:
    shapes, groups = family(40), np.arange(40) % 2 == 1
    near = np.linalg.norm(BALL - BALL[100], axis=1)
    bump = 0.02 * np.exp(-((near / 0.1) ** 2))[:, None] * BALL[100] / 0.9
    shapes[groups] += bump
    assert shapes.std(axis=0).max() > 5 * np.abs(bump).max()
    found = compare_groups(shapes, groups, num_permutations=199, generator=generator())
    assert found.p_value == 1 / 200
    assert near[found.vertex_p_values.argmin()] < 0.15
    assert (near[found.vertex_p_values < 0.05] < 0.4).all()
    assert found.differences @ BALL[100] / 0.9 == pytest.approx(bump @ BALL[100] / 0.9, abs=0.15)


def test_a_difference_of_place_is_found_too() -> None:
    shapes, groups = family(30), np.arange(30) < 15
    shapes[groups] *= 1.3
    assert compare_groups(shapes, groups, num_permutations=99, generator=generator()).p_value == 1 / 100


def test_the_same_seed_gives_the_same_p_values_and_swapped_groups_too() -> None:
    shapes, groups = family(12), np.arange(12) < 6
    first = compare_groups(shapes, groups, num_permutations=49, generator=generator())
    again = compare_groups(shapes, groups, num_permutations=49, generator=generator())
    assert (first.vertex_p_values == again.vertex_p_values).all()
    other = compare_groups(shapes, ~groups, num_permutations=49, generator=generator())
    assert other.differences == pytest.approx(-first.differences)


def test_alignment_undoes_rotations_and_shifts_and_keeps_sizes() -> None:
    angle = 0.7
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    square = BALL * [1.0, 2.0, 3.0]
    aligned = align_rigidly(np.stack([square, square @ turn + 5, 2 * square]))
    assert aligned[0] == pytest.approx(aligned[1], abs=1e-9)
    assert np.ptp(aligned[2], axis=0) == pytest.approx(2 * np.ptp(aligned[0], axis=0), rel=1e-6)


def test_local_form_is_blind_to_affine_maps_and_sees_a_bump() -> None:
    random = np.random.default_rng(0)
    maps = np.eye(3) + 0.3 * random.normal(size=(6, 3, 3))
    shapes = np.stack([BALL @ each for each in maps])
    assert np.abs(local_form(shapes, scale=0.3)).max() < 0.003
    bump = 0.02 * np.exp(-((np.linalg.norm(BALL - BALL[100], axis=1) / 0.1) ** 2))
    shapes = np.stack([BALL] * 8)
    shapes[0] += bump[:, None]
    assert np.abs(local_form(shapes, scale=0.4)[0]).max() > 0.008


@pytest.mark.parametrize(
    ("shape", "second", "options", "message"),
    [
        ((6, 5, 3), [True, True, False, False, False, False], {}, "at least 3 shapes, got 4 and 2"),
        ((6, 5, 2), [True] * 6, {}, r"got \(6, 5, 2\)"),
        ((6, 5, 3), [True] * 5, {}, r"in_second \(S,\), got \(6, 5, 3\) and \(5,\)"),
        ((6, 5, 3), [True, False] * 3, {"num_permutations": 9}, "19 or more, got 9"),
        ((6, 5, 3), [True, False] * 3, {"scale": 0.0}, "scale must be above 0, got 0.0"),
    ],
)
def test_what_cannot_be_compared_is_refused(
    shape: tuple[int, ...], second: list[bool], options: dict[str, float], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        compare_groups(np.zeros(shape), np.array(second), generator=generator(), **options)
