"""Errors by part: a missing leg shows in the leg alone."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh

from sdfnet.mesh.mesh import Mesh

SPEC = importlib.util.spec_from_file_location(
    "part_errors", Path(__file__).parents[2] / "benchmarks" / "part_errors.py"
)
assert SPEC is not None
assert SPEC.loader is not None
MODULE = sys.modules["part_errors"] = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(MODULE)
load_labels, part_errors = MODULE.load_labels, MODULE.part_errors

SEAT = trimesh.creation.box((2, 2, 0.2))
LEG = trimesh.creation.box((0.1, 0.1, 1)).apply_translation([0.9, 0.9, -0.7])


def stool() -> tuple[Mesh, list[str]]:
    both = trimesh.util.concatenate([SEAT, LEG])
    labels = ["seat"] * len(SEAT.faces) + ["leg"] * len(LEG.faces)
    return Mesh(both.vertices, both.faces), labels


def errors(result: Mesh, **options):
    source, labels = stool()
    return part_errors(result, source, labels, generator=torch.Generator().manual_seed(0), **options)


def test_every_part_of_the_source_itself_has_no_error() -> None:
    found = errors(stool()[0])
    assert list(found) == ["seat", "leg"]
    assert max(error.max for error in found.values()) < 1e-9


def test_a_missing_leg_shows_in_the_leg_alone_and_in_percent_of_the_whole() -> None:
    """Its far end is 1 away from the seat; the whole has a box of 2, 2, 1.3 around it."""
    found = errors(Mesh(SEAT.vertices, SEAT.faces))
    radius = np.linalg.norm([2, 2, 1.3]) / 2
    assert found["seat"].max < 1e-9
    assert found["leg"].max == pytest.approx(100 * 1.1 / radius, rel=0.01)
    assert found["leg"].p95 == pytest.approx(100 * 1.06 / radius, rel=0.03)
    assert found["leg"].mean == pytest.approx(100 * 0.61 / radius, rel=0.03)


def test_labels_may_be_an_array_and_must_fit_the_faces() -> None:
    source, labels = stool()
    numbers = np.array([0 if label == "seat" else 1 for label in labels])
    generator = torch.Generator().manual_seed(0)
    assert set(part_errors(source, source, numbers, generator=generator)) == {0, 1}
    with pytest.raises(ValueError, match="each of the 24 faces, got 3"):
        part_errors(source, source, ["a", "b", "c"], generator=generator)


def test_labels_are_read_from_ranges_of_faces(tmp_path: Path) -> None:
    path = tmp_path / "chair.parts.json"
    path.write_text('{"legs": [2, 5], "seat": [0, 2]}')
    assert load_labels(path) == ["seat", "seat", "legs", "legs", "legs"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"seat": [0, 2], "legs": [3, 5]}', "legs the faces 3 to 5, expected 2 on"),
        ('{"seat": [0, 2], "legs": [1, 5]}', "legs the faces 1 to 5, expected 2 on"),
        ('{"seat": [0]}', "cannot read the part labels .*chair.parts.json"),
        ("[1, 2]", "cannot read the part labels .*chair.parts.json"),
        ("{", "cannot read the part labels .*chair.parts.json"),
    ],
)
def test_damaged_labels_are_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "chair.parts.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        load_labels(path)
