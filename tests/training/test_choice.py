"""The facts from which `decoder=auto` is decided."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from sdfnet.decoders import SirenConfig, TemplateConfig
from sdfnet.extraction import extract_mesh
from sdfnet.fields import Box, Difference, Sphere, Transformed
from sdfnet.mesh.io.write import save_mesh
from sdfnet.sampling import SamplerConfig, SampleStore, prepare_samples
from sdfnet.training import TrainingConfig, decoder_for, train
from sdfnet.training.choice import least_overlap, shape_places

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


@pytest.fixture(scope="module")
def relatives(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A child and an adult of one form, one below the other, in one frame."""
    folder = tmp_path_factory.mktemp("relatives")
    adult = Box([0.8, 2.0, 1.2])
    for name, field in {"adult": adult, "child": Transformed(adult, scale=0.5, translation=[0.0, -4.0, 0.0])}.items():
        save_mesh(extract_mesh(field, resolution=24), folder / f"{name}.ply")
    return folder


def sampled(meshes: Path, folder: Path, num_surface: int) -> SampleStore:
    config = SamplerConfig(num_samples=20_000, num_surface=num_surface, num_heldout=100)
    options = {"config": config, "normalize": "shared", "num_workers": 1, "progress": False}
    return prepare_samples(meshes, folder, **options).store


def test_size_and_place_do_not_count_for_the_overlap(relatives: Path, tmp_path: Path) -> None:
    """The places are those of points on the surface, and, where there are none, of samples near it."""
    names, found = ["adult", "child"], []
    for num_surface in (2000, 0):
        store = sampled(relatives, tmp_path / f"samples_{num_surface}", num_surface)
        assert least_overlap(store, names) > 0.85
        centers, sizes = shape_places(store, names)
        assert sizes[0] / sizes[1] == pytest.approx(2, rel=0.05)
        found.append(centers)
    np.testing.assert_allclose(*found, atol=0.03)


def test_a_template_starts_with_the_shapes_over_each_other(relatives: Path, tmp_path: Path) -> None:
    store = sampled(relatives, tmp_path / "samples", 2000)
    decoder = TemplateConfig(latent_size=8, base_resolution=2, channels=(4, 4), displacement_resolution=4)
    options = {"batch_points": 64, "batch_shapes": 2, "previews": 0, "evaluations": 1, "latent_std": 1e-3}
    config = TrainingConfig(steps=1, learning_rate=1e-6, latent_learning_rate=1e-6, normal_weight=0.0, **options)
    run = train(tmp_path / "run", store, decoder=decoder, config=config, progress=False)
    centers, sizes = shape_places(store, run.names)
    tips = torch.from_numpy(centers + sizes[:, None] * [0.0, 1.0, 0.0]).float()[:, None]
    places = run.decoder.template_points(tips, run.decoder.condition(run.latents))[:, 0]
    expected = centers.mean(axis=0) + sizes.mean() * np.array([0.0, 1.0, 0.0])
    np.testing.assert_allclose(places, np.stack([expected, expected]), atol=0.03)


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
