"""What a command prints: results on stdout, everything else on stderr, and nothing across a progress bar."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

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


class ProgressHandler(logging.Handler):
    """A log handler that writes to stderr above the progress bar; warnings and worse say so."""

    def emit(self, record: logging.LogRecord) -> None:
        level = f"{record.levelname.lower()}: " if record.levelno >= logging.WARNING else ""
        tqdm.write(f"{level}{self.format(record)}", file=sys.stderr)


def configure_logging() -> None:
    """Send the log records of the project (and the warnings of others) to stderr. A second call changes nothing."""
    root = logging.getLogger()
    if not any(isinstance(handler, ProgressHandler) for handler in root.handlers):
        root.addHandler(ProgressHandler())
    logging.getLogger("sdfnet").setLevel(logging.INFO)
    logging.getLogger("hydra").setLevel(logging.INFO)
