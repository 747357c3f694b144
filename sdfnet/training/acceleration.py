"""Decisions about speed that depend on the machine: precision, compiling, where samples lie, how memory is reused.

The decisions are plain functions of plain values, so that tests need no GPU.
"""

from __future__ import annotations

import ctypes
import importlib.util
import math
import sys

import torch

from sdfnet.training.config import Choice, Precision, TrainingConfig, parse_duration

_SHARE_OF_MEMORY = 0.5
"""Share of the free memory of a GPU that samples may take; activations and the optimizer get the rest."""

_WORTH_SECONDS, _WORTH_STEPS = 120.0, 2000
"""Compiling takes tens of seconds: a shorter training is over sooner without it."""


def keeps_samples(choice: Choice, *, device_type: str, num_bytes: int, free_bytes: int) -> bool:
    """Tell whether all samples are moved to the device before the first step.

    On a CPU the mapped files are in the same memory already.

    >>> keeps_samples("auto", device_type="cuda", num_bytes=4 * 10**9, free_bytes=130 * 10**9)
    True
    """
    if choice != "auto":
        return bool(choice)
    return device_type == "cuda" and num_bytes <= _SHARE_OF_MEMORY * free_bytes


def compiles(
    choice: Choice,
    *,
    device_type: str,
    capability: tuple[int, int],
    has_triton: bool,
    seconds: float,
    steps: int | None,
) -> bool:
    """Tell whether the decoder is compiled: on GPUs that Triton can write for, where the training is long enough.

    >>> compiles("auto", device_type="cuda", capability=(9, 0), has_triton=True, seconds=3600.0, steps=None)
    True
    """
    if choice != "auto":
        return bool(choice)
    is_long = seconds >= _WORTH_SECONDS if steps is None else steps >= _WORTH_STEPS
    return device_type == "cuda" and has_triton and capability >= (7, 0) and is_long


def choose_precision(choice: Precision, device: torch.device) -> str:
    """Return "bfloat16" or "float32"; auto takes bfloat16 if the processor multiplies it in hardware.

    >>> choose_precision("float32", torch.device("cpu"))
    'float32'
    """
    if choice != "auto":
        return choice
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    native = device.type == "cpu" and (torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
    return "bfloat16" if native else "float32"


def free_memory(device: torch.device) -> int:
    """Return the bytes that are free on a GPU; 0 where it cannot be asked."""
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else 0


def choose_compiling(config: TrainingConfig, device: torch.device) -> bool:
    """Return whether a training by `config` on this machine's `device` is compiled."""
    return compiles(
        config.compile,
        device_type=device.type,
        capability=torch.cuda.get_device_capability(device) if device.type == "cuda" else (0, 0),
        has_triton=importlib.util.find_spec("triton") is not None,
        seconds=math.inf if config.budget is None else parse_duration(config.budget),
        steps=config.steps,
    )


_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_NEVER = 2**31 - 1


def keep_freed_memory() -> None:
    """Tell glibc to keep freed memory for the next step; on other systems do nothing.

    A training step takes and frees some hundred megabytes of activations. By default glibc gives them back to the
    system, which must clear them again. Without that, a step takes 23 % less time (benchmarks/decoders.py, two cores).
    The memory of the process stays at its peak.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _NEVER)
        mallopt(_M_TRIM_THRESHOLD, _NEVER)
