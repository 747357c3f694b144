"""What a GPU changes, tried without one: decisions from plain values, and its paths forced on the CPU."""

from __future__ import annotations

import csv
import functools
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from sdfnet.cli.commands.keys import find_device
from sdfnet.decoders import DeepSDFConfig, VolumeConfig, base, deepsdf
from sdfnet.extraction import extract_mesh
from sdfnet.fields import Box
from sdfnet.mesh.io.write import save_mesh
from sdfnet.sampling import SamplerConfig, SampleStore, prepare_samples
from sdfnet.training import TrainingConfig, train
from sdfnet.training.batches import BatchSchedule, keeps_samples, load_device_samples, num_bytes
from sdfnet.training.distributed import Processes
from sdfnet.training.trainer import compiles

DECODER = VolumeConfig(latent_size=8, channels=(16, 8, 8), base_resolution=4, width=16)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> SampleStore:
    """Samples of three boxes, in numbers that batches do not divide."""
    folder = tmp_path_factory.mktemp("resident")
    for number in range(3):
        save_mesh(extract_mesh(Box([1.0, 0.5 + 0.1 * number, 0.5]), resolution=16), folder / "meshes" / f"{number}.obj")
    config = SamplerConfig(num_samples=1_001, num_surface=101, num_heldout=50)
    return prepare_samples(folder / "meshes", folder / "samples", config=config, num_workers=1, progress=False).store


@pytest.mark.parametrize("rank", [0, 1])
def test_batches_from_the_device_are_those_from_the_files_to_the_bit(store: SampleStore, rank: int) -> None:
    processes, device = Processes(rank, 2), torch.device("cpu")
    from_files = BatchSchedule(store, (2, 0, 1), 4, 300, 40, seed=0, processes=processes)
    own = from_files.indices[processes.own]
    samples = load_device_samples(store, own, with_surface=True, device=device)
    assert sum(block.nbytes for block in samples) == num_bytes(store, len(own), with_surface=True)
    from_device = BatchSchedule(store, (2, 0, 1), 4, 300, 40, seed=0, processes=processes, on_device=samples)
    for step in range(12):
        expected, found = (schedule.batch(step, device=device) for schedule in (from_files, from_device))
        for name in ("slots", "points_BN3", "sdf_BN", "surface_BM6"):
            assert getattr(found, name).equal(getattr(expected, name)), (step, name)
            assert getattr(found, name).is_contiguous()
        assert found.weight == expected.weight


def test_a_training_from_samples_on_the_device_is_the_same_to_the_bit(store: SampleStore, tmp_path: Path) -> None:
    for resident in (True, False):
        config = TrainingConfig(
            steps=8, batch_shapes=2, batch_points=300, previews=0, evaluations=1, resident=resident, normal_weight=0.01
        )
        train(tmp_path / str(resident), store, decoder=DECODER, config=config, progress=False)
    one, other = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("True", "False"))
    assert one == other


@pytest.mark.parametrize(
    ("choice", "device_type", "num_bytes", "expected"),
    [("auto", "cuda", 50, True), ("auto", "cuda", 51, False), ("auto", "cpu", 1, False), (True, "cpu", 10**9, True),
     (False, "cuda", 1, False)],
)  # fmt: skip
def test_samples_stay_on_a_gpu_where_half_of_its_free_memory_suffices(
    choice: Any, device_type: str, num_bytes: int, expected: bool
) -> None:
    assert keeps_samples(choice, device_type=device_type, num_bytes=num_bytes, free_bytes=100) is expected


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, True),
        ({"device_type": "cpu"}, False),
        ({"device_type": "mps"}, False),
        ({"capability": (6, 1)}, False),
        ({"has_triton": False}, False),
        ({"budget": "60s"}, False),
        ({"budget": "60s", "steps": 5000}, True),
        ({"steps": 100}, False),
        ({"compile": True, "device_type": "cpu"}, True),
        ({"compile": False}, False),
    ],
)
def test_the_decoder_is_compiled_where_that_pays(changed: dict[str, Any], expected: bool) -> None:
    options = {"budget": "10min", "steps": None, "compile": "auto"}
    machine = {"device_type": "cuda", "capability": (9, 0), "has_triton": True}
    config = TrainingConfig(**{key: changed.get(key, value) for key, value in options.items()})
    assert compiles(config, **{key: changed.get(key, value) for key, value in machine.items()}) is expected


def losses(run: Path) -> torch.Tensor:
    with open(run / "metrics.csv", encoding="utf-8") as file:
        return torch.tensor([float(row["loss"]) for row in csv.DictReader(file)])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the compiler's own
def test_a_compiled_training_has_the_same_losses_and_an_uncompiled_decoder(
    store: SampleStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Traced and differentiated, but not translated: that would take a minute.
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="aot_eager"))
    for choice in (True, False):
        config = TrainingConfig(
            steps=6, batch_shapes=2, batch_points=300, previews=0, evaluations=2, compile=choice, precision="float32"
        )
        run = train(tmp_path / str(choice), store, decoder=DECODER, config=config, progress=False)
        assert json.loads((tmp_path / str(choice) / "run.json").read_text())["plan"]["compiled"] is choice
        assert "condition" not in vars(run.decoder)
    torch.testing.assert_close(losses(tmp_path / "True"), losses(tmp_path / "False"), rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(("width_in", "width_out"), [(3, 512), (259, 253), (8, 16), (1, 1)])
def test_padding_changes_neither_values_nor_gradients(width_in: int, width_out: int, bias: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    shapes = [(5, width_in), (width_out, width_in), *([(width_out,)] if bias else [])]
    found = []
    for multiple in (1, 8, 16):
        generator.manual_seed(0)
        leaves = [torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_() for shape in shapes]
        result = base.padded_linear(*leaves, multiple=multiple)
        assert result.shape == (5, width_out)
        found.append([result.detach(), *torch.autograd.grad(result.square().sum(), leaves)])
    for padded in found[1:]:
        torch.testing.assert_close(padded, found[0], rtol=1e-12, atol=1e-10)


def test_deepsdf_is_the_same_function_with_padded_widths(monkeypatch: pytest.MonkeyPatch) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        decoder = deepsdf.DeepSDFDecoder(DeepSDFConfig(latent_size=10, width=32)).double().eval()
    generator = torch.Generator().manual_seed(1)
    points = torch.randn(2, 7, 3, generator=generator, dtype=torch.float64)
    latents = torch.randn(2, 10, generator=generator, dtype=torch.float64)
    plain = decoder(points, latents)
    used = []
    monkeypatch.setattr(base, "preferred_multiple", lambda device_type: used.append(device_type) or 8)
    torch.testing.assert_close(decoder(points, latents), plain, rtol=1e-12, atol=1e-12)
    assert len(used) >= 8, "every layer asks what its device likes"


def test_widths_are_padded_on_gpus_only() -> None:
    assert [base.preferred_multiple(kind) for kind in ("cuda", "cpu", "mps")] == [8, 1, 1]


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)


@pytest.mark.usefixtures("two_gpus")
def test_each_process_on_a_machine_takes_a_gpu_of_its_own() -> None:
    assert find_device("auto") == "cuda"
    assert [find_device("auto", processes_here=2, number_here=n) for n in (0, 1)] == ["cuda:0", "cuda:1"]
    assert find_device("cpu", processes_here=2, number_here=1) == "cpu"
    with pytest.raises(ValueError, match="3 processes were started here for 2 CUDA devices"):
        find_device("cuda", processes_here=3, number_here=0)
    with pytest.raises(ValueError, match="device=cuda:1 cannot be shared by 2 processes"):
        find_device("cuda:1", processes_here=2, number_here=0)


@pytest.mark.parametrize("name", ["compile", "resident"])
def test_other_choices_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} must be auto, true or false, got 'yes'"):
        TrainingConfig(**{name: "yes"})
