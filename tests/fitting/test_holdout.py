"""Two trainings: one that holds out a tenth of the shapes to measure, and one that learns all in as many steps."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sdfnet.decoders import VolumeConfig
from sdfnet.extraction import extract_mesh
from sdfnet.fields import Sphere
from sdfnet.fitting import holdout
from sdfnet.fitting.holdout import choose_holdout, train_with_holdout
from sdfnet.mesh.io.write import save_mesh
from sdfnet.sampling import SamplerConfig, SampleStore, prepare_samples
from sdfnet.training import TrainingConfig

NAMES = [f"{number:02d}" for number in range(20)]


@pytest.fixture
def store(tmp_path: Path) -> SampleStore:
    for number, name in enumerate(NAMES):
        save_mesh(extract_mesh(Sphere(0.5 + 0.02 * number), resolution=10), tmp_path / "meshes" / f"{name}.ply")
    config = SamplerConfig(num_samples=400, num_surface=10, num_heldout=50)
    return prepare_samples(
        tmp_path / "meshes", tmp_path / "samples", config=config, normalize="shared", num_workers=1, progress=False
    ).store


def test_a_seeded_tenth_is_held_out_and_at_least_two() -> None:
    assert len(choose_holdout(NAMES, seed=0)) == 2
    assert len(choose_holdout([str(number) for number in range(84)], seed=0)) == 8
    assert choose_holdout(NAMES, seed=0) == choose_holdout(NAMES, seed=0) != choose_holdout(NAMES, seed=1)
    with pytest.raises(ValueError, match="at least 20 shapes, got 19"):
        choose_holdout(NAMES[1:], seed=0)


def test_the_run_knows_all_shapes_and_records_the_errors_of_those_held_out(
    store: SampleStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(holdout, "_FIT", holdout.FitConfig(steps=3, batch_points=50, num_starts=1))
    decoder = VolumeConfig(latent_size=4, base_resolution=2, channels=(8, 4), width=8)
    config = TrainingConfig(steps=4, batch_points=64, previews=0, evaluations=1)
    run = train_with_holdout(tmp_path / "run", store, names=NAMES, decoder=decoder, config=config, progress=False)
    held_out = choose_holdout(NAMES, seed=0)
    assert (len(run.shapes), run.step) == (20, 4)
    assert tuple(run.document["held_out"]) == held_out
    assert all(0 < error < 100 for error in run.document["held_out"].values())
    first = json.loads((tmp_path / "run" / "holdout" / "run.json").read_text())
    assert {shape["name"] for shape in first["shapes"]} == set(NAMES) - set(held_out)
    again = train_with_holdout(tmp_path / "run", store, names=NAMES, decoder=decoder, config=config, progress=False)
    assert again.document["held_out"] == run.document["held_out"]
