"""The documentation site builds, says what the program says, and fetches nothing from elsewhere."""

from __future__ import annotations

import doctest
import importlib
import importlib.util
import inspect
import re
import runpy
import subprocess
import sys
import zlib
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType

import pytest
from in_browser import need_chromium

from sdfnet.cli.hydra_app.command import COMMANDS

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def hooks() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_hooks", ROOT / "docs" / "hooks.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["docs_hooks"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    words = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


class Fetched(HTMLParser):
    """Collects every address that a browser fetches to show a page; links that a reader follows are not among them."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.addresses += [values[key] or "" for key in ("src", "srcset", "poster", "data") if key in values]
        if tag == "link" and (values.get("rel") or "") not in ("canonical", "prev", "next"):
            self.addresses.append(values.get("href") or "")
        self.addresses += re.findall(r"url\(([^)]*)\)", values.get("style") or "")


def fetched(html: str) -> list[str]:
    parser = Fetched()
    parser.feed(html)
    return parser.addresses


def leaves_the_site(address: str) -> bool:
    return re.match(r"\s*['\"]?\s*(?:[a-z]+:)?//", address, re.IGNORECASE) is not None


def test_the_check_sees_what_leaves_the_site():
    page = '<link rel="stylesheet" href="https://a.b/c.css"><script src="//a.b/c.js"></script><img src="x.png"><a href="https://a.b">'
    assert [address for address in fetched(page) if leaves_the_site(address)] == ["https://a.b/c.css", "//a.b/c.js"]


@pytest.mark.slow
def test_no_page_or_style_fetches_anything_from_elsewhere(site):
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 40
    for page in pages:
        leaving = [address for address in fetched(page.read_text(encoding="utf-8")) if leaves_the_site(address)]
        assert not leaving, f"{page.relative_to(site)} fetches {leaving}"
    for style in site.rglob("*.css"):
        text = style.read_text(encoding="utf-8")
        leaving = [word for word in re.findall(r"(?:url\(|@import\s*)([^);]*)", text) if leaves_the_site(word)]
        assert not leaving, f"{style.relative_to(site)} fetches {leaving}"


@pytest.mark.slow
def test_everything_that_a_page_shows_is_in_the_site(site):
    for page in site.rglob("*.html"):
        if page.name == "404.html":  # its addresses begin at the root of a server
            continue
        for address in fetched(page.read_text(encoding="utf-8")):
            if not address.startswith(("data:", "#")):
                assert (page.parent / address.partition("?")[0]).resolve().is_file(), f"{page.name}: {address}"


@pytest.mark.slow
def test_search_works_from_a_folder(site):
    assert (site / "search" / "search_index.js").read_text(encoding="utf-8").startswith("var __index = ")
    assert "iframe-worker.js" in (site / "index.html").read_text(encoding="utf-8")


def names_in_inventory(path: Path) -> set[str]:
    """Return the names in a Sphinx inventory: four lines of text, then compressed lines that begin with a name."""
    *_, compressed = path.read_bytes().split(b"\n", 4)
    return {line.split(" ")[0] for line in zlib.decompress(compressed).decode().splitlines()}


@pytest.mark.slow
def test_every_public_name_is_in_the_python_reference(site, hooks):
    known = names_in_inventory(site / "objects.inv")
    for package, names in hooks.public_names().items():
        if package != "sdfnet":
            missing = {f"{package}.{name}" for name in names} - known
            assert not missing


def test_every_public_function_and_class_has_an_example_that_runs(hooks):
    """That the examples run is the business of `--doctest-modules`."""
    places = hooks.public_names()
    assert sum(map(len, places.values())) > 150
    for place, names in places.items():
        for name in names:
            value = getattr(importlib.import_module(place), name)
            if isinstance(value, type) or inspect.isfunction(value):
                examples = doctest.DocTestParser().get_examples(value.__doc__ or "")
                assert any(doctest.SKIP not in example.options for example in examples), f"{place}.{name}"


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_page_has_every_key_of_the_help(hooks, name):
    text = hooks.help_text(name)
    page = hooks.command_page(name)
    keys = re.findall(r"^  ([a-z_.]+)=", text.partition("\nFlags")[0], re.MULTILINE)
    assert keys
    for key in keys:
        assert f"| `` {key}=" in page, key


def test_parsing_a_help_keeps_each_row_together(hooks):
    text = "sdfnet x: does\n\nKeys\n  a=1   one\n        more\n  long.key=[1,2,3]\n        two\n"
    assert hooks.parse_help(text)[1].rows == [["a=1", "one more"], ["long.key=[1,2,3]", "two"]]


@pytest.mark.slow
def test_the_gallery_shows_the_programs_that_run(site):
    text = unescape(re.sub(r"<[^>]*>", "", (site / "gallery.html").read_text(encoding="utf-8")))
    for program in (ROOT / "docs" / "gallery").glob("*.py"):
        assert program.read_text(encoding="utf-8").splitlines()[-1] in text, program.name


def test_examples_get_a_heading_once():
    heading = runpy.run_path(str(ROOT / "docs" / "examples_heading.py"))["with_heading"]
    docstring = "One line.\n\nRaises\n------\nValueError\n    Always.\n\n>>> 1\n1\n>>> 2\n2"
    changed = heading(docstring)
    assert changed == docstring.replace("\n>>> 1", "\nExamples\n--------\n>>> 1")
    assert heading(changed) == changed
    assert heading("No example.") == "No example."


@pytest.mark.slow
def test_a_reader_can_search_without_a_server(site, tmp_path):
    chromium = need_chromium()
    words = [chromium, "--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}"]
    words += ["--virtual-time-budget=10000", "--dump-dom", f"{(site / 'index.html').as_uri()}?q=winding"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)
    assert re.search(r"\d+ matching documents", done.stdout), done.stderr[-2000:]
