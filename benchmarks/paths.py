"""Compare paths between shapes of a run: travel, spikes of volume and area, loose pieces; or how even paces are.

    python benchmarks/paths.py runs/chairs                      # 20 pairs; linear, spherical, geodesic
    python benchmarks/paths.py runs/bodies --pairs 5 --pace     # instead: pace=code and pace=surface, linear paths

Spikes are the largest deviation of volume and area from the line between those of the two ends, in percent of their
mean, over `--frames` frames. Loose pieces are all but the largest, half-way at `--resolution`: how many beyond those of
the end with more, their volume in percent of the whole, and how many pairs have one above 0.01 %. Travel is the mean
normal travel of the surface over the whole way, unit frame.

With `--pace`: the largest over the smallest mean travel between consecutive frames of a morph of 60, unit frame, by
three measures, none of which has points or code in common with what planned the frames. Meshes are extracted at 160:
at 80 half-way chairs lack a tenth of their area, which is spindles, and the mean is over another surface.

- formula: |∂f/∂t| / |∇f| half-way through the step, averaged by area over a mesh.
- swept: the volume that is inside one of two consecutive frames and outside the other, over their mean area. Where the
  surface crosses no place twice within a step this is the same integral, without a gradient to divide by. Random
  points, some 10,000 of which change sides in a step: good to 1 %, which alone makes a ratio of about 1.05.
- nearest: what `morph.json` reports, distances between consecutive meshes, here with all their loose pieces. Where a
  piece comes or goes that is how far it is from all else, not how far the surface moves, and it jumps.
"""

from __future__ import annotations

import argparse
import itertools
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sdfnet.extraction import extract_mesh, project_to_level
from sdfnet.fields import Field, NeuralField, evaluate, gradient
from sdfnet.latents.arc_length import surface_displacements
from sdfnet.mesh.components import nest_components
from sdfnet.mesh.mesh import Mesh
from sdfnet.morphs import MorphConfig, plan_frames
from sdfnet.morphs.report import displacement_between
from sdfnet.morphs.store import MorphFrame
from sdfnet.runs import Run, load_run

CHUNK = 4096
POINTS_A_CELL = 3
FACES_APART = 5


@dataclass(frozen=True)
class PathFigures:
    """What one path between one pair is like; see the head of this file."""

    travel: float
    volume_spike: float
    area_spike: float
    extra_pieces: int
    loose_percent: float
    largest_percent: float
    seconds: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--paths", nargs="+", default=["linear", "spherical", "geodesic"])
    parser.add_argument("--resolution", type=int, default=128)
    parser.add_argument("--frames", type=int, default=17, help="odd, so that one is half-way")
    parser.add_argument("--pace", action="store_true", help="measure how even paces are instead")
    arguments = parser.parse_args()
    run = load_run(arguments.run)
    everything = list(itertools.combinations(run.names, 2))
    drawn = np.random.default_rng(0).choice(len(everything), size=min(arguments.pairs, len(everything)), replace=False)
    pairs = [everything[k] for k in drawn]
    if arguments.pace:
        compare_paces(run, pairs)
        return
    print(f"{'pair':32} {'path':10} {'travel':>7} {'volume':>8} {'area':>8} {'pieces':>6} {'loose':>9} {'seconds':>7}")
    results: dict[str, list[PathFigures]] = {path: [] for path in arguments.paths}
    for pair in pairs:
        for path in arguments.paths:
            figures = measure(run, pair, path, num_frames=arguments.frames, resolution=arguments.resolution)
            results[path].append(figures)
            show(" ".join(pair), path, figures)
    for path, several in results.items():
        means = np.mean([list(vars(figures).values()) for figures in several], axis=0)
        show(f"mean of {len(several)}", path, PathFigures(*means.tolist()))
        above = sum(figures.largest_percent > 0.01 for figures in several)
        spoiled = sum(figures.loose_percent > 1 for figures in several)
        print(f"{'':43} pairs with a loose piece above 0.01 %: {above}; with more than 1 % loose: {spoiled}")


def show(pair: str, path: str, figures: PathFigures) -> None:
    print(
        f"{pair:32} {path:10} {figures.travel:>7.4f} {figures.volume_spike:>6.2f} % {figures.area_spike:>6.2f} % "
        f"{figures.extra_pieces:>6.1f} {figures.loose_percent:>7.3f} % {figures.seconds:>7.1f}",
        flush=True,
    )


def measure(run: Run, pair: tuple[str, str], path: str, *, num_frames: int, resolution: int) -> PathFigures:
    config = MorphConfig(frames=num_frames, path=path, easing="linear", frame="unit")
    began = time.perf_counter()
    frames = plan_frames(run, pair, config=config)
    seconds = time.perf_counter() - began
    codes = torch.stack([frame.latent for frame in frames])
    travel = float(surface_displacements(run.decoder, codes, np.zeros((len(codes), 4))).sum())
    meshes = {index: extract(run, frames[index].latent, 96) for index in range(num_frames)}
    volumes = np.array([mesh.signed_volume for mesh in meshes.values()])
    areas = np.array([np.linalg.norm(mesh.face_crosses, axis=1).sum() / 2 for mesh in meshes.values()])
    ends = [len(piece_volumes(extract(run, frames[index].latent, resolution))) for index in (0, -1)]
    pieces = piece_volumes(extract(run, frames[num_frames // 2].latent, resolution))
    whole = pieces.sum()
    return PathFigures(
        travel,
        spike(volumes),
        spike(areas),
        max(0, len(pieces) - max(ends)),
        100 * float(pieces[1:].sum() / whole),
        100 * float(pieces[1] / whole) if len(pieces) > 1 else 0.0,
        seconds,
    )


def extract(run: Run, latent: Tensor, resolution: int) -> Mesh:
    return extract_mesh(NeuralField(run.decoder, latent), resolution=resolution, vertex_normals=False)


def spike(values: NDArray[np.float64]) -> float:
    line = np.linspace(values[0], values[-1], len(values))
    return 100 * float(np.abs(values - line).max() / line.mean())


def piece_volumes(mesh: Mesh) -> NDArray[np.float64]:
    """Return the absolute volume of each connected component of the mesh, the largest first."""
    return np.sort(np.abs(nest_components(mesh).volumes))[::-1]


def compare_paces(run: Run, pairs: list[tuple[str, str]]) -> None:
    """Print for each pair and pace how even the travel of 60 frames is, by each measure; see the head of this file."""
    print(f"{'pair':32} {'pace':8} {'formula':>8} {'swept':>8} {'nearest':>8}  planned in")
    for pair in pairs:
        for pace in ("code", "surface"):
            began = time.perf_counter()
            frames = plan_frames(run, pair, config=MorphConfig(frames=60, easing="linear", pace=pace, frame="unit"))
            seconds = time.perf_counter() - began
            travels = travels_of(run, frames)
            ratios = " ".join(f"{max(travel) / min(travel):>8.3f}" for travel in travels.values())
            print(f"{' '.join(pair):32} {pace:8} {ratios}  {seconds:.1f} s", flush=True)


def travels_of(run: Run, frames: list[MorphFrame], *, resolution: int = 160) -> dict[str, list[float]]:
    """Return the mean travel from each frame to the next by each measure."""
    travels: dict[str, list[float]] = {"formula": [], "swept": [], "nearest": []}
    generator = torch.Generator().manual_seed(0)
    latents = [frame.latent for frame in frames]
    meshes = [extract(run, latent, resolution) for latent in latents]
    for (start, end), (before, after) in zip(itertools.pairwise(latents), itertools.pairwise(meshes), strict=True):
        middle = torch.lerp(start, end, 0.5)
        travels["formula"].append(mean_speed(run, middle, end - start, extract(run, middle, resolution)))
        area = float(before.face_areas.sum() + after.face_areas.sum()) / 2
        volume = swept_volume(NeuralField(run.decoder, start), NeuralField(run.decoder, end), generator)
        travels["swept"].append(volume / area)
        travels["nearest"].append(displacement_between(before, after)[0])
    return travels


def mean_speed(run: Run, latent: Tensor, velocity: Tensor, mesh: Mesh) -> float:
    """Return the mean by area of |∂f/∂t| / |∇f| over the surface, whose code moves by `velocity` in a unit of time."""
    field = NeuralField(run.decoder, latent)
    faces = mesh.faces[::FACES_APART]
    points = torch.from_numpy(mesh.vertices[faces].mean(axis=1)).float()
    points = project_to_level(field, points, steps=3, reach=0.02, chunk_size=CHUNK)
    around = [NeuralField(run.decoder, latent + share * velocity) for share in (-0.2, 0.2)]
    behind, ahead = (evaluate(each, points, chunk_size=CHUNK) for each in around)
    speeds = (ahead - behind).abs() / 0.4 / gradient(field, points, chunk_size=CHUNK).norm(dim=-1).clamp_min(1e-3)
    # Where a part is thinner than the mesh's lattice some points reach no surface but a plateau: 0.3 % of a chair's.
    on_surface = evaluate(field, points, chunk_size=CHUNK).abs() < 1e-4
    return float(np.average(speeds.numpy(), weights=mesh.face_areas[::FACES_APART] * on_surface.numpy()))


def swept_volume(before: Field, after: Field, generator: torch.Generator) -> float:
    """Return the volume that is inside one of two fields and outside the other, by random points near the surfaces."""
    centers, spacing = lattice_of(16) * 2.1 / 16, 2.1 / 16
    for _ in range(4):
        spacing /= 2
        halves = spacing * lattice_of(2)
        centers = near_either(before, after, (centers[:, None] + halves).reshape(-1, 3), spacing)
    centers = centers.repeat(POINTS_A_CELL, 1)
    points = centers + spacing * (torch.rand(centers.shape, generator=generator) - 0.5)
    inside = [evaluate(field, points, chunk_size=CHUNK) < 0 for field in (before, after)]
    return float((inside[0] != inside[1]).sum()) * spacing**3 / POINTS_A_CELL


def near_either(before: Field, after: Field, centers: Tensor, spacing: float) -> Tensor:
    """Return the `centers` of the cells that can hold a surface where no slope is above 1.6, or change sides whole."""
    values = torch.stack([evaluate(field, centers, chunk_size=CHUNK) for field in (before, after)])
    near = (values.abs() < 1.4 * spacing).any(dim=0)
    return centers[near | ((values[0] < 0) != (values[1] < 0))]


def lattice_of(count: int) -> Tensor:
    """Return the centres of count³ unit cells around the origin, (count³, 3)."""
    axis = torch.arange(count) - (count - 1) / 2
    return torch.cartesian_prod(axis, axis, axis)


if __name__ == "__main__":
    main()
