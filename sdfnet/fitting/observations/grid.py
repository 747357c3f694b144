"""A grid of signed distances, negative inside: NPY with `spacing=`. Values that are NaN are not known."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from sdfnet.fitting.config import ObserveConfig
from sdfnet.fitting.observations.base import ObservationKind, hash_file
from sdfnet.fitting.observations.part import PartObservation
from sdfnet.volumes.label_volume import load_array


def read_grid(path: Path, config: ObserveConfig) -> PartObservation:
    """Read a grid of signed distances (X, Y, Z); sample (0, 0, 0) lies at the origin of the world.

    Raises
    ------
    ValueError
        No `spacing`, another shape, or no place where the sign changes.
    """
    if config.spacing is None:
        raise ValueError(f"{path}: a grid of distances needs spacing=[X,Y,Z] in world units")
    values, spacing = load_array(path), np.asarray(config.spacing, dtype=np.float64)
    if values.ndim != 3 or values.dtype.kind != "f":
        raise ValueError(f"{path}: a grid of distances has three axes of floats, got {values.shape} {values.dtype}")
    values = values.astype(np.float64)
    known = np.isfinite(values)
    crossings = []
    for axis in range(3):
        here, there = np.moveaxis(values, axis, 0)[:-1], np.moveaxis(values, axis, 0)[1:]
        places = np.argwhere(((here < 0) != (there < 0)) & np.isfinite(here) & np.isfinite(there))
        at = tuple(places.T)
        moved = places.astype(np.float64)
        moved[:, 0] += here[at] / (here[at] - there[at])
        crossings.append(moved[:, _order(axis)])
    surface = np.concatenate(crossings) * spacing
    if not len(surface):
        raise ValueError(f"{path}: the distances have one sign everywhere known, so there is no surface")
    points = np.argwhere(known) * spacing
    distance = values[known]
    num, num_surface = len(points) + len(surface), len(surface)
    value = np.concatenate([np.zeros(num_surface), distance])
    noise = config.noise_std if config.noise_std is not None else 0.05 * float(spacing.min())
    return PartObservation(
        np.concatenate([surface, points]),
        value,
        value,
        np.full(num, noise),
        np.arange(num) < num_surface,
        np.zeros((num, 3)),
        True,
        str(path.resolve()),
        hash_file(path, config),
    )


def _order(axis: int) -> list[int]:
    """Return the columns that undo `moveaxis(axis, 0)`."""
    order = [axis, *(other for other in range(3) if other != axis)]
    return [order.index(column) for column in range(3)]


SDF = ObservationKind(suffixes=(".npy",), read_part=read_grid)
