"""The two optimizers of a training: Adam for vectors and codes, and Muon for the weight matrices of a decoder.

`torch.optim.Optimizer` is not used: making the first one imports torch's compiler, which takes 1.6 to 3.2 seconds. Adam
here calls the fused kernel of `torch.optim.Adam(fused=True)`, and equals it to the bit.

Muon replaces a matrix's momentum by the nearest matrix with equal singular values, so that every direction learns
equally fast. It reaches the surface error of Adam in about half of the steps (docs/notes/decoders.md). Unlike in
`torch.optim.Muon`, kernels of convolutions count as matrices. The iteration runs in float32 on the small Gram matrix,
which costs two products of the whole matrix instead of fifteen.
"""

from __future__ import annotations

import abc
import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from sdfnet.decoders import Decoder

_BETAS = (0.9, 0.99)
"""Moments last about a hundred steps, because a code is used only every few steps and the rate falls steadily."""

_EPS = 1e-8


class Optimizer(abc.ABC):
    """Moves the parameters of its groups along their gradients. `state` maps each parameter to its moments by name.

    A group has `params` (a list of tensors), the learning rate `lr`, and any other keys that its maker added.
    """

    def __init__(self, groups: Iterable[Mapping[str, Any]]) -> None:
        self.param_groups: list[dict[str, Any]] = [{"lr": 0.0, "stride": 1, **group} for group in groups]
        self.state: dict[Tensor, dict[str, Tensor]] = {}

    @abc.abstractmethod
    def step(self) -> None:
        """Move every parameter that has a gradient."""


class Adam(Optimizer):
    """Adam (Kingma & Ba, 2015, algorithm 1) by torch's fused kernel, deterministic.

    >>> weight = torch.ones(3, requires_grad=True)
    >>> adam = Adam([{"params": [weight], "lr": 0.1}])
    >>> weight.sum().backward()
    >>> adam.step()
    >>> weight.detach()
    tensor([0.9000, 0.9000, 0.9000])
    """

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
"""Jordan's quintic polynomial. Five rounds raise singular values of 0.01 to about 1 and keep all values below 1.2."""

_ROUNDS = 5
_SCALE = 0.2
"""Root mean square of a step at rate 1. With this scale, Adam and Muon need similar rates (Liu et al.)."""

_TINY = 1e-7
_LONGEST_SIDE = 256
"""A kernel is split by its stride only if the shorter side of the matrix is at most this, because rounds cost its
cube."""

_LEAST_ROWS = 4
"""A matrix with fewer rows or columns than this is left to Adam."""


class Muon(Optimizer):
    """Steps of Muon with Nesterov momentum, deterministic.

    A parameter (R, ...) counts as the matrix (R, C) of its rows. In a group with a `stride`, `kernel_matrix` defines
    the matrix.

    References
    ----------
    Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024,
    https://kellerjordan.github.io/posts/muon/; the scale of a step is that of Liu et al., "Muon is Scalable for LLM
    Training", 2025, equation 4. Its weight decay is left out.
    """

    @torch.no_grad()
    def step(self) -> None:
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


def muon_groups(decoder: Decoder) -> dict[int, list[nn.Parameter]]:
    """Return the parameters of `decoder` that suit Muon, grouped by their stride for `kernel_matrix`."""
    groups: dict[int, list[nn.Parameter]] = {}
    for name, module in decoder.named_modules():
        if name in decoder.adam_parts:
            continue
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
    """Return the matrix of the linear map of `kernel`. With stride 1, (R, ...) becomes (R, C).

    A transposed convolution of stride s with a kernel (I, O, k, k, k) makes s³ neighbouring outputs of (k / s)³
    neighbouring inputs: a matrix (I (k / s)³, O s³).
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
    """Tell whether `parameter` is a matrix, or counts as one, with several rows and columns."""
    return parameter.ndim >= 2 and min(len(parameter), parameter[0].numel()) >= _LEAST_ROWS


def orthogonalized(matrix: Tensor) -> Tensor:
    """Return approximately the nearest (semi-)orthogonal matrix to `matrix` (R, C), by Newton-Schulz iteration.

    Singular vectors do not change. Singular values above about a hundredth of the Frobenius norm move to between 0.7
    and 1.2. The iteration multiplies the matrix by a polynomial of its Gram matrix. So the rounds run on the Gram
    matrix, which is (k, k) with k the shorter side.
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
