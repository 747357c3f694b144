"""The text of `sdfnet COMMAND --help`: keys with their meaning from the dataclasses, groups, flags, examples."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, get_type_hints

from sdfnet.cli.arguments import FLAGS
from sdfnet.cli.command import Command
from sdfnet.cli.documentation import key_meanings
from sdfnet.cli.schema import MISSING, describe, nested_types
from sdfnet.cli.wording import format_value

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
