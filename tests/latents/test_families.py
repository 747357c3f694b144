"""The whole analysis of a family that is known in closed form: spheres with a table of attributes."""

from pathlib import Path

import numpy as np
import pytest
from exact_spheres import sphere_run
from moved_ball import moved_balls

import sdfnet
from sdfnet.geometry.similarity import Similarity
from sdfnet.latents.config import SpaceConfig
from sdfnet.latents.families import corresponding_vertices
from sdfnet.mesh.mesh import Mesh
from sdfnet.runs.mixes import add_mixes

NUM = 16


def spheres(folder: Path) -> sdfnet.Run:
    """Spheres whose radius is 0.4 + 0.02 a. Half of them, the class `wide`, are twice as large in the world."""
    random = np.random.default_rng(0)
    numbers = random.normal(size=NUM)
    names = [f"s{number:02d}" for number in range(NUM)]
    rows = [
        f"{name}.ply,{number},{'narrow' if row % 2 else 'wide'}"
        for row, (name, number) in enumerate(zip(names, numbers, strict=True))
    ]
    (folder / "table.csv").write_text("\n".join(["file,a,kind", *rows]))
    places = {name: Similarity([0, 0, 0], 1.0 if row % 2 else 0.5) for row, name in enumerate(names)}
    (folder / "run").mkdir()
    radii = {name: 0.4 + 0.02 * number for name, number in zip(names, numbers, strict=True)}
    return sphere_run(radii, directory=folder / "run", similarities=places)


def test_attributes_and_groups_of_spheres_are_what_they_were_made_with(tmp_path: Path) -> None:
    run = spheres(tmp_path)
    config = SpaceConfig(
        resolution=20,
        num_modes=1,
        num_tests=0,
        backend="rays",
        attributes=tmp_path / "table.csv",
        groups=("kind", "a"),
        num_permutations=99,
    )
    report = sdfnet.analyze_space(run, tmp_path / "out", config=config)
    found = report.document["attributes"]
    assert found["rows"] == ["a", "kind=wide"]
    effects = np.array(found["effects"])[..., 0]
    assert effects == pytest.approx(np.eye(2), abs=0.05)
    assert found["explained"][0] > 0.99
    # The unit frame does not know the class, so its groups do not differ; small and large radii do.
    classes, halves = report.document["groups"]
    assert (classes["first"], classes["second"], classes["sizes"]) == ("kind=narrow", "kind=wide", [8, 8])
    assert classes["p_value"] > 0.05
    assert halves["second"].startswith("a>")
    assert halves["p_value"] <= 0.05
    run, names = add_mixes(run, ["a=2", "near=s01; kind=wide", "near=s01; a=0"])
    assert float(run.latent(names[0])[3]) == pytest.approx(0.44, abs=0.003)
    assert run.similarity(names[1]).scale == pytest.approx(0.5, rel=0.02)
    assert float(run.latent(names[2])[3]) == pytest.approx(0.4, abs=0.003)
    assert {path.name for path in (tmp_path / "out" / "attribute").iterdir()} == {"a.png", "kind.png"}


def test_unknown_groups_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    run = spheres(tmp_path)
    config = SpaceConfig(attributes=tmp_path / "table.csv", groups=("b",))
    with pytest.raises(ValueError, match="groups names 'b', which is no column in use; there are: a, kind"):
        sdfnet.analyze_space(run, tmp_path / "out", config=config)
    assert not list((tmp_path / "run").iterdir())


def test_vertices_correspond_through_the_template(tmp_path: Path) -> None:
    """Rim points of the long ball are not the closest ones to those of the ball; the template knows them."""
    family = moved_balls(tmp_path)
    run, code = family.run, family.run.latent("ball")
    vertices = run.similarity("ball").to_unit(family.surface("ball"))
    mesh = Mesh(vertices, np.zeros((0, 3), dtype=np.int64))
    [found] = corresponding_vertices(run, ["long"], mesh, code.double().numpy(), resolution=48)
    truth = run.similarity("long").to_unit(family.truth("ball", "long", family.surface("ball")))
    np.testing.assert_allclose(found, truth, atol=4e-3)
