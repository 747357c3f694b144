"""Muon: momentum whose matrices are made orthogonal before each step, for the weight matrices of a decoder.

A gradient of a matrix is dominated by a few directions. Its momentum is replaced by the nearest matrix with equal
singular values, so that every direction learns at the same pace. Measured here: the surface error that Adam reaches in
some number of steps is reached in about half of them (docs/decoders.md). Vectors (biases, codes) stay with Adam.

torch.optim.Muon (from torch 2.9) takes matrices only and iterates in bfloat16 on whole matrices; here kernels of
convolutions count as matrices, and the iteration runs in float32 on the small Gram matrix, which costs two products of
the whole matrix instead of fifteen.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

_MOMENTUM = 0.95
_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of Jordan's quintic: five rounds lift singular values of 0.01 to about 1, and leave all between 0.7 and 1.2."""

_ROUNDS = 5
_SCALE = 0.2
"""The root of the mean square of a step at rate 1: with it a rate means about what it means to Adam (Liu et al.)."""

_TINY = 1e-7
_LEAST_ROWS = 4
"""A matrix with fewer rows or columns than this has no directions to make even."""


class Muon:
    """Steps of Muon with Nesterov momentum, deterministic. An `Optimizer` (see `optimizers`).

    A parameter (R, ...) counts as the matrix (R, C) of its rows.

    References
    ----------
    Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024,
    https://kellerjordan.github.io/posts/muon/; the scale of a step is that of Liu et al., "Muon is Scalable for LLM
    Training", 2025, equation 4. Its weight decay is left out.
    """

    def __init__(self, groups: Iterable[Mapping[str, Any]]) -> None:
        self.param_groups: list[dict[str, Any]] = [{"lr": 0.0, **group} for group in groups]
        self.state: dict[Tensor, dict[str, Tensor]] = {}

    @torch.no_grad()
    def step(self) -> None:
        """Move every parameter that has a gradient."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                if parameter not in self.state:
                    self.state[parameter] = {"momentum": torch.zeros_like(parameter)}
                momentum = self.state[parameter]["momentum"].lerp_(parameter.grad, 1 - _MOMENTUM)
                ahead = parameter.grad.lerp(momentum, _MOMENTUM)
                matrix = ahead.reshape(len(ahead), -1)
                step = orthogonalized(matrix).reshape(parameter.shape)
                parameter.add_(step, alpha=-group["lr"] * _SCALE * math.sqrt(max(matrix.shape)))


def suits_muon(parameter: Tensor) -> bool:
    """Tell whether `parameter` is a matrix, or counts as one, with several rows and columns.

    >>> suits_muon(torch.zeros(64, 8)), suits_muon(torch.zeros(32, 8, 4, 4, 4)), suits_muon(torch.zeros(1, 64))
    (True, True, False)
    """
    return parameter.ndim >= 2 and min(len(parameter), parameter[0].numel()) >= _LEAST_ROWS


def orthogonalized(matrix: Tensor) -> Tensor:
    """Return about the nearest (semi-)orthogonal matrix of `matrix` (R, C), by Newton-Schulz iteration.

    Singular vectors stay, singular values above about a hundredth of the Frobenius norm come between 0.7 and 1.2. What
    the iteration multiplies the matrix by is a polynomial of its Gram matrix, so the rounds run on that one, (k, k)
    with k the shorter side.
    """
    wide = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    wide = wide / (wide.norm() + _TINY)
    gram = wide @ wide.T
    identity = torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
    factor = identity
    a, b, c = _COEFFICIENTS
    for _ in range(_ROUNDS):
        polynomial = a * identity + b * gram + c * (gram @ gram)
        factor = polynomial @ factor
        gram = polynomial @ gram @ polynomial
    result = factor @ wide
    return result if matrix.shape[0] <= matrix.shape[1] else result.T
