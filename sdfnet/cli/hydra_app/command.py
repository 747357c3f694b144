"""What a command is: its keys, what it does, and the words that its help and its errors need.

Light on purpose: no torch, no Hydra, so that help and completion answer at once.

The commands of the program: their names, what each does in one line, and how to load one.

Light, so that `sdfnet --help` answers at once: a command's module is imported only when it is called.
"""

from __future__ import annotations

import gc
import importlib
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


COMMANDS = {
    "demo": "the whole way on the shipped chairs, in under five minutes",
    "check": "read every mesh of a folder and say what is right and wrong with it",
    "sample": "draw points and signed distances from a folder of meshes",
    "train": "learn all shapes of a folder with one network",
    "info": "say what a run directory holds",
    "extract": "write learned shapes as meshes",
    "morph": "write a sequence of meshes, and a film, that turns one learned shape into others",
    "evaluate": "measure learned shapes against their source meshes",
    "fit": "find the codes of meshes that were not trained on, and write them as meshes",
    "render": "draw pictures and turntables of learned shapes or of mesh files",
}
"""Every command and what it does; its module in `sdfnet.cli` has the same name."""


def load_command(name: str) -> Command:
    """Return the command of that name.

    The garbage collector waits meanwhile: an import makes 170,000 objects that all stay, and looking through them over
    and over takes an eighth of the time.
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        command: Command = importlib.import_module(f"sdfnet.cli.commands.{name}").COMMAND
    finally:
        if collects:
            gc.enable()
    return command
