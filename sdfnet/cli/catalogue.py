"""The commands of the program: their names, what each does in one line, and how to load one.

Light, so that `sdfnet --help` answers at once: a command's module is imported only when it is called.
"""

from __future__ import annotations

import gc
import importlib

from sdfnet.cli.command import Command

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
        command: Command = importlib.import_module(f"sdfnet.cli.{name}").COMMAND
    finally:
        if collects:
            gc.enable()
    return command
