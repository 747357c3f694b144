"""`sdfnet space` from its command line, on a run of four balls."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from tiny_runs import learn_run

from sdfnet.cli.main import main
from sdfnet.fields import Sphere
from sdfnet.geometry.similarity import Similarity
from sdfnet.mesh.io.read import read_mesh
from sdfnet.runs import RunShape

RADII = {"small": 0.4, "less": 0.5, "more": 0.6, "a <b>": 0.7}


@pytest.fixture(scope="module")
def four_balls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that has learned four balls about (5, 0, 0)."""
    folder = tmp_path_factory.mktemp("space")
    shapes = [
        RunShape(name, Similarity([5, 0, 0], 0.5), f"{name}.obj", content_hash="", closed=True, num_surfaces=1)
        for name in RADII
    ]
    return learn_run(folder / "run", shapes, [Sphere(radius) for radius in RADII.values()])


def test_space_writes_report_numbers_pictures_and_the_space_of_the_run(
    four_balls: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [f"run={four_balls}", f"out={tmp_path}", "resolution=24", "num_tests=2", "num_modes=1", "backend=rays"]
    assert main(["space", *words]) == 0
    told = capsys.readouterr().out
    assert "4 shapes, 3 components" in told
    assert told.strip().endswith(f"Results are in {tmp_path / 'space.html'}")
    document = json.loads((tmp_path / "space.json").read_text())
    assert document["modes"] == [1, 2]
    assert len(document["generalization"]) == len(document["specificity"]) == 2
    assert set(document["scores"]) == set(RADII)
    assert document["movements"][0] == pytest.approx(103 * np.std(list(RADII.values()), ddof=1), rel=0.3)
    assert document["neighbours"]["less"][0][1] == pytest.approx(10.3, rel=0.4)
    assert (tmp_path / "pc1.png").is_file()
    page = (tmp_path / "space.html").read_text(encoding="utf-8")
    assert "a &lt;b&gt;" in page
    assert "a <b>" not in page
    addresses = re.findall(r'(?:src|href)="([^"]{5})', page)
    assert addresses
    assert set(addresses) == {"data:"}  # nothing is fetched
    assert main(["extract", f"run={four_balls}", 'shapes=["pc1=1", small]', f"out={tmp_path}", "resolution=24"]) == 0
    blend = 'shapes=["near=small; take=more; box=5,-9,-9,9,9,9; seam=0.1", "near=less; pc1=0.5"]'
    assert main(["extract", f"run={four_balls}", blend, f"out={tmp_path / 'words'}", "resolution=24"]) == 0
    blended, moved = sorted((tmp_path / "words").glob("*.obj"), key=lambda path: "take" not in path.name)
    assert moved.stem == "near=less_pc1=0.5"
    box = read_mesh(blended).bounds
    assert 5 - box.lower[0] == pytest.approx(2 * 0.4, abs=0.1)
    assert box.upper[0] - 5 == pytest.approx(2 * 0.6, abs=0.1)
    assert main(["morph", f"run={four_balls}", blend, f"out={tmp_path / 'morph'}", "resolution=24", "frames=2"]) == 1
    assert "is a local blend: it has a field, but no code" in capsys.readouterr().err
    mesh = read_mesh(tmp_path / "pc1=1.obj")
    assert mesh.vertices.mean(axis=0) == pytest.approx([5, 0, 0], abs=0.5)


def test_space_draws_new_shapes_as_meshes_and_as_a_run_that_every_command_reads(
    four_balls: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [f"run={four_balls}", "resolution=24", "num_tests=0", "num_modes=0", "backend=rays", "num_shapes=3"]
    assert main(["space", *words, f"out={tmp_path / 'a'}"]) == 0
    assert "3 new shapes of" in capsys.readouterr().out
    document = json.loads((tmp_path / "a" / "space.json").read_text())
    assert document["new"]["drawn"] == 3 + sum(document["new"]["thrown_away"].values())
    for name in ("new_000", "new_001", "new_002"):
        assert read_mesh(tmp_path / "a" / "new" / "meshes" / f"{name}.obj").to_trimesh().is_watertight
    assert main(["space", *words, f"out={tmp_path / 'b'}"]) == 0
    first, second = ((tmp_path / each / "new" / "model.safetensors").read_bytes() for each in "ab")
    assert first == second
    assert main(["extract", f"run={tmp_path / 'a' / 'new'}", "resolution=24", f"out={tmp_path / 'c'}"]) == 0
    extracted = read_mesh(tmp_path / "c" / "new_000.obj").vertices
    assert extracted == pytest.approx(read_mesh(tmp_path / "a" / "new" / "meshes" / "new_000.obj").vertices)


def test_space_compares_groups_and_moves_attributes(
    four_balls: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "table.csv").write_text("name,size\nsmall,1\nless,2\n")
    words = [f"run={four_balls}", f"out={tmp_path}", "resolution=24", "num_tests=0", "backend=rays"]
    assert main(["space", *words, f"attributes={tmp_path / 'table.csv'}"]) == 1
    assert "1 attributes need at least 5 shapes with full rows, got 2" in capsys.readouterr().err
    assert main(["space", *words, "groups=[size]"]) == 2
    assert "columns and groups need attributes=FILE.csv" in capsys.readouterr().err


def test_space_refuses_what_has_no_statistics(four_balls: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["space", f"run={four_balls}", "shapes=[small,less]"]) == 1
    assert "statistics need at least 4 shapes, got 2" in capsys.readouterr().err
    assert main(["space", f"run={four_balls}", "num_tests=1"]) == 2
    assert "num_tests must be 0, or 2 or more, got 1" in capsys.readouterr().err
