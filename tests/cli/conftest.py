"""A small finished run and its meshes, shared by the tests of the commands."""

from __future__ import annotations

from pathlib import Path

import pytest
from balls import BALLS, CENTER, SCALE, write_ball
from tiny_runs import learn_run

from sdfnet.fields import Sphere
from sdfnet.geometry.similarity import Similarity
from sdfnet.runs import RunShape


@pytest.fixture(scope="session")
def balls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of meshes: the balls, in world units."""
    folder = tmp_path_factory.mktemp("balls")
    for name, radius in BALLS.items():
        write_ball(folder / f"{name}.obj", radius=radius / SCALE, center=CENTER)
    return folder


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory, balls: Path) -> Path:
    """A run directory whose decoder has learned the balls in a second."""
    shapes = [
        RunShape(name, Similarity(CENTER, SCALE), str(balls / f"{name}.obj"), content_hash="", closed=True)
        for name in BALLS
    ]
    fields = [Sphere(radius) for radius in BALLS.values()]
    return learn_run(tmp_path_factory.mktemp("runs") / "balls", shapes, fields)


@pytest.fixture
def quick_trainings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let trainings of a few steps pass, though they learn nothing."""
    monkeypatch.setattr("sdfnet.training.metrics._failure", lambda *_: "")
