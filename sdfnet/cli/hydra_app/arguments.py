"""Prepare a command line for Hydra: flags may stand anywhere, and texts need no quotes of their own.

Hydra's grammar refuses `out=my folder (1)` and `shapes=a=b`. The value of a key that takes only text is quoted here. A
value that starts with a quote, is `null` or holds `${...}` is left as it is. In a sweep (`-m`) a comma separates
alternatives, so no value is changed.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, NoReturn

from sdfnet.cli.hydra_app.command import UsageError


class Flag(NamedTuple):
    """One flag: its spellings, its help, and its options for argparse."""

    spellings: tuple[str, str]
    meaning: str
    options: dict[str, Any]


_INFO = ["all", "config", "defaults", "defaults-tree", "plugins", "searchpath"]

FLAGS = (
    Flag(("-h", "--help"), "this text", {"action": "store_true"}),
    Flag(("-m", "--multirun"), "run once for every combination: key=1,2 other=a,b", {"action": "store_true"}),
    Flag(("-c", "--cfg"), "print the configuration (job, hydra or all) and stop", {"choices": ["job", "hydra", "all"]}),
    Flag(("-p", "--package"), "with --cfg: print only this part of it", {}),
    Flag(("-r", "--resolve"), "with --cfg: fill in interpolations", {"action": "store_true"}),
    Flag(("-i", "--info"), f"print how it is composed ({', '.join(_INFO)}) and stop", {"choices": _INFO}),
    Flag(("-cd", "--config-dir"), "a folder of your own configurations, searched first", {}),
    Flag(("-cn", "--config-name"), "start from this configuration instead of the command's own", {}),
)
"""Every flag of a command; the meaning is Hydra's."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}. Flags are listed by --help; values are written key=value")


@dataclass(frozen=True)
class Line:
    """A parsed command line: Hydra's flags, and the overrides in their order."""

    flags: argparse.Namespace
    overrides: list[str]


def parse_line(words: Sequence[str]) -> Line:
    """Separate flags from overrides, wherever they stand.

    >>> line = parse_line(["a=1", "-m", "b=2"])
    >>> line.flags.multirun, line.overrides
    (True, ['a=1', 'b=2'])
    """
    parser = _Parser(add_help=False, allow_abbrev=False)
    for flag in FLAGS:
        parser.add_argument(*flag.spellings, **flag.options)
    parser.add_argument("overrides", nargs="*")
    flags, unknown = parser.parse_known_intermixed_args(list(words))
    if unknown:
        key = unknown[0].lstrip("-").split("=")[0]
        raise UsageError(f"unknown flag {unknown[0]}. Values are written key=value, as in {key}=VALUE; see --help")
    for word in flags.overrides:
        if "=" not in word and not word.startswith("~"):
            raise UsageError(f"expected key=value, got {word!r}. Keys are listed by --help")
    return Line(flags, flags.overrides)


def split_override(override: str) -> tuple[str, str]:
    """Return the key without Hydra's `+`, `++` or `~`, and the value.

    >>> split_override("++a.b=c=d")
    ('a.b', 'c=d')
    """
    key, _, value = override.partition("=")
    return key.lstrip("+~"), value


def quote_texts(overrides: Iterable[str], texts: Mapping[str, bool]) -> list[str]:
    """Quote the values of the keys in `texts` (key: takes a list), so that Hydra takes them literally.

    >>> quote_texts(["out=a b=c", "shapes=[x (1),y]", "frames=3"], {"out": False, "shapes": True})
    ["out='a b=c'", "shapes=['x (1)','y']", 'frames=3']
    """
    quoted = []
    for override in overrides:
        key, value = split_override(override)
        if key in texts and not override.startswith("~"):
            value = _quote_list(value) if texts[key] and value.startswith("[") else _quote(value)
            override = f"{override.partition('=')[0]}={value}"
        quoted.append(override)
    return quoted


def _quote(value: str) -> str:
    from hydra.core.override_parser.types import Quote, QuotedString

    # One quotation, not two with something in between: "a b" + "c d" is a text that holds quotes.
    quoted = re.fullmatch(r"""'([^'\\]|\\.)*'|"([^"\\]|\\.)*\"""", value) is not None
    kept = value in ("", "null") or "${" in value or quoted
    return value if kept else QuotedString(text=value, quote=Quote.single).with_quotes()


def _quote_list(value: str) -> str:
    """Quote each item of `[a,b (1),"c,d"]`; commas inside brackets or quotes separate nothing."""
    if not value.endswith("]"):
        raise UsageError(f"the list {value} has no closing bracket. Put quotes around it for the shell: 'key=[a,b]'")
    items, item, depth, quote = [], "", 0, ""
    for character in value[1:-1]:
        if quote:
            quote = "" if character == quote and not item.endswith("\\") else quote
        elif character in "'\"" and not item.strip():
            quote = character
        elif character in "[]":
            depth += 1 if character == "[" else -1
        if character == "," and depth <= 0 and not quote:
            items.append(item)
            item = ""
        else:
            item += character
    items = [*items, item] if items or item.strip() else []
    return f"[{','.join(_quote(item.strip()) for item in items)}]"
