"""Scenes on the command line: `sdfnet scene`, and `scene=` of the other commands."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from sdfnet.cli.main import main
from sdfnet.mesh.io.read import read_mesh

PLATE = """
parameters:
  width: {value: 40, range: [20, 80], about: outer width}
shape:
  difference:
    - {box: [width / 2, 2, 10], name: plate, color: steelblue}
    - {cylinder: {radius: 3, half_height: 3}}
"""


@pytest.fixture
def plate(tmp_path: Path) -> Path:
    (tmp_path / "plate.yaml").write_text(PLATE)
    return tmp_path / "plate.yaml"


def test_scene_prints_the_parameters_the_tree_and_the_box(plate: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["scene", f"scene={plate}", "set=[width=60]"]) == 0
    text = capsys.readouterr().out
    assert "  width  60  from 20 to 80  outer width" in text
    assert "    plate: box half_extents=[width / 2, 2, 10] color=steelblue  [exact]" in text
    assert "box: (-30, -2, -10) to (30, 2, 10)" in text
    assert "3 nodes, distances are bound" in text


def test_extract_writes_a_scene_with_its_colors_and_warns_where_a_format_has_none(
    plate: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["extract", f"scene={plate}", "set=[width=60]", "resolution=48", "sharp=true", "format=[obj,glb,ply,3mf]"]
    assert main(words) == 0
    said = capsys.readouterr()
    assert "no colours in obj, 3mf" in said.err
    assert "plate at resolution 48 as obj, glb, ply, 3mf: " in said.out
    out = plate.parent / "meshes"
    for suffix in ("obj", "glb", "ply", "3mf"):
        mesh = read_mesh(out / f"plate.{suffix}")
        assert mesh.signed_volume == pytest.approx(60 * 4 * 20 - np.pi * 9 * 4, rel=2e-3)
    summary = json.loads((out / "extract.json").read_text())["shapes"]["plate"]
    assert summary["parameters"] == {"width": 60}

    import trimesh

    for suffix in ("glb", "ply"):
        (seen,) = trimesh.load_scene(out / f"plate.{suffix}", process=False).geometry.values()
        visual = seen.visual
        painted = visual.vertex_colors if suffix == "ply" else visual.vertex_attributes["color"]
        steelblue = np.array([70, 130, 180])
        stored = steelblue if suffix == "ply" else ((steelblue / 255 + 0.055) / 1.055) ** 2.4  # glTF: linear light
        np.testing.assert_allclose(painted[:, :3], np.broadcast_to(stored, (len(painted), 3)), rtol=1e-5)


@pytest.mark.parametrize(
    ("words", "message", "code"),
    [
        (
            ["extract", "scene=S", "run=r"],
            "give one of run=DIR for learned shapes, or scene=FILE.yaml for a scene; got run and",
            2,
        ),
        (["extract", "scene=S", "shapes=a"], "shapes belongs to run=DIR; a scene is one shape", 2),
        (["extract", "run=r", "set=[w=1]"], "set belongs to scene=FILE.yaml; nothing else has parameters", 2),
        (["extract", "scene=S", "set=[width=90]"], "width must be from 20 to 80, got 90", 1),
        (["extract", "scene=S", "set=[width]"], "set takes NAME=NUMBER, as in 'set=[width=40,hole=6]', got 'width'", 2),
        (["scene", "scene=S", "set=[wide=3]"], "unknown parameter 'wide'; the scene has width", 1),
        (["scene", "scene=nowhere.yaml"], "cannot read the scene nowhere.yaml: No such file or directory", 1),
        (["scene"], "scene must be given: scene=…", 2),
    ],
)
def test_wrong_words_are_refused(
    plate: Path, words: list[str], message: str, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([word.replace("=S", f"={plate}") for word in words]) == code
    assert message in capsys.readouterr().err
