"""The report of a morph as one picture: curves over time, with the shapes marked. matplotlib is imported here only."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from sdfnet.files import atomic_path
from sdfnet.mesh.quality import POOR_ANGLE

PLOT_FILE = "morph.png"

_SIZE = (9.0, 10.5)  # inches
_DPI = 110
_LINE, _OTHER, _MARK = "#2f6db5", "#c9622d", "#9aa0a8"


def save_plot(report: dict[str, Any], out: Path) -> None:
    """Draw `report` as `morph.png` in `out`: the same report gives the same bytes."""
    from matplotlib.figure import Figure

    rows = report["frames"]
    figure = Figure(figsize=_SIZE, dpi=_DPI, layout="constrained")
    axes = figure.subplots(len(_PANELS), 1, sharex=True)
    at = [row["index"] for row in rows]
    for axis, draw in zip(axes, _PANELS, strict=True):
        draw(axis, at, rows, report)
        axis.grid(alpha=0.25)
        for spine in ("top", "right"):
            axis.spines[spine].set_visible(False)
        for row in rows:
            if row["shape"]:
                axis.axvline(row["index"], color=_MARK, linewidth=0.8, linestyle=":")
        if axis.get_legend_handles_labels()[0]:
            axis.legend(loc="best", fontsize=8, frameon=False)
    _name_shapes(axes[0], rows)
    axes[-1].set_xlabel("frame")
    with atomic_path(out / PLOT_FILE) as temporary:
        figure.savefig(temporary, metadata={"Software": None})


def _name_shapes(axis: Any, rows: list[dict[str, Any]]) -> None:
    """Write the names of the shapes above the topmost panel, as many as fit."""
    named = [row for row in rows if row["shape"]]
    step = -(-len(named) // 8)
    for row in named[::step]:
        name = row["shape"] if len(row["shape"]) <= 20 else row["shape"][:9] + "…" + row["shape"][-9:]
        axis.annotate(
            name,
            (row["index"], 1.02),
            xycoords=("data", "axes fraction"),
            ha="left" if row is named[0] else "right" if row is named[-1] else "center",
            fontsize=8,
        )


def _volume(axis: Any, at: list[int], rows: list[dict[str, Any]], report: dict[str, Any]) -> None:
    for name, color in (("volume", _LINE), ("area", _OTHER)):
        first = rows[0][name]
        axis.plot(at, [row[name] / first for row in rows], color=color, label=name)
    axis.set_ylabel("of the first frame's")


def _travel(axis: Any, at: list[int], rows: list[dict[str, Any]], report: dict[str, Any]) -> None:
    drawn = [("pace", "travel_mean", _LINE, "between meshes")]
    if report["summary"]["planned_pace"] is not None:
        drawn.append(("planned_pace", "planned_travel", _OTHER, "of the surface, as planned"))
    for pace, name, color, label in drawn:
        ratio = report["summary"][pace]["ratio"]
        evenness = "" if ratio is None else f" (largest / smallest: {ratio:.2f})"
        axis.plot(at[1:], [row[name] for row in rows[1:]], color=color, label=label + evenness)
    axis.set_ylabel("mean travel, % of radius")
    axis.set_ylim(0, 1.1 * axis.get_ylim()[1])


def _farthest(axis: Any, at: list[int], rows: list[dict[str, Any]], report: dict[str, Any]) -> None:
    axis.plot(at[1:], [row["travel_max"] for row in rows[1:]], color=_OTHER)
    axis.set_ylabel("largest travel, % of radius")
    axis.set_ylim(0, 1.1 * axis.get_ylim()[1])


def _topology(axis: Any, at: list[int], rows: list[dict[str, Any]], report: dict[str, Any]) -> None:
    axis.step(at, [row["components"] for row in rows], where="mid", color=_LINE, label="components")
    genus = [float("nan") if row["genus"] is None else row["genus"] for row in rows]
    axis.step(at, genus, where="mid", color=_OTHER, label="genus")
    removed = [len(row["removed"]) for row in rows]
    if any(removed):
        axis.bar(at, removed, color=_MARK, alpha=0.5, label="pieces removed")
    axis.set_ylabel("count")
    axis.yaxis.get_major_locator().set_params(integer=True)


def _triangles(axis: Any, at: list[int], rows: list[dict[str, Any]], report: dict[str, Any]) -> None:
    summary = report["summary"]
    label = (
        f"smallest angle {summary['worst_angle']['degrees']:.2g}°, {summary['self_intersections']} self-intersections"
    )
    axis.plot(at, [100 * row["good_triangles"] for row in rows], color=_LINE, label=label)
    axis.set_ylabel(f"triangles above {POOR_ANGLE:.0f}°, %")
    axis.set_ylim(0, 105)


_PANELS: tuple[Callable[[Any, list[int], list[dict[str, Any]], dict[str, Any]], None], ...] = (
    _volume,
    _travel,
    _farthest,
    _topology,
    _triangles,
)
