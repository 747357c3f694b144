"""Training learns, repeats exactly, resumes exactly, and refuses to mix configurations."""

from __future__ import annotations

import json
import math
import os
import re
import signal
from dataclasses import replace

import numpy as np
import pytest
import torch
from exact_spheres import SphereDecoder

from sdfnet.cli.main import main
from sdfnet.decoders import DeepSDFConfig, SirenConfig, VolumeConfig
from sdfnet.extraction import extract_mesh
from sdfnet.fields import Box, NeuralField, Sphere, gradient
from sdfnet.mesh.io.write import save_mesh
from sdfnet.runs import MODEL_FILE, Run, load_run
from sdfnet.sampling import SamplerConfig, SampleStore, prepare_samples
from sdfnet.training import TrainingConfig, TrainingInterrupted, metrics, train, trainer, verdict
from sdfnet.training.metrics import save_preview

DECODER = VolumeConfig(latent_size=8, channels=(16, 8, 8), base_resolution=4, width=16)
FAST = TrainingConfig(
    steps=30, batch_shapes=2, batch_points=512, previews=0, evaluations=3, precision="float32", prior_weight=1e-4
)
"""Three shapes that have nothing in common need far codes, so the prior is weak."""


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> SampleStore:
    """Samples of a sphere, a box and a small sphere."""
    folder = tmp_path_factory.mktemp("training")
    for name, field in [
        ("ball", Sphere(radius=2.0)),
        ("box", Box([1.0, 1.0, 0.5])),
        ("pea", Sphere(radius=0.1)),
    ]:
        save_mesh(extract_mesh(field, resolution=24), folder / "meshes" / f"{name}.obj")
    config = SamplerConfig(num_samples=20_000, num_surface=2_000, num_heldout=500)
    return prepare_samples(folder / "meshes", folder / "samples", config=config, num_workers=1, progress=False).store


def _files(directory):
    return {name: (directory / name).read_bytes() for name in (MODEL_FILE, "metrics.csv")}


@pytest.fixture(scope="module")
def learned(store, tmp_path_factory) -> Run:
    """A run that has learned the three shapes, with a preview drawn at its end."""
    config = TrainingConfig(
        steps=300, batch_shapes=3, batch_points=1024, previews=1, evaluations=2, prior_weight=FAST.prior_weight
    )
    return train(tmp_path_factory.mktemp("learned"), store, decoder=DECODER, config=config, progress=False)


def test_a_tiny_decoder_learns_the_shapes_and_both_signs(store, learned):
    assert [shape.num_surfaces for shape in learned.shapes] == [1, 1, 1]  # the run knows what its sources had
    for name, index in zip(store.names, range(3), strict=True):
        points = torch.from_numpy(store.heldout(index)[:, :3])
        with torch.no_grad():
            assert learned.field(name)(points).abs().mean() < 0.006
        samples = torch.from_numpy(store.read(index, 0, 5000))
        clear = samples[samples[:, 3].abs() > 0.02]
        with torch.no_grad():
            right = learned.field(name)(clear[:, :3]).sign() == clear[:, 3].sign()
        assert right.float().mean() > 0.995
    last = (learned.directory / "metrics.csv").read_text().splitlines()[-1].split(",")
    assert last[0] == "300"
    assert float(last[-3]) < 0.6
    assert max(float(share) for share in last[-2:]) < 5


def test_a_preview_is_drawn(learned):
    assert [path.name for path in (learned.directory / "previews").iterdir()] == ["step_0000300.png"]


def test_a_shape_without_a_surface_so_far_is_left_out_of_the_preview(tmp_path, caplog):
    with caplog.at_level("INFO", logger="sdfnet"):
        save_preview(SphereDecoder(), torch.tensor([[0.0, 0.0, 0.0, -1.0]]), ("empty",), tmp_path / "none.png")
    (told,) = caplog.messages
    assert told.startswith("no preview of empty: it has no surface yet (no surface at level 0: field is in [1.0")
    assert told.endswith("])")
    assert not (tmp_path / "none.png").exists()


def test_two_seeded_runs_agree_exactly_and_another_seed_differs(store, tmp_path):
    for name, seed in [("a", 0), ("b", 0), ("c", 1)]:
        config = TrainingConfig(**{**vars(FAST), "seed": seed})
        train(tmp_path / name, store, decoder=DECODER, config=config, progress=False)
    assert _files(tmp_path / "a") == _files(tmp_path / "b")
    assert _files(tmp_path / "a") != _files(tmp_path / "c")


@pytest.mark.parametrize("decoder", [DECODER, DeepSDFConfig(latent_size=8, width=32)], ids=["volume", "deepsdf"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_killed_and_resumed_run_equals_an_undisturbed_one(store, tmp_path, monkeypatch, decoder, precision):
    config = TrainingConfig(**{**vars(FAST), "steps": 16, "checkpoint_seconds": 1e-9, "precision": precision})
    train(tmp_path / "whole", store, decoder=decoder, config=config, progress=False)
    step = trainer.train_step
    for stop in (5, 11):

        def dies(state, *args, stop=stop, **options):
            if state.step == stop:
                raise RuntimeError("killed")
            return step(state, *args, **options)

        monkeypatch.setattr(trainer, "train_step", dies)
        with pytest.raises(RuntimeError, match="killed"):
            train(tmp_path / "torn", store, decoder=decoder, config=config, progress=False)
    monkeypatch.setattr(trainer, "train_step", step)
    torch.manual_seed(123)  # the caller's generator must not matter
    train(tmp_path / "torn", store, decoder=decoder, config=config, progress=False)
    assert _files(tmp_path / "whole") == _files(tmp_path / "torn")


def test_ctrl_c_saves_says_how_to_go_on_and_resumes_exactly(store, tmp_path, monkeypatch):
    train(tmp_path / "whole", store, decoder=DECODER, config=FAST, progress=False)
    step = trainer.train_step

    def interrupted(state, *args, **options):
        if state.step == 13:
            os.kill(os.getpid(), signal.SIGINT)
        return step(state, *args, **options)

    monkeypatch.setattr(trainer, "train_step", interrupted)
    with pytest.raises(TrainingInterrupted, match=r"stopped at step 14 of 30.*Repeat the same command"):
        train(tmp_path / "torn", store, decoder=DECODER, config=FAST, progress=False)
    assert load_run(tmp_path / "torn").step == 14
    monkeypatch.setattr(trainer, "train_step", step)
    train(tmp_path / "torn", store, decoder=DECODER, config=FAST, progress=False)
    assert _files(tmp_path / "whole") == _files(tmp_path / "torn")


def test_training_leaves_the_callers_generator_alone(store, tmp_path):
    before = torch.get_rng_state()
    train(tmp_path, store, decoder=DECODER, config=FAST, progress=False)
    assert torch.equal(before, torch.get_rng_state())


def test_another_configuration_is_refused_by_naming_the_difference(store, tmp_path):
    train(tmp_path, store, decoder=DECODER, config=FAST, progress=False)
    changed = TrainingConfig(**{**vars(FAST), "clamp_distance": 0.2})
    with pytest.raises(ValueError, match=r"training\.clamp_distance is 0\.05 there and 0\.2 now"):
        train(tmp_path, store, decoder=DECODER, config=changed, progress=False)
    with pytest.raises(ValueError, match=r'shapes is \["ball", "box", "pea"\] there and \["ball", "box"\] now'):
        train(tmp_path, store, decoder=DECODER, config=FAST, holdout=["pea"], progress=False)
    before = _files(tmp_path)
    train(tmp_path, store, decoder=DECODER, config=FAST, progress=False)
    assert _files(tmp_path) == before


def test_budget_and_steps_mean_the_same_from_python_as_from_the_command_line(store, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(metrics, "_failure", lambda *_: "")  # Three steps teach nothing.
    tiny = [
        "decoder=volume",
        "decoder.channels=[16,8,8]",
        "decoder.width=16",
        "decoder.latent_size=8",
        "training.previews=0",
    ]
    words = [f"samples={store.directory}", f"run={tmp_path / 'line'}", "device=cpu", "training.batch_points=512"]
    assert main(["train", *words, *tiny, "steps=3"]) == 0
    config = TrainingConfig(batch_points=512, previews=0)
    run = train(tmp_path / "python", store.directory, decoder=DECODER, config=config, steps=3, progress=False)
    assert _files(tmp_path / "line") == _files(tmp_path / "python")
    written = [json.loads((tmp_path / name / "run.json").read_text()) for name in ("line", "python")]
    assert written[0]["config"] == written[1]["config"]
    assert f"{len(run.shapes)} shapes learned in 3 steps" in capsys.readouterr().out
    config = TrainingConfig(batch_points=512, previews=0, steps=3)
    run = train(tmp_path / "timed", store, decoder=DECODER, config=config, budget="0.001s", progress=False)
    assert run.step == 40
    assert run.document["config"]["training"]["budget"] == "0.001s"
    with pytest.raises(ValueError, match="give budget or steps, not both, got budget='1min' and steps=3"):
        train(tmp_path / "both", store, budget="1min", steps=3)


def test_without_a_name_the_decoder_is_that_of_the_run_to_continue_or_start_from(store, tmp_path):
    config = TrainingConfig(batch_points=64, batch_shapes=2, previews=0, evaluations=1, steps=2)
    chosen = train(tmp_path / "chosen", store, config=replace(config, steps=1), progress=False)
    assert chosen.document["config"]["decoder"]["kind"] == "template"  # A box shares enough with balls of its size.
    named = train(tmp_path / "named", store, decoder=SirenConfig(width=8, latent_size=4), config=config, progress=False)
    again = train(tmp_path / "named", store, config=config, progress=False)
    after = train(tmp_path / "after", store, init=tmp_path / "named", config=config, progress=False)
    assert {run.document["config"]["decoder"]["kind"] for run in (named, again, after)} == {"siren"}


def test_held_out_shapes_have_no_code(store, tmp_path):
    run = train(tmp_path, store, decoder=DECODER, config=FAST, holdout=["p*"], progress=False)
    assert run.names == ("ball", "box")
    with pytest.raises(ValueError, match="all of them held out"):
        train(tmp_path / "none", store, decoder=DECODER, config=FAST, holdout=["*"], progress=False)


def test_init_starts_from_another_run_and_adds_shapes(store, tmp_path):
    first = train(tmp_path / "two", store, decoder=DECODER, config=FAST, holdout=["pea"], progress=False)
    still = TrainingConfig(**{**vars(FAST), "steps": 1, "learning_rate": 1e-12, "latent_learning_rate": 1e-12})
    run = train(tmp_path / "three", store, decoder=DECODER, config=still, init=tmp_path / "two", progress=False)
    assert run.names == ("ball", "box", "pea")
    points = torch.rand(20, 3)
    for name in first.names:
        torch.testing.assert_close(run.field(name)(points), first.field(name)(points), atol=1e-5, rtol=0)
    other = VolumeConfig(latent_size=8, channels=(16, 8, 4), base_resolution=4, width=16)
    with pytest.raises(ValueError, match="has another decoder"):
        train(tmp_path / "other", store, decoder=other, config=FAST, init=tmp_path / "two", progress=False)


def test_a_saved_state_needs_the_run_it_started_from_no_more_and_other_versions_are_said(store, tmp_path, caplog):
    train(tmp_path / "first", store, decoder=DECODER, config=FAST, progress=False)
    options = {"decoder": DECODER, "config": FAST, "init": tmp_path / "first", "progress": False}
    train(tmp_path / "next", store, **options)
    document = json.loads((tmp_path / "next" / "run.json").read_text())
    document["plan"]["steps"] += 2
    document["versions"]["threads"] = 777
    (tmp_path / "next" / "run.json").write_text(json.dumps(document))
    (tmp_path / "first").rename(tmp_path / "gone")
    run = train(tmp_path / "next", store, **options)
    assert run.step == 32
    assert f"threads was 777, is {torch.get_num_threads()}" in caplog.text


def test_gradient_terms_lower_what_they_measure(store, tmp_path):
    def gradient_errors(name, **weights):
        config = TrainingConfig(**{**vars(FAST), "steps": 100, "gradient_points": 128, "normal_start": 0.0, **weights})
        train(tmp_path / name, store, decoder=DECODER, config=config, progress=False)
        row = (tmp_path / name / "metrics.csv").read_text().splitlines()
        return dict(zip(row[0].split(","), row[-1].split(","), strict=True))

    weak = {"eikonal_weight": 1e-9, "normal_weight": 1e-9}
    without = gradient_errors("without", **weak)
    for term in ("eikonal", "normal"):
        alone = gradient_errors(term, **{**weak, f"{term}_weight": 0.1})
        assert float(alone[term]) < 0.5 * float(without[term])


def test_the_normal_term_begins_at_its_share_of_the_steps(store, tmp_path):
    options = {**vars(FAST), "gradient_points": 16, "normal_weight": 0.01, "evaluations": 1}
    late = TrainingConfig(**{**options, "steps": 10, "normal_start": 0.6})
    train(tmp_path / "late", store, decoder=DECODER, config=late, progress=False)
    rows = (tmp_path / "late" / "metrics.csv").read_text().splitlines()
    column = rows[0].split(",").index("normal")
    assert [bool(row.split(",")[column]) for row in rows[1:]] == [False] * 6 + [True] * 4


def test_a_normal_term_without_points_on_the_surface_is_refused(store, tmp_path):
    sampler = SamplerConfig(num_samples=1000, num_surface=0, num_heldout=10)
    options = {"config": sampler, "shapes": "pea", "num_workers": 1, "progress": False}
    bare = prepare_samples(store.meshes, tmp_path / "samples", **options).store
    with pytest.raises(
        ValueError, match=r"normal_weight=0\.03 needs points on the surface, but the samples in .* have"
    ):
        train(tmp_path / "run", bare, decoder=DECODER, config=FAST, progress=False)
    flat = TrainingConfig(**{**vars(FAST), "normal_weight": 0.0, "steps": 1, "batch_shapes": 1})
    assert train(tmp_path / "run", bare, decoder=DECODER, config=flat, progress=False).step == 1


def test_a_diverged_training_says_so(store, tmp_path):
    config = TrainingConfig(**{**vars(FAST), "learning_rate": 1e30})
    with pytest.raises(ValueError, match=r"diverged. Lower training.learning_rate \(it is 1e\+30\)"):
        train(tmp_path, store, decoder=DECODER, config=config, progress=False)


def test_a_damaged_state_is_refused_by_name(store, tmp_path):
    train(tmp_path, store, decoder=DECODER, config=FAST, progress=False)
    path = tmp_path / "state.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"state\.safetensors is damaged"):
        train(tmp_path, store, decoder=DECODER, config=FAST, progress=False)


def test_the_verdict_names_the_error_the_worst_shape_and_what_to_do(store, learned, monkeypatch):
    errors = {}
    for index, name in enumerate(learned.names):
        points = torch.from_numpy(store.heldout(index)[:, :3])
        slope = gradient(learned.field(name), points).norm(dim=1).clamp(min=0.1)
        with torch.no_grad():
            errors[name] = float((learned.field(name)(points).abs() / slope).mean()) * 103
    mean, worst = sum(errors.values()) / 3, max(errors, key=errors.get)
    first, second, third = verdict(learned, store).text.splitlines()
    assert mean < 0.3
    words = "fine, very close to the sources" if mean <= 0.1 else "fair, close to the sources"
    assert first == f"3 shapes learned in 300 steps: {words}."
    assert second == (
        f"Surface error: {mean:.3f} % of the radius on average, {errors[worst]:.3f} % for the worst shape, {worst} "
        "(mean distance from 500 held-out points on each shape's surface to the learned surface)."
    )
    assert f"(steps=1200 instead of 300; init={learned.directory} starts from this one)" in third
    assert "experiment=fine" in third
    assert third.endswith(f"sdfnet evaluate run={learned.directory}")
    run = load_run(learned.directory)
    run.document["config"]["training"] |= {"steps": None, "budget": "5min"}
    run.document["config"]["decoder"]["channels"] = [128, 64, 32, 16, 8]
    monkeypatch.setattr(metrics, "_failure", lambda *_: "")  # So far off, the signs are wrong.
    with torch.no_grad():
        run.decoder.head.bias.add_(0.004)
    first, second, why, third = verdict(run, store).text.splitlines()
    assert first.endswith("coarse, detail is missing.")
    mean = float(re.search(r"([\d.]+) % of the radius on average", second)[1])
    factor = 2 * math.ceil((mean / 0.3) ** 1.25)
    assert why == (
        "Why: The decoder or the steps are too few for these shapes. "
        f"About budget={5 * factor}min instead of 5min would make it fair."
    )
    assert "budget=20min instead of 5min" in third
    assert "experiment=fine" not in third


@pytest.mark.parametrize("sign", [1, -1])
def test_a_training_whose_field_has_one_sign_has_failed_however_near_0_it_is(store, tmp_path, sign):
    run = train(tmp_path, store, decoder=DECODER, config=FAST, steps=1, progress=False)
    with torch.no_grad():
        for parameter in run.decoder.parameters():
            parameter.mul_(1e-4)
        run.decoder.head.bias.fill_(sign * 1e-4)
    points = torch.from_numpy(store.heldout(0)[:, :3])
    with torch.no_grad():
        assert (run.field("ball")(points).abs() < 3e-3).all(), "near 0 everywhere: the surface error alone is small"
    found = verdict(run, store)
    assert found.has_failed
    assert found.text == (
        "the training has failed after 1 steps: ball and 2 more have no surface yet. Train longer (steps=4 instead of "
        f"1) into a new run; init={tmp_path} starts from this one"
    )


def test_one_shape_without_a_surface_is_a_failure(store, learned, monkeypatch):
    run = load_run(learned.directory)
    run.document["config"]["training"] |= {"steps": None, "budget": "90s"}

    def field_of(decoder, code):
        field = NeuralField(decoder, code)
        return (lambda points: field(points).abs()) if torch.equal(code, run.latent("box")) else field

    monkeypatch.setattr(metrics, "NeuralField", field_of)
    found = verdict(run, store)
    assert found.has_failed
    assert "box has no surface yet. Train longer (budget=360s instead of 90s)" in found.text
    assert "close to" not in found.text


def test_wrong_signs_close_to_the_surface_are_counted_on_each_side(store, learned):
    """All shapes that are smaller by 0.03 have wrong signs just inside the true surface, and none outside."""
    indices = tuple(range(3))
    assert max(metrics.wrong_signs(learned.decoder, learned.latents, store, indices).values()) < 5
    run = load_run(learned.directory)
    with torch.no_grad():
        run.decoder.head.bias.add_(0.03)
    found = metrics.wrong_signs(run.decoder, run.latents, store, indices)
    assert found["wrong_inside_percent"] > 90
    assert found["wrong_outside_percent"] < 1
    worse = verdict(run, store)
    assert worse.has_failed
    assert (
        f"{found['wrong_inside_percent']:.1f} % of the signs just inside the surfaces are wrong (at most 5 %)"
        in str(worse)
    )


def test_a_side_with_few_samples_close_to_the_surface_does_not_count(store, learned, monkeypatch):
    indices = tuple(range(3))
    counts = metrics._count_signs(learned.decoder, learned.latents, store, indices, at_most=24).values()
    inside, outside = (sum(sides[k].near for sides in counts) for k in (0, 1))
    assert inside != outside
    monkeypatch.setattr(metrics, "_FEWEST_SIGNS", max(inside, outside))
    counted = metrics.wrong_signs(learned.decoder, learned.latents, store, indices)
    assert list(counted) == ["wrong_inside_percent" if inside > outside else "wrong_outside_percent"]


def test_one_shape_with_most_signs_wrong_beside_its_surface_is_a_failure(store, learned, monkeypatch):
    good, bad = metrics.SideSigns(9000, 0, 9000, 0), metrics.SideSigns(300, 280, 2000, 900)
    monkeypatch.setattr(metrics, "_count_signs", lambda *_, **__: {0: (good, good), 1: (good, bad), 2: (good, good)})
    found = verdict(learned, store)
    assert found.has_failed
    assert "most signs beside the surface of box are wrong" in found.text


def test_an_earlier_metrics_file_without_the_columns_of_signs_goes_on(tmp_path):
    (tmp_path / "metrics.csv").write_text(
        "step,loss,sdf,prior,eikonal,normal,learning_rate,surface_error_percent\n5,1,1,,,,0.1,0.7\n"
    )
    with metrics.Recorder(tmp_path, step=5) as recorder:
        assert recorder.surface_error == 0.7
        recorder.write(6, {"loss": 0.5, "wrong_inside_percent": 2.0})
    header, first, second = (line.split(",") for line in (tmp_path / "metrics.csv").read_text().splitlines())
    assert header[-2:] == ["wrong_inside_percent", "wrong_outside_percent"]
    assert first == ["5", "1", "1", "", "", "", "0.1", "0.7", "", ""]
    assert second == ["6", "0.5", "", "", "", "", "", "", "2", ""]


def test_the_verdict_without_held_out_points_says_how_to_measure(store, learned, monkeypatch):
    monkeypatch.setattr(SampleStore, "heldout", lambda self, index: np.zeros((0, 6), dtype=np.float32))
    assert "hold no held-out points (sampler.num_heldout=0)" in verdict(learned, store).text


def test_a_run_that_another_process_trains_is_refused(store, tmp_path):
    (tmp_path / ".lock").write_text("77\nfar\n")
    with pytest.raises(ValueError, match=f"run={tmp_path} is in use: process 77 on the machine far is training there"):
        train(tmp_path, store, decoder=DECODER, config=FAST, progress=False)
    (tmp_path / ".lock").unlink()
    (tmp_path / ".0123456789ab.partial.safetensors").write_bytes(b"of a killed process")
    train(tmp_path, store, decoder=DECODER, config=TrainingConfig(**{**vars(FAST), "steps": 1}), progress=False)
    assert not list(tmp_path.glob(".*"))
