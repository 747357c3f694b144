"""Closed curves in planes, as CSV: curve, x, y, z in each line, in the order along each curve.

The curves of one plane bound the solid together: a curve inside another one is a hole. Points of the curves lie on the
surface; other places of the planes are inside or outside by the number of curves around them.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy.spatial import cKDTree

from sdfnet.fitting.config import ObserveConfig
from sdfnet.fitting.observations.base import ObservationKind, hash_file
from sdfnet.fitting.observations.part import PartObservation, estimate_noise, extent_of
from sdfnet.fitting.observations.points import load_table
from sdfnet.geometry.arrays import BoolArray, FloatArray

_FLAT = 0.01
"""A curve may leave its plane by this share of its extent."""

_RESOLUTION = 48
"""Samples along the longer side of each plane, inside and outside of its curves."""


def read_contours(path: Path, config: ObserveConfig) -> PartObservation:
    """Read the curves of a CSV file.

    Raises
    ------
    ValueError
        Other columns, a curve with fewer than three points, or one that does not lie in a plane.
    """
    table = load_table(path)
    if table.shape[1] != 4:
        raise ValueError(f"{path}: contours need 4 columns, curve, x, y, z, got {table.shape[1]}")
    if not np.isfinite(table).all():
        raise ValueError(f"{path}: {int((~np.isfinite(table)).sum())} numbers are NaN or infinite; remove them")
    curves = [table[table[:, 0] == name, 1:] for name in dict.fromkeys(table[:, 0].tolist())]
    try:
        part = contour_part(curves, noise_std=config.noise_std)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return part.described(source=str(path.resolve()), content_hash=hash_file(path, config))


def contour_part(curves: list[FloatArray], *, noise_std: float | None = None) -> PartObservation:
    """Return what closed curves (M, 3) in planes say about a solid, world units.

    >>> angle = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    >>> circle = np.stack([np.cos(angle), np.sin(angle), np.zeros(40)], axis=1)
    >>> part = contour_part([circle], noise_std=0.01)
    >>> middle = np.linalg.norm(part.points, axis=1).argmin()
    >>> part.lower[middle].round(1).tolist(), part.upper[middle].tolist()
    (-1.0, 0.0)
    """
    dense, planes = [], []
    for number, curve in enumerate(curves):
        if len(curve) < 3:
            raise ValueError(f"curve {number} has {len(curve)} points; a closed curve needs at least 3")
        normal, offset, bend = _plane_of(curve)
        if bend > _FLAT * extent_of(curve):
            raise ValueError(f"curve {number} leaves its plane by {bend:.3g}; give curves that are flat")
        planes.append((normal, offset))
        dense.append(_resampled(curve))
    everything = np.concatenate(dense)
    noise = estimate_noise(everything) if noise_std is None else noise_std
    noise = max(noise, 1e-3 * extent_of(everything)) if noise_std is None else noise
    rows = [(everything, np.zeros(len(everything)), np.zeros(len(everything)))]
    for group in _same_planes(planes, tolerance=_FLAT * extent_of(everything)):
        rows.append(_plane_rows([dense[index] for index in group], planes[group[0]][0]))
    points, lower, upper = (np.concatenate(column) for column in zip(*rows, strict=True))
    num = len(points)
    return PartObservation(
        points, lower, upper, np.full(num, noise), np.arange(num) < len(everything), np.zeros((num, 3)), True
    )


def _plane_of(curve: FloatArray) -> tuple[FloatArray, float, float]:
    """Return the unit normal and the offset of the plane of a curve, and how far the curve leaves it."""
    middle = curve.mean(axis=0)
    normal = np.linalg.svd(curve - middle)[2][2]
    normal = normal * (1.0 if normal[np.abs(normal).argmax()] > 0 else -1.0)
    return normal, float(middle @ normal), float(np.abs((curve - middle) @ normal).max())


def _resampled(curve: FloatArray, num: int = 200) -> FloatArray:
    """Return points at even distances along a closed curve, at least as many as it has."""
    closed = np.concatenate([curve, curve[:1]])
    along = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(closed, axis=0), axis=1))])
    where = np.linspace(0, along[-1], max(num, len(curve)), endpoint=False)
    return np.stack([np.interp(where, along, axis) for axis in closed.T], axis=1)


def _same_planes(planes: list[tuple[FloatArray, float]], *, tolerance: float) -> list[list[int]]:
    groups: list[list[int]] = []
    for index, (normal, offset) in enumerate(planes):
        for group in groups:
            other, other_offset = planes[group[0]]
            if abs(float(normal @ other)) > 1 - 1e-4 and abs(offset - other_offset) < tolerance:
                group.append(index)
                break
        else:
            groups.append([index])
    return groups


def _plane_rows(curves: list[FloatArray], normal: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return points of a plane with the bounds that its curves put on the distance."""
    from matplotlib.path import Path as Polygon

    axes = np.linalg.svd(normal[None])[2][1:]
    joined = np.concatenate(curves)
    origin = joined.mean(axis=0)
    flat = [(curve - origin) @ axes.T for curve in curves]
    low, high = np.concatenate(flat).min(axis=0), np.concatenate(flat).max(axis=0)
    margin, step = 0.3 * (high - low).max(), (high - low).max() * 1.6 / _RESOLUTION
    grids = np.meshgrid(*(np.arange(a - margin, b + margin, step) for a, b in zip(low, high, strict=True)))
    places = np.stack([grid.ravel() for grid in grids], axis=1)
    inside: BoolArray = np.zeros(len(places), dtype=bool)
    for curve in flat:
        inside ^= Polygon(curve).contains_points(places)
    distance, _ = cKDTree(np.concatenate(flat)).query(places)
    return places @ axes + origin, np.where(inside, -distance, 0.0), np.where(inside, 0.0, distance)


CONTOURS = ObservationKind(suffixes=(".csv",), read_part=read_contours)
