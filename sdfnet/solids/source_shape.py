"""Shapes to learn from: mesh files that are read, repaired, checked and identified by a hash of their content."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from sdfnet.geometry.bounds import Bounds
from sdfnet.geometry.similarity import UNIT_RADIUS, Similarity
from sdfnet.mesh.io.formats import find_format
from sdfnet.mesh.io.read import MeshError, read_file
from sdfnet.mesh.mesh import Mesh
from sdfnet.solids.report import MeshReport, inspect_mesh

Normalize = Literal["each", "shared"]
"""Each shape's own similarity to the unit frame, or one for the whole folder."""


class MeshRefused(MeshError):
    """A mesh file that was checked and refused.

    Attributes
    ----------
    report : MeshReport
        With the reason.

    >>> issubclass(MeshRefused, ValueError)
    True
    """

    def __init__(self, path: str | Path, report: MeshReport) -> None:
        super().__init__(path, report.reason or "")
        self.report = report

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.args[0], self.report)


@dataclass(frozen=True, eq=False)
class SourceShape:
    """A shape to learn from.

    Attributes
    ----------
    name : str
    path : Path
    mesh : Mesh
        The repaired solid, world frame, float64.
    closed : bool
        Its signed distance is exact; an open mesh's sign jumps across its holes.
    thickness : float or None
        Not None for a sheet: the solid is all within this distance (world units) of `mesh`.
    report : MeshReport
    content_hash : str
        See `hash_content`.

    >>> load_shape("chairs/chair_02.obj").report.notes
    ()
    """

    name: str
    path: Path
    mesh: Mesh
    closed: bool
    thickness: float | None
    report: MeshReport
    content_hash: str


def load_shape(path: str | Path, *, name: str | None = None, thickness: float | None = None) -> SourceShape:
    """Read, check and repair a mesh file.

    Parameters
    ----------
    name
        The file's name without suffix by default.
    thickness
        For sheets, world units: see `make_solid`.

    Raises
    ------
    MeshRefused
        It cannot be used; its `report` says why, as its message does.

    >>> load_shape("chairs/chair_00.obj").closed
    True
    """
    path = Path(path)
    report, solid = inspect_mesh(path, name=name, thickness=thickness)
    if solid is None:
        raise MeshRefused(path, report)
    digest = hash_content(path, thickness=thickness)
    return SourceShape(report.name, path, solid.mesh, solid.closed, solid.thickness, report, digest)


def hash_content(path: str | Path, *, thickness: float | None = None) -> str:
    """Return a SHA-256 in hex that changes when the shape of a mesh file may: of its bytes, the files that it takes
    its vertices from (glTF), and `thickness`.

    Without those it is what `sha256sum` prints.

    Raises
    ------
    MeshError
        The file cannot be read.

    >>> hash_content("chairs/chair_00.obj") == hash_content("chairs/chair_01.obj")
    False
    """
    path = Path(path)
    data = read_file(path)
    digest = hashlib.sha256(data)
    found = find_format(path)
    with contextlib.suppress(Exception):  # of a damaged file the bytes alone count
        for companion in [] if found is None else found.companion_files(data, folder=path.parent):
            if companion.is_file():
                digest.update(companion.read_bytes())
    if thickness is not None:
        digest.update(f"thickness={thickness!r}".encode())
    return digest.hexdigest()


def folder_similarities(shapes: Sequence[SourceShape], *, normalize: Normalize = "each") -> list[Similarity]:
    """Return the map to the unit frame of each shape.

    "each" centres every bounding box and brings its farthest vertex to the unit radius. "shared" does this once for all
    together, so that relative size and position stay. A sheet's thickness counts as part of it.

    Raises
    ------
    ValueError
        Another `normalize`; no shapes.

    >>> similarity = folder_similarities([load_shape("chairs/chair_00.obj")])[0]
    >>> round(1 / similarity.scale)  # centimetres in a unit length
    55
    """
    if normalize not in get_args(Normalize):
        raise ValueError(f"normalize must be one of {', '.join(get_args(Normalize))}, got {normalize!r}")
    if not shapes:
        raise ValueError("there are no shapes to normalise")
    if normalize == "each":
        return [_normalizing([shape]) for shape in shapes]
    return [_normalizing(shapes)] * len(shapes)


def _normalizing(shapes: Sequence[SourceShape]) -> Similarity:
    """Return the map that centres the box of all `shapes` and brings the farthest point to the unit radius."""
    boxes = [shape.mesh.bounds.grown(shape.thickness or 0.0) for shape in shapes]
    center = Bounds.of(np.stack([corner for box in boxes for corner in (box.lower, box.upper)])).center
    reaches = [
        float(np.linalg.norm(shape.mesh.vertices - center, axis=1).max()) + (shape.thickness or 0.0) for shape in shapes
    ]
    return Similarity(center, UNIT_RADIUS / max(reaches))
