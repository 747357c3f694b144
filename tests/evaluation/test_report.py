"""The report of a run of known spheres: numbers, failures that stop nothing, files."""

import csv
import dataclasses
import json
import math
import re
from pathlib import Path

import pytest
import trimesh
from exact_spheres import sphere_run

from sdfnet.evaluation.quality import EvaluationConfig
from sdfnet.evaluation.report import (
    TABLE_WIDTH,
    RunReport,
    evaluate_meshes,
    evaluate_run,
    format_table,
    save_report,
    shape_numbers,
    totals,
)
from sdfnet.geometry.similarity import UNIT_RADIUS, Similarity
from sdfnet.mesh.io.write import save_mesh
from sdfnet.mesh.mesh import Mesh
from sdfnet.runs import ExtractConfig, Run, extract_run
from sdfnet.solids.rule import SolidRule

QUICK = EvaluationConfig(resolution=32, num_points=2000, num_volume_points=10_000)
CENTER, SCALE = (500.0, 0.0, -3.0), UNIT_RADIUS / 20
PLACE = Similarity(CENTER, SCALE)


def write_ball(path: Path, *, open_above: float = 2.0) -> Path:
    """A sphere of radius 20 about CENTER, without the faces above `open_above` (share of the radius)."""
    ball = trimesh.creation.icosphere(4, radius=20)
    faces = ball.faces[ball.triangles_center[:, 2] <= 20 * open_above]
    save_mesh(Mesh(ball.vertices + CENTER, faces), path)
    return path


LONG_NAME = "a bowl, with a very long name"


@pytest.fixture(scope="module")
def mixed_run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A right sphere, one 2 % too large, one without a source, one without a surface, an open one, a broken source."""
    tmp_path = tmp_path_factory.mktemp("sources")
    (tmp_path / "broken.obj").write_text("no mesh")
    sources = {
        "right": write_ball(tmp_path / "right.obj"),
        "wide": write_ball(tmp_path / "wide.obj"),
        "gone": tmp_path / "gone.obj",
        "empty": write_ball(tmp_path / "empty.obj"),
        LONG_NAME: write_ball(tmp_path / "bowl.ply", open_above=0.5),
        "broken": tmp_path / "broken.obj",
    }
    radii = {
        "right": 1.0,
        "wide": 1.02,
        "gone": 1.0,
        "empty": -1.0,
        LONG_NAME: 1.0,
        "broken": 1.0,
    }
    return sphere_run(
        {name: radius * UNIT_RADIUS for name, radius in radii.items()},
        sources=sources,
        similarities=dict.fromkeys(radii, PLACE),
    )


@pytest.fixture(scope="module")
def report(mixed_run: Run) -> RunReport:
    return evaluate_run(mixed_run, config=QUICK)


def test_meshes_that_were_kept_are_not_extracted_again_and_give_the_same_numbers(
    mixed_run: Run, report: RunReport, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = ExtractConfig(resolution=QUICK.resolution)
    done = extract_run(mixed_run, ["right", "wide"], tmp_path, config=config, keep=True)
    monkeypatch.setattr("sdfnet.runs.extract.extract_mesh", lambda *_, **__: pytest.fail("extracted again"))
    again = evaluate_run(mixed_run, shapes=["right", "wide"], config=QUICK, extracted=done.extracted)
    alone = {shape.name: shape.quality for shape in report.shapes}
    assert {shape.name: shape.quality for shape in again.shapes} == {name: alone[name] for name in ("right", "wide")}


def test_a_run_is_measured_shape_by_shape_and_failures_stop_nothing(mixed_run: Run, report: RunReport) -> None:
    assert [shape.name for shape in report.shapes] == list(mixed_run.names)
    by_name = {shape.name: shape for shape in report.shapes}
    right, wide = by_name["right"], by_name["wide"]
    assert right.quality is not None
    assert wide.quality is not None
    assert right.radius_world == pytest.approx(20, rel=1e-3)
    assert right.quality.result.distance.mean < 0.15
    assert right.quality.floor is not None
    assert right.quality.floor.distance.mean < 0.1
    assert right.quality.result.f_score == 100
    assert right.quality.result.iou > 0.99
    assert right.quality.result.topology == right.quality.source_topology
    assert wide.quality.result.distance.mean == pytest.approx(2, abs=0.15)
    assert wide.quality.result.iou == pytest.approx(1.02**-3, abs=0.01)
    assert wide.quality.result.f_score < 5
    assert "gone.obj is not there" in by_name["gone"].error
    assert "empty has no surface yet: train longer (no surface at level 0: field is" in by_name["empty"].error
    assert "broken.obj" in by_name["broken"].error
    assert len(report.failed) == 3


def test_an_open_source_leaves_out_its_cap_and_says_so(report: RunReport) -> None:
    """The learned sphere is whole; the source lacks the quarter of it above half its radius."""
    (shape,) = (shape for shape in report.shapes if shape.name == LONG_NAME)
    assert shape.quality is not None
    assert shape.quality.result.cap_percent == pytest.approx(25, abs=3)
    assert shape.quality.result.distance.mean < 0.2
    assert shape.quality.floor is not None
    # The exact field closes the hole with a flat lid: 3/4 pi of 3 pi + 3/4 pi.
    assert shape.quality.floor.cap_percent == pytest.approx(20, abs=3)
    assert "open source" in shape.notes[0]


def test_numbers_do_not_depend_on_the_other_shapes_nor_on_threads(mixed_run: Run) -> None:
    alone = evaluate_run(mixed_run, shapes=["wide"], config=QUICK).shapes[0].quality
    among = evaluate_run(mixed_run, shapes=["right", "wide"], config=QUICK, num_workers=2).shapes[1].quality
    assert alone == among
    other_seed = dataclasses.replace(QUICK, seed=1)
    assert evaluate_run(mixed_run, shapes=["wide"], config=other_seed).shapes[0].quality != alone


def test_sources_are_found_by_name_in_a_folder_that_has_moved(mixed_run: Run, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    moved.mkdir()
    write_ball(moved / "gone.ply")
    report = evaluate_run(mixed_run, moved, shapes=["gone", "right"], config=QUICK)
    assert report.shapes[0].quality is not None
    assert f"{moved / 'right'} is not there" in report.shapes[1].error
    with pytest.raises(ValueError, match="no such folder"):
        evaluate_run(mixed_run, tmp_path / "nowhere")
    with pytest.raises(ValueError, match="no shape is named 'rigth'"):
        evaluate_run(mixed_run, shapes=["rigth"])


def test_a_source_that_changed_since_training_is_noted(mixed_run: Run) -> None:
    shapes = tuple(dataclasses.replace(shape, content_hash="0" * 64) for shape in mixed_run.shapes)
    changed = dataclasses.replace(mixed_run, shapes=shapes)
    (shape,) = evaluate_run(changed, shapes=["right"], config=QUICK).shapes
    assert shape.notes == ("the source has changed since training",)


def test_a_sheet_is_measured_against_the_wall_that_was_learned(tmp_path: Path) -> None:
    """A square of side 20 as a wall of thickness 4 is a plate with round edges, 24 by 24 by 4."""
    square = trimesh.creation.box((20, 20, 1e-9))
    top = square.faces[square.face_normals[:, 2] > 0.5]
    save_mesh(Mesh(square.vertices, top), tmp_path / "sheet.obj")
    run = sphere_run(
        {"sheet": 0.5}, sources={"sheet": tmp_path / "sheet.obj"}, similarities={"sheet": Similarity([0, 0, 0], 0.05)}
    )
    shapes = tuple(dataclasses.replace(shape, rule=SolidRule("winding", thickness=4.0)) for shape in run.shapes)
    config = dataclasses.replace(QUICK, floor=False)
    (shape,) = evaluate_run(dataclasses.replace(run, shapes=shapes), config=config).shapes
    assert shape.quality is not None, shape.error
    assert shape.radius_world == pytest.approx(math.hypot(12, 12, 2), abs=2)
    assert shape.quality.source_topology.num_components == 1


def test_the_table_fits_its_width_and_names_every_shape(report: RunReport) -> None:
    lines = format_table(report).splitlines()
    table = [line for line in lines if not line.startswith(("not measured", "note"))]
    assert max(map(len, table)) <= TABLE_WIDTH
    assert any(line.startswith("right ") for line in lines)
    assert any(line.startswith("…") and "long name" in line for line in lines)
    assert sum(line.startswith("not measured: ") for line in lines) == 3
    assert any(line.startswith("worst ") for line in lines)
    assert any("3 of 6 shapes measured at resolution 32" in line for line in lines)


def test_totals_take_the_worst_in_the_right_direction(report: RunReport) -> None:
    report = dataclasses.replace(report, shapes=report.shapes[:2])
    right, wide = (shape.quality.result for shape in report.shapes if shape.quality is not None)
    total = totals(report)
    assert total["worst"]["mean_percent"] == wide.distance.mean
    assert total["worst"]["f_score"] == wide.f_score
    assert total["worst"]["iou"] == wide.iou
    assert total["mean"]["mean_percent"] == pytest.approx((right.distance.mean + wide.distance.mean) / 2)
    assert total["mean"]["same_components"] == 1


def test_csv_and_json_hold_every_shape_and_are_whole(mixed_run: Run, report: RunReport, tmp_path: Path) -> None:
    path_txt, path_csv, path_json = save_report(report, tmp_path / "out")
    rows = list(csv.DictReader(path_csv.read_text(encoding="utf-8").splitlines()))
    assert [row["name"] for row in rows] == list(mixed_run.names)
    wide = rows[1]
    assert float(wide["mean_percent"]) == pytest.approx(2, abs=0.15)
    assert float(wide["mean_world"]) == pytest.approx(0.4, abs=0.03)
    assert float(wide["floor_mean_percent"]) < 0.1
    assert rows[2]["mean_percent"] == ""
    assert "gone.obj" in rows[2]["error"]
    document = json.loads(path_json.read_text(encoding="utf-8"))
    assert document["shapes"][1]["quality"]["result"]["distance"]["mean"] == float(wide["mean_percent"])
    assert document["config"]["resolution"] == 32
    assert document["totals"]["worst"]["mean_percent"] == float(wide["mean_percent"])
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "evaluation.csv",
        "evaluation.json",
        "evaluation.txt",
    ]
    assert path_txt.read_text(encoding="utf-8").rstrip() == format_table(report)


def test_a_report_without_any_measured_shape_still_writes(mixed_run: Run, tmp_path: Path) -> None:
    report = evaluate_run(mixed_run, shapes=["broken"], config=QUICK)
    assert "0 of 1 shapes measured" in format_table(report)
    save_report(report, tmp_path / "out")


def test_a_run_without_any_source_is_refused_in_one_line(mixed_run: Run, tmp_path: Path) -> None:
    write_ball(tmp_path / "other.obj")
    for shapes, told in (
        (["gone", "wide"], f"none of the 2 sources is in {tmp_path} (gone, wide); give the folder of the meshes with"),
        (["gone"], f"the source is not in {tmp_path} (gone); give the folder of the meshes with meshes=DIR"),
    ):
        with pytest.raises(ValueError, match=re.escape(told)):
            evaluate_run(mixed_run, tmp_path, shapes=shapes, config=QUICK)
    told = "the source is not where it was when the run was trained (gone); give the folder of the meshes with"
    with pytest.raises(ValueError, match=re.escape(told)):
        evaluate_run(mixed_run, shapes=["gone"], config=QUICK)


@pytest.mark.parametrize(
    "options", [{"resolution": 1}, {"resolution": 5000}, {"num_points": 0}, {"num_volume_points": 3}]
)
def test_options_out_of_range_are_refused(options: dict[str, int]) -> None:
    (name, value) = next(iter(options.items()))
    with pytest.raises(ValueError, match=f"{name} must be (at least|from) .*, got {value}"):
        EvaluationConfig(**options)


def test_two_folders_are_compared_by_name_with_volumes_and_signed_errors(tmp_path: Path) -> None:
    ball = trimesh.creation.icosphere(4, radius=20)
    for folder, scale in (("results", 1.02), ("references", 1.0)):
        (tmp_path / folder / "far").mkdir(parents=True)
        save_mesh(Mesh(ball.vertices * scale + CENTER, ball.faces), tmp_path / folder / "far" / "ball.ply")
    save_mesh(Mesh(ball.vertices, ball.faces), tmp_path / "results" / "lonely.ply")
    folders = tmp_path / "results", tmp_path / "references"
    report = evaluate_meshes(*folders, config=QUICK, errors=tmp_path / "errors")
    found, lonely = report.shapes
    assert (found.name, lonely.name) == ("far/ball", "lonely")
    assert "is not there" in lonely.error
    numbers = shape_numbers(found)
    assert numbers["mean_percent"] == pytest.approx(2.0, abs=0.02)
    assert numbers["mean_world"] == pytest.approx(0.4, abs=0.004)
    assert numbers["volume_world"] / numbers["source_volume_world"] == pytest.approx(1.02**3, rel=1e-5)
    assert numbers["area_world"] / numbers["source_area_world"] == pytest.approx(1.02**2, rel=1e-5)
    written = trimesh.load(tmp_path / "errors" / "far" / "ball.ply", process=False)
    error = written.metadata["_ply_raw"]["vertex"]["data"]["error"]
    assert error == pytest.approx(0.4, abs=0.01)  # positive: the result lies outside
    inward = evaluate_meshes(*folders[::-1], config=QUICK, errors=tmp_path / "inward")
    assert not inward.failed
    written = trimesh.load(tmp_path / "inward" / "far" / "ball.ply", process=False)
    assert written.metadata["_ply_raw"]["vertex"]["data"]["error"] == pytest.approx(-0.4, abs=0.01)
    assert "resolution" not in format_table(report)
    with pytest.raises(ValueError, match=r"no mesh in .*references has the name of a mesh in .*results \(lonely"):
        evaluate_meshes(*folders, shapes="lonely", config=QUICK)


def test_a_run_writes_the_signed_error_of_each_shape(mixed_run: Run, tmp_path: Path) -> None:
    evaluate_run(mixed_run, shapes=["wide"], config=QUICK, errors=tmp_path)
    written = trimesh.load(tmp_path / "wide.ply", process=False)
    assert written.metadata["_ply_raw"]["vertex"]["data"]["error"] == pytest.approx(0.4, abs=0.05)
    assert written.bounds.mean(axis=0) == pytest.approx(CENTER, abs=0.1)
