"""The commands that read meshes, learn, measure and draw, on balls and with the smallest settings that do anything."""

from __future__ import annotations

import csv
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from balls import BALLS, write_ball
from PIL import Image

from sdfnet.cli.commands.morph import cuts_told, readable
from sdfnet.cli.main import main
from sdfnet.runs import load_run
from sdfnet.sampling import SampleStore

SMALL_SAMPLES = ("sampler.num_samples=2000", "sampler.num_surface=100", "sampler.num_heldout=100", "num_workers=1")
SMALL_TRAINING = (
    "decoder=volume",
    "decoder.channels=[8,8]",
    "decoder.width=8",
    "training.batch_points=256",
    "training.evaluations=1",
    "training.previews=0",
)


pytestmark = pytest.mark.usefixtures("quick_trainings")


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run in an empty folder: what a command leaves there by accident is seen."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")


def run(*words: object) -> int:
    return main([str(word) for word in words])


def refused(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    """Run what must fail and return its last line of stderr."""
    capsys.readouterr()
    assert run(*words) in (1, 2)
    text = capsys.readouterr().err
    assert "Traceback" not in text
    assert text.count("error: ") == 1, text
    return text.strip().splitlines()[-1]


def last_line(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().out.strip().splitlines()[-1]


def train_words(balls: Path, place: Path, *more: str) -> list[str]:
    return ["train", f"meshes={balls}", f"run={place}", "steps=4", *SMALL_SAMPLES, *SMALL_TRAINING, *more]


def test_check_reports_every_mesh_in_a_table_and_as_json(
    balls: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("check", f"meshes={balls}", f"out={tmp_path / 'report'}") == 0
    text = capsys.readouterr().out
    assert all(name in text for name in BALLS)
    assert text.strip().splitlines()[-1] == f"Results are in {tmp_path / 'report'}"
    reports = json.loads((tmp_path / "report" / "report.json").read_text())
    assert {report["name"]: report["status"] for report in reports} == dict.fromkeys(BALLS, "used")
    assert (tmp_path / "report" / "report.txt").read_text() in text


def test_check_sample_and_train_say_what_they_skip_in_a_folder(
    balls: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(balls, tmp_path / "meshes")
    for name in ("a.fbx", "b.fbx", "c.blend"):
        (tmp_path / "meshes" / name).write_text("x")
    for words in (
        ["check", f"meshes={tmp_path / 'meshes'}", f"out={tmp_path / 'report'}"],
        ["sample", f"meshes={tmp_path / 'meshes'}", f"samples={tmp_path / 'store'}", *SMALL_SAMPLES],
        train_words(tmp_path / "meshes", tmp_path / "run"),
    ):
        assert run(*words) == 0
        assert "3 files skipped: 2 .fbx, 1 .blend" in capsys.readouterr().out.splitlines()
    assert (tmp_path / "report" / "report.txt").read_text().endswith("\n3 files skipped: 2 .fbx, 1 .blend\n")


def test_check_goes_on_after_a_bad_file_and_fails_if_nothing_is_left(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "meshes").mkdir()
    (tmp_path / "meshes" / "empty.obj").write_text("")
    assert "none of the 1 meshes" in refused(capsys, "check", f"meshes={tmp_path / 'meshes'}")
    (tmp_path / "meshes" / "points.off").write_text("OFF\n3 0 0\n0 0 0\n1 0 0\n0 1 0\n")
    (tmp_path / "meshes" / "flat.obj").write_text("v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n")
    assert run("check", f"meshes={tmp_path / 'meshes'}", "thickness=0.1") == 0
    assert "2 refused" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["check", "sample", "train", "render"])
def test_a_missing_and_an_empty_folder_of_meshes_are_named(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = {"check": [], "sample": ["samples=s"], "train": ["run=r"], "render": ["out=o"]}[command]
    (tmp_path / "empty").mkdir()
    for folder in (tmp_path / "nowhere", tmp_path / "empty"):
        assert str(folder) in refused(capsys, command, f"meshes={folder}", *place)


@pytest.mark.parametrize("command", ["check", "sample", "train", "render"])
def test_an_output_that_cannot_be_written_is_named(
    command: str, balls: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("in the way")
    key = {"check": "out", "sample": "samples", "train": "run", "render": "out"}[command]
    line = refused(capsys, command, f"meshes={balls}", f"{key}={tmp_path / 'file' / 'below'}")
    assert "cannot make the folder" in line
    assert str(tmp_path / "file") in line


def test_sample_says_what_it_drew_and_skips_it_the_next_time(
    balls: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["sample", f"meshes={balls}", f"samples={tmp_path / 'store'}", *SMALL_SAMPLES]
    assert run(*words) == 0
    text = capsys.readouterr().out
    assert "3 shapes sampled, 0 were there already; 2,000 samples per shape" in text
    assert text.strip().splitlines()[-1] == f"Results are in {tmp_path / 'store'}"
    assert run(*words) == 0
    assert "0 shapes sampled, 3 were there already" in capsys.readouterr().out
    assert not list(Path().iterdir())


def test_train_makes_a_run_continues_it_and_refuses_to_change_it(
    balls: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = train_words(balls, tmp_path / "run", "seed=3")
    assert run(*words) == 0
    assert last_line(capsys) == f"Results are in {tmp_path / 'run'}"
    learned = load_run(tmp_path / "run")
    assert set(learned.names) == set(BALLS)
    assert learned.step == 4
    assert learned.document["config"]["training"]["seed"] == 3
    assert learned.document["config"]["sampler"]["seed"] == 3
    assert run(*words) == 0
    assert "samples: 0 shapes drawn now, 3 were there" in capsys.readouterr().out
    assert "training.latent_std" in refused(capsys, *words, "training.latent_std=0.3")
    assert run("info", f"run={tmp_path / 'run'}") == 0
    assert not list(Path().iterdir())


def test_a_training_that_has_learned_nothing_is_saved_and_fails(
    balls: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sdfnet.training.metrics._failure", lambda *_: "7.2 % of the signs are wrong")
    words = train_words(balls, tmp_path / "run", "steps=1")
    line = refused(capsys, *words)
    assert line.startswith("sdfnet train: error: the training has failed after 1 steps: 7.2 % of the signs are wrong. ")
    assert "Train longer (steps=4 instead of 1)" in line
    assert load_run(tmp_path / "run").step == 1


def test_train_takes_prepared_samples_without_the_meshes(balls: Path, tmp_path: Path) -> None:
    samples = f"samples={tmp_path / 'store'}"
    assert run("sample", f"meshes={balls}", samples, *SMALL_SAMPLES) == 0
    words = ["train", samples, f"run={tmp_path / 'run'}", "steps=2", "shapes=[plain,a=b [1]]", *SMALL_TRAINING]
    assert run(*words) == 0
    assert set(load_run(tmp_path / "run").names) == {"plain", "a=b [1]"}


def test_train_keeps_out_what_holdout_names(balls: Path, tmp_path: Path) -> None:
    assert run(*train_words(balls, tmp_path / "run", "holdout=[round/*,plain]")) == 0
    assert load_run(tmp_path / "run").names == ("a=b [1]",)


def test_train_names_a_wrong_holdout_and_a_missing_start_before_it_samples(
    balls: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "no shape is named 'plian'" in refused(capsys, *train_words(balls, tmp_path / "run", "holdout=plian"))
    line = refused(capsys, *train_words(balls, tmp_path / "run", "init=nowhere"))
    assert "no run at nowhere: there is no such folder. Give init=DIR" in line
    assert not (tmp_path / "run").exists()


def test_train_refuses_another_configuration_before_it_samples_what_is_new(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    meshes = tmp_path / "meshes"
    meshes.mkdir()
    write_ball(meshes / "first.obj")
    words = train_words(meshes, tmp_path / "run")
    assert run(*words) == 0
    write_ball(meshes / "second.obj")
    assert "decoder.width is 8 there and 16 now" in refused(capsys, *words, "decoder.width=16")
    assert "training.seed is 0 there and 1 now" in refused(capsys, *words, "training.seed=1")
    assert SampleStore(tmp_path / "run" / "samples").names == ("first",)


def test_a_sweep_of_trainings_gives_runs_of_their_own(balls: Path, tmp_path: Path) -> None:
    sweep = [f"samples={tmp_path / 'store'}", "-m", "training.learning_rate=1e-3,2e-3"]
    assert run(*train_words(balls, tmp_path / "rates", *sweep)) == 0
    rates = {
        load_run(path.parent).document["config"]["training"]["learning_rate"] for path in tmp_path.rglob("run.json")
    }
    assert rates == {0.001, 0.002}
    assert sorted(path.name for path in (tmp_path / "rates").iterdir()) == [
        "multirun.yaml",
        "training.learning_rate=0.001",
        "training.learning_rate=0.002",
    ]
    assert not list(Path().iterdir())


def test_train_needs_meshes_or_samples(capsys: pytest.CaptureFixture[str]) -> None:
    assert "meshes=DIR must be given, or samples=DIR" in refused(capsys, "train", "run=r")


def test_evaluate_prints_the_table_and_writes_csv_and_json(
    tiny_run: Path, balls: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    quick = ["resolution=24", "num_points=300", "num_volume_points=300", "floor=false"]
    assert run("evaluate", f"run={tiny_run}", f"meshes={balls}", f"out={tmp_path / 'report'}", *quick) == 0
    assert last_line(capsys) == f"Results are in {tmp_path / 'report'}"
    assert "num_workers must be 1 or more" in refused(capsys, "evaluate", "run=r", "num_workers=0")
    with open(tmp_path / "report" / "evaluation.csv", encoding="utf-8") as file:
        rows = {row["name"]: row for row in csv.DictReader(file)}
    again = tmp_path / "again"
    assert run("evaluate", f"run={tiny_run}", f"meshes={balls}", f"out={again}", *quick, "num_workers=1") == 0
    with open(again / "evaluation.csv", encoding="utf-8") as file:
        alone = [{**row, "seconds": ""} for row in csv.DictReader(file)]
    assert alone == [{**row, "seconds": ""} for row in rows.values()], "threads change no number"
    assert set(rows) == set(BALLS)
    assert all(0 < float(row["mean_percent"]) < 3 for row in rows.values())
    assert json.loads((tmp_path / "report" / "evaluation.json").read_text())["config"]["resolution"] == 24


def test_evaluate_compares_two_folders_without_a_run(
    balls: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, few = tmp_path / "report", ("num_points=500", "num_volume_points=500", "num_workers=1")
    assert run("evaluate", f"meshes={balls}", f"reference={balls}", f"out={out}", *few) == 0
    assert len(list((out / "errors").rglob("*.ply"))) == len(BALLS)
    assert (out / "evaluation.csv").is_file()
    capsys.readouterr()
    folders = ("evaluate", f"meshes={balls}", f"reference={balls}")
    assert "needs meshes=DIR, the results, and out=DIR" in refused(capsys, *folders)
    assert "give run=DIR" in refused(capsys, *folders, "run=r", "out=o")
    assert "resolution is for run=" in refused(capsys, *folders, "out=o", "resolution=64")


def test_evaluate_without_a_source_fails_and_says_where_it_looked(
    tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "no mesh" in refused(capsys, "evaluate", f"run={tiny_run}", f"meshes={tmp_path}", f"out={tmp_path / 'o'}")


def test_evaluate_says_in_one_line_that_no_source_is_there(
    tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_ball(tmp_path / "other.obj")
    assert run("evaluate", f"run={tiny_run}", f"meshes={tmp_path}", f"out={tmp_path / 'o'}") == 1
    streams = capsys.readouterr()
    told = f"none of the 3 sources is in {tmp_path} (a=b [1], round/ball two, …); give the folder of the meshes with"
    assert told in streams.err
    assert len(streams.err.strip().splitlines()) == 1
    assert not streams.out


def test_evaluate_measures_the_others_when_a_source_is_gone_and_fails_all_the_same(
    tiny_run: Path, balls: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(balls / "plain.obj", tmp_path / "plain.obj")
    quick = ["resolution=24", "num_points=300", "num_volume_points=300", "floor=false"]
    line = refused(capsys, "evaluate", f"run={tiny_run}", f"meshes={tmp_path}", f"out={tmp_path / 'o'}", *quick)
    assert f"only 1 of the 3 shapes could be measured; the reasons stand above. The table is in {tmp_path}" in line
    table = (tmp_path / "o" / "evaluation.txt").read_text()
    assert "not measured: a=b [1]: its source" in table
    assert "\nplain " in table


def test_morph_writes_a_sequence_that_it_does_not_make_twice(
    tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "a morph"
    words = ["morph", f"run={tiny_run}", "shapes=[plain,a=b [1],round/*]", f"out={out}"]
    words += ["frames=5", "resolution=12", "width=32", "height=32", "format=[ply,gif]"]
    assert run(*words) == 0
    assert last_line(capsys) == f"Results are in {out}"
    assert len(list(out.glob("*.ply"))) == 5
    manifest = json.loads((out / "manifest.json").read_text())
    assert [frame["shape"] for frame in manifest["frames"]] == ["plain", "", "a=b [1]", "", "round/ball two"]
    with Image.open(out / "morph.gif") as film:
        assert film.n_frames == 5
    assert run(*words) == 0
    assert "5 were there already" in capsys.readouterr().out
    assert str(out) in refused(capsys, *words, "easing=linear")


def test_a_tracked_morph_says_that_it_is_one_mesh(
    tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["morph", f"run={tiny_run}", "shapes=[plain,round/*]", "tracked=true", "frames=3", "format=[ply,glb]"]
    assert run(*words, "resolution=16", "width=32", "height=32", f"out={tmp_path / 'm'}") == 0
    assert "tracked: one mesh throughout" in capsys.readouterr().out.splitlines()


@pytest.mark.parametrize(
    ("num_pieces", "told"),
    [
        (2, "2 pieces, a new one starts before frame 2 (components 1 to 2)"),
        (
            5,
            "5 meshes, faces of their own for every frame, since a new one would start "
            "before frame 2 (components 1 to 2)",
        ),
    ],
)
def test_cuts_are_told_with_their_first_reason(num_pieces: int, told: str) -> None:
    cuts = [{"frame": 2, "reason": "components 1 to 2; genus 0 to 1"}]
    assert cuts_told(num_pieces, cuts) == f"tracked: {told}"


def test_a_morph_at_the_surface_s_pace_is_even_as_it_is_typed(
    tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With smooth easing the largest step would be eight times the smallest."""
    words = ["morph", f"run={tiny_run}", "shapes=[a=b [1],round/*]", "frames=9", "pace=surface", "format=ply"]
    assert run(*words, "resolution=12", "width=32", "height=32", f"out={tmp_path / 'm'}") == 0
    pace = json.loads((tmp_path / "m/morph.json").read_text())["summary"]["planned_pace"]
    assert 1 <= pace["ratio"] < 1.1
    lines = capsys.readouterr().out.splitlines()
    (told,) = [line for line in lines if line.startswith("pace, mean travel of the surface from frame to frame: ")]
    assert told.endswith(f" % of the radius, largest over smallest {pace['ratio']:.2f}")
    assert any(line.startswith("distance between consecutive meshes: mean ") for line in lines)


@pytest.mark.parametrize(
    ("value", "told"), [(196.4, "196"), (90.0, "90"), (1.25, "1.2"), (0.0123, "0.012"), (2e-7, "0.0000"), (0.0, "0")]
)
def test_figures_have_no_exponent(value: float, told: str) -> None:
    assert readable(value) == told


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("frames=0", "frames must be at least 2, got 0"),
        ("resolution=1", "resolution must be from 8 to 4096, got 1"),
        ("path=zigzag", "path must be one of 'linear', 'spherical'"),
        ("format=avi", "format must be one of 'obj', 'ply'"),
        ("shapes=plain", "two"),
        ("shapes=[plain,nobody]", "no shape is named 'nobody'"),
    ],
)
def test_a_morph_that_cannot_be_is_refused(
    word: str, message: str, tiny_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shapes = [] if word.startswith("shapes") else ["shapes=[plain,a=b [1]]"]
    assert message in refused(capsys, "morph", f"run={tiny_run}", "out=m", word, *shapes)


@pytest.mark.render
def test_render_draws_learned_shapes_and_mesh_files(
    tiny_run: Path, balls: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = ["width=32", "height=24", "resolution=12", "backend=rays", "frames=3"]
    learned, files = tmp_path / "learned", tmp_path / "files"
    assert run("render", f"run={tiny_run}", f"out={learned}", "format=[png,gif]", "shapes=[pl*,a=b [1]]", *small) == 0
    assert run("render", f"meshes={balls}", f"out={files}", *small) == 0
    text = capsys.readouterr().out
    assert "3 shapes as png, drawn by rays: ray casting on the CPU, as asked" in text
    for name in BALLS:
        with Image.open(files / f"{name}.png") as image:
            assert image.size == (32, 24)
    assert (files / "contact_sheet.png").is_file()
    with Image.open(learned / "plain.gif") as film:
        assert film.n_frames == 3
    assert not (learned / "round").exists()


@pytest.mark.render
def test_render_draws_the_others_and_lists_the_files_that_it_cannot_read(
    balls: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = [f"out={tmp_path / 'out'}", "width=32", "height=24", "backend=rays"]
    (tmp_path / "meshes").mkdir()
    shutil.copy(balls / "plain.obj", tmp_path / "meshes" / "plain.obj")
    assert run("render", f"meshes={tmp_path / 'meshes'}", *small) == 0
    assert "1 shape as png, drawn by rays" in capsys.readouterr().out
    (tmp_path / "meshes" / "bad.obj").write_text("")
    line = refused(capsys, "render", f"meshes={tmp_path / 'meshes'}", *small)
    assert f"1 of 2 shapes could not be drawn. bad: {tmp_path / 'meshes' / 'bad.obj'}: the file is empty" in line
    assert line.endswith(f". The others are in {tmp_path / 'out'}.")
    assert ".." not in line.replace(str(tmp_path), "")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "meshes=DIR for mesh files, or scene=FILE.yaml for a scene; got none"),
        (["run=a", "meshes=b"], "scene=FILE.yaml for a scene; got run and meshes"),
        (["meshes=b"], "out=DIR must be given with meshes=DIR"),
        (["run=a", "width=33"], "width must be even, got 33"),
        (["run=a", "frames=0"], "frames must be 2 or more, got 0"),
        (["run=a", "backend=cuda"], "backend must be one of 'auto', 'gl', 'rays', got 'cuda'"),
    ],
)
def test_a_picture_that_cannot_be_is_refused(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert message in refused(capsys, "render", *words)


@pytest.mark.slow
def test_an_interrupted_training_is_saved_says_how_to_go_on_and_exits_with_130(balls: Path, tmp_path: Path) -> None:
    words = train_words(balls, tmp_path / "run", "steps=1000000")
    with subprocess.Popen(
        [sys.executable, "-m", "sdfnet", *words], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    ) as process:
        deadline = time.monotonic() + 120
        while not (tmp_path / "run" / "metrics.csv").is_file() and time.monotonic() < deadline:
            time.sleep(0.2)
        time.sleep(2)
        process.send_signal(signal.SIGINT)
        _, text = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Repeat the same command to go on." in text
    assert "Traceback" not in text
    assert load_run(tmp_path / "run").step > 0


@pytest.mark.slow
def test_the_demo_goes_the_whole_way(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "demo"
    words = ["demo", f"out={out}", "budget=4s", "shapes=[chair_00,chair_01,chair_02,chair_03]"]
    words += ["resolution=48", "frames=4"]
    assert run(*words) == 0
    text = capsys.readouterr().out
    assert text.strip().splitlines()[-1] == f"Results are in {out}"
    assert "All done in" in text
    for place in ("run/model.safetensors", "morph/morph.mp4", "morph/contact_sheet.png", "pictures/contact_sheet.png"):
        assert (out / place).is_file(), place
    assert len(list((out / "meshes").glob("chair_*.obj"))) == 4
    assert json.loads((out / "evaluation" / "evaluation.json").read_text())["totals"]["mean"]["mean_percent"] < 5
    assert run(*words) == 0, "the second time it goes on from what is there"
    assert "4 were there already" in capsys.readouterr().out
    assert not list(Path().iterdir())
