"""A run directory gives back what was saved, moves freely, and is refused in one line when damaged."""

from __future__ import annotations

import json
import shutil

import pytest
import torch

from sdfnet.decoders import SirenConfig, build_decoder
from sdfnet.geometry.similarity import Similarity
from sdfnet.runs import MODEL_FILE, RUN_FILE, RunShape, load_run, save_document, save_model, select_shapes

NAMES = ("a b", "sub/c=[1]")


@pytest.fixture
def saved(tmp_path):
    torch.manual_seed(0)
    decoder = build_decoder(SirenConfig(latent_size=4, width=8))
    latents = torch.randn(2, 4)
    shapes = [
        RunShape(
            name, Similarity([1e6 + 0.1, -3, 1 / 3], 0.1 + k), f"{name}.obj", f"hash{k}", k == 0, num_surfaces=1 + k
        )
        for k, name in enumerate(NAMES)
    ]
    directory = tmp_path / "run"
    config = {"decoder": {"kind": "siren", "latent_size": 4, "width": 8}}
    save_document(directory, {"config": config}, shapes)
    save_model(directory, decoder_state=decoder.state_dict(), latents=latents, step=7)
    return directory, decoder, latents, shapes


def test_saving_and_loading_a_moved_run_changes_nothing(saved, tmp_path):
    directory, decoder, latents, shapes = saved
    moved = tmp_path / "elsewhere" / "moved"
    shutil.copytree(directory, moved)
    shutil.rmtree(directory)
    run = load_run(moved)
    assert run.names == NAMES
    assert run.step == 7
    assert torch.equal(run.latents, latents)
    for name, shape in zip(NAMES, shapes, strict=True):
        assert run.similarity(name).center.tolist() == shape.similarity.center.tolist()
        assert run.similarity(name).scale == shape.similarity.scale
        assert run.shape(name).closed == shape.closed
        assert run.shape(name).num_surfaces == shape.num_surfaces
    points = torch.rand(10, 3)
    expected = decoder(points[None], latents[1:2])[0]
    torch.testing.assert_close(run.field(NAMES[1])(points), expected)


def test_a_run_never_contains_a_pickle(saved):
    directory, *_ = saved
    assert {path.name for path in directory.iterdir()} == {RUN_FILE, MODEL_FILE}
    json.loads((directory / RUN_FILE).read_text())


def test_loading_leaves_the_global_generator_alone(saved):
    directory, *_ = saved
    before = torch.get_rng_state()
    load_run(directory)
    assert torch.equal(before, torch.get_rng_state())


def test_missing_and_unfinished_runs_are_named(saved, tmp_path):
    directory, *_ = saved
    with pytest.raises(ValueError, match=r"no run at .*nowhere: there is no such folder\. Give run=DIR"):
        load_run(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="it is not a folder"):
        load_run(directory / RUN_FILE)
    with pytest.raises(ValueError, match=f"holds no {RUN_FILE}"):
        load_run(tmp_path)
    (directory / MODEL_FILE).unlink()
    with pytest.raises(ValueError, match="has no weights yet"):
        load_run(directory)


@pytest.mark.parametrize("keep", [0, 4, 200, -1])
def test_a_truncated_model_is_refused_by_name(saved, keep):
    directory, *_ = saved
    path = directory / MODEL_FILE
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ValueError, match=f"{MODEL_FILE} is damaged"):
        load_run(directory)


def test_another_format_and_broken_json_are_refused(saved):
    directory, *_ = saved
    path = directory / RUN_FILE
    document = json.loads(path.read_text())
    path.write_text(json.dumps(document | {"format": 99}))
    with pytest.raises(ValueError, match="has format 99, but this sdfnet reads format 1"):
        load_run(directory)
    path.write_text(path.read_text()[:-20])
    with pytest.raises(ValueError, match=f"{RUN_FILE} is damaged"):
        load_run(directory)
    path.write_text(json.dumps({"format": 1, "config": {}, "shapes": [{"name": "x"}]}))
    with pytest.raises(ValueError, match=f"{RUN_FILE} is damaged"):
        load_run(directory)


def test_weights_of_another_run_are_refused(saved):
    directory, decoder, latents, _ = saved
    save_model(directory, decoder_state=decoder.state_dict(), latents=latents[:1], step=7)
    with pytest.raises(ValueError, match="files of two runs mixed"):
        load_run(directory)


def test_unknown_names_offer_close_ones(saved):
    run = load_run(saved[0])
    with pytest.raises(ValueError, match=r"no shape is named 'a  b'. Did you mean a b"):
        run.latent("a  b")


def test_selection_takes_any_normal_form_of_unicode():
    composed, decomposed = "st\u00fchle", "stu\u0308hle"
    for name, pattern in ((composed, decomposed), (decomposed, composed)):
        assert select_shapes(["b", name], pattern) == [name]
        assert select_shapes(["b", name + "_1"], f"{pattern}_*") == [name + "_1"]
    assert select_shapes([composed, decomposed], [decomposed]) == [decomposed]


def test_selection_takes_exact_names_before_globs_and_keeps_order():
    names = ["x", "chair_1", "chair_2", "chair_[1]", "a/b"]
    assert select_shapes(names, "all") == names
    assert select_shapes(names, ["chair_[1]"]) == ["chair_[1]"]
    assert select_shapes(names, ["a/*", "chair_?", "x"]) == ["a/b", "chair_1", "chair_2", "x"]
    assert select_shapes(["all", "b"], "all") == ["all", "b"]
    assert select_shapes(["all", "b"], ["all"]) == ["all"]
    with pytest.raises(ValueError, match="empty list"):
        select_shapes(names, [])
    with pytest.raises(ValueError, match=r"no shape is named 'a/b,x'\. Several values need brackets: '\[a/b,x\]'"):
        select_shapes(names, "a/b,x")
    with pytest.raises(ValueError, match="Did you mean chair_1"):
        select_shapes(names, "chair1")
