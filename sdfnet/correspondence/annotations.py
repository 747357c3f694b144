"""Read what `transfer` carries: labels and colours of a mesh, and landmarks.

| kind | files |
|---|---|
| labels | `.parts.json`: ranges of faces by label. `.csv`: a column `label`, one row for each vertex or face |
| colours | `.ply`, `.glb`, `.gltf`: a mesh with vertex colours, in the place and units of the source |
| landmarks | `.csv`: columns name, x, y, z. `.mrk.json`: the control points of 3D Slicer |
"""

from __future__ import annotations

import csv
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdfnet.geometry.arrays import FloatArray, IntArray
from sdfnet.mesh.io.read import read_colors, read_file
from sdfnet.mesh.mesh import Mesh

_UNLABELLED = "none"
"""The label of faces that a .parts.json file does not name."""


@dataclass(frozen=True, eq=False)
class Labels:
    """A label for each face or each vertex of a mesh.

    Attributes
    ----------
    mesh : Mesh
        The labelled mesh, world frame of its shape.
    names : tuple of str
    numbers : (F,) or (V,) int64
        The number of each face's or vertex's label in `names`.
    of_faces : bool
        Whether faces are labelled, or vertices.

    >>> mesh = Mesh([[0, 0, 0], [1, 0, 0], [0, 1, 0]], [[0, 1, 2]])
    >>> Labels(mesh, ("seat",), np.array([0]), of_faces=True).names
    ('seat',)
    """

    mesh: Mesh
    names: tuple[str, ...]
    numbers: IntArray
    of_faces: bool


@dataclass(frozen=True, eq=False)
class Colors:
    """A mesh, world frame of its shape, and the colours (V, 3) uint8 of its vertices.

    >>> mesh = Mesh([[0, 0, 0], [1, 0, 0], [0, 1, 0]], [[0, 1, 2]])
    >>> Colors(mesh, np.zeros((3, 3), dtype=np.uint8)).colors.shape
    (3, 3)
    """

    mesh: Mesh
    colors: NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Landmarks:
    """Named points (N, 3), world frame of their shape.

    >>> Landmarks(("nose",), np.array([[0.0, 1.6, 0.1]])).names
    ('nose',)
    """

    names: tuple[str, ...]
    points: FloatArray


def load_labels(path: str | Path, mesh: Mesh) -> Labels:
    """Read labels of the faces or vertices of `mesh`, which is the source mesh as `read_mesh` returns it.

    Raises
    ------
    ValueError
        The file cannot be read, or does not fit the mesh.

    >>> from sdfnet.mesh.io.read import read_mesh
    >>> mesh = read_mesh("chairs/chair_00.obj")
    >>> _ = Path("parts.json").write_text('{"seat": [0, 100], "legs": [100, 400]}')
    >>> load_labels("parts.json", mesh).names
    ('none', 'seat', 'legs')
    """
    path = Path(path)
    if path.suffix.lower() == ".json":
        return _labels_of_ranges(path, mesh)
    rows = _read_table(path, ("label",))
    numbers_of = (len(mesh.vertices), len(mesh.faces))
    if len(rows) not in numbers_of:
        raise ValueError(
            f"{path} has {len(rows)} labels, but the source mesh has {numbers_of[0]} vertices and {numbers_of[1]} faces"
        )
    names = tuple(dict.fromkeys(row["label"] for row in rows))
    numbers = np.array([names.index(row["label"]) for row in rows], dtype=np.int64)
    return Labels(mesh, names, numbers, of_faces=len(rows) != len(mesh.vertices))


def _labels_of_ranges(path: Path, mesh: Mesh) -> Labels:
    """Read `{label: [first face, one after the last]}`."""
    parts = _read_json(path)
    numbers = np.zeros(len(mesh.faces), dtype=np.int64)
    try:
        for number, (first, last) in enumerate(parts.values(), 1):
            if not 0 <= first <= last <= len(mesh.faces):
                raise ValueError(f"faces {first} to {last} are not among the {len(mesh.faces)} of the source mesh")
            numbers[first:last] = number
    except (AttributeError, TypeError, ValueError) as error:
        raise ValueError(f"{path} must hold ranges of faces by label, as {{label: [first, last]}}: {error}") from error
    return Labels(mesh, (_UNLABELLED, *parts), numbers, of_faces=True)


def load_colors(path: str | Path) -> Colors:
    """Read a mesh with vertex colours from a PLY, GLB or glTF file.

    Raises
    ------
    ValueError
        The file cannot be read, has another suffix, or has no vertex colours.

    >>> load_colors("chairs/chair_00.obj")
    Traceback (most recent call last):
    ...
    ValueError: colors=chairs/chair_00.obj must be a .ply, .glb or .gltf file with vertex colours
    """
    path = Path(path)
    if path.suffix.lower() not in (".ply", ".glb", ".gltf"):
        raise ValueError(f"colors={path} must be a .ply, .glb or .gltf file with vertex colours")
    mesh, colors = read_colors(path)
    if colors is None:
        raise ValueError(f"{path} has no vertex colours; paint its vertices and export them")
    return Colors(mesh, np.rint(255 * colors).astype(np.uint8))


def load_landmarks(path: str | Path) -> Landmarks:
    """Read named points from a CSV file (name, x, y, z), or from a markups file of 3D Slicer (`.mrk.json`).

    The coordinates are taken as they stand: export them in the coordinate system of the mesh (LPS or RAS).

    Raises
    ------
    ValueError
        The file cannot be read, or holds no landmark.

    >>> Path("points.csv").write_text("name,x,y,z\\nseat,0,0.45,0\\n")
    25
    >>> load_landmarks("points.csv").points.tolist()
    [[0.0, 0.45, 0.0]]
    """
    path = Path(path)
    try:
        if path.suffix.lower() == ".json":
            found = [
                (str(point.get("label") or number), [float(value) for value in point["position"]])
                for markup in _read_json(path)["markups"]
                for number, point in enumerate(markup["controlPoints"], 1)
                if point.get("positionStatus", "defined") == "defined"
            ]
        else:
            rows = _read_table(path, ("name", "x", "y", "z"))
            found = [(row["name"], [float(row[axis]) for axis in "xyz"]) for row in rows]
        points = np.array([place for _, place in found], dtype=np.float64).reshape(-1, 3)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"cannot read the landmarks of {path}: {error}") from error
    if not len(points) or not np.isfinite(points).all():
        raise ValueError(f"{path} must hold at least one landmark, each of three finite numbers")
    return Landmarks(tuple(name for name, _ in found), points)


def _read_json(path: Path) -> Any:
    data = read_file(path)
    try:
        return json.loads(data)
    except ValueError as error:
        raise ValueError(f"{path} is not JSON ({error})") from error


def _read_table(path: Path, columns: tuple[str, ...]) -> list[dict[str, str]]:
    """Return the rows of a CSV file that has at least `columns`."""
    reader = csv.DictReader(io.StringIO(read_file(path).decode("utf-8-sig", errors="replace")))
    missing = [column for column in columns if column not in (reader.fieldnames or ())]
    if missing:
        raise ValueError(f"{path} must have the columns {', '.join(columns)}; {', '.join(missing)} is missing")
    return list(reader)
