"""Measure morphs: time to write one, meshes a second when stepping, and loose pieces half-way.

    python benchmarks/morphs.py time runs/chairs --shapes chair_00 chair_06      # 60 frames at 96: OBJ, GLB and MP4
    python benchmarks/morphs.py steps runs/chairs                                # untracked meshes a second at 64
    python benchmarks/morphs.py loose runs/bodies                                # half-way frames of 20 pairs at 128

Goals: 60 s on two cores; 4 meshes a second; no loose piece above 0.01 % of the volume in 19 of 20, none in what is
written. Pairs are drawn with a fixed seed.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import tempfile
import time
from pathlib import Path

import torch

from sdfnet.extraction import extract_mesh
from sdfnet.fields import NeuralField
from sdfnet.mesh.components import nest_components
from sdfnet.mesh.topology import components_and_genus
from sdfnet.morphs import MorphConfig, make_morph, plan_morph
from sdfnet.morphs.plan import extracted_frames
from sdfnet.runs import Run, load_run, select_shapes

BOUND = 1e-4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("time", "steps", "loose"))
    parser.add_argument("run", type=Path)
    parser.add_argument("--shapes", nargs="+", help="names and globs; by default the first two, for `loose` all")
    parser.add_argument("--frames", type=int, default=60)
    parser.add_argument("--resolution", type=int, help="by default 96, 64 and 128")
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--size", type=int, nargs=2, default=(640, 480), metavar=("WIDTH", "HEIGHT"))
    arguments = parser.parse_args()
    run = load_run(arguments.run)
    chosen = select_shapes(run.names, arguments.shapes) if arguments.shapes else list(run.names)
    if arguments.what == "time":
        measure_time(run, chosen[:2], arguments.frames, arguments.resolution or 96, tuple(arguments.size))
    elif arguments.what == "steps":
        measure_steps(run, chosen[:2], arguments.frames, arguments.resolution or 64)
    else:
        count_loose(run, chosen, arguments.pairs, arguments.resolution or 128)


def measure_time(run: Run, names: list[str], frames: int, resolution: int, size: tuple[int, int]) -> None:
    formats = ("obj", "glb", "mp4")
    config = MorphConfig(frames=frames, resolution=resolution, format=formats, width=size[0], height=size[1])
    with tempfile.TemporaryDirectory() as folder:
        wall, processor = time.perf_counter(), time.process_time()
        result = make_morph(run, names, Path(folder) / "morph", config=config)
        wall, processor = time.perf_counter() - wall, time.process_time() - processor
        summary = json.loads(result.report.read_text(encoding="utf-8"))["summary"]
    print(f"{frames} frames of {' to '.join(names)} at {resolution}, {size[0]} x {size[1]}, {', '.join(formats)}:")
    print(f"  {wall:.1f} s, of the processor {processor:.1f} s; {frames / wall:.1f} frames a second")
    print(f"  {json.dumps(summary)}")


def measure_steps(run: Run, names: list[str], frames: int, resolution: int) -> None:
    """Extract codes between two shapes one after the other, as a slider asks for them."""
    first, last = (run.latent(name) for name in names)
    for step in range(frames + 1):
        if step == 1:  # the first call loads and plans
            wall, processor = time.perf_counter(), time.process_time()
        field = NeuralField(run.decoder, torch.lerp(first, last, step / frames))
        extract_mesh(field, resolution=resolution)
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    print(
        f"{frames} meshes at {resolution}: {frames / wall:.1f} a second ({1000 * processor / frames:.0f} ms of the CPU)"
    )


def count_loose(run: Run, names: list[str], num_pairs: int, resolution: int) -> None:
    pairs = random.Random(0).sample(list(itertools.combinations(names, 2)), num_pairs)
    config = MorphConfig(frames=3, resolution=resolution)
    clean, written = 0, 0
    for pair in pairs:
        plan = plan_morph(run, pair, config=config)
        every = extract_mesh(NeuralField(run.decoder, plan.frames[1].latent), resolution=resolution)
        pieces = nest_components(every)
        shares = sorted(pieces.shares[~pieces.is_cavity].tolist())[:-1]
        ((made, mesh),) = extracted_frames(plan, [1])
        left = components_and_genus(mesh).num_components
        clean += not any(share > BOUND for share in shares)
        written += left == 1
        largest = f"largest {100 * shares[-1]:.4f} %" if shares else "no loose piece"
        print(
            f"{' - '.join(pair):40} {len(shares):3} loose, {largest:20} removed {len(made.removed)}, left {left}",
            flush=True,
        )
    print(f"no loose piece above {100 * BOUND:g} % in {clean} of {num_pairs}; one component written in {written}")


if __name__ == "__main__":
    main()
