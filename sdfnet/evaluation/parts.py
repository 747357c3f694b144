"""Errors by labelled part: whether the thin leg is there, which an average over the whole chair hides."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from sdfnet.evaluation.matching import Surface
from sdfnet.geometry.mesh import Mesh
from sdfnet.sampling.samplers import sample_surface

NUM_PART_POINTS = 5_000
"""Samples on each part: the 95th percentile then rests on the farthest 250."""


@dataclass(frozen=True)
class PartError:
    """Plain distances from one part of a source to the result, in percent of the whole source's radius."""

    mean: float
    p95: float
    max: float


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
    target, percent = Surface.of(result).distance, 100 / Surface.of(source).radius
    errors = {}
    for label, faces in faces_of_part.items():
        part = Mesh(source.vertices, source.faces[faces])
        samples = sample_surface(part, num_points, generator=generator)
        distances = percent * target.unsigned(samples.points.numpy()).distance
        errors[label] = PartError(float(distances.mean()), float(np.percentile(distances, 95)), float(distances.max()))
    return errors
