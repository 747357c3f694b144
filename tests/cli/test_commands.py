"""Every command from its command line: what it prints, what it writes, and how it fails."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from balls import BALLS, radii_of

import sdfnet
from sdfnet.cli.commands.keys import some_failed
from sdfnet.cli.hydra_app.command import COMMANDS, load_command
from sdfnet.cli.main import main
from sdfnet.mesh.io.formats import WRITABLE
from sdfnet.mesh.io.read import read_mesh
from sdfnet.runs import load_tensors, save_tensors

STORE = ("meshes=a", "samples=b")


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run in an empty folder: what a command leaves there by accident is seen."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")


def run(*words: str) -> int:
    return main([str(word) for word in words])


def refuse(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    """Run what must fail and return its exit code and its one line."""
    code = run(*words)
    streams = capsys.readouterr()
    lines = streams.err.strip().splitlines()
    assert code != 0
    assert len(lines) == 1, streams.err
    assert "Traceback" not in streams.err
    return code, lines[0]


def last_line(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().out.strip().splitlines()[-1]


def test_the_program_lists_its_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--help") == 0
    text = capsys.readouterr().out
    assert all(f"  {name} " in text for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_a_command_says_what_every_key_means(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(name, "--help") == 0
    text = capsys.readouterr().out
    assert text.startswith(f"sdfnet {name}: {COMMANDS[name]}")
    listed = text.partition("\nFlags")[0]
    assert not re.findall(r"^  \S+=\S*$(?!\n {10})", listed, flags=re.MULTILINE), "a key without a word"
    assert max(len(line) for line in text.splitlines()) <= 120


def test_the_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--version") == 0
    assert capsys.readouterr().out == f"sdfnet {sdfnet.__version__}\n"


def test_an_unknown_command_names_the_close_ones(capsys: pytest.CaptureFixture[str]) -> None:
    code, line = refuse(capsys, "extrct", "run=x")
    assert code == 2
    assert "unknown command 'extrct'; did you mean extract?" in line


def test_a_key_in_front_of_the_command_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    assert "expected a command first, got 'run=x'" in refuse(capsys, "run=x", "extract")[1]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["extract"], "give one of run=DIR for learned shapes, or scene=FILE.yaml for a scene; got none"),
        (
            ["extract", "run=x", "resolutoin=3"],
            "resolutoin; did you mean resolution? Allowed: scene, set, run",
        ),
        (["extract", "run=x", "+resolutoin=3"], "unknown key resolutoin; did you mean resolution?"),
        (["extract", "run=x", "++fast=3"], "unknown key fast; did you mean format? Allowed: scene"),
        (["extract", "run=x", "resolution=many"], "resolution must be a whole number, got 'many'"),
        (["extract", "run=x", "resolution=1"], "resolution must be from 2 to 4096, got 1"),
        (["extract", "run=x", "resolution=100000"], "resolution must be from 2 to 4096, got 100000"),
        (["render", "run=x", "resolution=5000"], "resolution must be from 8 to 4096, got 5000"),
        (["evaluate", "run=x", "resolution=5000"], "resolution must be from 8 to 4096, got 5000"),
        (["extract", "run=x", "format=xyz"], f"format must be one of {', '.join(map(repr, WRITABLE))}, got 'xyz'"),
        (["extract", "run=x", "format=obj,glb"], "error: several values need brackets: 'format=[obj,glb]' (-m runs"),
        (["train", "run=x", "lr=1"], "unknown key lr; did you mean training.learning_rate? Allowed: decoder"),
        (["train", "run=x", "learning_rate=1"], "unknown key learning_rate; did you mean training.learning_rate?"),
        (["train", "run=x", "num_samples=9"], "unknown key num_samples; did you mean sampler.num_samples?"),
        (["train", "run=x", "training.lr=1"], "unknown key training.lr; did you mean learning_rate?"),
        (["train", "run=x", "experimnt=quick"], "unknown key experimnt; did you mean experiment? Allowed: decoder"),
        (["train", "run=x", "samples=y", "thickness=0.5"], "thickness belongs to sampling; it needs meshes=DIR"),
        (["train", "run=x", "samples=y", "normalize=shared"], "normalize belongs to sampling; it needs meshes=DIR"),
        (["train", "run=x", *STORE, "budget=20"], "budget must be a number with s, min or h, such as 90s, got '20'"),
        (["demo", "budget=soon"], "error: budget must be a number with s, min or h, such as 90s, got 'soon'"),
        (["extract", "run=x", "format=[]"], "format must name at least one"),
        (["extract", "run=x", "device=gpu"], "device must be auto, cpu, cuda, cuda:N or mps, got 'gpu'"),
        (["extract", "run=x", "resolution=[3"], "cannot read 'resolution=[3'"),
        (["extract", "run=x", "--config-dir", "nowhere"], "--config-dir nowhere is not a folder"),
        (["extract", "run=${nothing}"], "run: Interpolation key 'nothing' not found"),
        (["sample", *STORE, "sampler=best"], "unknown sampler=best. Choose one of: deepsdf, default"),
        (
            ["sample", *STORE, "sampler.num_sample=9"],
            "unknown key sampler.num_sample; did you mean num_samples or num_surface?",
        ),
        (
            ["sample", *STORE, "sampler.num_samples=-1"],
            "sampler: num_samples must be 1 or more, got -1",
        ),
        (["sample", *STORE, "sampelr.num_samples=9"], "unknown key sampelr; did you mean sampler or samples?"),
        (["sample", *STORE, "normalize=no"], "normalize must be one of 'each', 'shared', got 'no'"),
        (["check", "meshes=x", "--cfg", "job", "thickness=[1]"], "thickness must be a number or null, got [1]"),
    ],
)
def test_a_wrong_command_line_is_refused_before_anything_is_done(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, line = refuse(capsys, *words)
    assert code == 2
    assert f"sdfnet {words[0]}: error: " in line
    assert message in line
    assert not list(Path().iterdir())


def test_cfg_prints_the_configuration_of_the_job(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("extract", "run=my run (2)", "--cfg", "job", "resolution=64") == 0
    text = capsys.readouterr().out
    assert "run: my run (2)" in text
    assert "resolution: 64" in text
    assert "hydra" not in text


@pytest.mark.parametrize("name", COMMANDS)
def test_cfg_needs_no_values(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(name, "--cfg", "job") == 0
    assert "hydra" not in capsys.readouterr().out


def test_a_configuration_of_ones_own_is_found_and_checked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "fine.yaml").write_text("defaults: [extract, _self_]\nresolution: 300\n")
    (tmp_path / "wrong.yaml").write_text("defaults: [extract, _self_]\nresolutionn: 300\n")
    assert run("extract", "-cd", tmp_path, "-cn", "fine", "run=x", "-c", "job") == 0
    assert "resolution: 300" in capsys.readouterr().out
    assert "unknown key resolutionn" in refuse(capsys, "extract", "-cd", tmp_path, "-cn", "wrong", "run=x")[1]


def test_extract_writes_every_shape_at_its_place_under_its_name(
    tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "my meshes (1)"
    assert run("extract", f"run={tiny_run}", f"out={out}", "resolution=24", "format=[obj,ply]") == 0
    assert last_line(capsys) == f"Results are in {out}"
    for name, radius in BALLS.items():
        for suffix in ("obj", "ply"):
            assert abs(radii_of(read_mesh(out / f"{name}.{suffix}")) - radius).max() < 0.05
    assert not list(Path().iterdir())


@pytest.mark.parametrize(
    ("shapes", "expected"),
    [
        ('["a=b [1]"]', ["a=b [1]"]),
        ("a=b [1]", ["a=b [1]"]),
        ("[a=b [1],plain]", ["a=b [1]", "plain"]),
        ("round/*", ["round/ball two"]),
        ("round/ball two", ["round/ball two"]),
        ("[pl*,round/ball two]", ["plain", "round/ball two"]),
        ("[0.5*a=b [1] + 0.5*round/ball two,plain]", ["0.5a=b__1_+0.5round_ball_two", "plain"]),
        ('"plain" - 0.1*"plain" + 0.1*"a=b [1]"', ["0.9plain+0.1a=b__1_"]),
    ],
)
def test_shapes_are_chosen_by_name_list_and_glob(
    tiny_run: Path, tmp_path: Path, shapes: str, expected: list[str]
) -> None:
    assert run("extract", f"run={tiny_run}", f"shapes={shapes}", f"out={tmp_path / 'out'}", "resolution=12") == 0
    written = [str(path.relative_to(tmp_path / "out"))[:-4] for path in (tmp_path / "out").rglob("*.obj")]
    assert sorted(written) == sorted(expected)


def test_a_sweep_gives_every_job_a_folder_of_its_own(tiny_run: Path, tmp_path: Path) -> None:
    assert run("extract", f"run={tiny_run}", "shapes=plain", f"out={tmp_path / 'sweep'}", "-m", "resolution=12,16") == 0
    for resolution in (12, 16):
        assert (tmp_path / "sweep" / f"resolution={resolution}" / "plain.obj").is_file()
    assert (tmp_path / "sweep" / "multirun.yaml").is_file()
    assert not list(Path().iterdir())


def test_a_sweep_over_places_writes_just_there(tiny_run: Path, tmp_path: Path) -> None:
    places = [tmp_path / "a", tmp_path / "b"]
    assert run("extract", f"run={tiny_run}", "shapes=plain", "resolution=12", f"out={places[0]},{places[1]}", "-m") == 0
    assert [sorted(path.name for path in place.iterdir()) for place in places] == [["extract.json", "plain.obj"]] * 2
    assert not list(Path().iterdir())


def test_a_sweep_whose_place_is_written_with_what_is_swept_writes_just_there(tiny_run: Path, tmp_path: Path) -> None:
    place = f"out={tmp_path}/at${{resolution}}"
    assert run("extract", f"run={tiny_run}", "shapes=plain", "-m", "resolution=12,16", place) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["at12", "at16", "here"]
    assert sorted(path.name for path in (tmp_path / "at12").iterdir()) == ["extract.json", "plain.obj"]


def test_a_sweep_whose_jobs_would_overwrite_each_other_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert "a sweep needs out=DIR" in refuse(capsys, "extract", "run=x", "-m", "resolution=12,16")[1]


def test_a_failing_job_of_a_sweep_does_not_stop_the_others(tiny_run: Path, tmp_path: Path) -> None:
    assert run("extract", f"run={tiny_run}", "shapes=nobody,plain", "resolution=12", f"out={tmp_path / 'o'}", "-m") == 1
    assert (tmp_path / "o" / "shapes=plain" / "plain.obj").is_file()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run=nowhere"], "no run at nowhere: there is no such folder. Give run=DIR"),
        (["run={run}", "shapes=plian"], "no shape is named 'plian'. Did you mean plain?"),
        (["run={run}", "shapes=[]"], "shapes is an empty list"),
        (["run={run}", "shapes=plain,a=b [1]"], "Several values need brackets: '[plain,a=b [1]]'"),
        (["run={run}", "shapes=[0.5*plain + 0.5*roundball]"], "no shape is named 'roundball'. Did you mean round/ball"),
        (["run={run}", "shapes=plain + a=b [1]"], "those of 'plain + a=b [1]' sum to 2 (divide them by 2 for a mean)"),
        (["run={run}", "out={run}/run.json/x"], "cannot make the folder"),
        (["run={run}", "out={run}/run.json"], "run.json is a file; give a folder"),
        (["run={run}", "device=cuda:77"], "device=cuda:77 is not here"),
    ],
)
def test_extract_says_in_one_line_what_is_wrong(
    tiny_run: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, line = refuse(capsys, "extract", *(word.format(run=tiny_run) for word in words))
    assert code == 1
    assert message in line


def test_a_shape_without_a_surface_is_an_error_that_says_what_values_it_had(
    tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(tiny_run, tmp_path / "empty")
    tensors, metadata = load_tensors(tmp_path / "empty" / "model.safetensors")
    tensors["decoder.head.bias"] = tensors["decoder.head.bias"] + 9
    save_tensors(tmp_path / "empty" / "model.safetensors", tensors, metadata=metadata)
    line = refuse(capsys, "extract", f"run={tmp_path / 'empty'}", "resolution=12")[1]
    assert re.search(
        r"3 of 3 shapes have no mesh. a=b \[1\] has no surface yet: train longer \(no surface at level 0: f", line
    )


def test_the_reasons_of_failures_end_in_one_full_stop_and_name_a_shape_once() -> None:
    failures = {"a": "Give a thickness, or close the mesh.", "b": "b has no surface yet"}
    told = str(some_failed(failures, 2, "shapes have no mesh", Path("out")))
    assert told == "2 of 2 shapes have no mesh. a: Give a thickness, or close the mesh; b has no surface yet."


def test_a_truncated_checkpoint_is_refused(tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(tiny_run, tmp_path / "cut")
    model = tmp_path / "cut" / "model.safetensors"
    model.write_bytes(model.read_bytes()[:1000])
    assert "is damaged" in refuse(capsys, "extract", f"run={tmp_path / 'cut'}")[1]


def test_a_run_of_another_version_is_refused(
    tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(tiny_run, tmp_path / "old")
    document = json.loads((tmp_path / "old" / "run.json").read_text())
    (tmp_path / "old" / "run.json").write_text(json.dumps(document | {"format": 99}))
    assert "has format 99" in refuse(capsys, "info", f"run={tmp_path / 'old'}")[1]


def test_info_says_what_a_run_holds(tiny_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("info", f"run={tiny_run}") == 0
    text = capsys.readouterr().out
    assert all(name in text for name in BALLS)
    assert re.search(r"decoder +volume, [\d,]+ weights, latent size 3", text)
    assert "200 steps" in text
    assert re.search(r"plain +9\.\d+ at \(1000, -20, 3\)", text), "radius and centre of a ball in its world"


def test_info_says_how_far_and_how_well_a_run_has_learned(
    tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "half"
    shutil.copytree(tiny_run, place)
    document = json.loads((place / "run.json").read_text())
    document |= {"plan": {"steps": 900}, "command": "sdfnet train run=half"}
    (place / "run.json").write_text(json.dumps(document))
    (place / "metrics.csv").write_text("step,surface_error_percent\n100,0.7\n150,0.25\n200,\n")
    total = {"mean": {"mean_percent": 0.5}, "worst": {"mean_percent": 0.9}}
    shapes = [{"quality": {}}, {"quality": {}}, {"quality": None}]
    report = {"totals": total, "shapes": shapes, "step": 180, "config": {"resolution": 64}}
    (place / "evaluation").mkdir()
    (place / "evaluation" / "evaluation.json").write_text(json.dumps(report))
    assert run("info", f"run={place}") == 0
    text = capsys.readouterr().out
    assert "200 of 900 planned steps; its command goes on: sdfnet train run=half" in text
    assert "surface error 0.250 % at step 150" in text
    assert "failed" not in text
    assert "surface distance 0.500 % in the mean, 0.900 % of the worst of 2 shapes, at step 180" in text
    signs = "step,surface_error_percent,wrong_inside_percent,wrong_outside_percent"
    (place / "metrics.csv").write_text(f"{signs}\n100,0.7,1,\n150,0.25,0.5,7.25\n200,,,\n")
    report["shapes"] = shapes[2:]
    (place / "evaluation" / "evaluation.json").write_text(json.dumps({**report, "totals": {"mean": {}, "worst": {}}}))
    (place / "model.safetensors").unlink()
    assert run("info", f"run={place}") == 0
    text = capsys.readouterr().out
    assert "failed    7.2 % of the signs beside the surfaces are wrong: train longer" in text
    assert "measured  no shape: none of the 1 could be measured" in text
    assert run("info", f"run={place}") == 0
    assert "0 of 900 planned steps" in capsys.readouterr().out


def test_a_decoder_that_nobody_knows_is_refused_by_the_name_of_the_file(
    tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(tiny_run, tmp_path / "other")
    document = json.loads((tmp_path / "other" / "run.json").read_text())
    document["config"]["decoder"]["kind"] = "nerf"
    (tmp_path / "other" / "run.json").write_text(json.dumps(document))
    line = refuse(capsys, "extract", f"run={tmp_path / 'other'}")[1]
    assert "run.json names a decoder that this sdfnet cannot build" in line
    assert "got 'nerf'" in line


def test_an_unexpected_error_is_one_line_and_a_traceback_on_request(
    tiny_run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sdfnet.cli.commands.extract.extract_run", lambda *arguments, **options: 1 / 0)
    code, line = refuse(capsys, "extract", f"run={tiny_run}")
    assert code == 1
    assert "unexpected ZeroDivisionError in extract.py, line" in line
    monkeypatch.setenv("SDFNET_DEBUG", "1")
    assert run("extract", f"run={tiny_run}") == 1
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize("error", [MemoryError("8 GiB"), RuntimeError("[enforce fail] can't allocate memory: 8 GiB")])
def test_a_full_memory_names_the_keys_to_lower(
    error: Exception, tiny_run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*arguments: object, **options: object) -> None:
        raise error

    monkeypatch.setattr("sdfnet.cli.commands.extract.extract_run", full)
    code, line = refuse(capsys, "extract", f"run={tiny_run}")
    assert code == 1
    assert line.startswith(f"sdfnet extract: error: the memory is full ({error}). Lower resolution, ")


def test_an_interrupt_says_what_is_left_and_exits_with_130(
    tiny_run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("sdfnet.cli.commands.extract.extract_run", interrupt)
    assert run("extract", f"run={tiny_run}") == 130
    assert "interrupted. The meshes written so far are whole, in" in capsys.readouterr().err


def test_completion_knows_commands_keys_and_groups(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = {
        "sdfnet ext": {"extract"},
        "sdfnet extract res": {"resolution="},
        "sdfnet extract --mul": {"--multirun"},
        "sdfnet sample sampler=": {"sampler=deepsdf", "sampler=default"},
        "sdfnet sample meshes=x sampler.volume_": {"sampler.volume_share="},
        "sdfnet nothing r": set(),
    }
    for line, words in expected.items():
        monkeypatch.setenv("COMP_LINE", line)
        assert run("-sc", "query=bash") == 0
        assert set(capsys.readouterr().out.split()) == words, line
    assert run("--shell-completion", "install=bash") == 0
    assert "complete -o nospace" in capsys.readouterr().out
    assert run("--shell-completion", "install=dos") == 2


def test_completion_offers_no_group_of_another_command(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COMP_LINE", "sdfnet extract ")
    assert run("-sc", "query=bash") == 0
    found = capsys.readouterr().out.split()
    assert "run=" in found
    assert not [word for word in found if word.startswith(("hydra", "schema", "sampler", "decoder", "program"))]


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_is_called_what_the_catalogue_says(name: str) -> None:
    assert load_command(name).name == name


@pytest.mark.parametrize("words", [["--help"], ["--version"], *([name, "--help"] for name in COMMANDS)])
def test_help_imports_neither_torch_nor_any_component(words: list[str]) -> None:
    loaded = loaded_modules(words)
    assert not loaded & {"torch", "numpy", "trimesh", "tqdm"}
    parts = {name.split(".")[1] for name in loaded if name.startswith("sdfnet.")}
    assert parts <= {"cli"}
    assert not [name for name in loaded if name.startswith("sdfnet.cli.commands.")]
    assert ("hydra" in loaded) == (len(words) > 1)


@pytest.mark.parametrize("line", ["sdfnet ", "sdfnet train res", "sdfnet sample sampler=", "sdfnet morph --c"])
def test_completion_imports_neither_torch_nor_any_component(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMP_LINE", line)
    loaded = loaded_modules(["-sc", "query=bash"])
    assert not loaded & {"torch", "numpy", "trimesh", "tqdm"}
    assert {name.split(".")[1] for name in loaded if name.startswith("sdfnet.")} == {"cli"}


def test_info_imports_no_torch(tiny_run: Path) -> None:
    loaded = loaded_modules(["info", f"run={tiny_run}"])
    assert not loaded & {"torch", "trimesh", "skimage", "safetensors"}
    assert "sdfnet.cli.commands.info" in loaded


def loaded_modules(words: list[str]) -> set[str]:
    """Run the program in a process of its own and return the names of all modules that it loaded."""
    program = (
        "import contextlib, io, sys; from sdfnet.cli.main import main\n"
        f"with contextlib.redirect_stdout(io.StringIO()): code = main({words!r})\n"
        "print(*sys.modules); sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True, timeout=60)
    return set(done.stdout.split())


def test_training_from_samples_starts_without_what_only_meshes_need() -> None:
    program = (
        "import gc, sys; from sdfnet.cli.hydra_app.command import load_command; load_command('train');"
        "assert gc.isenabled();"
        "print(sorted({'scipy', 'igl', 'trimesh', 'numba', 'skimage', 'pyrender'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


def test_the_module_is_the_program(tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "sdfnet", "info", "run=nowhere"],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert result.returncode == 1
    assert result.stderr.startswith("sdfnet info: error: no run at nowhere")
    assert len(result.stderr.strip().splitlines()) == 1
