"""Adam is torch's own to the bit, and brings no compiler with it."""

from __future__ import annotations

import subprocess
import sys

import torch

from sdfnet.training.optimizers import Adam, clear_gradients


def test_adam_is_that_of_torch_to_the_bit():
    generator = torch.Generator().manual_seed(0)
    start = [
        torch.randn(7, 5, generator=generator),
        torch.randn(3, generator=generator),
        torch.randn(2, generator=generator),
    ]
    ours, theirs = ([torch.nn.Parameter(tensor.clone()) for tensor in start] for _ in range(2))
    adam = Adam([{"params": ours[:2]}, {"params": ours[2:]}])
    twin = torch.optim.Adam([{"params": theirs[:2]}, {"params": theirs[2:]}], betas=(0.9, 0.99), fused=True)
    for step in range(9):
        for rate, group, other in zip((0.1 / (step + 1), 0.02), adam.param_groups, twin.param_groups, strict=True):
            group["lr"] = other["lr"] = rate
        for number, (mine, other) in enumerate(zip(ours, theirs, strict=True)):
            gradient = torch.randn(mine.shape, generator=generator)
            mine.grad, other.grad = (None, None) if (number, step) == (1, 0) else (gradient, gradient.clone())
        adam.step()
        twin.step()
        assert all(torch.equal(mine, other) for mine, other in zip(ours, theirs, strict=True))
    clear_gradients([adam])
    assert all(parameter.grad is None for parameter in ours)


def test_a_step_imports_no_compiler():
    program = """
import sys, torch
from sdfnet.training.optimizers import Adam
weight = torch.ones(3, requires_grad=True)
weight.sum().backward()
Adam([{"params": [weight], "lr": 0.1}]).step()
sys.exit("torch._dynamo" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
