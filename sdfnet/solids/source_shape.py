"""Shapes to learn from. Their mesh files are read, repaired, reported on, and identified by a hash of the content.

`check_folder` and `inspect_mesh` report on a bad file. `load_shape` raises an error that holds the same report.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import tempfile
import textwrap
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

import joblib
import numpy as np
from tqdm import tqdm

from sdfnet.files import ensure_folder, write_atomic, write_json
from sdfnet.geometry.bounds import Bounds
from sdfnet.geometry.similarity import UNIT_RADIUS, Similarity
from sdfnet.mesh.io.formats import find_format
from sdfnet.mesh.io.polygons import FileFacts
from sdfnet.mesh.io.read import MeshError, describe_skipped, find_meshes, read_file, read_mesh_file, select_shapes
from sdfnet.mesh.mesh import Mesh
from sdfnet.mesh.topology import components_and_genus
from sdfnet.solids.limits import LIMITS, LimitReached, MeshLimits, become_worker, current_stage, enter_stage, limited
from sdfnet.solids.rule import AUTO, SolidRule
from sdfnet.solids.solid import Solid, make_solid
from sdfnet.volumes.label_volume import VOLUME_SUFFIXES, is_volume, read_label_volume
from sdfnet.volumes.surface import label_surface

Status = Literal["used", "noted", "refused"]
""""used": used unchanged. "noted": used, with notes. "refused": not used, with a reason."""

_ALONE_SECONDS = 3.0
"""Starting worker processes takes about this long."""
_NAMING_SECONDS = 2.0

PROCESS_ENDED = (
    "the process that worked on it ended unexpectedly (native code crashed, or memory or time ran out); "
    "mend the mesh or take it out"
)
"""The reason for the refusal of a mesh that ends the process of whoever works on it."""

_WIDTH = 120
_NAME_WIDTH = 36
_HEADINGS = ("status", "name", "faces", "extent x y z", "notes")

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class MeshReport:
    """The report on one mesh file.

    Attributes
    ----------
    name, path : str
        The shape's name and its file.
    status : "used", "noted" or "refused"
    notes : tuple of str
        Texts on faults that were repaired or could not be repaired. Empty unless the status is "noted".
    reason : str or None
        The reason for a refusal and the cure, or None.
    num_vertices, num_faces : int
        Counts in the file after triangulation of polygons; 0 if the file could not be read.
    num_components, closed, boundary_edges, num_holes
        After the repair, as in `Solid`; 0 or False if refused.
    hole_share : float
        Area of fans over the holes, as a share of the surface.
    extent : (3,) floats or None
        Edge lengths of the bounding box of the file's surface, world units; None if it could not be read.
    unit, up_axis : str or None
        The unit and the axis that the file or its format defines, such as "m" and "y"; None if neither defines them.
    solid : "auto", "winding" or "outer"
        The choice of what is inside (`SolidRule`).
    wall_thickness : float or None
        Thickness of the walls that surfaces without an inside became, world units; None if there are none.
    visible_kept : float
        Share of the surface seen from outside that the solid has, as in `Solid`.
    genus : int or None
        Handles of the solid, as in `Topology`; None if refused, or if the surface has none.
    unfinished : bool
        Whether the mesh is refused because its reading reached a limit (`MeshLimits`), and not for what it holds.
    """

    name: str
    path: str
    status: Status
    notes: tuple[str, ...] = ()
    reason: str | None = None
    num_vertices: int = 0
    num_faces: int = 0
    num_components: int = 0
    closed: bool = False
    boundary_edges: int = 0
    num_holes: int = 0
    hole_share: float = 0.0
    extent: tuple[float, float, float] | None = None
    unit: str | None = None
    up_axis: str | None = None
    solid: str = "winding"
    wall_thickness: float | None = None
    visible_kept: float = 1.0
    genus: int | None = None
    unfinished: bool = False

    def __post_init__(self) -> None:
        assert self.status in get_args(Status)
        assert (self.reason is not None) == (self.status == "refused")

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON document that `from_dict` reads back exactly."""
        return asdict(self) | {"notes": list(self.notes), "extent": self.extent and list(self.extent)}

    @classmethod
    def from_dict(cls, document: dict[str, Any]) -> MeshReport:
        extent = document["extent"] and tuple(document["extent"])
        return cls(**{**document, "notes": tuple(document["notes"]), "extent": extent})


def check_folder(
    folder: str | Path,
    *,
    shapes: str | Sequence[str] = "all",
    rule: SolidRule = AUTO,
    limits: MeshLimits = LIMITS,
    num_workers: int | None = None,
    out: str | Path | None = None,
    solids: str | Path | None = None,
    progress: bool = False,
) -> list[MeshReport]:
    """Read and repair the meshes in `folder` and below, and report on each.

    The first few seconds of work are done in this process. What is left then is done by worker processes.

    Parameters
    ----------
    shapes
        "all", or names and globs. A name is the path below `folder` without its suffix.
    rule
        What the inside of a mesh is: see `make_solid`.
    limits
        The time and memory that one mesh may take. Beyond them the mesh is refused.
    num_workers
        Number of processes, by default one for each core.
    out
        Folder for the reports: `report.json`, and the table `report.txt`, which also counts the skipped files. By
        default no file is written.
    solids
        Folder that keeps the solids of the noted meshes to draw (`worst_solids`), for `load_solid`.

    Raises
    ------
    ValueError
        No such folder, no meshes in it, or unknown shapes. A bad mesh is reported, not raised.

    >>> for report in check_folder("chairs", shapes="chair_0[01]"):
    ...     print(report.name, report.status, report.num_faces)
    chair_00 used 8000
    chair_01 used 8000
    """
    paths = find_sources(folder)
    names = select_shapes(list(paths), shapes)
    if out is not None:
        ensure_folder(out)
    if num_workers is not None and num_workers < 1:
        raise ValueError(f"num_workers must be 1 or more, got {num_workers}")
    kept = None if solids is None else ensure_folder(solids)
    report = partial(_report_on, rule=rule, limits=limits, solids=kept)
    reports: list[MeshReport] = []
    wanted = {name: paths[name] for name in names}
    for found in _for_each(report, wanted, num_workers=num_workers, progress=progress):
        reports.append(found)
        if kept is not None:
            _drop_better_solids(kept, reports)
    place = {name: number for number, name in enumerate(names)}
    reports.sort(key=lambda each: place[each.name])
    if out is not None:
        write_atomic(
            Path(out) / "report.txt",
            f"{format_reports(reports)}\n{describe_skipped(folder, also=VOLUME_SUFFIXES)}".rstrip() + "\n",
        )
        write_json(Path(out) / "report.json", [report.to_dict() for report in reports])
    return reports


MOST_SOLIDS = 50
"""So many solids are drawn beside their meshes."""


def worst_solids(reports: Iterable[MeshReport]) -> list[MeshReport]:
    """Return the noted meshes to look at: first those whose solid keeps the least, then those with the most notes.

    >>> worst_solids([MeshReport("a", "a.obj", "used"), MeshReport("b", "b.obj", "noted", notes=("open",))])[0].name
    'b'
    """
    noted = [report for report in reports if report.status == "noted"]
    return sorted(noted, key=lambda report: (report.visible_kept, -len(report.notes), report.name))[:MOST_SOLIDS]


def load_solid(folder: str | Path, name: str) -> Mesh | None:
    """Return the solid of a noted mesh that `check_folder` kept in `folder`, world frame; None if it is not there."""
    path = _solid_path(Path(folder), name)
    if not path.is_file():
        return None
    with np.load(path) as arrays:
        return Mesh(arrays["vertices"], arrays["faces"])


def _solid_path(folder: Path, name: str) -> Path:
    return folder / f"{hashlib.sha256(name.encode('utf-8', 'surrogatepass')).hexdigest()[:32]}.npz"


def _drop_better_solids(folder: Path, reports: list[MeshReport]) -> None:
    """Remove the solids that are not among the worst so far, because their files may be large."""
    noted = [report.name for report in reports if report.status == "noted"]
    if len(noted) > MOST_SOLIDS:
        for name in set(noted) - {report.name for report in worst_solids(reports)}:
            _solid_path(folder, name).unlink(missing_ok=True)


def _report_on(name: str, path: Path, *, rule: SolidRule, limits: MeshLimits, solids: Path | None) -> MeshReport:
    report, solid = inspect_mesh(path, name=name, rule=rule, limits=limits)
    if solids is not None and solid is not None and report.status == "noted":
        np.savez(_solid_path(solids, name), vertices=solid.mesh.vertices, faces=solid.mesh.faces.astype(np.int32))
    return report


_Work = Callable[[str, Path], MeshReport]


def _for_each(work: _Work, paths: dict[str, Path], *, num_workers: int | None, progress: bool) -> Iterator[MeshReport]:
    """Yield the results of `work` as they come. Worker processes help if the work takes long."""
    done: set[str] = set()
    started, num_workers = time.monotonic(), num_workers or joblib.cpu_count()
    bar = tqdm(total=len(paths), desc="checking", unit="mesh", delay=2, leave=False, disable=not progress)
    with bar, tempfile.TemporaryDirectory() as stages, _naming_slow_ones(bar, paths, done, Path(stages)):
        files = {name: Path(stages) / str(number) for number, name in enumerate(paths)}
        here = list(paths.items())
        while here and not (num_workers > 1 and len(here) > 1 and time.monotonic() - started > _ALONE_SECONDS):
            name, path = here.pop(0)
            yield work(name, path)
            done.add(name)
            bar.update()
        for report in _in_workers(work, dict(here), files, num_workers=num_workers):
            done.add(report.name)
            bar.update()
            yield report


def _in_workers(
    work: _Work, left: dict[str, Path], stage_files: dict[str, Path], *, num_workers: int
) -> Iterator[MeshReport]:
    """Yield the results of `work` on what is `left`, in worker processes. A mesh that ends its process is refused."""
    alone = False  # After a crash, one mesh at a time, so that the crash tells which mesh is the cause.
    while left:
        begun = list(left.items())[: 1 if alone else None]
        parallel = joblib.Parallel(n_jobs=max(2, num_workers), return_as="generator_unordered", batch_size=1)
        calls = (joblib.delayed(_work_for_another)(work, name, path, stage_files[name]) for name, path in begun)
        try:
            for report in parallel(calls):
                del left[report.name]
                yield report
        except BrokenProcessPool:
            if alone:
                name, path = begun[0]
                del left[name]
                yield MeshReport(name, str(path), "refused", reason=PROCESS_ENDED, unfinished=True)
            alone = True


def _work_for_another(work: _Work, name: str, path: Path, stage_file: Path) -> MeshReport:
    """Do the work in a worker process. The `stage_file` holds its stage and exists as long as it lasts."""
    become_worker(stage_file)
    try:
        return work(name, path)
    finally:
        stage_file.unlink(missing_ok=True)


@contextlib.contextmanager
def _naming_slow_ones(bar: tqdm, paths: Collection[str], done: Collection[str], stages: Path) -> Iterator[None]:
    """Let the progress bar name the mesh that has been in work for longest, and its stage."""
    ended, names = threading.Event(), list(paths)

    def watch() -> None:
        while not ended.wait(_NAMING_SECONDS):
            waiting, stage = next((name for name in names if name not in done), None), current_stage()
            with contextlib.suppress(OSError, ValueError):  # A stage may end while it is looked at.
                file = min(stages.iterdir(), key=lambda file: int(file.name))
                waiting, stage = names[int(file.name)], file.read_text(encoding="utf-8")
            if waiting is not None:
                bar.set_postfix_str(f"{waiting}: {stage}" if stage else waiting)

    watcher = threading.Thread(target=watch, daemon=True)
    if not bar.disable:
        watcher.start()
    try:
        yield
    finally:
        ended.set()


def inspect_mesh(
    path: str | Path, *, name: str | None = None, rule: SolidRule = AUTO, limits: MeshLimits = LIMITS
) -> tuple[MeshReport, Solid | None]:
    """Read and repair a mesh file. Return a report, and the solid or None. A bad file raises no error.

    Parameters
    ----------
    name
        By default the file's name without its suffix.
    rule
        What the inside of a mesh is: see `make_solid`.
    limits
        The time and memory that this may take. Beyond them the mesh is refused.

    >>> report, solid = inspect_mesh("chairs/chair_01.obj")
    >>> report.status, report.num_components
    ('used', 1)
    """
    path = Path(path)
    name = path.stem if name is None else name
    measures: dict[str, Any] = {"solid": rule.solid}
    try:
        with limited(limits):
            enter_stage("reading")
            mesh, facts = _read_surface(path, rule)
            extent = tuple(mesh.bounds.extent.tolist())
            measures |= {"num_vertices": len(mesh.vertices), "num_faces": len(mesh.faces), "extent": extent}
            measures |= {"unit": facts.unit, "up_axis": facts.up_axis}
            with np.errstate(divide="raise", over="raise", invalid="raise"):  # better refused than full of NaN
                solid = make_solid(mesh, rule=rule)
    except LimitReached as error:
        measures |= {"unfinished": True}
        reason = str(error)
    except MemoryError:
        measures |= {"unfinished": True}
        reason = "this machine has too little memory for it; decimate the mesh"
    except ValueError as error:
        reason = error.reason if isinstance(error, MeshError) else str(error).removeprefix(f"{path}: ")
    except Exception as error:  # whatever a library makes of an odd mesh must not stop the batch it is in
        _logger.debug("%s could not be repaired", path, exc_info=True)
        reason = f"it could not be repaired ({type(error).__name__}: {error}); mend it in a mesh editor"
    else:
        notes = facts.notes + solid.notes
        status: Status = "noted" if notes else "used"
        measures |= {"num_components": solid.num_components, "closed": solid.closed}
        measures |= {"boundary_edges": solid.holes.num_edges, "num_holes": solid.holes.num_holes}
        measures |= {"hole_share": float(solid.holes.area / solid.mesh.face_areas.sum())}
        measures |= {"wall_thickness": solid.wall_thickness, "visible_kept": solid.visible_kept}
        measures |= {"genus": components_and_genus(solid.mesh).genus}
        return MeshReport(name, str(path), status, notes=notes, **measures), solid
    return MeshReport(name, str(path), "refused", reason=" ".join(reason.split()), **measures), None


def _read_surface(path: Path, rule: SolidRule) -> tuple[Mesh, FileFacts]:
    """Read the surface of a mesh file, or the smoothed surface of the labels of a volume."""
    if not is_volume(path):
        return read_mesh_file(path)
    surface = label_surface(read_label_volume(path), label=rule.label)
    return surface.mesh, FileFacts(notes=surface.notes)


def find_sources(folder: str | Path) -> dict[str, Path]:
    """Find the mesh files and the label volumes in `folder` and below, by name: see `find_meshes`.

    >>> list(find_sources("chairs"))[:2]
    ['chair_00', 'chair_01']
    """
    return find_meshes(folder, also=VOLUME_SUFFIXES)


def format_reports(reports: Iterable[MeshReport]) -> str:
    """Return the reports as a text table, 120 columns wide, with counts at the end. Long notes follow below their mesh.

    >>> print(format_reports([MeshReport("a", "a.obj", "refused", reason="the file is empty; export it again")]))
    status   name  faces  extent x y z  notes
    refused  a         -  -             the file is empty; export it again
    1 mesh: 0 used, 0 used with notes, 1 refused
    """
    reports = list(reports)
    rows = [_HEADINGS] + [_row(report) for report in reports]
    name_width = max(len(row[1]) for row in rows if len(row[1]) <= _NAME_WIDTH)
    widths = [len("refused"), name_width, max(len(row[2]) for row in rows), max(len(row[3]) for row in rows)]
    lines = [line for row in rows for line in _format_row(row, widths)]
    counts = Counter(report.status for report in reports)
    meshes = "1 mesh" if len(reports) == 1 else f"{len(reports)} meshes"
    lines.append(f"{meshes}: {counts['used']} used, {counts['noted']} used with notes, {counts['refused']} refused")
    return "\n".join(lines)


def _row(report: MeshReport) -> tuple[str, str, str, str, str]:
    faces = f"{report.num_faces:,}" if report.num_faces else "-"
    extent = "-" if report.extent is None else " ".join(f"{length:.4g}" for length in report.extent)
    extent += "" if report.unit is None else f" {report.unit}"
    extent += "" if report.up_axis is None else f", {report.up_axis} up"
    notes = report.reason if report.reason is not None else "; ".join(report.notes)
    return report.status, _printable(report.name), faces, extent, _printable(notes)


def _format_row(row: tuple[str, str, str, str, str], widths: list[int]) -> list[str]:
    """Return the lines of one row. Notes that are too long, and all columns after a long name, go on lines below."""
    status, name, faces, extent, notes = row
    indent = " " * (widths[0] + 2)
    lines = [f"{status:{widths[0]}}  "]
    if len(name) > widths[1]:
        lines = [lines[0] + name, indent]
        name = ""
    lines[-1] += f"{name:{widths[1]}}  {faces:>{widths[2]}}  {extent:{widths[3]}}"
    if len(lines[-1]) + 2 + len(notes) <= _WIDTH:
        lines[-1] += f"  {notes}"
    else:
        lines += textwrap.wrap(notes, _WIDTH, initial_indent=indent, subsequent_indent=indent)
    return [line.rstrip() for line in lines]


def _printable(text: str) -> str:
    """Return `text` without line breaks, control characters, and characters that cannot be encoded (odd file names)."""
    readable = text.encode("utf-8", "backslashreplace").decode("utf-8")
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in readable)


Normalize = Literal["each", "shared"]
""""each": every shape has its own similarity to the unit frame. "shared": one similarity serves the whole folder."""


class MeshRefused(MeshError):
    """A mesh file that was checked and refused. Its `report` holds the reason.

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
    mesh : Mesh
        The repaired solid, world frame, float64.
    closed : bool
        Whether the signed distance is exact. The sign of an open mesh jumps across its holes.
    rule : SolidRule
        The choice of what is inside that `mesh` comes from.
    content_hash : str
        See `hash_content`.
    """

    name: str
    path: Path
    mesh: Mesh
    closed: bool
    rule: SolidRule
    report: MeshReport
    content_hash: str

    @property
    def solid_hash(self) -> str:
        """Hash of the bits of `mesh`, and of `closed`."""
        digest = hashlib.sha256(b"closed" if self.closed else b"open")
        for array in (self.mesh.vertices, self.mesh.faces):
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()[:32]


def load_shape(
    path: str | Path, *, name: str | None = None, rule: SolidRule = AUTO, limits: MeshLimits = LIMITS
) -> SourceShape:
    """Read, check and repair a mesh file. The parameters are those of `inspect_mesh`.

    Raises
    ------
    MeshRefused
        The file cannot be used. The message and the `report` of the error give the reason.

    >>> load_shape("chairs/chair_00.obj").closed
    True
    """
    path = Path(path)
    report, solid = inspect_mesh(path, name=name, rule=rule, limits=limits)
    if solid is None:
        raise MeshRefused(path, report)
    digest = hash_content(path, rule=rule)
    return SourceShape(report.name, path, solid.mesh, solid.closed, rule, report, digest)


def hash_content(path: str | Path, *, rule: SolidRule = AUTO) -> str:
    """Return a SHA-256 (hex) of a mesh file's bytes, of the files that hold its vertices (glTF), and of the `rule`.

    Without such files and with a rule without widths, auto or winding, the result equals the output of `sha256sum`.

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
    digest.update(rule.hash_text.encode())
    return digest.hexdigest()


def folder_similarities(shapes: Sequence[SourceShape], *, normalize: Normalize = "each") -> list[Similarity]:
    """Return the map to the unit frame of each shape.

    "each" centres every bounding box and brings its farthest vertex to the unit radius. "shared" does this once for all
    shapes together, so that relative sizes and positions stay.

    Raises
    ------
    ValueError
        `normalize` has another value, or there are no shapes.

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
    """Return the map that centres the box of all `shapes` and moves the farthest point to the unit radius."""
    boxes = [shape.mesh.bounds for shape in shapes]
    center = Bounds.of(np.stack([corner for box in boxes for corner in (box.lower, box.upper)])).center
    reaches = [float(np.linalg.norm(shape.mesh.vertices - center, axis=1).max()) for shape in shapes]
    return Similarity(center, UNIT_RADIUS / max(reaches))
