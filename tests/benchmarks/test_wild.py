"""The benchmark of damaged meshes: its twins are faithful, and its two shares mean what they say."""

from __future__ import annotations

import importlib
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trimesh

from sdfnet.mesh.components import split_components
from sdfnet.mesh.distance import MeshDistance
from sdfnet.mesh.mesh import Mesh
from sdfnet.mesh.winding import spread_over_surface

ROOT = Path(__file__).parents[2]


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A module of the benchmark by its name."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return importlib.import_module


def ball(radius: float) -> Mesh:
    made = trimesh.creation.icosphere(subdivisions=3, radius=radius)
    return Mesh(made.vertices, made.faces)


def joined(*meshes: Mesh) -> Mesh:
    both = trimesh.util.concatenate([trimesh.Trimesh(mesh.vertices, mesh.faces, process=False) for mesh in meshes])
    return Mesh(both.vertices, both.faces)


def test_recall_and_extra_of_the_truth_itself_of_a_lost_part_and_of_a_part_too_many(load: Any) -> None:
    shares = load("wild").shares
    far = ball(0.5)
    both = joined(ball(1.0), Mesh(far.vertices + np.array([3.0, 0, 0]), far.faces))
    assert shares(both, both) == (1.0, 0.0)
    recall, extra = shares(ball(1.0), both)
    assert recall == pytest.approx(0.8, abs=0.03)
    assert extra == 0
    recall, extra = shares(both, ball(1.0))
    assert recall == 1
    assert extra == pytest.approx(0.2, abs=0.03)
    assert shares(ball(1.0), joined(ball(1.0), ball(0.5))) == (1.0, 0.0), "nobody sees the inner ball"


def test_each_twin_keeps_the_visible_surface_and_the_same_seed_gives_the_same_twin(load: Any) -> None:
    damages = load("wild_damage")
    mesh, parts = damages.load_chair(ROOT / "meshes" / "chair_00.obj")
    radius = np.linalg.norm(mesh.vertices - mesh.bounds.center, axis=1).max()
    points = spread_over_surface(mesh, 1000)[0]
    assert len(damages.KINDS) == 10
    for kind, name in enumerate(damages.KINDS):
        twin = damages.damage(mesh, parts, kind=kind, seed=0)
        again = damages.damage(mesh, parts, kind=kind, seed=0)
        assert np.array_equal(twin.vertices, again.vertices), name
        assert np.array_equal(twin.faces, again.faces), name
        there = MeshDistance(twin).unsigned(points).distance < 5e-3 * radius
        assert there.mean() > (0.8 if name in ("missing undersides", "open tubes") else 0.999), name
        if name == "self-crossing parts":
            assert len(split_components(twin)) == 1


@pytest.mark.parametrize("kind", ["truncated", "bytes changed", "header changed"])
def test_bytes_are_damaged_by_the_seed_alone(load: Any, kind: str) -> None:
    damage_bytes = load("wild_files").damage_bytes
    data = bytes(range(256)) * 8
    damaged = damage_bytes(data, kind, random.Random(1))
    assert damaged == damage_bytes(data, kind, random.Random(1)) != data
    assert (len(damaged) < len(data)) == (kind == "truncated")
    if kind == "header changed":
        assert damaged[300:] == data[300:]
