"""Completion on spheres, whose radius, place and correction are known."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from exact_spheres import sphere_run
from numpy.typing import NDArray
from tiny_runs import learn_run

from sdfnet.cli.main import main
from sdfnet.extraction import extract_mesh
from sdfnet.fields import Box, GridField, MeshField, NeuralField, Sphere
from sdfnet.fields.base import evaluate
from sdfnet.fitting import CompletionConfig, fit
from sdfnet.fitting.calibrate import observe_like, predicted_quantile
from sdfnet.fitting.complete import refined_shape, with_residuals
from sdfnet.fitting.family import FamilyPrior, Symmetry, find_symmetry
from sdfnet.fitting.observations.part import PartObservation, surface_part
from sdfnet.fitting.posterior import Problem
from sdfnet.fitting.refine import ResidualProcess, mesh_residual
from sdfnet.fitting.spread import draw_hypotheses, vertex_spread
from sdfnet.geometry.bounds import Bounds
from sdfnet.geometry.similarity import Similarity
from sdfnet.mesh.distance import MeshDistance
from sdfnet.mesh.io.ply import read_ply_vertices
from sdfnet.mesh.io.write import save_mesh
from sdfnet.runs import RunShape, load_run, mixes

RADII = {"a": 0.4, "b": 0.5, "c": 0.6, "d": 0.8}
PLACE = Similarity([10.0, 0.0, -5.0], 0.1)
IN_PLACE = CompletionConfig("none", frame_of="a")


def run_of_spheres():  # type: ignore[no-untyped-def]
    return sphere_run(RADII, similarities=dict.fromkeys(RADII, PLACE))


def cap(radius: float, *, num: int = 1500, above: float = 0.0) -> NDArray[np.float64]:
    """World points of a sphere in the frame PLACE, above a share of its radius."""
    directions = np.random.default_rng(0).normal(size=(8 * num, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    return PLACE.to_world(radius * directions[directions[:, 1] > above][:num])


def test_half_a_sphere_gives_its_radius_and_outliers_and_noise_do_no_harm() -> None:
    run, points = run_of_spheres(), cap(0.7)
    assert FamilyPrior.of(run).size == 1
    clean = fit(run, surface_part(points, noise_std=0.01), config=IN_PLACE)
    assert float(clean.latents[0, 3]) == pytest.approx(0.7, abs=2e-3)
    random = np.random.default_rng(1)
    dirty = points + random.normal(size=points.shape) * 0.1
    dirty[:300] = PLACE.to_world(random.uniform(-1, 1, size=(300, 3)))
    again = fit(run, surface_part(dirty), config=IN_PLACE)
    assert float(again.latents[0, 3]) == pytest.approx(0.7, abs=5e-3)
    assert again.posteriors[0].to_dict()["outlier_share"] > 0.1


def test_a_part_elsewhere_is_found_with_its_code() -> None:
    run = run_of_spheres()
    shift = np.array([0.9, -0.7, 0.5])
    shifted = cap(0.65, above=-0.5) + shift
    done = fit(run, surface_part(shifted, noise_std=0.01), config=CompletionConfig("rigid"))
    center = done.similarities[0].to_world(np.zeros(3))
    np.testing.assert_allclose(center, PLACE.center + shift, atol=0.15)
    assert float(done.latents[0, 3]) == pytest.approx(0.65, abs=0.01)


def test_parts_of_other_units_and_unknown_frames_are_refused() -> None:
    run = run_of_spheres()
    with pytest.raises(ValueError, match=r"the input extends over .* Are the units the same"):
        fit(run, surface_part(cap(0.7) * 1000, noise_std=1.0))
    with pytest.raises(ValueError, match=r"align=none needs the frame: name the shape .*frame_of=NAME"):
        fit(run, surface_part(cap(0.7), noise_std=0.01), config=CompletionConfig("none"))


def test_several_parts_at_once_are_those_one_by_one() -> None:
    run = run_of_spheres()
    parts = [surface_part(cap(radius), noise_std=0.01) for radius in (0.45, 0.7)]
    both = fit(run, parts, config=IN_PLACE)
    alone = fit(run, parts[1], config=IN_PLACE)
    torch.testing.assert_close(both.latents[1], alone.latents[0])


def test_a_residual_follows_the_data_and_fades_to_the_family() -> None:
    run = run_of_spheres()
    points = PLACE.to_unit(cap(0.6, num=4000, above=0.2))
    direction = points / np.linalg.norm(points, axis=1, keepdims=True)
    bump = 0.03 * np.exp(-(((direction - [0.0, 1.0, 0.0]) / 0.3) ** 2).sum(axis=1))  # no sphere has it
    bumpy = PLACE.to_world(points + bump[:, None] * direction)
    config = dataclasses.replace(IN_PLACE, refine="shape")
    done = fit(run, surface_part(bumpy, noise_std=0.005), config=config)
    code = NeuralField(run.decoder, done.latents[0])
    seen = torch.from_numpy(PLACE.to_unit(bumpy)).float()
    before, after = (float(evaluate(field, seen).abs().mean()) for field in (code, done.fields[0]))
    assert after < 0.25 * before
    below = torch.tensor([[0.0, -0.6, 0.0], [0.3, -0.5, 0.0]])
    torch.testing.assert_close(evaluate(done.fields[0], below), evaluate(code, below), atol=1e-3, rtol=0)


def test_what_is_seen_on_one_side_of_a_symmetric_family_is_known_on_the_other() -> None:
    run = run_of_spheres()
    points = PLACE.to_unit(cap(0.6, num=6000))
    points = points[points[:, 0] > 0.05]
    direction = points / np.linalg.norm(points, axis=1, keepdims=True)
    bump = 0.03 * np.exp(-(((direction - [1.0, 0.0, 0.0]) / 0.3) ** 2).sum(axis=1))
    part = surface_part(PLACE.to_world(points + bump[:, None] * direction), noise_std=0.005)
    ends = torch.tensor([[0.63, 0.0, 0.0], [-0.63, 0.0, 0.0]])
    config = dataclasses.replace(IN_PLACE, refine="shape")
    done, plain = fit(run, part, config=config), fit(run, part, config=dataclasses.replace(config, symmetry="none"))
    assert done.parts[0].notes == ("the family is symmetric along x: what is seen on one side is known on the other",)
    both, one = (evaluate(each.fields[0], ends) for each in (done, plain))
    assert both.abs().max() < 0.01
    assert one[0].abs() < 0.01
    assert one[1] > 0.02  # the plain sphere: nothing was seen there


def test_a_completed_shape_has_as_many_pieces_as_most_learned_ones() -> None:
    run = run_of_spheres()
    counted = zip(run.shapes, (1, 2, 1, 1), strict=True)
    run = dataclasses.replace(run, shapes=tuple(dataclasses.replace(each, num_surfaces=num) for each, num in counted))
    done = fit(run, surface_part(cap(0.7), noise_std=0.01), config=IN_PLACE)
    assert done.shape(0, "new").num_surfaces == 1


def test_a_family_that_is_not_symmetric_is_left_alone() -> None:
    run = sphere_run({"a": 0.5, "b": 0.4})
    run.latents[:, :3] = torch.tensor([0.2, 0.1, -0.15])  # the centres of the spheres
    assert find_symmetry(run) is None
    run.latents[:, 0] = 0
    assert find_symmetry(run) == Symmetry(0, pytest.approx(0.001))


def test_the_residual_of_a_whole_mesh_gives_the_mesh() -> None:
    run = run_of_spheres()
    mesh = extract_mesh(Sphere(0.55, center=[0.05, 0.0, 0.0]), resolution=64)
    residual = mesh_residual(run.field("c"), MeshDistance(mesh), resolution=40, clamp_distance=0.1)
    points = torch.rand(2000, 3, generator=torch.Generator().manual_seed(0)) * 1.4 - 0.7
    true = evaluate(MeshField(mesh), points)
    near = true.abs() < 0.05
    correction = GridField(residual, bounds=Bounds.cube(1.05))
    corrected = evaluate(run.field("c"), points) + evaluate(correction, points)
    assert float((corrected - true)[near].abs().max()) < 4e-3


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that has learned spheres of four radii, in the frame PLACE."""
    names = list(RADII)
    shapes = [RunShape(name, PLACE, f"{name}.obj", "", True, num_surfaces=1) for name in names]
    fields = [Sphere(radius) for radius in RADII.values()]
    return learn_run(tmp_path_factory.mktemp("spheres") / "run", shapes, fields, steps=250)


def test_a_mix_weights_a_residual_as_it_weights_the_code(learned: Path) -> None:
    run = load_run(learned)
    grid = torch.full((8, 8, 8), 0.2)
    joined, code = refined_shape(run, run.latent("a"), grid)
    point = torch.tensor([[0.3, 0.0, 0.0]])
    own, plain = NeuralField(joined.decoder, code)(point), run.field("a")(point)
    assert float(own - plain) == pytest.approx(0.2, abs=1e-3)
    half = NeuralField(joined.decoder, 0.5 * (code + joined.latent("b")))(point)
    without = NeuralField(run.decoder, 0.5 * (run.latent("a") + run.latent("b")))(point)
    assert float(half - without) == pytest.approx(0.1, abs=1e-3)
    twice = with_residuals(joined, [torch.zeros(8, 8, 8)])
    assert twice.latents.shape[1] == run.latents.shape[1] + 2


def test_the_spread_is_wide_where_nothing_was_seen_and_hypotheses_differ() -> None:
    run = run_of_spheres()
    part = surface_part(cap(0.6, above=0.9, num=200), noise_std=0.2)
    done = fit(run, part, config=CompletionConfig("rigid"))
    mesh = extract_mesh(done.fields[0], resolution=32).to_world(done.similarities[0])
    known = vertex_spread(done, 0, mesh)
    top = mesh.vertices[:, 1] > np.quantile(mesh.vertices[:, 1], 0.95)
    bottom = mesh.vertices[:, 1] < np.quantile(mesh.vertices[:, 1], 0.05)
    assert known.seen[top].any()
    assert not known.seen[bottom].any()
    assert known.spread[bottom].mean() > 1.5 * known.spread[top].mean()
    found = draw_hypotheses(done, 0, mesh, 4)
    assert 2 <= len(found) <= 4
    assert [each.probability for each in found] == sorted((each.probability for each in found), reverse=True)
    assert sum(each.probability for each in found) == pytest.approx(1.0)
    sharp = fit(run, surface_part(cap(0.6, above=-1.0), noise_std=0.01), config=IN_PLACE)
    whole = extract_mesh(sharp.fields[0], resolution=32).to_world(sharp.similarities[0])
    assert len(draw_hypotheses(sharp, 0, whole, 4)) < len(found)


def test_bounds_that_hold_say_nothing_about_the_size_of_a_part() -> None:
    run = run_of_spheres()
    problem = Problem(run, FamilyPrior.of(run), CompletionConfig("rigid"))
    part = surface_part(cap(0.6, num=50), noise_std=0.2)
    more = [np.concatenate([getattr(part, name)] * 3) for name in ("points", "noise_std", "normals")]
    lower = np.concatenate([part.lower, np.full(100, -np.inf)])
    with_bounds = PartObservation(more[0], lower, -lower, more[1], np.isfinite(lower), more[2])
    for scale in (1.0, 1.3):
        place = PLACE.then(np.eye(3), scale, np.zeros(3))
        costs = []
        for each in (part, with_bounds):
            rows = problem.rows(each, place)
            coordinates = torch.zeros(1, dtype=torch.float64)
            sdf = problem.values(rows.points, coordinates[None])[0]
            costs.append(problem.objective(rows, sdf, coordinates, place))
        assert costs[1] == pytest.approx(costs[0], rel=1e-9)


def test_draws_from_the_prior_have_its_covariance() -> None:
    process = ResidualProcess(24, std=0.05, correlation=0.5)
    draws = torch.stack([process.sample(torch.Generator().manual_seed(seed)) for seed in range(60)])
    assert float(draws.std()) == pytest.approx(0.05, rel=0.15)
    expected = float(process.kernel(torch.tensor(4 * process.spacing)))
    assert float((draws[:, 4:] * draws[:, :-4]).mean()) == pytest.approx(expected, rel=0.3)


def test_calibrated_bands_hold_as_much_of_one_more_shape_as_they_say() -> None:
    random = np.random.default_rng(0)
    held, pooled = [], []
    for _ in range(400):
        levels = np.exp(0.5 * random.normal(size=6))  # five shapes to calibrate with, and one more
        scores = [level * abs(random.normal(size=100)) for level in levels]
        held.append((scores[5] <= predicted_quantile(scores[:5])).mean())
        pooled.append((scores[5] <= np.quantile(np.concatenate(scores[:5]), 0.9)).mean())
    assert np.mean(held) == pytest.approx(0.9, abs=0.015)
    assert np.mean(pooled) < 0.88  # ten thousand vertices of five shapes are five observations


def test_a_calibration_shape_is_not_seen_from_behind() -> None:
    plate = extract_mesh(Box([0.5, 0.5, 0.01]), resolution=128, vertex_normals=True).to_world(PLACE)
    middle = PLACE.center[2]
    front = plate.vertices[(plate.vertices[:, 2] > middle + 0.05)]
    done = fit(run_of_spheres(), surface_part(front, noise_std=0.01), config=IN_PLACE)
    seen = observe_like(done, 0, plate, plate).surface
    assert len(seen) > 100
    assert (seen[:, 2] > middle).mean() > 0.97


def test_the_command_completes_a_part_writes_all_and_goes_on(
    learned: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.savetxt(tmp_path / "cap.xyz", cap(0.6))
    save_mesh(extract_mesh(Sphere(6.0, center=PLACE.center.tolist()), resolution=40), tmp_path / "cap.obj")
    out = tmp_path / "out"
    words = [f"run={learned}", f"input={tmp_path / 'cap.xyz'}", f"reference={tmp_path / 'cap.obj'}", f"out={out}"]
    words += ["align=none", "frame_of=a", "refine=shape", "hypotheses=2", "resolution=32"]
    assert main(["fit", *words]) == 0
    record = json.loads((out / "fit.json").read_text())["shapes"]["cap"]
    assert record["percent"]["mean"] < 6
    assert record["volume"] == pytest.approx(4 / 3 * np.pi * 6**3, rel=0.15)
    assert 0.2 < record["seen_share"] < 0.9
    columns = read_ply_vertices((out / "spread" / "cap.ply").read_bytes())
    assert {"spread", "seen"} <= set(columns)
    assert set(np.unique(columns["seen"])) <= {0.0, 1.0}
    found = read_ply_vertices((out / "errors" / "cap.ply").read_bytes())
    away = np.stack([found[axis] for axis in "xyz"], axis=1) - np.array(PLACE.center)
    np.testing.assert_allclose(found["error"], np.linalg.norm(away, axis=1) - 6, atol=0.03)  # the facets of the truth
    assert abs(found["error"]).mean() < record["world"]["result_to_source"] + 0.03
    assert (out / "pictures" / "cap.png").stat().st_size > 5000
    assert load_run(out).names == (*RADII, "cap")
    assert mixes.add_mixes(load_run(out), "0.5*a + 0.5*cap")[1] == ["0.5a+0.5cap"]
    capsys.readouterr()
    assert main(["fit", *words]) == 0
    assert "1 shape fitted (1 was there already)" in capsys.readouterr().out
    assert main(["fit", *words[:-3], f"out={tmp_path / 'other'}", "calibrate=true"]) == 1
    assert "calibrate=true needs at least 3 shapes that the run has not learned, got 0" in capsys.readouterr().err
