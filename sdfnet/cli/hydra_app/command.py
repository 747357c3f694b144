"""The class of a command, and the list of all commands with one line about each.

This module imports neither torch nor Hydra: `sdfnet --help` and completion need only the list. A command's own module
is imported when the command is called.
"""

from __future__ import annotations

import gc
import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any


class UsageError(ValueError):
    """The command line itself is wrong (exit code 2), not the files that it names (exit code 1)."""


@dataclass(frozen=True)
class Command:
    """One command of `sdfnet`. Its examples stand in the docstring of its module.

    Attributes
    ----------
    config : type
        A frozen dataclass. Its fields are the command's keys; the fields of a `flat` member are keys too.
    run : callable
        Takes an instance of `config`. The last line that it prints says where the results are.
    output_key : str or None
        The key that says where results go. In a sweep every job gets a folder of its own below it.
    interrupted : callable
        Takes the configuration; says what Ctrl-C leaves behind and how to go on.
    groups : dict of str to dict of str to type
        The configuration groups of the command. For each group, the options that are written from a dataclass; the
        first is the default. A group without such an option (`experiment`) is off by default.
    """

    name: str
    config: type
    run: Callable[[Any], Any]
    output_key: str | None = "out"
    interrupted: Callable[[Any], str] = field(default=lambda config: "Nothing was written.")
    groups: Mapping[str, Mapping[str, type]] = field(default_factory=dict)


COMMANDS = {
    "demo": "the whole way on the shipped chairs, in under five minutes",
    "check": "read every mesh of a folder and say what is right and wrong with it",
    "sample": "draw points and signed distances from a folder of meshes",
    "train": "learn all shapes of a folder with one network",
    "info": "say what a run directory holds",
    "extract": "write learned shapes, or a scene, as meshes",
    "morph": "write a sequence of meshes, and a film, that turns one learned shape into others, or changes a scene",
    "evaluate": "measure learned shapes against their source meshes, or meshes against others",
    "fit": "find the codes of meshes that were not trained on, and write them as meshes",
    "transfer": "carry labels, colours or landmarks from one shape of a run to the others",
    "space": "say what a family looks like: components, outliers, neighbours, and a report with pictures",
    "view": "look at a run, a scene or meshes in the browser, with sliders; or write an offline page",
    "scene": "check a scene file and print its tree and its parameters",
    "render": "draw pictures and turntables of learned shapes, of mesh files or of a scene",
}
"""Every command and what it does. Its module in `sdfnet.cli.commands` has the same name."""


def load_command(name: str) -> Command:
    """Import and return the command of that name.

    The garbage collector is off during the import. An import makes 170,000 objects that all stay, and to examine them
    again and again takes an eighth of the time.
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        command: Command = importlib.import_module(f"sdfnet.cli.commands.{name}").COMMAND
    finally:
        if collects:
            gc.enable()
    return command
