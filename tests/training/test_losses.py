"""Losses against closed forms and slow twins; no sample is ever without a gradient that would mend it."""

from __future__ import annotations

import math
import re

import pytest
import torch

from sdfnet.training import trainer
from sdfnet.training.config import TrainingConfig, learning_rates, parse_duration
from sdfnet.training.losses import (
    clamped_residual,
    curriculum_residual,
    difference_gradient,
    eikonal_loss,
    latent_prior,
    normal_loss,
)


def test_residual_equals_deepsdfs_clamped_difference_where_the_prediction_is_inside_the_clamp():
    generator = torch.Generator().manual_seed(0)
    truth = torch.rand(1000, generator=generator) - 0.5
    pred = (torch.rand(1000, generator=generator) - 0.5) * 0.2
    expected = pred.clamp(-0.1, 0.1) - truth.clamp(-0.1, 0.1)
    torch.testing.assert_close(clamped_residual(pred, truth, clamp_distance=0.1), expected)


def test_every_prediction_on_the_wrong_side_has_a_gradient_however_far_out():
    truth = torch.tensor([-0.5, -0.01, 0.01, 0.5])
    pred = torch.tensor([3.0, 3.0, -3.0, -3.0], requires_grad=True)
    clamped_residual(pred, truth, clamp_distance=0.1).abs().sum().backward()
    assert pred.grad.tolist() == [1, 1, -1, -1]


def test_predictions_beyond_the_clamp_on_the_right_side_cost_nothing():
    truth = torch.tensor([0.3, -0.3])
    assert clamped_residual(torch.tensor([0.9, -0.11]), truth, clamp_distance=0.1).tolist() == [0, 0]


def test_curriculum_equals_a_loop_over_samples():
    generator = torch.Generator().manual_seed(0)
    truth = torch.rand(200, generator=generator) - 0.5
    pred = torch.rand(200, generator=generator) - 0.5
    for progress, tolerance, weight in [(0.0, 0.025, 0.0), (0.2, 0.01, 0.1), (0.4, 0.0025, 0.2), (0.9, 0.0, 0.5)]:
        losses = curriculum_residual(pred - truth, truth, progress=progress)
        for p, t, loss in zip(pred.tolist(), truth.tolist(), losses.tolist(), strict=True):
            nearer = (t > 0 and p < t) or (t < 0 and p > t)
            expected = (1 + weight if nearer else 1 - weight) * max(abs(p - t) - tolerance, 0)
            assert loss == pytest.approx(expected, abs=1e-6)


def test_difference_gradient_of_a_sphere_is_the_radial_direction():
    points = torch.randn(2, 30, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    points = 0.7 * torch.nn.functional.normalize(points, dim=-1)
    gradient = difference_gradient(lambda p: p.norm(dim=-1) - 0.5, points)
    torch.testing.assert_close(gradient, points / 0.7, atol=2e-5, rtol=0)
    assert eikonal_loss(gradient) < 1e-9
    assert normal_loss(gradient, points / 0.7) < 1e-6
    assert normal_loss(gradient, -points / 0.7) == pytest.approx(2, abs=1e-3)


def test_normal_loss_is_the_chord_of_the_angle_whatever_the_length_of_the_gradient():
    angles = torch.tensor([0.02, 0.5, 3.0], dtype=torch.float64)
    gradient = torch.stack([angles.cos(), angles.sin(), 0 * angles], dim=-1) * torch.tensor([[0.1], [1.0], [7.0]])
    normals = torch.eye(3, dtype=torch.float64)[:1].expand(3, 3)
    for one, angle in zip(gradient, angles, strict=True):
        assert normal_loss(one, normals[0]) == pytest.approx(2 * math.sin(angle / 2), abs=1e-3)


def test_normal_loss_takes_the_side_of_an_edge_that_more_normals_have_and_not_the_mean_direction():
    """Of three normals, one points away by 90 degrees. The direction of least loss is that of the other two."""
    normals = torch.tensor([[1.0, 0, 0], [1.0, 0, 0], [0, 1.0, 0]])
    angles = torch.deg2rad(torch.arange(0.0, 91.0))
    losses = [normal_loss(torch.stack([a.cos(), a.sin(), 0 * a]).expand(3, 3), normals) for a in angles]
    assert int(torch.stack(losses).argmin()) == 0


def test_normal_loss_has_finite_derivatives_where_the_gradient_is_right_and_where_it_is_zero():
    gradient = torch.tensor([[1.0, 0, 0], [0, 0, 0]], requires_grad=True)
    normal_loss(gradient, torch.tensor([[1.0, 0, 0], [1.0, 0, 0]])).backward()
    assert gradient.grad.isfinite().all()


def test_difference_gradient_of_a_quadratic_is_exact_and_in_the_order_x_y_z():
    points = torch.rand(1, 10, 3, dtype=torch.float64)
    gradient = difference_gradient(lambda p: p[..., 0] + 2 * p[..., 1] ** 2 + 3 * p[..., 2] * p[..., 0], points)
    x, y, z = points.unbind(-1)
    torch.testing.assert_close(gradient, torch.stack([1 + 3 * z, 4 * y, 3 * x], dim=-1))


def test_latent_prior_is_the_mean_squared_length():
    assert latent_prior(torch.tensor([[3.0, 4.0], [0.0, 1.0]])) == 13


@pytest.mark.parametrize("text", ["5", "20", "soon", "min", "-1min", "3 days", ""])
def test_durations_that_mean_nothing_are_refused(text):
    message = f"budget must be a number with s, min or h, such as 90s, got {text!r}"
    with pytest.raises(ValueError, match=re.escape(message)):
        parse_duration(text)


def test_a_budget_of_nothing_is_refused():
    with pytest.raises(ValueError, match="budget must be above 0, such as 90s, got '0s'"):
        parse_duration("0s")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "steps must be at least 1, got 0"),
        ({"budget": None}, "neither"),
        ({"learning_rate": -1.0}, "learning_rate must be positive and finite, got -1.0"),
        ({"batch_points": 0}, "batch_points must be at least 1, got 0"),
        ({"warmup_share": 1.0}, "warmup_share must be in"),
        ({"precision": "half"}, "auto, float32, bfloat16, got 'half'"),
        ({"optimizer": "sgd"}, "optimizer must be one of auto, muon, adam, got 'sgd'"),
        ({"eikonal_weight": float("nan")}, "eikonal_weight must be 0 or more, got nan"),
    ],
)
def test_wrong_training_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        TrainingConfig(**options)


def test_given_rates_win_over_the_decoders_own():
    assert learning_rates(TrainingConfig(learning_rate=0.25), "deepsdf").decoder == 0.25
    assert learning_rates(TrainingConfig(), "deepsdf").latents == 1e-3


def test_rates_depend_on_the_optimizer_and_one_that_was_never_tuned_wants_a_rate():
    assert learning_rates(TrainingConfig(), "volume").decoder == 1.4e-2
    assert learning_rates(TrainingConfig(optimizer="adam"), "volume").decoder == 5e-3
    assert learning_rates(TrainingConfig(), "volume", steps=120).decoder == 1.4e-2
    assert learning_rates(TrainingConfig(), "volume", steps=60).decoder == pytest.approx(1.4e-2 * 2**0.7)
    assert learning_rates(TrainingConfig(), "volume", steps=1) == learning_rates(TrainingConfig(), "volume", steps=40)
    assert learning_rates(TrainingConfig(learning_rate=0.25), "volume", steps=60).decoder == 0.25
    assert learning_rates(TrainingConfig(optimizer="adam"), "volume", steps=60).decoder == 5e-3
    with pytest.raises(ValueError, match="no learning rate is tuned for decoder=siren with optimizer=muon"):
        learning_rates(TrainingConfig(optimizer="muon"), "siren")
    given = learning_rates(TrainingConfig(optimizer="muon", learning_rate=0.03), "siren")
    assert (given.decoder, given.latents) == (0.03, 1e-3)


def test_the_prior_rises_with_the_square_of_the_step_and_with_its_share_of_the_training():
    config = TrainingConfig(prior_weight=1e-2, prior_warmup_steps=600, prior_warmup_share=0.1)
    weights = [
        trainer._prior_weight(config, step, share) for step, share in [(0, 0.5), (300, 0.5), (900, 0.05), (900, 1)]
    ]
    assert weights == pytest.approx([0, 2.5e-3, 5e-3, 1e-2])
