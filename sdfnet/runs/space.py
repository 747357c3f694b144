"""The space of a run's shapes: mean, components and directions of attributes, in the run's `space.safetensors`.

`sdfnet space` computes the space (`sdfnet.latents`) and writes it here. `mixes` reads it, so that the words of a shape
such as `pc1=2; age=30` stand wherever the name of a shape does.

A *placed code* is the code of a shape followed by its placement (`Similarity`): the coordinates of the centre, the
rotation vector in radians, and the logarithm of the scale. All vectors of the space are placed codes,
(L + 7,) float64. So a new shape has a place and a size in the world frame, by the same rule as a mix: they change
linearly with the code.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from sdfnet.geometry.arrays import FloatArray
from sdfnet.geometry.similarity import Similarity, rotation_vectors, turned
from sdfnet.runs.run import Run, load_tensors, save_tensors

SPACE_FILE = "space.safetensors"

_PLACEMENT = 7
"""Numbers after the code: centre, rotation vector and log scale."""

_FORMAT = "1"


@dataclass(frozen=True)
class AttributeColumn:
    """A column of a table of attributes: a number, or one of several classes.

    Attributes
    ----------
    classes : tuple of str
        The names of the classes, sorted; empty for a column of numbers.

    >>> AttributeColumn("kind", ("sofa", "stool")).rows_of("stool")
    [1.0]
    """

    name: str
    classes: tuple[str, ...] = ()

    @property
    def num_rows(self) -> int:
        """Directions of the column: one for a number, one for each class after the first."""
        return max(len(self.classes) - 1, 1)

    @property
    def labels(self) -> list[str]:
        """The name of each direction: the column, or column=class."""
        return [f"{self.name}={each}" for each in self.classes[1:]] if self.classes else [self.name]

    def rows_of(self, value: float | str) -> list[float]:
        """Return the numbers that stand for `value`: the number itself, or 1 at its class and 0 elsewhere.

        Raises
        ------
        ValueError
            A text that is no number, or an unknown class.
        """
        if self.classes:
            if str(value) not in self.classes:
                raise ValueError(f"{self.name} is one of {', '.join(self.classes)}, got {value!r}")
            return [float(str(value) == name) for name in self.classes[1:]]
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            raise ValueError(f"{self.name} is a number, got {value!r}")
        return [number]


@dataclass(frozen=True, eq=False)
class ShapeSpace:
    """The mean, the principal components and the directions of attributes of the shapes of a run.

    Attributes
    ----------
    mean : (L + 7,) float64
        The mean placed code.
    axes : (K, L + 7) float64
        The change of a placed code for one standard deviation along each component.
    projection : (K, L) float64
        The scores of a code are `projection @ (code - mean[:L])`, in standard deviations.
    columns : tuple of AttributeColumn
        The attributes.
    directions : (A, L + 7) float64
        The change of a placed code for one unit of each row of the attributes, all others held.
    attribute_means : (A,) float64
        The values of the rows at the mean.
    attribute_projection : (A, L + 7) float64
        The expected values of the rows are `attribute_means + attribute_projection @ (placed - mean)`.
    attribute_values : dict of str to list of float
        The rows of each shape in the table.
    names : tuple of str
        The shapes it was computed from.
    fingerprint : str
        A hash of their placed codes (`codes_fingerprint`).

    >>> from sdfnet.runs import load_run
    >>> codes = placed_codes(load_run("runs/chairs"))
    >>> space = ShapeSpace(codes.mean(0), (codes[1:] - codes[:1]) / 2, np.array([[-1.0, 1.0]]))
    >>> bool(np.allclose(space.moved(scores={1: -1}), codes[0]))
    True
    """

    mean: FloatArray
    axes: FloatArray
    projection: FloatArray
    columns: tuple[AttributeColumn, ...] = ()
    directions: FloatArray = field(default_factory=lambda: np.zeros((0, 0)))
    attribute_means: FloatArray = field(default_factory=lambda: np.zeros(0))
    attribute_projection: FloatArray = field(default_factory=lambda: np.zeros((0, 0)))
    attribute_values: Mapping[str, list[float]] = field(default_factory=dict)
    names: tuple[str, ...] = ()
    fingerprint: str = ""

    def scores(self, placed: FloatArray) -> FloatArray:
        """Return the scores (..., K) of placed codes (..., L + 7), in standard deviations from the mean."""
        length = self.projection.shape[1]
        return np.asarray((placed - self.mean)[..., :length] @ self.projection.T)

    def moved(
        self,
        *,
        scores: Mapping[int, float] | None = None,
        attributes: Mapping[str, float | str] | None = None,
        start: FloatArray | None = None,
        name: str = "",
    ) -> FloatArray:
        """Return the placed code with the given `scores` (component, counted from 1, to value) and `attributes`.

        Each value moves the code from the value that the `start` has to the given value, along its own direction. The
        start is the mean by default. `name` is the shape of the start: its attributes are those of the table.

        Raises
        ------
        ValueError
            An unknown component or attribute, or a value that the attribute cannot have.
        """
        code = self.mean if start is None else start
        before, moved = self.scores(code), np.array(code)
        for number, score in (scores or {}).items():
            if not 1 <= number <= len(self.axes):
                raise ValueError(f"the space has the components pc1 to pc{len(self.axes)}, got pc{number}")
            moved = moved + (score - before[number - 1]) * self.axes[number - 1]
        for attribute, value in (attributes or {}).items():
            rows, column = self._rows(attribute)
            there = self._attribute_rows(code, name)[rows]
            moved = moved + (np.array(column.rows_of(value)) - there) @ self.directions[rows]
        return moved

    def _rows(self, attribute: str) -> tuple[slice, AttributeColumn]:
        """Return which rows belong to an attribute."""
        first = 0
        for column in self.columns:
            if column.name == attribute:
                return slice(first, first + column.num_rows), column
            first += column.num_rows
        known = ", ".join(column.name for column in self.columns) or "none; give attributes=FILE.csv to sdfnet space"
        raise ValueError(f"no attribute is named {attribute!r}; the space of the run has: {known}")

    def _attribute_rows(self, code: FloatArray, name: str) -> FloatArray:
        if name in self.attribute_values:
            return np.array(self.attribute_values[name])
        return np.asarray(self.attribute_means + self.attribute_projection @ (code - self.mean))


def placed_codes(run: Run, names: Sequence[str] | None = None) -> FloatArray:
    """Return the placed codes (S, L + 7) float64 of the shapes `names` of a run; of all by default.

    >>> from sdfnet.runs import load_run
    >>> placed_codes(load_run("runs/chairs")).shape
    (2, 9)
    """
    chosen = run.names if names is None else names
    return np.stack([placed_code(run.latent(name).double().cpu().numpy(), run.similarity(name)) for name in chosen])


def placed_code(code: FloatArray, similarity: Similarity) -> FloatArray:
    """Return a code (L,) followed by its placement, (L + 7,).

    >>> placed_code(np.array([0.5]), Similarity([1, 2, 3], 1.0)).tolist()
    [0.5, 1.0, 2.0, 3.0, 0.0, 0.0, 0.0, 0.0]
    """
    turn = rotation_vectors([Similarity.identity(), similarity])[1]
    return np.concatenate([code, similarity.center, turn, [math.log(similarity.scale)]])


def latent_of(placed: FloatArray, run: Run) -> torch.Tensor:
    """Return the code of a placed code as the run's decoder takes it, (L,) float32 on the run's device."""
    return torch.from_numpy(placed[:-_PLACEMENT]).to(run.latents)


def similarity_of(placed: FloatArray) -> Similarity:
    """Return the similarity of a placed code.

    >>> similarity_of(placed_code(np.array([0.5]), Similarity([1, 2, 3], 1.0)))
    Similarity(center=array([1., 2., 3.]), scale=1.0, rotation=None)
    """
    center, turn, log_scale = np.split(placed[-_PLACEMENT:], [3, 6])
    return Similarity(center, math.exp(log_scale[0]), turned(None, turn))


def codes_fingerprint(codes: FloatArray) -> str:
    """Return a hash of placed codes."""
    return hashlib.sha256(np.ascontiguousarray(codes).tobytes()).hexdigest()[:16]


def save_space(space: ShapeSpace, directory: str | Path) -> Path:
    """Write `space.safetensors` into the run at `directory`, whole or not at all, and return its path.

    >>> from sdfnet.runs import load_run
    >>> codes = placed_codes(load_run("runs/chairs"))
    >>> save_space(ShapeSpace(codes.mean(0), codes[1:], codes[1:, :2]), "runs/copy").name
    'space.safetensors'
    """
    path = Path(directory) / SPACE_FILE
    names = ("mean", "axes", "projection", "directions", "attribute_means", "attribute_projection")
    tensors = {name: torch.from_numpy(np.ascontiguousarray(getattr(space, name))) for name in names}
    metadata = {
        "format": _FORMAT,
        "fingerprint": space.fingerprint,
        "names": json.dumps(space.names),
        "columns": json.dumps([[column.name, column.classes] for column in space.columns]),
        "values": json.dumps(dict(space.attribute_values)),
    }
    save_tensors(path, tensors, metadata=metadata)
    return path


def load_space(run: Run) -> ShapeSpace:
    """Read the space of a run.

    Raises
    ------
    ValueError
        The run has no space yet, or one of other codes, or the file is damaged.
    """
    path = run.directory / SPACE_FILE
    if not path.is_file():
        raise ValueError(f"the run has no {SPACE_FILE}; run `sdfnet space run={run.directory}` first")
    again = f"run `sdfnet space run={run.directory}` again"
    tensors, metadata = load_tensors(path)
    try:
        if metadata["format"] != _FORMAT:
            raise ValueError(f"it has format {metadata['format']!r}")
        columns = tuple(AttributeColumn(name, tuple(classes)) for name, classes in json.loads(metadata["columns"]))
        arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
        values, names = json.loads(metadata["values"]), tuple(json.loads(metadata["names"]))
        space = ShapeSpace(
            columns=columns, attribute_values=values, names=names, fingerprint=metadata["fingerprint"], **arrays
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} cannot be read ({error}); {again}") from error
    same_names = set(space.names) <= set(run.names)
    if not same_names or codes_fingerprint(placed_codes(run, space.names)) != space.fingerprint:
        raise ValueError(f"{path} was made of other codes than the run has now; {again}")
    return space
