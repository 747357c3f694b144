"""Points of a surface, with or without normals and the scanner's position: PLY, XYZ, TXT, CSV, NPY and NPZ."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from sdfnet.fitting.config import ObserveConfig
from sdfnet.fitting.observations.base import ObservationKind, hash_file
from sdfnet.fitting.observations.part import PartObservation, surface_part
from sdfnet.geometry.arrays import FloatArray
from sdfnet.mesh.io.ply import read_ply_vertices
from sdfnet.mesh.io.read import read_file
from sdfnet.volumes.label_volume import load_array

_LEAST_POINTS = 10
_MOST_POINTS = 200_000
"""More points than this say nothing more, and are thinned at random."""


def read_points(path: Path, config: ObserveConfig) -> PartObservation:
    """Read a file of points: columns x, y, z, or x, y, z, nx, ny, nz. A PLY or NPZ file names its columns.

    An NPZ file has `points` (N, 3), and may have `normals` (N, 3) and `sensor` (3,) or (N, 3). Points that are NaN or
    infinite are left out, and the notes say how many.

    Raises
    ------
    ValueError
        A file that cannot be read, with other columns, or with fewer than ten points; the message names the cure.
    """
    points, normals, sensor = _load(path)
    if config.sensor is not None:
        sensor = np.asarray(config.sensor, dtype=np.float64)
    good = np.isfinite(points).all(axis=1)
    notes = [] if good.all() else [f"{int((~good).sum())} of {len(points)} points are NaN or infinite, left out"]
    if int(good.sum()) < _LEAST_POINTS:
        raise ValueError(f"{path}: {int(good.sum())} usable points; at least {_LEAST_POINTS} are needed")
    chosen = np.flatnonzero(good)
    if len(chosen) > _MOST_POINTS:
        notes.append(f"{_MOST_POINTS:,} of {len(chosen):,} points used, drawn at random")
        chosen = np.sort(np.random.default_rng(0).permutation(chosen)[:_MOST_POINTS])
    if sensor is not None and sensor.ndim == 2:
        sensor = sensor[chosen]
    return surface_part(
        points[chosen],
        normals=None if normals is None else normals[chosen],
        sensor=sensor,
        noise_std=config.noise_std,
        source=path.resolve(),
        content_hash=hash_file(path, config),
        notes=notes,
    )


def _load(path: Path) -> tuple[FloatArray, FloatArray | None, FloatArray | None]:
    """Return points, normals or None, and the positions of the scanner or None."""
    suffix = path.suffix.lower()
    if suffix == ".ply":
        return _from_ply(path)
    if suffix == ".npz":
        return _from_npz(path)
    table = load_array(path) if suffix == ".npy" else load_table(path)
    if table.ndim != 2 or table.shape[1] not in (3, 6) or table.dtype.kind not in "fiu":
        hint = " Transpose it?" if table.ndim == 2 and table.shape[0] in (3, 6) else ""
        raise ValueError(f"{path}: points need 3 columns x, y, z or 6 with normals, got {table.shape}.{hint}")
    table = table.astype(np.float64)
    return table[:, :3], (table[:, 3:] if table.shape[1] == 6 else None), None


def load_table(path: Path) -> FloatArray:
    """Read a table of numbers: separated by blanks, commas or semicolons; a first line of words is skipped.

    >>> _ = Path("table.csv").write_text("x,y,z\\n1,2,3\\n")
    >>> load_table(Path("table.csv")).tolist()
    [[1.0, 2.0, 3.0]]
    """
    text = read_file(path).decode("utf-8", "replace").replace(",", " ").replace(";", " ")
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    if not lines:
        raise ValueError(f"{path}: the file is empty; export it again")
    if not _is_numbers(lines[0]):
        lines = lines[1:]
    widths = {len(line.split()) for line in lines}
    bad = next((line for line in lines if not _is_numbers(line)), None)
    if bad is not None or len(widths) != 1:
        what = f"it has a line {bad[:40]!r}" if bad is not None else f"its lines have {sorted(widths)} numbers"
        raise ValueError(f"{path}: {what}; give lines of equally many numbers")
    return np.array([line.split() for line in lines], dtype=np.float64)


def _is_numbers(line: str) -> bool:
    try:
        return bool([float(word) for word in line.split()])
    except ValueError:
        return False


def _from_ply(path: Path) -> tuple[FloatArray, FloatArray | None, None]:
    try:
        columns = read_ply_vertices(read_file(path))
    except ValueError as error:
        raise ValueError(f"{path}: damaged, or not PLY ({error}); export it again") from error
    points = np.stack([columns[axis] for axis in "xyz"], axis=1).astype(np.float64)
    named = [name for name in ("nx", "ny", "nz") if name in columns]
    normals = np.stack([columns[name] for name in named], axis=1).astype(np.float64) if len(named) == 3 else None
    return points, normals, None


def _from_npz(path: Path) -> tuple[FloatArray, FloatArray | None, FloatArray | None]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: np.asarray(archive[name]) for name in archive.files}
    except (ValueError, OSError, EOFError) as error:
        raise ValueError(f"{path}: damaged, or not a plain .npz file ({error}); save it again") from error
    points = arrays.get("points")
    if points is None or points.ndim != 2 or points.shape[1] != 3:
        found = ", ".join(f"{name} {array.shape}" for name, array in arrays.items()) or "nothing"
        raise ValueError(f"{path}: it needs `points` of shape (N, 3), got {found}")
    normals, sensor = arrays.get("normals"), arrays.get("sensor")
    if normals is not None and normals.shape != points.shape:
        raise ValueError(f"{path}: normals must have the shape of points {points.shape}, got {normals.shape}")
    if sensor is not None and sensor.shape not in ((3,), points.shape):
        raise ValueError(f"{path}: sensor must have shape (3,) or {points.shape}, got {sensor.shape}")
    return points.astype(np.float64), normals, None if sensor is None else sensor.astype(np.float64)


POINTS = ObservationKind(suffixes=(".ply", ".xyz", ".txt", ".csv", ".npy", ".npz"), read_part=read_points)
