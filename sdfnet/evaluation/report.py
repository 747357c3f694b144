"""The report of a run: every learned shape measured against its source mesh, in the unit frame.

Two folders of meshes are compared in the same way, without a run. If the source of a shape is gone or its field is
empty, the report says so, and the other shapes are measured. A report becomes text for a terminal, and text, CSV and
JSON files.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import logging
import textwrap
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from joblib import Parallel, delayed
from tqdm import tqdm

from sdfnet.evaluation.closest_points import Surface, bounding_radius
from sdfnet.evaluation.extraction_error import extract_exact
from sdfnet.evaluation.quality import EvaluationConfig, Quality, ShapeQuality, compare_meshes, result_mesh
from sdfnet.files import write_atomic, write_json
from sdfnet.geometry.similarity import Similarity
from sdfnet.mesh.io.ply import format_ply
from sdfnet.mesh.io.read import read_mesh
from sdfnet.mesh.io.write import write_file
from sdfnet.mesh.mesh import Mesh
from sdfnet.runs import Run, select_shapes
from sdfnet.solids.source_shape import SourceShape, find_sources, load_shape
from sdfnet.volumes.label_volume import is_volume

_LOGGER = logging.getLogger(__name__)

_SOURCES_TOLD = 2
"""Shapes that an error about missing sources names."""

_SHEET_RESOLUTION = 192
"""Samples per axis for the wall of a thin sheet, which is meshed to measure against it."""


@dataclass(frozen=True)
class ShapeReport:
    """One line of a report.

    Attributes
    ----------
    source : str
        The mesh file that it was measured against; empty if none was found.
    quality : ShapeQuality or None
        None if the shape could not be measured; `error` says why.
    notes : tuple of str
        What a reader must know to judge the numbers (an open source, a source that changed since training).
    radius_world : float or None
        Radius of the source's bounding sphere in its own units: 1 % of distance is a hundredth of it.
    volumes, areas : pairs of float, or None
        Of the result and of the source, world units. An open source has no volume: it is None.

    >>> ShapeReport("chair_00", source="", quality=None, error="its source is missing").error
    'its source is missing'
    """

    name: str
    source: str
    quality: ShapeQuality | None
    error: str = ""
    notes: tuple[str, ...] = ()
    radius_world: float | None = None
    volumes: tuple[float, float | None] | None = None
    areas: tuple[float, float] | None = None
    seconds: float = 0.0


@dataclass(frozen=True)
class RunReport:
    """The result of `evaluate_run`: the directory and the training steps of the run, and its shapes in order.

    For two folders of meshes (`evaluate_meshes`), `run` is the folder of the results and `step` is None.

    >>> missing = ShapeReport("chair_00", source="", quality=None, error="its source is missing")
    >>> report = RunReport("runs/chairs", 200, EvaluationConfig(), (missing,))
    >>> [shape.name for shape in report.failed]
    ['chair_00']
    """

    run: str
    step: int | None
    config: EvaluationConfig
    shapes: tuple[ShapeReport, ...]

    @property
    def measured(self) -> tuple[ShapeReport, ...]:
        return tuple(shape for shape in self.shapes if shape.quality is not None)

    @property
    def failed(self) -> tuple[ShapeReport, ...]:
        return tuple(shape for shape in self.shapes if shape.quality is None)

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON document."""
        return dataclasses.asdict(self)


def evaluate_run(
    run: Run,
    meshes: str | Path | None = None,
    *,
    shapes: str | Sequence[str] = "all",
    config: EvaluationConfig | None = None,
    extracted: Mapping[str, Mesh] | None = None,
    errors: str | Path | None = None,
    num_workers: int = 1,
    progress: bool = False,
) -> RunReport:
    """Measure the learned shapes of `run` against their source meshes.

    Parameters
    ----------
    meshes : path, optional
        The folder that holds the sources, if it has moved since training; a source is found in it by its shape's name.
    shapes : "all", names or globs
    extracted : mapping, optional
        Meshes to use instead of a new extraction: `ExtractedRun.extracted`, made with the resolution and options of
        `config`.
    errors : path, optional
        A folder. A PLY file of each result is written into it, world units, with the signed distance of each vertex to
        the source as `error`: positive outside.
    num_workers : int
        Shapes measured at a time, in threads.

    Raises
    ------
    ValueError
        An unknown shape; a folder that is not there; no source of any shape is found. An error of a single shape goes
        into the line of that shape instead.

    >>> from sdfnet.runs import load_run
    >>> config = EvaluationConfig(resolution=16, num_points=1000, num_volume_points=1000)
    >>> report = evaluate_run(load_run("runs/chairs"), shapes="chair_00", config=config)
    >>> report.shapes[0].name, report.failed
    ('chair_00', ())
    """
    config = config or EvaluationConfig()
    names = select_shapes(run.names, shapes)
    sources = {name: Path(run.shape(name).source) for name in names}
    if meshes is not None:
        found = find_sources(meshes)
        sources = {name: found.get(name, Path(meshes) / name) for name in names}
    _check_some_source(sources, meshes)
    there = extracted or {}
    folder = None if errors is None else Path(errors)

    def measure(name: str) -> ShapeReport:
        return _measure(run, name, sources[name], config, there.get(name), folder)

    reports = _report_all({name: sources[name] for name in names}, measure, num_workers=num_workers, progress=progress)
    return RunReport(str(run.directory), run.step, config, reports)


def evaluate_meshes(
    meshes: str | Path,
    reference: str | Path,
    *,
    shapes: str | Sequence[str] = "all",
    config: EvaluationConfig | None = None,
    errors: str | Path | None = None,
    num_workers: int = 1,
    progress: bool = False,
) -> RunReport:
    """Measure meshes against reference meshes of the same names and in the same place, without a run.

    Both are folders, or both are files. The results are measured as they are. A reference is read as a source of a
    training is, and label volumes are taken too. Options of the extraction have no effect. The other parameters are
    those of `evaluate_run`.

    Raises
    ------
    ValueError
        A folder or file that is not there, no common name, or an unknown shape.

    >>> config = EvaluationConfig(num_points=1000, num_volume_points=1000)
    >>> report = evaluate_meshes("chairs", "chairs", shapes="chair_00", config=config)
    >>> report.shapes[0].quality.result.distance.mean < 1e-5
    True
    """
    config = config or EvaluationConfig()
    results, references = _named_meshes(meshes), _named_meshes(reference)
    if Path(meshes).is_file() and Path(reference).is_file():
        references = dict.fromkeys(results, Path(reference))
    names = select_shapes(list(results), shapes)
    if not any(name in references for name in names):
        raise ValueError(
            f"no mesh in {reference} has the name of a mesh in {meshes} ({', '.join(names[:_SOURCES_TOLD])}, …); give "
            "both the same names"
        )
    folder = None if errors is None else Path(errors)
    sources = {name: references.get(name, Path(reference) / name) for name in names}

    def measure(name: str) -> ShapeReport:
        return _measure_mesh(name, results[name], sources[name], config, folder)

    return RunReport(
        str(meshes), None, config, _report_all(sources, measure, num_workers=num_workers, progress=progress)
    )


def _named_meshes(path: str | Path) -> dict[str, Path]:
    path = Path(path)
    return {path.stem: path} if path.is_file() else find_sources(path)


def _report_all(
    sources: Mapping[str, Path], measure: Callable[[str], ShapeReport], *, num_workers: int, progress: bool
) -> tuple[ShapeReport, ...]:
    jobs = (delayed(_report_shape)(name, path, measure) for name, path in sources.items())
    finished = Parallel(n_jobs=num_workers, prefer="threads", return_as="generator")(jobs)
    return tuple(tqdm(finished, total=len(sources), desc="evaluate", unit="shape", disable=not progress))


def _check_some_source(sources: Mapping[str, Path], meshes: str | Path | None) -> None:
    """Refuse to measure where no shape has a source."""
    if not sources or any(path.is_file() for path in sources.values()):
        return
    place = "where it was when the run was trained" if meshes is None else f"in {meshes}"
    told = ", ".join(list(sources)[:_SOURCES_TOLD]) + (", …" if len(sources) > _SOURCES_TOLD else "")
    none = f"none of the {len(sources)} sources" if len(sources) > 1 else "the source"
    missing = "is" if len(sources) > 1 else "is not"
    raise ValueError(f"{none} {missing} {place} ({told}); give the folder of the meshes with meshes=DIR")


def _report_shape(name: str, path: Path, measure: Callable[[str], ShapeReport]) -> ShapeReport:
    """Measure one shape; anything that is wrong with it or its source becomes its error."""
    started = time.perf_counter()
    try:
        report = measure(name)
    except (ValueError, OSError) as error:
        _LOGGER.warning("%s could not be measured: %s", name, error)
        report = ShapeReport(name, str(path), None, error=str(error) or type(error).__name__)
    return dataclasses.replace(report, seconds=round(time.perf_counter() - started, 3))


def _measure(
    run: Run, name: str, path: Path, config: EvaluationConfig, extracted: Mesh | None, errors: Path | None
) -> ShapeReport:
    shape = run.shape(name)
    if not path.is_file():
        raise ValueError(f"its source {path} is not there. Give the folder of the meshes with meshes=DIR")
    source = load_shape(path, name=name, rule=shape.rule)
    notes: tuple[str, ...] = ()
    if shape.content_hash not in ("", source.content_hash):
        notes = ("the source has changed since training",)
    surface = source_surface(source, shape.similarity)
    result = result_mesh(run, name, config=config, extracted=extracted)
    floor = extract_exact(surface, resolution=config.resolution) if config.floor else None
    quality = compare_meshes(result, surface, config=config, name=name, floor=floor)
    write_error_mesh(result, surface, shape.similarity, errors, name)
    return _reported(name, source, quality, result.to_world(shape.similarity), notes=notes)


def _measure_mesh(name: str, path: Path, reference: Path, config: EvaluationConfig, errors: Path | None) -> ShapeReport:
    """Measure a mesh file against another one, at the place of both."""
    if not reference.is_file():
        raise ValueError(f"its reference {reference} is not there. Give it the name of the mesh")
    source = load_shape(reference, name=name)
    result = load_shape(path).mesh if is_volume(path) else read_mesh(path)
    similarity = Similarity.normalizing(source.mesh.vertices)
    surface, in_unit = source_surface(source, similarity), result.to_unit(similarity)
    quality = compare_meshes(in_unit, surface, config=config, name=name)
    write_error_mesh(in_unit, surface, similarity, errors, name)
    return _reported(name, source, quality, result)


def write_error_mesh(result: Mesh, source: Surface, similarity: Similarity, folder: Path | None, name: str) -> None:
    """Write `result` as `folder/name.ply`, world units, with the signed distance of each vertex to `source` as `error`.

    `result` and `source` are in the unit frame of `similarity`. The error is positive outside the source, world units.
    Without a folder nothing is written.

    >>> mesh = Mesh([[0, 0, 0], [1, 0, 0], [0, 1, 0]], [[0, 1, 2]])
    >>> write_error_mesh(mesh, Surface.of(mesh), Similarity.normalizing(mesh.vertices), None, "nothing")
    """
    if folder is None:
        return
    error = source.distance(result.vertices).sdf / similarity.scale
    write_file(folder / f"{name}.ply", format_ply(result.to_world(similarity), attributes={"error": error}))


def _reported(
    name: str, source: SourceShape, quality: ShapeQuality, result_world: Mesh, *, notes: tuple[str, ...] = ()
) -> ShapeReport:
    """Return the line of a measured shape, with its volume and its area in world units."""
    if not source.closed:
        notes = (*notes, "an open source: what closes its holes is left out of the result (cap)")
    true = source.mesh
    volumes = (result_world.signed_volume, true.signed_volume if source.closed else None)
    areas = (float(result_world.face_areas.sum()), float(true.face_areas.sum()))
    radius = bounding_radius(true)
    return ShapeReport(name, str(source.path), quality, "", notes, radius, volumes, areas)


def source_surface(source: SourceShape, similarity: Similarity) -> Surface:
    """Return the surface to measure against, unit frame."""
    return Surface.of(source.mesh.to_unit(similarity), is_closed=source.closed)


TABLE_WIDTH = 120
"""Columns of a terminal that the table fits."""

_NAME_WIDTH = 26

_COLUMNS: tuple[tuple[str, str, int, str], ...] = (
    ("mean_percent", "mean %", 8, ".3f"),
    ("floor_mean_percent", "floor", 7, ".3f"),
    ("p95_percent", "p95 %", 8, ".3f"),
    ("floor_p95_percent", "floor", 7, ".3f"),
    ("chamfer", "Chamfer", 9, ".4f"),
    ("chamfer_floor", "floor", 8, ".4f"),
    ("f_score", "F 1%", 8, ".2f"),
    ("normal_consistency", "normals", 9, ".4f"),
    ("iou", "IoU", 8, ".4f"),
    ("components", "pieces", 8, "d"),
    ("genus", "genus", 8, "d"),
    ("cap_percent", "cap %", 6, ".1f"),
)
"""Key, heading, width and format; components and genus are followed by the source's where they differ."""

_LEGEND = textwrap.fill(
    "mean, p95: distance between the surfaces both ways, percent of the source's bounding-sphere radius; floor beside"
    " them: the extraction error, from the exact field of the source. Chamfer: DeepSDF's, x 1000; floor: the source"
    " against itself. Pieces and genus: result/source where they differ; in total, how many shapes have the source's.",
    TABLE_WIDTH,
)

_LARGER_IS_BETTER = ("f_score", "normal_consistency", "iou")


def shape_numbers(shape: ShapeReport) -> dict[str, Any]:
    """Return the numbers of one shape under flat names, as in the CSV; empty if it was not measured."""
    quality = shape.quality
    if quality is None:
        return {}
    radius, topology = shape.radius_world, quality.source_topology
    numbers = {
        **_quality_numbers(quality.result),
        "mean_world": None if radius is None else quality.result.distance.mean / 100 * radius,
        "chamfer_floor": quality.chamfer_floor,
        "source_components": topology.num_components,
        "source_genus": topology.genus,
        "radius_world": radius,
    }
    if shape.volumes is not None and shape.areas is not None:
        numbers["volume_world"], numbers["source_volume_world"] = shape.volumes
        numbers["area_world"], numbers["source_area_world"] = shape.areas
    if quality.floor is not None:
        numbers |= {f"floor_{key}": value for key, value in _quality_numbers(quality.floor).items()}
        # chamfer_floor is what two samplings of the source give; this value also holds the extraction error.
        numbers["extracted_chamfer"] = numbers.pop("floor_chamfer")
    return numbers


def format_table(report: RunReport) -> str:
    """Return `report` as text of at most 120 columns: a line per shape, the totals, then failures and notes.

    >>> missing = ShapeReport("chair_00", source="", quality=None, error="its source is missing")
    >>> report = RunReport("runs/chairs", 200, EvaluationConfig(), (missing,))
    >>> "its source is missing" in format_table(report)
    True
    """
    heading = f"{'shape':{_NAME_WIDTH}}" + "".join(f"{heading:>{width}}" for _, heading, width, _ in _COLUMNS)
    rule = "-" * len(heading)
    lines = [heading, rule, *(_line(shape.name, shape_numbers(shape)) for shape in report.measured)]
    if report.measured:
        lines += [rule, *(_line(label, numbers) for label, numbers in totals(report).items())]
    lines += [f"not measured: {shape.name}: {shape.error}" for shape in report.failed]
    lines += [f"note: {shape.name}: {note}" for shape in report.measured for note in shape.notes]
    at = "" if report.step is None else f" at resolution {report.config.resolution}"
    lines.append(f"{len(report.measured)} of {len(report.shapes)} shapes measured{at}")
    return "\n".join([*lines, _LEGEND])


def totals(report: RunReport) -> dict[str, dict[str, float]]:
    """Return the mean, the median and the worst of every number over the measured shapes.

    Components and genus have no such totals. Instead, "same_components" and "same_genus" of "mean" are the shares of
    shapes with those of their source.
    """
    rows = [shape_numbers(shape) for shape in report.measured]
    result: dict[str, dict[str, float]] = {"mean": {}, "median": {}, "worst": {}}
    for key in rows[0] if rows else ():
        values = [row[key] for row in rows if row.get(key) is not None]
        if values and not key.endswith(("components", "genus", "_world")):
            worst = np.min if key.removeprefix("floor_") in _LARGER_IS_BETTER else np.max
            for name, summary in (("mean", np.mean), ("median", np.median), ("worst", worst)):
                result[name][key] = float(summary(values))
    if rows:
        for key in ("components", "genus"):
            result["mean"][f"same_{key}"] = float(np.mean([row[key] == row[f"source_{key}"] for row in rows]))
    return result


def save_report(report: RunReport, out: str | Path) -> tuple[Path, Path, Path]:
    """Write the table as `evaluation.txt`, `evaluation.csv` (a line per shape) and `evaluation.json` (everything).

    Returns the three paths, in the folder `out`. Each file is whole or, if the write fails, as it was before.

    >>> missing = ShapeReport("chair_00", source="", quality=None, error="its source is missing")
    >>> report = RunReport("runs/chairs", 200, EvaluationConfig(), (missing,))
    >>> [path.name for path in save_report(report, "evaluation")]
    ['evaluation.txt', 'evaluation.csv', 'evaluation.json']
    """
    path_txt, path_csv, path_json = (Path(out) / f"evaluation.{suffix}" for suffix in ("txt", "csv", "json"))
    write_atomic(path_txt, format_table(report) + "\n")
    write_atomic(path_csv, _csv(report))
    write_json(path_json, {**report.to_dict(), "totals": totals(report)})
    return path_txt, path_csv, path_json


def _quality_numbers(quality: Quality) -> dict[str, Any]:
    topology = quality.topology
    return {
        **{f"{key}_percent": value for key, value in dataclasses.asdict(quality.distance).items()},
        **{key: getattr(quality, key) for key in ("chamfer", "f_score", "normal_consistency", "iou")},
        "components": topology.num_components,
        "genus": topology.genus,
        "cap_percent": quality.cap_percent,
        "num_faces": quality.num_faces,
    }


def _line(name: str, numbers: dict[str, Any]) -> str:
    if len(name) >= _NAME_WIDTH:
        name = "…" + name[len(name) - _NAME_WIDTH + 2 :]
    return f"{name:{_NAME_WIDTH}}" + "".join(
        f"{_cell(numbers, key, form):>{width}}" for key, _, width, form in _COLUMNS
    )


def _cell(numbers: dict[str, Any], key: str, form: str) -> str:
    value = numbers.get(key)
    if f"same_{key}" in numbers:
        return f"{numbers[f'same_{key}']:.0%}"
    text = "-" if value is None else format(value, form)
    expected = numbers.get(f"source_{key}", value)
    return text if expected == value else f"{text}/{'-' if expected is None else expected}"


def _csv(report: RunReport) -> str:
    """Return one line per shape; a failed one has its error and empty numbers."""
    rows = [{"name": shape.name, **shape_numbers(shape)} for shape in report.shapes]
    keys = list(dict.fromkeys(key for row in rows for key in row))
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, [*keys, "seconds", "source", "notes", "error"], lineterminator="\n")
    writer.writeheader()
    for shape, row in zip(report.shapes, rows, strict=True):
        extra = {"seconds": shape.seconds, "source": shape.source, "notes": "; ".join(shape.notes)}
        writer.writerow({**row, **extra, "error": shape.error})
    return buffer.getvalue()
