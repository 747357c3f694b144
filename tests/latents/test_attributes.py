"""Attributes: tables of every kind, what is refused, and directions that are known in closed form."""

from pathlib import Path

import numpy as np
import pytest
import torch
from exact_spheres import sphere_run

from sdfnet.geometry.similarity import Similarity
from sdfnet.latents.attributes import fit_directions, read_attributes
from sdfnet.latents.effects import fit_reader, measure_effects
from sdfnet.runs.space import AttributeColumn, placed_codes

NAMES = [f"set/s{number}" for number in range(8)]


def write(folder: Path, text: str) -> Path:
    path = folder / "table.csv"
    path.write_text(text)
    return path


def lines(head: str, row: str) -> str:
    """A table with one row a shape; {n} is its number, {s} its square, {c} one of two classes."""
    rows = [row.format(n=number, s=number**2, c="ab"[number % 2]) for number in range(8)]
    return "\n".join([head, *rows]) + "\n"


@pytest.mark.parametrize("name", ["set/s{n}", "s{n}", "s{n}.ply", "set/s{n}.ply", "set\\s{n}.obj"])
def test_rows_are_joined_by_the_name_of_a_shape_or_of_its_file(tmp_path: Path, name: str) -> None:
    table = read_attributes(write(tmp_path, lines("age,file", "{n}," + name)), NAMES)
    assert table.names == tuple(NAMES)
    assert table.rows.ravel().tolist() == list(range(8))


def test_classes_numbers_and_constant_columns_are_told_apart(tmp_path: Path) -> None:
    table = read_attributes(write(tmp_path, lines("name,n,kind,whole", "s{n},{s},{c},True")), NAMES)
    assert table.columns == (AttributeColumn("n"), AttributeColumn("kind", ("a", "b")))
    assert table.labels == ["n", "kind=b"]
    assert table.rows[:, 1].tolist() == [0, 1] * 4
    assert table.members(table.columns[1]) == {"a": NAMES[::2], "b": NAMES[1::2]}
    assert table.notes == ("whole is the same for all shapes and left out",)


def test_shapes_without_a_full_row_are_left_out_and_told(tmp_path: Path) -> None:
    text = lines("name,n", "s{n},{s}").replace("s3,9", "s3,")
    table = read_attributes(write(tmp_path, text), [*NAMES, "set/other"])
    assert table.names == tuple(name for name in NAMES if name != "set/s3")
    assert table.notes[0].startswith("2 of 9 shapes have no full row")


@pytest.mark.parametrize(
    ("head", "row", "columns", "message"),
    [
        ("name,n,m", "s{n},{n},1{n}", [], r"n is determined by m in .*choose with columns=, such as 'columns=\[m\]'"),
        ("name,n,t", "s{n},{n},{n}2", [], "n is determined by t"),
        ("name,n", "s{n},{n}", ["m"], "has no column 'm'; it has: n"),
        ("name,n,w", "s{n},{n},1", ["w"], "w is 1 for all shapes"),
        ("name,t", "s{n},text{n}", [], r"t is neither a number nor a class \(8 different texts, the rarest 1 times"),
        ("name,n", "other{n},{n}", [], "no row of .* belongs to a shape"),
        ("name,n,n", "s{n},1,2", [], "a different name for each column, got name, n, n"),
        ("name,n", "s{n},1,2", [], "row 2 of .* has 3 cells, the head has 2"),
        ("name,n", "s1,{n}", [], "two rows for set/s1"),
        ("name,n,m,k,i", "s{n},{n},{s},0.{s},{c}", [], "4 attributes need at least 14 shapes with full rows, got 8"),
    ],
)
def test_a_table_that_fixes_no_directions_is_refused(
    tmp_path: Path, head: str, row: str, columns: list[str], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        read_attributes(write(tmp_path, lines(head, row)), NAMES, columns=columns)


def test_a_missing_table_and_one_that_is_no_text_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there is no table of attributes at"):
        read_attributes(tmp_path / "none.csv", NAMES)
    (tmp_path / "picture.csv").write_bytes(b"\xff\xd8\xff\x00")
    with pytest.raises(ValueError, match="is not a CSV file in UTF-8"):
        read_attributes(tmp_path / "picture.csv", NAMES)


def test_a_linear_attribute_is_found_with_the_others_held_although_they_vary_together() -> None:
    random = np.random.default_rng(0)
    rows = random.normal(size=(300, 2)) @ np.array([[1.0, 0.8], [0.0, 0.6]])  # correlation 0.8
    true = random.normal(size=(2, 20))
    codes = rows @ true + 0.1 * random.normal(size=(300, 20))
    found = fit_directions(codes, rows)
    assert found.directions == pytest.approx(true, abs=0.05)
    assert found.explained == pytest.approx([1, 1], abs=0.02)
    noise = fit_directions(random.normal(size=(300, 20)), rows)
    assert (noise.explained < 0.1).all()


def test_a_reader_sees_an_attribute_in_full_where_a_regression_would_shrink_it() -> None:
    random = np.random.default_rng(1)
    rows, visible = random.normal(size=(60, 2)), random.normal(size=(2, 200))
    features = rows @ visible + 1.0 * random.normal(size=(60, 200))
    moved = visible @ fit_reader(features, rows).weights
    assert moved == pytest.approx(np.eye(2), abs=0.1)


def test_directions_are_calibrated_so_that_their_measured_effect_is_right() -> None:
    """The radius of a sphere is a known attribute; its size in the world is another."""
    random = np.random.default_rng(2)
    radii = {f"s{number}": 0.5 + 0.1 * random.normal() for number in range(40)}
    sizes = {name: 0.3 * random.normal() for name in radii}
    places = {name: Similarity([0, 0, 0], np.exp(size)) for name, size in sizes.items()}
    run = sphere_run(radii, similarities=places)
    rows = np.stack([10 * np.array(list(radii.values())), np.array(list(sizes.values()))], axis=1)
    directions, effects = measure_effects(run, placed_codes(run), rows, generator=torch.Generator().manual_seed(0))
    assert effects.values == pytest.approx(np.eye(2), abs=0.02)
    assert (effects.lower <= effects.values).all()
    assert directions[0, 3] == pytest.approx(0.1, rel=0.05)
    assert directions[1, -1] == pytest.approx(1.0, rel=0.05)
