"""What the README shows works: its Python runs, its commands compose, its files exist."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from sdfnet.cli.main import main
from sdfnet.decoders import VolumeConfig
from sdfnet.extraction import extract_mesh
from sdfnet.fields import Box
from sdfnet.mesh.io.read import read_mesh
from sdfnet.mesh.io.write import save_mesh
from sdfnet.sampling import SamplerConfig, prepare_samples
from sdfnet.training import TrainingConfig, train

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = sorted(
    {
        line
        for block in re.findall(r"```sh\n(.*?)```", README, re.DOTALL) + re.findall(r"`(sdfnet [^`]*)`", README)
        for line in re.findall(r"^sdfnet \w+ .*=.*$", block.split("   #")[0], re.MULTILINE)
    }
)


def test_the_python_examples_run_in_order(tmp_path, monkeypatch):
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
    names: dict[str, object] = {}
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        exec(block, names)  # the README's own text
    whole = read_mesh(tmp_path / "chair.obj")
    assert whole.signed_volume == pytest.approx(40 * 90 * 40, rel=0.05)
    assert whole.bounds.center == pytest.approx([300, 45, 0], abs=1)
    half, learned = read_mesh(tmp_path / "half.obj"), whole.to_unit(store.shapes[0].similarity)
    assert half.signed_volume == pytest.approx(learned.signed_volume / 2, rel=0.05)
    assert half.bounds.upper[0] == pytest.approx(0, abs=0.02)


def test_the_readme_shows_every_command():
    assert {line.split()[1] for line in COMMANDS} >= {
        "check", "sample", "train", "info", "extract", "fit", "morph", "render", "evaluate"
    }  # fmt: skip


@pytest.mark.parametrize("line", COMMANDS)
def test_a_shown_command_composes(line, capsys):
    words = shlex.split(line.partition("  #")[0])[1:]
    if "-m" in words:  # of a sweep, its first job
        words = [word.partition(",")[0] for word in words if word != "-m"]
    assert main([*words, "--cfg", "job"]) == 0, capsys.readouterr().err


@pytest.mark.parametrize("path", sorted(set(re.findall(r"\]\(([^)#:]+)\)", README))))
def test_linked_files_exist(path):
    assert (ROOT / path).is_file()


def test_mentioned_benchmarks_exist():
    for path in re.findall(r"benchmarks/\w+\.py", README):
        assert (ROOT / path).is_file(), path
