"""Measure what a training budget buys: train on the first shapes of a folder, extract, and compare with the sources.

    python benchmarks/quality.py bodies --data DIR --budget 3min        # first 16 of DIR/bodies
    python benchmarks/quality.py blobs --data DIR --budget 3min
    python benchmarks/quality.py chairs --budget 3min                   # the shipped meshes, with errors by part

Samples are prepared beforehand and not counted; the budget is the training loop's. Prints the mean and the 95th
percentile of the surface distance (percent of the bounding-sphere radius) beside the floor of extraction.
Run it with nothing else going on: the budget is wall-clock time.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from part_errors import load_labels, part_errors

from sdfnet.decoders import decoder_config
from sdfnet.evaluation import EvaluationConfig, components_and_genus, evaluate_run
from sdfnet.extraction import extract_mesh
from sdfnet.mesh.components import drop_specks
from sdfnet.mesh.io.read import find_meshes, read_mesh
from sdfnet.runs import Run
from sdfnet.sampling import SamplerConfig, prepare_samples
from sdfnet.training import TrainingConfig, train

SHIPPED = Path(__file__).resolve().parent.parent / "meshes"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("family", help="bodies, blobs, … (a folder of --data) or chairs (the shipped meshes)")
    parser.add_argument("--data", type=Path, help="folder of real meshes")
    parser.add_argument("--count", type=int, default=16, help="how many of the family's shapes; 0 for all")
    parser.add_argument("--budget", default="3min")
    parser.add_argument("--steps", type=int)
    parser.add_argument("--resolution", type=int, default=128)
    parser.add_argument("--decoder", default='{"kind": "volume"}', help="options as JSON")
    parser.add_argument("--training", default="{}", help="options as JSON")
    parser.add_argument("--sampler", default="{}", help="options as JSON")
    parser.add_argument("--keep", type=Path, help="folder for samples and runs; a temporary one by default")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        measure(arguments, arguments.keep or Path(temporary))


def measure(arguments: argparse.Namespace, folder: Path) -> None:
    chairs = arguments.family == "chairs"
    meshes = SHIPPED if chairs else arguments.data / arguments.family
    names = list(find_meshes(meshes))[: None if chairs or arguments.count == 0 else arguments.count]
    sampler = SamplerConfig(**json.loads(arguments.sampler))
    prepared = prepare_samples(meshes, folder / f"samples_{arguments.family}", config=sampler, shapes=names)
    config = TrainingConfig(budget=arguments.budget, steps=arguments.steps, **json.loads(arguments.training))
    decoder = decoder_config(json.loads(arguments.decoder))
    run_folder = Path(tempfile.mkdtemp(prefix=f"{arguments.family}_", dir=folder))
    began = time.perf_counter()
    run = train(run_folder, prepared.store, decoder=decoder, config=config)
    seconds = time.perf_counter() - began
    report = evaluate_run(run, config=EvaluationConfig(resolution=arguments.resolution), num_workers=2)
    rows = [shape.quality for shape in report.measured]
    plan = run.document["plan"]
    print(f"{arguments.family}: {len(run.names)} shapes, {plan['steps']} steps, {plan['precision']}, {seconds:.0f} s")
    for label, pick in (("result", lambda q: q.result), ("floor", lambda q: q.floor)):
        mean = np.mean([pick(row).distance.mean for row in rows])
        p95 = np.mean([pick(row).distance.p95 for row in rows])
        print(f"  {label:6s} surface distance at {arguments.resolution}: mean {mean:.4f} %, p95 {p95:.4f} %")
    for failed in report.failed:
        print(f"  failed: {failed}")
    if chairs:
        measure_parts(run, meshes, arguments.resolution)


def measure_parts(run: Run, meshes: Path, resolution: int) -> None:
    """Print the worst part of every chair, and whether the number of components is right."""
    worst: list[tuple[float, str]] = []
    wrong = []
    for name in run.names:
        result = extract_mesh(run.field(name), resolution=resolution, similarity=run.similarity(name))
        result = drop_specks(result, num_surfaces=run.shape(name).num_surfaces).mesh
        source = read_mesh(meshes / f"{name}.obj")
        labels = load_labels(meshes / f"{name}.parts.json")
        errors = part_errors(result, source, labels, generator=torch.Generator().manual_seed(0))
        worst += [(error.p95, f"{name} {part}") for part, error in errors.items()]
        if components_and_genus(result).num_components != components_and_genus(source).num_components:
            wrong.append(name)
    worst.sort(reverse=True)
    print(f"  worst parts (p95, %): {', '.join(f'{value:.2f} {what}' for value, what in worst[:5])}")
    print(f"  chairs with another number of components than their source: {', '.join(wrong) or 'none'}")


if __name__ == "__main__":
    main()
