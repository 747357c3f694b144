"""Morphs of known spheres as one animated GLB and one HTML page: the right meshes, after a kill too."""

import dataclasses
import json
import struct
from pathlib import Path

import numpy as np
import pytest
from exact_spheres import sphere_run

from sdfnet.extraction.extract import extract_mesh
from sdfnet.geometry.bounds import Bounds
from sdfnet.geometry.similarity import Similarity
from sdfnet.mesh.distance import MeshDistance
from sdfnet.mesh.io.read import read_mesh
from sdfnet.mesh.mesh import Mesh
from sdfnet.morphs import export as writers
from sdfnet.morphs.config import MorphConfig
from sdfnet.morphs.export import write_animation, write_player
from sdfnet.morphs.morph import make_morph
from sdfnet.morphs.plan import plan_frames
from sdfnet.morphs.store import MorphSequence, View, load_stored, save_stored
from sdfnet.rendering.colormap import diverging_colors
from sdfnet.runs import Run

SMALL = MorphConfig(frames=4, resolution=16, width=64, height=48, format=("glb", "html"), fps=10)
PLACES = {"small": Similarity([100, 0, 0], 1.0), "large": Similarity([0, 50, 0], 0.5)}


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return sphere_run({"small": 0.4, "large": 0.8}, directory=tmp_path / "run", similarities=PLACES)


def document(path: Path) -> dict:
    data = path.read_bytes()
    return json.loads(data[20 : 20 + struct.unpack_from("<I", data, 12)[0]])


def meta(path: Path) -> dict:
    text = path.read_text(encoding="utf-8")
    return json.loads(text.partition('<script id="meta" type="application/json">')[2].partition("</script>")[0])


def sequence_mesh(out: Path, index: int) -> Mesh:
    return load_stored(out / "frames" / f"frame_{index:04d}.npz")


@pytest.fixture
def tracked(run: Run, tmp_path: Path) -> MorphSequence:
    """Two tracked pieces of two frames and one frame of its own, as a tracker would make them."""
    config = dataclasses.replace(SMALL, frames=5, playback="pingpong")
    frames = plan_frames(run, ["small", "large"], config=config)
    records = []
    for index, (frame, piece) in enumerate(zip(frames, [0, 0, 1, 1, None], strict=True)):
        mesh = extract_mesh(run.field("large"), resolution=(16, 16, 20, 20, 24)[index], similarity=frame.similarity)
        save_stored(mesh, tmp_path / f"{index}.npz")
        records.append(dataclasses.replace(frame, piece=piece, stored=f"{index}.npz"))
    return MorphSequence(tmp_path, config, tuple(records), (0, 1, 2, 3, 4, 3, 2, 1), View(Bounds.cube(1.0)))


def test_every_frame_of_an_extracted_morph_is_in_the_glb_in_the_world(run: Run, tmp_path: Path) -> None:
    result = make_morph(run, ["small", "large"], tmp_path / "out", config=SMALL)
    assert [path.name for path in result.films] == ["morph.glb", "morph.html"]
    assert result.meshes == ()
    told = document(tmp_path / "out" / "morph.glb")
    assert len(told["meshes"]) == 4
    assert told["nodes"][0]["extras"]["key_names"] == ["small", "large"]
    assert told["nodes"][0]["extras"]["key_times"] == [0, 0.3]
    first = extract_mesh(run.field("small"), resolution=16, similarity=run.similarity("small"))
    seen = read_mesh(tmp_path / "out" / "morph.glb")  # shows the first frame only
    assert np.abs(seen.vertices - first.vertices).max() < 1e-5
    assert (seen.faces == first.faces).all()


def test_tracked_frames_become_targets_of_one_mesh(tracked: MorphSequence, tmp_path: Path) -> None:
    write_animation(tracked, tmp_path / "a.glb")
    told = document(tmp_path / "a.glb")
    assert [len(mesh["primitives"][0].get("targets", [])) for mesh in told["meshes"]] == [1, 1, 0]
    times = [accessor["max"][0] for accessor in told["accessors"] if accessor["type"] == "SCALAR" and "max" in accessor]
    assert max(times) == pytest.approx(0.8)
    write_player(tracked, tmp_path / "a.html")
    page = meta(tmp_path / "a.html")
    assert [piece["count"] for piece in page["pieces"]] == [2, 2, 1]
    assert (page["playback"], page["fps"], page["size"]) == ("pingpong", 10, [64, 48])
    assert page["keys"] == [{"frame": 0, "name": "small"}, {"frame": 4, "name": "large"}]


def test_travel_goes_along_as_colors_of_vertices(run: Run, tmp_path: Path) -> None:
    """The shapes stand apart, but the camera goes along: what grows is warm by its distance from the first surface."""
    config = dataclasses.replace(SMALL, frames=3, color="travel", format=("html", "glb"))
    result = make_morph(run, ["small", "large"], tmp_path / "out", config=config)
    told = document(tmp_path / "out" / "morph.glb")
    data = (tmp_path / "out" / "morph.glb").read_bytes()
    binary = data[28 + struct.unpack_from("<I", data, 12)[0] :]
    limit = json.loads(result.manifest.read_text())["view"]["travel_limit"]
    first = sequence_mesh(tmp_path / "out", 0)
    for index, mesh in enumerate(told["meshes"]):
        (primitive,) = mesh["primitives"]
        accessor = told["accessors"][primitive["attributes"]["COLOR_0"]]
        view = told["bufferViews"][accessor["bufferView"]]
        linear = np.frombuffer(binary, "<f4", 3 * accessor["count"], view["byteOffset"]).reshape(-1, 3)
        shown = sequence_mesh(tmp_path / "out", index).vertices - [[0, 0, 0], [-50, 0, 0], [-100, 0, 0]][index]
        expected = diverging_colors(MeshDistance(first)(shown).sdf, limit=limit)
        stored = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * np.abs(linear) ** (1 / 2.4) - 0.055)
        assert stored == pytest.approx(expected, abs=1e-5)
        assert (np.ptp(linear, axis=0).max() > 0.01) == (index > 0)
    page = meta(tmp_path / "out" / "morph.html")
    assert [piece["tints"] for piece in page["pieces"]] == [1, 1, 1]


def test_it_is_said_what_only_pictures_have(run: Run, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    make_morph(run, ["small", "large"], tmp_path / "plain", config=SMALL)
    assert not [record for record in caplog.records if record.levelname == "WARNING"]
    config = dataclasses.replace(SMALL, overlay=True, turntable=90.0)
    make_morph(run, ["small", "large"], tmp_path / "out", config=config)
    assert "overlay and turntable: of pictures and films only, not of morph.glb, morph.html" in caplog.text


def test_a_morph_is_written_as_usd_where_the_library_is(tracked: MorphSequence, tmp_path: Path) -> None:
    usd = pytest.importorskip("pxr.Usd", reason="usd-core is not installed: pip install -e '.[usd]'")
    write_animation(tracked, tmp_path / "a.usd")
    stage = usd.Stage.Open(str(tmp_path / "a.usd"))
    points = stage.GetPrimAtPath("/morph/surface").GetAttribute("points")
    assert points.GetTimeSamples() == list(range(8))
    assert len(points.Get(4)) == len(tracked.mesh(4).vertices)
    with pytest.raises(ValueError, match="up_axis must be y or z in USD, got 'x'"):
        dataclasses.replace(SMALL, format=("usd",), up_axis="x")


def test_the_page_follows_over_the_ground_as_the_films_do(run: Run, tmp_path: Path) -> None:
    middle = {}
    for follow in (True, False):
        config = dataclasses.replace(SMALL, follow=follow, format=("html",))
        make_morph(run, ["small", "large"], tmp_path / str(follow), config=config)
        pieces = meta(tmp_path / str(follow) / "morph.html")["pieces"]
        middle[follow] = np.array([np.array(piece["lower"]) + np.array(piece["extent"]) / 2 for piece in pieces])
    assert np.ptp(middle[True][:, 0]) < 1e-6
    assert np.ptp(middle[False][:, 0]) > 0.3
    assert np.ptp(middle[True][:, 1]) > 0.1  # what rises still rises


def test_a_killed_morph_ends_with_the_same_bytes(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = make_morph(run, ["small", "large"], tmp_path / "whole", config=SMALL)

    def killed(sequence: MorphSequence, path: Path) -> None:
        raise KeyboardInterrupt

    def killed_at_frame_2(mesh: Mesh, path: Path) -> None:
        if "0002" in path.name:
            raise KeyboardInterrupt
        save_stored(mesh, path)

    monkeypatch.setattr(writers, "save_stored", killed_at_frame_2)
    with pytest.raises(KeyboardInterrupt):
        make_morph(run, ["small", "large"], tmp_path / "killed", config=SMALL)
    monkeypatch.undo()
    monkeypatch.setitem(writers.SEQUENCE_WRITERS, "html", killed)
    with pytest.raises(KeyboardInterrupt):
        make_morph(run, ["small", "large"], tmp_path / "killed", config=SMALL)
    monkeypatch.undo()
    again = make_morph(run, ["small", "large"], tmp_path / "killed", config=SMALL)
    assert again.num_skipped == 4
    for before, after in zip(whole.films, again.films, strict=True):
        assert before.read_bytes() == after.read_bytes()


def test_another_morph_in_the_same_place_leaves_nothing_of_the_first(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_morph(run, ["small", "large"], tmp_path / "out", config=SMALL)
    first = (tmp_path / "out" / "morph.html").read_bytes()

    def killed(sequence: MorphSequence, path: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setitem(writers.SEQUENCE_WRITERS, "glb", killed)
    with pytest.raises(KeyboardInterrupt):
        make_morph(run, ["large", "small"], tmp_path / "out", config=SMALL, overwrite=True)
    monkeypatch.undo()
    make_morph(run, ["large", "small"], tmp_path / "out", config=SMALL)
    assert (tmp_path / "out" / "morph.html").read_bytes() != first
    assert meta(tmp_path / "out" / "morph.html")["keys"][0]["name"] == "large"
