"""What the README and the guides show works: the Python runs, the commands compose, the named files exist."""

from __future__ import annotations

import ast
import importlib
import re
import shlex
from pathlib import Path

import pytest

import sdfnet
from sdfnet.cli.hydra_app.command import COMMANDS as KNOWN
from sdfnet.cli.main import main
from sdfnet.decoders import VolumeConfig
from sdfnet.extraction import extract_mesh
from sdfnet.fields import Box
from sdfnet.mesh.io.read import read_mesh
from sdfnet.mesh.io.write import save_mesh
from sdfnet.sampling import SamplerConfig, prepare_samples
from sdfnet.training import TrainingConfig, train

ROOT = Path(__file__).resolve().parent.parent
PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for path in [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
}
README = PAGES["README.md"]


def shown_commands(page: str) -> list[str]:
    """Return the commands of sdfnet in the shell blocks and in the code words of a page, without comments."""
    blocks = re.findall(r"```sh\n(.*?)```", page, re.DOTALL) + re.findall(r"`(sdfnet [^`\n]*)`", page)
    lines = [line.partition("  #")[0].strip() for block in blocks for line in block.splitlines()]
    lines = [line.split(" -m ", 1)[1] if line.startswith("torchrun") else line for line in lines]
    return [line for line in lines if re.match(r"sdfnet [a-z]+ .*=", line)]


COMMANDS = sorted({line for page in PAGES.values() for line in shown_commands(page)})


def test_the_python_example_runs(tmp_path, monkeypatch):
    save_mesh(
        extract_mesh(Box([20.0, 45.0, 20.0], center=[300.0, 45.0, 0.0]), resolution=32), tmp_path / "m/chair_03.obj"
    )
    store = prepare_samples(
        tmp_path / "m",
        tmp_path / "s",
        config=SamplerConfig(num_samples=20_000, num_surface=100, num_heldout=100),
        num_workers=1,
        progress=False,
    ).store
    train(
        tmp_path / "demo/run",
        store,
        decoder=VolumeConfig(latent_size=8, channels=(16, 8, 8), width=16),
        config=TrainingConfig(
            steps=150, optimizer="adam", batch_shapes=1, previews=0, evaluations=1, precision="float32"
        ),
        progress=False,
    )
    monkeypatch.chdir(tmp_path)
    (block,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len([line for line in block.splitlines() if line.strip()]) <= 8
    names: dict[str, object] = {}
    exec(block, names)  # the README's own text
    half = read_mesh(tmp_path / "half.obj")
    assert half.signed_volume == pytest.approx(20 * 90 * 40, rel=0.05)
    assert half.bounds.center == pytest.approx([290, 45, 0], abs=1)
    assert half.bounds.upper[0] == pytest.approx(300, abs=1)


def test_the_readme_is_short():
    lines = README.splitlines()
    assert len(lines) <= 130
    assert max(map(len, lines)) <= 200


def test_the_readme_shows_every_command():
    shown = {line.split()[1] for line in shown_commands(README)}
    assert shown >= set(KNOWN) - {"sample"}
    assert {line.split()[1] for line in COMMANDS} == set(KNOWN)


@pytest.mark.parametrize("line", COMMANDS)
def test_a_shown_command_composes(line, capsys):
    words = shlex.split(line)[1:]
    if "-m" in words:  # of a sweep, its first job
        words = [word.partition(",")[0] for word in words if word != "-m"]
    assert main([*words, "--cfg", "job"]) == 0, capsys.readouterr().err


def test_linked_files_exist():
    for path in set(re.findall(r"\]\(([^)#:]+)\)", README)):
        assert (ROOT / path).is_file(), path


def test_mentioned_benchmarks_exist():
    for name, page in PAGES.items():
        for path in re.findall(r"benchmarks/[\w/]+\.py", page):
            assert (ROOT / path).is_file(), f"{name}: {path}"


def moved_names() -> list[str]:
    """Return the new paths in the changelog's table of import paths."""
    rows = re.findall(r"^\| `sdfnet\.[\w.]+` \| `(sdfnet\.[\w.]+)` \|$", PAGES["CHANGELOG.md"], re.MULTILINE)
    assert len(rows) > 30
    return rows


def test_every_new_import_path_of_the_changelog_exists():
    for path in moved_names():
        module, _, name = path.rpartition(".")
        assert hasattr(importlib.import_module(module), name), path


def test_python_blocks_of_the_pages_import_what_exists():
    """Names, not behaviour: the gallery's programs and the docstrings' examples are what runs."""
    for page, text in PAGES.items():
        for block in re.findall(r"^```python[^\n]*\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
            for node in ast.walk(ast.parse(block)):
                if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("sdfnet"):
                    module = importlib.import_module(str(node.module))
                    missing = [alias.name for alias in node.names if not hasattr(module, alias.name)]
                    assert not missing, f"{page}: {node.module} has no {missing}"
                elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "sdfnet":
                    assert hasattr(sdfnet, node.attr), f"{page}: sdfnet.{node.attr}"
