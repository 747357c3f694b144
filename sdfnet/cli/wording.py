"""The words that several messages share."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


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
