"""Measure the anonymous memory of `sample` and `train`, summed over their processes, for few and for many shapes.

    python benchmarks/memory.py --data DIR                  # DIR/blobs: 75 shapes, then all 300
    python benchmarks/memory.py --data DIR --counts 20 40 --commands sample

Anonymous memory is what a machine must have; pages of mapped files (the samples, the libraries) can be dropped at any
time and do not count. Pages that several processes share count once. Linux only: it reads /proc. Goals: at most 2 GB
with all 300 blobs, and not growing with the number of shapes.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from sdfnet.mesh.io.read import find_meshes

LIMIT_MB = 2000
INTERVAL = 0.1


@dataclass(frozen=True)
class Usage:
    """The peak of one command: megabytes over all processes together, and how many there were at once."""

    anonymous_mb: float
    num_processes: int
    seconds: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("SDFNET_DATA"), help="folder of real meshes")
    parser.add_argument("--family", default="blobs")
    parser.add_argument("--counts", type=int, nargs="+", default=[75, 300])
    parser.add_argument("--commands", nargs="+", choices=["sample", "train"], default=["sample", "train"])
    parser.add_argument("--samples", type=int, default=250_000, help="samples per shape")
    parser.add_argument("--steps", type=int, default=200, help="of training; all shapes are visited if they suffice")
    arguments = parser.parse_args()
    if arguments.data is None:
        parser.error("give --data DIR or set SDFNET_DATA")
    peaks: dict[str, list[float]] = {}
    print(f"{'command':8} {'meshes':>6} {'peak anonymous':>15} {'processes':>9} {'time':>8}")
    for count in arguments.counts:
        with tempfile.TemporaryDirectory() as temporary:
            meshes = link_meshes(arguments.data / arguments.family, Path(temporary) / "meshes", count)
            for command in ["sample", *(["train"] if "train" in arguments.commands else [])]:
                usage = measure(command_line(command, meshes, Path(temporary), arguments))
                if command in arguments.commands:
                    peaks.setdefault(command, []).append(usage.anonymous_mb)
                    print(
                        f"{command:8} {len(list(meshes.iterdir())):>6} {usage.anonymous_mb:>12,.0f} MB "
                        f"{usage.num_processes:>9} {usage.seconds:>6.0f} s",
                        flush=True,
                    )
    for command, values in peaks.items():
        verdict = "reached" if max(values) <= LIMIT_MB else "missed"
        growth = values[-1] - values[0]
        print(f"{command}: peak {max(values):,.0f} MB, goal {LIMIT_MB:,} MB {verdict}; growth {growth:+,.0f} MB")


def link_meshes(source: Path, folder: Path, count: int) -> Path:
    """Make a folder with links to the first `count` meshes of `source`."""
    folder.mkdir()
    for path in list(find_meshes(source).values())[:count]:
        (folder / path.name).symlink_to(path.resolve())
    return folder


def command_line(command: str, meshes: Path, folder: Path, arguments: argparse.Namespace) -> list[str]:
    line = [
        *(sys.executable, "-m", "sdfnet", command),
        f"meshes={meshes}",
        f"samples={folder / 'samples'}",
        f"sampler.num_samples={arguments.samples}",
    ]
    return [*line, f"run={folder / 'run'}", f"steps={arguments.steps}"] if command == "train" else line


def measure(command: list[str]) -> Usage:
    """Run a command to its end and return its peak."""
    began = time.perf_counter()
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        peak, most = 0.0, 0
        while process.poll() is None:
            tree = descendants(process.pid)
            peak = max(peak, sum(anonymous_mb(pid) for pid in tree))
            most = max(most, len(tree))
            time.sleep(INTERVAL)
        if process.returncode != 0:
            output.seek(0)
            raise RuntimeError(
                f"{' '.join(command)} ended with {process.returncode}:\n{output.read().decode()[-2000:]}"
            )
    return Usage(peak, most, time.perf_counter() - began)


def descendants(root: int) -> list[int]:
    """Return the process and all below it."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except (OSError, IndexError):
                continue  # it has ended meanwhile
            children.setdefault(parent, []).append(int(entry.name))
    found, left = [], [root]
    while left:
        pid = left.pop()
        found.append(pid)
        left += children.get(pid, [])
    return found


def anonymous_mb(pid: int) -> float:
    """Return the proportional anonymous memory of a process, swapped pages included; 0 if it has ended."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0
    values = {line.split(":")[0]: line.split()[1] for line in lines[1:]}
    return (int(values["Pss_Anon"]) + int(values.get("SwapPss", 0))) / 1000


if __name__ == "__main__":
    main()
