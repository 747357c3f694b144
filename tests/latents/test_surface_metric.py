"""The metric of the surface against spheres, whose movements have a closed form."""

import dataclasses

import numpy as np
import pytest
import torch
from exact_spheres import sphere_run

from sdfnet.geometry.similarity import UNIT_RADIUS
from sdfnet.latents.generalization import generalization
from sdfnet.latents.statistics import fit_components
from sdfnet.latents.surface_metric import nearest_code, surface_metric
from sdfnet.runs import Run


def family(codes: np.ndarray) -> Run:
    """Spheres with these centres and radii, (S, 4)."""
    run = sphere_run({f"s{number}": 0.5 for number in range(len(codes))})
    return dataclasses.replace(run, latents=torch.from_numpy(codes).float())


def spheres(num: int) -> np.ndarray:
    random = np.random.default_rng(0)
    return np.column_stack([random.normal(size=(num, 3)) * 0.03, 0.5 + 0.02 * random.normal(size=num)])


def test_the_metric_of_spheres_is_their_mean_square_movement_along_the_normal() -> None:
    codes = spheres(8)
    root = surface_metric(family(codes), codes) * UNIT_RADIUS
    assert root.T @ root == pytest.approx(np.diag([1 / 3, 1 / 3, 1 / 3, 1.0]), abs=0.02)


def test_the_metric_holds_for_directions_in_which_codes_differ() -> None:
    codes = spheres(8) * [1, 0, 0, 1] + [0, 0.1, 0, 0]
    root = surface_metric(family(codes), codes)
    assert root.shape == (2, 4)
    assert np.abs(root[:, [1, 2]]).max() < 1e-9


def test_the_nearest_code_of_few_components_has_the_nearest_surface() -> None:
    """Components that mix place and radius: the best score is not that of the projection in the codes."""
    axis = np.array([0.05, 0.0, 0.0, 0.03])
    codes = np.array([0.0, 0, 0, 0.5]) + np.linspace(-1, 1, 5)[:, None] * axis
    code = np.array([0.04, 0.02, 0.0, 0.56])
    run, components = family(codes), fit_components(codes)
    found = nearest_code(run, components, code, 1)
    directions = np.random.default_rng(0).normal(size=(20_000, 3))
    surface = code[:3] + code[3] * directions / np.linalg.norm(directions, axis=1, keepdims=True)

    def away(score: float) -> float:
        other = components.codes(np.array([score]))
        return float(((np.linalg.norm(surface - other[:3], axis=1) - other[3]) ** 2).mean())

    scores = np.linspace(-3, 3, 601)
    best = scores[np.argmin([away(score) for score in scores])]
    assert components.scores(found)[0] == pytest.approx(best, abs=0.05)
    assert abs(components.scores(code)[0] - best) > 0.2


def test_generalization_keeps_what_moves_the_surface_most() -> None:
    """The centres differ more than the radii, but a radius moves the surface more. So one mode keeps the radius."""
    codes = np.zeros((8, 4))
    codes[:, 0] = 0.06 * np.array([1, -1, 1, -1, 1, -1, 1, -1])
    codes[:, 3] = 0.5 + 0.05 * np.array([1, 1, -1, -1, 1, 1, -1, -1])
    run = family(codes)

    def error(metric: np.ndarray) -> float:
        generator = torch.Generator().manual_seed(0)
        found = generalization(
            run, run.names, codes, metric=metric, modes=[1], num_tests=3, resolution=32, generator=generator
        )
        return float(found.values[0])

    # The mean of |x| over a ball's surface is half its radius; the mean of the others is off by an eighth of a shift.
    assert error(surface_metric(run, codes)) == pytest.approx(100 * 0.06 * (1 + 1 / 7) / 2 / 0.5, rel=0.25)
    assert error(np.eye(4)) == pytest.approx(100 * 0.05 * (1 + 1 / 7) / 0.5, rel=0.25)


def test_without_a_surface_there_is_no_metric() -> None:
    codes = spheres(4) - [0, 0, 0, 0.9]
    with pytest.raises(ValueError, match=r"no shape of spheres has a surface yet: train longer"):
        surface_metric(family(codes), codes)
