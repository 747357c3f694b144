"""Compare paths between shapes of a run: travel, spikes of volume and area, loose pieces half-way, evenness of pace.

    python benchmarks/paths.py runs/chairs                      # 20 pairs; linear, spherical, geodesic
    python benchmarks/paths.py runs/bodies --pairs 5 --pace     # also the evenness of pace=code and pace=surface

Spikes are the largest deviation of volume and area from the line between those of the two ends, in percent of their
mean, over `--frames` frames. Loose pieces are all but the largest, half-way at `--resolution`: how many beyond those of
the end with more, their volume in percent of the whole, and how many pairs have one above 0.01 %. Travel is the mean
normal travel of the surface over the whole way, unit frame. Evenness is the largest over the smallest mean travel
between consecutive frames of a morph of 60, measured from frame to frame on points of extracted meshes.
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
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from sdfnet.fields import NeuralField, evaluate, gradient
from sdfnet.geometry.mesh import Mesh
from sdfnet.latents import MorphConfig, plan_frames
from sdfnet.latents.frames import MorphFrame
from sdfnet.latents.pace import surface_travel
from sdfnet.runs import Run, load_run
from sdfnet.surfacing import extract_mesh, project_to_level


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
    parser.add_argument("--pace", action="store_true", help="also measure the evenness of pace, on linear paths")
    arguments = parser.parse_args()
    run = load_run(arguments.run)
    everything = list(itertools.combinations(run.names, 2))
    drawn = np.random.default_rng(0).choice(len(everything), size=min(arguments.pairs, len(everything)), replace=False)
    pairs = [everything[k] for k in drawn]
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
    for pair in pairs if arguments.pace else []:
        print(f"{' '.join(pair):32} evenness: code {evenness(run, pair, 'code'):.2f}", end="")
        began = time.perf_counter()
        plan_frames(run, pair, config=MorphConfig(frames=60, easing="linear", pace="surface", frame="unit"))
        seconds = time.perf_counter() - began
        print(f", surface {evenness(run, pair, 'surface'):.2f} (planned in {seconds:.1f} s)", flush=True)


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
    travel = float(surface_travel(run.decoder, codes, np.zeros((len(codes), 4))).sum())
    meshes = {index: extract(run, frames[index], 96) for index in range(num_frames)}
    volumes = np.array([mesh.signed_volume for mesh in meshes.values()])
    areas = np.array([np.linalg.norm(mesh.face_crosses, axis=1).sum() / 2 for mesh in meshes.values()])
    ends = [len(piece_volumes(extract(run, frames[index], resolution))) for index in (0, -1)]
    pieces = piece_volumes(extract(run, frames[num_frames // 2], resolution))
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


def extract(run: Run, frame: MorphFrame, resolution: int) -> Mesh:
    return extract_mesh(NeuralField(run.decoder, frame.latent), resolution=resolution, vertex_normals=False)


def spike(values: NDArray[np.float64]) -> float:
    line = np.linspace(values[0], values[-1], len(values))
    return 100 * float(np.abs(values - line).max() / line.mean())


def piece_volumes(mesh: Mesh) -> NDArray[np.float64]:
    """Return the absolute volume of each connected part of the mesh, the largest first."""
    starts, ends = mesh.faces[:, [0, 1]].ravel(), mesh.faces[:, [1, 2]].ravel()
    links = coo_matrix((np.ones(len(starts)), (starts, ends)), shape=[len(mesh.vertices)] * 2)
    _, labels = connected_components(links, directed=False)
    corners = mesh.vertices[mesh.faces]
    cones = np.einsum("ij,ij->i", corners[:, 0], np.cross(corners[:, 1], corners[:, 2])) / 6
    return np.sort(np.abs(np.bincount(labels[mesh.faces[:, 0]], weights=cones)))[::-1]


def evenness(run: Run, pair: tuple[str, str], pace: str) -> float:
    frames = plan_frames(run, pair, config=MorphConfig(frames=60, easing="linear", pace=pace, frame="unit"))
    fields = [NeuralField(run.decoder, frame.latent) for frame in frames]
    surfaces = []
    for field, frame in zip(fields, frames, strict=True):
        mesh = extract(run, frame, 80)
        centers = torch.from_numpy(mesh.vertices[mesh.faces].mean(axis=1)).float()
        areas = torch.from_numpy(np.linalg.norm(mesh.face_crosses, axis=1))
        surfaces.append((project_to_level(field, centers, steps=3, reach=0.02), areas))
    travels = []
    for index in range(len(frames) - 1):
        there = [(surfaces[index], fields[index + 1]), (surfaces[index + 1], fields[index])]
        travels.append(np.mean([distance_to(field, points, areas) for (points, areas), field in there]))
    return max(travels) / min(travels)


def distance_to(field: NeuralField, points: torch.Tensor, areas: torch.Tensor) -> float:
    """Return the mean distance from points of one surface to the surface of `field`, to first order."""
    steepness = gradient(field, points).norm(dim=-1).clamp_min(0.3)
    return float((evaluate(field, points).abs() / steepness * areas).sum() / areas.sum())


if __name__ == "__main__":
    main()
