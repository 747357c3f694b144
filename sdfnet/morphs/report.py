"""The report of a morph: `morph.json`, for machines, and `morph.png`, for eyes.

Everything in it comes from what was measured when the frames were made (`measures`), but for the distance of the ends
to their source meshes. The manifest says what the files are; the report says how good they are.

What is measured of each frame of a morph while it is made. World units; `report` turns it into shares and sums.

Travel is from the frame before: the distance from places on each of the two surfaces to the other surface, exact to
the meshes, over both ways. For a surface that moves along its normal it is how far it moves; where something appears
or goes it is how far that is from what is there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sdfnet.evaluation.closest_points import Surface, bounding_radius, match_surfaces
from sdfnet.evaluation.metrics import distances_of
from sdfnet.evaluation.report import source_surface
from sdfnet.files import write_json
from sdfnet.geometry.similarity import UNIT_RADIUS
from sdfnet.mesh.distance import MeshDistance
from sdfnet.mesh.mesh import Mesh, sum_at_vertices
from sdfnet.mesh.quality import triangle_quality
from sdfnet.mesh.topology import components_and_genus
from sdfnet.morphs.plan import MorphFrame
from sdfnet.morphs.store import MadeFrame, MorphSequence
from sdfnet.runs import Run
from sdfnet.solids.source_shape import load_shape


def measure_frame(made: MadeFrame, before: Mesh | None) -> dict[str, Any]:
    """Return the measures of one frame, plain numbers; `before` is the frame before it, None for the first."""
    mesh = made.mesh
    topology, triangles = components_and_genus(mesh), triangle_quality(mesh)
    mean, largest = (None, None) if before is None else surface_travel_between(before, mesh)
    return {
        "volume": mesh.signed_volume,
        "area": float(mesh.face_areas.sum()),
        "radius": bounding_radius(mesh),
        "components": topology.num_components,
        "genus": topology.genus,
        "extra_pieces": made.num_extra,
        "vertices": len(mesh.vertices),
        "faces": len(mesh.faces),
        "worst_angle": triangles.worst_angle,
        "good_triangles": triangles.good_share,
        "self_intersections": triangles.self_intersections,
        "travel_mean": mean,
        "travel_max": largest,
        "removed": [
            {"share": piece.share, "center": list(piece.center), "is_cavity": piece.is_cavity} for piece in made.removed
        ],
    }


def surface_travel_between(before: Mesh, after: Mesh) -> tuple[float, float]:
    """Return mean (by area, over both ways) and largest distance between two surfaces, in their unit of length.

    >>> from sdfnet.fields.primitives import Sphere
    >>> from sdfnet.extraction.extract import extract_mesh
    >>> small, large = (extract_mesh(Sphere(r), resolution=64) for r in (0.5, 0.6))
    >>> [round(travel, 3) for travel in surface_travel_between(small, large)]
    [0.1, 0.1]
    """
    ways = [(before, MeshDistance(after)), (after, MeshDistance(before))]
    found = [(other.unsigned(mesh.vertices).distance, vertex_areas(mesh)) for mesh, other in ways]
    means = [float((distances * areas).sum() / areas.sum()) for distances, areas in found]
    return sum(means) / 2, max(float(distances.max()) for distances, _ in found)


def vertex_areas(mesh: Mesh) -> NDArray[np.float64]:
    """Return a third of the area of the faces around each vertex, (V,)."""
    return sum_at_vertices(mesh.faces, mesh.face_areas[:, None] / 3, len(mesh.vertices))[:, 0]


REPORT_FILE = "morph.json"
REPORT_FORMAT = 1

_NUM_POINTS = 20_000
"""Samples each way of the distance to a source: its mean is good to about 0.5 % of itself."""


def make_report(run: Run, sequence: MorphSequence, mesh_of: Callable[[int], Mesh]) -> dict[str, Any]:
    """Return the report of a finished morph.

    Parameters
    ----------
    mesh_of
        From a frame's number to its mesh; asked for both ends only.
    """
    frames, measured = sequence.frames, [record["measures"] for record in sequence.records]
    closing = None
    if sequence.config.playback == "loop":
        closing = surface_travel_between(mesh_of(len(frames) - 1), mesh_of(0))
    radius = (measured[0]["radius"] + measured[-1]["radius"]) / 2
    rows = [
        _row(frame, number, values, radius) for number, (frame, values) in enumerate(zip(frames, measured, strict=True))
    ]
    return {
        "format": REPORT_FORMAT,
        "shapes": [frame.shape for frame in frames if frame.shape],
        "units": {
            "length": "world" if sequence.config.frame == "world" else "unit frame",
            "travel": "percent of `radius`, from the frame before: distance between the two meshes as they are written",
            "planned_travel": "percent of `radius`, from the frame before: mean of |df/dt| / |grad f| over the surface "
            "without the way over the ground; null unless pace=surface",
            "share": "of the volume",
            "worst_angle": "degrees",
        },
        "radius": radius,
        "summary": _summary(rows, closing, radius),
        "tracked": _tracked(sequence.records) if sequence.config.tracked else None,
        "ends": [_end(run, frames, number, mesh_of) for number in _ends(frames)],
        "frames": rows,
    }


def save_morph_report(report: dict[str, Any], out: Path) -> None:
    """Write `morph.json` into `out`, whole."""
    write_json(out / REPORT_FILE, report)


def _tracked(records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return where a tracked morph is cut and why, and where its mesh is off the surface, `farthest` in percent."""
    strays = [record["stray"] for record in records if record.get("stray")]
    return {
        "pieces": len({record["piece"] for record in records if record["piece"] is not None}) or len(records),
        "cuts": [{"frame": record["index"], "reason": record["cut"]} for record in records if record["cut"]],
        "strays": [stray | {"farthest": 100 * stray["farthest"] / UNIT_RADIUS} for stray in strays],
    }


def _row(frame: MorphFrame, number: int, values: dict[str, Any], radius: float) -> dict[str, Any]:
    """Return what the report says of one frame: its measures, with travel in percent of `radius`."""
    travel = {
        name: None if values[name] is None else 100 * values[name] / radius for name in ("travel_mean", "travel_max")
    }
    planned = None if frame.travel is None else 100 * frame.travel / radius
    return {"index": number, "time": frame.time, "shape": frame.shape, **values, **travel, "planned_travel": planned}


def _summary(rows: Sequence[dict[str, Any]], closing: tuple[float, float] | None, radius: float) -> dict[str, Any]:
    """Return the figures that one would look at first."""
    means = [row["travel_mean"] for row in rows[1:]] + ([] if closing is None else [100 * closing[0] / radius])
    largest = [row["travel_max"] for row in rows[1:]] + ([] if closing is None else [100 * closing[1] / radius])
    planned = [row["planned_travel"] for row in rows if row["planned_travel"] is not None]
    dirty = [row for row in rows if row["removed"]]
    shares = [piece["share"] for row in rows for piece in row["removed"]]
    worst = min(rows, key=lambda row: row["worst_angle"])
    return {
        "volume": [min(row["volume"] for row in rows), max(row["volume"] for row in rows)],
        "area": [min(row["area"] for row in rows), max(row["area"] for row in rows)],
        "components": [min(row["components"] for row in rows), max(row["components"] for row in rows)],
        "genus": sorted({row["genus"] for row in rows}, key=lambda genus: (genus is None, genus)),
        "travel_mean": sum(means) / len(means),
        "travel_max": max(largest),
        "travel_closing": None if closing is None else [100 * closing[0] / radius, 100 * closing[1] / radius],
        "pace": _evenness(means),
        "planned_pace": _evenness(planned) if planned else None,
        "worst_angle": {"degrees": worst["worst_angle"], "frame": worst["index"]},
        "good_triangles": min(row["good_triangles"] for row in rows),
        "self_intersections": sum(row["self_intersections"] for row in rows),
        "removed": {"frames": len(dirty), "pieces": len(shares), "largest": max(shares, default=0.0)},
        "frames_with_extra_pieces": [row["index"] for row in rows if row["extra_pieces"]],
    }


def _evenness(travels: Sequence[float]) -> dict[str, float | None]:
    """Return the smallest and the largest of some travels, and their ratio if there is one."""
    smallest, largest = min(travels), max(travels)
    return {"smallest": smallest, "largest": largest, "ratio": largest / smallest if smallest > 0 else None}


def _ends(frames: Sequence[MorphFrame]) -> tuple[int, int]:
    """Return the frames of the first and the last shape."""
    at_shape = [number for number, frame in enumerate(frames) if frame.shape]
    return at_shape[0], at_shape[-1]


def _end(run: Run, frames: Sequence[MorphFrame], number: int, mesh_of: Callable[[int], Mesh]) -> dict[str, Any]:
    """Return how far one end is from its source mesh, in percent of the source's radius, or why that is not known."""
    frame = frames[number]
    shape = run.shape(frame.shape)
    told: dict[str, Any] = {"frame": number, "shape": frame.shape, "source": shape.source, "distance": None}
    path = Path(shape.source)
    if not shape.source:
        return told | {"absent": "a mix has no source"}
    if not path.is_file():
        return told | {"absent": "the source is not there any more"}
    try:
        source = load_shape(path, name=frame.shape, thickness=shape.thickness)
        if shape.content_hash not in ("", source.content_hash):
            return told | {"absent": "the source has changed since training"}
        surface = source_surface(source, shape.similarity)
        made = Surface.of(mesh_of(number).to_unit(frame.similarity))
        match = match_surfaces(made, surface, num_points=_NUM_POINTS, generator=torch.Generator().manual_seed(0))
        distance = distances_of(match)
    except (ValueError, OSError) as error:
        return told | {"absent": f"the source cannot be measured against: {error}"}
    return told | {"distance": {"mean": distance.mean, "p95": distance.p95, "max": distance.max}}
