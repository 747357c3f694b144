"""Errors by labelled part of the shipped chairs; `quality.py` prints them.

A missing leg shows in the error of the leg; an average over the whole chair hides it.
"""

from __future__ import annotations

import json
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from sdfnet.evaluation.closest_points import bounding_radius
from sdfnet.mesh.distance import MeshDistance
from sdfnet.mesh.mesh import Mesh
from sdfnet.sampling.samplers import sample_surface

NUM_PART_POINTS = 5_000
"""Samples on each part: the 95th percentile then rests on the farthest 250."""


@dataclass(frozen=True)
class PartError:
    """Plain distances from one part of a source to the result, in percent of the whole source's radius."""

    mean: float
    p95: float
    max: float


def load_labels(path: str | Path) -> list[str]:
    """Read the label of each face from a `.parts.json` file: a range of faces, first and one after the last, per part.

    Raises
    ------
    ValueError
        The file is missing or damaged, or its ranges do not cover the faces from 0 on without gap or overlap.
    """
    path = Path(path)
    try:
        ranges = json.loads(path.read_text(encoding="utf-8"))
        spans = sorted((int(first), int(stop), str(label)) for label, (first, stop) in ranges.items())
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"cannot read the part labels {path}: {error}") from error
    labels: list[str] = []
    for first, stop, label in spans:
        if first != len(labels) or stop <= first:
            raise ValueError(
                f"the part labels {path} give {label} the faces {first} to {stop}, expected {len(labels)} on"
            )
        labels += [label] * (stop - first)
    return labels


def part_errors(
    result: Mesh,
    source: Mesh,
    labels: Sequence[Hashable] | NDArray[np.generic],
    *,
    num_points: int = NUM_PART_POINTS,
    generator: torch.Generator,
) -> dict[Hashable, PartError]:
    """Measure how far `result` is from each labelled part of `source`, one way only: what is missing.

    Parameters
    ----------
    labels : (F,) of the source's faces
        Names or numbers; each part is sampled on its own, whatever its area.

    Returns
    -------
    dict from each label, in order of first appearance, to its error.

    Raises
    ------
    ValueError
        Another number of labels than of faces; a part without area.

    >>> corners = [[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]]
    >>> mesh = Mesh(corners, [[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]])
    >>> errors = part_errors(mesh, mesh, ["base", "side", "side", "side"], generator=torch.Generator())
    >>> list(errors), errors["side"].p95 < 1e-9
    (['base', 'side'], True)
    """
    if len(labels) != len(source.faces):
        raise ValueError(f"labels must have one entry for each of the {len(source.faces)} faces, got {len(labels)}")
    values = labels.tolist() if isinstance(labels, np.ndarray) else list(labels)
    faces_of_part: dict[Hashable, list[int]] = {}
    for face, label in enumerate(values):
        faces_of_part.setdefault(label, []).append(face)
    target, percent = MeshDistance(result), 100 / bounding_radius(source)
    errors = {}
    for label, faces in faces_of_part.items():
        part = Mesh(source.vertices, source.faces[faces])
        samples = sample_surface(part, num_points, generator=generator)
        distances = percent * target.unsigned(samples.points.numpy()).distance
        errors[label] = PartError(float(distances.mean()), float(np.percentile(distances, 95)), float(distances.max()))
    return errors
