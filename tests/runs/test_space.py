"""The space of a run: scores and attributes as codes, the words that stand for a shape, and the file."""

from pathlib import Path

import numpy as np
import pytest
import torch
from exact_spheres import sphere_run

import sdfnet
from sdfnet.geometry.similarity import Similarity
from sdfnet.runs import Run
from sdfnet.runs.mixes import add_mixes
from sdfnet.runs.space import (
    SPACE_FILE,
    AttributeColumn,
    ShapeSpace,
    codes_fingerprint,
    load_space,
    placed_codes,
    save_space,
)

PLACES = {"a": Similarity([0, 0, 0], 1.0), "b": Similarity([10, 0, 4], 0.01), "c": Similarity([1, 2, 3], 0.1)}


def run_with_space(directory: Path) -> Run:
    """Spheres of radius 0.3, 0.5 and 0.7: the mean is 0.5, and one standard deviation of pc1 adds 0.2."""
    run = sphere_run({"a": 0.3, "b": 0.7, "c": 0.5}, directory=directory, similarities=PLACES)
    codes = placed_codes(run)
    axis = np.array([0, 0, 0, 0.2, 5.0, 0, 0, 0, 0, 0, -1.0])
    space = ShapeSpace(
        codes.mean(axis=0),
        axis[None],
        np.array([[0, 0, 0, 5.0]]),
        columns=(AttributeColumn("age"), AttributeColumn("kind", ("flat", "round", "tall"))),
        directions=np.array([[0, 0, 0, 0.01, *[0] * 6, 0.1], [0.1, *[0] * 10], [0, 0.2, *[0] * 9]]),
        attribute_means=np.array([40.0, 0.25, 0.5]),
        attribute_projection=np.zeros((3, 11)),
        attribute_values={"a": [30.0, 1.0, 0.0], "b": [50.0, 0.0, 0.0]},
        names=run.names,
        fingerprint=codes_fingerprint(codes),
    )
    directory.mkdir(exist_ok=True)
    save_space(space, directory)
    return run


def test_the_file_gives_back_the_space(tmp_path: Path) -> None:
    run = run_with_space(tmp_path)
    space = load_space(run)
    assert space.columns == (AttributeColumn("age"), AttributeColumn("kind", ("flat", "round", "tall")))
    assert space.attribute_values == {"a": [30.0, 1.0, 0.0], "b": [50.0, 0.0, 0.0]}
    assert space.axes.dtype == np.float64
    assert space.scores(space.moved(scores={1: -1.5})) == pytest.approx([-1.5])


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("pc1=2", [0, 0, 0, 0.9]),
        ("pc1 = -1 ;", [0, 0, 0, 0.3]),
        ("near=b; pc1=0", [0, 0, 0, 0.5]),
        ("pc1=0; near=b", [0, 0, 0, 0.5]),
        ("near=0.5*a + 0.5*b", [0, 0, 0, 0.5]),
        ("age=50", [0, 0, 0, 0.6]),
        ("age=50; pc1=1", [0, 0, 0, 0.8]),
        ("near=a; age=40", [0, 0, 0, 0.4]),
        ("near=a; kind=tall", [-0.1, 0.2, 0, 0.3]),
        ("near=a;kind=flat", [-0.1, 0, 0, 0.3]),
        ("kind=round", [0.075, -0.1, 0, 0.5]),
    ],
)
def test_words_move_the_code_from_the_start(tmp_path: Path, text: str, code: list[float]) -> None:
    run, (name,) = add_mixes(run_with_space(tmp_path), [text])
    assert run.latent(name).tolist() == pytest.approx(code, abs=1e-6)
    assert run.shape(name).is_mix
    assert not set(name) & set('/\\:*?"<>|; ')


def test_words_move_the_place_and_the_size_too(tmp_path: Path) -> None:
    run, names = add_mixes(run_with_space(tmp_path), ["pc1=2", "near=c; age=50"])
    assert run.similarity(names[0]).center.tolist() == pytest.approx([11 / 3 + 10, 2 / 3, 7 / 3])
    assert run.similarity(names[0]).scale == pytest.approx(np.exp(np.log([1, 0.01, 0.1]).mean() - 2))
    assert run.similarity(names[1]).scale == pytest.approx(0.1 * np.exp(1))  # c is not in the table: age 40


def test_shape_from_gives_the_field_of_the_words(tmp_path: Path) -> None:
    run = run_with_space(tmp_path)
    origin = torch.zeros(1, 3)
    assert sdfnet.shape_from(run, scores=[2.0])(origin).item() == pytest.approx(-0.9)
    assert sdfnet.shape_from(run, scores={1: 2})(origin).item() == pytest.approx(-0.9)
    assert sdfnet.shape_from(run, near="a", attributes={"age": 40})(origin).item() == pytest.approx(-0.4)
    assert sdfnet.shape_from(run, near="a")(origin).item() == pytest.approx(-0.3)
    assert sdfnet.shape_from(run)(origin).item() == pytest.approx(-0.5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("pc2=1", "the space has the components pc1 to pc1, got pc2"),
        ("pc0=1", "the space has the components pc1 to pc1, got pc0"),
        ("pc1=high", "pc1 is a number of standard deviations, got 'high'"),
        ("pc1=1; weight=3", "no attribute is named 'weight'; the space of the run has: age, kind"),
        ("age=old", "age is a number, got 'old'"),
        ("kind=square", "kind is one of flat, round, tall, got 'square'"),
        ("near=d; pc1=1", "no shape is named 'd'"),
        ("pc1=1; pc1=2", "gives pc1 twice"),
        ("pc1=1; age", "cannot read 'age' in 'pc1=1; age': expected KEY=VALUE"),
    ],
)
def test_words_that_say_nothing_are_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        add_mixes(run_with_space(tmp_path), [text])


def test_words_without_a_space_or_with_that_of_other_codes_name_the_command(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"the run has no {SPACE_FILE}; run `sdfnet space run="):
        add_mixes(sphere_run({"a": 0.3}, directory=tmp_path / "bare"), ["pc1=1"])
    run_with_space(tmp_path)
    other = sphere_run({"a": 0.3, "b": 0.6, "c": 0.5}, directory=tmp_path, similarities=PLACES)
    with pytest.raises(ValueError, match="made of other codes than the run has now; run `sdfnet space run="):
        add_mixes(other, ["pc1=1"])


def test_a_shape_whose_name_has_an_equals_sign_is_still_that_shape() -> None:
    run = sphere_run({"a=b": 0.3, "pc1=2": 0.4, "c": 0.5})
    assert add_mixes(run, ["a=b", "pc1=2", "pc1=*"])[1] == ["a=b", "pc1=2", "pc1=2"]
    assert add_mixes(run, ["a=b - pc1=2 + c"])[1] == ["a=b-pc1=2+c"]


def test_words_can_be_keys_of_a_morph(tmp_path: Path) -> None:
    from sdfnet.morphs.plan import MorphConfig, plan_frames

    run, keys = add_mixes(run_with_space(tmp_path), ["a", "pc1=1", "pc1=-1"])
    frames = plan_frames(run, keys, config=MorphConfig(frames=3))
    assert [frame.shape for frame in frames] == ["a", "pc1=1", "pc1=-1"]
