"""Report on mesh files before anything is learned from them: usable or not, repaired or not, and why.

Nothing here raises for a bad file: that is what the report is for. `sdfnet.solids.source_shape` uses the
same inspection and raises.
"""

from __future__ import annotations

import logging
import textwrap
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from tqdm import tqdm

from sdfnet.files import ensure_folder, write_atomic, write_json
from sdfnet.mesh.io.read import MeshError, find_meshes, read_mesh, select_shapes
from sdfnet.solids.solid import Solid, make_solid

Status = Literal["used", "noted", "refused"]
"""Used as it is; used with notes; not used, with the reason."""

_WIDTH = 120
_NAME_WIDTH = 36
_HEADINGS = ("status", "name", "faces", "extent x y z", "notes")

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class MeshReport:
    """What was found in one mesh file.

    Attributes
    ----------
    name, path : str
        The shape's name and its file.
    status : "used", "noted" or "refused"
    notes : tuple of str
        What was repaired or could not be, empty unless noted.
    reason : str or None
        Why it was refused, and the cure; None otherwise.
    num_vertices, num_faces : int
        As the file has them, polygons triangulated; 0 if it could not be read.
    num_components, closed, boundary_edges, num_holes
        After the repair, as in `Solid`; 0 or False if refused.
    hole_share : float
        Area of fans over the holes, as a share of the surface.
    extent : (3,) floats or None
        Edge lengths of the bounding box of the file's surface, world units; None if it could not be read.

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
    thickness: float | None = None,
    out: str | Path | None = None,
    progress: bool = False,
) -> list[MeshReport]:
    """Read and repair the meshes in `folder` and below, and report on each.

    Parameters
    ----------
    shapes
        all, or names and globs; a name is the path below `folder` without its suffix.
    thickness
        For sheets, world units: see `make_solid`.
    out
        Where to write the reports, as `report.json` and as the table `report.txt`; nowhere by default.

    Raises
    ------
    ValueError
        No such folder, no meshes in it, or unknown shapes. A bad mesh is reported, not raised.

    >>> for report in check_folder("chairs", shapes="chair_0[01]"):
    ...     print(report.name, report.status, report.num_faces)
    chair_00 used 8000
    chair_01 used 8000
    """
    paths = find_meshes(folder)
    names = select_shapes(list(paths), shapes)
    if out is not None:
        ensure_folder(out)
    progress_bar = tqdm(names, desc="checking", unit="mesh", delay=2, leave=False, disable=not progress)
    reports = [inspect_mesh(paths[name], name=name, thickness=thickness)[0] for name in progress_bar]
    if out is not None:
        write_atomic(Path(out) / "report.txt", format_reports(reports) + "\n")
        write_json(Path(out) / "report.json", [report.to_dict() for report in reports])
    return reports


def inspect_mesh(
    path: str | Path, *, name: str | None = None, thickness: float | None = None
) -> tuple[MeshReport, Solid | None]:
    """Read and repair a mesh file; return a report and, unless it was refused, the solid. A bad file is never raised.

    Parameters
    ----------
    name
        The file's name without suffix by default.
    thickness
        For sheets, world units: see `make_solid`.

    >>> report, solid = inspect_mesh("chairs/chair_01.obj")
    >>> report.status, report.num_components
    ('used', 1)
    """
    if thickness is not None and not thickness > 0:
        raise ValueError(f"thickness must be positive, got {thickness}")
    path = Path(path)
    name = path.stem if name is None else name
    measures: dict[str, Any] = {}
    try:
        mesh = read_mesh(path)
        extent = tuple(mesh.bounds.extent.tolist())
        measures = {"num_vertices": len(mesh.vertices), "num_faces": len(mesh.faces), "extent": extent}
        with np.errstate(divide="raise", over="raise", invalid="raise"):  # better refused than silently full of NaN
            solid = make_solid(mesh, thickness=thickness)
    except ValueError as error:
        reason = error.reason if isinstance(error, MeshError) else str(error)
    except Exception as error:  # whatever a library makes of an odd mesh must not stop the batch it is in
        _logger.debug("%s could not be repaired", path, exc_info=True)
        reason = f"it could not be repaired ({type(error).__name__}: {error}); mend it in a mesh editor"
    else:
        status: Status = "noted" if solid.notes else "used"
        measures |= {"num_components": solid.num_components, "closed": solid.closed}
        measures |= {"boundary_edges": solid.holes.num_edges, "num_holes": solid.holes.num_holes}
        measures |= {"hole_share": float(solid.holes.area / solid.mesh.face_areas.sum())}
        return MeshReport(name, str(path), status, notes=solid.notes, **measures), solid
    return MeshReport(name, str(path), "refused", reason=" ".join(reason.split()), **measures), None


def format_reports(reports: Iterable[MeshReport]) -> str:
    """Return a table for people, 120 columns wide, with the counts at the end; long notes stand below their mesh.

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
    notes = report.reason if report.reason is not None else "; ".join(report.notes)
    return report.status, _printable(report.name), faces, extent, _printable(notes)


def _format_row(row: tuple[str, str, str, str, str], widths: list[int]) -> list[str]:
    """Return the lines of one row; notes that do not fit beside the rest, and the rest behind a long name, go below."""
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
    """Return `text` without line breaks, control characters and what no encoding can print (odd file names)."""
    readable = text.encode("utf-8", "backslashreplace").decode("utf-8")
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in readable)
