"""Travel of known surfaces in closed form, and frames at an even pace."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from exact_spheres import SphereDecoder, sphere_run

from sdfnet.decoders.base import Decoder
from sdfnet.geometry.similarity import Similarity
from sdfnet.latents.arc_length import surface_displacements
from sdfnet.latents.interpolation import ease
from sdfnet.morphs import plan as frames_module
from sdfnet.morphs.plan import MorphConfig, plan_frames, time_frames


class RodsDecoder(Decoder):
    """The exact distance to a sphere of radius 0.35 and eight separate thin rods; the code is their radius."""

    latent_size = 1
    length = 0.7

    def condition(self, latents_BL: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return (latents_BL,)

    def decode(self, points_BN3: torch.Tensor, conditioned: tuple[torch.Tensor, ...]) -> torch.Tensor:
        (latents_BL,) = conditioned
        sphere = (points_BN3 - torch.tensor([-0.5, 0.0, 0.0])).norm(dim=-1) - 0.35
        axis = torch.nn.functional.normalize(torch.tensor([1.0, 0.2, 0.1]), dim=0)
        starts = torch.tensor([[0.05, -0.65 + 0.17 * k, 0.1 * k - 0.4] for k in range(8)])
        offsets = points_BN3[:, :, None] - starts
        along = (offsets @ axis).clamp(0, self.length)
        rods = (offsets - along[..., None] * axis).norm(dim=-1).amin(dim=-1) - latents_BL[:, :1]
        return torch.minimum(sphere, rods)


class RushDecoder(SphereDecoder):
    """A sphere whose radius goes from 0.2 to 0.8 with its code from -1 to 1, two thirds of that within a twentieth."""

    def condition(self, latents_BL: torch.Tensor) -> tuple[torch.Tensor, ...]:
        radii = 0.5 + 0.1 * latents_BL[:, 3:] + 0.2 * torch.tanh(40 * latents_BL[:, 3:])
        return (torch.cat([latents_BL[:, :3], radii], dim=1),)


class BreathDecoder(SphereDecoder):
    """A sphere whose radius goes from 0.3 to 0.6 and back as its code goes from 0 to 1."""

    def condition(self, latents_BL: torch.Tensor) -> tuple[torch.Tensor, ...]:
        radii = 0.3 + 0.3 * torch.sin(math.pi * latents_BL[:, 3:])
        return (torch.cat([latents_BL[:, :3], radii], dim=1),)


class SteepDecoder(SphereDecoder):
    """The spheres, from a field that rises so fast beside them that points end up to 0.001 from the surface."""

    def decode(self, points_BN3: torch.Tensor, conditioned: tuple[torch.Tensor, ...]) -> torch.Tensor:
        return torch.sinh(120 * super().decode(points_BN3, conditioned).clamp(-0.2, 0.2)) / 120


def radii_along(codes: np.ndarray) -> np.ndarray:
    """The radii of the spheres of `RushDecoder`."""
    return 0.5 + 0.1 * codes + 0.2 * np.tanh(40 * codes)


def codes_along(run, num_steps: int) -> torch.Tensor:
    shares = torch.linspace(0, 1, num_steps + 1)[:, None]
    return run.latents[0] + shares * (run.latents[1] - run.latents[0])


def test_a_sphere_that_grows_travels_by_what_its_radius_grows() -> None:
    run = sphere_run({"a": 0.2, "b": 0.9})
    travel = surface_displacements(run.decoder, codes_along(run, 4), np.zeros((5, 4)))
    assert travel == pytest.approx([0.175] * 4, rel=1e-3)


def test_a_sphere_that_moves_travels_by_half_its_way_in_the_mean() -> None:
    run = sphere_run({"a": 0.4, "b": 0.4})
    places = np.zeros((5, 4))
    places[:, 0] = np.linspace(0, 8, 5)
    assert surface_displacements(run.decoder, codes_along(run, 4), places) == pytest.approx([1.0] * 4, rel=0.03)
    codes = codes_along(run, 4)
    codes[:, 1] = torch.linspace(-0.2, 0.2, 5)
    assert surface_displacements(run.decoder, codes, np.zeros((5, 4))) == pytest.approx([0.05] * 4, rel=0.06)


def test_steps_shorter_than_points_are_off_the_surface_are_told_as_well() -> None:
    run = replace(sphere_run({"a": 0.5, "b": 0.5004}), decoder=SteepDecoder())
    travel = surface_displacements(run.decoder, codes_along(run, 4), np.zeros((5, 4)))
    assert travel == pytest.approx([0.0001] * 4, rel=0.03)


def test_in_the_world_growing_by_code_and_by_scale_can_cancel() -> None:
    run = sphere_run({"a": 0.4, "b": 0.8})
    codes = codes_along(run, 16)
    places = np.zeros((17, 4))
    places[:, 3] = np.log(codes[:, 3].numpy())
    assert surface_displacements(run.decoder, codes, places) == pytest.approx([0.0] * 16, abs=1e-4)
    places[:, 3] = -places[:, 3]
    radii = codes[:, 3].double().numpy() ** 2
    assert surface_displacements(run.decoder, codes, places) == pytest.approx(np.diff(radii), rel=0.01)


def test_a_surface_that_is_nowhere_travels_nothing() -> None:
    run = sphere_run({"a": -0.5, "b": -0.2})
    assert surface_displacements(run.decoder, codes_along(run, 2), np.zeros((3, 4))).tolist() == [0.0, 0.0]


def test_thin_rods_weigh_as_much_as_their_area() -> None:
    """A coarse lattice has nodes in a layer thicker than the rods, which would weigh too much."""
    radii, decoder = np.array([0.012, 0.014]), RodsDecoder()
    rods = 8 * (2 * math.pi * radii * decoder.length + 4 * math.pi * radii**2)
    expected = 0.002 * float((rods / (rods + 4 * math.pi * 0.35**2)).mean())
    travel = surface_displacements(decoder, torch.tensor(radii)[:, None].float(), np.zeros((2, 4)))
    assert travel == pytest.approx([expected], rel=0.05)


def test_frames_are_even_where_the_code_rushes() -> None:
    """In frames even by code, one step in 59 holds a third of the travel."""
    run = replace(sphere_run({"a": -1.0, "b": 1.0}), decoder=RushDecoder())
    frames = plan_frames(run, ["a", "b"], config=MorphConfig(frames=60, easing="linear", pace="surface"))
    codes = np.array([float(frame.latent[3]) for frame in frames])
    steps = np.diff(radii_along(codes))
    assert steps.max() / steps.min() < 1.03


@pytest.mark.parametrize("up_axis", ["x", "y", "z"])
def test_on_the_way_to_a_far_place_the_shape_changes_evenly_and_so_does_the_place(up_axis: str) -> None:
    """At one pace for both, nearly all frames would go to the way, and the sphere would rush as its code does."""
    up = "xyz".index(up_axis)
    places = {"a": Similarity([5, 5, 5], 1.0), "b": Similarity(np.insert([105, -50], up, 5), 1.0)}
    run = replace(sphere_run({"a": -1.0, "b": 1.0}, similarities=places), decoder=RushDecoder())
    config = MorphConfig(frames=60, easing="linear", pace="surface", up_axis=up_axis)
    frames = plan_frames(run, ["a", "b"], config=config)
    codes = np.array([float(frame.latent[3]) for frame in frames])
    steps = np.diff(radii_along(codes))
    assert steps.max() / steps.min() < 1.03
    moves = np.diff([frame.similarity.center for frame in frames], axis=0)
    assert moves == pytest.approx(np.tile(np.insert([100 / 59, -55 / 59], up, 0), (59, 1)), abs=1e-9)


def test_height_goes_with_the_shape_so_that_feet_stay_on_the_ground() -> None:
    places = {"a": Similarity([0, 0.2, 0], 1.0), "b": Similarity([0, 0.8, 9], 1.0)}
    run = replace(sphere_run({"a": -1.0, "b": 1.0}, similarities=places), decoder=RushDecoder())
    frames = plan_frames(run, ["a", "b"], config=MorphConfig(frames=20, easing="linear", pace="surface"))
    heights = np.array([frame.similarity.center[1] for frame in frames])
    codes = np.array([float(frame.latent[3]) for frame in frames])
    assert heights == pytest.approx(0.5 + 0.3 * codes, abs=1e-6)


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


def test_without_an_easing_the_surface_goes_evenly_and_the_code_smoothly() -> None:
    """With the smooth easing of codes the steps in the middle would be some forty times the first one."""
    run = replace(sphere_run({"a": -1.0, "b": 1.0}), decoder=RushDecoder())
    frames = plan_frames(run, ["a", "b"], config=MorphConfig(frames=60, pace="surface"))
    steps = np.diff(radii_along(np.array([float(frame.latent[3]) for frame in frames])))
    assert steps.max() / steps.min() < 1.03
    by_code = plan_frames(run, ["a", "b"], config=MorphConfig(frames=60))
    smooth = plan_frames(run, ["a", "b"], config=MorphConfig(frames=60, easing="smooth"))
    assert all(torch.equal(frame.latent, same.latent) for frame, same in zip(by_code, smooth, strict=True))
    assert float(by_code[1].latent[3]) == pytest.approx(2 * ease(np.array([1 / 59]), easing="smooth")[0] - 1)
    assert replace(MorphConfig(), pace="surface").easing_used == "linear"


@pytest.mark.parametrize("easing", [None, "smooth"])
def test_frames_tell_what_the_surface_travels_to_them_without_the_way_over_the_ground(easing: str | None) -> None:
    places = {"a": Similarity([5, 5, 5], 1.0), "b": Similarity([105, 5, -50], 0.5)}
    run = replace(sphere_run({"a": -1.0, "b": 1.0}, similarities=places), decoder=RushDecoder())
    frames = plan_frames(run, ["a", "b"], config=MorphConfig(frames=40, easing=easing, pace="surface"))
    radii = radii_along(np.array([float(frame.latent[3]) for frame in frames]))
    expected = np.diff(radii / [frame.similarity.scale for frame in frames])
    assert frames[0].displacement is None
    assert [frame.displacement for frame in frames[1:]] == pytest.approx(expected.tolist(), rel=0.01)


def test_what_frames_tell_is_measured_not_aimed_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """Frames at the times of the code: one step in 59 holds a third of the travel, and says so."""
    monkeypatch.setattr(
        frames_module,
        "time_frames",
        lambda num_keys, *, config, **_: time_frames(num_keys, config=config),
    )
    run = replace(sphere_run({"a": -1.0, "b": 1.0}), decoder=RushDecoder())
    frames = plan_frames(run, ["a", "b"], config=MorphConfig(frames=60, pace="surface"))
    steps = np.diff(radii_along(np.linspace(-1, 1, 60)))
    travels = [frame.displacement for frame in frames[1:]]
    assert travels == pytest.approx(steps.tolist(), rel=0.01)
    assert max(travels) / min(travels) > 50
    assert {frame.displacement for frame in plan_frames(run, ["a", "b"], config=MorphConfig(frames=60))} == {None}


def test_travel_to_a_frame_is_that_of_the_whole_way_there() -> None:
    """Between the two frames the sphere breathes in and out by 0.3, and both look the same."""
    run = replace(sphere_run({"a": 0.0, "b": 1.0}), decoder=BreathDecoder())
    frames = plan_frames(run, ["a", "b"], config=MorphConfig(frames=2, pace="surface"))
    assert frames[1].displacement == pytest.approx(0.6, rel=0.01)


def test_the_first_frame_of_a_loop_tells_of_the_way_from_the_last() -> None:
    run = sphere_run({"a": 0.3, "b": 0.9, "c": 0.8})
    frames = plan_frames(run, ["a", "b", "c"], config=MorphConfig(frames=6, pace="surface", playback="loop"))
    radii = np.array([float(frame.latent[3]) for frame in frames])
    expected = np.abs(radii - np.roll(radii, 1))
    assert [frame.displacement for frame in frames] == pytest.approx(expected.tolist(), rel=0.01)
    assert expected[0] > 0.1


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
    with pytest.raises(ValueError, match=r"two codes or more.*got \(4, 4\) and \(3, 4\)"):
        surface_displacements(run.decoder, torch.zeros(4, 4), np.zeros((3, 4)))
    with pytest.raises(ValueError, match="pace must be one of code, surface, got 'even'"):
        MorphConfig(pace="even")
    assert math.isfinite(surface_displacements(run.decoder, codes_along(run, 1), np.zeros((2, 4)))[0])
