"""The text of `sdfnet COMMAND --help`: the keys with the comments of `conf/`, groups, flags and examples."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from sdfnet.cli.hydra_app.arguments import FLAGS
from sdfnet.cli.hydra_app.command import COMMANDS
from sdfnet.cli.hydra_app.conf import command_examples, key_comments
from sdfnet.cli.hydra_app.output import format_value

_MISSING = "???"
_WIDTH = 110
_INDENT = 2
_LONGEST_KEY = 34


def format_help(
    name: str, groups: Mapping[str, Sequence[str]], chosen: Mapping[str, str | None], values: Mapping[str, Any]
) -> str:
    """Return the help of one command: `groups` has the options, `chosen` the one in force, `values` the defaults."""
    required = " ".join(f"{key}=…" for key, value in values.items() if value == _MISSING)
    lines = [f"sdfnet {name}: {COMMANDS[name]}", "", f"  sdfnet {name} {required} [key=value …] [flags]", ""]
    plain = {key: value for key, value in values.items() if not isinstance(value, Mapping)}
    lines += ["Keys", *_format_keys(plain, key_comments(f"{name}.yaml"))]
    if groups:
        lines += ["", "Groups: group=NAME chooses an option, group.key=value changes one of its values"]
        lines += _table([(f"{key}={format_value(chosen.get(key))}", f"of {', '.join(groups[key])}") for key in groups])
    for key, node in values.items():
        if isinstance(node, Mapping):
            comments = key_comments(key, chosen.get(key))
            lines += ["", f"{key}={chosen[key]}" if key in chosen else key, *_format_keys(node, comments, f"{key}.")]
    lines += ["", "Flags: anywhere on the line", *_table([(" ".join(flag.spellings), flag.meaning) for flag in FLAGS])]
    return "\n".join([*lines, "", "Examples", *(f"  {example}" for example in command_examples(name))])


def format_commands(commands: Mapping[str, str]) -> str:
    """Return the help of the program itself."""
    table = "\n".join(_table(list(commands.items())))
    return f"""\
sdfnet: learn a family of 3D shapes as one neural signed distance field, and get them back as meshes.

  sdfnet COMMAND [key=value …] [flags]

Commands
{table}

sdfnet COMMAND --help lists a command's keys. sdfnet --version prints the version.
Completion: eval "$(sdfnet --shell-completion install=bash)"; also zsh (as bash), and install=fish."""


def _format_keys(values: Mapping[str, Any], comments: Mapping[str, str], prefix: str = "") -> list[str]:
    rows = []
    for key, value in values.items():
        if not isinstance(value, Mapping) and f"{prefix}{key}" != f"{prefix[:-1]}.kind":  # The group chooses the kind.
            required, shown = ("(required) ", "…") if value == _MISSING else ("", format_value(value))
            rows.append((f"{prefix}{key}={shown}", required + comments.get(key, "")))
    return _table(rows)


def _table(rows: list[tuple[str, str]]) -> list[str]:
    """Return the lines of a table of two columns; a long left side gets a line of its own."""
    width = max((len(left) for left, _ in rows if len(left) <= _LONGEST_KEY), default=_LONGEST_KEY)
    lines = []
    for left, right in rows:
        texts = textwrap.wrap(right, _WIDTH - width - _INDENT - 2) or [""]
        if len(left) > width:
            lines.append(f"{' ' * _INDENT}{left}")
            left = ""
        lines += [f"{' ' * _INDENT}{left if k == 0 else '':<{width}}  {text}".rstrip() for k, text in enumerate(texts)]
    return lines
