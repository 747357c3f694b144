"""The report of a morph: the measures of every frame, their summary, and their curves.

Each frame is measured while it is made, in world units. The report turns lengths into percent of the shapes' radius and
adds the distance of the ends to their source meshes. The displacement of a frame is the distance between its mesh and
the mesh before, from the vertices of each mesh to the other. If a surface moves along its normal, the displacement is
the length of the movement. If a part appears or vanishes, the displacement is the distance of the part from the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from sdfnet.evaluation.closest_points import Surface, bounding_radius, match_surfaces
from sdfnet.evaluation.metrics import distances_of
from sdfnet.evaluation.report import source_surface
from sdfnet.files import atomic_path, write_json
from sdfnet.geometry.arrays import FloatArray
from sdfnet.geometry.similarity import UNIT_RADIUS
from sdfnet.mesh.distance import MeshDistance
from sdfnet.mesh.mesh import Mesh, sum_at_vertices
from sdfnet.mesh.quality import POOR_ANGLE, triangle_quality
from sdfnet.mesh.topology import components_and_genus
from sdfnet.morphs.plan import MorphPlan
from sdfnet.morphs.store import MorphFrame, MorphSequence
from sdfnet.solids.source_shape import load_shape

REPORT_FILE = "morph.json"
REPORT_FORMAT = 1
PLOT_FILE = "morph.png"

_NUM_POINTS = 20_000
"""Samples in each direction for the distance to a source. The sampling error of the mean is about 0.5 % of its
value."""

_SIZE = (9.0, 10.5)  # inches
_DPI = 110
_LINE, _OTHER, _MARK = "#2f6db5", "#c9622d", "#9aa0a8"


def measure_frame(frame: MorphFrame, mesh: Mesh, before: Mesh | None) -> dict[str, Any]:
    """Return the measures of one frame as plain numbers. `before` is the previous mesh, None for the first frame."""
    topology, triangles = components_and_genus(mesh), triangle_quality(mesh)
    mean, largest = (None, None) if before is None else displacement_between(before, mesh)
    return {
        "volume": mesh.signed_volume,
        "area": float(mesh.face_areas.sum()),
        "radius": bounding_radius(mesh),
        "components": topology.num_components,
        "genus": topology.genus,
        "extra_pieces": frame.num_extra,
        "vertices": len(mesh.vertices),
        "faces": len(mesh.faces),
        "worst_angle": triangles.worst_angle,
        "good_triangles": triangles.good_share,
        "self_intersections": triangles.self_intersections,
        "travel_mean": mean,
        "travel_max": largest,
        "removed": [
            {"share": piece.share, "center": list(piece.center), "is_cavity": piece.is_cavity}
            for piece in frame.removed
        ],
    }


def displacement_between(before: Mesh, after: Mesh) -> tuple[float, float]:
    """Return the mean and the largest distance between two surfaces, in their unit of length.

    The mean is weighted by area and averaged over both directions.

    >>> from sdfnet.fields.primitives import Sphere
    >>> from sdfnet.extraction.extract import extract_mesh
    >>> small, large = (extract_mesh(Sphere(r), resolution=64) for r in (0.5, 0.6))
    >>> [round(travel, 3) for travel in displacement_between(small, large)]
    [0.1, 0.1]
    """
    ways = [(before, MeshDistance(after)), (after, MeshDistance(before))]
    found = [(other.unsigned(mesh.vertices).distance, vertex_areas(mesh)) for mesh, other in ways]
    means = [float((distances * areas).sum() / areas.sum()) for distances, areas in found]
    return sum(means) / 2, max(float(distances.max()) for distances, _ in found)


def vertex_areas(mesh: Mesh) -> FloatArray:
    """Return a third of the area of the faces around each vertex, (V,)."""
    return sum_at_vertices(mesh.faces, mesh.face_areas[:, None] / 3, len(mesh.vertices))[:, 0]


def make_report(plan: MorphPlan, sequence: MorphSequence) -> dict[str, Any]:
    """Return the report of a finished morph."""
    frames, config = sequence.frames, sequence.config
    radius = (frames[0].measures["radius"] + frames[-1].measures["radius"]) / 2
    closing = []
    if config.playback == "loop":
        moved = displacement_between(sequence.mesh(len(frames) - 1), _key_mesh(plan, sequence, 0))
        closing = [100 * length / radius for length in moved]
    rows = []
    for frame in frames:
        lengths = {name: frame.measures[name] for name in ("travel_mean", "travel_max")}
        lengths["planned_travel"] = frame.displacement
        percents = {name: None if length is None else 100 * length / radius for name, length in lengths.items()}
        rows.append({"index": frame.index, "time": frame.time, "shape": frame.shape, **frame.measures, **percents})
    tracked = None
    if config.tracked:
        deviations = [frame.deviation for frame in frames if frame.deviation]
        tracked = {
            "pieces": len({frame.piece for frame in frames if frame.piece is not None}) or len(frames),
            "cuts": [{"frame": frame.index, "reason": frame.cut} for frame in frames if frame.cut],
            "strays": [{**each, "farthest": 100 * each["farthest"] / UNIT_RADIUS} for each in deviations],
        }
    return {
        "format": REPORT_FORMAT,
        "shapes": [frame.shape for frame in frames if frame.shape],
        "units": {
            "length": "world" if config.frame == "world" else "unit frame",
            "travel": "percent of `radius`, from the frame before: distance between the two meshes as they are written",
            "planned_travel": "percent of `radius`, from the frame before: mean of |df/dt| / |grad f| over the surface "
            "without the way over the ground; null unless pace=surface",
            "share": "of the volume",
            "worst_angle": "degrees",
        },
        "radius": radius,
        "summary": _summary(rows, closing),
        "tracked": tracked,
        "ends": [_end(plan, sequence, index) for index in (plan.key_indices[0], plan.key_indices[-1])],
        "frames": rows,
    }


def _key_mesh(plan: MorphPlan, sequence: MorphSequence, index: int) -> Mesh:
    """Return the mesh of a frame that is a shape, exactly as it was written."""
    frame = sequence.frames[index]
    return sequence.mesh(index) if frame.stored else plan.key_shapes[frame.shape].mesh


def _summary(rows: Sequence[dict[str, Any]], closing: list[float]) -> dict[str, Any]:
    """Return the most important numbers. `closing` holds the mean and the largest travel that close a loop."""
    means = [row["travel_mean"] for row in rows[1:]] + closing[:1]
    largest = [row["travel_max"] for row in rows[1:]] + closing[1:]
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
        "travel_closing": closing or None,
        "pace": _evenness(means),
        "planned_pace": _evenness(planned) if planned else None,
        "worst_angle": {"degrees": worst["worst_angle"], "frame": worst["index"]},
        "good_triangles": min(row["good_triangles"] for row in rows),
        "self_intersections": sum(row["self_intersections"] for row in rows),
        "removed": {"frames": len(dirty), "pieces": len(shares), "largest": max(shares, default=0.0)},
        "frames_with_extra_pieces": [row["index"] for row in rows if row["extra_pieces"]],
    }


def _evenness(displacements: Sequence[float]) -> dict[str, float | None]:
    """Return the smallest and the largest displacement, and their ratio; the ratio is None if the smallest is 0."""
    smallest, largest = min(displacements), max(displacements)
    return {"smallest": smallest, "largest": largest, "ratio": largest / smallest if smallest > 0 else None}


def _end(plan: MorphPlan, sequence: MorphSequence, index: int) -> dict[str, Any]:
    """Return the distance of one end from its source mesh, in percent of its radius, or the reason for no value."""
    frame = sequence.frames[index]
    shape = plan.run.shape(frame.shape)
    told: dict[str, Any] = {"frame": index, "shape": frame.shape, "source": shape.source, "distance": None}
    path = Path(shape.source)
    if not shape.source:
        return told | {"absent": "a mix has no source"}
    if not path.is_file():
        return told | {"absent": "the source is not there any more"}
    try:
        source = load_shape(path, name=frame.shape, rule=shape.rule)
        if shape.content_hash not in ("", source.content_hash):
            return told | {"absent": "the source has changed since training"}
        surface = source_surface(source, shape.similarity)
        made = Surface.of(_key_mesh(plan, sequence, index).to_unit(frame.similarity))
        match = match_surfaces(made, surface, num_points=_NUM_POINTS, generator=torch.Generator().manual_seed(0))
        distance = distances_of(match)
    except (ValueError, OSError) as error:
        return told | {"absent": f"the source cannot be measured against: {error}"}
    return told | {"distance": {"mean": distance.mean, "p95": distance.p95, "max": distance.max}}


def save_morph_report(report: dict[str, Any], out: Path) -> None:
    """Write `report` as `morph.json` and its curves as `morph.png` into `out`. The same report gives the same bytes."""
    from matplotlib.figure import Figure

    write_json(out / REPORT_FILE, report)
    rows = report["frames"]
    figure = Figure(figsize=_SIZE, dpi=_DPI, layout="constrained")
    axes = figure.subplots(5, 1, sharex=True)
    _draw_curves(axes, rows, report["summary"])
    for axis in axes:
        axis.grid(alpha=0.25)
        for spine in ("top", "right"):
            axis.spines[spine].set_visible(False)
        for row in rows:
            if row["shape"]:
                axis.axvline(row["index"], color=_MARK, linewidth=0.8, linestyle=":")
        if axis.get_legend_handles_labels()[0]:
            axis.legend(loc="best", fontsize=8, frameon=False)
    named = [row for row in rows if row["shape"]]
    for row in named[:: -(-len(named) // 8)]:  # as many names as fit
        axes[0].annotate(
            row["shape"] if len(row["shape"]) <= 20 else row["shape"][:9] + "…" + row["shape"][-9:],
            (row["index"], 1.02),
            xycoords=("data", "axes fraction"),
            ha="left" if row is named[0] else "right" if row is named[-1] else "center",
            fontsize=8,
        )
    axes[-1].set_xlabel("frame")
    with atomic_path(out / PLOT_FILE) as temporary:
        figure.savefig(temporary, metadata={"Software": None})


def _draw_curves(axes: Any, rows: list[dict[str, Any]], summary: dict[str, Any]) -> None:
    """Draw volume and area, mean travel, largest travel, topology and triangles, each on one of the five `axes`."""
    size, travel, farthest, topology, triangles = axes
    at = [row["index"] for row in rows]
    for name, color in (("volume", _LINE), ("area", _OTHER)):
        size.plot(at, [row[name] / rows[0][name] for row in rows], color=color, label=name)
    size.set_ylabel("of the first frame's")

    drawn = [("pace", "travel_mean", _LINE, "between meshes")]
    if summary["planned_pace"] is not None:
        drawn.append(("planned_pace", "planned_travel", _OTHER, "of the surface, as planned"))
    for pace, name, color, label in drawn:
        ratio = summary[pace]["ratio"]
        evenness = "" if ratio is None else f" (largest / smallest: {ratio:.2f})"
        travel.plot(at[1:], [row[name] for row in rows[1:]], color=color, label=label + evenness)
    farthest.plot(at[1:], [row["travel_max"] for row in rows[1:]], color=_OTHER)
    for axis, measure in ((travel, "mean"), (farthest, "largest")):
        axis.set_ylabel(f"{measure} travel, % of radius")
        axis.set_ylim(0, 1.1 * axis.get_ylim()[1])

    topology.step(at, [row["components"] for row in rows], where="mid", color=_LINE, label="components")
    genus = [float("nan") if row["genus"] is None else row["genus"] for row in rows]
    topology.step(at, genus, where="mid", color=_OTHER, label="genus")
    removed = [len(row["removed"]) for row in rows]
    if any(removed):
        topology.bar(at, removed, color=_MARK, alpha=0.5, label="pieces removed")
    topology.set_ylabel("count")
    topology.yaxis.get_major_locator().set_params(integer=True)

    angle, crossings = summary["worst_angle"]["degrees"], summary["self_intersections"]
    label = f"smallest angle {angle:.2g}°, {crossings} self-intersections"
    triangles.plot(at, [100 * row["good_triangles"] for row in rows], color=_LINE, label=label)
    triangles.set_ylabel(f"triangles above {POOR_ANGLE:.0f}°, %")
    triangles.set_ylim(0, 105)
