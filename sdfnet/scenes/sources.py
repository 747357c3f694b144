"""Fields of a scene that come from files: meshes, learned shapes and letters of a font.

A file is read once while it does not change. The font is DejaVu Sans, which matplotlib brings along.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from sdfnet.fields import Accuracy, Difference, Extrusion, Field, MeshField, NeuralField, Transformed, Union
from sdfnet.fields.arguments import check_positive
from sdfnet.fields.base import check_points
from sdfnet.fields.extent import box_distance
from sdfnet.geometry.arrays import FloatArray
from sdfnet.mesh.io.read import read_mesh
from sdfnet.runs import Run, load_run
from sdfnet.runs.document import MODEL_FILE
from sdfnet.runs.mixes import add_mixes
from sdfnet.solids.rule import SolidRule
from sdfnet.solids.solid import make_solid

_KEPT = 64


def mesh_file_field(file: Path, *, thickness: float | None = None) -> Field:
    """Return a mesh file as a field, in the units of the file.

    The mesh is repaired as for a training; parts that enclose nothing become walls of `thickness` (see `SolidRule`).

    >>> mesh_file_field(Path("chairs/chair_00.obj")).accuracy
    'exact'
    """
    if not file.is_file():
        raise ValueError(f"there is no file {file}")
    return _mesh_field(file.resolve(), file.stat().st_mtime_ns, thickness)


def learned_field(
    run: Path,
    shape: str | None = None,
    *,
    scores: ArrayLike | None = None,
    frame: Literal["world", "unit"] = "world",
    device: str = "cpu",
) -> Field:
    """Return a learned shape of a run directory.

    `shape` is a name, a mix such as "0.5*a + 0.5*b", or words such as "pc1=2". `scores` are those of the principal
    components, in standard deviations (see `sdfnet space`): a shape without a name, or `shape` moved to these scores.
    In the world frame, the shape has the size and the place of its source. The network is asked only near the cube in
    which it was trained; farther away, the value is the distance to this cube.

    >>> learned_field(Path("runs/chairs"), "chair_00").accuracy
    'approximate'
    """
    weights = run / MODEL_FILE
    loaded = _run(run.resolve(), weights.stat().st_mtime_ns if weights.is_file() else 0, device)
    if shape is None and scores is None:
        raise ValueError(f"shape must be given, or scores; {run} has {', '.join(loaded.names[:8])}")
    words = shape or ""
    if scores is not None:
        listed = [f"pc{number}={score!r}" for number, score in enumerate(np.ravel(scores).tolist(), start=1)]
        words = "; ".join([*([f"near={shape}"] if shape else []), *listed])
    return _learned(loaded, words, frame)


@lru_cache(maxsize=_KEPT)
def _learned(run: Run, words: str, frame: str) -> Field:
    mixed, names = add_mixes(run, [words])
    if len(names) != 1:
        raise ValueError(f"shape must be one shape, but {words!r} are {len(names)}")
    field = _InCube(NeuralField(mixed.decoder, mixed.latent(names[0])))
    if frame == "unit":
        return field
    placed = mixed.similarity(names[0])
    rotation = None if placed.rotation is None else placed.rotation.T
    return Transformed(field, rotation=rotation, scale=1 / placed.scale, translation=placed.center)


class _InCube(Field):
    """A learned shape that is asked only near the cube of its training. Elsewhere a network may say anything.

    Outside the cube, the value is that at the nearest point of the cube, which fades over _FADE, plus the distance to
    the cube. So the field is continuous and positive outside. In a scene, most points are far from each learned shape,
    and a network costs a hundred times as much as a primitive.
    """

    accuracy: Accuracy = "approximate"

    def __init__(self, field: NeuralField) -> None:
        self.field, self.bounds = field, field.bounds

    def __call__(self, points: Tensor) -> Tensor:
        check_points(points)
        outside = box_distance(self.bounds, points).clamp(min=0)
        near = outside < _FADE
        lower, upper = points.new_tensor(self.bounds.lower), points.new_tensor(self.bounds.upper)
        inner = points[near].maximum(lower).minimum(upper)
        if not len(inner):
            return outside
        values = self.field(inner)
        at_wall = outside[near]
        sdf = outside.clone()
        sdf[near] = torch.where(at_wall > 0, values.clamp(min=0) * (1 - at_wall / _FADE) + at_wall, values)
        return sdf


_FADE = 0.1
"""Unit-frame length over which the value at the cube's wall fades."""


def text_field(text: str, *, height: float = 1.0, half_depth: float = 0.1) -> Field:
    """Return `text` as a solid: upright in the plane of x and y, with the first letter at the origin.

    `height` is that of a capital letter. The letters reach from -half_depth to +half_depth along z.

    Raises
    ------
    ValueError
        No letter of `text` is visible, or the font lacks a letter.

    >>> text_field("sdf", height=10.0).bounds.upper.round(1).tolist()
    [20.9, 10.4, 0.1]
    """
    check_positive("height", height)
    outlines = [outline * height for outline in _letter_outlines(text)]
    levels = [sum(_surrounds(other, outline) for other in outlines) for outline in outlines]
    solids = [Extrusion(outline * (1, -1), half_depth) for outline in outlines]  # y of the text is -z there
    field: Field = Union(*(solid for solid, level in zip(solids, levels, strict=True) if level == 0))
    for depth in range(1, max(levels) + 1):  # holes, then what stands in holes, and so on
        parts = [solid for solid, level in zip(solids, levels, strict=True) if level == depth]
        field = Difference(field, *parts) if depth % 2 else Union(field, *parts)
    return Transformed(field, rotation=[[1, 0, 0], [0, 0, -1], [0, 1, 0]])


@lru_cache(maxsize=_KEPT)
def _letter_outlines(text: str) -> list[FloatArray]:
    """Return the closed curves (K, 2) of `text`, whose capital letters have the height 1."""
    from matplotlib.font_manager import FontProperties, findfont, get_font
    from matplotlib.textpath import TextPath

    if not text.strip():  # matplotlib cannot take it
        raise ValueError(f"text must have visible letters, got {text!r}")
    face = FontProperties(family="DejaVu Sans")
    font = get_font(findfont(face))
    missing = [letter for letter in text if not font.get_char_index(ord(letter))]
    if missing:
        raise ValueError(f"text {text!r} has letters that the font lacks: {' '.join(missing)}")
    capital, letters = (TextPath((0, 0), each, size=_FONT_SIZE, prop=face) for each in ("H", text))
    size = float(capital.vertices[:, 1].max())
    curves = [np.asarray(curve, dtype=np.float64) / size for curve in letters.to_polygons(closed_only=True)]
    # A curve ends where it began, and may name a corner twice.
    outlines = [curve[np.any(curve != np.roll(curve, 1, axis=0), axis=1)] for curve in curves]
    return [outline for outline in outlines if len(outline) > 2]


_FONT_SIZE = 100.0
"""The size at which curves become polygons: a letter O gets some 60 corners."""


def _surrounds(outline: FloatArray, other: FloatArray) -> bool:
    from matplotlib.path import Path as Curve

    return outline is not other and bool(Curve(outline).contains_point(other[0]))


@lru_cache(maxsize=_KEPT)
def _mesh_field(file: Path, changed: int, thickness: float | None) -> Field:
    solid = make_solid(read_mesh(file), rule=SolidRule(thickness=thickness))
    return MeshField(solid.mesh, closed=solid.closed)


@lru_cache(maxsize=_KEPT)
def _run(run: Path, changed: int, device: str) -> Run:
    return load_run(run, device=device)
