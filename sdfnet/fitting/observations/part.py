"""What is known of a part of a shape: at each of many points, an interval that holds the signed distance.

Every kind of input that shows only a part says what it knows in this one form, in the units and the place of its file:

- a point of the surface: the distance is 0, up to noise;
- a point with a normal: also two points beside it, whose distance is known up to more noise;
- empty space along a ray that ended on the surface: the distance is at least 0, and at most the way to the surface;
- the centre of a voxel: the sign is known, and the next voxel of the other kind bounds the distance.

Where nothing is said, nothing is known: a hole of a scan is not a surface.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from sdfnet.geometry.arrays import FloatArray, IntArray
from sdfnet.mesh.distance import MeshDistance

_NEIGHBORS = 24
"""Points of the plane that shows the noise of a point."""

_LEAST_NOISE = 1e-4
"""Share of the extent of the points; no scanner is more exact."""

_NORMAL_STEP = 0.006
"""Points beside the surface are this far along the normal, as a share of the extent of the points."""

_RAY_SHARES = (0.98, 0.9, 0.7, 0.4)
"""Where the empty points of a ray lie between the scanner, 0, and the surface, 1."""

_FREE_REACH = 0.5
"""Empty points lie at most this far before the surface, as a share of the extent; farther ones say nothing new."""


@dataclass(frozen=True, eq=False)
class PartObservation:
    """Intervals of the signed distance at points, world units. Errors are heavy-tailed: see `misfit_of`.

    Attributes
    ----------
    points : (N, 3) float64
    lower, upper : (N,) float64
        The interval of the signed distance at each point; infinite where there is no bound. Equal at the surface.
    noise_std : (N,) float64
        Standard deviation of the bounds, positive.
    is_surface : (N,) bool
        The observed points of the surface, which show the place and the seen part.
    normals : (N, 3) float64
        Outward unit normals at points of the surface; 0 where they are not known.
    is_dense : bool
        Whether the points show the surface closely enough to correct a shape by them (`refine=shape`).
    source, content_hash : str
        The file, and a hash of all that was read.
    notes : tuple of str
        What a reader must know about the input.
    observe : function or None
        Observes another solid as this one was, from its signed distance in the same world; None if only points were
        seen.

    Raises
    ------
    ValueError
        Arrays of other lengths, not finite points, crossed bounds, or no points of the surface.

    >>> part = surface_part(np.array([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0]]), noise_std=0.01)
    >>> part.lower.tolist(), part.is_surface.tolist()
    ([0.0, 0.0], [True, True])
    """

    points: FloatArray
    lower: FloatArray
    upper: FloatArray
    noise_std: FloatArray
    is_surface: NDArray[np.bool_]
    normals: FloatArray
    is_dense: bool = False
    source: str = ""
    content_hash: str = ""
    notes: tuple[str, ...] = field(default=())
    observe: Callable[[MeshDistance], PartObservation] | None = None

    def __post_init__(self) -> None:
        num = len(self.points)
        if self.points.shape != (num, 3) or self.normals.shape != (num, 3):
            raise ValueError(f"points and normals must be (N, 3), got {self.points.shape} and {self.normals.shape}")
        for name in ("lower", "upper", "noise_std", "is_surface"):
            if getattr(self, name).shape != (num,):
                raise ValueError(
                    f"{name} must have shape ({num},) as there are points, got {getattr(self, name).shape}"
                )
        if not np.isfinite(self.points).all() or not (self.lower <= self.upper).all():
            raise ValueError("points must be finite and lower must not exceed upper")
        if not (np.isfinite(self.noise_std) & (self.noise_std > 0)).all():
            raise ValueError("noise_std must be positive and finite")
        if not self.is_surface.any():
            raise ValueError("no point of the surface is observed; at least one is needed to place a shape")

    @property
    def surface(self) -> FloatArray:
        """The observed points of the surface, (M, 3)."""
        return self.points[self.is_surface]

    @property
    def extent(self) -> float:
        """A robust diagonal of the box around the surface points, world units."""
        return extent_of(self.surface)

    def described(self, *, source: str, content_hash: str) -> PartObservation:
        """Return the same observation with the file that it is from."""
        return dataclasses.replace(self, source=source, content_hash=content_hash)

    def with_known(self, points: FloatArray, rows: IntArray, *, noise_std: float) -> PartObservation:
        """Return the part with what its `rows` (M,) say said of other `points` (M, 3) too, less surely by `noise_std`.

        The new points are not seen: they are not among the surface points.

        >>> part = surface_part(np.eye(3), noise_std=0.3).with_known(-np.eye(3), np.arange(3), noise_std=0.4)
        >>> part.noise_std.round(1).tolist(), len(part.surface)
        ([0.3, 0.3, 0.3, 0.5, 0.5, 0.5], 3)
        """
        return dataclasses.replace(
            self,
            points=np.concatenate([self.points, points]),
            lower=np.concatenate([self.lower, self.lower[rows]]),
            upper=np.concatenate([self.upper, self.upper[rows]]),
            noise_std=np.concatenate([self.noise_std, np.hypot(self.noise_std[rows], noise_std)]),
            is_surface=np.concatenate([self.is_surface, np.zeros(len(rows), bool)]),
            normals=np.concatenate([self.normals, np.zeros((len(rows), 3))]),
        )

    def thinned(self, count: int, *, seed: int = 0) -> PartObservation:
        """Return at most `count` of the rows, drawn at random; a half of them are surface points if there are so many.

        >>> part = surface_part(np.eye(3), noise_std=0.1)
        >>> len(part.thinned(2).points)
        2
        """
        if len(self.points) <= count:
            return self
        random = np.random.default_rng(seed)
        surface, others = np.flatnonzero(self.is_surface), np.flatnonzero(~self.is_surface)
        num_surface = min(len(surface), max(count // 2, count - len(others)))
        rows = np.concatenate(
            [random.permutation(surface)[:num_surface], random.permutation(others)[: count - num_surface]]
        )
        arrays = ("points", "lower", "upper", "noise_std", "is_surface", "normals")
        return dataclasses.replace(self, **{name: getattr(self, name)[np.sort(rows)] for name in arrays})


def extent_of(points: FloatArray) -> float:
    """Return the diagonal of the box around the middle 96 % of `points` (N, 3) along each axis.

    >>> round(extent_of(np.array([[0.0, 0, 0], [3.0, 4.0, 0]])), 1)
    4.8
    """
    low, high = np.quantile(points, [0.02, 0.98], axis=0)
    return max(float(np.linalg.norm(high - low)), 1e-12 + 1e-9 * float(np.abs(points).max()))


def surface_part(
    points: FloatArray,
    *,
    normals: FloatArray | None = None,
    sensor: Sequence[float] | FloatArray | None = None,
    noise_std: float | FloatArray | None = None,
    source: str | Path = "",
    content_hash: str = "",
    notes: Sequence[str] = (),
) -> PartObservation:
    """Return what surface points say, with what their normals and the rays from the scanner add.

    Parameters
    ----------
    points : (N, 3), world units
    normals : (N, 3), optional
        Outward. Rows of zeros are unknown.
    sensor : (3,) or (N, 3), optional
        Where the scanner stood, for all points or for each: the space between it and a point is empty.
    noise_std : float, optional
        World units; None estimates it from the distances of the points to planes through their neighbours.

    >>> part = surface_part(np.array([[0.0, 0, 1.0]]), normals=np.array([[0.0, 0, 1.0]]), sensor=[0, 0, 5.0],
    ...                     noise_std=0.01)
    >>> int(part.is_surface.sum()), bool((part.lower[~part.is_surface] >= -0.1).all())
    (1, True)
    """
    points = np.asarray(points, dtype=np.float64)
    extent = extent_of(points)
    if noise_std is None:
        noise_std = estimate_noise(points)
        notes = (*notes, f"noise estimated: {noise_std:.3g}")
    noise = np.broadcast_to(np.asarray(noise_std, dtype=np.float64), (len(points),))
    known = np.zeros_like(points) if normals is None else _unit(np.asarray(normals, dtype=np.float64))
    rows = [(points, np.zeros(len(points)), np.zeros(len(points)), noise)]
    has_normal = np.flatnonzero(np.linalg.norm(known, axis=1) > 0.5)
    for sign in (-1.0, 1.0):
        step = sign * _NORMAL_STEP * extent
        beside = points[has_normal] + step * known[has_normal]
        value = np.full(len(beside), step)
        rows.append((beside, value, value, np.hypot(noise[has_normal], 0.5 * abs(step))))
    if sensor is not None:
        rows += _free_rows(points, np.broadcast_to(np.asarray(sensor, dtype=np.float64), points.shape), extent, noise)
    places, lower, upper, stds = (np.concatenate(column) for column in zip(*rows, strict=True))
    return PartObservation(
        places,
        lower,
        upper,
        stds,
        np.arange(len(places)) < len(points),
        np.concatenate([known, np.zeros((len(places) - len(points), 3))]),
        source=str(source),
        content_hash=content_hash,
        notes=tuple(notes),
    )


def _free_rows(
    points: FloatArray, sensors: FloatArray, extent: float, noise: FloatArray
) -> list[tuple[FloatArray, FloatArray, FloatArray, FloatArray]]:
    """Return rows of empty points on the rays: outside, and no farther from the surface than the end of the ray."""
    ways = sensors - points
    lengths = np.linalg.norm(ways, axis=1)
    reach = np.minimum(lengths, _FREE_REACH * extent)
    directions = ways / np.maximum(lengths, 1e-12)[:, None]
    rows = []
    for index, share in enumerate(_RAY_SHARES):
        every = slice(index, None, len(_RAY_SHARES))  # Each ray gives one empty point: the next one tells little more.
        before = (1 - share) * reach[every]
        free = points[every] + before[:, None] * directions[every]
        rows.append((free, np.zeros(len(free)), before, noise[every].copy()))
    return rows


def estimate_noise(points: FloatArray, *, num_points: int = 2000) -> float:
    """Return the standard deviation of surface points (N, 3) about the surface, from planes through neighbours.

    Half of the distances are used, so that fewer than half may be outliers. The curvature of the surface adds to the
    estimate; a smooth surface that is sampled densely adds little.

    >>> random = np.random.default_rng(0)
    >>> flat = np.column_stack([random.uniform(0, 1, (2000, 2)), random.normal(0, 0.01, 2000)])
    >>> 0.007 < estimate_noise(flat) < 0.012
    True
    """
    least = _LEAST_NOISE * extent_of(points)
    if len(points) <= _NEIGHBORS:
        return max(least, 0.005 * extent_of(points))
    chosen = np.random.default_rng(0).permutation(len(points))[:num_points]
    _, near = cKDTree(points).query(points[chosen], k=_NEIGHBORS)
    around = points[near] - points[near].mean(axis=1, keepdims=True)
    smallest = np.linalg.svd(around, compute_uv=False)[:, -1]
    deviation = smallest / np.sqrt(_NEIGHBORS - 3)  # A plane takes three degrees of freedom.
    return max(least, float(np.median(deviation)))


def _unit(vectors: FloatArray) -> FloatArray:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    good = np.isfinite(lengths) & (lengths > 1e-12)
    return np.where(good, vectors / np.where(good, lengths, 1.0), 0.0)
