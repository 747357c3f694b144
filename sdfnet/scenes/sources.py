"""Fields of a scene that come from files: meshes and learned shapes. A file is read once while it does not change."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Literal

from sdfnet.fields import Field, MeshField, NeuralField, Transformed
from sdfnet.mesh.io.read import read_mesh
from sdfnet.runs import Run, load_run
from sdfnet.runs.document import MODEL_FILE
from sdfnet.runs.mixes import add_mixes
from sdfnet.solids.rule import SolidRule
from sdfnet.solids.solid import make_solid

_KEPT = 64


def mesh_file_field(file: Path, *, thickness: float | None = None) -> Field:
    """Return a mesh file as a field, in the units of the file.

    The mesh is repaired as for a training; parts that enclose nothing become walls of `thickness` (see `SolidRule`).

    >>> mesh_file_field(Path("chairs/chair_00.obj")).accuracy
    'exact'
    """
    if not file.is_file():
        raise ValueError(f"there is no file {file}")
    return _mesh_field(file.resolve(), file.stat().st_mtime_ns, thickness)


def learned_field(
    run: Path, shape: str | None = None, *, frame: Literal["world", "unit"] = "world", device: str = "cpu"
) -> Field:
    """Return a learned shape of a run directory, or a mix such as "0.5*a + 0.5*b".

    In the world frame, the shape has the size and the place of its source.

    >>> learned_field(Path("runs/chairs"), "chair_00").accuracy
    'approximate'
    """
    loaded, name = _learned(run, shape, device)
    return _learned_field(loaded, name, frame)


def _learned(run: Path, shape: str | None, device: str) -> tuple[Run, str]:
    weights = run / MODEL_FILE
    loaded = _run(run.resolve(), weights.stat().st_mtime_ns if weights.is_file() else 0, device)
    if shape is None:
        raise ValueError(f"shape must be given; {run} has {', '.join(loaded.names[:8])}")
    mixed, names = add_mixes(loaded, [shape])
    if len(names) != 1:
        raise ValueError(f"shape must be one shape, but {shape!r} are {len(names)}")
    return mixed, names[0]


def _learned_field(run: Run, name: str, frame: str) -> Field:
    field = NeuralField(run.decoder, run.latent(name))
    if frame == "unit":
        return field
    similarity = run.similarity(name)
    return Transformed(field, scale=1 / similarity.scale, translation=similarity.center)


@lru_cache(maxsize=_KEPT)
def _mesh_field(file: Path, changed: int, thickness: float | None) -> Field:
    solid = make_solid(read_mesh(file), rule=SolidRule(thickness=thickness))
    return MeshField(solid.mesh, closed=solid.closed)


@lru_cache(maxsize=_KEPT)
def _run(run: Path, changed: int, device: str) -> Run:
    return load_run(run, device=device)
