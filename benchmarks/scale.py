"""Time per step and memory of training over 10 to 10,000 shapes, and two processes against one.

    python benchmarks/scale.py --folder DIR                        # both; the samples stay in DIR for the next time
    python benchmarks/scale.py --folder DIR --only shapes --counts 10 100 300 10000
    python benchmarks/scale.py --folder DIR --only processes

The shapes are chairs drawn as meshes/make_chairs.py draws them, 2,048 samples each in the unit ball, taken from the
chairs' own fields (meshing 10,000 would take hours). Beyond --designs, a chair is an earlier one turned about the
vertical and shrunk. Each count is a store of its own, so that nothing but the count differs. Training is the default
one: decoder, batch, precision.

Time: the trainings take turns within one process, a few steps each, so that a slow moment of the machine meets all of
them; the median step counts. Memory: anonymous memory after as many steps in a process of its own, the
median of five for each count, since one differs from the next by 15 MB. Goal: both within 10 % from the smallest count
to the largest.

Processes: `sdfnet train` by one process and under torchrun by two, same seed, same global batch; printed is the largest
relative difference of the loss, beside that of one process with another number of threads. Linux only (it reads /proc).
"""

from __future__ import annotations

import argparse
import csv
import os
import statistics
import subprocess
import sys
import time
import zlib
from dataclasses import dataclass
from pathlib import Path

import joblib
import numpy as np
import torch
from memory import anonymous_mb
from numpy.typing import NDArray
from tqdm import tqdm

from sdfnet.decoders import VolumeConfig, build_decoder
from sdfnet.fields import HalfSpace, SmoothIntersection, evaluate
from sdfnet.files import atomic_path
from sdfnet.geometry.similarity import UNIT_RADIUS, Similarity
from sdfnet.sampling import SamplerConfig, SampleStore
from sdfnet.sampling.prepare import save_index
from sdfnet.sampling.store import StoredShape, StoreIndex, shard_header, shard_path
from sdfnet.training import TrainingConfig
from sdfnet.training.batches import BatchSchedule
from sdfnet.training.checkpoint import TrainingState, first_latents, make_state
from sdfnet.training.config import choose_optimizer, learning_rates
from sdfnet.training.trainer import choose_precision, keep_freed_memory, train_step

MESHES = str(Path(__file__).resolve().parent.parent / "meshes")
SAMPLER = SamplerConfig(num_samples=2048, num_surface=16, num_heldout=16)
CPU = torch.device("cpu")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="where the samples are kept")
    parser.add_argument("--only", choices=["samples", "shapes", "processes"])
    parser.add_argument("--counts", type=int, nargs="+", default=[10, 100, 300, 10_000])
    parser.add_argument("--designs", type=int, default=300, help="chairs that differ in design")
    parser.add_argument("--rounds", type=int, default=12, help="turns of each training")
    parser.add_argument("--steps", type=int, default=60, help="of the comparison of processes")
    parser.add_argument("--memory-of", type=Path, help="(used by the program itself) measure this store and print it")
    arguments = parser.parse_args()
    if arguments.memory_of is not None:
        print(measure_memory(arguments.memory_of))
        return
    stores = [
        draw_store(arguments.folder / f"chairs_{count}", count, arguments.designs) for count in sorted(arguments.counts)
    ]
    if arguments.only in (None, "shapes"):
        compare_counts(stores, arguments.rounds)
    if arguments.only in (None, "processes"):
        compare_processes(stores[min(1, len(stores) - 1)], arguments.folder, arguments.steps)


@dataclass(frozen=True, eq=False)
class Trainee:
    """One training under measurement."""

    schedule: BatchSchedule
    state: TrainingState
    config: TrainingConfig
    precision: str

    def step(self) -> float:
        """Take one step and return its seconds."""
        began = time.perf_counter()
        batch = self.schedule.batch(self.state.step, device=CPU)
        rates = learning_rates(self.config, "volume")
        losses = train_step(self.state, batch, self.config, rates=rates, share=0.3, precision=self.precision)
        losses["loss"].item()
        self.state.step += 1
        return time.perf_counter() - began


def start(store: SampleStore) -> Trainee:
    config, decoder = TrainingConfig(), VolumeConfig()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = build_decoder(decoder)
    network.train()
    schedule = BatchSchedule(
        store, tuple(range(len(store))), config.batch_shapes, config.batch_points, num_surface=0, seed=0
    )
    latents = first_latents(len(store), decoder.latent_size, config)
    state = make_state(network, latents, device=CPU, optimizer=choose_optimizer(config, decoder.kind))
    return Trainee(schedule, state, config, choose_precision(config.precision, CPU))


def compare_counts(stores: list[Path], rounds: int) -> None:
    keep_freed_memory()
    trainees = [start(SampleStore(store, verify=False)) for store in stores]
    times: list[list[float]] = [[] for _ in trainees]
    for turn in range(rounds + 1):
        for trainee, seconds in zip(trainees, times, strict=True):
            taken = [trainee.step() for _ in range(4)][1:]  # the first one finds the caches full of another's
            seconds += taken if turn else []
    memories = [statistics.median(memory_in_new_process(store) for _ in range(5)) for store in stores]
    print(f"{'shapes':>7} {'ms a step':>10} {'to first':>9} {'anonymous':>10} {'to first':>9}")
    for store, seconds, memory in zip(stores, times, memories, strict=True):
        median = statistics.median(seconds)
        ratio, growth = median / statistics.median(times[0]), memory / memories[0]
        print(
            f"{store.name.removeprefix('chairs_'):>7} {1000 * median:10.1f} {100 * (ratio - 1):+8.1f} % "
            f"{memory:7.0f} MB {100 * (growth - 1):+8.1f} %",
            flush=True,
        )


def memory_in_new_process(store: Path) -> float:
    line = [sys.executable, __file__, "--folder", str(store.parent), "--memory-of", str(store)]
    return float(subprocess.run(line, check=True, capture_output=True, text=True).stdout)


def measure_memory(store: Path) -> float:
    """Return the anonymous memory of this process after some steps, megabytes."""
    keep_freed_memory()
    trainee = start(SampleStore(store, verify=False))
    for _ in range(12):
        trainee.step()
    return anonymous_mb(os.getpid())


def compare_processes(store: Path, folder: Path, steps: int) -> None:
    """Train by one process and by two, and print how far the curves are apart and how long they took.

    One process with two threads adds up in another order than with one, so it says how far rounding alone comes.
    """
    import shutil

    alone = [sys.executable]
    pair = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    ways = [("one process", alone, 1), ("one process, two threads", alone, 2), ("two processes", pair, 1)]
    print("largest relative difference of the loss to that of one process with one thread, by steps")
    print(f"{'training':48} {'seconds':>8} {'first 10':>9} {'all':>9}")
    kinds = [("muon", "float32"), ("adam", "float32")]
    if choose_precision("auto", CPU) == "bfloat16":  # Elsewhere it is slow.
        kinds.append(("muon", "bfloat16"))
    for optimizer, precision in kinds:
        for strata in (1, 2):
            curves = []
            for name, launcher, threads in ways:
                what = f"{optimizer}, {precision}, {strata} strata, {name}"
                run = folder / "runs" / what.replace(", ", "_").replace(" ", "_")
                shutil.rmtree(run, ignore_errors=True)
                words = [f"samples={store}", f"run={run}", f"steps={steps}", "device=cpu"]
                options = (f"optimizer={optimizer}", f"precision={precision}", f"strata={strata}", "previews=0")
                words += [f"training.{word}" for word in options]
                environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
                began = time.perf_counter()
                subprocess.run(
                    [*launcher, "-m", "sdfnet", "train", *words], check=True, capture_output=True, env=environment
                )
                seconds = time.perf_counter() - began
                curves.append(losses_of(run))
                apart = np.abs(curves[-1] / curves[0] - 1)
                print(f"{what:48} {seconds:8.1f} {apart[:10].max():9.1e} {apart.max():9.1e}", flush=True)


def losses_of(run: Path) -> NDArray[np.float64]:
    with open(run / "metrics.csv", encoding="utf-8") as file:
        return np.array([float(row["loss"]) for row in csv.DictReader(file)])


def draw_store(directory: Path, count: int, num_designs: int) -> Path:
    """Write a store of `count` chairs, if it is not there yet, and return its folder."""
    if (directory / "index.json").is_file():
        return directory
    directory.mkdir(parents=True, exist_ok=True)
    shapes = []
    with atomic_path(shard_path(directory, 0)) as path, open(path, "wb") as file:
        file.write(shard_header(count, SAMPLER))
        drawn = joblib.Parallel(n_jobs=-1, return_as="generator")(
            joblib.delayed(draw_chair)(row) for row in range(min(count, num_designs))
        )
        designs = list(tqdm(drawn, total=min(count, num_designs), desc="drawing", unit="chair"))
        for row in range(count):
            record = turned(designs[row % num_designs], row) if row >= num_designs else designs[row]
            file.write(record.data)
            name = f"chair_{row:05d}"
            identity = Similarity((0.0, 0.0, 0.0), 1.0)
            shapes.append(
                StoredShape(name, f"{name}.obj", name, name, identity, True, None, {}, 0, row, zlib.crc32(record.data))
            )
    settings = {"sampler": SAMPLER.to_dict(), "normalize": "each", "thickness": None}
    save_index(directory, StoreIndex(settings, str(directory), complete=True, shards=(count,), shapes=tuple(shapes)))
    return directory


def draw_chair(index: int) -> NDArray[np.float32]:
    """Return a record of samples of one chair's field, unit frame; surface points are left at random places."""
    torch.set_num_threads(1)
    sys.path.append(MESHES)
    from chair_parts import blend, chair_parts
    from make_chairs import design_of

    chair = SmoothIntersection(blend(list(chair_parts(design_of(index)).values())), HalfSpace([0, -1, 0]), width=0.8)
    generator = torch.Generator().manual_seed(index)
    center = torch.from_numpy(np.asarray(chair.bounds.center)).float()
    radius = float(np.linalg.norm(np.asarray(chair.bounds.extent))) / 2
    points = torch.randn(SAMPLER.num_samples, 3, generator=generator)
    points = points / points.norm(dim=1, keepdim=True) * torch.rand(SAMPLER.num_samples, 1, generator=generator) ** 0.5
    sdf = evaluate(chair, points * radius / UNIT_RADIUS + center) * UNIT_RADIUS / radius
    rest = torch.randn(SAMPLER.record_floats - 4 * SAMPLER.num_samples, generator=generator)
    return torch.cat([torch.cat([points, sdf[:, None]], dim=1).flatten(), rest]).numpy().astype("<f4")


def turned(record: NDArray[np.float32], seed: int) -> NDArray[np.float32]:
    """Return the samples of a chair turned about the vertical axis and shrunk by up to a fifth."""
    random = np.random.default_rng(seed)
    angle, scale = random.uniform(0, 2 * np.pi), random.uniform(0.8, 1.0)
    cos, sin = scale * np.cos(angle), scale * np.sin(angle)
    result = record.copy()
    samples = result[: 4 * SAMPLER.num_samples].reshape(-1, 4)
    samples[:] = samples @ np.array([[cos, 0, -sin, 0], [0, scale, 0, 0], [sin, 0, cos, 0], [0, 0, 0, scale]])
    return result


if __name__ == "__main__":
    main()
