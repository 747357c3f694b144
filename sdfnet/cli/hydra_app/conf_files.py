"""Write the files of `conf/` from the dataclasses: every value that a user may change, each with its meaning.

A module of its own because it is a program: `python -m sdfnet.cli.hydra_app.conf_files` rewrites the files after a
dataclass has changed. A test fails where a file is not up to date. Presets that contain only differences from a default
(`sampler/deepsdf.yaml`, the experiments) are written by hand.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import itertools
import re
import sys
import textwrap
from collections.abc import Mapping
from typing import Any

from sdfnet.cli.hydra_app.command import COMMANDS, Command, load_command
from sdfnet.cli.hydra_app.conf import conf_folder
from sdfnet.cli.hydra_app.output import format_value, say
from sdfnet.cli.hydra_app.schema import default_values, describe, flat_fields, key_fields, text_choices, tied_keys
from sdfnet.files import write_atomic

_WIDTH = 120
_WRITTEN = "# Written by python -m sdfnet.cli.hydra_app.conf_files from the dataclasses; a test keeps both equal."
_IN_YAML = {"None": "null", "True": "true", "False": "false"}


def conf_files() -> dict[str, str]:
    """Return the text of every file of `conf/` that is written from a dataclass, by its path below `conf/`."""
    files: dict[str, str] = {}
    for name, summary in COMMANDS.items():
        command = load_command(name)
        files[f"{name}.yaml"] = _command_file(command, summary)
        for group, options in command.groups.items():
            for option, config_type in options.items():
                files[f"{group}/{option}.yaml"] = _group_file(group, option, config_type)
    return files


def _command_file(command: Command, summary: str) -> str:
    module = sys.modules[command.config.__module__]
    examples = re.findall(r"^    ((?:sdfnet|torchrun) .*)$", module.__doc__ or "", flags=re.MULTILINE)
    chosen = [f"- {group}: {next(iter(options))}" for group, options in command.groups.items() if options]
    off = [f"- {group}: null" for group, options in command.groups.items() if not options]
    values = {key: value for key, value in default_values(command.config).items() if key not in command.groups}
    lines = [
        f"# sdfnet {command.name}: {summary}.",
        *(f"#   {example}" for example in examples),
        _WRITTEN,
        "defaults:",
        *(f"  {entry}" for entry in ("- program", *chosen, "- _self_", *off)),
        *_value_lines(values, command.config),
    ]
    for group, keys in tied_keys(command.config, command.groups).items():
        lines += ["", f"{group}:", *(f"  {key}: ${{{key}}}" for key in keys)]
    return "\n".join([*lines, "", "hydra:", "  job:", f"    name: {command.name}", ""])


def _group_file(group: str, option: str, config_type: type) -> str:
    about = " ".join(inspect.cleandoc(config_type.__doc__ or "").split("\n\n")[0].split()).replace("`", "")
    chosen = f"{group}={option}"
    lines = [f"# {about}" if chosen in about else f"# {chosen}. {about}", _WRITTEN]
    return "\n".join([*lines, *_value_lines(default_values(config_type), config_type), ""])


def _value_lines(values: Mapping[str, Any], config_type: type) -> list[str]:
    meanings, fields = key_meanings(config_type), key_fields(config_type)
    lines: list[str] = []
    for key, value in values.items():
        meaning = meanings.get(key) or describe(fields[key][1])
        choices = text_choices(fields[key][1])
        if not all(re.search(rf"\b{re.escape(choice)}\b", meaning) for choice in choices):
            meaning += f" Choices: {', '.join(choices)}."
        meaning = re.sub(r"\b(None|True|False)\b", lambda found: _IN_YAML[found[1]], meaning)
        comment = textwrap.wrap(meaning.replace("`", ""), _WIDTH - 2)
        lines += ["", *(f"# {line}" for line in comment), f"{key}: {format_value(value)}"]
    return lines


def key_meanings(config_type: type) -> dict[str, str]:
    """Return the description of each key of a dataclass; a key without a description is left out.

    Both ways of writing are read: an entry under `Attributes` in the class's docstring, and a string below the field.
    Classes that it extends, and its `flat` members, are read too.

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
    for member in flat_fields(config_type).values():
        meanings |= key_meanings(member)
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


def write_conf() -> None:
    """Rewrite the files."""
    for path, text in conf_files().items():
        write_atomic(conf_folder() / path, text)
        say(f"wrote {path}")


if __name__ == "__main__":
    write_conf()
