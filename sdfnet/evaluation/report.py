"""The report of a run: every learned shape measured against its source mesh, in the unit frame.

A shape whose source is gone or whose field is empty is reported and never stops the others. `tables` turns a report
into text and files.
"""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from joblib import Parallel, delayed
from tqdm import tqdm

from sdfnet.evaluation.matching import Surface
from sdfnet.evaluation.quality import EvaluationConfig, ShapeQuality, evaluate_shape
from sdfnet.fields import MeshField, Shell
from sdfnet.geometry.loading import SourceShape, load_shape
from sdfnet.geometry.reading import find_meshes
from sdfnet.geometry.similarity import Similarity
from sdfnet.runs import Run, select_shapes
from sdfnet.surfacing.extract import extract_mesh

_LOGGER = logging.getLogger(__name__)

_SHEET_RESOLUTION = 192
"""A sheet has no mesh of its own to measure against; its wall is meshed this finely."""


@dataclass(frozen=True)
class ShapeReport:
    """One line of a report.

    Attributes
    ----------
    name : str
    source : str
        The mesh file that it was measured against; empty if none was found.
    quality : ShapeQuality or None
        None if the shape could not be measured.
    error : str
        Why not; empty if it could.
    notes : tuple of str
        What a reader must know to judge the numbers (an open source, a source that changed since training).
    radius_world : float or None
        Radius of the source's bounding sphere in its own units: 1 % of distance is a hundredth of it.
    seconds : float
    """

    name: str
    source: str
    quality: ShapeQuality | None
    error: str = ""
    notes: tuple[str, ...] = ()
    radius_world: float | None = None
    seconds: float = 0.0


@dataclass(frozen=True)
class RunReport:
    """What `evaluate_run` measured.

    Attributes
    ----------
    run : str
        Its directory.
    step : int
        Training steps behind it.
    config : EvaluationConfig
    shapes : tuple of ShapeReport
        In the order of the run; measured and failed.
    """

    run: str
    step: int
    config: EvaluationConfig
    shapes: tuple[ShapeReport, ...]

    @property
    def measured(self) -> tuple[ShapeReport, ...]:
        return tuple(shape for shape in self.shapes if shape.quality is not None)

    @property
    def failed(self) -> tuple[ShapeReport, ...]:
        return tuple(shape for shape in self.shapes if shape.quality is None)

    @property
    def mean_distance(self) -> float:
        """Mean surface distance over the measured shapes, percent of each one's radius; NaN if there are none."""
        means = [shape.quality.result.distance.mean for shape in self.measured if shape.quality is not None]
        return float(np.mean(means)) if means else float("nan")

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON document."""
        return dataclasses.asdict(self)


def evaluate_run(
    run: Run,
    meshes: str | Path | None = None,
    *,
    shapes: str | Sequence[str] = "all",
    config: EvaluationConfig | None = None,
    num_workers: int = 1,
    progress: bool = False,
) -> RunReport:
    """Measure the learned shapes of `run` against their source meshes.

    Parameters
    ----------
    meshes : path, optional
        The folder that holds the sources, if it has moved since training; a source is found in it by its shape's name.
    shapes : "all", names or globs
    num_workers : int
        Shapes measured at a time, in threads.

    Raises
    ------
    ValueError
        An unknown shape; a folder that is not there. What is wrong with a single shape goes into its line instead.
    """
    config = config or EvaluationConfig()
    names = select_shapes(run.names, shapes)
    sources = {name: Path(run.shape(name).source) for name in names}
    if meshes is not None:
        found = find_meshes(meshes)
        sources = {name: found.get(name, Path(meshes) / name) for name in names}
    jobs = (delayed(_report_shape)(run, name, sources[name], config) for name in names)
    finished = Parallel(n_jobs=num_workers, prefer="threads", return_as="generator")(jobs)
    reports = list(tqdm(finished, total=len(names), desc="evaluate", unit="shape", disable=not progress))
    return RunReport(str(run.directory), run.step, config, tuple(reports))


def _report_shape(run: Run, name: str, path: Path, config: EvaluationConfig) -> ShapeReport:
    """Measure one shape; anything that is wrong with it or its source becomes its error."""
    started = time.perf_counter()
    try:
        report = _measure(run, name, path, config)
    except (ValueError, OSError) as error:
        _LOGGER.warning("%s could not be measured: %s", name, error)
        report = ShapeReport(name, str(path), None, error=str(error) or type(error).__name__)
    return dataclasses.replace(report, seconds=round(time.perf_counter() - started, 3))


def _measure(run: Run, name: str, path: Path, config: EvaluationConfig) -> ShapeReport:
    shape = run.shape(name)
    if not path.is_file():
        raise ValueError(f"its source {path} is not there. Give the folder of the meshes with meshes=DIR")
    source = load_shape(path, name=name, thickness=shape.thickness)
    notes = []
    if shape.content_hash not in ("", source.content_hash):
        notes.append("the source has changed since training")
    if source.thickness is not None:
        notes.append(f"a sheet: measured against all within {source.thickness:g} of it, meshed at {_SHEET_RESOLUTION}")
    elif not source.closed:
        notes.append("an open source: what closes its holes is left out of the result (cap)")
    surface = source_surface(source, shape.similarity)
    quality = evaluate_shape(
        run.field(name),
        surface,
        config=config,
        name=name,
        num_surfaces=shape.num_surfaces,
        device=run.latents.device,
    )
    return ShapeReport(name, str(path), quality, "", tuple(notes), surface.radius / shape.similarity.scale)


def source_surface(source: SourceShape, similarity: Similarity) -> Surface:
    """Return the surface to measure against, unit frame; that of a sheet is the boundary of its thickness."""
    mesh = source.mesh.to_unit(similarity)
    if source.thickness is None:
        return Surface.of(mesh, is_closed=source.closed)
    wall = Shell(MeshField(mesh, closed=source.closed), 2 * source.thickness * similarity.scale)
    return Surface.of(extract_mesh(wall, resolution=_SHEET_RESOLUTION, project_steps=2, vertex_normals=False))
