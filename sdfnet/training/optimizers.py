"""What moves parameters: groups with a rate of their own, a state for each parameter, and Adam.

`torch.optim.Optimizer` would do the same, but making the first one imports torch's compiler, which takes two seconds:
more than a short training can spare. Adam calls the fused kernel of `torch.optim.Adam(fused=True)`, and is equal to it
to the bit.

Muon: momentum whose matrices are made orthogonal before each step, for the weight matrices of a decoder.

A gradient of a matrix is dominated by a few directions. Its momentum is replaced by the nearest matrix with equal
singular values, so that every direction learns at the same pace. Measured here: the surface error that Adam reaches in
some number of steps is reached in about half of them (docs/notes/decoders.md). Vectors (biases, codes) stay with Adam.

torch.optim.Muon (from torch 2.9) takes matrices only and iterates in bfloat16 on whole matrices; here kernels of
convolutions count as matrices, and the iteration runs in float32 on the small Gram matrix, which costs two products of
the whole matrix instead of fifteen.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor, nn

_BETAS = (0.9, 0.99)
"""Moments forget within a hundred steps: a code is seen only every few steps, and the rate falls steadily."""

_EPS = 1e-8


class Optimizer(Protocol):
    """Moves the parameters of its groups along their gradients.

    Attributes
    ----------
    param_groups : list of dict
        Each with `params`, a list of tensors, its learning rate `lr`, and whatever else its maker put there.
    state : dict from a parameter to what is kept of it, tensors by name
    """

    param_groups: list[dict[str, Any]]
    state: dict[Tensor, dict[str, Tensor]]

    def step(self) -> None:
        """Move every parameter that has a gradient."""


class Adam:
    """Adam (Kingma & Ba, 2015, algorithm 1) by torch's fused kernel, deterministic. An `Optimizer`.

    >>> weight = torch.ones(3, requires_grad=True)
    >>> adam = Adam([{"params": [weight], "lr": 0.1}])
    >>> weight.sum().backward()
    >>> adam.step()
    >>> weight.detach()
    tensor([0.9000, 0.9000, 0.9000])
    """

    def __init__(self, groups: Iterable[Mapping[str, Any]]) -> None:
        self.param_groups: list[dict[str, Any]] = [{"lr": 0.0, **group} for group in groups]
        self.state: dict[Tensor, dict[str, Tensor]] = {}

    @torch.no_grad()
    def step(self) -> None:
        for group in self.param_groups:
            moved = [parameter for parameter in group["params"] if parameter.grad is not None]
            for parameter in moved:
                if parameter not in self.state:
                    self.state[parameter] = {
                        "step": torch.zeros((), dtype=torch.float32, device=parameter.device),
                        "exp_avg": torch.zeros_like(parameter),
                        "exp_avg_sq": torch.zeros_like(parameter),
                    }
            if not moved:
                continue
            kept = [self.state[parameter] for parameter in moved]
            steps = [one["step"] for one in kept]
            torch._foreach_add_(steps, 1)
            torch._fused_adam_(
                moved, [parameter.grad for parameter in moved],
                [one["exp_avg"] for one in kept], [one["exp_avg_sq"] for one in kept], [], steps,
                lr=group["lr"], beta1=_BETAS[0], beta2=_BETAS[1], weight_decay=0.0, eps=_EPS,
                amsgrad=False, maximize=False,
            )  # fmt: skip


def clear_gradients(optimizers: Iterable[Optimizer]) -> None:
    """Forget the gradients of all parameters."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                parameter.grad = None


_MOMENTUM = 0.95
_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of Jordan's quintic: five rounds lift singular values of 0.01 to about 1, and leave all between 0.7 and 1.2."""

_ROUNDS = 5
_SCALE = 0.2
"""The root of the mean square of a step at rate 1: with it a rate means about what it means to Adam (Liu et al.)."""

_TINY = 1e-7
_LONGEST_SIDE = 256
"""Kernels count as matrices of their strides only where the shorter side is at most this: the rounds cost its cube."""

_LEAST_ROWS = 4
"""A matrix with fewer rows or columns than this has no directions to make even."""


class Muon:
    """Steps of Muon with Nesterov momentum, deterministic. An `Optimizer` (see `optimizers`).

    A parameter (R, ...) counts as the matrix (R, C) of its rows, in a group with a `stride` as `kernel_matrix` says.

    References
    ----------
    Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024,
    https://kellerjordan.github.io/posts/muon/; the scale of a step is that of Liu et al., "Muon is Scalable for LLM
    Training", 2025, equation 4. Its weight decay is left out.
    """

    def __init__(self, groups: Iterable[Mapping[str, Any]]) -> None:
        self.param_groups: list[dict[str, Any]] = [{"lr": 0.0, "stride": 1, **group} for group in groups]
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
                matrix = kernel_matrix(ahead, group["stride"])
                step = kernel_of(orthogonalized(matrix), parameter.shape, group["stride"])
                parameter.add_(step, alpha=-group["lr"] * _SCALE * math.sqrt(max(matrix.shape)))


def muon_groups(decoder: nn.Module) -> dict[int, list[nn.Parameter]]:
    """Return the parameters of `decoder` that suit Muon, by the stride that `kernel_matrix` takes them with."""
    groups: dict[int, list[nn.Parameter]] = {}
    for module in decoder.modules():
        stride = 1
        if isinstance(module, nn.ConvTranspose3d) and len(set(module.stride)) == 1:
            rows, columns, *sizes = module.weight.shape
            side = min(rows * math.prod(sizes) // module.stride[0] ** 3, columns * module.stride[0] ** 3)
            fits = all(size % module.stride[0] == 0 for size in sizes) and side <= _LONGEST_SIDE
            stride = module.stride[0] if fits else 1
        for parameter in module.parameters(recurse=False):
            if suits_muon(parameter):
                groups.setdefault(stride, []).append(parameter)
    return groups


def kernel_matrix(kernel: Tensor, stride: int) -> Tensor:
    """Return `kernel` as the matrix of what it does: (R, ...) as (R, C) where the stride is 1.

    A transposed convolution of stride s with a kernel (I, O, k, k, k) makes s³ neighbouring outputs of (k / s)³
    neighbouring inputs: a matrix (I (k / s)³, O s³).

    >>> kernel_matrix(torch.zeros(32, 8, 4, 4, 4), 2).shape
    torch.Size([256, 64])
    """
    if stride == 1:
        return kernel.reshape(len(kernel), -1)
    taps = [part for size in kernel.shape[2:] for part in (size // stride, stride)]
    split = kernel.reshape(*kernel.shape[:2], *taps).permute(0, 2, 4, 6, 1, 3, 5, 7)
    return split.reshape(math.prod(split.shape[:4]), -1)


def kernel_of(matrix: Tensor, shape: torch.Size, stride: int) -> Tensor:
    """Return the kernel of a `shape` whose `kernel_matrix` is `matrix`."""
    if stride == 1:
        return matrix.reshape(shape)
    taps = [size // stride for size in shape[2:]]
    split = matrix.reshape(shape[0], *taps, shape[1], *[stride] * 3)
    return split.permute(0, 4, 1, 5, 2, 6, 3, 7).reshape(shape)


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
