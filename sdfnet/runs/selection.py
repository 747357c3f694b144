"""Choosing shapes by name: `all`, one name, a list, or globs."""

from __future__ import annotations

import difflib
import fnmatch
from collections.abc import Sequence


def select_shapes(names: Sequence[str], patterns: str | Sequence[str]) -> list[str]:
    """Return the `names` that `patterns` select, each once.

    A pattern that is exactly a name means that name, whatever characters it holds; otherwise `*`, `?` and `[…]` are
    wildcards (`*` also crosses `/`). The string `all` means every name. The order is that of the patterns and, within
    one, of `names`.

    Raises
    ------
    ValueError
        A pattern matches nothing; close names are offered. No pattern at all.

    >>> select_shapes(["chair_00", "chair_01", "a [1]"], ["a [1]", "chair_*"])
    ['a [1]', 'chair_00', 'chair_01']
    """
    if isinstance(patterns, str):
        if patterns == "all" and "all" not in names:
            return list(names)
        patterns = [patterns]
    if not patterns:
        raise ValueError("shapes is an empty list; use shapes=all or name some")
    chosen: dict[str, None] = {}
    for pattern in patterns:
        matches = [pattern] if pattern in names else [name for name in names if fnmatch.fnmatchcase(name, pattern)]
        if not matches:
            raise ValueError(f"no shape is named {pattern!r}. {_suggestion(pattern, names)}")
        chosen.update(dict.fromkeys(matches))
    return list(chosen)


def _suggestion(pattern: str, names: Sequence[str]) -> str:
    close = difflib.get_close_matches(pattern, names, n=3, cutoff=0.5)
    if close:
        return f"Did you mean {', '.join(close)}?"
    shown = ", ".join(names[:5]) + (f", … ({len(names)} in all)" if len(names) > 5 else "")
    return f"There are: {shown}"
