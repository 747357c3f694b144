"""The facts from which `decoder=auto` is decided."""

from __future__ import annotations

from pathlib import Path

import pytest

from sdfnet.decoders import SirenConfig
from sdfnet.extraction import extract_mesh
from sdfnet.fields import Box, Difference, Sphere
from sdfnet.mesh.io.write import save_mesh
from sdfnet.sampling import SamplerConfig, SampleStore, prepare_samples
from sdfnet.training import TrainingConfig, decoder_for, train
from sdfnet.training.choice import least_overlap

TALL, FLAT, CUBE = Box([0.3, 0.3, 1.0]), Box([1.0, 0.3, 0.3]), Box([1.0, 1.0, 1.0])
PIERCED = Difference(Box([1.0, 1.0, 1.0]), Box([0.5, 0.5, 2.0]))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> SampleStore:
    folder = tmp_path_factory.mktemp("choice")
    for name, field in {"tall": TALL, "flat": FLAT, "cube": CUBE, "pierced": PIERCED, "ball": Sphere(1.0)}.items():
        save_mesh(extract_mesh(field, resolution=24), folder / "meshes" / f"{name}.ply")
    config = SamplerConfig(num_samples=20_000, num_surface=100, num_heldout=100)
    return prepare_samples(folder / "meshes", folder / "samples", config=config, num_workers=1, progress=False).store


def test_the_overlap_of_two_boxes_is_that_of_their_volumes(store: SampleStore) -> None:
    # Both fill the common shape's centre, a cube of 0.6; each box has a volume of 0.6 * 0.6 * 2.
    assert least_overlap(store, ["tall", "tall"]) == 1
    assert least_overlap(store, ["tall", "tall", "flat"]) == pytest.approx(0.216 / (2 * 0.72 - 0.216), abs=0.05)


@pytest.mark.parametrize(
    ("names", "kind"),
    [(["cube", "ball"], "template"), (["tall", "tall", "flat"], "volume"), (["cube", "pierced"], "volume")],
)
def test_a_template_wants_one_topology_and_shapes_that_overlap(
    store: SampleStore, tmp_path: Path, names: list[str], kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", logger="sdfnet"):
        assert decoder_for(tmp_path / "run", store, names).kind == kind
    assert f"decoder={kind}, because" in caplog.text


def test_the_decoder_of_a_run_is_kept(store: SampleStore, tmp_path: Path) -> None:
    config = TrainingConfig(steps=1, batch_points=64, batch_shapes=2, previews=0, evaluations=1, normal_weight=0.0)
    decoder = SirenConfig(width=8, latent_size=4)
    train(tmp_path / "run", store, decoder=decoder, config=config, shapes=["cube", "ball"], progress=False)
    assert decoder_for(tmp_path / "run", store, ["cube", "ball"]) == decoder
    assert decoder_for(tmp_path / "new", store, ["cube", "ball"], init=tmp_path / "run") == decoder
