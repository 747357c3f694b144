"""The examples of a docstring under a heading of their own, as the numpy style wants it.

The docstrings of the project end with examples and have no heading for them. Without one, a reader of numpy docstrings
takes the examples for part of the section before.
"""

from __future__ import annotations

import re
from typing import Any

import griffe


class ExamplesHeading(griffe.Extension):
    """Puts `Examples` before the first example of each docstring."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Change the docstring of `obj` after it has been read."""
        if obj.docstring is not None:
            obj.docstring.value = with_heading(obj.docstring.value)


def with_heading(docstring: str) -> str:
    """Return a docstring with a heading before the first line that starts with `>>>`, unless it has one."""
    if re.search(r"^Examples\n-+$", docstring, re.MULTILINE):
        return docstring
    return re.sub(r"^(?=>>> )", "Examples\n--------\n", docstring, count=1, flags=re.MULTILINE)
