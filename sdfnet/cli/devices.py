"""What `device=` means."""

from __future__ import annotations

import re

from sdfnet.cli.command import UsageError


def check_device_name(device: str) -> None:
    """Refuse a `device` that no machine has, without importing torch.

    >>> check_device_name("gpu")
    Traceback (most recent call last):
    ...
    sdfnet.cli.command.UsageError: device must be auto, cpu, cuda, cuda:N or mps, got 'gpu'
    """
    if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", device):
        raise UsageError(f"device must be auto, cpu, cuda, cuda:N or mps, got {device!r}")


def find_device(device: str) -> str:
    """Return the device that `auto` stands for here, or `device` itself if this machine has it.

    Raises
    ------
    ValueError
        The machine has no such device.

    >>> find_device("cpu")
    'cpu'
    """
    import torch

    check_device_name(device)
    num_gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    has_mps = torch.backends.mps.is_available()
    if device == "auto":
        return "cuda" if num_gpus else "mps" if has_mps else "cpu"
    if device.startswith("cuda") and int(device.partition(":")[2] or 0) >= num_gpus:
        raise ValueError(f"device={device} is not here: this machine has {num_gpus} CUDA devices. Use device=auto")
    if device == "mps" and not has_mps:
        raise ValueError("device=mps is not here: this machine has no Metal device. Use device=auto")
    return device
