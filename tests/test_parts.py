"""The script that makes an input of each kind from one mesh."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from sdfnet.fitting.config import ObserveConfig
from sdfnet.fitting.inputs import find_inputs, resolve_input
from sdfnet.fitting.observations import observation_kind
from sdfnet.mesh.distance import MeshDistance
from sdfnet.mesh.io.read import read_mesh

MESHES = Path(__file__).parent.parent / "meshes"
sys.path.insert(0, str(MESHES))

import make_parts  # noqa: E402


def test_every_kind_of_input_is_read_and_lies_on_the_mesh(tmp_path: Path) -> None:
    mesh = read_mesh(MESHES / "chair_03.obj")
    spacing = make_parts.make_parts(mesh, tmp_path)
    distance = MeshDistance(mesh)
    kinds = {"scan": "mesh", "points": "points", "front": "depth", "labels": "labels", "contours": "contours"}
    files = {path.stem: path for path in tmp_path.iterdir() if path.suffix != ".json"}
    assert set(files) == {*kinds, "distances"}
    for name, kind in {**kinds, "distances": "sdf"}.items():
        on_grid = name in ("labels", "distances")
        config = ObserveConfig(spacing=(spacing,) * 3) if on_grid else ObserveConfig()
        given = resolve_input(files[name], kind="auto" if name in kinds else "sdf", config=config)
        assert (given.kind, given.is_whole) == (kind, False)
        surface = observation_kind(kind).read_part(given.path, config).surface
        if on_grid:
            surface = surface + mesh.bounds.lower - 2 * spacing
        apart = distance.unsigned(surface).distance
        assert np.median(apart) < {"labels": 0.3 * spacing, "front": 0.2}.get(name, 0.1), name
    assert "scan" in find_inputs(tmp_path / "scan.ply")
