"""`sdfnet morph`: a sequence of meshes, and a film, that turns one learned shape into others; or of a scene.

Examples:

    sdfnet morph run=runs/chairs 'shapes=[chair_01,chair_07,chair_12]' frames=60 out=morph
    sdfnet morph run=runs/chairs 'shapes=[chair_0*]' playback=loop path=spline 'format=[glb,gif]' out=loop
    sdfnet morph scene=bracket.yaml 'key_sets=[{width: 20}, {width: 60, hole: 8}]' 'format=[glb,html]'
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sdfnet.cli.commands.keys import find_device
from sdfnet.cli.commands.scene_keys import SceneKeys
from sdfnet.cli.hydra_app.command import Command, UsageError
from sdfnet.cli.hydra_app.output import say, say_where
from sdfnet.cli.hydra_app.schema import flat
from sdfnet.morphs.morph import make_morph
from sdfnet.morphs.plan import MorphConfig
from sdfnet.runs import load_run
from sdfnet.scenes import morph_scene

_CUTS_TOLD = 3
"""More than these stand in the report."""


@dataclass(frozen=True, kw_only=True)
class MorphCommand(SceneKeys):
    """The keys of `sdfnet morph`.

    Attributes
    ----------
    run : path
        A run directory, as train writes it; or null, and scene is morphed.
    shapes : names
        The shapes to pass through, in order: a list of two or more names, globs, mixes such as a - b + c, words.
    key_sets : list
        Of a scene, the sets of values to pass through, such as [{width: 20}, {width: 60, hole: 8}].
    out : path
        Where sequence, manifest, films and contact sheet go; null is morph/ inside the run, or beside the scene file.
    device : text
        auto, cpu, cuda, cuda:1 or mps.
    overwrite : true or false
        Whether to replace another morph that is in out. The same morph is continued.
    """

    run: Path | None = None
    shapes: str | tuple[str, ...] = ()
    key_sets: tuple[dict[str, float], ...] = ()
    out: Path | None = None
    device: str = "auto"
    overwrite: bool = False
    morph: MorphConfig = flat(MorphConfig)

    def __post_init__(self) -> None:
        self.check_one_source(("run",))
        for name, source in (("shapes", "run"), ("key_sets", "scene")):
            if bool(getattr(self, name)) != (getattr(self, source) is not None):
                told = "must be given with" if not getattr(self, name) else "belongs to"
                raise UsageError(f"{name} {told} {source}=: {name}=… lists what the morph passes through")

    @property
    def folder(self) -> Path:
        return self.out or (self.run or self.scene_folder) / "morph"


def run_morph_scene(command: MorphCommand) -> None:
    """Write the morph of a scene."""
    scene, values = command.load_scene()
    files = morph_scene(
        scene,
        command.key_sets,
        command.folder,
        values=values,
        config=command.morph,
        overwrite=command.overwrite,
        device=find_device(command.device),
        progress=True,
    )
    films = [path for path in files if path.stem == "morph"]
    say(f"{command.morph.frames} frames, each with faces of its own: manifest.json, {files[-1].name}")
    for film in films:
        say(f"file: {film}")
    say_where(command.folder)


def run_morph(command: MorphCommand) -> None:
    """Write the morph and print the main facts of its report."""
    if command.scene is not None:
        run_morph_scene(command)
        return
    assert command.run is not None
    result = make_morph(
        load_run(command.run, device=find_device(command.device)),
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
    if command.scene is not None:
        return f"What was written so far is in {command.folder}; the same command starts anew."
    kept = f"Finished frames are kept in {command.folder}; the same command goes on"
    return f"{kept}, but tracks all anew: a motion is kept only as frames." if command.morph.tracked else f"{kept}."


COMMAND = Command("morph", MorphCommand, run_morph, interrupted=_interrupted)
