"""The grid of one shape: look-ups equal a slow twin, derivatives are right, and what needs a family is refused."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from sdfnet.cli.main import main
from sdfnet.decoders.grid import GridConfig, GridDecoder
from sdfnet.extraction import extract_mesh
from sdfnet.fields import Box, Sphere, gradient
from sdfnet.fitting import DistanceObservation, fit_codes
from sdfnet.mesh.io.write import save_mesh
from sdfnet.mesh.topology import components_and_genus
from sdfnet.morphs import MorphConfig
from sdfnet.morphs.plan import plan_morph
from sdfnet.runs import Run, load_run
from sdfnet.runs.mixes import add_mixes
from sdfnet.sampling import SamplerConfig, SampleStore, prepare_samples
from sdfnet.training import TrainingConfig, metrics, train, trainer

SMALL = GridConfig(dense=(4, 6), cells=8, divisions=(1, 3))


def sphere_points(count: int, radius: float = 0.6) -> Tensor:
    points = torch.randn(count, 3, generator=torch.Generator().manual_seed(0))
    return radius * torch.nn.functional.normalize(points, dim=1)


@pytest.fixture
def grid() -> GridDecoder:
    """A grid with cells on a sphere and random values."""
    decoder = GridDecoder(SMALL)
    decoder.adapt(sphere_points(2000))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for values in decoder.parameters():
            values.copy_(torch.randn(values.shape, generator=generator))
    return decoder.double()


@torch.no_grad()
def slow_twin(decoder: GridDecoder, point: list[float]) -> float:
    """Add up the levels one vertex after another."""

    def cell_of(count: int) -> tuple[list[int], list[float]]:
        places = [min(max((x / 1.05 + 1) / 2 * count, 0), count) for x in point]
        lowest = [min(int(place), count - 1) for place in places]
        return lowest, [place - low for place, low in zip(places, lowest, strict=True)]

    def weight(offset: tuple[int, ...], high: list[float]) -> float:
        return math.prod(part if far else 1 - part for far, part in zip(offset, high, strict=True))

    total = 0.0
    corners = list(itertools.product((0, 1), repeat=3))
    for count, values in zip((4, 6), decoder.dense, strict=True):
        low, high = cell_of(count)
        for offset in corners:
            x, y, z = (a + b for a, b in zip(low, offset, strict=True))
            total += 2.1 / count * weight(offset, high) * float(values[0, 0, x, y, z])
    cells = [
        tuple(cell)
        for cell in torch.stack([decoder.cells // 64, decoder.cells // 8 % 8, decoder.cells % 8], 1).tolist()
    ]
    if tuple(cell_of(8)[0]) not in cells:
        return total
    for parts, values in zip((1, 3), decoder.fine, strict=True):
        vertices = sorted(
            {
                tuple(c * parts + o for c, o in zip(cell, offset, strict=True))
                for cell in cells
                for offset in itertools.product(range(parts + 1), repeat=3)
            }
        )
        assert len(vertices) == len(values)
        low, high = cell_of(8 * parts)
        for offset in corners:
            vertex = tuple(a + b for a, b in zip(low, offset, strict=True))
            total += 2.1 / (8 * parts) * weight(offset, high) * float(values[vertices.index(vertex)])
    return total


def test_look_ups_equal_a_slow_twin(grid: GridDecoder) -> None:
    points = torch.rand(40, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(2)) * 2.1 - 1.05
    corners = torch.tensor([[1.05, -1.05, 1.05], [1.3, 0.0, 0.0]], dtype=torch.float64)
    points = torch.cat([points, sphere_points(20).double(), corners])
    found = grid(points[None], torch.zeros(1, 1))[0]
    assert found.tolist() == pytest.approx([slow_twin(grid, point) for point in points.tolist()], abs=1e-9)


def test_derivatives_in_points_and_values_are_right(grid: GridDecoder) -> None:
    # The look-up has kinks at the faces of the cells, so the points stay away from them.
    points = sphere_points(200).double()
    scaled = (points / 1.05 + 1) / 2 * 24
    clear = ((scaled - scaled.round()).abs() > 1e-3).all(dim=1)
    scaled = (points / 1.05 + 1) / 2 * 6
    clear &= ((scaled - scaled.round()).abs() > 1e-3).all(dim=1)
    points = points[clear][:10].requires_grad_(True)
    latents = torch.zeros(1, 1)
    assert torch.autograd.gradcheck(lambda p: grid(p[None], latents), [points], eps=1e-5, atol=1e-6)
    for values in (*grid.dense, *grid.fine):
        found = torch.autograd.grad(grid(points[None], latents).square().sum(), values)[0]
        index = int(found.abs().argmax())
        moved = []
        for step in (1e-5, -1e-5):
            with torch.no_grad():
                values.view(-1)[index] += step
                moved.append(float(grid(points[None], latents).square().sum()))
                values.view(-1)[index] -= step
        assert (moved[0] - moved[1]) / 2e-5 == pytest.approx(float(found.view(-1)[index]), rel=1e-5)


def test_cells_that_touch_share_their_vertices(grid: GridDecoder) -> None:
    """The distance is continuous across the face between two cells that carry fine levels."""
    cells = set(grid.cells.tolist())
    lower = next(cell for cell in sorted(cells) if cell + 1 in cells and cell % 8 < 7)
    place = torch.tensor([lower // 64 + 0.4, lower // 8 % 8 + 0.7, lower % 8 + 1.0], dtype=torch.float64)
    point = (place / 8 * 2 - 1) * 1.05
    step = torch.tensor([0.0, 0.0, 1e-7], dtype=torch.float64)
    before, after = grid(torch.stack([point - step, point + step])[None], torch.zeros(1, 1))[0].detach()
    assert float(before) == pytest.approx(float(after), abs=1e-5)


def test_a_saved_grid_brings_its_cells(grid: GridDecoder) -> None:
    other = GridDecoder(SMALL).double()
    other.load_state_dict(grid.state_dict())
    points = sphere_points(50).double()[None]
    assert torch.equal(other(points, torch.zeros(1, 1)), grid(points, torch.zeros(1, 1)))
    state = grid.state_dict()
    state["fine.1"] = state["fine.1"][:-1]
    with pytest.raises(RuntimeError, match=r"size mismatch for fine\.1"):
        GridDecoder(SMALL).double().load_state_dict(state)


def test_saved_weights_keep_fine_levels_in_half_the_bytes_and_a_thousandth_of_their_spacing(grid: GridDecoder) -> None:
    grid = grid.float()
    saved = grid.saved_weights()
    assert [saved[name].dtype for name in ("dense.0", "fine.0", "fine.1")] == [torch.float32, *[torch.float16] * 2]
    other = GridDecoder(SMALL)
    other.load_state_dict(saved)
    points = sphere_points(500)[None]
    change = (other(points, torch.zeros(1, 1)) - grid(points, torch.zeros(1, 1))).detach().abs().max()
    assert 0 < float(change) < 4e-3 * 2.1 / 8


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dense": ()}, r"dense must be at least one number of cells from 1 to 256, got \[\]"),
        ({"dense": (512,)}, r"from 1 to 256, got \[512\]"),
        ({"cells": 1024, "divisions": (4,)}, r"at most 2048 / cells, got \[4\] and 1024"),
        ({"cells": 0}, "cells must be at least 1, got 0"),
    ],
)
def test_wrong_options_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GridConfig(**options)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> SampleStore:
    folder = tmp_path_factory.mktemp("grid")
    for name, field in (("ball", Sphere(radius=2.0)), ("box", Box([1.0, 1.0, 0.5]))):
        save_mesh(extract_mesh(field, resolution=32), folder / "meshes" / f"{name}.obj")
    config = SamplerConfig(num_samples=30_000, num_surface=2_000, num_heldout=500)
    return prepare_samples(folder / "meshes", folder / "samples", config=config, num_workers=1, progress=False).store


CONFIG = TrainingConfig(steps=150, batch_shapes=2, batch_points=2048, previews=0, evaluations=1, precision="float32")
DECODER = GridConfig(dense=(8,), cells=16, divisions=(2,))


@pytest.fixture(scope="module")
def run(store: SampleStore, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train(tmp_path_factory.mktemp("run"), store, decoder=DECODER, config=CONFIG, shapes="ball", progress=False)


def test_one_shape_is_learned_extracted_and_resumed_exactly(
    store: SampleStore, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    points = torch.from_numpy(store.heldout(store.index_of("ball"))[:, :3])
    slope = gradient(run.field("ball"), points).norm(dim=1)
    with torch.no_grad():
        assert (run.field("ball")(points).abs() / slope).mean() < 2e-3
    mesh = extract_mesh(run.field("ball"), resolution=48)
    assert components_and_genus(mesh) == components_and_genus(extract_mesh(Sphere(radius=0.9), resolution=48))
    step = trainer.train_step

    def dies(state, *args, **options):
        if state.step == 70:
            raise RuntimeError("killed")
        return step(state, *args, **options)

    config = TrainingConfig(**{**vars(CONFIG), "checkpoint_seconds": 1e-9})
    monkeypatch.setattr(trainer, "train_step", dies)
    with pytest.raises(RuntimeError, match="killed"):
        train(tmp_path, store, decoder=DECODER, config=config, shapes="ball", progress=False)
    monkeypatch.setattr(trainer, "train_step", step)
    train(tmp_path, store, decoder=DECODER, config=config, shapes="ball", progress=False)
    assert (tmp_path / "model.safetensors").read_bytes() == (run.directory / "model.safetensors").read_bytes()


def test_what_needs_a_family_is_refused_in_one_line(store: SampleStore, run: Run, tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"decoder=grid learns exactly one shape, got 2. Choose one with shapes=\[NAME\]"
    ):
        train(tmp_path / "two", store, decoder=DECODER, config=CONFIG, progress=False)
    with pytest.raises(ValueError, match="decoder=grid learns one shape from nothing; leave out init="):
        train(tmp_path / "init", store, decoder=DECODER, config=CONFIG, shapes="ball", init=run.directory)
    assert not (tmp_path / "two").exists()
    holds = rf"needs a family of shapes, but the run at {run.directory} holds one shape only \(ball, decoder=grid\)"
    with pytest.raises(ValueError, match=f"a morph {holds}"):
        plan_morph(run, ["ball", "ball"], config=MorphConfig(frames=3))
    with pytest.raises(ValueError, match=f"a fit {holds}"):
        fit_codes(run, [DistanceObservation(torch.zeros(10, 4))])
    assert add_mixes(run, "ball")[1] == ["ball"]


def test_the_command_draws_more_samples_and_refuses_a_family_before_it_samples(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics, "_failure", lambda *_: "")  # Two steps teach nothing.
    for name in ("a", "b"):
        save_mesh(extract_mesh(Sphere(radius=1.0), resolution=12), tmp_path / "meshes" / f"{name}.obj")
    words = [
        "train",
        f"meshes={tmp_path / 'meshes'}",
        f"run={tmp_path / 'run'}",
        "decoder=grid",
        "steps=2",
        "num_workers=1",
    ]
    assert main(words) != 0
    assert "decoder=grid learns exactly one shape, got 2" in capsys.readouterr().err
    assert not (tmp_path / "run" / "samples").exists()
    small = ["decoder.dense=[8]", "decoder.cells=16", "decoder.divisions=[2]", "shapes=a", "training.previews=0"]
    assert main([*words, *small, "sampler.num_samples=3000"]) == 0
    assert SampleStore(tmp_path / "run" / "samples").num_samples == 3000
    assert load_run(tmp_path / "run").decoder.holds_one_shape
    told = capsys.readouterr().out
    assert "draw more samples (sampler.num_samples)" in told
    assert "init=" not in told
