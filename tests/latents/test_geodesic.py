"""Bent paths where a better one than the straight is known, and the gaps between pieces that guide them."""

from pathlib import Path

import numpy as np
import pytest
import torch
from exact_spheres import sphere_run
from torch import Tensor

from sdfnet.decoders.base import Decoder
from sdfnet.geometry.similarity import Similarity
from sdfnet.latents.geodesic import bend, bend_path, find_loose_components
from sdfnet.morphs.plan import MorphConfig, plan_frames
from sdfnet.runs import Run, RunShape


class SprayingDecoder(Decoder):
    """A ball that moves along x with the first number of the code, and half-way there is a second, loose ball.

    The second number makes the loose ball smaller.
    """

    latent_size = 2

    def condition(self, latents_BL: Tensor) -> tuple[Tensor, ...]:
        return (latents_BL,)

    def decode(self, points_BN3: Tensor, conditioned: tuple[Tensor, ...]) -> Tensor:
        (code,) = conditioned
        ball = (points_BN3 - torch.tensor([0.4, 0.0, 0.0]) * code[:, None, :1]).norm(dim=-1) - 0.4
        center = torch.tensor([0.0, 0.75, 0.0])
        loose = (points_BN3 - center).norm(dim=-1) - (0.2 - 0.3 * code[:, :1].square() - code[:, 1:])
        return torch.minimum(ball, loose)


class NeckedDecoder(Decoder):
    """Two balls on a rod whose thickness dips below nothing half-way, unless the second number holds it."""

    latent_size = 2

    def condition(self, latents_BL: Tensor) -> tuple[Tensor, ...]:
        return (latents_BL,)

    def decode(self, points_BN3: Tensor, conditioned: tuple[Tensor, ...]) -> Tensor:
        (code,) = conditioned
        center = torch.tensor([0.55, 0.0, 0.0])
        balls = torch.minimum((points_BN3 - center).norm(dim=-1), (points_BN3 + center).norm(dim=-1)) - 0.35
        across = points_BN3[..., 1:].norm(dim=-1)
        thickness = 0.12 * (2 * code[:, :1].square() - 1) + code[:, 1:]
        rod = torch.maximum(across - thickness, points_BN3[..., 0].abs() - 0.5)
        return torch.minimum(balls, rod)


def run_of(decoder: Decoder) -> Run:
    codes = {"a": [-1.0, 0.0], "b": [1.0, 0.0], "c": [1.0, 0.4]}
    shapes = tuple(RunShape(name, Similarity.identity(), f"{name}.obj", "", closed=True) for name in codes)
    return Run(Path("run"), {}, decoder, torch.tensor(list(codes.values())), shapes, 1)


def middle(run: Run, path: str) -> Tensor:
    return plan_frames(run, ["a", "b"], config=MorphConfig(frames=3, path=path))[1].latent


def test_a_loose_ball_that_a_bend_avoids_is_avoided() -> None:
    run = run_of(SprayingDecoder())
    inside = torch.tensor([[[0.0, 0.75, 0.0]]])
    assert run.decoder(inside, middle(run, "linear")[None]) < 0
    code = middle(run, "geodesic")
    assert run.decoder(inside, code[None]) > 0
    assert abs(float(code[0])) < 0.5


def test_a_rod_that_would_break_is_held() -> None:
    run = run_of(NeckedDecoder())
    between = torch.tensor([[[0.0, 0.0, 0.0]]])
    assert run.decoder(between, middle(run, "linear")[None]) > 0
    assert run.decoder(between, middle(run, "geodesic")[None]) < 0


def test_a_path_without_loose_pieces_goes_on_steadily_and_is_the_same_each_time() -> None:
    run = sphere_run({"a": 0.3, "b": 0.9, "c": 0.6})
    frames = plan_frames(run, ["a", "b"], config=MorphConfig(frames=9, path="geodesic", easing="linear"))
    again = plan_frames(run, ["a", "b"], config=MorphConfig(frames=9, path="geodesic", easing="linear"))
    for frame, other in zip(frames, again, strict=True):
        assert torch.equal(frame.latent, other.latent)
        assert frame.latent[:3].tolist() == [0, 0, 0]
    radii = np.array([float(frame.latent[3]) for frame in frames])
    assert (np.diff(radii) > 0).all()


@pytest.mark.parametrize("playback", ["once", "loop"])
def test_keys_of_a_geodesic_have_their_very_code_and_place(playback: str) -> None:
    places = {"a": Similarity([0, 0, 0], 1.0), "b": Similarity([5, 1, 1e4], 0.3)}
    run = sphere_run({"a": 0.3, "b": 0.7}, similarities=places)
    config = MorphConfig(frames=6, path="geodesic", playback=playback, pace="surface")
    at_key = [frame for frame in plan_frames(run, ["a", "b"], config=config) if frame.shape]
    assert [frame.shape for frame in at_key] == ["a", "b"]
    for frame in at_key:
        assert torch.equal(frame.latent, run.latent(frame.shape))
        assert frame.similarity.to_dict() == run.similarity(frame.shape).to_dict()


def test_equal_ends_are_not_bent_without_need() -> None:
    run = sphere_run({"a": 0.5, "b": 0.7})
    amplitudes = bend_path(run.decoder, run.latents[0], run.latents[0], spread=torch.zeros(4))
    assert torch.equal(amplitudes, torch.zeros(4, 4))


def test_a_bend_vanishes_at_both_ends_and_its_waves_have_their_nodes() -> None:
    amplitudes = torch.eye(4)
    added = bend(torch.tensor([0.0, 0.25, 0.5, 1.0]), amplitudes)
    assert torch.equal(added[[0, 3]], torch.zeros(2, 4))
    assert added[2].tolist() == pytest.approx([1, 0, -1 / 3, 0], abs=1e-6)
    assert added[1].tolist() == pytest.approx([0.5**0.5, 0.5, 0.5**0.5 / 3, 0], abs=1e-6)


def solid(*boxes: tuple[slice, slice, slice]) -> np.ndarray:
    values = np.full((12, 12, 24), 0.05, dtype=np.float32)
    for box in boxes:
        values[box] = -0.02
    return values


def test_a_large_piece_is_joined_along_the_shortest_gap() -> None:
    values = solid(np.s_[2:8, 2:8, 2:8], np.s_[2:8, 4:6, 11:16])
    found = find_loose_components(values)
    assert found.loose_share == pytest.approx(60 / (60 + 216))
    assert len(found.higher) == 0
    places = np.stack(np.unravel_index(found.lower, values.shape), axis=1)
    assert sorted(places[:, 2].tolist()) == [8, 9, 10]
    assert len({tuple(place[:2]) for place in places.tolist()}) == 1


def test_a_piece_out_of_reach_or_tiny_is_to_go() -> None:
    far = solid(np.s_[2:8, 2:8, 2:8], np.s_[2:8, 4:6, 14:19])
    far[:, :, 9:13] = 0.2
    assert len(find_loose_components(far).lower) == 0
    assert len(find_loose_components(far).higher) == 60
    tiny = solid(np.s_[:, :, 0:10], np.s_[5, 5, 12])
    assert (len(find_loose_components(tiny).lower), len(find_loose_components(tiny).higher)) == (0, 1)
    assert find_loose_components(solid(np.s_[2:8, 2:8, 2:8])).loose_share == 0
