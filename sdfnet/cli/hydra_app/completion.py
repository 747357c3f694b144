"""Shell completion: Hydra's scripts and its knowledge of the keys, with the command as the first word.

`eval "$(sdfnet --shell-completion install=bash)"` defines it (zsh takes the bash script, fish has its own); the shell
then calls `sdfnet -sc query=bash` with the line so far in COMP_LINE.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from hydra.errors import HydraException

from sdfnet.cli.hydra_app.application import hydra_for
from sdfnet.cli.hydra_app.arguments import FLAGS, parse_line
from sdfnet.cli.hydra_app.command import COMMANDS, UsageError
from sdfnet.cli.hydra_app.conf import command_groups

_SHELLS = ("bash", "fish", "zsh")


def complete_shell(words: Sequence[str]) -> int:
    """Install, uninstall or answer; `words` is one of `install=`, `uninstall=` and `query=` with a shell's name."""
    action, _, shell = (words[0] if words else "").partition("=")
    if action not in ("install", "uninstall", "query") or shell not in _SHELLS:
        print("sdfnet: error: expected --shell-completion install=bash, install=zsh or install=fish", file=sys.stderr)
        return 2
    if action == "query":
        separator = "\n" if shell == "fish" else " "
        print(separator.join(candidates(os.environ.get("COMP_LINE", ""))))
        return 0
    with hydra_for("info", parse_line([]).flags) as hydra:
        hydra.shell_completion(config_name="info", overrides=[f"{action}={'fish' if shell == 'fish' else 'bash'}"])
    return 0


def candidates(line: str) -> list[str]:
    """Return the words that may replace the last word of `line`; the first word is the name of the program."""
    words = line.split()
    last = "" if line.endswith(" ") or not words else words[-1]
    done = words if not last else words[:-1]
    if len(done) <= 1:
        return [name for name in (*COMMANDS, "--help", "--version") if name.startswith(last)]
    if done[1] not in COMMANDS:
        return []
    if last.startswith("-"):
        return [spelling for flag in FLAGS for spelling in flag.spellings if spelling.startswith(last)]
    return _keys(done[1], done[2:], last)


def _keys(name: str, before: Sequence[str], last: str) -> list[str]:
    """Ask Hydra's completion, and leave out the groups that are not this command's."""
    from hydra._internal.core_plugins.bash_completion import BashCompletion

    try:
        line = parse_line(before)
        with hydra_for(name, line.flags) as hydra:
            plugin = BashCompletion(hydra.config_loader)
            found = plugin._query(config_name=name, line=" ".join([*line.overrides, last or " "]))
            foreign = {*hydra.config_loader.list_groups(""), "hydra"} - {*command_groups(name)}
    except (HydraException, UsageError):
        return []
    return [word for word in found if word.split("=")[0].split("/")[0].split(".")[0] not in foreign]
