"""The pure parts of the benchmarks against peers: schedules and clocks, what counts as reached, tables, judgement."""

from __future__ import annotations

import importlib
import math
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

PEERS = Path(__file__).parents[2] / "benchmarks" / "peers"


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Import a module of benchmarks/peers, and forget it afterwards."""
    monkeypatch.syspath_prepend(PEERS)
    yield importlib.import_module
    for path in (*PEERS.glob("*.py"), PEERS.parent / "signs.py"):
        sys.modules.pop(path.stem, None)


def row(seconds: float, mean: float, **more: Any) -> dict[str, Any]:
    return {
        "seconds": seconds, "mean": mean, "p95": 3 * mean, "steps": 10, "surface_error": mean, "signs_right": 90.0,
        "num_failed": 0, **more,
    }  # fmt: skip


def test_first_to_reach_takes_the_quickest_that_is_good_enough(load: Any) -> None:
    rows = [row(12, 0.3), row(30, 0.1), row(6, math.nan), row(60, 0.1)]
    first = load("curves").first_to_reach
    assert first(rows, 0.2)["seconds"] == 30
    assert first(rows, 0.3)["seconds"] == 12
    assert first(rows, 0.05) is None


def test_curves_say_how_much_sooner_and_what_gave_no_surface(load: Any) -> None:
    result = {
        "machine": "M", "threads": 2, "versions": "V", "checkout": "abc", "batch": "16 x 512",
        "floor": {"mean": 0.07, "p95": 0.2, "num_failed": 0},
        "peer": [row(30, math.nan, num_failed=3), row(1800, 0.5)],
        "ours": [row(9, 0.4), row(60, 0.1)],
    }  # fmt: skip
    text = load("curves").format_curves(result)
    assert "1/200 of the time" in text
    assert "none (3 without a surface)" in text
    assert "| 30 min | 10 | 0.5000 |" in text
    result["ours"] = [row(9, 0.6)]
    assert "which no run of ours reached" in load("curves").format_curves(result)


def test_a_scaled_schedule_runs_through_all_epochs_in_the_time_given(load: Any) -> None:
    asked: list[int] = []
    inner = SimpleNamespace(get_learning_rate=lambda epoch: asked.append(epoch) or 1.0)
    shares = iter([0.0, 0.25, 0.5, 1.0, 1.7])
    scaled = load("deepsdf_training").ScaledSchedule(inner, 2001, lambda: next(shares))
    for _ in range(5):
        scaled.get_learning_rate(99)
    assert asked == [0, 500, 1000, 2000, 2000]


def test_a_paused_clock_stands_still(load: Any) -> None:
    clock = load("deepsdf_training").Clock(100.0)
    assert clock.read() == 100.0
    clock.start()
    time.sleep(0.02)
    with clock.paused():
        at_pause = clock.seconds
        time.sleep(0.05)
    assert 100.02 <= at_pause < 100.04 <= clock.read() + 0.03
    assert clock.seconds - at_pause < 0.02


def test_a_peer_field_puts_code_before_point_and_drops_the_last_axis(load: Any) -> None:
    class Rows(torch.nn.Module):
        def forward(self, rows: torch.Tensor) -> torch.Tensor:
            return (10 * rows[:, :1] + rows[:, -1:]) * (0 if self.training else 1)

    field = load("deepsdf_training").PeerField(Rows(), torch.tensor([2.0, 5.0]))
    points = torch.tensor([[[0.0, 0.0, 0.5]], [[0.0, 0.0, -0.25]]])
    assert field(points).tolist() == [[20.5], [19.75]]
    assert field(torch.zeros(0, 3)).shape == (0,)


def test_a_folder_without_the_program_is_no_checkout(load: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"has no train_deep_sdf\.py"), load("deepsdf_training").imported(tmp_path):
        pass


def test_code_of_a_checkout_is_imported_without_cuda_and_forgotten(load: Any, tmp_path: Path) -> None:
    (tmp_path / "train_deep_sdf.py").write_text("import torch\nHERE = torch.ones(2).cuda().device.type\n")
    with load("deepsdf_training").imported(tmp_path, "train_deep_sdf") as (program,):
        assert program.HERE == "cpu"
    assert "train_deep_sdf" not in sys.modules
    assert str(tmp_path) not in sys.path


def test_judgement_counts_every_wrong_sign_and_what_is_not_finite(load: Any) -> None:
    distances = load("distances")
    case = SimpleNamespace(distance=np.array([1.0, 2.0, 3.0, 4.0]), inside=np.array([True, True, False, False]))
    assert distances.judge(np.array([-1.0, 2.0, 3.25, 4.0]), case) == {"error": 0.25, "wrong": 0.25}
    assert distances.judge(np.array([-1.0, np.nan, 3.0, 4.0]), case) == {"error": math.inf, "wrong": 0.25}
    assert distances.judge(np.array([-1.0]), case) == {"error": 0.0, "wrong": 0.0}  # a slow peer answers fewer


def test_ratios_are_of_whole_times_and_scaled_ones_are_marked(load: Any) -> None:
    distances = load("distances")
    times = {"build": 1.0, "query": 6.0, "scaled": True, "version": "1", "error": 1e-7, "wrong": 0.001}
    assert distances.format_row("peer", times, 2.0) == "| peer | 1 | 1.00 | 6.00* | 7.00* | 3.5 | 1.0e-07 | 0.100% |"
    assert "left out: no module" in distances.format_row("peer", {"failed": "no module"}, 2.0)


def test_sdfnet_answers_like_every_peer_negative_inside(load: Any) -> None:
    peers = load("distance_peers")
    for name in ("sdfnet", "sdfnet, repaired first"):
        call = peers.PEERS[name][0](*peers._TETRAHEDRON, 1)
        assert np.sign(call(np.array([[0.1, 0.1, 0.1], [1.0, 1.0, 1.0]]))).tolist() == [-1.0, 1.0]
