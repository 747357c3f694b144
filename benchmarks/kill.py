"""Kill `sample` and `train` at random moments, run the same command again, and compare with an undisturbed run.

    python benchmarks/kill.py --data DIR                    # ten kills each, on 8 of DIR/blobs
    python benchmarks/kill.py --data DIR --commands train --kills 3

Each trial starts from nothing, is killed once with SIGKILL at a moment drawn uniformly over the time that an
undisturbed run takes, and is then run to its end. Of `sample` every file of the store must have the same bytes, of
`train` the decoder and the codes. The number of steps is given. With a budget (`--budget 20s`) the clock decides how
the training goes on, and only the decisions that were written before the kill hold again. Then the decisions must be
kept, and each row of `metrics.csv` up to the last of them must come out the same: its steps are repeated to the bit.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from sdfnet.mesh.io.read import find_meshes
from sdfnet.runs import METRICS_FILE, MODEL_FILE
from sdfnet.training.schedule import SCHEDULE_FILE, load_decisions


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("SDFNET_DATA"), help="folder of real meshes")
    parser.add_argument("--family", default="blobs")
    parser.add_argument("--count", type=int, default=8, help="meshes")
    parser.add_argument("--commands", nargs="+", choices=["sample", "train"], default=["sample", "train"])
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--budget", help="train for this time instead of --steps")
    parser.add_argument("--samples", type=int, default=100_000, help="samples per shape")
    parser.add_argument("--checkpoint-seconds", type=float, default=2.0)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    if arguments.data is None:
        parser.error("give --data DIR or set SDFNET_DATA")
    failures = 0
    with tempfile.TemporaryDirectory() as temporary:
        names = list(find_meshes(arguments.data / arguments.family))[: arguments.count]
        for command in arguments.commands:
            failures += try_command(command, names, Path(temporary), arguments)
    sys.exit(1 if failures else 0)


def try_command(command: str, names: list[str], folder: Path, arguments: argparse.Namespace) -> int:
    """Return in how many trials the result differed."""
    result = folder / command
    line = command_line(command, names, result, arguments)
    began = time.perf_counter()
    first = subprocess.run(line, capture_output=True, text=True)  # A training may end as failed: too short to learn.
    duration = time.perf_counter() - began
    expected = fingerprints(command, result)
    if not expected:
        raise SystemExit(first.stderr)
    print(f"{command}: undisturbed in {duration:.1f} s, {len(expected)} files to compare", flush=True)
    moments = random.Random(arguments.seed)
    failures = 0
    for trial in range(arguments.kills):
        shutil.rmtree(result, ignore_errors=True)
        moment = moments.uniform(0, duration)
        killed = run_and_kill(line, moment)
        finished = list_files(result)
        decided, rows = load_decisions(result), decided_rows(result)
        again = subprocess.run(line, capture_output=True, text=True)
        found = fingerprints(command, result)
        differing = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
        if command == "train" and arguments.budget:
            kept = load_decisions(result)[: len(decided)] == decided
            repeated = decided_rows(result, until=decided[-1].step if decided else 0)[: len(rows)] == rows
            differing = [name for name in differing if name != MODEL_FILE]
            differing += [SCHEDULE_FILE] * (not kept) + [METRICS_FILE] * (not repeated)
        failures += bool(differing) or again.returncode != first.returncode
        outcome = "the same" if not differing else f"DIFFERS: {', '.join(differing)}"
        if again.returncode != first.returncode:
            outcome = f"FAILED: {again.stderr.strip().splitlines()[-1:]}"
        if command == "train" and arguments.budget:
            outcome += f" ({len(decided)} decisions and {len(rows)} rows were there)"
        when = f"killed after {moment:5.1f} s" if killed else f"ended before {moment:5.1f} s"
        print(
            f"  {trial + 1:2}  {when}, {len(finished):3} files there; after the same command again: {outcome}",
            flush=True,
        )
    print(f"{command}: {arguments.kills - failures} of {arguments.kills} the same as undisturbed", flush=True)
    return failures


def command_line(command: str, names: list[str], result: Path, arguments: argparse.Namespace) -> list[str]:
    line = [
        *(sys.executable, "-m", "sdfnet", command),
        f"meshes={arguments.data / arguments.family}",
        f"shapes=[{','.join(names)}]",
        f"sampler.num_samples={arguments.samples}",
    ]
    if command == "sample":
        return [*line, f"samples={result}"]
    return [
        *line,
        f"run={result}",
        f"budget={arguments.budget}" if arguments.budget else f"steps={arguments.steps}",
        f"training.checkpoint_seconds={arguments.checkpoint_seconds}",
    ]


def run_and_kill(line: list[str], moment: float) -> bool:
    """Start a command and kill it after `moment` seconds; return whether it was still running."""
    process = subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        process.wait(moment)
        return False
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.wait()
        return True


def list_files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def decided_rows(result: Path, *, until: int | None = None) -> list[list[str]]:
    """Return the rows of `metrics.csv` up to the last written decision, or up to the step `until`."""
    decisions, path = load_decisions(result), result / METRICS_FILE
    if not decisions or not path.is_file():
        return []
    until = decisions[-1].step if until is None else until
    with open(path, encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["step"] and None not in row.values()]
    return [list(row.values()) for row in rows if int(row["step"]) <= until]


def fingerprints(command: str, result: Path) -> dict[str, str]:
    """Return a hash of each file that must come out the same: all of a store, decoder and codes of a run."""
    files = list_files(result) if command == "sample" else [result / MODEL_FILE, *list_files(result / "samples")]
    existing = [path for path in files if path.exists()]
    return {str(path.relative_to(result)): hashlib.sha256(path.read_bytes()).hexdigest() for path in existing}


if __name__ == "__main__":
    main()
