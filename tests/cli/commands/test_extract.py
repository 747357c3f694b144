"""What `sdfnet extract` leaves out, what it makes of the rest, and how it says so."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import sdfnet.runs.extract
from sdfnet.cli.main import main
from sdfnet.extraction import extract_mesh
from sdfnet.fields import Sphere
from sdfnet.mesh.io.read import read_mesh
from sdfnet.mesh.mesh import Mesh, join_meshes
from sdfnet.mesh.topology import check_closed

RESULT = extract_mesh


@pytest.fixture
def specked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every extracted shape have a speck beside it, of (1/30)³ of its volume."""
    monkeypatch.setattr(sdfnet.runs.extract, "extract_mesh", with_speck(1 / 30))


def with_speck(radius: float):
    def extract(field, **options):
        mesh = RESULT(field, **options)
        speck = RESULT(Sphere(1.0), resolution=8)
        size = np.cbrt(mesh.signed_volume / speck.signed_volume) * radius
        place = mesh.bounds.upper + 5 * size
        return Mesh(*_arrays(join_meshes([mesh, Mesh(size * speck.vertices + place, speck.faces)])))

    return extract


def _arrays(mesh: Mesh):
    return mesh.vertices, mesh.faces


def extract(run: Path, out: Path, *words: str) -> dict:
    assert main(["extract", f"run={run}", f"out={out}", "resolution=20", *words]) == 0
    return json.loads((out / "extract.json").read_text(encoding="utf-8"))["shapes"]


@pytest.mark.usefixtures("specked")
def test_specks_are_left_out_and_told(tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = extract(tiny_run, tmp_path / "out", "shapes=[plain,round/*]")
    lines = capsys.readouterr().out.splitlines()
    assert "2 shapes at resolution 20 as obj; 2 loose pieces left out of 2 shapes, the largest 0.0037 % of" in lines[-2]
    assert set(told) == {"plain", "round/ball two"}
    (removed,) = told["plain"]["removed"]
    assert removed["share"] == pytest.approx(30**-3, rel=1e-3)
    assert (told["plain"]["pieces"], removed["is_cavity"]) == (1, False)
    mesh = read_mesh(tmp_path / "out" / "plain.obj")
    assert len(mesh.faces) == told["plain"]["faces"]
    assert (np.array(removed["center"]) > mesh.bounds.upper).all()


@pytest.mark.usefixtures("specked")
def test_min_piece_0_keeps_all_and_the_summary_of_other_shapes_stays(
    tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    extract(tiny_run, tmp_path / "out", "shapes=round/*")
    told = extract(tiny_run, tmp_path / "out", "shapes=plain", "min_piece=0")
    assert "loose" not in capsys.readouterr().out.splitlines()[-2]
    assert (told["plain"]["pieces"], told["plain"]["removed"]) == (2, [])
    assert len(told["round/ball two"]["removed"]) == 1


@pytest.mark.parametrize(("num_surfaces", "pieces"), [(1, 1), (2, 2), (None, 2)])
def test_what_the_source_has_not_is_left_out_by_every_command(
    tiny_run: Path, balls: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, num_surfaces: int | None, pieces: int
) -> None:
    monkeypatch.setattr(sdfnet.runs.extract, "extract_mesh", with_speck(1 / 12))  # of 5.8e-4 of the volume
    run = tmp_path / "run"
    shutil.copytree(tiny_run, run)
    document = json.loads((run / "run.json").read_text(encoding="utf-8"))
    for shape in document["shapes"]:
        shape["num_surfaces"] = num_surfaces
    (run / "run.json").write_text(json.dumps(document), encoding="utf-8")

    told = extract(run, tmp_path / "out", "shapes=plain")["plain"]
    assert (told["pieces"], len(told["removed"])) == (pieces, 2 - pieces)
    words = ["shapes=[plain,round/*]", "frames=3", "resolution=20"]
    assert main(["morph", f"run={run}", f"out={tmp_path / 'morph'}", *words]) == 0
    first = next((tmp_path / "morph").glob("*0000.obj"))
    assert first.read_bytes() == (tmp_path / "out" / "plain.obj").read_bytes()
    quick = ["resolution=20", "num_points=1000", "num_volume_points=1000", "num_workers=1", "floor=false"]
    report = tmp_path / "report"
    assert main(["evaluate", f"run={run}", f"meshes={balls}", f"out={report}", "shapes=plain", *quick]) == 0
    assert f'"num_components": {pieces}' in next(report.glob("*.json")).read_text(encoding="utf-8")


def test_a_bound_that_cannot_be_is_refused(tiny_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["extract", f"run={tiny_run}", "min_piece=0.5"]) != 0
    assert "min_piece must be a share of the volume from 0 (keep all) to 0.05, got 0.5" in capsys.readouterr().err


def test_shapes_of_an_earlier_call_with_other_settings_are_named(
    tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["extract", f"run={tiny_run}", f"out={tmp_path}"]
    assert main([*words, "resolution=16"]) == 0
    assert main([*words, "resolution=16", "shapes=plain"]) == 0
    assert "earlier call" not in capsys.readouterr().out
    assert main([*words, "resolution=20", "shapes=plain"]) == 0
    text = capsys.readouterr().out
    assert "beside them stand 2 shapes of an earlier call: of a=b [1], resolution is 16 there and 20 now" in text


def test_max_faces_is_kept_to_and_what_it_cost_is_said(
    tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [f"run={tiny_run}", f"out={tmp_path}", "resolution=24", "sharp=true", "project_steps=1", "max_faces=200"]
    assert main(["extract", *words]) == 0
    assert "simplified to at most 200 faces" in capsys.readouterr().out
    summaries = json.loads((tmp_path / "extract.json").read_text())["shapes"]
    for name, summary in summaries.items():
        mesh = read_mesh(tmp_path / f"{name}.obj")
        assert len(mesh.faces) == summary["faces"] == 200
        assert check_closed(mesh).is_clean
        assert summary["simplified"]["faces_before"] > 200
        assert 0 < summary["simplified"]["distance"] < 0.1 * np.linalg.norm(mesh.bounds.extent)


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("max_faces=3", "max_faces must be at least 4 (a tetrahedron), got 3"),
        ("max_faces=many", "max_faces must be a whole number or null, got"),
        ("sharp=perhaps", "sharp must be true or false, got"),
        ("project_steps=-1", "project_steps must be 0 or more, got -1"),
    ],
)
def test_nonsense_is_refused(word: str, message: str, tiny_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["extract", f"run={tiny_run}", word]) != 0
    assert message in capsys.readouterr().err
