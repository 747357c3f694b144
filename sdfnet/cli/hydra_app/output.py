"""Print results, errors and log records, and phrase the parts that several messages share.

Results go to stdout, everything else to stderr, and nothing is printed across a progress bar.

Under torchrun only the first process prints results. Once the processes have joined, one of them reports a failure.
"""

from __future__ import annotations

import difflib
import logging
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

_RANK = os.environ.get("RANK", "0")
"""The number of this process among those that torchrun started."""

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
    """Let this process print its errors whatever its rank: it raises only errors that no other process has printed."""
    global _complains
    _complains = True


class ProgressHandler(logging.StreamHandler):
    """A log handler that writes to stderr, above a progress bar if there is one."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)
        self.setFormatter(_Formatter("%(message)s"))

    @property
    def stream(self) -> Any:
        """The current stderr, which can differ from the stderr when the handler was made."""
        return sys.stderr

    @stream.setter
    def stream(self, stream: Any) -> None:
        raise AttributeError("the stream is always sys.stderr")

    def emit(self, record: logging.LogRecord) -> None:
        from tqdm import tqdm  # Here, so that help need not wait for it.

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


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return `; did you mean a or b?` for the known words that look like `word`, or a full stop.

    >>> did_you_mean("resolutoin", ["run", "resolution"])
    '; did you mean resolution?'
    >>> did_you_mean("lr", ["run", "learning_rate"])
    '; did you mean learning_rate?'
    >>> did_you_mean("zzz", ["run"])
    '.'
    """
    known = list(known)
    close = difflib.get_close_matches(word, known, n=2, cutoff=0.6)
    close = close or [name for name in known if "_" in name and word == "".join(part[:1] for part in name.split("_"))]
    return f"; did you mean {' or '.join(close)}?" if close else "."


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, in the plural unless it is one.

    >>> counted(1, "shape"), counted(12, "shape")
    ('1 shape', '12 shapes')
    """
    return f"{number} {noun}{'' if number == 1 else 's'}"


def one_line(text: str) -> str:
    """Return `text` on one line.

    >>> one_line("first,\\n  second")
    'first, second'
    """
    return " ".join(text.split())


def format_value(value: Any) -> str:
    """Return a value as one would write it on the command line.

    >>> format_value([None, True, 1e-4, "a"])
    '[null,true,0.0001,a]'
    """
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    if isinstance(value, list):
        return f"[{','.join(format_value(item) for item in value)}]"
    return str(value)
