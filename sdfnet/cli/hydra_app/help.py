"""The text of `sdfnet COMMAND --help`: keys with their meaning from the dataclasses, groups, flags, examples.

The meaning of each key, read from the docstrings of its dataclass, so that it is written once.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import itertools
import re
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, get_type_hints

from sdfnet.cli.hydra_app.arguments import FLAGS
from sdfnet.cli.hydra_app.command import Command
from sdfnet.cli.hydra_app.schema import MISSING, describe, nested_types
from sdfnet.cli.hydra_app.wording import format_value


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


_WIDTH = 110
_INDENT = 2
_LONGEST_KEY = 34


def format_help(
    command: Command,
    summary: str,
    groups: Mapping[str, Sequence[str]],
    chosen: Mapping[str, str | None],
    values: Mapping[str, Any],
) -> str:
    """Return the help of one command.

    Parameters
    ----------
    groups : the options of each configuration group
    chosen : the option in force of each group
    values : the composed configuration: the defaults that are shown
    """
    required = " ".join(f"{key}=…" for key, value in values.items() if value == MISSING and key not in groups)
    lines = [f"sdfnet {command.name}: {summary}", "", f"  sdfnet {command.name} {required} [key=value …] [flags]", ""]
    plain = {key: value for key, value in values.items() if not isinstance(value, Mapping)}
    lines += ["Keys", *_format_keys(command.config, plain)]
    if groups:
        lines += ["", "Groups: group=NAME chooses an option, group.key=value changes one of its values"]
        lines += _table(
            [
                (f"{group}={format_value(chosen.get(group))}", "of " + ", ".join(options))
                for group, options in groups.items()
            ]
        )
    hints = get_type_hints(command.config)
    for key, node in values.items():
        if isinstance(node, Mapping):
            title = f"{key}={chosen[key]}" if key in chosen else key
            lines += ["", title, *_format_keys(_type_of(hints[key], node), node, prefix=f"{key}.")]
    lines += ["", "Flags: anywhere on the line", *_table([(" ".join(flag.spellings), flag.meaning) for flag in FLAGS])]
    if command.examples:
        lines += ["", "Examples", *(f"  {example}" for example in command.examples)]
    return "\n".join(lines)


def format_commands(commands: Mapping[str, str]) -> str:
    """Return the help of the program itself."""
    return "\n".join(
        [
            "sdfnet: learn a family of 3D shapes as one neural signed distance field, and get them back as meshes.",
            "",
            "  sdfnet COMMAND [key=value …] [flags]",
            "",
            "Commands",
            *_table(list(commands.items())),
            "",
            "sdfnet COMMAND --help lists a command's keys. sdfnet --version prints the version.",
            'Completion: eval "$(sdfnet --shell-completion install=bash)"; also zsh (as bash), and install=fish.',
        ]
    )


def _format_keys(config_type: type, values: Mapping[str, Any], *, prefix: str = "") -> list[str]:
    meanings, hints = key_meanings(config_type), get_type_hints(config_type)
    rows = []
    for key, value in values.items():
        if isinstance(value, Mapping) or key == "kind":  # The kind is chosen by the group.
            continue
        required = "(required) " if value == MISSING else ""
        shown = "…" if value == MISSING else format_value(value)
        rows.append((f"{prefix}{key}={shown}", required + (meanings.get(key) or describe(hints[key])).replace("`", "")))
    return _table(rows)


def _type_of(annotation: Any, node: Mapping[str, Any]) -> type:
    """Return the dataclass of a group: of several, the one of the node's `kind`."""
    nested: list[type] = nested_types(annotation)
    return next((member for member in nested if getattr(member, "kind", None) == node.get("kind")), nested[0])


def _table(rows: list[tuple[str, str]]) -> list[str]:
    """Two columns; a long left side gets a line of its own."""
    width = max((len(left) for left, _ in rows if len(left) <= _LONGEST_KEY), default=_LONGEST_KEY)
    lines = []
    for left, right in rows:
        texts = textwrap.wrap(right, _WIDTH - width - _INDENT - 2) or [""]
        if len(left) > width:
            lines.append(f"{' ' * _INDENT}{left}")
            left = ""
        lines += [f"{' ' * _INDENT}{left if k == 0 else '':<{width}}  {text}".rstrip() for k, text in enumerate(texts)]
    return lines
