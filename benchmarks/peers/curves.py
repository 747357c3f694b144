"""The table and the plot of quality against time, from the results of `deepsdf`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

PEER, OURS = "DeepSDF's network and loss", "sdfnet"


def first_to_reach(rows: Sequence[dict[str, Any]], goal: float) -> dict[str, Any] | None:
    """Return the quickest of `rows` whose mean surface distance is at most `goal`."""
    reached = [row for row in rows if row["mean"] <= goal]
    return min(reached, key=lambda row: row["seconds"]) if reached else None


def format_curves(result: dict[str, Any]) -> str:
    """Return the results as Markdown: machine, one table, and how much sooner the same distance is reached."""
    floor = result["floor"]
    lines = [
        f"{result['machine']}, {result['threads']} threads; {result['versions']}; DeepSDF at {result['checkout']}, "
        f"{result['batch']} points a step.",
        "",
        "| what | time | steps | mean surface distance % | p95 % | surface error % | signs right % |",
        "|---|---|---|---|---|---|---|",
        f"| floor of extraction | | | {floor['mean']:.4f} | {floor['p95']:.4f} | | |",
    ]
    for label, rows in ((PEER, result["peer"]), (OURS, result["ours"])):
        for row in rows:
            mean, p95 = (_number(row[key]) for key in ("mean", "p95"))
            failed = f" ({row['num_failed']} without a surface)" if row["num_failed"] else ""
            lines.append(
                f"| {label} | {_duration(row['seconds'])} | {row['steps']:,.0f} | {mean}{failed} | {p95} "
                f"| {row['surface_error']:.4f} | {row['signs_right']:.2f} |"
            )
    return "\n".join([*lines, "", _verdict(result)]) + "\n"


def _verdict(result: dict[str, Any]) -> str:
    last = result["peer"][-1]
    reached = first_to_reach(result["ours"], last["mean"])
    if reached is None:
        return f"After {_duration(last['seconds'])}: {_number(last['mean'])} %, which no run of ours reached."
    return (
        f"What {PEER} reach in {_duration(last['seconds'])} ({last['mean']:.4f} %), sdfnet reaches within "
        f"{reached['seconds']:.1f} s from process start ({reached['mean']:.4f} %): "
        f"1/{last['seconds'] / reached['seconds']:.0f} of the time."
    )


def draw_curves(result: dict[str, Any], path: Path) -> None:
    """Draw surface distance and near-surface signs against time, both logarithmic."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    for rows, label, color, marker in (
        (result["peer"], PEER, "#b5651d", "s"),
        (result["ours"], f"{OURS} (each point a run, from process start)", "#1f6f8b", "o"),
    ):
        seconds = [row["seconds"] for row in rows]
        left.loglog(seconds, [row["mean"] for row in rows], marker=marker, color=color, label=label)
        right.loglog(seconds, [100 - row["signs_right"] for row in rows], marker=marker, color=color, label=label)
    left.axhline(result["floor"]["mean"], color="0.5", linestyle=":", label="floor of extraction")
    left.set_ylabel("mean surface distance, % of the radius")
    right.set_ylabel("wrong signs near the surface, %")
    for axes in (left, right):
        axes.set_xlabel("time")
        ticks = (5, 10, 30, 60, 180, 600, 1800)
        axes.set_xticks(ticks, [_duration(tick) for tick in ticks])
        axes.minorticks_off()
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    left.legend(frameon=False, fontsize=9)
    figure.savefig(path, dpi=150)
    pyplot.close(figure)


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.1f} s" if seconds < 20 and seconds % 1 else f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if round(seconds) % 60 else f"{seconds / 60:.0f} min"


def _number(value: float) -> str:
    return "none" if math.isnan(value) else f"{value:.4f}"
