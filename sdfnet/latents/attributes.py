"""Attributes of shapes: a table of numbers and classes, and the directions that change one and leave the others.

A direction is the slope of the placed codes (`sdfnet.runs.space`) in one attribute when all others are held: multiple
linear regression of the codes on the attributes. `effects` measures what a direction does to the decoded shapes.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sdfnet.geometry.arrays import FloatArray
from sdfnet.runs.space import AttributeColumn

_MOST_CLASSES = 12
_LEAST_OF_A_CLASS = 3

_DETERMINED = 0.999
"""If the other columns explain this share of a column's variance, it has no direction of its own."""

_SHAPES_PER_ROW = 3
"""A regression needs at least so many shapes for each direction."""

_PENALTIES = np.logspace(-6, 2, 17)
"""Ridge penalties that are tried, as shares of the mean variance of the codes; the best when one shape is left out."""


@dataclass(frozen=True, eq=False)
class Attributes:
    """A table of attributes, its rows joined to shapes.

    Attributes
    ----------
    columns : tuple of AttributeColumn
    names : tuple of str
        The shapes that the table has, S of them.
    rows : (S, A) float64
        The numbers of each shape: one for a column of numbers, one for each class after the first.
    notes : tuple of str
        What was left out, and why.

    >>> Attributes((AttributeColumn("age"),), ("a",), np.array([[30.0]]), ()).labels
    ['age']
    """

    columns: tuple[AttributeColumn, ...]
    names: tuple[str, ...]
    rows: FloatArray
    notes: tuple[str, ...]

    @property
    def labels(self) -> list[str]:
        """The name of each row: the column, or column=class."""
        return [label for column in self.columns for label in column.labels]

    def members(self, column: AttributeColumn) -> dict[str, list[str]]:
        """Return the shapes of each class of a column of classes."""
        first = self.labels.index(column.labels[0])
        values = self.rows[:, first : first + column.num_rows]
        classes = np.where(values.any(axis=1), values.argmax(axis=1) + 1, 0)
        return {
            name: [shape for shape, each in zip(self.names, classes, strict=True) if each == number]
            for number, name in enumerate(column.classes)
        }


def read_attributes(path: str | Path, names: Sequence[str], *, columns: Sequence[str] = ()) -> Attributes:
    """Read a table of attributes (CSV with a head) for the shapes `names`.

    The rows are joined by the column that holds the names of the shapes or of their files. `columns` chooses among the
    others. By default all are taken, without constant ones. A column of texts is one of classes. A shape with an empty
    cell is left out.

    Raises
    ------
    ValueError
        No such file or table, no shape in it, an unknown or unusable column, a column that others determine, or too few
        shapes. The message says what to do.

    >>> _ = Path("ages.csv").write_text("file,age\\na.obj,1\\nb.obj,2\\nc.obj,4\\nd.obj,3\\ne.obj,9\\n")
    >>> read_attributes("ages.csv", list("abcde")).rows.ravel().tolist()
    [1.0, 2.0, 4.0, 3.0, 9.0]
    """
    head, records = _read_table(Path(path))
    key, joined = _join(Path(path), head, records, names)
    unknown = [column for column in columns if column not in head or column == key]
    if unknown:
        known = ", ".join(column for column in head if column != key)
        raise ValueError(f"{path} has no column {unknown[0]!r}; it has: {known}")
    chosen = list(columns) or [column for column in head if column != key]
    full = [name for name in names if name in joined and all(joined[name][column] for column in chosen)]
    notes = []
    if len(full) < len(names):
        without = [name for name in names if name not in full]
        more = ", …" if len(without) > 3 else ""
        notes.append(
            f"{len(without)} of {len(names)} shapes have no full row in {path}: {', '.join(without[:3])}{more}"
        )
    found, values = [], []
    for column in chosen:
        cells = [joined[name][column] for name in full]
        if len(set(cells)) < 2:
            if column in columns:
                raise ValueError(
                    f"{column} is {cells[0] if cells else 'empty'} for all shapes; leave it out of columns"
                )
            notes.append(f"{column} is the same for all shapes and left out")
            continue
        found.append(_column_of(column, cells))
        values.append(np.array([found[-1].rows_of(cell) for cell in cells]))
    if not found:
        raise ValueError(f"{path} has no column that differs between the shapes")
    table = Attributes(tuple(found), tuple(full), np.concatenate(values, axis=1), tuple(notes))
    _refuse_determined(table, path)
    return table


@dataclass(frozen=True, eq=False)
class AttributeDirections:
    """The directions of attributes and what is known of them. A is the number of rows of the attributes.

    Attributes
    ----------
    directions : (A, L) float64
        The change of a placed code for one unit of each row, all others held.
    means : (A,) float64
        Of the attributes.
    projection : (A, L) float64
        The expected change of each attribute for a change of the code.
    explained : (A,) float64
        The share of the variance of each attribute that the code explains, in shapes left out. Near 0, the code does
        not know the attribute.
    """

    directions: FloatArray
    means: FloatArray
    projection: FloatArray
    explained: FloatArray


def fit_directions(placed: FloatArray, rows: FloatArray) -> AttributeDirections:
    """Find the directions of attributes (S, A) in the placed codes (S, L) of the same shapes.

    >>> random = np.random.default_rng(0)
    >>> rows = random.normal(size=(200, 2))
    >>> codes = rows @ np.array([[1.0, 0, 2], [0, 3, 0]]) + 0.01 * random.normal(size=(200, 3))
    >>> fit_directions(codes, rows).directions.round(1).tolist()
    [[1.0, 0.0, 2.0], [-0.0, 3.0, 0.0]]
    """
    scaled = placed / np.maximum(_spread(placed), 1e-12)
    penalty, explained = _best_penalty(scaled, rows)
    projection = _ridge(scaled, rows, penalty) / np.maximum(_spread(placed), 1e-12)
    return AttributeDirections(slopes(placed, rows), rows.mean(axis=0), projection, explained)


def slopes(values: FloatArray, rows: FloatArray) -> FloatArray:
    """Return the slopes (A, L) of values (S, L) in rows (S, A), each with the other rows held.

    >>> slopes(np.array([[0.0], [2.0], [4.0]]), np.array([[0.0], [1.0], [2.0]])).round(6).tolist()
    [[2.0]]
    """
    return np.asarray(np.linalg.lstsq(rows - rows.mean(axis=0), values - values.mean(axis=0), rcond=None)[0])


def _read_table(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    if not path.is_file():
        raise ValueError(f"there is no table of attributes at {path}")
    try:
        lines = list(csv.reader(path.read_text(encoding="utf-8-sig").splitlines()))
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path} is not a CSV file in UTF-8 ({error})") from error
    lines = [[cell.strip() for cell in line] for line in lines if any(cell.strip() for cell in line)]
    if len(lines) < 2:
        raise ValueError(f"{path} has no rows: expected a head and one line for each shape")
    head = lines[0]
    if len(set(head)) != len(head) or not all(head):
        raise ValueError(f"{path} must have a head with a different name for each column, got {', '.join(head)}")
    for number, line in enumerate(lines[1:], start=2):
        if len(line) != len(head):
            raise ValueError(f"row {number} of {path} has {len(line)} cells, the head has {len(head)}")
    return head, [dict(zip(head, line, strict=True)) for line in lines[1:]]


def _join(
    path: Path, head: Sequence[str], records: Sequence[dict[str, str]], names: Sequence[str]
) -> tuple[str, dict[str, dict[str, str]]]:
    """Return the column of names, and the record of each shape."""
    known = {alias: name for name in reversed(names) for alias in (Path(name).name, name)}

    def shape_of(cell: str) -> str | None:
        plain = cell.replace("\\", "/")
        without = str(Path(plain).with_suffix("")) if Path(plain).suffix else plain
        return next((known[each] for each in (plain, without, Path(without).name) if each in known), None)

    found = {column: [shape_of(record[column]) for record in records] for column in head}
    key = max(head, key=lambda column: len({name for name in found[column] if name}))
    joined: dict[str, dict[str, str]] = {}
    for name, record in zip(found[key], records, strict=True):
        if name is not None and name in joined:
            raise ValueError(f"{path} has two rows for {name}")
        if name is not None:
            joined[name] = record
    if not joined:
        raise ValueError(
            f"no row of {path} belongs to a shape: a column must hold names of shapes, such as {names[0]}, or of files"
        )
    return key, joined


def _column_of(name: str, cells: Sequence[str]) -> AttributeColumn:
    """Return what kind of column it is."""
    try:
        if all(math.isfinite(float(cell)) for cell in cells):
            return AttributeColumn(name)
    except ValueError:
        pass
    classes = sorted(set(cells))
    least = min(cells.count(each) for each in classes)
    if len(classes) > _MOST_CLASSES or least < _LEAST_OF_A_CLASS:
        raise ValueError(
            f"{name} is neither a number nor a class ({len(classes)} different texts, the rarest {least} times; a "
            f"class needs {_LEAST_OF_A_CLASS} shapes); choose others with columns="
        )
    return AttributeColumn(name, tuple(classes))


def _refuse_determined(table: Attributes, path: str | Path) -> None:
    """Refuse columns that the others determine, and more columns than the shapes can tell apart."""
    num, size = table.rows.shape
    if num < _SHAPES_PER_ROW * size + 2:
        raise ValueError(
            f"{size} attributes need at least {_SHAPES_PER_ROW * size + 2} shapes with full rows, got {num}; choose "
            "fewer with columns="
        )
    scaled = (table.rows - table.rows.mean(axis=0)) / table.rows.std(axis=0)
    for row, label in enumerate(table.labels):
        others = np.delete(scaled, row, axis=1)
        factors = np.linalg.lstsq(others, scaled[:, row], rcond=None)[0]
        share = 1 - ((scaled[:, row] - others @ factors) ** 2).mean()
        if others.size and share > _DETERMINED:
            helpers = [each for each in table.labels if each != label]
            strongest = [helpers[k] for k in np.argsort(-np.abs(factors))[:3] if abs(factors[k]) > 0.05]
            rest = ",".join(column.name for column in table.columns if column.labels[0] != label)
            raise ValueError(
                f"{label} is determined by {', '.join(strongest)} in {path}, so no direction changes it and leaves "
                f"them; choose with columns=, such as 'columns=[{rest}]'"
            )


def _spread(placed: FloatArray) -> FloatArray:
    """Return what to divide placed codes by: one number for the code, so that its metric stays, and one for each of the
    seven numbers of the placement, whose units differ."""
    deviations = placed.std(axis=0)
    code = math.sqrt(float((deviations[:-7] ** 2).sum())) if len(deviations) > 7 else 0.0
    return np.concatenate([np.full(max(len(deviations) - 7, 0), code), deviations[-7:]])


def _ridge(codes: FloatArray, rows: FloatArray, penalty: float) -> FloatArray:
    """Return the slopes (A, L) of rows (S, A) in codes (S, L), shrunk by a penalty."""
    away = codes - codes.mean(axis=0)
    kernel = away @ away.T
    kernel += penalty * max(np.trace(kernel) / len(kernel), 1e-300) * np.eye(len(kernel))
    return np.asarray(np.linalg.solve(kernel, rows - rows.mean(axis=0)).T @ away)


def _best_penalty(codes: FloatArray, rows: FloatArray) -> tuple[float, FloatArray]:
    """Return the penalty that predicts best when one shape is left out, and the variance explained then, (A,)."""
    away, target = codes - codes.mean(axis=0), rows - rows.mean(axis=0)
    values, vectors = np.linalg.eigh(away @ away.T)
    values = values.clip(min=0)
    rotated, best = vectors.T @ target, (-math.inf, 0.0, target[0])
    for penalty in _PENALTIES:
        kept = values / (values + penalty * max(values.mean(), 1e-300))
        leverage = (vectors**2) @ kept + 1 / len(rows)
        errors = (target - vectors @ (kept[:, None] * rotated)) / (1 - leverage).clip(min=1e-6)[:, None]
        explained = 1 - (errors**2).sum(axis=0) / (target**2).sum(axis=0)
        if explained.mean() > best[0]:
            best = (float(explained.mean()), float(penalty), explained)
    return best[1], best[2]
