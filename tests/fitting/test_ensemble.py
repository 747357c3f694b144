"""The ensemble of learned fields on spheres and ellipsoids, whose distances between two slices are known."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from exact_spheres import sphere_run
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from sdfnet.fields import NeuralField
from sdfnet.fields.base import evaluate
from sdfnet.fitting import CompletionConfig, fit
from sdfnet.fitting.ensemble import FieldEnsemble, _aligned, _lattice_points, _look_up, _truncated
from sdfnet.fitting.observations.labels import label_part
from sdfnet.fitting.refine import Evidence, ResidualProcess
from sdfnet.geometry.similarity import Similarity
from sdfnet.volumes import LabelVolume

POINTS = _lattice_points()
SHAPE = (48, 48, 48)


def ring(radius: float, height: float) -> NDArray[np.float64]:
    angle = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    across = np.sqrt(radius**2 - height**2)
    return np.stack([across * np.cos(angle), across * np.sin(angle), np.full(60, height)], axis=1)


def ensemble_of_spheres() -> FieldEnsemble:
    radii = np.linspace(0.45, 0.65, 25)
    fields = np.stack([np.linalg.norm(POINTS, axis=1) - radius for radius in radii]).reshape(-1, *SHAPE)
    return FieldEnsemble(fields.mean(axis=0), fields - fields.mean(axis=0), 0.9)


def evidence_of(points: NDArray[np.float64]) -> Evidence:
    surface = torch.zeros(len(points))
    return Evidence(torch.from_numpy(points).float(), surface, surface, torch.full((len(points),), 1e-3))


def test_slices_tell_the_surface_between_them_and_far_places_stay_at_the_mean() -> None:
    slices = np.concatenate([ring(0.62, -0.2), ring(0.62, 0.2)])
    process = ResidualProcess(96, std=0.005, correlation=0.05)
    field = ensemble_of_spheres().field_given(evidence_of(slices), process)
    between = _look_up(field, ring(0.62, 0.0))
    assert abs(between).mean() < 0.012  # the mean shape is wrong by 0.07
    one_side = slices[slices[:, 0] > 0.4]
    field = ensemble_of_spheres().field_given(evidence_of(one_side), process)
    other_side = _look_up(field, np.array([[-0.55, 0.0, 0.0]]))
    assert abs(other_side[0]) < 0.035  # the untapered covariance would say -0.07


def test_outliers_hardly_count_and_broken_bounds_do() -> None:
    slices = np.concatenate([ring(0.6, -0.2), ring(0.6, 0.2)])
    process = ResidualProcess(96, std=0.005, correlation=0.05)
    wrong = np.concatenate([slices, ring(0.6, 0.2)[:6] * [1.4, 1.4, 1.0]])
    field = ensemble_of_spheres().field_given(evidence_of(wrong), process)
    assert abs(_look_up(field, ring(0.6, 0.0))).mean() < 0.015
    points = np.concatenate([slices, ring(0.6, 0.0) * 0.97])
    lower = torch.zeros(len(points))
    lower[len(slices) :] = 0.01  # outside, says the input
    upper = torch.where(lower > 0, torch.inf, 0.0)
    bounds = Evidence(torch.from_numpy(points).float(), lower, upper, torch.full((len(points),), 1e-3))
    process = ResidualProcess(96, std=0.02, correlation=0.08)
    plain = ensemble_of_spheres().field_given(evidence_of(slices), process)
    kept = ensemble_of_spheres().field_given(bounds, process)
    place = ring(0.6, 0.0) * 0.97
    assert _look_up(kept, place).mean() > _look_up(plain, place).mean() + 0.004


def test_a_value_within_bounds_has_the_moments_of_a_truncated_normal() -> None:
    mean, spread = np.array([0.0, 5.0, -1.0]), np.array([1.0, 1.0, 1.0])
    lower, upper = np.array([0.0, 0.0, 0.0]), np.array([np.inf, np.inf, 1e-2])
    value, variance = _truncated(mean, spread, lower, upper)
    assert value[0] == pytest.approx(np.sqrt(2 / np.pi))
    assert variance[0] == pytest.approx(1 - 2 / np.pi)
    assert value[1] == pytest.approx(5.0, abs=1e-4)  # a bound that holds by far says nothing
    assert value[2] == pytest.approx(0.005, abs=1e-3)


def test_turned_and_scaled_shapes_are_brought_together() -> None:
    random = np.random.default_rng(0)
    fields = []
    for _ in range(8):
        turned = POINTS @ Rotation.from_rotvec(random.normal(size=3) * 0.12).as_matrix() + random.normal(size=3) * 0.03
        size = np.exp(random.normal() * 0.05)
        inner = turned / (size * np.array([0.8, 0.5, 0.3]))
        fields.append((np.linalg.norm(inner, axis=1) - 1) * 0.3)
    before = np.stack(fields).reshape(-1, *SHAPE).astype(np.float32)
    after = _aligned(before)
    near = abs(before.mean(axis=0)) < 0.1
    assert after.std(axis=0)[near].mean() < 0.35 * before.std(axis=0)[near].mean()


@pytest.fixture(scope="module")
def slices_of_a_ball() -> tuple[LabelVolume, NDArray[np.bool_]]:
    inside = np.linalg.norm(np.indices((30, 30, 30)) - 14.5, axis=0) < 10.6
    return LabelVolume(inside.astype(np.int64), np.eye(4)), inside


def test_slices_are_completed_by_the_ensemble_and_scattered_points_are_not(
    slices_of_a_ball: tuple[LabelVolume, NDArray[np.bool_]],
) -> None:
    place = Similarity([14.5, 14.5, 14.5], 0.05)
    radii = {f"s{index}": radius for index, radius in enumerate(np.linspace(0.4, 0.7, 24).tolist())}
    run = sphere_run(radii, similarities=dict.fromkeys(radii, place))
    ensemble = FieldEnsemble.of(run)
    assert ensemble.is_useful
    assert FieldEnsemble.of(run) is ensemble
    part = label_part(*slices_of_a_ball, axis=1, every=6)
    config = CompletionConfig("none", frame_of="s0", refine="shape")
    done = fit(run, part, config=config)
    direction = np.random.default_rng(0).normal(size=(500, 3))
    surface = torch.from_numpy(0.53 * direction / np.linalg.norm(direction, axis=1, keepdims=True)).float()
    assert float(evaluate(done.fields[0], surface).abs().mean()) < 0.01
    few = fit(run, dataclasses.replace(part, is_dense=False), config=config)
    code = NeuralField(run.decoder, few.latents[0])
    assert not torch.equal(few.residuals[0], done.residuals[0])
    assert float(evaluate(code, surface).abs().mean()) < 0.02
