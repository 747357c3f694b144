"""What moves parameters: groups with a rate of their own, a state for each parameter, and Adam.

`torch.optim.Optimizer` would do the same, but making the first one imports torch's compiler, which takes two seconds:
more than a short training can spare. Adam calls the fused kernel of `torch.optim.Adam(fused=True)`, and is equal to it
to the bit.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor

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
