"""Labels, colours and landmarks carried between shapes whose correspondence is known, and the files they come from."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import trimesh
from moved_ball import Family, moved_balls

from sdfnet.correspondence import Colors, Labels, Landmarks, load_colors, load_labels, load_landmarks, transfer
from sdfnet.mesh.io.ply import read_ply_vertices
from sdfnet.mesh.io.write import save_mesh
from sdfnet.mesh.mesh import Mesh
from sdfnet.runs import extract_shape


@pytest.fixture
def family(tmp_path: Path) -> Family:
    return moved_balls(tmp_path)


def rows_of(path: Path) -> list[dict[str, str]]:
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_landmarks_arrive_where_they_belong(family: Family) -> None:
    points = family.surface("ball", 5)
    marks = Landmarks(tuple("abcde"), points)
    done = transfer(family.run, "ball", marks, ["bent", "0.5*ball + 0.5*long"], family.run.directory / "marks")
    assert (list(done.confidence), done.failures) == (["bent", "0.5ball+0.5long"], {})
    rows = rows_of(done.out / "bent.csv")
    assert [row["name"] for row in rows] == list("abcde")
    found = np.array([[float(row[axis]) for axis in "xyz"] for row in rows])
    np.testing.assert_allclose(found, family.truth("ball", "bent", points), atol=5e-4)
    shown = read_ply_vertices((done.out / "bent.ply").read_bytes())
    np.testing.assert_allclose(shown["x"], found[:, 0], atol=1e-6)


def test_landmarks_off_the_surface_are_named(family: Family, caplog: pytest.LogCaptureFixture) -> None:
    points = family.surface("ball", 3)
    transfer(family.run, "ball", Landmarks(("a", "b", "c"), points), "bent", family.run.directory / "marks")
    assert caplog.text == ""
    points[1] = family.run.similarity("ball").center
    points[2] *= 1000
    transfer(family.run, "ball", Landmarks(("a", "b", "c"), points), "bent", family.run.directory / "marks")
    assert "landmarks off the surface of ball: b, c. Are they in its units and at its place?" in caplog.text


def test_labels_and_colours_are_those_of_the_source(family: Family) -> None:
    mesh = extract_shape(family.run, "ball", resolution=32).mesh
    upper = mesh.vertices[:, 2] > 0
    labels = Labels(mesh, ("lower", "upper"), upper.astype(np.int64), of_faces=False)
    colors = Colors(mesh, np.where(upper[:, None], [255, 0, 0], [0, 0, 255]).astype(np.uint8))
    out = family.run.directory
    transfer(family.run, "ball", labels, "bent", out / "labels", resolution=24)
    transfer(family.run, "ball", colors, "bent", out / "colors", resolution=24)
    rows = rows_of(out / "labels" / "bent.csv")
    clear = [row for row in rows if abs(float(row["z"]) - family.run.similarity("bent").center[2]) > 0.02]
    assert len(clear) > 0.9 * len(rows)
    assert all((row["label"] == "upper") == (float(row["z"]) > 0) for row in clear)
    shown = read_ply_vertices((out / "colors" / "bent.ply").read_bytes())
    sure = np.abs(shown["z"]) > 0.02
    np.testing.assert_array_equal((shown["red"] == 255)[sure], (shown["z"] > 0)[sure])
    assert set(read_ply_vertices((out / "labels" / "bent.ply").read_bytes())) >= {"label", "red", "confidence"}


def test_colours_of_files_are_bytes_at_the_vertices_of_the_mesh(tmp_path: Path) -> None:
    box = trimesh.creation.box()
    wanted = np.random.default_rng(0).integers(0, 255, (len(box.vertices), 3), dtype=np.uint8)
    for suffix in ("ply", "glb"):
        save_mesh(Mesh(box.vertices, box.faces), tmp_path / f"box.{suffix}", vertex_colors=wanted / 255)
        found = load_colors(tmp_path / f"box.{suffix}")
        np.testing.assert_allclose(found.mesh.vertices, box.vertices, atol=1e-6)
        np.testing.assert_array_equal(found.colors, wanted)
    save_mesh(Mesh(box.vertices, box.faces), tmp_path / "plain.ply")
    with pytest.raises(ValueError, match=r"plain\.ply has no vertex colours; paint its vertices"):
        load_colors(tmp_path / "plain.ply")


def test_labels_of_faces_and_vertices_are_read(tmp_path: Path) -> None:
    mesh = Mesh(np.eye(4)[:, :3], [[0, 2, 1], [0, 1, 3], [1, 2, 3]])
    (tmp_path / "a.parts.json").write_text(json.dumps({"seat": [0, 1], "back": [1, 2]}))
    read = load_labels(tmp_path / "a.parts.json", mesh)
    assert [read.names[number] for number in read.numbers] == ["seat", "back", "none"]
    (tmp_path / "faces.csv").write_text("label\nx\ny\nx\n")
    (tmp_path / "vertices.csv").write_text("label\np\nq\nq\np\n")
    assert load_labels(tmp_path / "faces.csv", mesh).of_faces
    assert load_labels(tmp_path / "vertices.csv", mesh).numbers.tolist() == [0, 1, 1, 0]


def test_markups_of_slicer_are_read(tmp_path: Path) -> None:
    points = [
        {"label": "F-1", "position": [1.0, 2.0, 3.0], "positionStatus": "defined"},
        {"label": "F-2", "position": [0.0, 0.0, 0.0], "positionStatus": "undefined"},
    ]
    path = tmp_path / "F.mrk.json"
    path.write_text(json.dumps({"markups": [{"type": "Fiducial", "controlPoints": points}]}))
    read = load_landmarks(path)
    assert (read.names, read.points.tolist()) == (("F-1",), [[1.0, 2.0, 3.0]])


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "name,x,y\na,1,2\n", "must have the columns name, x, y, z; z is missing"),
        ("a.csv", "name,x,y,z\na,1,2,left\n", "cannot read the landmarks of .*a.csv: could not convert"),
        ("a.csv", "name,x,y,z\n", "at least one landmark"),
        ("a.mrk.json", "{}", "cannot read the landmarks of .*a.mrk.json: 'markups'"),
    ],
)
def test_landmarks_that_cannot_be_read_are_refused(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=message):
        load_landmarks(tmp_path / name)


def test_labels_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    mesh = Mesh(np.eye(3), [[0, 1, 2]])
    (tmp_path / "a.parts.json").write_text('{"seat": [0, 5]}')
    with pytest.raises(ValueError, match="faces 0 to 5 are not among the 1 of the source mesh"):
        load_labels(tmp_path / "a.parts.json", mesh)
    (tmp_path / "a.csv").write_text("label\na\nb\n")
    with pytest.raises(ValueError, match="has 2 labels, but the source mesh has 3 vertices and 1 faces"):
        load_labels(tmp_path / "a.csv", mesh)
