"""The report of a morph, held against spheres whose every number is known."""

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from exact_spheres import SphereDecoder, sphere_run

from sdfnet.extraction import extract_mesh
from sdfnet.fields import Sphere
from sdfnet.geometry.similarity import Similarity
from sdfnet.mesh.io.write import save_mesh
from sdfnet.mesh.mesh import Mesh, join_meshes
from sdfnet.morphs import report as report_module
from sdfnet.morphs.morph import make_morph
from sdfnet.morphs.plan import MorphConfig
from sdfnet.morphs.report import displacement_between, measure_frame, vertex_areas
from sdfnet.morphs.store import MorphFrame
from sdfnet.rendering.images import load_image

CONFIG = MorphConfig(frames=5, resolution=40, width=64, height=48, format=("obj",), easing="linear", frame="unit")


class SquareDecoder(SphereDecoder):
    """A sphere whose radius is 0.1 and 0.6 of the square of its code."""

    def condition(self, latents_BL: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return (torch.cat([latents_BL[:, :3], 0.1 + 0.6 * latents_BL[:, 3:] ** 2], dim=1),)


def report_of(out: Path) -> dict:
    return json.loads((out / "morph.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def growing(tmp_path_factory: pytest.TempPathFactory) -> dict:
    """The report of a sphere that grows from 0.4 to 0.8, with one of its sources there and 0.02 too large."""
    folder = tmp_path_factory.mktemp("growing")
    save_mesh(extract_mesh(Sphere(0.42), resolution=64), folder / "small.ply")
    sources = {"small": folder / "small.ply", "large": folder / "gone.ply"}
    run = sphere_run({"small": 0.4, "large": 0.8}, sources=sources)
    result = make_morph(run, "all", folder / "out", config=CONFIG)
    assert result.report == folder / "out" / "morph.json"
    return report_of(folder / "out")


def test_volume_area_and_topology_are_those_of_spheres(growing: dict) -> None:
    radii = np.linspace(0.4, 0.8, 5)
    rows = growing["frames"]
    assert [row["volume"] for row in rows] == pytest.approx(4 / 3 * math.pi * radii**3, rel=0.02)
    assert [row["area"] for row in rows] == pytest.approx(4 * math.pi * radii**2, rel=0.01)
    assert [row["radius"] for row in rows] == pytest.approx(radii, rel=0.01)
    assert {(row["components"], row["genus"], row["self_intersections"]) for row in rows} == {(1, 0, 0)}
    assert growing["summary"]["components"] == [1, 1]
    assert growing["summary"]["genus"] == [0]


def test_travel_is_the_growth_of_the_radius_in_percent(growing: dict) -> None:
    rows, radius = growing["frames"], growing["radius"]
    assert radius == pytest.approx(0.6, rel=0.01)
    assert rows[0]["travel_mean"] is None
    assert [row["travel_mean"] for row in rows[1:]] == pytest.approx([100 * 0.1 / 0.6] * 4, rel=0.01)
    assert [row["travel_max"] for row in rows[1:]] == pytest.approx([100 * 0.1 / 0.6] * 4, rel=0.03)
    pace = growing["summary"]["pace"]
    assert pace["ratio"] == pytest.approx(
        max(r["travel_mean"] for r in rows[1:]) / min(r["travel_mean"] for r in rows[1:])
    )
    assert 1 <= pace["ratio"] < 1.02


def test_a_slow_start_shows_in_the_pace(tmp_path: Path) -> None:
    """From 0 to 1 with u², steps are 1, 3, 5 and 7 sixteenths."""
    run = sphere_run({"small": 0.4, "large": 0.8})
    result = make_morph(run, "all", tmp_path / "out", config=dataclasses.replace(CONFIG, easing="ease-in"))
    assert report_of(result.out)["summary"]["pace"]["ratio"] == pytest.approx(7, rel=0.05)


@pytest.mark.parametrize(("easing", "ratio"), [(None, 1.0), ("ease-in", 7.0)])
def test_the_planned_pace_is_that_of_the_radius(tmp_path: Path, easing: str | None, ratio: float) -> None:
    """Evenly, or from 0 to 1 with u², of the travel, though the radius goes with the square of the code."""
    run = dataclasses.replace(sphere_run({"small": 0.0, "large": 1.0}), decoder=SquareDecoder())
    config = dataclasses.replace(CONFIG, pace="surface", easing=easing)
    report = report_of(make_morph(run, "all", tmp_path / "out", config=config).out)
    codes = [frame["latent"][3] for frame in json.loads((tmp_path / "out/manifest.json").read_text())["frames"]]
    expected = 100 * np.diff(0.6 * np.square(codes)) / report["radius"]
    planned = [row["planned_travel"] for row in report["frames"]]
    assert planned[0] is None
    assert planned[1:] == pytest.approx(expected.tolist(), rel=0.01)
    assert report["summary"]["planned_pace"] == {
        "smallest": min(planned[1:]),
        "largest": max(planned[1:]),
        "ratio": pytest.approx(ratio, rel=0.05),
    }


def test_no_pace_is_told_where_none_was_planned(growing: dict) -> None:
    assert growing["summary"]["planned_pace"] is None
    assert {row["planned_travel"] for row in growing["frames"]} == {None}


def test_ends_are_measured_where_the_source_is_and_said_absent_where_it_is_not(growing: dict) -> None:
    first, last = growing["ends"]
    assert (first["frame"], first["shape"], last["frame"], last["shape"]) == (0, "small", 4, "large")
    assert first["distance"]["mean"] == pytest.approx(100 * 0.02 / 0.42, rel=0.08)  # marching cubes cut 0.0015 off
    assert first["distance"]["p95"] >= first["distance"]["mean"]
    assert last["distance"] is None
    assert last["absent"] == "the source is not there any more"


def test_a_source_that_cannot_be_read_does_not_stop_the_morph(tmp_path: Path) -> None:
    (tmp_path / "bad.obj").write_text("nothing")
    run = sphere_run({"a": 0.4, "b": 0.5}, sources={"a": tmp_path / "bad.obj", "b": tmp_path / "bad.obj"})
    ends = report_of(make_morph(run, "all", tmp_path / "out", config=CONFIG).out)["ends"]
    assert all(end["absent"].startswith("the source cannot be measured against: ") for end in ends)


def test_a_loop_counts_the_step_from_its_last_frame_to_its_first(tmp_path: Path) -> None:
    run = sphere_run({"small": 0.4, "large": 0.8})
    config = dataclasses.replace(CONFIG, frames=4, playback="loop")
    summary = report_of(make_morph(run, "all", tmp_path / "out", config=config).out)["summary"]
    assert summary["travel_closing"] == pytest.approx([100 * 0.2 / 0.5] * 2, rel=0.02)
    assert summary["pace"]["ratio"] == pytest.approx(1, abs=0.02)


def test_the_report_appears_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A morph that dies while it writes the report is not complete, and the next call writes it."""
    run = sphere_run({"small": 0.4, "large": 0.8})

    def dying(path, document):
        raise KeyboardInterrupt

    write_json = report_module.write_json
    monkeypatch.setattr(report_module, "write_json", dying)
    with pytest.raises(KeyboardInterrupt):
        make_morph(run, "all", tmp_path / "out", config=CONFIG)
    left = {path.name for path in (tmp_path / "out").iterdir()}
    assert not {name for name in left if "morph.json" in name or "partial" in name}
    assert json.loads((tmp_path / "out" / "manifest.json").read_text(encoding="utf-8"))["complete"] is False
    monkeypatch.setattr(report_module, "write_json", write_json)
    again = make_morph(run, "all", tmp_path / "out", config=CONFIG)
    assert again.num_skipped == 5
    assert len(report_of(again.out)["frames"]) == 5


def test_the_plot_is_a_picture_of_curves(tmp_path: Path) -> None:
    run = sphere_run({"small": 0.4, "large": 0.8})
    result = make_morph(run, "all", tmp_path / "out", config=CONFIG)
    picture = load_image(result.plot)
    assert picture.shape[0] > 800
    assert (picture < 250).any(axis=2).mean() > 0.01
    result.plot.unlink()
    make_morph(run, "all", tmp_path / "out", config=CONFIG)
    assert (load_image(result.plot) == picture).all()


def test_travel_between_shifted_spheres_is_that_along_the_normal() -> None:
    """A sphere shifted by s is s |cos| off in the mean, that is s / 2, for small s; at most s."""
    ball = extract_mesh(Sphere(1.0), resolution=96)
    moved = Mesh(ball.vertices + np.array([0.02, 0, 0]), ball.faces)
    mean, largest = displacement_between(ball, moved)
    assert mean == pytest.approx(0.01, rel=0.02)
    assert largest == pytest.approx(0.02, rel=0.02)
    assert displacement_between(ball, ball) == (pytest.approx(0, abs=1e-12), pytest.approx(0, abs=1e-12))
    assert vertex_areas(ball).sum() == pytest.approx(ball.face_areas.sum())


def test_what_runs_through_itself_is_counted() -> None:
    ball = extract_mesh(Sphere(1.0), resolution=24)
    through = join_meshes([ball, Mesh(ball.vertices + np.array([0.51, 0.013, 0.007]), ball.faces)])
    frame = MorphFrame(0, 0.0, torch.zeros(4), Similarity.identity())
    measures = measure_frame(frame, through, None)
    assert measures["components"] == 2
    assert measures["self_intersections"] > 10
