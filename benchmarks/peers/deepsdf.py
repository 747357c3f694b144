"""Quality against time: the network and loss of facebookresearch/DeepSDF, and this project, on the same samples.

    git clone https://github.com/facebookresearch/DeepSDF checkout
    python benchmarks/peers/deepsdf.py --checkout checkout --data DIR --minutes 30 --keep FOLDER
    python benchmarks/peers/deepsdf.py --quality 1.012 --budgets 2s 3s 4s --data DIR --keep FOLDER

Takes the first 16 of DIR/bodies. Tries the peer's batch sizes for equal times, trains the best for the given time (its
clock runs while it trains and stands still while it is measured), then runs `sdfnet train` with each budget as a
process of its own, timed from its start to its end. Everything is measured by the same yardstick; a table and a plot
are written into the folder. Interrupted, the same command goes on: what is there is not done again. Run it with nothing
else going on. Copies nothing of the peer: its own program runs from the checkout (see `deepsdf_training`).

With `--quality`, the mean surface distance that the peer reached before, the peer is not trained. Each budget runs five
times, and the time to that quality is compared with `--minutes`.
"""

from __future__ import annotations

import argparse
import csv
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from curves import draw_curves, format_curves
from deepsdf_training import Experiment
from machine import processor, versions
from measuring import Truth, load_truths, measure_cheaply, measure_floor, measure_meshes
from torch import Tensor

from sdfnet.files import write_atomic
from sdfnet.mesh.io.read import find_meshes
from sdfnet.runs import load_run
from sdfnet.sampling import SamplerConfig, SampleStore, prepare_samples

_TIMES = 5
"""Runs of each budget with `--quality`."""

CURVE_COLUMNS = ("steps", "seconds", "surface_error", "signs_right")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkout", type=Path, help="a checkout of facebookresearch/DeepSDF")
    parser.add_argument(
        "--quality", type=float, help="percent: what the peer reached in --minutes on this machine before"
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of real meshes")
    parser.add_argument("--keep", type=Path, required=True, help="folder for samples, runs, results")
    parser.add_argument("--family", default="bodies")
    parser.add_argument("--count", type=int, default=16, help="how many of the family's shapes")
    parser.add_argument("--minutes", type=float, default=30.0, help="training time of the peer")
    parser.add_argument(
        "--marks", type=float, nargs="*", default=[1, 3, 10, 20], help="minutes before, to measure it at"
    )
    parser.add_argument("--points", type=int, nargs="+", default=[512, 1024, 2048, 4096], help="per shape and step")
    parser.add_argument("--trial-minutes", type=float, default=2.0, help="for each batch size, where there are several")
    parser.add_argument(
        "--budgets", nargs="*", default=["4s", "6s", "8s", "12s", "30s", "1min", "3min"], help="times, or steps: 80"
    )
    parser.add_argument("--resolution", type=int, default=128)
    arguments = parser.parse_args()
    if (arguments.checkout is None) == (arguments.quality is None):
        parser.error("give --checkout DIR, or --quality PERCENT of an earlier comparison")
    compare(arguments, arguments.keep.resolve())


def compare(arguments: argparse.Namespace, keep: Path) -> None:
    meshes = arguments.data.resolve() / arguments.family
    names = tuple(list(find_meshes(meshes))[: arguments.count])
    store = prepare_samples(meshes, keep / "samples", config=SamplerConfig(), shapes=names).store
    truths = load_truths(store, names, meshes)
    resolution = arguments.resolution
    if arguments.quality is not None:
        for budget in arguments.budgets:
            print_time_to_quality(arguments, keep, budget, truths)
        return
    floor = remembered(keep / "floor.json", lambda: asdict(measure_floor(truths, resolution=resolution)))
    batch_points = choose_batch(arguments, keep, store, truths)
    experiment = Experiment(keep / "deepsdf", arguments.checkout.resolve(), batch_points, 60 * arguments.minutes)
    minutes = [*(mark for mark in arguments.marks if mark < arguments.minutes), arguments.minutes]
    marks = [mark / arguments.minutes for mark in minutes]
    peer = train_peer(experiment, store, truths, marks=marks, resolution=resolution)
    ours = [
        remembered(keep / f"ours_{budget}.json", lambda budget=budget: train_ours(keep, budget, truths, resolution))
        for budget in arguments.budgets
    ]
    result = {
        "machine": processor(),
        "threads": torch.get_num_threads(),
        "versions": versions(["torch", "numpy", "scikit-image", "libigl"]),
        "checkout": commit_of(arguments.checkout),
        "batch": f"{len(names)} x {batch_points}",
        "floor": floor,
        "peer": peer,
        "ours": ours,
    }
    write_atomic(keep / "deepsdf.json", json.dumps(result, indent=1))
    text = format_curves(result)
    write_atomic(keep / "deepsdf.md", text)
    print(text)
    draw_curves(result, keep / "deepsdf.png")


def choose_batch(arguments: argparse.Namespace, keep: Path, store: SampleStore, truths: dict[str, Truth]) -> int:
    """Return the points per shape and step whose surface error is lowest after equal times."""
    if len(arguments.points) == 1:
        return arguments.points[0]
    errors = {}
    for points in arguments.points:
        folder = keep / "trials" / f"{points}_{arguments.trial_minutes:g}min"
        experiment = Experiment(folder, arguments.checkout.resolve(), points, 60 * arguments.trial_minutes)
        *_, last = train_peer(experiment, store, truths, marks=(1.0,), resolution=None)
        errors[points] = last["surface_error"]
        print(f"trial {len(truths)} x {points}: {last['steps']} steps, error {errors[points]:.4f} %", flush=True)
    return min(errors, key=errors.__getitem__)


def train_peer(
    experiment: Experiment, store: SampleStore, truths: dict[str, Truth], *, marks: Sequence[float],
    resolution: int | None,
) -> list[dict[str, Any]]:  # fmt: skip
    """Train the checkout's network; return a row for each mark, with surface distances if a resolution is given.

    Rows appear in `curve.csv` while it trains; the meshes are measured after the training, from snapshots.
    """
    experiment.prepare(store, tuple(truths))
    curve = experiment.folder / "curve.csv"

    def snapshot(steps: int, seconds: float, decoder: torch.nn.Module, latents: Tensor) -> None:
        path = experiment.folder / f"snapshot_{steps:07d}.pt"
        inner = decoder.module if isinstance(decoder, torch.nn.DataParallel) else decoder
        torch.save({"decoder": inner.state_dict(), "latents": latents.detach().clone()}, path)
        cheap = measure_cheaply(dict(zip(truths, experiment.load(path), strict=True)), truths)
        rows = [row for row in read_curve(curve) if row["seconds"] < seconds]
        rows.append({"steps": steps, "seconds": seconds, **asdict(cheap)})
        lines = (",".join(f"{row[name]:.6g}" for name in CURVE_COLUMNS) for row in rows)
        write_atomic(curve, "\n".join([",".join(CURVE_COLUMNS), *lines]) + "\n")
        print(f"{seconds:7.0f} s: {steps} steps, {cheap}", flush=True)

    experiment.train(snapshot, [mark * experiment.seconds for mark in marks])
    rows = read_curve(curve)
    for row in rows if resolution is not None else []:
        path = experiment.folder / f"snapshot_{int(row['steps']):07d}.pt"
        fields = dict(zip(truths, experiment.load(path), strict=True))
        row |= remembered(
            path.with_suffix(".json"),
            lambda fields=fields: asdict(measure_meshes(fields, truths, resolution=resolution)),
        )
    return rows


def read_curve(path: Path) -> list[dict[str, float]]:
    """Return the rows of `curve.csv`, none where it is not there."""
    if not path.is_file():
        return []
    with open(path, encoding="utf-8", newline="") as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


def train_ours(keep: Path, budget: str, truths: dict[str, Truth], resolution: int) -> dict[str, Any]:
    """Run `sdfnet train` as a process of its own and measure what it learned."""
    folder = keep / f"run_{budget}_{time.time_ns()}"
    length = f"steps={budget}" if budget.isdigit() else f"budget={budget}"
    command = [
        sys.executable, "-m", "sdfnet", "train", f"samples={keep / 'samples'}", f"run={folder}", length,
        f"shapes=[{','.join(truths)}]", "training.previews=0", "training.evaluations=1",
    ]  # fmt: skip
    began, worked = time.perf_counter(), children_seconds()
    subprocess.run(command, check=False, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)  # A coarse result is one.
    seconds, worked = time.perf_counter() - began, children_seconds() - worked
    run = load_run(folder)
    fields = {name: run.field(name) for name in truths}
    quality = asdict(measure_cheaply(fields, truths)) | asdict(measure_meshes(fields, truths, resolution=resolution))
    print(f"budget {budget}: {seconds:.1f} s, {run.step} steps, {quality}", flush=True)
    return {"budget": budget, "seconds": seconds, "processor_seconds": worked, "steps": run.step, **quality}


def children_seconds() -> float:
    """Return the processor time of all processes that this one has started and waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def print_time_to_quality(arguments: argparse.Namespace, keep: Path, budget: str, truths: dict[str, Truth]) -> None:
    """Run `sdfnet train` five times and compare its median time with the peer's."""
    runs = [train_ours(keep, budget, truths, arguments.resolution) for _ in range(_TIMES)]
    seconds, processor = (float(np.median([run[key] for run in runs])) for key in ("seconds", "processor_seconds"))
    worst = max(run["mean"] for run in runs)
    reached = "reached" if worst <= arguments.quality else "NOT reached"
    ratio = 60 * arguments.minutes / seconds
    print(f"budget {budget}: median {seconds:.2f} s ({processor:.2f} s of the processor), 1/{ratio:.0f} of the peer's "
          f"time; worst mean {worst:.3f} %, {arguments.quality:g} % {reached}", flush=True)  # fmt: skip


def remembered(path: Path, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return the JSON document at `path`, made now if it is not there."""
    if not path.is_file():
        write_atomic(path, json.dumps(make()))
    return json.loads(path.read_text(encoding="utf-8"))


def commit_of(checkout: Path) -> str:
    """Return the short commit of a checkout, or "unknown"."""
    git = ["git", "-C", str(checkout), "rev-parse", "--short", "HEAD"]
    found = subprocess.run(git, capture_output=True, text=True, check=False)
    return found.stdout.strip() or "unknown"


if __name__ == "__main__":
    main()
