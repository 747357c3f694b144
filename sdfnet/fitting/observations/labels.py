"""Label volumes, whole or in slices: NIfTI, NRRD, and NPY with `spacing=`.

A voxel says which side of the surface its centre is on. The surface itself lies somewhere between the centres of two
neighbours of different labels: half a voxel either way. Where slices are left out, nothing is said.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
from scipy import ndimage

from sdfnet.fitting.config import ObserveConfig
from sdfnet.fitting.observations.base import ObservationKind, hash_file
from sdfnet.fitting.observations.part import PartObservation
from sdfnet.geometry.arrays import BoolArray, FloatArray, IntArray
from sdfnet.mesh.distance import MeshDistance
from sdfnet.volumes.label_volume import VOLUME_SUFFIXES, LabelVolume, read_label_volume
from sdfnet.volumes.surface import smooth_occupancy

HALF_VOXEL_STD = 0.29
"""Standard deviation of a place that is uniform in one voxel, in voxels: 1 / sqrt(12)."""

_SMOOTH_STD = 0.15
"""Deviation of the smoothed interface of a whole volume, in voxels (measured on balls, see `volumes.surface`)."""

_REACH = 6
"""Voxel centres farther than this from the interface, in voxels, are thinned to one in eight."""


def read_labels(path: Path, config: ObserveConfig) -> PartObservation:
    """Read a label volume, and keep the slices that `axis`, `every` and `start` choose.

    Raises
    ------
    ValueError
        A file that cannot be read, no such label, or slices that miss the label.
    """
    volume = read_label_volume(path, spacing=config.spacing)
    try:
        part = label_part(
            volume,
            volume.solid(config.label),
            axis=config.axis,
            every=config.every,
            start=config.start,
            noise_std=config.noise_std,
        )
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error

    def observe(distance: MeshDistance) -> PartObservation:
        indices = np.moveaxis(np.indices(volume.labels.shape), 0, -1).reshape(-1, 3)
        inside = (distance(volume.to_world(indices)).sdf < 0).reshape(volume.labels.shape)
        return label_part(
            volume, inside, axis=config.axis, every=config.every, start=config.start, noise_std=config.noise_std
        )

    part = dataclasses.replace(part, observe=observe)
    return part.described(source=str(path.resolve()), content_hash=hash_file(path, config))


def label_part(
    volume: LabelVolume,
    inside: BoolArray,
    *,
    axis: int = 0,
    every: int = 1,
    start: int = 0,
    noise_std: float | None = None,
) -> PartObservation:
    """Return what the slices `start`, `start + every`, … of a solid (X, Y, Z) say; every slice if `every` is 1.

    `noise_std` is that of the interface, world units; None takes the voxels' own.

    >>> ball = np.linalg.norm(np.indices((20, 20, 20)) - 9.5, axis=0) < 7
    >>> part = label_part(LabelVolume(ball.astype(np.int64), np.eye(4)), ball, axis=2, every=4)
    >>> sorted(set(part.surface[:, 2].tolist()))
    [4.0, 8.0, 12.0, 16.0]
    """
    if not 0 <= start < inside.shape[axis]:
        raise ValueError(f"start must be from 0 to {inside.shape[axis] - 1} along axis {axis}, got {start}")
    chosen = np.arange(start, inside.shape[axis], every)
    seen = inside.take(chosen, axis=axis)
    if not seen.any():
        raise ValueError(
            f"no chosen slice (axis={axis}, every={every}, start={start}) meets the label; choose other slices"
        )
    spacing = volume.spacing.copy()
    whole = every == 1
    if not whole:
        spacing[axis] = 1e6 * spacing.max()  # Other slices are out of reach: a distance is one within the slice.
    crossings = _crossings(seen, axis=None if whole else axis)
    bounds_outside = ndimage.distance_transform_edt(~seen, sampling=spacing)
    bounds_inside = ndimage.distance_transform_edt(seen, sampling=spacing)
    if seen.all():
        bounds_inside = np.full(seen.shape, np.inf)
    indices = np.argwhere(np.ones_like(seen))
    voxel = float(np.delete(volume.spacing, [] if whole else axis).max())
    far = np.minimum(np.where(seen, bounds_inside, bounds_outside), 1e6).ravel() > _REACH * voxel
    indices = indices[~far | (indices.sum(axis=1) % 8 == 0)]
    at = tuple(indices.T)
    lower = np.where(seen[at], -bounds_inside[at], 0.0)
    upper = np.where(seen[at], 0.0, bounds_outside[at])
    std = noise_std if noise_std is not None else (_SMOOTH_STD if whole else HALF_VOXEL_STD) * voxel
    points = np.concatenate([_whole_indices(each, chosen, axis) for each in (crossings, indices.astype(np.float64))])
    zeros = np.zeros(len(crossings))
    num = len(points)
    return PartObservation(
        points=volume.to_world(points),
        lower=np.concatenate([zeros, lower]),
        upper=np.concatenate([zeros, upper]),
        noise_std=np.full(num, std),
        is_surface=np.arange(num) < len(crossings),
        normals=np.zeros((num, 3)),
        is_dense=True,
        notes=() if whole else (f"{int(seen.any(axis=_others(axis)).sum())} slices meet the label",),
    )


def _others(axis: int) -> tuple[int, ...]:
    return tuple(other for other in range(3) if other != axis)


def _whole_indices(indices: FloatArray, chosen: IntArray, axis: int) -> FloatArray:
    """Return indices of the chosen slices as indices of the volume."""
    moved = indices.copy()
    moved[:, axis] = chosen[np.rint(indices[:, axis]).astype(np.int64)] if len(chosen) > 1 else chosen[0]
    if len(chosen) > 1 and chosen[1] - chosen[0] == 1:
        moved[:, axis] = indices[:, axis] + chosen[0]
    return moved


def _crossings(seen: BoolArray, *, axis: int | None) -> FloatArray:
    """Return the places (M, 3), in indices, where the smoothed labels cross one half between neighbours.

    With `axis`, each slice across it is smoothed on its own.
    """
    if axis is None:
        values = smooth_occupancy(np.pad(seen, 2))
    else:
        slices = np.moveaxis(np.pad(seen, [(0, 0) if each == axis else (2, 2) for each in range(3)]), axis, 0)
        values = np.moveaxis(np.stack([smooth_occupancy(each) for each in slices]), 0, axis)
    padding = np.array([0 if each == axis else 2 for each in range(3)])
    found = []
    for along in range(3):
        if along == axis:
            continue
        first = np.moveaxis(values, along, 0)
        crosses = np.moveaxis((first[1:] < 0) != (first[:-1] < 0), 0, along)
        places = np.argwhere(crosses)
        here = values[tuple(places.T)]
        step = np.eye(3, dtype=np.int64)[along]
        there = values[tuple((places + step).T)]
        found.append(places + step * (here / (here - there))[:, None] - padding)
    return np.concatenate(found)


LABELS = ObservationKind(suffixes=(*VOLUME_SUFFIXES, ".npy"), read_part=read_labels)
