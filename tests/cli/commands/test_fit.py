"""`sdfnet fit` on balls that nobody has learned: where they end up, what is written, what is done twice, what fails."""

from __future__ import annotations

import importlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from balls import CENTER, SCALE, radii_of, write_ball

from sdfnet.cli.commands.keys import some_failed
from sdfnet.cli.main import main
from sdfnet.extraction import extract_mesh
from sdfnet.fields import Sphere
from sdfnet.fitting.config import ObserveConfig
from sdfnet.fitting.observations import KINDS, ObservationKind, PartObservation, surface_part
from sdfnet.fitting.observations.base import hash_file
from sdfnet.mesh.io.formats import WRITABLE
from sdfnet.mesh.io.read import read_mesh
from sdfnet.mesh.mesh import Mesh
from sdfnet.runs import extract as run_extraction
from sdfnet.runs import load_run, load_tensors

NEW = {"new/ball": 0.65, "other": 0.55}
QUICK = ("steps=60", "batch_points=512", "num_samples=4000", "resolution=32")


@pytest.fixture(scope="module")
def shared_run(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of the balls as one with `normalize=shared`, which its common similarity makes it."""
    folder = tmp_path_factory.mktemp("shared") / "balls"
    shutil.copytree(tiny_run, folder)
    document = json.loads((folder / "run.json").read_text())
    document["config"]["normalize"] = "shared"
    (folder / "run.json").write_text(json.dumps(document))
    return folder


@pytest.fixture
def meshes(tmp_path: Path) -> Path:
    for name, radius in NEW.items():
        write_ball(tmp_path / "meshes" / f"{name}.obj", radius=radius / SCALE, center=CENTER)
    return tmp_path / "meshes"


def fit(*words: object) -> int:
    return main(["fit", *(str(word) for word in words), *QUICK])


def test_new_shapes_are_fitted_at_their_place_measured_and_join_a_run(
    shared_run: Path, meshes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "fitted"
    assert fit(f"run={shared_run}", f"meshes={meshes}", f"out={out}", "format=[obj,stl]") == 0
    text = capsys.readouterr().out
    assert "2 shapes fitted; they stand in the new run beside the 3 learned ones" in text
    assert text.strip().splitlines()[-1] == f"Results are in {out}"
    records = json.loads((out / "fit.json").read_text())["shapes"]
    run = load_run(out)
    assert run.names == ("a=b [1]", "round/ball two", "plain", *NEW)
    assert [run.shape(name).num_surfaces for name in NEW] == [1, 1]
    for name, radius in NEW.items():
        mesh, record = read_mesh(out / "meshes" / f"{name}.obj"), records[name]
        assert radii_of(mesh).mean() == pytest.approx(radius, abs=0.02)
        assert len(read_mesh(out / "meshes" / f"{name}.stl").faces) == len(mesh.faces)
        assert record["percent"]["mean"] < 4
        assert record["floor_percent"]["mean"] < record["percent"]["mean"]
        assert record["radius_world"] == pytest.approx(radius / SCALE, rel=0.02)
        assert record["world"]["mean"] == pytest.approx(record["percent"]["mean"] / 100 * record["radius_world"])
        tensors, _ = load_tensors(out / "codes" / f"{name}.safetensors")
        assert tensors["latent"].tolist() == run.latent(name).tolist()
    words = [f"run={out}", "shapes=[new/ball]", "resolution=32", f"out={tmp_path / 'again'}"]
    assert main(["extract", *words]) == 0
    assert (tmp_path / "again" / "new" / "ball.obj").read_bytes() == (out / "meshes" / "new" / "ball.obj").read_bytes()


def test_a_learned_shape_fitted_again_comes_back_where_it_was_learned(
    shared_run: Path, balls: Path, tmp_path: Path
) -> None:
    out = tmp_path / "fitted"
    assert fit(f"run={shared_run}", f"meshes={balls}", "shapes=plain", f"out={out}") == 0
    record = json.loads((out / "fit.json").read_text())["shapes"]["plain"]
    assert record["percent"]["mean"] < 3
    learned, fitted = load_run(shared_run).field("plain"), load_run(out).field("plain")
    assert load_run(out).names == ("a=b [1]", "round/ball two", "plain")
    points = load_run(out).latents.new_tensor(np.eye(3) * 0.6)
    assert (fitted(points) - learned(points)).abs().max() < 0.03


def test_what_is_there_is_not_fitted_twice_and_what_has_changed_is(
    shared_run: Path, meshes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [f"run={shared_run}", f"meshes={meshes}", f"out={tmp_path / 'fitted'}"]
    assert fit(*words, "shapes=other") == 0
    fitted: list[int] = []
    mesh_fitting = importlib.import_module("sdfnet.fitting.fit_meshes")
    true_fit = mesh_fitting.fit_codes

    def counting(run, samples, **options):  # type: ignore[no-untyped-def]
        fitted.append(len(samples))
        return true_fit(run, samples, **options)

    monkeypatch.setattr(mesh_fitting, "fit_codes", counting)
    assert fit(*words) == 0
    assert fitted == [1]
    assert "2 shapes fitted (1 was there already)" in capsys.readouterr().out
    assert fit(*words) == 0
    assert fitted == [1]
    write_ball(meshes / "other.obj", radius=0.6 / SCALE, center=CENTER)
    (tmp_path / "fitted" / "meshes" / "new" / "ball.obj").unlink()
    assert fit(*words) == 0
    assert fitted == [1, 2]
    assert radii_of(read_mesh(tmp_path / "fitted" / "meshes" / "other.obj")).mean() == pytest.approx(0.6, abs=0.02)


def test_a_bad_mesh_is_told_and_stops_no_other(
    shared_run: Path, meshes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (meshes / "empty.obj").write_text("")
    write_ball(meshes / "far.obj", radius=1.0, center=(0.0, 0.0, 0.0))
    out = tmp_path / "fitted"
    assert fit(f"run={shared_run}", f"meshes={meshes}", f"out={out}") == 1
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert "2 of 4 meshes could not be fitted. empty: " in line
    assert "the file is empty; export it again" in line
    assert "far: it reaches to 100 in the unit frame that the run's shapes share, which ends at 1.05" in line
    assert line.endswith(f"The others are in {out}.")
    document = json.loads((out / "fit.json").read_text())
    assert set(document["shapes"]) == set(NEW)
    assert set(document["failed"]) == {"empty", "far"}
    assert load_run(out).names[-2:] == tuple(NEW)


def test_a_long_list_of_failures_is_cut_and_says_how_many_more(tmp_path: Path) -> None:
    three = dict.fromkeys("abc", "empty")
    assert str(some_failed(three, 3, "meshes fail", tmp_path)) == "3 of 3 meshes fail. a: empty; b: empty; c: empty."
    line = str(some_failed({**three, "d": "empty", "e": "empty"}, 5, "meshes fail", tmp_path))
    assert line == "5 of 5 meshes fail. a: empty; b: empty; c: empty; and 2 more: d, e."


def test_a_folder_of_other_options_and_the_run_itself_are_refused(
    shared_run: Path, meshes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [f"run={shared_run}", f"meshes={meshes}", "shapes=other"]
    assert fit(*words, f"out={tmp_path / 'fitted'}") == 0
    capsys.readouterr()
    assert fit(*words, f"out={tmp_path / 'fitted'}", "prior_weight=0.5") == 1
    assert "holds another fit: prior_weight is 0.0001 there and 0.5 now. Choose another out" in capsys.readouterr().err
    assert fit(*words, f"out={shared_run}") == 1
    assert "is the run itself; choose a folder of its own" in capsys.readouterr().err
    (tmp_path / "fitted" / "fit.json").write_text("{")
    assert fit(*words, f"out={tmp_path / 'fitted'}") == 1
    assert "fit.json is damaged" in capsys.readouterr().err


def test_neither_the_meshes_nor_the_sources_of_the_run_are_overwritten(
    shared_run: Path, meshes: Path, balls: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.obj")}
    assert fit(f"run={shared_run}", f"meshes={meshes}", f"out={tmp_path}") == 1
    told = f"out={tmp_path} holds meshes that are to be fitted (meshes/new/ball.obj, meshes/other.obj); give another"
    assert told in capsys.readouterr().err
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.obj")} == before
    assert not (tmp_path / "fit.json").exists()

    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "meshes").symlink_to(balls, target_is_directory=True)
    write_ball(tmp_path / "new" / "plain.obj")
    source = (balls / "plain.obj").read_bytes()
    assert fit(f"run={shared_run}", f"meshes={tmp_path / 'new'}", f"out={tmp_path / 'linked'}") == 1
    told = f"out={tmp_path / 'linked'} holds the source meshes of this run (meshes/plain.obj); give another out"
    assert told in capsys.readouterr().err
    assert (balls / "plain.obj").read_bytes() == source
    assert not (tmp_path / "linked" / "fit.json").exists()


def test_one_fitted_shape_is_told_in_the_singular(
    shared_run: Path, meshes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [f"run={shared_run}", f"meshes={meshes}", "shapes=other", f"out={tmp_path / 'fitted'}"]
    assert fit(*words) == 0
    assert "1 shape fitted; it stands in the new run beside the 3 learned ones" in capsys.readouterr().out


def test_a_mesh_named_like_a_learned_shape_replaces_it_and_that_is_said(
    shared_run: Path, meshes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = load_run(shared_run).names[0]
    (tmp_path / "new").mkdir()
    shutil.copy(meshes / "other.obj", tmp_path / "new" / f"{name}.obj")
    assert fit(f"run={shared_run}", f"meshes={tmp_path / 'new'}", f"out={tmp_path / 'fitted'}") == 0
    told = f"beside the 2 learned ones; the learned {name} of the same name is not in it"
    assert told in capsys.readouterr().out
    assert sorted(load_run(tmp_path / "fitted").names) == sorted(load_run(shared_run).names)


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("num_samples=0", "num_samples must be at least 1, got 0"),
        ("resolution=4", "resolution must be from 8 to 4096, got 4"),
        ("thickness=-1", "thickness must be above 0 or null, got -1"),
        ("format=[]", f"format must name at least one of {', '.join(WRITABLE)}, got an empty list"),
        ("learning_rate=fast", "learning_rate must be a number or null, got 'fast'"),
    ],
)
def test_nonsense_is_refused(word: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "run=x", "meshes=y", word]) == 2
    assert message in capsys.readouterr().err


def test_another_kind_than_those_of_the_table_is_refused(
    shared_run: Path, meshes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fit(f"run={shared_run}", f"input={meshes}", f"out={tmp_path / 'fitted'}", "kind=smell") == 1
    assert f"kind must be one of auto, {', '.join(KINDS)}, got 'smell'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["meshes=a", "input=b"], "give meshes=DIR (whole meshes) or input=FILE|DIR (whole or part), exactly one"),
        ([], "give meshes=DIR (whole meshes) or input=FILE|DIR (whole or part), exactly one"),
        (["meshes=a", "align=yaw"], "align is for input=; meshes=a holds whole meshes"),
        (["meshes=a", "kind=points"], "kind is for input=; meshes=a holds whole meshes"),
        (["input=a", "frame_of=b"], "frame_of=b needs align=none, got align=similarity"),
        (["input=a", "noise_std=0"], "noise_std must be above 0 or null, got 0"),
    ],
)
def test_keys_that_do_not_go_together_are_refused(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fit", "run=x", *words]) == 2
    assert message in capsys.readouterr().err


def test_a_kind_of_ones_own_is_one_line_of_the_table(
    shared_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Radius files: points of a sphere, without a mesh to measure against."""

    def read(path: Path, config: ObserveConfig) -> PartObservation:
        points = np.random.default_rng(0).normal(size=(2000, 3))
        points *= float(path.read_text()) / SCALE / np.linalg.norm(points, axis=1, keepdims=True)
        part = surface_part(points + CENTER, noise_std=0.001 / SCALE)
        return part.described(source=str(path), content_hash=hash_file(path, config))

    monkeypatch.setitem(KINDS, "radius", ObservationKind((".radius",), read))
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "ball.radius").write_text("0.6")
    words = (f"run={shared_run}", f"input={tmp_path / 'in'}", f"out={tmp_path / 'fitted'}", "kind=radius", "align=none")
    for _ in range(2):
        assert fit(*words) == 0
        heading, row, *_ = capsys.readouterr().out.splitlines()
        assert heading.split() == ["shape", "pieces", "began", "at"]
        assert row.split()[:2] == ["ball", "1"]
    record = json.loads((tmp_path / "fitted" / "fit.json").read_text())["shapes"]["ball"]
    assert "percent" not in record
    assert radii_of(read_mesh(tmp_path / "fitted" / "meshes" / "ball.obj")).mean() == pytest.approx(0.6, abs=0.03)


def test_blobs_that_the_source_has_not_are_left_out_and_said(
    shared_run: Path, meshes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blob = extract_mesh(Sphere(0.1), resolution=24)
    true_extract = run_extraction.extract_mesh

    def with_blob(field, **options):  # type: ignore[no-untyped-def]
        mesh = true_extract(field, **options)
        vertices = blob.vertices + 0.9
        return Mesh(
            np.concatenate([mesh.vertices, vertices]), np.concatenate([mesh.faces, blob.faces + len(mesh.vertices)])
        )

    monkeypatch.setattr(run_extraction, "extract_mesh", with_blob)
    out = tmp_path / "fitted"
    assert fit(f"run={shared_run}", f"meshes={meshes}", "shapes=other", f"out={out}") == 0
    (record,) = json.loads((out / "fit.json").read_text())["shapes"].values()
    assert record["pieces"] == 1
    assert [piece["share"] for piece in record["removed"]] == [pytest.approx((0.1 / 0.55) ** 3, rel=0.1)]
    assert radii_of(read_mesh(out / "meshes" / "other.obj")).max() == pytest.approx(0.55, abs=0.06)
    # Extraction leaves the same blobs out of a fitted shape, though not out of a learned one.
    words = [f"run={out}", "shapes=[other,plain]", "resolution=32", f"out={tmp_path / 'again'}"]
    assert main(["extract", *words]) == 0
    assert (tmp_path / "again" / "other.obj").read_bytes() == (out / "meshes" / "other.obj").read_bytes()
    assert read_mesh(tmp_path / "again" / "plain.obj").to_trimesh().body_count == 2
    assert [load_run(out).shape(name).learned for name in ("other", "plain")] == [False, True]
