"""The meaning of each key, read from the docstrings of its dataclass, so that it is written once."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import itertools
import re
import textwrap


def key_meanings(config_type: type) -> dict[str, str]:
    """Return what the dataclass and those it extends say about each field; a field without a word is left out.

    Both ways of writing are read: an entry under `Attributes` in the class's docstring, and a string below the field.

    >>> @dataclasses.dataclass
    ... class Options:
    ...     '''Options.
    ...
    ...     Attributes
    ...     ----------
    ...     run : path
    ...         A run directory,
    ...         whole.
    ...     low, high : float
    ...         Limits.
    ...     '''
    >>> key_meanings(Options)
    {'run': 'A run directory, whole.', 'low': 'Limits.', 'high': 'Limits.'}
    """
    meanings: dict[str, str] = {}
    for ancestor in reversed(config_type.__mro__):
        if dataclasses.is_dataclass(ancestor):
            meanings |= _in_class_docstring(ancestor.__doc__ or "") | _below_fields(ancestor)
    return meanings


def _in_class_docstring(docstring: str) -> dict[str, str]:
    _, _, attributes = inspect.cleandoc(docstring).partition("Attributes\n----------\n")
    meanings: dict[str, str] = {}
    names: list[str] = []
    for line in attributes.splitlines():
        if re.fullmatch(r"-{3,}", line):
            break
        if line and not line.startswith(" "):
            names = [name.strip() for name in line.partition(" : ")[0].split(",")]
        elif line.strip():
            meanings |= {name: f"{meanings.get(name, '')} {line.strip()}".lstrip() for name in names}
    return meanings


def _below_fields(config_type: type) -> dict[str, str]:
    try:
        source = textwrap.dedent(inspect.getsource(config_type))
    except (OSError, TypeError):  # Typed at a prompt or in a doctest: there is no file to read.
        return {}
    body = getattr(ast.parse(source).body[0], "body", [])
    meanings: dict[str, str] = {}
    for field, below in itertools.pairwise(body):
        named = isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
        if named and isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant):
            meanings[field.target.id] = " ".join(str(below.value.value).split())
    return meanings
