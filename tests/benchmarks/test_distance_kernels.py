"""The comparison of ways to compute signed distances: those that need no further package answer alike."""

from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def test_methods_give_the_same_signed_distances(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)
    kernels = importlib.import_module("distance_kernels")
    points = np.random.default_rng(0).uniform(-0.5, 1.5, (500, 3))
    vertices, faces = kernels._TETRAHEDRON
    np.savez(tmp_path / "queries.npz", vertices=vertices, faces=faces, points=points)
    answers = []
    for name in ("sdfnet", "libigl's tree and winding number"):
        seconds = kernels.measure(name, tmp_path / "queries.npz", tmp_path / "answer.npy")
        assert set(seconds) == {"first", "build", "query"}
        answers.append(np.load(tmp_path / "answer.npy"))
    np.testing.assert_allclose(answers[0], answers[1], atol=1e-12)
    np.testing.assert_array_equal(answers[0] < 0, (points > 0).all(axis=1) & (points.sum(axis=1) < 1))
