"""`sdfnet COMMAND …`: find the command and hand the rest of the line to it.

Nothing heavy is imported here, so that `sdfnet --help` answers at once.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import sdfnet
from sdfnet.cli.hydra_app.command import COMMANDS
from sdfnet.cli.hydra_app.output import did_you_mean


def main(words: Sequence[str] | None = None) -> int:
    """Run the program and return its exit code (0 done, 1 failed, 2 wrong command line, 130 interrupted)."""
    if words is None:
        words = sys.argv[1:]
        if not sys.stderr.isatty():  # In a log, progress bars speak every ten seconds. Before tqdm is first imported.
            os.environ.setdefault("TQDM_MININTERVAL", "10")
    words = list(words)
    first = words[0] if words else "--help"
    try:
        if first in ("-h", "--help", "help"):
            if first == "help" and len(words) > 1:
                return main([words[1], "--help"])
            from sdfnet.cli.hydra_app.help import format_commands

            print(format_commands(COMMANDS))
            return 0
        if first == "--version":
            print(f"sdfnet {sdfnet.__version__}")
            return 0
        if first in ("-sc", "--shell-completion"):
            from sdfnet.cli.hydra_app.completion import complete_shell

            return complete_shell(words[1:])
        if first not in COMMANDS:
            return _refuse(first)
        from sdfnet.cli.hydra_app.application import run_command

        return run_command(first, words[1:])
    except KeyboardInterrupt:
        print(f"\nsdfnet {first}: interrupted.", file=sys.stderr)
        return 130


def _refuse(word: str) -> int:
    if word.startswith("-") or "=" in word:
        text = f"expected a command first, got {word!r}. Commands: {', '.join(COMMANDS)}"
    else:
        text = f"unknown command {word!r}{did_you_mean(word, COMMANDS)} Commands: {', '.join(COMMANDS)}"
    print(f"sdfnet: error: {text}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
