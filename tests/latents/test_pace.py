"""Travel of known surfaces in closed form, and frames at an even pace."""

import math

import numpy as np
import pytest
import torch
from exact_spheres import sphere_run

from sdfnet.geometry.similarity import Similarity
from sdfnet.latents.frames import MorphConfig, plan_frames
from sdfnet.latents.interpolation import ease
from sdfnet.latents.pace import surface_travel


def codes_along(run, num_steps: int) -> torch.Tensor:
    shares = torch.linspace(0, 1, 2 * num_steps + 1)[:, None]
    return run.latents[0] + shares * (run.latents[1] - run.latents[0])


def test_a_sphere_that_grows_travels_by_what_its_radius_grows() -> None:
    run = sphere_run({"a": 0.2, "b": 0.9})
    travel = surface_travel(run.decoder, codes_along(run, 4), np.zeros((9, 4)))
    assert travel == pytest.approx([0.175] * 4, rel=1e-3)


def test_a_sphere_that_moves_travels_by_half_its_way_in_the_mean() -> None:
    run = sphere_run({"a": 0.4, "b": 0.4})
    places = np.zeros((9, 4))
    places[:, 0] = np.linspace(0, 8, 9)
    assert surface_travel(run.decoder, codes_along(run, 4), places) == pytest.approx([1.0] * 4, rel=0.03)
    codes = codes_along(run, 4)
    codes[:, 1] = torch.linspace(-0.2, 0.2, 9)
    assert surface_travel(run.decoder, codes, np.zeros((9, 4))) == pytest.approx([0.05] * 4, rel=0.06)


def test_in_the_world_growing_by_code_and_by_scale_can_cancel() -> None:
    run = sphere_run({"a": 0.4, "b": 0.8})
    codes = codes_along(run, 16)
    places = np.zeros((33, 4))
    places[:, 3] = np.log(codes[:, 3].numpy())
    assert surface_travel(run.decoder, codes, places) == pytest.approx([0.0] * 16, abs=1e-4)
    places[:, 3] = -places[:, 3]
    radii = codes[::2, 3].double().numpy() ** 2
    assert surface_travel(run.decoder, codes, places) == pytest.approx(np.diff(radii), rel=0.01)


def test_a_surface_that_is_nowhere_travels_nothing() -> None:
    run = sphere_run({"a": -0.5, "b": -0.2})
    assert surface_travel(run.decoder, codes_along(run, 2), np.zeros((5, 4))).tolist() == [0.0, 0.0]


@pytest.mark.parametrize("playback", ["once", "loop"])
def test_frames_are_shared_out_by_travel_and_spheres_grow_by_equal_steps(playback: str) -> None:
    """0.3 → 0.9 → 0.8 → 0.3: travels 0.6, 0.1 (and back 0.5)."""
    run = sphere_run({"a": 0.3, "b": 0.9, "c": 0.8})
    steps = 12 if playback == "loop" else 7
    frames = steps + (playback == "once")
    config = MorphConfig(frames=frames, easing="linear", pace="surface", playback=playback)
    planned = plan_frames(run, ["a", "b", "c"], config=config)
    radii = [float(frame.latent[3]) for frame in planned]
    expected = np.interp(np.arange(frames), [0, 6, 7, 12], [0.3, 0.9, 0.8, 0.3])
    assert radii == pytest.approx(expected.tolist(), abs=2e-3)
    assert [frame.shape for frame in planned if frame.shape] == ["a", "b", "c"]
    assert torch.equal(planned[6].latent, run.latent("b"))
    assert [frame.time for frame in planned] == pytest.approx((np.arange(frames) / steps).tolist())


def test_easing_acts_on_the_share_of_the_travel() -> None:
    """The world makes the sphere's travel uneven in code time: its world radius is 0.4 · 0.01^-t."""
    run = sphere_run({"a": 0.4, "b": 0.4}, similarities={"b": Similarity([0, 0, 0], 0.01)})
    frames = plan_frames(run, ["a", "b"], config=MorphConfig(frames=21, easing="smooth", pace="surface"))
    radii = np.array([0.4 / frame.similarity.scale for frame in frames])
    expected = 0.4 + 39.6 * ease(np.linspace(0, 1, 21), easing="smooth")
    assert radii == pytest.approx(expected, abs=0.4)
    unit = plan_frames(run, ["a", "b"], config=MorphConfig(frames=21, pace="surface", frame="unit"))
    assert {frame.similarity.scale for frame in unit} == {1.0}


def test_given_key_times_are_kept() -> None:
    run = sphere_run({"a": 0.3, "b": 0.9, "c": 0.8})
    config = MorphConfig(frames=11, easing="linear", pace="surface", key_times=(0, 0.2, 1))
    planned = plan_frames(run, ["a", "b", "c"], config=config)
    assert [float(frame.latent[3]) for frame in planned[:3]] == pytest.approx([0.3, 0.6, 0.9], abs=2e-3)
    assert planned[2].shape == "b"


@pytest.mark.parametrize("path", ["linear", "spherical", "spline", "natural"])
def test_key_frames_have_their_code_and_similarity_to_the_bit_at_any_pace(path: str) -> None:
    places = {"a": Similarity([0, 0, 0], 1.0), "b": Similarity([1, 2, 1e3], 0.3), "c": Similarity([0.1, 0.2, 0], 0.7)}
    run = sphere_run({"a": 0.3, "b": 0.9, "c": 0.5}, similarities=places)
    keys = ["a", "c", "c", "b", "a"]
    frames = plan_frames(run, keys, config=MorphConfig(frames=17, path=path, pace="surface"))
    at_key = [frame for frame in frames if frame.shape]
    assert [frame.shape for frame in at_key] == keys
    for frame in at_key:
        assert torch.equal(frame.latent, run.latent(frame.shape))
        assert frame.similarity.to_dict() == run.similarity(frame.shape).to_dict()


def test_wrong_shapes_are_refused() -> None:
    run = sphere_run({"a": 0.4, "b": 0.8})
    with pytest.raises(ValueError, match=r"odd number of codes.*got \(4, 4\) and \(4, 4\)"):
        surface_travel(run.decoder, torch.zeros(4, 4), np.zeros((4, 4)))
    with pytest.raises(ValueError, match="pace must be one of code, surface, got 'even'"):
        MorphConfig(pace="even")
    assert math.isfinite(surface_travel(run.decoder, codes_along(run, 1), np.zeros((3, 4)))[0])
