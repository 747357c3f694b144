"""Measure the statistics of families: permutation test, attributes, new shapes, generalization, times.

    python benchmarks/family_statistics.py permutation --data DIR --keep FOLDER
    python benchmarks/family_statistics.py attributes new times --run RUN --data DIR
    python benchmarks/family_statistics.py generalization --run RUN_OF_MIXES --data DIR --keep FOLDER

- permutation: false positives at the level 5 % on random divisions of the mixes of `space_families.py` into two halves,
  and power for a bump planted in half of the shapes; shared vertices, nothing learned.
- attributes: each attribute of `bodies/params.csv` moved from minus to plus one standard deviation about the mean;
  effects read off the extracted meshes by a regression on the source meshes, which knows nothing of the run.
- new: shapes drawn from a run: how many are whole before the filter, and how far they are from the nearest learned one,
  beside the distances between the learned shapes themselves.
- generalization: learned shapes left out, 10 components of the others: distance to the source, beside that of a linear
  model of the vertices (PCA, known correspondences) that leaves the same shapes out.
- times: from scores to a mesh at 128; components, compactness, outliers and map of 1,000 codes.
"""

from __future__ import annotations

import argparse
import csv
import time
from collections import Counter
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from space_families import NUM_MIXES, write_mixes

from sdfnet.geometry.similarity import UNIT_RADIUS, Similarity
from sdfnet.latents.analysis import describe_codes, make_space
from sdfnet.latents.attributes import fit_directions, read_attributes
from sdfnet.latents.config import SpaceConfig
from sdfnet.latents.effects import fit_reader, measure_effects
from sdfnet.latents.generalization import code_mesh, mean_distance
from sdfnet.latents.groups import compare_groups
from sdfnet.latents.new_shapes import choose_novelty, draw_code, whole_mesh
from sdfnet.latents.statistics import farthest_first, fit_components
from sdfnet.latents.surface_metric import nearest_code, surface_metric
from sdfnet.mesh.distance import MeshDistance
from sdfnet.mesh.io.read import find_meshes, read_mesh
from sdfnet.mesh.mesh import Mesh, replace_vertices, vertex_normals
from sdfnet.runs import Run, RunShape, extract_shape, load_run
from sdfnet.runs.space import latent_of, placed_codes, similarity_of

ATTRIBUTES = ("gender", "age", "muscle", "weight", "height", "proportions")

HEIGHT, WIDTH = 0.01, 0.10
"""Of the bump, as shares of the radius."""

FloatArray = NDArray[np.float64]


def mixes(data: Path, keep: Path) -> tuple[FloatArray, Mesh]:
    """Return the vertices of the mixes (100, V, 3) in the unit frame, and one of the meshes."""
    paths = find_meshes(write_mixes(data, keep))
    meshes = [read_mesh(path) for path in list(paths.values())[:NUM_MIXES]]
    vertices = np.stack([mesh.vertices for mesh in meshes])
    return Similarity.normalizing(vertices.reshape(-1, 3)).to_unit(vertices), meshes[0]


def measure_permutation(vertices: FloatArray, mesh: Mesh, *, splits: int, places: int, stride: int) -> None:
    random = np.random.default_rng(0)

    def p_value(shapes: FloatArray, groups: NDArray[np.bool_], seed: int) -> float:
        generator = torch.Generator().manual_seed(seed)
        return compare_groups(shapes[:, ::stride], groups, num_permutations=199, generator=generator).p_value

    half = len(vertices) // 2
    divisions = [np.isin(np.arange(len(vertices)), random.permutation(len(vertices))[:half]) for _ in range(splits)]
    null = np.array([p_value(vertices, groups, seed) for seed, groups in enumerate(divisions)])
    print(
        f"false positives: {100 * (null <= 0.05).mean():.1f} % of {splits} null splits; median p {np.median(null):.2f}"
    )
    found = []
    for place in range(places):
        groups = divisions[place % splits]
        center = int(random.integers(vertices.shape[1]))
        moved = vertices.copy()
        for row in np.flatnonzero(groups):
            away = np.linalg.norm(vertices[row] - vertices[row, center], axis=1) / (WIDTH * UNIT_RADIUS)
            bump = HEIGHT * UNIT_RADIUS * np.where(away < 0.5, np.cos(np.pi * away) ** 2, 0)
            moved[row] += bump[:, None] * vertex_normals(vertices[row], mesh.faces)
        found.append(p_value(moved, groups, place))
    print(f"power: {100 * (np.array(found) <= 0.05).mean():.0f} % of {places} places; p at most {max(found):.3f}")


def measure_attributes(run: Run, data: Path, *, resolution: int) -> None:
    table = read_attributes(data / "bodies" / "params.csv", run.names, columns=ATTRIBUTES)
    placed = placed_codes(run, table.names)
    plain = fit_directions(placed, table.rows)
    directions, _ = measure_effects(run, placed, table.rows, generator=torch.Generator().manual_seed(0))
    print("known to the codes:", dict(zip(ATTRIBUTES, plain.explained.round(2).tolist(), strict=True)))
    records = {Path(row["file"]).stem: row for row in csv.DictReader((data / "bodies" / "params.csv").open())}
    sources = {name: read_mesh(path) for name, path in find_meshes(data / "bodies").items()}
    rows = np.array([[float(records[name][key]) for key in ATTRIBUTES] for name in sources])
    points = _points_near(list(sources.values())[:8])
    learned = [extract_shape(run, name, resolution=resolution).mesh for name in sources]
    readers = {
        f"read by {name}": fit_reader(np.stack([_features(mesh, points) for mesh in meshes]), rows)
        for name, meshes in (("sources", sources.values()), ("learned meshes", learned))
    }
    deviations = table.rows.std(axis=0, ddof=1)
    for name, each in (("slopes alone", plain.directions), ("calibrated", directions)):
        moves = []
        for row, deviation in zip(each, deviations, strict=True):
            ends = []
            for sign in (1, -1):
                code = placed.mean(axis=0) + sign * deviation * row
                shape = RunShape("moved", similarity_of(code), "", "", closed=True, num_surfaces=1)
                mesh = extract_shape(run, shape, latent=latent_of(code, run), resolution=resolution).mesh
                ends.append(_features(mesh, points))
            moves.append((ends[0] - ends[1]) / 2)
        for words, reader in readers.items():
            matrix = np.array(moves) @ reader.weights / deviations
            others = np.abs(matrix - np.diag(np.diag(matrix))).max(axis=1)
            for attribute, effect, leak in zip(ATTRIBUTES, np.diag(matrix), others, strict=True):
                print(f"{name}, {words}: {attribute} moves by {effect:.2f} sd, the others by at most {leak:.2f}")


def _points_near(meshes: list[Mesh]) -> FloatArray:
    """Return points near the surfaces of some meshes in their own unit frames."""
    points = np.random.default_rng(5).uniform(-1, 1, size=(40_000, 3))
    units = [mesh.to_unit(Similarity.normalizing(mesh.vertices)) for mesh in meshes]
    near = np.min([np.abs(MeshDistance(unit)(points).sdf) for unit in units], axis=0) < 0.08
    return points[near][:3000]


def _features(mesh: Mesh, points: FloatArray) -> FloatArray:
    """Return squashed distances in the mesh's own unit frame, and the log size."""
    similarity = Similarity.normalizing(mesh.vertices)
    return np.append(np.tanh(MeshDistance(mesh.to_unit(similarity))(points).sdf / 0.1), 10 * np.log(similarity.scale))


def measure_new(run: Run, *, num: int, novelty: float | None, resolution: int) -> None:
    placed, length = placed_codes(run), run.latents.shape[1]
    metric = surface_metric(run, placed[:, :length])
    measured = placed[:, :length] @ metric.T
    space = make_space(run.names, placed, fit_components(placed[:, :length], metric=metric))
    generator = torch.Generator().manual_seed(0)
    learned = [
        code_mesh(run, row[:length], like=name, resolution=64) for name, row in zip(run.names, placed, strict=True)
    ]

    def nearest(code: FloatArray, mesh: Mesh, without: int = -1) -> float:
        away = np.linalg.norm(measured - metric @ code[:length], axis=1)
        away[without if without >= 0 else slice(0)] = np.inf
        return min(mean_distance(mesh, learned[row], generator=generator) for row in np.argsort(away)[:3])

    apart = [nearest(row, mesh, number) for number, (row, mesh) in enumerate(zip(placed, learned, strict=True))]
    low, most = np.quantile(apart, [0.05, 0.95])
    print(
        f"learned shapes, distance to the nearest other: median {np.median(apart):.2f} %, "
        f"5 to 95 of 100 within {low:.2f} to {most:.2f} %"
    )
    novelty = choose_novelty(run, space) if novelty is None else novelty
    reasons: Counter[str] = Counter()
    found = []
    for _ in range(num):
        code = draw_code(space, placed, novelty=novelty, generator=generator)
        shape = RunShape("new", similarity_of(code), "", "", closed=True, num_surfaces=1, learned=False)
        mesh, reason = whole_mesh(run, shape, code, resolution=resolution)
        reasons[reason or "whole"] += 1
        if mesh is not None:
            found.append(nearest(code, mesh.to_unit(shape.similarity)))
    distances = np.array(found)
    within = ((distances >= 0.3) & (distances <= most)).sum()
    ends = f"{distances.min():.2f} to {distances.max():.2f} %"
    print(f"new shapes at novelty {novelty:g}: {dict(reasons)}; nearest learned: {ends}")
    print(f"{within} of {len(found)} whole ones are between 0.3 % and {most:.2f} %")


def measure_generalization(run: Run, vertices: FloatArray, mesh: Mesh, *, num_modes: int, num_tests: int) -> None:
    names = list(run.names)
    codes = placed_codes(run)[:, : run.latents.shape[1]]
    flat = vertices[: len(names)].reshape(len(names), -1)
    generator = torch.Generator().manual_seed(0)
    metric = surface_metric(run, codes)
    projected, ours, linear, whole = [], [], [], []

    def error(code: FloatArray, test: int, truth: Mesh) -> float:
        return mean_distance(code_mesh(run, code, like=names[test], resolution=128), truth, generator=generator)

    for test in farthest_first(codes, num_tests):
        others = fit_components(np.delete(codes, test, axis=0), metric=metric)
        truth = replace_vertices(mesh, vertices[test])
        projected.append(error(others.codes(others.scores(codes[test])[:num_modes]), test, truth))
        ours.append(error(nearest_code(run, others, codes[test], num_modes), test, truth))
        whole.append(error(codes[test], test, truth))
        points = fit_components(np.delete(flat, test, axis=0))
        best = points.codes(points.scores(flat[test])[:num_modes]).reshape(-1, 3)
        linear.append(mean_distance(replace_vertices(mesh, best), truth, generator=generator))
    print(
        f"{num_modes} modes, {len(ours)} left out: codes {np.mean(ours):.3f} %, linear {np.mean(linear):.3f} %, "
        f"ratio {np.mean(ours) / np.mean(linear):.2f}; scores alone {np.mean(projected):.3f} %; "
        f"learned themselves {np.mean(whole):.3f} %"
    )


def measure_times(run: Run) -> None:
    placed, length = placed_codes(run), run.latents.shape[1]
    started = time.process_time()
    metric = surface_metric(run, placed[:, :length])
    print(f"metric of {len(placed)} codes: {time.process_time() - started:.1f} s of processor time")
    space = make_space(run.names, placed, fit_components(placed[:, :length], metric=metric))
    seconds = []
    for score in (-1.5, -0.5, 0.5, 1.5):
        started = time.process_time()
        code = space.moved(scores={1: score})
        shape = RunShape("new", similarity_of(code), "", "", closed=True, num_surfaces=1, learned=False)
        extract_shape(run, shape, latent=latent_of(code, run), resolution=128)
        seconds.append(time.process_time() - started)
    print(f"scores to mesh at 128: {np.median(seconds):.2f} s of processor time")
    codes = np.random.default_rng(0).normal(size=(1000, 256)) * np.linspace(3, 0.1, 256)
    started = time.process_time()
    describe_codes([f"s{number}" for number in range(1000)], codes, metric=np.eye(256), config=SpaceConfig())
    print(
        f"components, compactness, outliers, neighbours and map of 1,000 codes: {time.process_time() - started:.1f} s"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="+", choices=["permutation", "attributes", "new", "generalization", "times"])
    parser.add_argument("--data", type=Path)
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--run", type=Path)
    parser.add_argument("--splits", type=int, default=500)
    parser.add_argument("--places", type=int, default=20)
    parser.add_argument("--stride", type=int, default=3, help="every so many vertices are tested")
    parser.add_argument("--num", type=int, default=50, help="new shapes")
    parser.add_argument("--novelty", type=float, help="of new shapes; the default is that of sdfnet space")
    parser.add_argument("--tests", type=int, default=20, help="shapes that are left out")
    parser.add_argument("--resolution", type=int, default=96)
    options = parser.parse_args()
    torch.set_num_threads(1)
    run = load_run(options.run) if options.run else None
    if "permutation" in options.rows:
        vertices, mesh = mixes(options.data, options.keep)
        measure_permutation(vertices, mesh, splits=options.splits, places=options.places, stride=options.stride)
    if "attributes" in options.rows:
        measure_attributes(run, options.data, resolution=options.resolution)
    if "new" in options.rows:
        measure_new(run, num=options.num, novelty=options.novelty, resolution=options.resolution)
    if "generalization" in options.rows:
        vertices, mesh = mixes(options.data, options.keep)
        measure_generalization(run, vertices, mesh, num_modes=10, num_tests=options.tests)
    if "times" in options.rows:
        measure_times(run)


if __name__ == "__main__":
    main()
