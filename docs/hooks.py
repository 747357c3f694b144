"""Pages of the documentation that are made at build time, so that the code says each thing once.

- One page for each command: the text of `sdfnet COMMAND --help`, set as tables.
- One page for each package: its public names, each rendered from its docstring by mkdocstrings.
- The changelog, as it is.

mkdocs calls `on_config`, `on_files` and `on_page_markdown` by name (see `hooks` in mkdocs.yml).
"""

from __future__ import annotations

import ast
import contextlib
import io
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

from sdfnet.cli.hydra_app.command import COMMANDS
from sdfnet.cli.main import main

ROOT = Path(__file__).resolve().parent.parent


def on_config(config: Any) -> Any:
    """Put the made pages into the navigation."""
    for entry in config["nav"]:
        for title, target in entry.items():
            if title == "Command reference":
                entry[title] = [target, *({name: f"reference/commands/{name}.md"} for name in COMMANDS)]
            elif title == "Python reference":
                entry[title] = [target, *({name: f"reference/python/{name}.md"} for name in public_names())]
    return config


def on_files(files: Files, config: Any) -> Files:
    """Add the made pages."""
    pages = {"reference/commands/index.md": command_index(), "reference/python/index.md": python_index()}
    pages |= {f"reference/commands/{name}.md": command_page(name) for name in COMMANDS}
    pages |= {f"reference/python/{name}.md": python_page(name, names) for name, names in public_names().items()}
    pages["changelog.md"] = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    for path, text in pages.items():
        files.append(File.generated(config, path, content=text))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Put a program in the place of its mark, so that a page shows the file that the tests run."""

    def shown(match: re.Match[str]) -> str:
        program = (ROOT / match[1]).read_text(encoding="utf-8")
        return f'```python title="{match[1]}"\n{program}```'

    return re.sub(r"<!-- program: (\S+) -->", shown, markdown)


@dataclass
class HelpSection:
    """One part of a help text: its title, and rows of two columns."""

    title: str
    rows: list[list[str]] = field(default_factory=list)


def help_text(*words: str) -> str:
    """Return what `sdfnet` prints for these words."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        code = main([*words, "--help"])
    assert code == 0, printed.getvalue()
    return printed.getvalue()


def parse_help(text: str) -> list[HelpSection]:
    """Split a help text into its sections.

    >>> first, second = parse_help("sdfnet x: does\\n\\nKeys\\n  a=1   one\\n        more\\n  b=2   two\\n")
    >>> second.title, second.rows
    ('Keys', [['a=1', 'one more'], ['b=2', 'two']])
    """
    sections: list[HelpSection] = []
    for line in text.splitlines():
        if line and not line.startswith(" "):
            sections.append(HelpSection(line))
        elif re.match(r"  \S", line):
            left, _, right = re.sub(r"\s{2,}", "\0", line.strip(), count=1).partition("\0")
            sections[-1].rows.append([left, right])
        elif line.strip():
            row = sections[-1].rows[-1]
            row[1] = f"{row[1]} {line.strip()}".strip()
    return sections


def command_page(name: str) -> str:
    """Return the page of one command."""
    head, *sections = parse_help(help_text(name))
    lines = [f"# sdfnet {name}", "", f"`sdfnet {name}`: {COMMANDS[name]}.", "", "```sh", head.rows[0][0], "```", ""]
    for section in sections:
        title, _, explained = section.title.partition(": ")
        lines += [f"## {title}", "", *([_cell(explained[:1].upper() + explained[1:]) + ".", ""] if explained else [])]
        if title == "Examples":
            lines += ["```sh", *(" ".join(row).strip() for row in section.rows), "```", ""]
            continue
        columns = ("flag", "meaning") if title == "Flags" else ("key and default", "meaning")
        lines += [f"| {columns[0]} | {columns[1]} |", "|---|---|"]
        lines += [f"| `` {left} `` | {_cell(right)} |" for left, right in section.rows]
        lines.append("")
    return "\n".join(lines)


def command_index() -> str:
    """Return the first page of the command reference."""
    rows = [f"| [`sdfnet {name}`]({name}.md) | {meaning} |" for name, meaning in COMMANDS.items()]
    shared = (ROOT / "docs/reference_commands.txt").read_text(encoding="utf-8")
    return "\n".join(["# Command reference", "", "| command | what it does |", "|---|---|", *rows, "", shared])


MODULES = (
    "sdfnet.geometry.bounds",
    "sdfnet.geometry.similarity",
    "sdfnet.mesh.mesh",
    "sdfnet.mesh.distance",
    "sdfnet.mesh.components",
    "sdfnet.mesh.topology",
    "sdfnet.mesh.quality",
    "sdfnet.mesh.remesh",
    "sdfnet.mesh.sequence",
    "sdfnet.mesh.io.read",
    "sdfnet.mesh.io.write",
    "sdfnet.solids.source_shape",
    "sdfnet.solids.solid",
    "sdfnet.runs.mixes",
    "sdfnet.runs.space",
    "sdfnet.latents.analysis",
    "sdfnet.latents.statistics",
    "sdfnet.latents.groups",
    "sdfnet.latents.new_shapes",
    "sdfnet.latents.attributes",
    "sdfnet.latents.effects",
    "sdfnet.latents.generalization",
    "sdfnet.rendering.colormap",
)
"""Modules that users import from although their packages export nothing: what has an example there is documented."""


def public_names() -> dict[str, list[str]]:
    """Return what users import: package or module to names, in the order of the source."""
    packages = [ROOT / "sdfnet/__init__.py", *sorted((ROOT / "sdfnet").rglob("*/__init__.py"))]
    found = {".".join(path.parent.relative_to(ROOT).parts): exported(path) for path in packages}
    found |= {module: exported(ROOT.joinpath(*module.split(".")).with_suffix(".py"), own=True) for module in MODULES}
    return {place: names for place, names in sorted(found.items()) if names and ".cli" not in place}


def exported(path: Path, *, own: bool = False) -> list[str]:
    """Return the public names that a module re-exports or defines; or, of its `own` only, those with an example."""
    names: list[str] = []
    body = ast.parse(path.read_text(encoding="utf-8")).body
    for node in [inner for outer in body for inner in (outer.body if isinstance(outer, ast.If) else [outer])]:
        if isinstance(node, ast.ImportFrom) and not own:
            names += [alias.name for alias in node.names if alias.asname == alias.name]
        elif isinstance(node, ast.FunctionDef | ast.ClassDef) and (not own or ">>>" in (ast.get_docstring(node) or "")):
            names.append(node.name)
    return [name for name in names if not name.startswith("_")]


def python_page(package: str, names: list[str]) -> str:
    """Return the page of one package or module: what it is for, then every public name."""
    path = ROOT.joinpath(*package.split("."))
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    about = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    lines = [f"# {package}", "", about, ""]
    if package == "sdfnet":  # The short names: each is documented in the package that it comes from.
        homes = {
            name: home for home, members in reversed(public_names().items()) if home != package for name in members
        }
        lines += ["| name | documented in |", "|---|---|"]
        lines += [
            f"| [`sdfnet.{name}`]({homes[name]}.md) | `{homes[name]}` |" for name in sorted(names) if name in homes
        ]
        names = [name for name in names if name not in homes]
    return "\n".join([*lines, "", *(f"::: {package}.{name}\n" for name in names)])


def python_index() -> str:
    """Return the first page of the Python reference."""
    lines = [
        "# Python reference",
        "",
        "Each page lists the public names of one package or module. The examples run in the test suite.",
        "`import sdfnet` gives the names that most programs need, and loads each when it is first used.",
        "",
        "| import from | public names |",
        "|---|---|",
    ]
    for package, names in public_names().items():
        lines.append(f"| [`{package}`]({package}.md) | {', '.join(f'`{name}`' for name in names)} |")
    return "\n".join(lines)


def _cell(text: str) -> str:
    return re.sub(r"([|<>*_\[\]])", r"\\\1", text)
