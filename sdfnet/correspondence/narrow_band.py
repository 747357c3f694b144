"""The narrow band of lattice samples that a moving surface can reach.

The lattice is divided into blocks of 4³ samples. A block belongs to the band when the field can become zero in it
between two frames. Only samples of the band are evaluated. All other samples take the value at the centre of their
block, so every sign is right.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from sdfnet.fields.base import Field, evaluate
from sdfnet.geometry.arrays import BoolArray, Float32Array, FloatArray, IntArray
from sdfnet.geometry.bounds import Lattice

FieldAt = Callable[[float], Field]
"""A moving field: a function from a time to the field at this time."""

_SIDE = 4
"""The number of samples along a side of a block."""

_REACH = 1.5 * np.sqrt(3)
"""The distance from the centre of a block to its farthest samples, in spacings."""

_SAFETY = 1.25
"""The field is assumed to be steeper than the differences between block centres by at most this factor."""


@dataclass(frozen=True, eq=False)
class NarrowBand:
    """The blocks of a lattice that a moving surface can reach.

    The values of one frame form a dense array (X, Y, Z). The array covers all blocks from the lowest to the highest
    block of the band. Its border of one sample is outside the surface.

    Attributes
    ----------
    first_block : (3,)
        The block of the lattice at which the array begins.
    reached : (T - 1, X/4, Y/4, Z/4)
        The blocks that the surface can reach between each two frames.
    center_values : (T, X/4, Y/4, Z/4)
        Values at the centres of blocks at each frame, in spacings.
    """

    lattice: Lattice
    first_block: IntArray
    reached: BoolArray
    center_values: Float32Array

    @classmethod
    def around(cls, field_at: FieldAt, times: Sequence[float], lattice: Lattice) -> NarrowBand:
        """Evaluate the centres of all blocks of `lattice` at all `times`, and find the blocks of the band."""
        counts = [-(-count // _SIDE) for count in lattice.shape]
        blocks = np.indices(counts).reshape(3, -1).T
        places = blocks * _SIDE + (_SIDE - 1) / 2
        centers = np.stack([sample_field(field_at(time), lattice, places).reshape(counts) for time in times])
        margin = _SAFETY * _REACH * _slope(centers)
        distance = np.minimum(np.abs(centers[:-1]), np.abs(centers[1:])) - np.abs(np.diff(centers, axis=0))
        reached = (distance <= margin) | (np.signbit(centers[:-1]) != np.signbit(centers[1:]))
        used = np.argwhere(reached.any(axis=0))
        low, high = (used.min(axis=0), used.max(axis=0) + 1) if len(used) else (np.zeros(3, int), np.ones(3, int))
        kept = (slice(None), *(slice(a, b) for a, b in zip(low, high, strict=True)))
        return cls(lattice, low, reached[kept], centers[kept])

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the shape of the array of values, with its border."""
        return tuple(_SIDE * count + 2 for count in self.reached.shape[1:])

    def indices(self, *intervals: int) -> IntArray:
        """Return the flat indices of the samples that the surface can reach in these intervals between frames."""
        corners = 1 + _SIDE * np.argwhere(self.reached[list(intervals)].any(axis=0))
        within = np.ravel_multi_index(tuple(np.indices([_SIDE] * 3).reshape(3, -1)), self.shape)
        lowest = np.asarray(np.ravel_multi_index(tuple(corners.T), self.shape))
        return (lowest[:, None] + within).ravel()

    def frame_values(self, field: Field, frame: int, *intervals: int) -> Float32Array:
        """Return the values (X, Y, Z) of a frame. Evaluate samples that the surface can reach in these intervals."""
        values = self.center_values[frame]
        for axis in range(3):
            values = values.repeat(_SIDE, axis=axis)
        values = np.pad(values, 1, constant_values=1.0)
        indices = self.indices(*intervals)
        values.ravel()[indices] = self.evaluate(field, indices)
        return values

    def evaluate(self, field: Field, indices: IntArray) -> Float32Array:
        """Return the values of `field` at samples given by flat indices, in spacings."""
        places = np.stack(np.unravel_index(indices, self.shape), axis=1) - 1 + _SIDE * self.first_block
        return sample_field(field, self.lattice, places)

    def cell_center(self, cell: IntArray) -> FloatArray:
        """Return the centre of a cell of the array of values, in lattice coordinates."""
        return np.asarray(cell - 0.5 + _SIDE * self.first_block, dtype=np.float64)


def sample_field(field: Field, lattice: Lattice, places: NDArray[np.number]) -> Float32Array:
    """Return the values (N,) of `field`, in spacings, at `places` (N, 3) in lattice coordinates.

    Raises
    ------
    ValueError
        A value is not finite.
    """
    points = torch.from_numpy((lattice.origin + lattice.spacing * places).astype(np.float32))
    values = np.asarray(evaluate(field, points).numpy() / np.float32(lattice.spacing), dtype=np.float32)
    if not np.isfinite(values).all():
        raise ValueError(f"the field is not finite at {int((~np.isfinite(values)).sum())} of {len(values)} points")
    return values


def _slope(centers: Float32Array) -> float:
    """Return the slope of the field near the surface, from the differences of neighbouring block centres."""
    slopes = [0.0]
    for axis in range(1, 4):
        along = np.moveaxis(centers, axis, 0)
        step = np.abs(np.diff(along, axis=0)) / _SIDE
        near = np.minimum(np.abs(along[:-1]), np.abs(along[1:])) < 2 * _SIDE
        slopes.append(float(np.quantile(step[near], 0.99)) if near.any() else 0.0)
    return max(slopes)
