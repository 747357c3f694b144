"""Limits of time and memory for the work on one mesh, and the name of the stage that this work has reached.

A thread watches the work. At a limit, this thread raises an exception in the thread that works, which the caller gets
as a ValueError. Native code is not interrupted before it returns. Therefore a worker process that goes far beyond its
limit ends itself; a process that the user started never does.
"""

from __future__ import annotations

import contextlib
import ctypes
import math
import os
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path

_WATCH_SECONDS = 0.2
_PATIENCE = 1.5
"""A worker process ends if its work has not stopped at this multiple of a limit."""
_SHARE_OF_MEMORY = 0.8
_CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")
_STATM = Path("/proc/self/statm")


@dataclass(frozen=True)
class MeshLimits:
    """What the reading of one mesh may take. A mesh that needs more is refused, and the others go on.

    Attributes
    ----------
    mesh_seconds : number
        Seconds that reading one mesh and making its solid may take, above 0. A mesh that needs longer is refused.
    mesh_gigabytes : number
        Memory that this may take, in gigabytes, above 0; null is four fifths of the machine's.

    >>> MeshLimits(mesh_seconds=0)
    Traceback (most recent call last):
    ValueError: mesh_seconds must be above 0, got 0
    """

    mesh_seconds: float = 600.0
    mesh_gigabytes: float | None = None

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            if value is not None and not 0 < value < math.inf:
                raise ValueError(f"{each.name} must be above 0, got {value:g}")


LIMITS = MeshLimits()
"""The limits where the user gives none."""


class LimitReached(ValueError):
    """The work on a mesh was ended at a limit. With a higher limit, another attempt may succeed."""


class _Stopped(BaseException):
    """Raised in the thread that works. No `except Exception` on the way may catch it."""


@dataclass
class _Process:
    """What is true of this whole process."""

    is_worker: bool = False
    stage: str = ""
    stage_file: Path | None = None


_process = _Process()


def become_worker(stage_file: Path | None = None) -> None:
    """Say that this process works for another one, and may end itself. Its stages are written into `stage_file`."""
    _process.is_worker, _process.stage_file = True, stage_file


def enter_stage(stage: str) -> None:
    """Say what the work on the present mesh does now. The message at a limit and the progress bar name this stage.

    >>> enter_stage("reading")
    >>> current_stage()
    'reading'
    """
    _process.stage = stage
    if _process.stage_file is not None:
        with contextlib.suppress(OSError):
            _process.stage_file.write_text(stage, encoding="utf-8")


def current_stage() -> str:
    """Return the last stage that this process entered."""
    return _process.stage


@contextlib.contextmanager
def limited(limits: MeshLimits) -> Iterator[None]:
    """End the block at the limits of one mesh. The limits count from the start of the block.

    Raises
    ------
    LimitReached
        A limit was reached. The message names the limit, the stage, and the keys that allow more.

    >>> with limited(MeshLimits(mesh_seconds=0.1)):
    ...     while True: pass
    Traceback (most recent call last):
    sdfnet.solids.limits.LimitReached: it takes more than 0.1 s (mesh_seconds), ...
    """
    watch = _Watch(limits)
    try:
        try:
            watch.start()
            yield
        finally:
            watch.stop()
    except _Stopped:
        watch.stop()
        raise LimitReached(watch.reason) from None


class _Watch:
    """The thread that watches the work of the thread that made it."""

    def __init__(self, limits: MeshLimits) -> None:
        self.reason = ""
        self._limits, self._bytes = limits, _most_bytes(limits)
        self._worker = ctypes.c_ulong(threading.get_ident())
        self._ended, self._lock = threading.Event(), threading.Lock()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._began, self._before = time.monotonic(), resident_bytes()

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End the watch. An exception that was not delivered yet is taken back."""
        with self._lock:
            self._ended.set()
            if self.reason:
                ctypes.pythonapi.PyThreadState_SetAsyncExc(self._worker, None)

    def _watch(self) -> None:
        while not self._ended.wait(_WATCH_SECONDS):
            seconds, grown = time.monotonic() - self._began, resident_bytes() - self._before
            if _process.is_worker and max(seconds / self._limits.mesh_seconds, grown / self._bytes) > _PATIENCE:
                os._exit(1)
            if not self.reason and (seconds > self._limits.mesh_seconds or grown > self._bytes):
                self._stop_work(seconds > self._limits.mesh_seconds)

    def _stop_work(self, is_late: bool) -> None:
        where = f", at the stage: {current_stage()}" if current_stage() else ""
        if is_late:
            what, key = f"it takes more than {self._limits.mesh_seconds:g} s (mesh_seconds)", "mesh_seconds"
        else:
            what, key = f"it takes more than {self._bytes / 1e9:.3g} GB of memory (mesh_gigabytes)", "mesh_gigabytes"
        with self._lock:
            if self._ended.is_set():
                return
            self.reason = f"{what}{where}; decimate the mesh, or give a larger {key}"
            ctypes.pythonapi.PyThreadState_SetAsyncExc(self._worker, ctypes.py_object(_Stopped))


def _most_bytes(limits: MeshLimits) -> float:
    """Return the limit of memory in bytes; infinite where the machine does not say how much memory it has."""
    if limits.mesh_gigabytes is not None:
        return limits.mesh_gigabytes * 1e9
    found = [math.inf]
    with contextlib.suppress(AttributeError, ValueError, OSError):
        found.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    with contextlib.suppress(OSError, ValueError):  # A container may have less; "max" is not a number.
        found.append(int(_CGROUP_LIMIT.read_text()))
    return _SHARE_OF_MEMORY * min(found)


def resident_bytes() -> int:
    """Return the memory that this process holds now (Linux) or held at most (macOS); 0 on other systems.

    >>> resident_bytes() >= 0
    True
    """
    if _STATM.exists():
        return int(_STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    if sys.platform == "darwin":
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return 0
