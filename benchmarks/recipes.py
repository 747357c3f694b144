"""Measure what a recipe gives besides the shapes it learned: morphs, and held-out shapes fitted by their code alone.

    python benchmarks/recipes.py --data DIR quick default fine           # trains each on the first 16 of DIR/bodies
    python benchmarks/recipes.py --data DIR default=RUN quick=RUN2       # finished runs instead
    python benchmarks/recipes.py --data DIR default --options '{"decoder": {"width": 32}}'

Quality: surface distance of the learned shapes, mean and 95th percentile in percent of the radius, the floor of
extraction in brackets. Morphs, over `--pairs` pairs drawn with a fixed seed, straight paths of 17 codes: "spike" is the
largest deviation of the volume or the area from the line between those of the two ends, in percent of their mean, at
96. "Extra pieces" are those that the half-way surface, at `--half-way`, has beyond the exact shapes of its ends on that
lattice: as it comes from marching cubes, and as `sdfnet morph` writes it. Held out: the first `--held-out` meshes of
the folder that the run has not learned, fitted as `sdfnet fit` does; "start" is the best of the learned codes and their
mean, as it is. A recipe is a file of conf/experiment, or `default`; its budget is wall-clock time: train with nothing
else going on.
"""

from __future__ import annotations

import argparse
import itertools
import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from paths import piece_volumes, spike
from tqdm import tqdm

from sdfnet.decoders import decoder_config
from sdfnet.evaluation import EvaluationConfig, evaluate_run, extract_exact, surface_distance
from sdfnet.evaluation.report import source_surface
from sdfnet.extraction import extract_mesh
from sdfnet.fields import NeuralField
from sdfnet.fitting import DistanceObservation, FitConfig, MeshFitConfig, fit_codes, fit_meshes
from sdfnet.mesh.io.read import find_meshes
from sdfnet.mesh.mesh import Mesh
from sdfnet.mesh.topology import components_and_genus
from sdfnet.morphs import MorphConfig, plan_morph
from sdfnet.morphs.plan import extracted_frames
from sdfnet.runs import Run, load_run
from sdfnet.sampling import SamplerConfig, prepare_samples, sample_shape
from sdfnet.solids.source_shape import folder_similarities, load_shape
from sdfnet.training import TrainingConfig, train

EXPERIMENTS = Path(__file__).resolve().parent.parent / "conf" / "experiment"
FRAMES, SPIKE_RESOLUTION = 17, 96


@dataclass(frozen=True)
class MorphFigures:
    """What one pair's straight path is like; see the head of this file."""

    volume_spike: float
    area_spike: float
    extra_pieces: int
    extra_pieces_written: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipes", nargs="+", metavar="RECIPE or NAME=RUN")
    parser.add_argument("--data", type=Path, required=True, help="folder of real meshes")
    parser.add_argument("--family", default="bodies")
    parser.add_argument("--count", type=int, default=16, help="how many of the family's shapes a recipe learns")
    parser.add_argument("--options", type=json.loads, default={}, help="on top of every recipe, as JSON")
    parser.add_argument("--resolution", type=int, default=256)
    parser.add_argument("--half-way", type=int, default=128)
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--held-out", type=int, default=8)
    parser.add_argument("--fit", type=json.loads, default={}, help="options of the fit as JSON")
    parser.add_argument("--keep", type=Path, help="folder for samples, runs and fits; a temporary one by default")
    parser.add_argument("--only", nargs="+", default=["quality", "morphs", "held-out"])
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        for recipe in arguments.recipes:
            measure(recipe, arguments, arguments.keep or Path(temporary))


def measure(recipe: str, arguments: argparse.Namespace, folder: Path) -> None:
    name, _, place = recipe.partition("=")
    meshes = find_meshes(arguments.data / arguments.family)
    run = load_run(place) if place else train_recipe(name, arguments, folder)
    print(f"{name}: {len(run.names)} shapes, {run.step:,} steps", flush=True)
    if "quality" in arguments.only:
        show_quality(run, meshes, arguments.resolution)
    if "morphs" in arguments.only:
        show_morphs(run, meshes, arguments.pairs, arguments.half_way)
    held_out = {shape: path for shape, path in meshes.items() if shape not in run.names}
    held_out = dict(itertools.islice(held_out.items(), arguments.held_out))
    if "held-out" in arguments.only and held_out:
        show_held_out(run, held_out, folder, arguments.resolution, arguments.fit)


def train_recipe(name: str, arguments: argparse.Namespace, folder: Path) -> Run:
    """Train a recipe on the first shapes of the family; its samples are drawn beforehand."""
    given: dict[str, Any] = {} if name == "default" else yaml.safe_load((EXPERIMENTS / f"{name}.yaml").read_text())
    options = {part: {**given.get(part, {}), **arguments.options.get(part, {})} for part in ("decoder", "sampler")}
    training = {
        "budget": given.get("budget", "3min"),
        **given.get("training", {}),
        **arguments.options.get("training", {}),
    }
    meshes = arguments.data / arguments.family
    names = list(find_meshes(meshes))[: arguments.count]
    sampler = SamplerConfig(**options["sampler"])
    store = prepare_samples(meshes, folder / f"samples_{name}", config=sampler, shapes=names).store
    decoder = decoder_config({"kind": "volume", **options["decoder"]})
    place = Path(tempfile.mkdtemp(prefix=f"{name}_", dir=folder))
    return train(place, store, decoder=decoder, config=TrainingConfig(**training))


def show_quality(run: Run, meshes: dict[str, Path], resolution: int) -> None:
    config = EvaluationConfig(resolution=resolution, num_volume_points=100)
    report = evaluate_run(run, next(iter(meshes.values())).parent, config=config, num_workers=2, progress=True)
    rows = [shape.quality for shape in report.measured]
    figures = [
        [np.mean([getattr(side(row).distance, key) for row in rows]) for key in ("mean", "p95")]
        for side in (lambda row: row.result, lambda row: row.floor)
    ]
    (mean, p95), (floor_mean, floor_p95) = figures
    print(f"  learned at {resolution}: mean {mean:.3f} % ({floor_mean:.3f}), p95 {p95:.3f} % ({floor_p95:.3f})")
    print(f"  worst shape: mean {max(row.result.distance.mean for row in rows):.3f} %", flush=True)
    for failed in report.failed:
        print(f"  failed: {failed}")


def show_morphs(run: Run, meshes: dict[str, Path], num_pairs: int, half_way: int) -> None:
    everything = list(itertools.combinations(run.names, 2))
    drawn = np.random.default_rng(0).choice(len(everything), size=min(num_pairs, len(everything)), replace=False)
    pairs = [everything[k] for k in drawn]
    exact = {name: exact_pieces(run, name, meshes[name], half_way) for name in sorted({n for p in pairs for n in p})}
    several = [
        measure_pair(run, pair, max(exact[name] for name in pair), half_way)
        for pair in tqdm(pairs, desc="morphs", unit="pair")
    ]
    print(f"  exact shapes at {half_way}: {min(exact.values())} to {max(exact.values())} pieces")
    for what in ("volume_spike", "area_spike"):
        values = [getattr(figures, what) for figures in several]
        print(f"  {what.replace('_', ' ')}: mean {np.mean(values):.2f} %, worst {max(values):.2f} %")
    for what in ("extra_pieces", "extra_pieces_written"):
        values = [getattr(figures, what) for figures in several]
        label = what.replace("_", " ")
        print(f"  {label}: in {sum(value > 0 for value in values)} of {len(pairs)} pairs, {max(values)} at most")


def exact_pieces(run: Run, name: str, path: Path, resolution: int) -> int:
    """Return how many pieces the exact field of a source has on the lattice."""
    shape = run.shape(name)
    surface = source_surface(load_shape(path, name=name, rule=shape.rule), shape.similarity)
    return components_and_genus(extract_exact(surface, resolution=resolution)).num_components


def measure_pair(run: Run, pair: Sequence[str], allowed: int, half_way: int) -> MorphFigures:
    config = MorphConfig(frames=FRAMES, resolution=half_way, easing="linear", frame="unit")
    plan = plan_morph(run, pair, config=config)
    surfaces = [extract(run, frame.latent, SPIKE_RESOLUTION) for frame in plan.frames]
    ((_, written),) = extracted_frames(plan, [FRAMES // 2])
    return MorphFigures(
        spike(np.array([mesh.signed_volume for mesh in surfaces])),
        spike(np.array([np.linalg.norm(mesh.face_crosses, axis=1).sum() / 2 for mesh in surfaces])),
        max(0, len(piece_volumes(extract(run, plan.frames[FRAMES // 2].latent, half_way))) - allowed),
        max(0, components_and_genus(written).num_components - allowed),
    )


def extract(run: Run, latent: torch.Tensor, resolution: int) -> Mesh:
    return extract_mesh(NeuralField(run.decoder, latent), resolution=resolution, vertex_normals=False)


def show_held_out(run: Run, paths: dict[str, Path], folder: Path, resolution: int, options: dict[str, Any]) -> None:
    """Fit shapes that the run has not learned; beside them, the best code that it has already."""
    starts = [start_distance(run, name, path, resolution) for name, path in paths.items()]
    print(f"  held out, start: mean {np.mean(starts):.3f} %", flush=True)
    config = MeshFitConfig(resolution=resolution, **options)
    began, processor = time.perf_counter(), time.process_time()
    done = fit_meshes(run, paths, tempfile.mkdtemp(prefix="fit_", dir=folder), config=config, progress=True)
    seconds, processor = time.perf_counter() - began, time.process_time() - processor
    print(f"  held out, fitted: {distances(done.records)}")
    print(f"  {seconds / len(paths):.1f} s a shape, all in all ({processor / len(paths):.1f} s CPU)")
    for name, reason in done.failures.items():
        print(f"  {name} failed: {reason}")


def start_distance(run: Run, name: str, path: Path, resolution: int) -> float:
    """Return how far the best of the learned codes and their mean is from a mesh, percent of its radius."""
    source = load_shape(path, name=name)
    (similarity,) = folder_similarities([source])
    sampler = SamplerConfig(num_samples=10_000, num_surface=0, num_heldout=0)
    unmoved = FitConfig(steps=1, learning_rate=1e-12)
    samples = torch.from_numpy(sample_shape(source, similarity, sampler).sdf)
    codes = fit_codes(run, [DistanceObservation(samples)], config=unmoved)
    mesh = extract(run, codes.latents[0], resolution)
    generator = torch.Generator().manual_seed(0)
    return surface_distance(mesh, source.mesh.to_unit(similarity), generator=generator).mean


def distances(records: dict[str, dict[str, Any]]) -> str:
    mean, p95 = (np.mean([record["percent"][key] for record in records.values()]) for key in ("mean", "p95"))
    floors = [np.mean([record["floor_percent"][key] for record in records.values()]) for key in ("mean", "p95")]
    worst = max(record["percent"]["mean"] for record in records.values())
    losses = np.mean([record["loss"] for record in records.values()])
    return (
        f"{len(records)} shapes, mean {mean:.3f} % ({floors[0]:.3f}), p95 {p95:.3f} % ({floors[1]:.3f}), "
        f"worst mean {worst:.3f} %, loss {losses:.6f}"
    )


if __name__ == "__main__":
    main()
