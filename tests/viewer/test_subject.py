"""What a viewer shows, without a browser: shapes, sliders, command lines and cuts."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_runs import as_completed, four_balls

from sdfnet.cli.commands.view import ViewCommand
from sdfnet.cli.main import main
from sdfnet.extraction import extract_mesh
from sdfnet.fields import Box, Sphere
from sdfnet.geometry.bounds import Bounds
from sdfnet.mesh.io.read import read_mesh
from sdfnet.mesh.io.write import save_mesh
from sdfnet.mesh.mesh import vertex_normals
from sdfnet.mesh.sequence import MovingMesh
from sdfnet.rendering.web_page import PlayerConfig, save_player
from sdfnet.runs import Run
from sdfnet.scenes import load_scene
from sdfnet.viewer import State, ViewConfig, open_subject, view
from sdfnet.viewer.section import distance_lines, faces_below
from sdfnet.viewer.subject import error_colors, spread_colors

PLATE = "parameters: {width: {value: 4, range: [2, 8]}, depth: 1}\nshape: {box: [width / 2, 1, depth], color: red}\n"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return four_balls(tmp_path_factory.mktemp("viewer"))


def radius(state: State, run: Run) -> float:
    return float(open_subject(run).show(state, 24).mesh.bounds.extent.max() / 2)


def test_a_run_has_sliders_that_stand_where_the_shape_has_them(run: Run) -> None:
    subject = open_subject(run)
    assert subject.controls[0].key == "pc1"
    own = subject.values_of(State("small"))
    assert radius(State("small", values=own), run) == pytest.approx(radius(State("small"), run), abs=0.02)
    large = subject.values_of(State("large"))
    assert radius(State("small", values=large), run) == pytest.approx(radius(State("large"), run), abs=0.03)
    between = radius(State("small", "large", 0.5), run)
    assert radius(State("small"), run) < between < radius(State("large"), run)


def test_an_export_is_in_the_units_of_the_source_and_the_command_makes_the_same(run: Run, tmp_path: Path) -> None:
    subject = open_subject(run)
    state = State("small", "large", 0.25)
    exported = subject.export(state, 24).mesh
    np.testing.assert_allclose(exported.bounds.center, [4, 5, 6], atol=0.2)
    words = shlex.split(subject.command(state))
    assert words[:2] == ["sdfnet", "extract"]
    assert main([*words[1:], "resolution=24", f"out={tmp_path}"]) == 0
    (path,) = tmp_path.glob("*.obj")
    np.testing.assert_allclose(read_mesh(path).bounds.upper, exported.bounds.upper, atol=1e-5)


def test_the_command_of_moved_sliders_runs_after_space(run: Run, tmp_path: Path) -> None:
    subject = open_subject(run)
    state = State("small", values={"pc1": 0.5})
    first, _, second = subject.command(state).partition(" && ")
    assert shlex.split(first) == ["sdfnet", "space", f"run={run.directory}"]
    assert main([*shlex.split(first)[1:], "num_tests=0", f"out={tmp_path / 'space'}", "num_modes=1"]) == 0
    assert main([*shlex.split(second)[1:], "resolution=24", f"out={tmp_path / 'm'}"]) == 0
    (path,) = (tmp_path / "m").glob("*.obj")
    expected = subject.export(state, 24).mesh.bounds.upper
    np.testing.assert_allclose(read_mesh(path).bounds.upper, expected, atol=1e-3)


def test_a_scene_has_a_slider_for_each_parameter(tmp_path: Path) -> None:
    (tmp_path / "plate.yaml").write_text(PLATE)
    subject = open_subject(load_scene(tmp_path / "plate.yaml"))
    assert [(control.key, control.low, control.high) for control in subject.controls] == [
        ("width", 2.0, 8.0),
        ("depth", 0.5, 2.0),
    ]
    shown = subject.show(State("plate", values={"width": 6.0}), 16)
    assert shown.mesh.bounds.extent[0] == pytest.approx(6, abs=1e-5)
    assert shown.colors is not None
    command = subject.command(State("plate", values={"width": 6.0}))
    assert command == f"sdfnet extract scene={tmp_path / 'plate.yaml'} 'set=[width=6]' sharp=true"


def test_the_sliders_of_a_scene_start_at_the_values_that_are_set(tmp_path: Path) -> None:
    (tmp_path / "plate.yaml").write_text(PLATE)
    subject = ViewCommand(scene=tmp_path / "plate.yaml", set=("width=6", "depth=5")).subject()
    assert [(control.low, control.high) for control in subject.controls] == [(2.0, 8.0), (0.5, 5.0)]
    viewer = view(subject, config=ViewConfig(coarse=16, fine=16, port=8420))
    try:
        assert viewer.is_settled.wait(30)
        assert {key: slider.value for key, slider in viewer._sliders.items()} == {"width": 6.0, "depth": 5.0}
        assert viewer.shown is not None
        np.testing.assert_allclose(viewer.shown[1].mesh.bounds.extent, [6, 2, 10], atol=1e-5)
    finally:
        viewer.close()
    moved = State("plate", values={"width": 3.0})
    np.testing.assert_allclose(subject.export(moved, 16).mesh.bounds.extent, [3, 2, 10], atol=1e-5)
    assert "'set=[width=3,depth=5]'" in subject.command(moved)


def test_the_page_of_a_scene_starts_at_the_values_that_are_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "plate.yaml").write_text(PLATE)
    saved: list[tuple[list[MovingMesh], PlayerConfig]] = []

    def save(pieces: Iterable[MovingMesh], path: Path, *, config: PlayerConfig, **options: Any) -> None:
        saved.append((list(pieces), config))
        save_player(saved[-1][0], path, config=config, **options)

    monkeypatch.setattr("sdfnet.viewer.page.save_player", save)
    words = ["view", f"scene={tmp_path / 'plate.yaml'}", f"page={tmp_path / 'plate.html'}", "coarse=16", "steps=3"]
    assert main([*words, "set=[width=6,depth=1.5]"]) == 0
    ((pieces, config),) = saved
    for slider, own in zip(config.sliders, (6.0, 1.5), strict=True):
        assert slider.marks[slider.at] == own
        vertices = pieces[slider.start + slider.at].vertices[0]
        np.testing.assert_allclose(np.ptp(vertices, axis=0), [6, 2, 3], atol=1e-3)
    assert main([*words, "set=[width=9]"]) == 1
    assert "width must be from 2 to 8, got 9" in capsys.readouterr().err


def test_values_of_anything_but_a_scene_are_refused(run: Run) -> None:
    with pytest.raises(ValueError, match="values belong to a scene"):
        open_subject(run, values={"width": 1.0})


def test_meshes_are_shown_as_they_are_and_an_empty_folder_is_refused(run: Run, tmp_path: Path) -> None:
    subject = open_subject(run.directory.parent)
    assert {"small", "middle", "large"} <= set(subject.names)
    with pytest.raises(ValueError, match="no meshes"):
        open_subject(tmp_path)


def test_edges_of_meshes_are_shown_sharp_by_programs_that_average_normals_and_exports_stay(tmp_path: Path) -> None:
    save_mesh(extract_mesh(Box([1, 1, 1]), resolution=8, sharp=True, vertex_normals=False), tmp_path / "box.stl")
    subject = open_subject(tmp_path)
    shown = subject.show(State("box"), 64).mesh
    averaged = vertex_normals(shown.vertices, shown.faces)
    np.testing.assert_allclose(averaged[shown.faces], np.repeat(shown.face_normals[:, None], 3, axis=1), atol=1e-6)
    exported = subject.export(State("box"), 64).mesh
    np.testing.assert_array_equal(exported.triangles, read_mesh(tmp_path / "box.stl").triangles)


def test_a_cut_keeps_one_side_and_its_lines_are_at_their_distances() -> None:
    ball = extract_mesh(Sphere(1.0), resolution=24)
    kept = faces_below(ball, 2, 0.0)
    assert ball.vertices[kept][..., 2].max() <= 0
    segments, _ = distance_lines(Sphere(1.0), Bounds.cube(1.5), 1, 0.0)
    assert (segments[..., 1] == 0).all()
    sdf = np.linalg.norm(segments, axis=-1) - 1
    steps = sdf / (3.0 / 28)
    assert np.abs(steps - np.rint(steps)).max() < 0.1
    empty, _ = distance_lines(Sphere(0.1, center=[90, 0, 0]), Bounds.cube(1.0), 1, 0.0)
    assert empty.shape == (0, 2, 3)


def test_error_colors_are_warm_outside_and_cold_inside() -> None:
    source = extract_mesh(Sphere(1.0), resolution=24)
    outside, _ = error_colors(extract_mesh(Sphere(1.1), resolution=16), source)
    inside, _ = error_colors(extract_mesh(Sphere(0.9), resolution=16), source)
    assert (outside[:, 0] > outside[:, 2]).all()
    assert (inside[:, 0] < inside[:, 2]).all()


def test_wrong_options_of_a_viewer_are_refused() -> None:
    with pytest.raises(ValueError, match="coarse must be from 8 to fine=16, got 32"):
        ViewConfig(coarse=32, fine=16)
    with pytest.raises(ValueError, match="up_axis must be x, y or z, got 'w'"):
        ViewConfig(up_axis="w")  # type: ignore[arg-type]


def test_an_unknown_shape_is_refused(run: Run) -> None:
    with pytest.raises(ValueError, match="no shape is named 'huge'; there are small, middle, large, odd"):
        view(run, shape="huge")


def test_a_busy_port_becomes_the_next_one_and_the_address_is_the_true_one(run: Run, caplog) -> None:
    config = ViewConfig(coarse=16, fine=16, port=8391)
    first, second = view(run, config=config), view(run, config=config)
    assert first.url != second.url
    assert first.url.startswith("http://127.0.0.1:")
    assert first.is_settled.wait(30)
    assert len(first.exported("glb")) > 1000
    assert f'src="{first.url}"' in first._repr_html_()
    for viewer in (first, second):
        viewer.close()
    view(run, config=ViewConfig(coarse=16, fine=16, host="0.0.0.0")).close()
    assert "host=0.0.0.0 lets others on the network look at and change what is shown" in caplog.text


@pytest.fixture
def completed(run: Run, tmp_path: Path) -> Run:
    return as_completed(run, tmp_path / "fitted")


def test_hypotheses_of_a_fit_are_shown_where_the_fit_lies(completed: Run, run: Run) -> None:
    subject = open_subject(completed)
    assert subject.hypotheses("small") == (0.7, 0.3)
    assert subject.hypotheses("large") == open_subject(run).hypotheses("small") == ()
    first = State("small", hypothesis=1)
    shown = subject.show(first, 24).mesh.bounds
    assert shown.extent.max() / 2 == pytest.approx(0.6, abs=0.02)
    np.testing.assert_allclose(shown.center, 0.0, atol=0.02)
    np.testing.assert_allclose(subject.export(first, 24).mesh.bounds.center, [4, 5, 6], atol=0.1)
    assert "hypotheses/small_1.ply" in subject.command(first)


def test_the_spread_of_a_fit_is_that_of_the_nearest_vertex_and_only_of_the_shape_as_found(
    completed: Run, run: Run
) -> None:
    subject = open_subject(completed)
    assert subject.spread is not None
    points = subject.show(State("small"), 24).mesh.vertices
    found = subject.spread(State("small"), points)
    assert found is not None
    np.testing.assert_allclose(found, points[:, 0] / 0.25 + 4, atol=0.5)
    for state in (State("large"), State("small", "large", 0.5), State("small", hypothesis=1)):
        assert subject.spread(state, points) is None
    assert open_subject(run).spread is None
    colors, limit = spread_colors(found)
    assert colors[found.argmax()].tolist() == colors[found >= limit][0].tolist()
