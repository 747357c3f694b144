"""Completion measured: parts of shapes that a run has not learned, against the truth and against simple peers.

    python benchmarks/completion.py --data DIR bodies=RUN hippocampus=RUN --rows full depth slices half --count 20

RUN was trained on the first files by name of its family (80 bodies, 100 hippocampi); the next files are unseen.
Errors are mean surface distances, both ways: percent of the radius, or millimetres for slices. One row is one line.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.peers.completion import nearest_shape, shape_based_interpolation
from sdfnet.evaluation.closest_points import Surface, match_surfaces
from sdfnet.fitting import CompletionConfig, Fit, FitConfig, fit, fit_codes
from sdfnet.fitting.complete import refined_shape
from sdfnet.fitting.config import MeshFitConfig
from sdfnet.fitting.family import clamp_distance_of
from sdfnet.fitting.observations.labels import label_part
from sdfnet.fitting.observations.mesh import observe_mesh
from sdfnet.fitting.observations.part import PartObservation, surface_part
from sdfnet.fitting.refine import MESH_RESOLUTION, mesh_residual
from sdfnet.fitting.spread import draw_hypotheses, vertex_spread
from sdfnet.geometry.similarity import Similarity
from sdfnet.mesh.io.read import read_mesh
from sdfnet.mesh.mesh import Mesh
from sdfnet.runs import Run, RunShape, extract_shape, load_run
from sdfnet.sampling.samplers import sample_surface
from sdfnet.volumes import label_surface, read_label_volume

RESOLUTION = 128


def error(mesh: Mesh, truth: Mesh, *, below: float | None = None) -> float:
    """Return the mean distance both ways; with `below`, from the truth at y below this share of its radius only."""
    match = match_surfaces(
        Surface.of(mesh), Surface.of(truth), num_points=20_000, generator=torch.Generator().manual_seed(0)
    )
    if below is None:
        return float(match.from_result.distances.mean() + match.from_source.distances.mean()) / 2
    unseen = Similarity.normalizing(truth.vertices).to_unit(match.from_source.points)[:, 1] < below
    return float(match.from_source.distances[unseen].mean())


def completed(done: Fit, index: int = 0, *, resolution: int = RESOLUTION) -> Mesh:
    run, latent = refined_shape(done.run, done.latents[index], done.residuals[index])
    return extract_shape(run, done.shape(index, "x"), latent=latent, resolution=resolution).mesh


def in_frame(run: Run, similarity: Similarity) -> Run:
    """Return the run with its first shape in a frame, for align=none."""
    first = dataclasses.replace(run.shapes[0], similarity=similarity)
    return dataclasses.replace(run, shapes=(first, *run.shapes[1:]))


def unseen(folder: Path, first: int, count: int, pattern: str) -> list[Path]:
    return sorted(folder.glob(pattern))[first : first + count]


def views(
    path: Path, *, half: bool, noise: float, outliers: float = 0.0, num: int = 5000, seed: int = 0
) -> tuple[PartObservation, Mesh, Similarity]:
    """Return the upper half or the front of a body as points with noise (share of the radius), and the truth."""
    truth = read_mesh(path)
    place = Similarity.normalizing(truth.vertices)
    random = np.random.default_rng(seed)
    samples = sample_surface(truth, 40_000, generator=torch.Generator().manual_seed(seed))
    points, normals = samples.points.numpy(), samples.normals.numpy()
    if half:
        seen = place.to_unit(points)[:, 1] > 0.15
        sensor = None
    else:
        camera = place.to_world(np.array([0.0, 0.0, 4.0]))
        toward = (camera - points) / np.linalg.norm(camera - points, axis=1, keepdims=True)
        facing = (normals * toward).sum(axis=1) > 0.15
        rays = truth.to_trimesh().ray.intersects_first(points + 1e-3 * toward / place.scale, toward)
        seen, sensor = facing & (rays < 0), camera
    points = points[seen][:num]
    points = points + random.normal(size=points.shape) * noise / place.scale
    bad = random.permutation(len(points))[: int(outliers * len(points))]
    away = random.normal(size=(len(bad), 3))
    away *= 1.5 * (random.random(len(bad)) ** (1 / 3) / np.linalg.norm(away, axis=1))[:, None]
    points[bad] = place.to_world(away)
    return surface_part(points, sensor=sensor, noise_std=max(noise, 5e-4) / place.scale), truth, place


def row_full(run: Run, data: Path, count: int) -> Iterator[str]:
    """Whole meshes of unseen bodies: by code, and with refine=shape."""
    by_code, refined = [], []
    for path in unseen(data / "bodies", 80, count, "*.ply"):
        whole = observe_mesh(run, path.stem, path, MeshFitConfig())
        assert whole.shape is not None
        assert whole.reference is not None
        latent = fit_codes(run, [whole], config=FitConfig()).latents[0]
        truth, radius = whole.reference.mesh, whole.reference.radius
        grid = mesh_residual(
            run.field(run.names[0]).__class__(run.decoder, latent),
            whole.reference.distance,
            resolution=MESH_RESOLUTION,
            clamp_distance=clamp_distance_of(run),
        )
        joined, code = refined_shape(run, latent, grid)
        for found, each in ((by_code, (run, latent)), (refined, (joined, code))):
            mesh = extract_shape(each[0], whole.shape, latent=each[1], resolution=256, frame="unit").mesh
            found.append(100 * error(mesh, truth) / radius)
    yield f"full mesh: code {np.mean(by_code):.3f} %, refine=shape {np.mean(refined):.3f} % ({len(by_code)} bodies)"


def row_depth(run: Run, data: Path, count: int) -> Iterator[str]:
    """The front of unseen bodies, noise 0.5 % of the radius: at its place, and found from a bad start."""
    errors: dict[str, list[float]] = {"nearest": [], "none": [], "yaw": [], "outliers": [], "200 points": []}
    seconds = []
    for number, path in enumerate(unseen(data / "bodies", 80, count, "*.ply")):
        part, truth, place = views(path, half=False, noise=0.005)
        radius = 1 / (1.03 * place.scale)
        framed = in_frame(run, place)
        known = CompletionConfig("none", frame_of=run.names[0])
        random = np.random.default_rng(number)
        angle, size = random.uniform(0, 2 * np.pi), random.uniform(0.9, 1.1)
        shift = random.uniform(-0.1, 0.1, size=3) * radius
        turn = np.array([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]])

        moved_points = size * part.points @ turn.T + shift
        moved_truth = Mesh(size * truth.vertices @ turn.T + shift, truth.faces)
        moved = dataclasses.replace(part, points=moved_points, lower=part.lower * size, upper=part.upper * size)
        start = time.process_time()
        done = fit(framed, part, config=known)
        seconds.append(time.process_time() - start)
        errors["none"].append(100 * error(completed(done), truth) / radius)
        turned = completed(fit(run, moved, config=CompletionConfig("yaw")))
        errors["yaw"].append(100 * error(turned, moved_truth) / radius / size)
        dirty = views(path, half=False, noise=0.005, outliers=0.2)[0]
        errors["outliers"].append(100 * error(completed(fit(framed, dirty, config=known)), truth) / radius)
        few = views(path, half=False, noise=0.005, num=200)[0]
        errors["200 points"].append(100 * error(completed(fit(framed, few, config=known)), truth) / radius)
        errors["nearest"].append(100 * error(nearest_shape(run, part, place), truth) / radius)
    means = ", ".join(f"{name} {np.mean(found):.3f} %" for name, found in errors.items())
    good = np.mean(np.array(errors["yaw"]) <= 1.1 * np.array(errors["none"]))
    yield f"depth: {means}; yaw within 1.1 of aligned: {good:.0%}; {np.mean(seconds):.1f} s of processor each"


def row_half(run: Run, data: Path, count: int) -> Iterator[str]:
    """The upper half of unseen bodies: the unseen half, the spread, and the best of eight hypotheses."""
    unseen_errors, whole, best, scores, distances, ranks = [], [], [], [], [], []
    for path in unseen(data / "bodies", 80, count, "*.ply"):
        part, truth, place = views(path, half=True, noise=0.0)
        radius = 1 / (1.03 * place.scale)
        done = fit(in_frame(run, place), part, config=CompletionConfig("none", frame_of=run.names[0]))
        mesh = completed(done)
        unseen_errors.append(100 * error(mesh, truth, below=0.0) / radius)
        whole.append(error(mesh, truth))
        known = vertex_spread(done, 0, mesh)
        away = Surface.of(truth).distance.unsigned(mesh.vertices).distance
        scores.append(away / known.spread)
        distances.append(known.distance * place.scale)
        ranks.append(float(np.corrcoef(np.argsort(np.argsort(away)), np.argsort(np.argsort(known.spread)))[0, 1]))
        found = []
        for each in draw_hypotheses(done, 0, mesh, 8):
            shape = RunShape("x", each.similarity, "", "", True, learned=False)
            latent = done.prior.latents(each.coordinates)
            found.append(error(extract_shape(run, shape, latent=latent, resolution=RESOLUTION).mesh, truth))
        best.append(min(found))
    all_scores, all_distances = np.concatenate(scores), np.concatenate(distances)
    zones = np.digitize(all_distances, np.quantile(all_distances, [1 / 3, 2 / 3]))
    held = [float((all_scores[zones == zone] < 1.645).mean()) for zone in range(3)]
    yield (
        f"half seen: unseen half {np.mean(unseen_errors):.3f} %; bands without calibration hold "
        f"{float((all_scores < 1.645).mean()):.0%} ({', '.join(f'{each:.0%}' for each in held)} by distance), rank "
        f"correlation {np.mean(ranks):.2f}; best of 8 / single {np.mean(best) / np.mean(whole):.2f}"
    )


def row_slices(run: Run, data: Path, count: int) -> Iterator[str]:
    """Every fourth and every eighth slice of unseen hippocampi, in millimetres, against shape-based interpolation."""
    paths = unseen(data / "hippocampus" / "labels", 100, count, "*.nii.gz")
    for every in (4, 8):
        errors: dict[str, list[float]] = {"interpolation": [], "code": [], "refine=shape": []}
        seconds = []
        for path in paths:
            volume = read_label_volume(path)
            inside, truth = volume.solid(), label_surface(volume).mesh
            errors["interpolation"].append(error(shape_based_interpolation(volume, inside, axis=1, every=every), truth))
            part = label_part(volume, inside, axis=1, every=every)
            for name in ("code", "shape"):
                start = time.process_time()
                done = fit(run, part, config=CompletionConfig(refine=name))  # type: ignore[arg-type]
                seconds.append(time.process_time() - start)
                key = name if name == "code" else "refine=shape"
                errors[key].append(error(completed(done, resolution=64), truth))
        means = ", ".join(f"{name} {np.mean(found):.3f} mm" for name, found in errors.items())
        ratio = np.mean(errors["refine=shape"]) / np.mean(errors["interpolation"])
        better = int((np.array(errors["refine=shape"]) < np.array(errors["interpolation"])).sum())
        yield (
            f"slices, every {every}: {means}; ratio {ratio:.2f}, better in {better} of {len(paths)}; "
            f"{np.mean(seconds):.1f} s of processor each"
        )


ROWS: dict[str, tuple[str, Callable[[Run, Path, int], Iterator[str]]]] = {
    "full": ("bodies", row_full),
    "depth": ("bodies", row_depth),
    "half": ("bodies", row_half),
    "slices": ("hippocampus", row_slices),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", metavar="FAMILY=RUN", help="bodies=RUN, hippocampus=RUN")
    parser.add_argument("--data", type=Path, required=True, help="the folder of SDFNET_DATA")
    parser.add_argument("--rows", nargs="+", choices=list(ROWS), default=list(ROWS))
    parser.add_argument("--count", type=int, default=20, help="unseen shapes of each family")
    options = parser.parse_args()
    runs = dict(word.split("=", 1) for word in options.runs)
    for name in options.rows:
        family, row = ROWS[name]
        if family in runs:
            for line in row(load_run(runs[family]), options.data, options.count):
                print(line, flush=True)


if __name__ == "__main__":
    main()
