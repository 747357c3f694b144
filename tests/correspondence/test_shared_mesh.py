"""One connectivity for all shapes: the same faces, vertex k at the same place, other topology refused by name."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from moved_ball import Family, moved_balls

from sdfnet.correspondence import extract_shared, shared_mesh, shared_meshes
from sdfnet.mesh.io.read import read_mesh
from sdfnet.runs import ExtractConfig


@pytest.fixture
def family(tmp_path: Path) -> Family:
    return moved_balls(tmp_path)


def test_vertex_k_is_the_same_place_on_every_shape(family: Family) -> None:
    made = {each.name: each for each in shared_meshes(family.run, ["ball", "long", "bent"], resolution=24)}
    first = made["ball"]
    assert first.mesh is not None
    for name in ("long", "bent"):
        mesh = made[name].mesh
        assert mesh is not None
        np.testing.assert_array_equal(mesh.faces, first.mesh.faces)
        truth = family.truth("ball", name, first.mesh.vertices)
        assert np.quantile(np.linalg.norm(mesh.vertices - truth, axis=1), 0.95) < 2e-3
        assert mesh.signed_volume > 0


def test_a_shape_of_another_topology_is_refused_by_name_and_the_others_are_written(family: Family) -> None:
    out = family.run.directory / "shared"
    config = ExtractConfig(resolution=24, format=("ply",))
    done = extract_shared(family.run, ["ball", "long", "two"], out, reference="ball", config=config)
    assert list(done.files) == ["ball", "long"]
    assert done.failures == {"two": "it has 2 components of genus 0, but ball has 1 component of genus 0"}
    ball, long = (read_mesh(out / f"{name}.ply") for name in ("ball", "long"))
    np.testing.assert_array_equal(ball.faces, long.faces)
    summary = json.loads((out / "extract.json").read_text())["shapes"]["long"]
    assert (summary["reference"], summary["vertices"]) == ("ball", len(ball.vertices))


def test_with_a_template_the_handles_that_a_lattice_adds_do_not_matter(
    family: Family, monkeypatch: pytest.MonkeyPatch
) -> None:
    kinds = iter([(1, 2), (1, 0), (1, 0), (1, 0), (1, 2), (1, 0)])  # Those of both meshes, then of what is compared.
    monkeypatch.setattr(shared_mesh, "_kind", lambda mesh: next(kinds))
    made = {each.name: each for each in shared_meshes(family.run, ["ball", "long"], resolution=24)}
    assert {each.reference for each in made.values()} == {"long"}
    assert [each.refused for each in made.values()] == ["", ""]


def test_options_without_effect_are_refused(family: Family) -> None:
    config = ExtractConfig(sharp=True, max_faces=100)
    with pytest.raises(ValueError, match="sharp, max_faces has no effect"):
        extract_shared(family.run, "ball", family.run.directory / "out", config=config)
