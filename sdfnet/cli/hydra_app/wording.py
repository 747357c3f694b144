"""The words that several messages share."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return `; did you mean a or b?` for the known words that look like `word`, or a full stop.

    >>> did_you_mean("resolutoin", ["run", "resolution"])
    '; did you mean resolution?'
    >>> did_you_mean("zzz", ["run"])
    '.'
    """
    close = difflib.get_close_matches(word, list(known), n=2, cutoff=0.6)
    return f"; did you mean {' or '.join(close)}?" if close else "."


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
