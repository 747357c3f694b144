"""Scenes on the command line: `sdfnet scene`, and `scene=` of the other commands."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from sdfnet.cli.main import main
from sdfnet.mesh.io.read import read_mesh
from sdfnet.rendering.images import load_image

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


def test_render_draws_a_scene_in_its_colors(plate: Path) -> None:
    assert main(["render", f"scene={plate}", "resolution=32", "width=96", "height=64", "backend=rays"]) == 0
    picture = load_image(plate.parent / "pictures" / "plate.png").reshape(-1, 3).astype(float)
    red, _, blue = picture.T
    assert (blue - red > 40).mean() > 0.05  # steelblue


def test_morph_goes_through_the_sets_of_values_of_a_scene(plate: Path) -> None:
    words = ["frames=3", "resolution=24", "width=96", "height=64", "easing=linear", "format=[obj,glb,html,gif]"]
    sets = "key_sets=[{width: 20}, {width: 60}]"
    assert main(["morph", f"scene={plate}", sets, *words]) == 0
    out = plate.parent / "morph"
    widths = [read_mesh(out / f"frame_{index:04d}.obj").bounds.extent[0] for index in range(3)]
    np.testing.assert_allclose(widths, [20, 40, 60], rtol=1e-5)
    manifest = json.loads((out / "manifest.json").read_text())
    assert [frame["parameters"] for frame in manifest["frames"]] == [{"width": width} for width in (20, 40, 60)]
    assert {path.name for path in out.iterdir()} >= {"morph.glb", "morph.html", "morph.gif", "contact_sheet.png"}
    assert "width 20" in (out / "morph.html").read_text()
    assert main(["morph", f"scene={plate}", "key_sets=[{width: 20}, {width: 50}]", *words]) == 1  # another morph


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
        (["render", "scene=S", "shapes=a"], "shapes belongs to run=DIR or meshes=DIR; a scene is one shape", 2),
        (["morph", "scene=S"], "key_sets must be given with scene=: key_sets=… lists what the morph passes through", 2),
        (["morph", "scene=S", "shapes=a"], "shapes belongs to run=", 2),
        (["morph", "run=r"], "shapes must be given with run=", 2),
        (["morph", "scene=S", "key_sets=[{width: 30}]"], "key_sets must be two or more sets of values, got 1", 1),
        (["morph", "scene=S", "key_sets=[{width: 30}, {wide: 1}]"], "unknown parameter 'wide'; the scene has width", 1),
        (["morph", "scene=S", "key_sets=[{width: a}]"], "key_sets.width must be a number, got 'a'", 2),
        (["morph", "scene=S", "key_sets=[{}, {}]", "tracked=true"], "tracked has an effect on learned shapes only", 1),
        (["scene"], "scene must be given: scene=…", 2),
    ],
)
def test_wrong_words_are_refused(
    plate: Path, words: list[str], message: str, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([word.replace("=S", f"={plate}") for word in words]) == code
    assert message in capsys.readouterr().err
