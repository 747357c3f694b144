"""Measure tracked morphs: how well meshes are carried between learned shapes, and along motions whose map is known.

    python benchmarks/tracking.py pairs runs/bodies --resolution 192 --pairs 10
    python benchmarks/tracking.py pairs runs/chairs --resolution 96 --pairs 20
    python benchmarks/tracking.py maps
    python benchmarks/tracking.py families --data DIR --keep FOLDER
    python benchmarks/tracking.py corresponding --data DIR --keep FOLDER --pairs 6
    python benchmarks/tracking.py changes runs/chairs runs/letters --pairs 10 --frames 25

Distances are percent of the unit frame's radius, 1/1.03. `off` is the distance of vertices to their frame's own surface
(value over slope of the field); `turned` counts triangles that face against the field's gradient at all three corners,
summed over frames; `cut by shape` counts cuts where no topology changes. `maps` moves analytic fields by known maps
and compares the carried vertices, and nearest points between the end meshes, with where the map takes them. `families`
and `corresponding` do the same with shapes that they learn first, into FOLDER (`tracking_learned`). `changes` counts
changes of topology that were missed, and false cuts (`tracking_changes`). Pairs of a run with a template have a row
`template` too: the mesh of the template in all frames.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from tracking_changes import print_changes
from tracking_learned import print_corresponding, print_families
from tracking_maps import FAMILIES, print_map, print_unseen

from sdfnet.correspondence.template_track import track_template
from sdfnet.correspondence.track import TrackConfig, TrackedMorph, track_surface
from sdfnet.correspondence.tracked_mesh import inverted_triangles, values_and_gradients
from sdfnet.evaluation.metrics import surface_distance
from sdfnet.extraction import extract_mesh
from sdfnet.fields import Field
from sdfnet.fields.adaptors import NeuralField
from sdfnet.geometry.similarity import UNIT_RADIUS
from sdfnet.mesh.quality import smallest_angles
from sdfnet.runs import Run, load_run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["pairs", "maps", "families", "corresponding", "changes"])
    parser.add_argument("runs", type=Path, nargs="*")
    parser.add_argument("--pairs", type=int, default=10)
    parser.add_argument("--frames", type=int, help="of each morph: 60, with known maps 33, to look for changes 25")
    parser.add_argument("--resolution", type=int, help="192 for pairs, else 96")
    parser.add_argument("--data", type=Path, help="folder of real meshes: bodies/, bodies_corresponding/")
    parser.add_argument("--keep", type=Path, help="folder for the meshes and runs of families; what is there is used")
    parser.add_argument("--steps", type=int, help="of training: 400 for a family, 5000 for corresponding bodies")
    parser.add_argument("--decoder", default="volume", help="of what is learned: volume or template")
    parser.add_argument("--only", default="", help="families with this in their name")
    parser.add_argument("--paths", nargs="+", default=["linear", "direct"], help="of families; also spline, natural")
    arguments = parser.parse_args()
    if arguments.what == "maps":
        for name, family in FAMILIES.items():
            print_map(name, *family)
        print_unseen()
    elif arguments.what in ("families", "corresponding"):
        print_learned(arguments)
    for path in arguments.runs:
        run = load_run(path)
        if arguments.what == "changes":
            frames, resolution = arguments.frames or 25, arguments.resolution or 96
            print_changes(run, pairs=arguments.pairs, frames=frames, resolution=resolution)
        elif arguments.what == "pairs":
            print_pairs(run, arguments.pairs, arguments.frames or 60, arguments.resolution or 192)


def print_learned(arguments: argparse.Namespace) -> None:
    if arguments.data is None or arguments.keep is None:
        raise SystemExit(f"{arguments.what} needs --data DIR and --keep FOLDER")
    size = {"frames": arguments.frames or 33, "resolution": arguments.resolution or 96}
    if arguments.what == "families":
        steps = arguments.steps or 400
        choice = {"only": arguments.only, "steps": steps, "paths": arguments.paths, "decoder": arguments.decoder}
        print_families(arguments.data, arguments.keep, **choice, **size)
    else:
        print_corresponding(
            arguments.data,
            arguments.keep,
            steps=arguments.steps or 5000,
            pairs=arguments.pairs,
            decoder=arguments.decoder,
            **size,
        )


def print_pairs(run: Run, count: int, frames: int, resolution: int) -> None:
    pairs = list(itertools.combinations(run.names, 2))
    chosen = np.random.default_rng(0).permutation(len(pairs))[:count]
    print(f"{'pair':24} {'faces':>6} {'CPU s':>6} {'pieces':>6} {'cut by shape':>12} {'off mean, max %':>18} "
          f"{'turned':>6} {'over 10 deg %':>13} {'ends %':>14}")  # fmt: skip
    for number in chosen.tolist():
        print_pair(run, pairs[number], frames, resolution)


def print_pair(run: Run, pair: tuple[str, str], frames: int, resolution: int) -> None:
    first, last = (run.latent(name) for name in pair)

    def field_at(at: float) -> Field:
        return NeuralField(run.decoder, (1 - at) * first + at * last)

    times = np.linspace(0, 1, frames)
    fine = [extract_mesh(field_at(times[frame]), resolution=2 * resolution) for frame in (0, frames - 1)]
    codes = [(1 - at) * first + at * last for at in times.tolist()]
    for on_change in (*(["template"] if run.decoder.has_template else []), "cut", "keep"):
        started = time.process_time()
        if on_change == "template":
            spread = partial(_spread, field_at, len(times) - 1)
            morph = track_template(run.decoder, codes, spread, config=TrackConfig(resolution=resolution))
        else:
            morph = track_surface(field_at, times, config=TrackConfig(resolution=resolution, on_change=on_change))
        seconds = time.process_time() - started
        off, turned, even = measure_frames(morph, field_at, times)
        ends = [
            surface_distance(morph.mesh(frame), mesh, generator=torch.Generator().manual_seed(0)).mean
            for frame, mesh in zip((0, frames - 1), fine, strict=True)
        ]
        by_shape = sum(not cut.topology for cut in morph.cuts)
        print(f"{' '.join(pair) + ' ' + on_change:24} {len(morph.segments[0].faces):6} {seconds:6.1f} "
              f"{len(morph.segments):6} {by_shape:12} {off.mean():8.5f} {off.max():9.4f} {turned:6} {even:13.2f} "
              f"{ends[0]:6.3f} {ends[1]:6.3f}")  # fmt: skip
        for cut in morph.cuts:
            print(f"    after frame {cut.frame}, {cut.time:.3f}: {cut.reason}")
        if morph.deviations:
            names = ("num_vertices", "largest_distance", "uncovered_share")
            worst = [max(getattr(deviation, name) for deviation in morph.deviations) for name in names]
            print(f"    off the surface in {len(morph.deviations)} frames: up to {worst[0]} vertices, "
                  f"{100 * worst[1] / UNIT_RADIUS:.3f} %; not covered {100 * worst[2]:.3f} %")  # fmt: skip


def _spread(field_at: Callable[[float], Field], last: int, frame: float) -> Field:
    return field_at(frame / last)


def measure_frames(
    morph: TrackedMorph, field_at: Callable[[float], Field], times: np.ndarray
) -> tuple[np.ndarray, int, float]:
    """Return the distances of all vertices of tracked frames, percent, the triangles turned over, the share over 10°.

    Pieces of a single frame are extractions and left out. Normals are the field's; where a kept mesh has no surface to
    be on, its own.
    """
    off, turned, angles = [np.zeros(1)], 0, [np.full(1, 60.0)]
    for piece in morph.segments:
        for frame in range(piece.first_frame, piece.last_frame + 1) if piece.last_frame > piece.first_frame else ():
            mesh = piece.mesh(frame)
            values, slopes = values_and_gradients(field_at(times[frame]), mesh.vertices)
            steep = np.linalg.norm(slopes, axis=1)
            off.append(100 * np.abs(values) / np.maximum(steep, 0.1) / UNIT_RADIUS)
            turned += int(inverted_triangles(mesh.vertices, mesh.faces, mesh.vertex_normals).sum())
            angles.append(smallest_angles(mesh.vertices, mesh.faces))
    return np.concatenate(off), turned, 100 * float((np.concatenate(angles) > 10).mean())


if __name__ == "__main__":
    main()
