"""Muon: the iteration against the singular value decomposition, the step against a plain twin."""

from __future__ import annotations

import math

import pytest
import torch

from sdfnet.decoders import VolumeConfig, build_decoder
from sdfnet.training.optimizers import Muon, kernel_matrix, kernel_of, muon_groups, orthogonalized, suits_muon


def matrix_of(singular: list[float], shape: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    count = len(singular)
    left = torch.linalg.qr(torch.randn(shape[0], count, generator=generator, dtype=torch.float64))[0]
    right = torch.linalg.qr(torch.randn(shape[1], count, generator=generator, dtype=torch.float64))[0].T
    return (left * torch.tensor(singular, dtype=torch.float64)) @ right, left, right


@pytest.mark.parametrize("shape", [(4, 40), (40, 4), (4, 4)])
def test_singular_vectors_stay_and_singular_values_become_even(shape):
    matrix, left, right = matrix_of([1.0, 0.3, 0.1, 0.03], shape)
    found = left.T @ orthogonalized(matrix) @ right.T
    values = found.diagonal()
    assert (found - torch.diag(values)).abs().max() < 1e-9
    assert values.min() > 0.65
    assert values.max() < 1.25
    torch.testing.assert_close(orthogonalized(7 * matrix), orthogonalized(matrix), atol=1e-5, rtol=0)


def test_the_rounds_on_the_gram_matrix_are_those_on_the_matrix():
    matrix, _, _ = matrix_of([1.0, 0.2, 0.05], (6, 9))
    plain = matrix / matrix.norm()
    for _ in range(5):
        gram = plain @ plain.T
        plain = 3.4445 * plain - 4.7750 * gram @ plain + 2.0315 * gram @ gram @ plain
    torch.testing.assert_close(orthogonalized(matrix), plain, atol=1e-5, rtol=0)


def test_float32_is_enough_and_a_matrix_of_zeros_stays():
    matrix, _, _ = matrix_of([1.0, 0.3, 0.1, 0.03], (8, 64))
    torch.testing.assert_close(orthogonalized(matrix.float()).double(), orthogonalized(matrix), atol=1e-4, rtol=0)
    assert not orthogonalized(torch.zeros(5, 7)).any()


def test_steps_are_those_of_a_plain_twin():
    generator = torch.Generator().manual_seed(0)
    weight = torch.nn.Parameter(
        torch.randn(6, 2, 2, 2, 2, generator=generator).to(memory_format=torch.channels_last_3d)
    )
    twin, momentum = weight.detach().clone().reshape(6, 16), torch.zeros(6, 16)
    muon = Muon([{"params": [weight]}])
    for rate in (0.1, 0.05, 0.02):
        gradient = torch.randn(6, 2, 2, 2, 2, generator=generator)
        weight.grad = gradient.clone()
        muon.param_groups[0]["lr"] = rate
        muon.step()
        momentum = 0.95 * momentum + 0.05 * gradient.reshape(6, 16)
        ahead = 0.05 * gradient.reshape(6, 16) + 0.95 * momentum
        twin -= rate * 0.2 * math.sqrt(16) * orthogonalized(ahead)
    torch.testing.assert_close(weight.detach().reshape(6, 16), twin)


def test_a_step_moves_each_number_by_a_fifth_of_the_rate_in_the_mean_square():
    weight = torch.nn.Parameter(torch.zeros(16, 64))
    weight.grad = torch.randn(16, 64, generator=torch.Generator().manual_seed(0))
    Muon([{"params": [weight], "lr": 0.5}]).step()
    assert weight.detach().square().mean().sqrt().item() == pytest.approx(0.1, rel=0.15)


def test_the_matrix_of_a_kernel_is_what_the_transposed_convolution_does():
    generator = torch.Generator().manual_seed(0)
    kernel = torch.randn(3, 2, 4, 4, 4, generator=generator)
    image = torch.randn(1, 3, 2, 2, 2, generator=generator)
    whole = torch.nn.functional.conv_transpose3d(image, kernel, stride=2)  # (1, 2, 6, 6, 6)
    # The middle block of 2³ outputs sees all 2³ inputs: tap t of an axis is input 1 - t.
    expected = image[0].flip(1, 2, 3).reshape(-1) @ kernel_matrix(kernel, 2)
    torch.testing.assert_close(whole[0, :, 2:4, 2:4, 2:4].reshape(-1), expected)
    assert torch.equal(kernel_of(kernel_matrix(kernel, 2), kernel.shape, 2), kernel)
    assert torch.equal(kernel_of(kernel_matrix(kernel, 1), kernel.shape, 1), kernel)


def test_every_matrix_of_the_default_decoder_is_in_one_group_and_only_small_kernels_count_by_stride():
    decoder = build_decoder(VolumeConfig())
    groups = muon_groups(decoder)
    assert [tuple(weight.shape[:2]) for weight in groups[2]] == [(64, 32), (32, 8)]
    assert [tuple(weight.shape[:2]) for weight in groups[1]] == [(8192, 256), (128, 64), (64, 8), (64, 64)]


def test_vectors_and_narrow_matrices_are_left_to_adam():
    shapes = [(64,), (1, 64), (64, 3), (3, 64), (8, 4), (8, 1, 2, 2, 2)]
    assert [suits_muon(torch.zeros(shape)) for shape in shapes] == [False, False, False, False, True, True]
