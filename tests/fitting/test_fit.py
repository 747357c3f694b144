"""Fitting codes: spheres whose code is known, the prior in closed form, independence, and what is refused."""

from __future__ import annotations

import copy
import re
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from exact_spheres import SphereDecoder, sphere_run
from torch import Tensor

from sdfnet.decoders import VolumeConfig, build_decoder
from sdfnet.fitting.codes import fit_codes, with_fitted
from sdfnet.fitting.config import FitConfig
from sdfnet.fitting.family import clamp_distance_of, outer_points
from sdfnet.fitting.observations import DistanceObservation, Observation
from sdfnet.geometry.similarity import Similarity
from sdfnet.runs import Run, RunShape

QUICK = FitConfig(steps=200, batch_points=256, prior_weight=0.0)


def sphere_samples(
    radius: float, center: tuple[float, float, float] = (0.0, 0.0, 0.0), *, reach: float = 0.1, num: int = 4000
) -> Tensor:
    """Points within `reach` of a sphere, and their signed distances; (num, 4)."""
    generator = torch.Generator().manual_seed(1)
    directions = torch.nn.functional.normalize(torch.randn(num, 3, generator=generator), dim=1)
    sdf = reach * (2 * torch.rand(num, 1, generator=generator) - 1)
    return torch.cat([torch.tensor(center) + directions * (radius + sdf), sdf], dim=1)


def observed(*samples: Tensor) -> list[DistanceObservation]:
    return [DistanceObservation(each) for each in samples]


def shape_of(name: str) -> RunShape:
    return RunShape(name, Similarity.identity(), f"{name}.obj", content_hash="", closed=True)


def test_the_code_of_a_sphere_is_its_center_and_radius() -> None:
    run = sphere_run({"small": 0.4, "large": 0.8})
    wanted = [(0.6, (0.1, 0.0, -0.05)), (0.5, (0.0, -0.1, 0.0))]
    found = fit_codes(run, observed(*(sphere_samples(*each) for each in wanted)), config=QUICK)
    expected = torch.tensor([[*center, radius] for radius, center in wanted])
    torch.testing.assert_close(found.latents, expected, atol=1e-3, rtol=0)
    assert max(found.losses) < 1e-3


def test_a_learned_shape_is_found_again_from_its_own_code() -> None:
    run = sphere_run({"small": 0.4, "large": 0.8})
    found = fit_codes(
        run,
        observed(sphere_samples(0.8), sphere_samples(0.4)),
        config=replace(QUICK, steps=1, num_starts=2, learning_rate=0.03),
    )
    assert found.starts == ("large", "small")
    torch.testing.assert_close(found.latents, run.latents[[1, 0]])
    assert found.losses == pytest.approx((0.0, 0.0), abs=1e-6)


def test_without_learned_starts_the_mean_code_is_the_start() -> None:
    run = sphere_run({"small": 0.4, "large": 0.8})
    found = fit_codes(run, observed(sphere_samples(0.55)), config=replace(QUICK, num_starts=1))
    assert found.starts == (None,)
    assert float(found.latents[0, 3]) == pytest.approx(0.55, abs=1e-3)


@pytest.mark.parametrize("weight", [1.0, 2.0])
def test_the_prior_pulls_the_code_to_where_both_slopes_are_equal(weight: float) -> None:
    # Near the surface of a sphere about the origin every difference is (radius - code), so the optimum of
    # radius - code + weight code² is 1 / (2 weight), wherever the sphere is larger than that.
    run = sphere_run({"small": 0.4, "large": 0.8})
    half = sphere_samples(0.7, reach=0.04, num=1000)
    samples = torch.cat([half, half * torch.tensor([-1.0, -1.0, -1.0, 1.0])])  # nothing pulls the centre
    found = fit_codes(run, observed(samples), config=replace(QUICK, batch_points=2000, prior_weight=weight))
    torch.testing.assert_close(found.latents[0], torch.tensor([0.0, 0.0, 0.0, 1 / (2 * weight)]), atol=2e-3, rtol=0)
    assert found.losses[0] == pytest.approx(0.7 - 1 / (2 * weight), abs=2e-3)


def test_the_same_seed_gives_the_same_codes_and_another_shape_changes_none() -> None:
    run = sphere_run({"small": 0.4, "large": 0.8})
    samples = observed(sphere_samples(0.6, (0.1, 0.0, 0.0)), sphere_samples(0.5, num=900))
    both, again = (fit_codes(run, samples, config=QUICK).latents for _ in range(2))
    assert torch.equal(both, again)
    alone = fit_codes(run, samples[1:], config=QUICK).latents
    torch.testing.assert_close(alone[0], both[1], atol=1e-5, rtol=0)
    other = fit_codes(run, samples, config=replace(QUICK, seed=1)).latents
    assert not torch.equal(other, both)


def volume_run() -> Run:
    config = VolumeConfig(latent_size=4, base_resolution=4, channels=(8, 8), width=16)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        decoder = build_decoder(config)
    latents = torch.eye(4)[:2]
    return Run(Path("r"), {"config": {"decoder": asdict(config)}}, decoder, latents, (shape_of("a"), shape_of("b")), 1)


def test_fitting_leaves_the_decoder_and_the_learned_codes_as_they_were() -> None:
    run = volume_run()
    run.decoder.train()
    before, latents = copy.deepcopy(run.decoder.state_dict()), run.latents.clone()
    fit_codes(run, observed(sphere_samples(0.6)), config=FitConfig(steps=3, batch_points=64))
    assert all(torch.equal(before[name], tensor) for name, tensor in run.decoder.state_dict().items())
    assert all(parameter.grad is None for parameter in run.decoder.parameters())
    assert run.decoder.training
    assert torch.equal(run.latents, latents)


def test_a_fit_is_never_worse_than_its_start() -> None:
    run = volume_run()
    samples = sphere_samples(0.6)
    begun = fit_codes(run, observed(samples), config=FitConfig(steps=1, batch_points=64, learning_rate=1e-9))
    thrown = fit_codes(run, observed(samples), config=FitConfig(steps=5, batch_points=64, learning_rate=1e6))
    assert thrown.losses[0] <= begun.losses[0] * (1 + 1e-4)


def test_fitted_shapes_join_the_run_and_replace_their_namesakes() -> None:
    run = sphere_run({"a": 0.4, "b": 0.8})
    joined = with_fitted(run, [shape_of("b"), shape_of("c")], torch.tensor([[0.0, 0, 0, 0.5], [0.0, 0, 0, 0.6]]))
    assert joined.names == ("a", "b", "c")
    assert joined.latents[:, 3].tolist() == pytest.approx([0.4, 0.5, 0.6])
    assert run.names == ("a", "b")
    with pytest.raises(ValueError, match=re.escape("got 1 names for 2 shapes and codes of shape (2, 4)")):
        with_fitted(run, [shape_of("c")] * 2, torch.zeros(2, 4))


def test_rows_that_cannot_be_and_no_observations_are_refused() -> None:
    with pytest.raises(ValueError, match=re.escape("rows must have shape (N, 4), got (5, 3)")):
        DistanceObservation(torch.zeros(5, 3))
    with pytest.raises(ValueError, match="rows must be finite, got 20 numbers that are not"):
        DistanceObservation(torch.full((5, 4), torch.nan))
    with pytest.raises(ValueError, match="observations must hold at least one, got none"):
        fit_codes(sphere_run({"a": 0.4}), [])


def test_another_kind_of_observation_needs_a_misfit_and_rows_only() -> None:
    class OnSurface(Observation):
        """Points of the surface without distances, (N, 3)."""

        shape, reference, notes = None, None, ()

        def __init__(self, rows: Tensor) -> None:
            self.rows = rows

        def misfit(self, sdf_pred: Tensor, rows: Tensor, *, clamp_distance: float) -> Tensor:
            return sdf_pred.abs().mean()

    run = sphere_run({"small": 0.4, "large": 0.8})
    surface = OnSurface(sphere_samples(0.6, reach=0.0)[:, :3])
    found = fit_codes(run, [surface, *observed(sphere_samples(0.5))], config=QUICK)
    assert found.latents[:, 3].tolist() == pytest.approx([0.6, 0.5], abs=1e-3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "steps must be at least 1, got 0"),
        ({"num_starts": 0}, "num_starts must be at least 1, got 0"),
        ({"learning_rate": 0.0}, "learning_rate must be positive and finite, or null, got 0.0"),
        ({"prior_weight": -1.0}, "prior_weight must be 0 or more, got -1.0"),
    ],
)
def test_options_that_cannot_be_are_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        FitConfig(**options)


class GhostDecoder(SphereDecoder):
    """A sphere, and a ghost near the corner of the cube that is largest where the code's first number is 0."""

    def decode(self, points_BN3: Tensor, conditioned: tuple[Tensor, ...]) -> Tensor:
        (latents_BL,) = conditioned
        size_B1 = 0.3 - 10 * latents_BL[:, :1].square()
        ghost_BN = (points_BN3 - 0.8).norm(dim=-1) - size_B1
        return torch.minimum(points_BN3.norm(dim=-1) - latents_BL[:, 3:], ghost_BN)


def ghost_run() -> Run:
    """Two spheres without a ghost. Their mean has one."""
    run = replace(sphere_run({"left": 0.5, "right": 0.5}), decoder=GhostDecoder())
    return replace(run, latents=torch.tensor([[-0.28, 0.0, 0.0, 0.5], [0.3, 0.0, 0.0, 0.5]]))


def test_outer_points_are_beyond_the_clamp_distance_of_all_learned_shapes() -> None:
    run = sphere_run({"small": 0.4, "large": 0.7})
    distances = outer_points(run).norm(dim=1) - 0.7
    assert float(distances.min()) > clamp_distance_of(run)
    assert float(distances.min()) < clamp_distance_of(run) + 2 * 2.1 / 23 * 3**0.5


def test_a_fit_has_no_surface_where_neither_observation_nor_family_has_one() -> None:
    run = ghost_run()
    found = fit_codes(run, observed(sphere_samples(0.45)), config=replace(QUICK, num_starts=1, learning_rate=0.01))
    corner = torch.full((1, 1, 3), 0.8)
    assert float(run.decoder(corner, run.latents.mean(dim=0)[None])) < 0
    assert float(run.decoder(corner, found.latents)) > 0
    assert float(found.latents[0, 3]) == pytest.approx(0.45, abs=1e-3)


def test_an_observed_surface_outside_the_family_stays() -> None:
    ghost = sphere_samples(0.29, (0.8, 0.8, 0.8), num=2000)
    found = fit_codes(
        ghost_run(), observed(torch.cat([sphere_samples(0.5, num=2000), ghost])),
        config=replace(QUICK, num_starts=1, learning_rate=0.01),
    )  # fmt: skip
    assert 0.3 - 10 * float(found.latents[0, 0]) ** 2 == pytest.approx(0.29, abs=0.01)
