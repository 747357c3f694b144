"""The keys and the messages that several commands share."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from sdfnet.cli.hydra_app.command import UsageError
from sdfnet.cli.hydra_app.output import say
from sdfnet.mesh.io.read import describe_skipped
from sdfnet.runs import Run, load_run
from sdfnet.volumes.label_volume import VOLUME_SUFFIXES

_TOLD, _NAMED = 3, 20
"""An error names the reason of so many failed shapes; the others mostly fail for the same reason. Of the others it
gives so many names."""


@dataclass(frozen=True, kw_only=True)
class RunKeys:
    """The keys of every command that makes something of a run.

    Attributes
    ----------
    run : path
        A run directory, as train writes it.
    shapes : names
        all, one name, or a list of names and globs.
    device : text
        auto, cpu, cuda, cuda:1 or mps.
    """

    run: Path
    shapes: str | tuple[str, ...] = "all"
    out: Path | None = None
    device: str = "auto"
    inside: ClassVar[str]
    """The folder inside the run that `out=null` means."""

    @property
    def folder(self) -> Path:
        return self.run / self.inside if self.out is None else self.out

    def load(self) -> Run:
        return load_run(self.run, device=find_device(self.device))


def check_num_workers(num_workers: int | None) -> None:
    if num_workers is not None and num_workers < 1:
        raise ValueError(f"num_workers must be 1 or more, or null, got {num_workers}")


def some_failed(failures: Mapping[str, str], num_shapes: int, what: str, folder: Path) -> ValueError:
    """Return the error about shapes that failed: all by name, up to a number, and the first with their reasons."""
    reasons = [(name, reason.rstrip(".")) for name, reason in list(failures.items())[:_TOLD]]
    told = "; ".join(reason if reason.startswith(f"{name} ") else f"{name}: {reason}" for name, reason in reasons)
    others = list(failures)[_TOLD:]
    named = ", ".join(others[:_NAMED]) + (", …" if len(others) > _NAMED else "")
    told += f"; and {len(others)} more: {named}" if others else ""
    rest = f" The others are in {folder}." if len(failures) < num_shapes else ""
    return ValueError(f"{len(failures)} of {num_shapes} {what}. {told}.{rest}")


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


def say_skipped(meshes: Path) -> None:
    """Print how many files of a folder are skipped, if any, because no reader takes them."""
    skipped = describe_skipped(meshes, also=VOLUME_SUFFIXES)
    if skipped:
        say(skipped)
