import json
from collections import Counter

import numpy as np
import pytest

from sdfnet.mesh.io.read import find_meshes
from sdfnet.mesh.io.write import save_mesh
from sdfnet.mesh.mesh import Mesh
from sdfnet.solids import source_shape as checking
from sdfnet.solids.rule import SolidRule
from sdfnet.solids.source_shape import MeshReport, check_folder, format_reports, inspect_mesh


def _box(lower, upper):
    import trimesh

    box = trimesh.creation.box(bounds=[lower, upper])
    return Mesh(box.vertices, box.faces)


def _joined(*meshes):
    offsets = np.cumsum([0] + [len(mesh.vertices) for mesh in meshes])
    faces = np.concatenate([mesh.faces + offset for mesh, offset in zip(meshes, offsets, strict=False)])
    return Mesh(np.concatenate([mesh.vertices for mesh in meshes]), faces)


BOX = _box([0, 0, 0], [1, 2, 4])
DAMAGE = {
    "none": (BOX, None),
    "open": (Mesh(BOX.vertices, BOX.faces[1:]), "open: 3 border edges around 1 holes"),
    "flipped": (Mesh(BOX.vertices, BOX.faces[:, ::-1]), "all 12 faces turned"),
    "inconsistent": (Mesh(BOX.vertices, [BOX.faces[0][::-1], *BOX.faces[1:]]), "1 of 12 faces turned"),
    "duplicate": (Mesh(BOX.vertices, [*BOX.faces, BOX.faces[0]]), "1 duplicate faces dropped"),
    "degenerate": (Mesh(BOX.vertices, [*BOX.faces, [0, 0, 1]]), "1 degenerate faces dropped"),
    "components": (_joined(BOX, _box([5, 0, 0], [6, 1, 1])), "2 connected components"),
    "overlap": (_joined(BOX, _box([0.5, 0.5, 0.5], [3, 1, 1])), "2 overlapping or touching parts united into 1"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_report_notes_each_damage(tmp_path, kind):
    mesh, note = DAMAGE[kind]
    save_mesh(mesh, tmp_path / "a.ply")
    report = inspect_mesh(tmp_path / "a.ply", name="some/name")[0]
    assert (report.name, report.reason, report.num_faces) == ("some/name", None, len(mesh.faces))
    assert report.status == ("used" if note is None else "noted")
    assert (note or "") in "; ".join(report.notes)
    assert report.closed == (kind != "open")
    assert report.num_components == (2 if kind == "components" else 1)
    assert report.genus == 0
    assert report.extent == tuple(mesh.bounds.extent)
    assert (report.hole_share > 0) == (kind == "open")
    assert json.loads(json.dumps(report.to_dict(), allow_nan=False)) == report.to_dict()
    assert MeshReport.from_dict(json.loads(json.dumps(report.to_dict()))) == report


def test_with_winding_a_report_refuses_sheets_unless_a_thickness_is_given(tmp_path, monkeypatch):
    monkeypatch.setattr("sdfnet.solids.walls.SPACING", 0.06)
    save_mesh(Mesh([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]], [[0, 1, 2], [0, 2, 3]]), tmp_path / "sheet.obj")
    report = inspect_mesh(tmp_path / "sheet.obj", rule=SolidRule("winding"))[0]
    assert report.status == "refused"
    assert "the mesh is a sheet" in report.reason
    assert (report.num_faces, report.extent) == (2, (1, 1, 0))
    report = inspect_mesh(tmp_path / "sheet.obj", rule=SolidRule("winding", thickness=0.1))[0]
    assert (report.status, report.solid, report.wall_thickness) == ("noted", "winding", pytest.approx(0.1))


def test_a_report_reports_what_cannot_be_read(tmp_path):
    (tmp_path / "bad.obj").write_text("v 0 0 0\n")
    for name, reason in (("bad.obj", "no faces, only 1 vertices"), ("gone.obj", "there is no such file")):
        report = inspect_mesh(tmp_path / name)[0]
        assert (report.name, report.status, report.num_faces, report.extent) == (name[:-4], "refused", 0, None)
        assert report.reason.startswith(reason)
        assert MeshReport.from_dict(json.loads(json.dumps(report.to_dict()))) == report


def test_a_report_reports_what_a_library_fails_on(tmp_path, monkeypatch):
    def fail(mesh, *, rule):
        raise RuntimeError("deep in a library\nwith two lines")

    monkeypatch.setattr(checking, "make_solid", fail)
    save_mesh(BOX, tmp_path / "a.obj")
    report = inspect_mesh(tmp_path / "a.obj")[0]
    assert report.reason.startswith("it could not be repaired (RuntimeError: deep in a library with two lines)")


def test_the_report_has_the_unit_and_the_up_axis_that_a_format_fixes(tmp_path):
    for name in ("a.glb", "b.ply"):
        save_mesh(BOX, tmp_path / name)
    reports = check_folder(tmp_path)
    assert [(report.status, report.unit, report.up_axis) for report in reports] == [
        ("used", "m", "y"),
        ("used", None, None),
    ]
    extents = [" ".join(f"{length:.4g}" for length in report.extent) for report in reports]
    lines = format_reports(reports).splitlines()
    assert f"  {extents[0]} m, y up" in lines[1]
    assert lines[2].endswith(f"  {extents[1]}")
    older = {key: value for key, value in reports[1].to_dict().items() if key not in ("unit", "up_axis")}
    assert MeshReport.from_dict(older) == reports[1]  # as sample stores of earlier versions hold it


def test_format_reports_fits_the_page_and_counts():
    reports = [
        MeshReport("a", "a.obj", "used", num_faces=12345, extent=(1.0, 0.001234567, 1e6), num_components=1),
        MeshReport(
            "b" * 60,
            "b.obj",
            "noted",
            notes=(("many words " * 30).strip(), "more"),
            num_faces=1,
            extent=(1.0, 1.0, 1.0),
        ),
        MeshReport("c\nd\udc80", "c.obj", "refused", reason="because"),
    ]
    lines = format_reports(reports).splitlines()
    assert max(map(len, lines)) <= 120
    assert "12,345  1 0.001235 1e+06" in lines[1]
    assert lines[2] == "noted    " + "b" * 60
    assert any(line.endswith("words; more") or line.strip() == "more" for line in lines)
    assert lines[-2].startswith("refused  c\\nd\\udc80")
    assert lines[-2].endswith("because")
    assert lines[-1] == "3 meshes: 1 used, 1 used with notes, 1 refused"
    assert format_reports([]).splitlines()[-1] == "0 meshes: 0 used, 0 used with notes, 0 refused"


@pytest.mark.slow
def test_a_report_reports_every_file_of_bad_inputs(data_folder, monkeypatch):
    # What becomes of each file counts here, not how fine a new surface is.
    monkeypatch.setattr("sdfnet.solids.walls.SPACING", 0.04)
    monkeypatch.setattr("sdfnet.solids.walls.WALL_THICKNESS", 0.08)
    reports = [inspect_mesh(path, name=name)[0] for name, path in find_meshes(data_folder / "bad_inputs").items()]
    table = format_reports(reports)
    assert max(map(len, table.splitlines())) <= 120
    assert all(report.name in table for report in reports)
    assert all("\n" not in (report.reason or "") for report in reports)
    counts = Counter(report.status for report in reports)
    assert counts["used"] + counts["noted"] >= 54, table
    by_name = {report.name: report.status for report in reports}
    good = ("box_UTF16BE", "cube_usemtl", "cube_binary_starts_with_nl", "cube_uv", "mtl_different_folder")
    assert {by_name[f"assimp/{name}"] for name in good} == {"used"}
    good = ("negative_indices", "wallhole", "whitespace", "jacked", "origin_inside", "groups", "ballA", "nancolor")
    assert {by_name[f"trimesh/{name}"] for name in good} == {"used"}


@pytest.mark.slow
def test_a_report_uses_every_single(data_folder):
    statuses = {name: inspect_mesh(path)[0].status for name, path in find_meshes(data_folder / "singles").items()}
    assert {name for name, status in statuses.items() if status != "used"} == {"bunny_original_open"}
    assert statuses["bunny_original_open"] == "noted"
