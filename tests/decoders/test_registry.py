"""The registry of decoders: one entry makes a decoder known to training, to runs and to the command line."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor, nn

from sdfnet.decoders import (
    DECODERS,
    DecoderConfig,
    DecoderKind,
    LearningRates,
    SirenConfig,
    build_decoder,
    choose_decoder,
)
from sdfnet.decoders.base import Decoder
from sdfnet.mesh.io.write import save_mesh
from sdfnet.mesh.mesh import Mesh
from sdfnet.sampling import SamplerConfig, SampleStore, prepare_samples
from sdfnet.training import TrainingConfig, train
from sdfnet.training.config import choose_optimizer, learning_rates


@dataclass(frozen=True)
class PlainConfig(DecoderConfig):
    """Options of a decoder that only this test knows."""

    kind: str = "plain"
    latent_size: int = 4


class PlainDecoder(Decoder):
    """One hidden layer."""

    def __init__(self, config: PlainConfig) -> None:
        super().__init__()
        self.latent_size = config.latent_size
        self.network = nn.Sequential(nn.Linear(3 + config.latent_size, 8), nn.Tanh(), nn.Linear(8, 1))

    def condition(self, latents_BL: Tensor) -> tuple[Tensor, ...]:
        return (latents_BL[:, None],)

    def decode(self, points_BN3: Tensor, conditioned: tuple[Tensor, ...]) -> Tensor:
        codes = conditioned[0].expand(-1, points_BN3.shape[1], -1)
        return self.network(torch.cat([points_BN3, codes], dim=-1)).squeeze(-1)


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A decoder `plain` without tuned rates, entered into the registry."""
    module = ModuleType("plain_decoder")
    module.KIND = DecoderKind(PlainConfig, PlainDecoder)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "plain_decoder", module)
    monkeypatch.setitem(DECODERS, "plain", "plain_decoder")
    return module


@pytest.fixture
def store(tmp_path: Path) -> SampleStore:
    corners, faces = [[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]], [[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]]
    save_mesh(Mesh(corners, faces), tmp_path / "meshes" / "a.obj")
    config = SamplerConfig(num_samples=200, num_surface=10, num_heldout=10)
    return prepare_samples(
        tmp_path / "meshes", tmp_path / "samples", config=config, num_workers=1, progress=False
    ).store


@pytest.mark.usefixtures("plain")
def test_a_new_decoder_trains_with_a_rate_that_is_given_and_opens_again(store: SampleStore, tmp_path: Path) -> None:
    config = TrainingConfig(steps=3, batch_shapes=1, batch_points=50, previews=0, learning_rate=1e-3)
    run = train(tmp_path / "run", store, decoder=PlainConfig(latent_size=5), config=config, progress=False)
    assert type(run.decoder) is PlainDecoder
    assert run.latents.shape == (1, 5)


@pytest.mark.usefixtures("plain")
def test_without_any_tuned_rate_the_error_says_what_to_give(store: SampleStore, tmp_path: Path) -> None:
    message = "no learning rate is tuned for decoder=plain with optimizer=adam; give training.learning_rate"
    with pytest.raises(ValueError, match=message):
        train(tmp_path / "run", store, decoder=PlainConfig(), config=TrainingConfig(steps=3), progress=False)
    assert not (tmp_path / "run" / "run.json").exists()
    assert learning_rates(TrainingConfig(learning_rate=1e-3), "plain") == LearningRates(1e-3, 2e-3)
    both = TrainingConfig(learning_rate=1e-3, latent_learning_rate=7e-3)
    assert learning_rates(both, "plain") == LearningRates(1e-3, 7e-3)


def test_muon_for_a_decoder_tuned_for_adam_needs_a_rate() -> None:
    with pytest.raises(ValueError, match=r"decoder=siren with optimizer=muon; give training\.learning_rate"):
        learning_rates(TrainingConfig(optimizer="muon"), "siren")
    given = TrainingConfig(optimizer="muon", learning_rate=3e-3)
    assert learning_rates(given, "siren") == LearningRates(3e-3, 1e-3)
    assert choose_optimizer(given, "siren") == "muon"


def test_options_and_kind_must_belong_together() -> None:
    with pytest.raises(ValueError, match="kind=volume needs VolumeConfig, got SirenConfig"):
        build_decoder(SirenConfig(kind="volume"))


def test_the_registry_needs_no_torch() -> None:
    program = "import sys; from sdfnet.decoders import DECODERS; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


@pytest.mark.parametrize(
    ("num_shapes", "topologies", "overlap", "kind", "reason"),
    [
        (1, [(1, 0)], 1.0, "grid", "exactly one shape"),
        (3, [(1, 2), (1, 2), (1, 2)], 0.5, "template", "one connected surface with 2 handles"),
        (3, [(1, 2), (1, 2), (1, 2)], 0.3, "volume", "overlap with the common shape is only 0.30"),
        (3, [(1, 0), (1, 2), (1, 2)], 0.5, "volume", "from 0 to 2 handles"),
        (2, [(2, 0), (2, 0)], 0.5, "volume", "several connected surfaces"),
        (2, [(1, 0), None], 0.5, "volume", "topology of some shapes is not known"),
        (2, [], 0.5, "volume", "topology of some shapes is not known"),
    ],
)
def test_auto_takes_the_template_for_shapes_of_one_topology(num_shapes, topologies, overlap, kind, reason) -> None:
    choice = choose_decoder(num_shapes, topologies=topologies, overlap=overlap)
    assert choice.kind == choice.config.kind == kind
    assert reason in choice.reason
