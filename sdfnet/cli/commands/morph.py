"""`sdfnet morph`: a sequence of meshes, and a film, that turns one learned shape into others.

Examples:

    sdfnet morph run=runs/chairs 'shapes=[chair_01,chair_07,chair_12]' frames=60 out=morph
    sdfnet morph run=runs/chairs 'shapes=[chair_0*]' playback=loop path=spline 'format=[glb,gif]' out=loop
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from typing import Any

from sdfnet.cli.commands.keys import RunKeys
from sdfnet.cli.hydra_app.command import Command
from sdfnet.cli.hydra_app.output import say, say_where
from sdfnet.cli.hydra_app.schema import flat
from sdfnet.morphs.morph import make_morph
from sdfnet.morphs.plan import MorphConfig

_CUTS_TOLD = 3
"""More than these stand in the report."""


@dataclass(frozen=True, kw_only=True)
class MorphCommand(RunKeys):
    """The keys of `sdfnet morph`.

    Attributes
    ----------
    shapes : names
        The shapes to pass through, in order: a list of two or more names, globs and mixes such as a - b + c.
    out : path
        Where the sequence, manifest.json, morph.json, films and contact_sheet.png go; null is morph/ inside the run.
    overwrite : true or false
        Whether to replace another morph that is in out. The same morph is continued.
    """

    inside = "morph"
    shapes: str | tuple[str, ...] = field()
    overwrite: bool = False
    morph: MorphConfig = flat(MorphConfig)


def run_morph(command: MorphCommand) -> None:
    """Write the morph and print the main facts of its report."""
    result = make_morph(
        command.load(),
        command.shapes,
        command.folder,
        config=command.morph,
        overwrite=command.overwrite,
        progress=True,
    )
    there = f" ({result.num_skipped} were there already)" if result.num_skipped else ""
    say(f"{result.num_frames} frames{there}: {result.manifest.name}, {result.sheet.name}, {result.report.name}")
    for film in result.films:
        say(f"file: {film}")
    for line in _told(json.loads(result.report.read_text(encoding="utf-8"))):
        say(line)
    say_where(command.folder)


def cuts_told(num_pieces: int, cuts: list[dict[str, Any]]) -> str:
    """Return where a tracked morph is cut, the first few places in words."""
    if not cuts:
        return "tracked: one mesh throughout"
    places = [f"before frame {cut['frame']} ({cut['reason'].split(';')[0]})" for cut in cuts[:_CUTS_TOLD]]
    more = f", and {len(cuts) - _CUTS_TOLD} more in morph.json" if len(cuts) > _CUTS_TOLD else ""
    what = f"{num_pieces} pieces, a new one starts"
    if num_pieces > len(cuts) + 1:
        what = f"{num_pieces} meshes, faces of their own for every frame, since a new one would start"
    return f"tracked: {what} {'; '.join(places)}{more}"


def _strays_told(strays: list[dict[str, Any]]) -> list[str]:
    """Return how far a mesh that was kept is off the surface, in a line if it is."""
    if not strays:
        return []
    vertices, farthest, bare = (max(stray[name] for stray in strays) for name in ("vertices", "farthest", "bare"))
    off = f"up to {vertices} vertices are off it, by {readable(farthest)} % of the radius at most"
    uncovered = f"{readable(100 * bare)} % of the surface has no mesh near it"
    return [f"kept through changes of topology in {len(strays)} frames: {off}; {uncovered}"]


def readable(value: float) -> str:
    """Return two digits that count, without exponent and to four decimals at most: 0.012, 1.2, 196."""
    decimals = 1 - math.floor(math.log10(value)) if value > 0 else 0
    return f"{value:.{min(max(decimals, 0), 4)}f}"


def _pace_told(summary: dict[str, Any]) -> list[str]:
    """Return how far the surface goes from frame to frame: as planned, where it was, and between the meshes."""
    planned, ratio, lines = summary["planned_pace"], summary["pace"]["ratio"], []
    if planned is not None:
        told = "" if planned["ratio"] is None else f", largest over smallest {planned['ratio']:.2f}"
        each = f"{readable(planned['smallest'])} to {readable(planned['largest'])} % of the radius"
        lines.append(f"pace, mean travel of the surface from frame to frame: {each}{told}")
    travel = f"mean {readable(summary['travel_mean'])} %, largest {readable(summary['travel_max'])} % of the radius"
    told = "" if ratio is None else f"; largest over smallest mean {ratio:.2f}"
    return [*lines, f"distance between consecutive meshes: {travel}{told}"]


def _told(report: dict[str, Any]) -> list[str]:
    """Return the main facts of a report."""
    summary, lines = report["summary"], []
    if report["tracked"] is not None:
        lines.append(cuts_told(report["tracked"]["pieces"], report["tracked"]["cuts"]))
        lines += _strays_told(report["tracked"]["strays"])
    removed = summary["removed"]
    if removed["pieces"]:
        largest = f"the largest {readable(100 * removed['largest'])} % of the volume"
        lines.append(f"loose pieces left out: {removed['pieces']} in {removed['frames']} frames, {largest}")
    if summary["frames_with_extra_pieces"]:
        lines.append(f"frames with more large pieces than the shapes: {len(summary['frames_with_extra_pieces'])}")
    return [*lines, *_pace_told(summary)]


def _interrupted(command: MorphCommand) -> str:
    kept = f"Finished frames are kept in {command.folder}; the same command goes on"
    return f"{kept}, but tracks all anew: a motion is kept only as frames." if command.morph.tracked else f"{kept}."


COMMAND = Command("morph", MorphCommand, run_morph, interrupted=_interrupted)
