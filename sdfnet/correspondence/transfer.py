"""Carry labels, colours and landmarks from one shape of a run to others.

Labels and colours are pulled: each vertex of a target asks which place of the source it corresponds to. Landmarks are
pushed from the source to the targets. The files of each kind are read by `annotations`.
"""

from __future__ import annotations

import csv
import io
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from sdfnet.correspondence.annotations import Colors, Labels, Landmarks
from sdfnet.correspondence.match import match_points
from sdfnet.fields.base import evaluate
from sdfnet.files import ensure_folder
from sdfnet.geometry.arrays import FloatArray
from sdfnet.geometry.bounds import LATTICE_MARGIN
from sdfnet.mesh.distance import MeshDistance
from sdfnet.mesh.io.ply import format_ply
from sdfnet.mesh.io.write import write_file
from sdfnet.mesh.mesh import Mesh
from sdfnet.runs import Run, extract_shape
from sdfnet.runs.document import check_overwrites
from sdfnet.runs.mixes import add_mixes

_LOGGER = logging.getLogger(__name__)

_OFF_SURFACE, _MOST_TOLD = 0.03, 5
"""A landmark farther from the source's surface than this (unit frame) is warned of; so many are named."""

_PALETTE = np.array(
    [
        [31, 119, 180], [255, 127, 14], [44, 160, 44], [214, 39, 40], [148, 103, 189],
        [140, 86, 75], [227, 119, 194], [127, 127, 127], [188, 189, 34], [23, 190, 207],
    ],
    dtype=np.uint8,
)  # fmt: skip
"""The colours of labels in PLY files, in turn."""


@dataclass(frozen=True, eq=False)
class TransferredShapes:
    """What `transfer` wrote.

    Attributes
    ----------
    out : Path
    confidence : dict
        The mean confidence of each shape that was written.
    failures : dict
        The reason for each shape that has none.

    >>> TransferredShapes(Path("out"), {"chair_01": 0.93}, {}).failures
    {}
    """

    out: Path
    confidence: dict[str, float]
    failures: dict[str, str]


def transfer(
    run: Run,
    source: str,
    annotation: Labels | Colors | Landmarks,
    shapes: str | Sequence[str],
    out: str | Path,
    *,
    resolution: int = 128,
    progress: bool = False,
) -> TransferredShapes:
    """Carry an annotation of the shape `source` to `shapes` (names, globs or mixes) and write it into the folder `out`.

    For each shape NAME, `NAME.ply` is its mesh in world units, coloured by the carried labels or colours; of landmarks,
    it has the points alone. `NAME.csv` has one row for each vertex or landmark, with the confidence of `match_points`.

    Parameters
    ----------
    annotation : Labels, Colors or Landmarks
        As the functions of `sdfnet.correspondence.annotations` read them.
    resolution : int
        Samples per axis at which the meshes of the targets are extracted.

    Raises
    ------
    ValueError
        Unknown shapes, or a file to be written is a source mesh of the run. A shape that cannot be matched does not
        stop the others; it is among the `failures`.

    >>> from sdfnet.correspondence import Landmarks
    >>> from sdfnet.runs import load_run
    >>> top = Landmarks(("top",), np.array([[0.0, 0.9, -0.2]]))
    >>> transfer(load_run("runs/chairs"), "chair_00", top, "chair_00", "landmarks").confidence
    {'chair_00': 1.0}
    """
    run, chosen = add_mixes(run, shapes)
    run.latent(source)  # refuses an unknown name
    names, out = list(dict.fromkeys(chosen)), Path(out)
    targets = [out / f"{name}.{suffix}" for name in names for suffix in ("ply", "csv")]
    check_overwrites(out, targets, [shape.source for shape in run.shapes], what="the source meshes of this run")
    ensure_folder(out)
    if isinstance(annotation, Landmarks):
        _warn_if_off_surface(run, source, annotation)
    confidence, failures = {}, {}
    for name in tqdm(names, desc="transferring", unit="shape", delay=2, leave=False, disable=not progress):
        try:
            if isinstance(annotation, Landmarks):
                confidence[name] = _push(run, source, name, annotation, out)
            else:
                mesh = extract_shape(run, name, resolution=resolution).mesh
                confidence[name] = _pull(run, source, name, annotation, (mesh, out))
        except ValueError as error:
            failures[name] = str(error)
    return TransferredShapes(out, confidence, failures)


def _warn_if_off_surface(run: Run, source: str, landmarks: Landmarks) -> None:
    points = torch.from_numpy(run.similarity(source).to_unit(landmarks.points)).to(run.latents)
    off = (evaluate(run.field(source), points).abs() > _OFF_SURFACE) | (points.abs() > 1 + LATTICE_MARGIN).any(dim=1)
    names = [landmarks.names[number] for number in torch.nonzero(off)[:, 0].tolist()]
    if names:
        told = ", ".join(names[:_MOST_TOLD]) + (", …" if len(names) > _MOST_TOLD else "")
        _LOGGER.warning("landmarks off the surface of %s: %s. Are they in its units and at its place?", source, told)


def _push(run: Run, source: str, name: str, landmarks: Landmarks, out: Path) -> float:
    """Write where the landmarks lie on a shape; return their mean confidence."""
    matched = match_points(run, source, name, landmarks.points)
    table: dict[str, Sequence | NDArray] = {
        "name": landmarks.names,
        **_columns(matched.points_world),
        "confidence": matched.confidence,
    }
    points = Mesh(matched.points_world, np.zeros((0, 3), dtype=np.int64))
    _write(out / name, format_ply(points, attributes={"confidence": matched.confidence}), table)
    return float(matched.confidence.mean())


def _pull(run: Run, source: str, name: str, annotation: Labels | Colors, goal: tuple[Mesh, Path]) -> float:
    """Write the annotation of each vertex of a shape's mesh into a folder; return the mean confidence."""
    mesh, out = goal
    matched = match_points(run, name, source, mesh.vertices)
    found = MeshDistance(annotation.mesh).unsigned(matched.points_world)
    corners = annotation.mesh.triangles[found.faces]
    nearest = np.linalg.norm(corners - found.closest_points[:, None], axis=2).argmin(axis=1)
    vertices = annotation.mesh.faces[found.faces, nearest]
    if isinstance(annotation, Colors):
        colors = annotation.colors[vertices]
        shown: dict[str, FloatArray] = {}
        told: dict[str, Sequence | NDArray] = dict(zip(("red", "green", "blue"), colors.T, strict=True))
    else:
        numbers = annotation.numbers[found.faces if annotation.of_faces else vertices]
        colors = _PALETTE[numbers % len(_PALETTE)]
        shown = {"label": numbers.astype(np.float64)}
        told = {"label": [annotation.names[number] for number in numbers]}
    shown["confidence"] = matched.confidence
    told = {**_columns(mesh.vertices), **told, "confidence": matched.confidence}
    _write(out / name, format_ply(mesh, vertex_colors=colors / 255, attributes=shown), told)
    return float(matched.confidence.mean())


def _columns(points: FloatArray) -> dict[str, NDArray]:
    return {axis: points[:, index] for index, axis in enumerate("xyz")}


def _write(path: Path, ply: bytes, table: Mapping[str, Sequence | NDArray]) -> None:
    """Write `path`.ply, and `path`.csv with the columns of `table`."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(table)
    for row in zip(*table.values(), strict=True):
        writer.writerow([f"{value:.9g}" if isinstance(value, float) else value for value in row])
    write_file(path.with_name(path.name + ".ply"), ply)
    write_file(path.with_name(path.name + ".csv"), text.getvalue().encode("utf-8"))
