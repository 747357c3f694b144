"""The part of a lattice that a moving surface can pass, as one dense array of values, most of them never evaluated.

The lattice's samples are grouped in blocks of 4³. In a block whose centre is farther from the level than the field can
change on the way to its samples, all samples have the centre's value. So signs are right everywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from sdfnet.fields.base import Field, evaluate
from sdfnet.geometry.bounds import Lattice

FieldAt = Callable[[float], Field]
"""A moving field: from a time in [0, 1] to the field at that time."""

_SIDE = 4
"""Samples along a side of a block."""

_REACH = 1.5 * np.sqrt(3)
"""From a block's centre to its farthest samples, in spacings."""

_SAFETY = 1.25
"""A field is trusted to change by no more than this times what its slope between the centres of blocks says."""


@dataclass(frozen=True, eq=False)
class Window:
    """Where a moving surface can be.

    Attributes
    ----------
    lattice : Lattice
    first : (3,) int64
        The lowest block.
    near : (T - 1, X, Y, Z) bool
        The blocks that the surface can meet between each two frames.
    centers : (T, X, Y, Z) float32
        Values at the blocks' centres at each frame, in spacings.
    """

    lattice: Lattice
    first: NDArray[np.int64]
    near: NDArray[np.bool_]
    centers: NDArray[np.float32]

    @classmethod
    def around(cls, field_at: FieldAt, times: Sequence[float], lattice: Lattice) -> Window:
        """Look at the centres of all blocks of `lattice` at all `times`, and keep the blocks that matter."""
        counts = [-(-count // _SIDE) for count in lattice.shape]
        places = np.indices(counts).reshape(3, -1).T
        centers = np.stack(
            [sample(field_at(time), lattice, places * _SIDE + (_SIDE - 1) / 2) for time in times]
        ).reshape(len(times), *counts)
        margin = _SAFETY * _REACH * _slope(centers)
        distance = np.minimum(np.abs(centers[:-1]), np.abs(centers[1:])) - np.abs(np.diff(centers, axis=0))
        near = (distance <= margin) | (np.signbit(centers[:-1]) != np.signbit(centers[1:]))
        used = np.argwhere(near.any(axis=0))
        low, high = (used.min(axis=0), used.max(axis=0) + 1) if len(used) else (np.zeros(3, int), np.ones(3, int))
        kept = (slice(None), *(slice(a, b) for a, b in zip(low, high, strict=True)))
        return cls(lattice, low, near[kept], centers[kept])

    def samples(self, *intervals: int) -> NDArray[np.int64]:
        """Return the flat numbers, in the array of values, of the samples to look at between frames."""
        corners = 1 + _SIDE * np.argwhere(self.near[list(intervals)].any(axis=0))
        within = np.ravel_multi_index(tuple(np.indices([_SIDE] * 3).reshape(3, -1)), self.shape)
        lowest = np.asarray(np.ravel_multi_index(tuple(corners.T), self.shape))
        return (lowest[:, None] + within).ravel()

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the array of values: all samples of the blocks, and a border that is outside."""
        return tuple(_SIDE * count + 2 for count in self.near.shape[1:])

    def far(self, frame: int) -> NDArray[np.float32]:
        """Return the values (X, Y, Z) of a frame as far as the centres of blocks tell."""
        values = self.centers[frame]
        for axis in range(3):
            values = values.repeat(_SIDE, axis=axis)
        return np.pad(values, 1, constant_values=1.0)

    def place_of(self, cell: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the middle, in lattice coordinates, of a cell of the array of values."""
        return np.asarray(cell - 0.5 + _SIDE * self.first, dtype=np.float64)

    def evaluate(self, field: Field, numbers: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the values, in spacings, of `field` at the samples of these flat numbers."""
        places = np.stack(np.unravel_index(numbers, self.shape), axis=1) - 1 + _SIDE * self.first
        return sample(field, self.lattice, places)


def sample(field: Field, lattice: Lattice, places: NDArray[np.number]) -> NDArray[np.float32]:
    """Return the values of `field` at places (N, 3) in lattice coordinates, in spacings."""
    points = torch.from_numpy((lattice.origin + lattice.spacing * places).astype(np.float32))
    values = np.asarray(evaluate(field, points).numpy() / np.float32(lattice.spacing), dtype=np.float32)
    if not np.isfinite(values).all():
        raise ValueError(f"the field is not finite at {int((~np.isfinite(values)).sum())} of {len(values)} points")
    return values


def _slope(centers: NDArray[np.float32]) -> float:
    """Return how steep the field is near the surface: the largest step between neighbouring centres, per spacing."""
    slopes = [0.0]
    for axis in range(1, 4):
        step = np.abs(np.diff(centers, axis=axis)) / _SIDE
        low = np.minimum(
            *(np.take(np.abs(centers), np.arange(start, centers.shape[axis] - 1 + start), axis) for start in (0, 1))
        )
        slopes.append(float(np.quantile(step[low < 2 * _SIDE], 0.99)) if (low < 2 * _SIDE).any() else 0.0)
    return max(slopes)
