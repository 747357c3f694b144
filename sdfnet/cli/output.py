"""What a command prints: results on stdout, everything else on stderr, and nothing across a progress bar."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Any

from tqdm import tqdm


def say(text: str = "") -> None:
    """Print a result."""
    print(text, flush=True)


def say_where(path: str | Path) -> None:
    """Print the last line of a command: where its results are."""
    say(f"Results are in {path}")


def complain(text: str) -> None:
    """Print an error."""
    sys.stdout.flush()
    print(text, file=sys.stderr, flush=True)


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
    logging.getLogger("sdfnet").setLevel(logging.INFO)
    logging.getLogger("hydra").setLevel(logging.INFO)
