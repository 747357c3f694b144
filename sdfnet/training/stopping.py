"""Ctrl-C and termination signals during a training: noted, and obeyed between two steps."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def stop_requests() -> Iterator[list[int]]:
    """Collect SIGINT and SIGTERM in the yielded list, so that a step is never torn; a second one acts at once."""
    received: list[int] = []
    previous = {}

    def note(number: int, frame: Any) -> None:
        if received:
            raise KeyboardInterrupt
        received.append(number)

    with contextlib.suppress(ValueError):  # handlers can be set in the main thread only; elsewhere nothing to catch
        for number in (signal.SIGINT, signal.SIGTERM):
            previous[number] = signal.signal(number, note)
    try:
        yield received
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
