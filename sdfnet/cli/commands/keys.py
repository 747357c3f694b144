"""The keys and the messages that several commands share."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from sdfnet.cli.hydra_app.devices import find_device
from sdfnet.runs import Run, load_run

_TOLD = 3
"""An error names the reason of so many failed shapes; the others mostly fail for the same reason."""


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


def check_thickness(thickness: float | None) -> None:
    """Refuse a wall that is no wall."""
    if thickness is not None and not 0 < thickness < math.inf:
        raise ValueError(f"thickness must be above 0 or null, got {thickness}")


def check_num_workers(num_workers: int | None) -> None:
    if num_workers is not None and num_workers < 1:
        raise ValueError(f"num_workers must be 1 or more, or null, got {num_workers}")


def some_failed(failures: Mapping[str, str], num_shapes: int, what: str, folder: Path) -> ValueError:
    """Return the error about shapes that failed, with the first reasons."""
    told = "; ".join(f"{name}: {reason}" for name, reason in list(failures.items())[:_TOLD])
    rest = f" The others are in {folder}." if len(failures) < num_shapes else ""
    return ValueError(f"{len(failures)} of {num_shapes} {what}. {told}.{rest}")
