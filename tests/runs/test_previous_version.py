"""What the last version wrote opens: a run, a sample store and a morph, kept in `tests/previous/`."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from sdfnet.decoders import TemplateConfig, VolumeConfig
from sdfnet.decoders.registry import recorded_decoder_config
from sdfnet.extraction import extract_mesh
from sdfnet.morphs import MorphConfig, make_morph
from sdfnet.runs import load_run
from sdfnet.sampling import SampleStore
from sdfnet.solids.rule import SolidRule
from sdfnet.training import TrainingConfig
from sdfnet.training.checkpoint import with_earlier_defaults

PREVIOUS = Path(__file__).parent.parent / "previous"


def test_a_run_gives_its_shapes_in_their_places() -> None:
    run = load_run(PREVIOUS / "run")
    assert run.names == ("large", "small")
    for name in run.names:
        similarity = run.similarity(name)
        mesh = extract_mesh(run.field(name), resolution=32, similarity=similarity)
        assert np.linalg.norm(mesh.vertices.mean(axis=0) - similarity.center) < 0.3 / similarity.scale


def test_a_sample_store_opens_with_its_shapes() -> None:
    store = SampleStore(PREVIOUS / "samples")
    assert store.names == ("large", "small")
    assert store.rule == SolidRule("winding")
    assert {shape.rule for shape in load_run(PREVIOUS / "run").shapes} == {SolidRule("winding")}


def test_a_finished_morph_is_left_as_it_is(tmp_path: Path) -> None:
    folder = shutil.copytree(PREVIOUS / "morph", tmp_path / "morph")
    before = {path.name: path.read_bytes() for path in folder.glob("frame_*.obj")}
    config = MorphConfig(frames=3, resolution=24, width=64, height=64, format=("obj",))
    result = make_morph(load_run(PREVIOUS / "run"), ["small", "large"], folder, config=config)
    assert result.num_skipped == result.num_frames == 3
    assert {path.name: path.read_bytes() for path in folder.glob("frame_*.obj")} == before


def test_another_morph_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    folder = shutil.copytree(PREVIOUS / "morph", tmp_path / "morph")
    config = MorphConfig(frames=4, resolution=24, width=64, height=64, format=("obj",))
    with pytest.raises(ValueError, match=r"holds another morph: frames is 3 there and 4 now"):
        make_morph(load_run(PREVIOUS / "run"), ["small", "large"], folder, config=config)


def test_a_run_without_the_options_of_today_has_the_values_that_it_had() -> None:
    run = load_run(PREVIOUS / "run")
    assert "lookup" not in run.document["config"]["decoder"]
    points = 2 * torch.rand(5, 3, generator=torch.Generator().manual_seed(0)) - 1
    then = [-5.800954e-04, -6.650240e-04, -5.166151e-04, -8.715468e-05, -2.507225e-05]
    torch.testing.assert_close(run.field("large")(points), torch.tensor(then), rtol=0, atol=1e-7)


def test_the_command_that_began_a_run_finishes_it_with_the_defaults_of_its_time() -> None:
    decoder, config = with_earlier_defaults(PREVIOUS / "run", VolumeConfig(), TrainingConfig(normal_weight=0.5))
    assert decoder == VolumeConfig(latent_size=64, lookup="linear", activation="relu")
    assert (config.prior_weight, config.prior_warmup_steps, config.gradient_points) == (1e-4, 0, 1024)
    assert config.normal_weight == 0.5  # was asked for
    chosen = VolumeConfig(latent_size=32)
    assert with_earlier_defaults(PREVIOUS / "run", chosen, config)[0].latent_size == 32


def test_a_template_of_earlier_places_no_shapes_and_keeps_the_weights_of_its_prior(tmp_path: Path) -> None:
    folder = shutil.copytree(PREVIOUS / "run", tmp_path / "run")
    document = json.loads((folder / "run.json").read_text())
    document["config"]["decoder"] = {"kind": "template", "latent_size": 256}
    document["config"]["training"] |= {"prior_weight": 1e-2, "prior_warmup_steps": 600, "normal_weight": 1e-2}
    document["config"]["training"] |= {"normal_start": 0.6, "gradient_points": 256}
    (folder / "run.json").write_text(json.dumps(document))
    then = TemplateConfig(placed=False, inverse_steps=1)
    assert recorded_decoder_config(document["config"]["decoder"]) == then
    decoder, config = with_earlier_defaults(folder, TemplateConfig(), TrainingConfig())
    assert (decoder, config) == (then, TrainingConfig())
