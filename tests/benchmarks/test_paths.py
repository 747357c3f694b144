"""The measures of pace of benchmarks/paths.py, held against spheres that grow and move by known amounts."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from exact_spheres import sphere_run

from sdfnet.morphs import MorphConfig, plan_frames

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def paths(monkeypatch: pytest.MonkeyPatch) -> Any:
    """benchmarks/paths.py as a module, forgotten afterwards."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    yield importlib.import_module("paths")
    sys.modules.pop("paths", None)


def test_all_measures_of_a_growing_sphere_are_what_its_radius_grows(paths: Any) -> None:
    run = sphere_run({"a": 0.4, "b": 0.46})
    frames = plan_frames(run, ["a", "b"], config=MorphConfig(frames=4, easing="linear", frame="unit"))
    travels = paths.travels_of(run, frames, resolution=48)
    assert travels["formula"] == pytest.approx([0.02] * 3, rel=1e-3)
    assert travels["swept"] == pytest.approx([0.02] * 3, rel=0.02)
    assert travels["nearest"] == pytest.approx([0.02] * 3, rel=0.02)


def test_a_sphere_that_moves_travels_by_half_its_way_in_the_mean(paths: Any) -> None:
    run = sphere_run({"a": 0.4})
    ends = torch.tensor([[0.0, 0, 0, 0.4], [0.01, 0, 0, 0.4]])
    mesh = paths.extract(run, ends[0], 48)
    assert paths.mean_speed(run, ends[0], ends[1] - ends[0], mesh) == pytest.approx(0.005, rel=0.03)


def test_what_vanishes_within_a_step_counts_with_its_volume(paths: Any) -> None:
    """Nothing is left to measure distances to; what was swept is the ball itself."""
    fields = [paths.NeuralField(sphere_run({"a": 0.1}).decoder, torch.tensor([0.2, 0, 0, r])) for r in (0.05, -0.05)]
    volume = paths.swept_volume(*fields, torch.Generator().manual_seed(0))
    assert volume == pytest.approx(4 / 3 * torch.pi * 0.05**3, rel=0.02)
