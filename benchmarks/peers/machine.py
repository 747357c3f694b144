"""What a measurement was made on: processor, cores, threads, versions. Standard library only."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
from collections.abc import Iterable
from pathlib import Path

THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "IGL_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "TBB_NUM_THREADS",
)
"""What the libraries read to know how many threads to start; set alike for all."""


def thread_environment(num_threads: int) -> dict[str, str]:
    """Return a copy of the environment in which every library starts `num_threads` threads."""
    return {**os.environ, **dict.fromkeys(THREAD_VARIABLES, str(num_threads))}


def processor() -> str:
    """Return the processor's name, the cores that this process may use, and the instructions that matter here."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        text = ""
    name = re.search(r"model name\s*:\s*(.+)", text)
    flags = re.search(r"flags\s*:\s*(.+)", text)
    known = set(flags[1].split()) if flags else set()
    extras = [label for flag, label in (("avx512f", "AVX-512"), ("amx_bf16", "AMX")) if flag in known]
    model = name[1] if name else platform.processor() or platform.machine()
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{model}{' with ' + ' and '.join(extras) if extras else ''}, {count} cores"


def versions(packages: Iterable[str]) -> str:
    """Return "name version" of every package of `packages` that is installed, comma-separated; Python first."""
    found = [f"Python {platform.python_version()}"]
    for package in packages:
        try:
            found.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return ", ".join(found)
