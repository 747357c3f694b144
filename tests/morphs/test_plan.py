"""What a morph's frames are before extraction: keys to the bit, places in between."""

import math

import pytest
import torch
from exact_spheres import sphere_run

from sdfnet.geometry.similarity import Similarity
from sdfnet.morphs.plan import MorphConfig, morph_keys, plan_frames

PLACES = {"a": Similarity([0, 0, 0], 1.0), "b": Similarity([10, 0, 1e6], 0.01), "c": Similarity([0.1, 0.2, 0.3], 0.3)}


def run_of_three():
    return sphere_run({"a": 0.3, "b": 0.9, "c": 0.5}, similarities=PLACES)


@pytest.mark.parametrize("path", ["linear", "spherical", "spline", "natural"])
@pytest.mark.parametrize("playback", ["once", "loop", "pingpong"])
def test_frames_that_are_shapes_have_their_code_and_similarity_to_the_bit(path: str, playback: str) -> None:
    run = run_of_three()
    keys = ["a", "c", "b", "a"]
    frames = plan_frames(run, keys, config=MorphConfig(frames=23, path=path, playback=playback))
    at_key = [frame for frame in frames if frame.shape]
    assert [frame.shape for frame in at_key] == keys
    assert frames[0] is at_key[0]
    for frame in at_key:
        assert torch.equal(frame.latent, run.latent(frame.shape))
        assert frame.similarity.to_dict() == run.similarity(frame.shape).to_dict()
    if playback != "loop":
        assert frames[-1] is at_key[-1]


def test_places_move_straight_and_scales_by_equal_factors() -> None:
    config = MorphConfig(frames=5, easing="linear", path="spherical")
    frames = plan_frames(run_of_three(), ["a", "b"], config=config)
    assert [frame.similarity.scale for frame in frames] == pytest.approx([1, 10**-0.5, 0.1, 10**-1.5, 0.01])
    assert frames[1].similarity.center.tolist() == pytest.approx([2.5, 0, 2.5e5])


def test_place_and_code_keep_the_same_pace() -> None:
    frames = plan_frames(run_of_three(), ["a", "b"], config=MorphConfig(frames=9, easing="smooth"))
    for frame in frames:
        share_code = (float(frame.latent[3]) - 0.3) / 0.6
        assert frame.similarity.center[0] / 10 == pytest.approx(share_code, abs=1e-6)
        assert math.log(frame.similarity.scale) / math.log(0.01) == pytest.approx(share_code, abs=1e-6)


def test_in_the_unit_frame_nothing_but_the_code_moves() -> None:
    run = run_of_three()
    frames = plan_frames(run, ["a", "b", "c"], config=MorphConfig(frames=9, frame="unit"))
    assert {str(frame.similarity.to_dict()) for frame in frames} == {str(Similarity.identity().to_dict())}
    assert [frame.shape for frame in frames if frame.shape] == ["a", "b", "c"]
    assert torch.equal(frames[4].latent, run.latent("b"))


def test_keys_keep_their_order_and_may_repeat_or_be_globs() -> None:
    names = ["chair_1", "chair_2", "table"]
    assert morph_keys(names, ["table", "chair_*", "table"]) == ["table", "chair_1", "chair_2", "table"]
    assert morph_keys(names, "all") == names


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (["a"], "at least two shapes, got a"),
        ("a", "at least two shapes, got a"),
        ([], "at least two shapes, got none"),
        (["a", "chair"], "no shape is named 'chair'"),
    ],
)
def test_too_few_and_unknown_shapes_are_refused(shapes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        morph_keys(["a", "b"], shapes)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"frames": 0}, "frames must be at least 2, got 0"),
        ({"frames": 1}, "frames must be at least 2, got 1"),
        ({"resolution": 1}, "resolution must be from 8 to 4096, got 1"),
        ({"fps": 0}, "fps must be at least 1, got 0"),
        ({"width": 641}, "width must be even and at least 16, got 641"),
        ({"path": "crooked"}, "got 'crooked'"),
        ({"frame": "picture"}, "frame must be one of world, unit, got 'picture'"),
        ({"easing": "bounce"}, "got 'bounce'"),
        ({"playback": "never"}, "got 'never'"),
        ({"format": ("obj", "avi")}, "format must be some of .*, got avi"),
        ({"format": ()}, "got none"),
    ],
)
def test_options_out_of_range_are_refused(options, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MorphConfig(**options)
