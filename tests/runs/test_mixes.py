"""Mixes by name: algebra of the weights, names of every kind, and errors that name the piece."""

import logging
import math
import re

import pytest
import torch
from exact_spheres import sphere_run

from sdfnet.geometry.similarity import Similarity
from sdfnet.morphs.plan import MorphConfig, plan_frames
from sdfnet.runs.mixes import add_mixes, mix_name, parse_mix

NAMES = ["a", "b", "c", "a-b", "set/a [1]", "b=c", "big a", "x (2)", "0.5", "it's"]
PLACES = {"a": Similarity([0, 0, 0], 1.0), "b": Similarity([10, 0, 4], 0.01), "c": Similarity([1, 2, 3], 0.1)}


def run_of_three():
    return sphere_run({"a": 0.3, "b": 0.9, "c": 0.5}, similarities=PLACES)


@pytest.mark.parametrize(
    ("text", "weights"),
    [
        ("a - b + c", {"a": 1, "b": -1, "c": 1}),
        ("a+c-b", {"a": 1, "c": 1, "b": -1}),
        ("0.25*a + .75 * b", {"a": 0.25, "b": 0.75}),
        ("-a + 2*b", {"a": -1, "b": 2}),
        ("a + 1e-1*(b - c)", {"a": 1, "b": 0.1, "c": -0.1}),
        ("2*(a - 0.5*(b + c)) + b", {"a": 2, "c": -1}),
        ("0.5*a-b + 0.5*b", {"a-b": 0.5, "b": 0.5}),
        ("a - b + 'c'", {"a": 1, "b": -1, "c": 1}),
        ('"a"-b + c', {"a": 1, "b": -1, "c": 1}),
        ("0.5*set/a [1] + 0.5*b=c", {"set/a [1]": 0.5, "b=c": 0.5}),
        ("0.5*big a + 0.5*x (2)", {"big a": 0.5, "x (2)": 0.5}),
        ("0.5*0.5 + 0.5*a", {"0.5": 0.5, "a": 0.5}),
        ('0.5*"it\'s" + 0.5*a', {"it's": 0.5, "a": 0.5}),
        ("a + b - b", {"a": 1}),
    ],
)
def test_a_mix_is_read_as_the_sum_it_says(text: str, weights: dict[str, float]) -> None:
    assert parse_mix(text, NAMES) == pytest.approx(weights)


def test_weights_rounded_by_hand_are_scaled_to_sum_to_one() -> None:
    weights = parse_mix("0.33*a + 0.33*b + 0.33*c", NAMES)
    assert list(weights.values()) == pytest.approx([1 / 3] * 3)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a + b", r"must sum to 1, those of 'a \+ b' sum to 2 \(divide them by 2"),
        ("a - b", r"sum to 0 \(add the shape"),
        ("a - bb + c", r"at 'bb'.*no shape is named 'bb'"),
        ("0.5*a + 0.5*big b", r"no shape is named 'big b'. Did you mean big a"),
        ("0.5*a + 0.5*'big b'", r"no shape is named 'big b'. Did you mean big a"),
        ("3 a - 2*b", r"at '3'.*a weight is written 3\*NAME"),
        ("a + 'b", "the quote has no end"),
        ("a - (b - c", "at the end: expected the closing bracket"),
        ("a - + b + c", r"expected the name of a shape"),
        ("a - b +", "at the end: expected the name of a shape"),
        ("a b + c", r"at 'b'.*expected \+ or -"),
    ],
)
def test_what_cannot_be_read_is_named(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_mix(text, NAMES)


@pytest.mark.parametrize("text", ["a - b", "a - b - c", "0*a + 0*b"])
def test_a_sum_of_known_names_with_wrong_weights_is_never_taken_for_a_name(text: str) -> None:
    with pytest.raises(
        ValueError, match=rf"weights of a mix must sum to 1, those of '{re.escape(text)}' sum to -?[01] "
    ):
        add_mixes(run_of_three(), [text])


def test_a_mix_is_a_shape_of_the_run_with_the_same_sum_of_codes_centers_and_log_scales() -> None:
    run, chosen = add_mixes(run_of_three(), ["a", "0.25*a + 0.75*b", "a - b + c"])
    assert chosen == ["a", "0.25a+0.75b", "a-b+c"]
    assert run.names == ("a", "b", "c", "0.25a+0.75b", "a-b+c")
    mean, sum_of_three = run.similarity(chosen[1]), run.similarity(chosen[2])
    assert float(run.latent(chosen[1])[3]) == pytest.approx(0.25 * 0.3 + 0.75 * 0.9)
    assert float(run.latent(chosen[2])[3]) == pytest.approx(-0.1)
    assert mean.center.tolist() == pytest.approx([7.5, 0, 3])
    assert math.log(mean.scale) == pytest.approx(0.75 * math.log(0.01))
    assert sum_of_three.center.tolist() == pytest.approx([-9, 2, -1])
    assert sum_of_three.scale == pytest.approx(10.0)


def test_names_and_globs_are_left_as_they_are_and_may_repeat() -> None:
    run = sphere_run({"chair_1": 0.3, "chair_2": 0.4, "a+b": 0.5, "a": 0.6, "b": 0.7})
    same, chosen = add_mixes(run, ["chair_*", "a+b", "a", "chair_1"])
    assert same is run
    assert chosen == ["chair_1", "chair_2", "a+b", "a", "chair_1"]
    assert add_mixes(run, "all")[1] == list(run.names)
    odd = sphere_run({"all": 0.3, "b": 0.4})
    assert add_mixes(odd, "all")[1] == ["all", "b"]
    assert add_mixes(odd, ["all"])[1] == ["all"]
    assert add_mixes(run, "chair_[12]")[1] == ["chair_1", "chair_2"]


def test_a_mix_of_one_shape_is_that_shape_to_the_bit() -> None:
    run, chosen = add_mixes(run_of_three(), ["1*a", "a + b - b"])
    assert chosen == ["a", "a"]
    assert len(run.names) == 3


def test_a_wrong_name_with_a_dash_is_told_as_a_name() -> None:
    run = sphere_run({"chair-a": 0.3, "chair": 0.4})
    with pytest.raises(ValueError, match=r"no shape is named 'chair-b'. Did you mean chair-a"):
        add_mixes(run, ["chair-b"])
    with pytest.raises(ValueError, match=r"no shape is named 'table\*'"):
        add_mixes(run, ["table*"])


def test_mixes_whose_names_would_be_equal_stay_apart() -> None:
    run, chosen = add_mixes(run_of_three(), ["0.33333*a + 0.66667*b", "0.33334*a + 0.66666*b", "0.33333*a + 0.66667*b"])
    assert len(set(chosen)) == 2
    assert chosen[0] == chosen[2]
    assert not torch.equal(run.latent(chosen[0]), run.latent(chosen[1]))


@pytest.mark.parametrize("name", ["set/a [1]", 'a"b', "a\\b", "a:b", "a?b", "a<b>|c", "..", "x" * 200])
def test_a_mix_has_a_name_that_any_file_system_takes(name: str) -> None:
    plain = mix_name({name: 0.5, "b": 0.5})
    assert not set(plain) & set('/\\:*?"<>| ')
    assert len(plain) < 100
    assert plain not in (".", "..")


def test_a_mix_far_from_every_shape_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        add_mixes(run_of_three(), ["a - b + c"])
        assert "farther" in caplog.text
        caplog.clear()
        add_mixes(run_of_three(), ["0.5*a + 0.5*b"])
    assert caplog.text == ""


def test_a_mix_can_be_a_key_of_a_morph() -> None:
    run, keys = add_mixes(run_of_three(), ["a", "0.5*b + 0.5*c", "c"])
    frames = plan_frames(run, keys, config=MorphConfig(frames=5))
    assert [frame.shape for frame in frames] == ["a", "", "0.5b+0.5c", "", "c"]
    assert torch.equal(frames[2].latent, run.latent("0.5b+0.5c"))
