"""The line on which frames are made: one thread extracts, this one draws with GL, others shade, measure and write."""

from __future__ import annotations

import contextlib
import os
import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tqdm import tqdm

from sdfnet.geometry.mesh import Mesh
from sdfnet.latents.filming import Filming
from sdfnet.latents.frames import MorphConfig, MorphFrame
from sdfnet.latents.sequence import MadeFrame
from sdfnet.latents.writers import write_frame

_SAVE_SECONDS = 2.0
"""A manifest of many frames is long; a kill loses at most the frames of this many seconds."""

_MOST_WRITERS = 8
"""Threads that finish frames. Much of their work is native code that runs beside Python, not all of it."""


def produce(
    surfaces: Generator[MadeFrame],
    frames: Sequence[MorphFrame],
    finished: dict[int, dict[str, Any]],
    out: Path,
    *,
    config: MorphConfig,
    filming: Filming,
    mesh_of: Callable[[int], Mesh],
    save: Callable[[], None],
    num_missing: int,
    progress: bool,
) -> None:
    """Picture, measure and write every frame that `surfaces` yields; add its record to `finished`.

    `save` is called every few seconds and at the end, also if that is an error: what is `finished` then is whole.
    """
    num_writers = max(1, min(_MOST_WRITERS, (os.cpu_count() or 1) - 1))
    pending: deque[tuple[int, Future[dict[str, Any]]]] = deque()
    saved, last = time.monotonic(), None
    try:
        with contextlib.closing(surfaces), ThreadPoolExecutor(num_writers) as pool:
            for made in tqdm(surfaces, total=num_missing, desc="morph", unit="frame", disable=not progress):
                before = _mesh_before(made.index, last, mesh_of)
                last = made
                picture = filming.begin(made)
                frame = frames[made.index]
                job = pool.submit(write_frame, out, made, frame, picture, before=before, config=config)
                pending.append((made.index, job))
                while len(pending) > num_writers:
                    _collect(pending, finished)
                if time.monotonic() > saved + _SAVE_SECONDS:
                    save()
                    saved = time.monotonic()
        while pending:
            _collect(pending, finished)
    finally:
        finished.update((index, job.result()) for index, job in pending if job.done() and not job.exception())
        save()


def _mesh_before(index: int, last: MadeFrame | None, mesh_of: Callable[[int], Mesh]) -> Mesh | None:
    if index == 0:
        return None
    return last.mesh if last is not None and last.index == index - 1 else mesh_of(index - 1)


def _collect(pending: deque[tuple[int, Future[dict[str, Any]]]], finished: dict[int, dict[str, Any]]) -> None:
    index, job = pending.popleft()
    finished[index] = job.result()
