"""Turn the key `device` into a device of this machine."""

from __future__ import annotations

import re

from sdfnet.cli.hydra_app.command import UsageError


def find_device(device: str, *, processes_here: int = 1, number_here: int = 0) -> str:
    """Return the device that `auto` stands for here, or `device` itself if this machine has it.

    Where several processes of one training share this machine, `processes_here` is their number and `number_here` says
    which of them this is: each takes a GPU of its own. A name that no machine has is a UsageError; a ValueError says
    that this machine has no such device, or fewer GPUs than processes.

    >>> find_device("cpu")
    'cpu'
    >>> find_device("gpu")
    Traceback (most recent call last):
    ...
    sdfnet.cli.hydra_app.command.UsageError: device must be auto, cpu, cuda, cuda:N or mps, got 'gpu'
    """
    if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", device):
        raise UsageError(f"device must be auto, cpu, cuda, cuda:N or mps, got {device!r}")
    import torch

    num_gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    has_mps = torch.backends.mps.is_available()
    if processes_here > 1:
        return _device_of_its_own(device, num_gpus, processes_here=processes_here, number_here=number_here)
    if device == "auto":
        return "cuda" if num_gpus else "mps" if has_mps else "cpu"
    if device.startswith("cuda") and int(device.partition(":")[2] or 0) >= num_gpus:
        raise ValueError(f"device={device} is not here: this machine has {num_gpus} CUDA devices. Use device=auto")
    if device == "mps" and not has_mps:
        raise ValueError("device=mps is not here: this machine has no Metal device. Use device=auto")
    return device


def _device_of_its_own(device: str, num_gpus: int, *, processes_here: int, number_here: int) -> str:
    """Return the device of one of several processes on this machine.

    >>> _device_of_its_own("auto", 8, processes_here=4, number_here=3)
    'cuda:3'
    """
    if device == "cpu" or (device == "auto" and num_gpus == 0):
        return "cpu"
    if device not in ("auto", "cuda"):
        raise ValueError(f"device={device} cannot be shared by {processes_here} processes. Use device=cuda or cpu")
    if processes_here > num_gpus:
        raise ValueError(
            f"{processes_here} processes were started here for {num_gpus} CUDA devices. "
            "Start one for each (torchrun --nproc-per-node), or use device=cpu"
        )
    return f"cuda:{number_here}"
