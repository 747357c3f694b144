"""What a command prints: results on stdout, everything else on stderr, and nothing across a progress bar.

Under torchrun only the first process speaks; once they have joined, they agree on who reports a failure.
"""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import Any

from tqdm import tqdm

_RANK = os.environ.get("RANK", "0")
"""Of this process among those that torchrun started."""

_complains = _RANK == "0"


def say(text: str = "") -> None:
    """Print a result."""
    if _RANK == "0":
        print(text, flush=True)


def say_where(path: str | Path) -> None:
    """Print the last line of a command: where its results are."""
    say(f"Results are in {path}")


def complain(text: str) -> None:
    """Print an error."""
    if _complains:
        sys.stdout.flush()
        print(text, file=sys.stderr, flush=True)


def let_complain() -> None:
    """Let this process print its errors, whichever its rank: it raises only those that no other one has reported."""
    global _complains
    _complains = True


class ProgressHandler(logging.StreamHandler):
    """A log handler that writes to stderr, above a progress bar if there is one."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)
        self.setFormatter(_Formatter("%(message)s"))

    @property
    def stream(self) -> Any:
        """The stderr of the moment, not that of when the handler was made."""
        return sys.stderr

    @stream.setter
    def stream(self, stream: Any) -> None:
        raise AttributeError("the stream is always sys.stderr")

    def emit(self, record: logging.LogRecord) -> None:
        tqdm.write(self.format(record), file=self.stream)


class _Formatter(logging.Formatter):
    """The message; warnings and worse say so first."""

    def format(self, record: logging.LogRecord) -> str:
        level = f"{record.levelname.lower()}: " if record.levelno >= logging.WARNING else ""
        return level + super().format(record)


def configure_logging() -> None:
    """Send the log records of the project (and the warnings of others) to stderr. A second call changes nothing."""
    root = logging.getLogger()
    if not any(isinstance(handler, ProgressHandler) for handler in root.handlers):
        root.addHandler(ProgressHandler())
    level = logging.INFO if _RANK == "0" else logging.CRITICAL
    logging.getLogger("sdfnet").setLevel(level)
    logging.getLogger("hydra").setLevel(level)
