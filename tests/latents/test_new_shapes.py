"""New shapes: the distribution that they are drawn from, and what is thrown away."""

from pathlib import Path

import numpy as np
import pytest
import torch
from exact_spheres import sphere_run

from sdfnet.latents import new_shapes
from sdfnet.latents.analysis import make_space
from sdfnet.latents.new_shapes import choose_novelty, draw_code, sample_shapes
from sdfnet.latents.statistics import fit_components
from sdfnet.mesh.mesh import Mesh
from sdfnet.runs import Run, RunShape
from sdfnet.runs.space import ShapeSpace, placed_codes

RADII = {f"s{number}": 0.3 + 0.05 * number for number in range(9)}


def family() -> tuple[Run, ShapeSpace]:
    run = sphere_run(RADII)
    return run, make_space(run.names, placed_codes(run), fit_components(placed_codes(run)[:, :4]))


@pytest.mark.parametrize("novelty", [0.3, 0.8, 1.0])
def test_new_codes_have_the_mean_and_the_covariance_of_the_learned_ones(novelty: float) -> None:
    random = np.random.default_rng(0)
    placed = np.zeros((12, 10))
    placed[:, :3] = random.normal(size=(12, 3)) * [1, 2, 3] + 5
    space = make_space(tuple("abcdefghijkl"), placed, fit_components(placed[:, :3]))
    generator = torch.Generator().manual_seed(0)
    drawn = np.stack([draw_code(space, placed, novelty=novelty, generator=generator) for _ in range(20_000)])[:, :3]
    assert drawn.mean(axis=0) == pytest.approx(placed[:, :3].mean(axis=0), abs=0.1)
    kept = 1 - novelty**2
    expected = (kept * 11 / 12 + novelty**2) * np.cov(placed[:, :3].T)
    assert np.cov(drawn.T) == pytest.approx(expected, rel=0.1, abs=0.1)


def test_broken_and_unlikely_shapes_are_thrown_away_and_counted(tmp_path: Path) -> None:
    run, space = family()
    new = sample_shapes(run, space, tmp_path, num_shapes=6, novelty=1.0, resolution=24, seed=1)
    assert len(new.meshes) == 6
    assert new.num_drawn == 6 + sum(new.thrown_away.values())
    for name, mesh in new.meshes.items():
        assert mesh.to_trimesh().is_watertight
        assert np.linalg.norm(mesh.vertices, axis=1).max() == pytest.approx(float(new.run.latent(name)[3]), abs=0.01)


def test_a_family_that_leaves_the_lattice_gives_no_shapes_and_says_why(tmp_path: Path) -> None:
    run = sphere_run({f"s{number}": 1.3 + 0.01 * number for number in range(5)})
    space = make_space(run.names, placed_codes(run), fit_components(placed_codes(run)[:, :4]))
    with pytest.raises(ValueError, match=r"only 0 of 20 drawn shapes are whole \(.* not closed within the lattice"):
        sample_shapes(run, space, tmp_path, num_shapes=1, resolution=16)


def test_novelty_falls_until_drawn_shapes_are_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Small and large balls: what is between them is broken. So only draws near to a learned ball are whole."""
    run = sphere_run({f"s{k}": 0.5 if k % 2 else 0.9 for k in range(8)})
    space = make_space(run.names, placed_codes(run), fit_components(placed_codes(run)[:, :4]))
    assert choose_novelty(run, space) == 0.8
    whole_mesh = new_shapes.whole_mesh

    def broken_between(run: Run, shape: RunShape, code: np.ndarray, **options: int) -> tuple[Mesh | None, str]:
        if min(abs(code[3] - 0.5), abs(code[3] - 0.9)) > 0.07:
            return None, "in pieces"
        return whole_mesh(run, shape, code, **options)

    monkeypatch.setattr(new_shapes, "whole_mesh", broken_between)
    novelty = choose_novelty(run, space)
    assert novelty < 0.8
    new = sample_shapes(run, space, tmp_path, num_shapes=4, resolution=24)
    assert new.novelty == novelty
    assert all(min(abs(radius - 0.5), abs(radius - 0.9)) < 0.07 for radius in new.run.latents[:, 3].tolist())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_shapes": 0}, "num_shapes must be 1 or more, got 0"),
        ({"num_shapes": 1, "novelty": 0.0}, "novelty must be above 0 and at most 1, got 0.0"),
        ({"num_shapes": 1, "novelty": 1.5}, "got 1.5"),
    ],
)
def test_numbers_out_of_range_are_refused(tmp_path: Path, options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        sample_shapes(*family(), tmp_path, **options)


def test_the_run_itself_is_not_overwritten(tmp_path: Path) -> None:
    run = sphere_run(RADII, directory=tmp_path)
    with pytest.raises(ValueError, match="is the run itself"):
        sample_shapes(run, family()[1], tmp_path, num_shapes=1)
