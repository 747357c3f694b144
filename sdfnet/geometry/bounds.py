"""Axis-aligned boxes, and the regular lattice that a field is sampled on."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

LATTICE_MARGIN = 0.05
"""A lattice extends beyond the bounds by this share of half the longest extent: [-1, 1] becomes [-1.05, 1.05]."""


@dataclass(frozen=True, eq=False)
class Bounds:
    """An axis-aligned box.

    Attributes
    ----------
    lower, upper : (3,) float64
        Opposite corners, with `lower <= upper`. They may be infinite but never NaN. Their frame is that of the object
        that holds the box.

    >>> Bounds.cube(1.0).extent
    array([2., 2., 2.])
    """

    lower: NDArray[np.float64]
    upper: NDArray[np.float64]

    def __init__(self, lower: ArrayLike, upper: ArrayLike) -> None:
        lower_3 = np.array(lower, dtype=np.float64)
        upper_3 = np.array(upper, dtype=np.float64)
        if lower_3.shape != (3,) or upper_3.shape != (3,):
            raise ValueError(f"lower and upper must have shape (3,), got {lower_3.shape} and {upper_3.shape}")
        if not (lower_3 <= upper_3).all():
            raise ValueError(f"lower must not exceed upper, got {lower_3.tolist()} and {upper_3.tolist()}")
        lower_3.flags.writeable = upper_3.flags.writeable = False
        object.__setattr__(self, "lower", lower_3)
        object.__setattr__(self, "upper", upper_3)

    @classmethod
    def cube(cls, half_extent: float) -> Bounds:
        """Return the cube [-half_extent, half_extent]³."""
        return cls([-half_extent] * 3, [half_extent] * 3)

    @classmethod
    def infinite(cls) -> Bounds:
        """Return the box that contains all of space."""
        return cls([-math.inf] * 3, [math.inf] * 3)

    @classmethod
    def of(cls, points: NDArray[np.floating]) -> Bounds:
        """Return the smallest box around `points` ((N, 3), N > 0)."""
        return cls(points.min(axis=0), points.max(axis=0))

    @property
    def is_finite(self) -> bool:
        return bool(np.isfinite(self.lower).all() and np.isfinite(self.upper).all())

    @property
    def extent(self) -> NDArray[np.float64]:
        """Edge lengths, (3,)."""
        return self.upper - self.lower

    @property
    def center(self) -> NDArray[np.float64]:
        return (self.lower + self.upper) / 2

    def grown(self, margin: float) -> Bounds:
        """Return the box with every face moved outward by `margin`. A negative margin shrinks it at most to a point."""
        lower, upper = self.lower - margin, self.upper + margin
        crossed = lower > upper  # Only finite sides can cross; the middle of infinite ones would be NaN.
        middle = np.add(self.lower, self.upper, out=np.zeros(3), where=crossed) / 2
        return Bounds(np.where(crossed, middle, lower), np.where(crossed, middle, upper))

    def union(self, other: Bounds) -> Bounds:
        """Return the smallest box around both boxes."""
        return Bounds(np.minimum(self.lower, other.lower), np.maximum(self.upper, other.upper))

    def intersection(self, other: Bounds) -> Bounds:
        """Return the intersection of both boxes. If they do not overlap, return a box that is a point of `self`."""
        lower = np.maximum(self.lower, other.lower)
        upper = np.minimum(self.upper, other.upper)
        apart = lower > upper
        point = np.clip(lower, self.lower, self.upper)
        return Bounds(np.where(apart, point, lower), np.where(apart, point, upper))

    def contains(self, points: NDArray[np.floating]) -> NDArray[np.bool_]:
        """Return which of `points` (..., 3) lie inside or on the box, shape (...)."""
        return np.asarray(((points >= self.lower) & (points <= self.upper)).all(axis=-1))


MAX_RESOLUTION = 4096
"""Largest number of samples along an axis. Above it, even the cells that a surface crosses fill a large machine's
memory."""


def check_resolution(resolution: int, *, least: int = 2) -> None:
    """Raise ValueError unless `resolution` (samples along an axis) is from `least` to MAX_RESOLUTION.

    >>> check_resolution(1)
    Traceback (most recent call last):
    ...
    ValueError: resolution must be from 2 to 4096, got 1
    """
    if not least <= resolution <= MAX_RESOLUTION:
        raise ValueError(f"resolution must be from {least} to {MAX_RESOLUTION}, got {resolution}")


UNIT_BOUNDS = Bounds.cube(1.0)
"""The box of every learned shape, unit frame. The lattice over this box covers [-1.05, 1.05]³."""


@dataclass(frozen=True, eq=False)
class Lattice:
    """A regular grid of points: `origin + spacing * (i, j, k)`, indexed [x, y, z].

    Attributes
    ----------
    origin : (3,) float64
    spacing : float
        The same along every axis.
    shape : tuple of int
        Numbers of points along x, y and z, each at least 2.

    >>> Lattice(np.zeros(3), 0.5, (3, 3, 3)).shape
    (3, 3, 3)
    """

    origin: NDArray[np.float64]
    spacing: float
    shape: tuple[int, int, int]

    @classmethod
    def over(cls, bounds: Bounds, resolution: int) -> Lattice:
        """Lay a lattice over `bounds` enlarged by LATTICE_MARGIN, with `resolution` samples along the longest axis.

        Raises
        ------
        ValueError
            `resolution` below 2 or above MAX_RESOLUTION; infinite or empty bounds.

        >>> lattice = Lattice.over(UNIT_BOUNDS, 3)
        >>> lattice.origin.tolist(), lattice.spacing, lattice.shape
        ([-1.05, -1.05, -1.05], 1.05, (3, 3, 3))
        """
        check_resolution(resolution)
        if not bounds.is_finite:
            raise ValueError("cannot lay a lattice over infinite bounds; give bounds that contain the surface")
        longest = float(bounds.extent.max())
        if longest <= 0:
            raise ValueError(f"cannot lay a lattice over an empty box, got {bounds}")
        grown = bounds.grown(LATTICE_MARGIN * longest / 2)
        spacing = longest * (1 + LATTICE_MARGIN) / (resolution - 1)
        counts = [max(2, math.ceil(float(e) / spacing - 1e-9) + 1) for e in grown.extent]
        return cls(grown.lower, spacing, (counts[0], counts[1], counts[2]))

    def slab(self, first: int, stop: int) -> NDArray[np.float64]:
        """Return the points with x index in [first, stop), shape (stop - first, Y, Z, 3)."""
        axes = [np.arange(first, stop), np.arange(self.shape[1]), np.arange(self.shape[2])]
        indices = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
        return self.origin + self.spacing * indices
