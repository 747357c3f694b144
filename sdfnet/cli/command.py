"""What a command is: its keys, what it does, and the words that its help and its errors need.

Light on purpose: no torch, no Hydra, so that help and completion answer at once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


class UsageError(ValueError):
    """The command line itself is wrong (exit code 2), not what it points at (exit code 1)."""


@dataclass(frozen=True)
class Command:
    """One command of `sdfnet`.

    Attributes
    ----------
    name : str
    config : type
        A frozen dataclass: its fields are the command's keys, its `__post_init__` refuses values out of range.
    run : callable
        Takes an instance of `config`; the last line it prints says where the results are.
    output_key : str or None
        The key that says where results go; in a sweep every job gets a folder of its own below it.
    interrupted : callable
        Takes the configuration and says what Ctrl-C leaves behind and how to go on.
    examples : tuple of str
        Complete command lines for the help.
    groups : tuple of str
        The configuration groups that its YAML file names.
    choices : dict of str to dict of str to type
        Where the options of a group are different dataclasses: group, option, dataclass.
    """

    name: str
    config: type
    run: Callable[[Any], None]
    output_key: str | None = None
    interrupted: Callable[[Any], str] = field(default=lambda config: "Nothing was written.")
    examples: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    choices: dict[str, dict[str, type]] = field(default_factory=dict)
