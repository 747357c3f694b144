"""Compare sparse with dense extraction of learned shapes: evaluations, time, and whether the mesh is the same.

    python benchmarks/extraction.py runs/bodies                # two shapes at 128, 256 and 512; memory at 1024
    python benchmarks/extraction.py runs/bodies --shapes 'chair_*' --resolutions 256 --memory 0

Times are without vertex normals, which cost the same either way; `with normals` is sparse extraction as the commands do
it. Sparse ones are medians of three. Memory is the peak of a process of its own that does nothing but one sparse
extraction, the libraries included. Goals: 256³ in at most 5 % of the evaluations and a tenth of the time, 512³ in
2.5 % and 15 s, 1024³ in 2 GB.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import multiprocessing
import re
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from sdfnet.extraction import extract_mesh
from sdfnet.fields import Field
from sdfnet.geometry.bounds import Lattice
from sdfnet.mesh.mesh import Mesh
from sdfnet.runs import load_run, select_shapes


class Counted(Field):
    """A field that counts the points it is asked for."""

    def __init__(self, field: Field) -> None:
        self.bounds, self.accuracy, self.num_evaluations = field.bounds, field.accuracy, 0
        self._field = field

    def __call__(self, points: Tensor) -> Tensor:
        self.num_evaluations += points[..., 0].numel()
        return self._field(points)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--shapes", nargs="+", help="names and globs; by default the first two")
    parser.add_argument("--resolutions", type=int, nargs="*", default=[128, 256, 512])
    parser.add_argument("--memory", type=int, default=1024, help="resolution whose peak memory is measured; 0 for none")
    arguments = parser.parse_args()
    run = load_run(arguments.run)
    names = select_shapes(run.names, arguments.shapes) if arguments.shapes else list(run.names[:2])
    extract_mesh(run.field(names[0]), resolution=48)  # imports and first calls
    heads = f"{'evaluated':>9} {'dense':>8} {'sparse':>8} {'ratio':>6} {'with normals':>12}"
    print(f"{'shape':24} {'resolution':>10} {heads}  same")
    for resolution in arguments.resolutions:
        for name in names:
            compare(name, run.field(name), resolution)
    for name in names if arguments.memory else []:
        with concurrent.futures.ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            seconds, megabytes = pool.submit(measure_memory, arguments.run, name, arguments.memory).result()
        print(f"{name:24} {arguments.memory:>10} sparse with normals {seconds:.1f} s, peak {megabytes:,.0f} MB")


def compare(name: str, field: Field, resolution: int) -> None:
    counted = Counted(field)
    found = extract_mesh(counted, resolution=resolution, vertex_normals=False)
    share = counted.num_evaluations / resolution**3
    sparse_seconds = median_seconds(lambda: extract_mesh(field, resolution=resolution, vertex_normals=False))
    whole_seconds = median_seconds(lambda: extract_mesh(field, resolution=resolution))
    began = time.perf_counter()
    dense = extract_mesh(field, resolution=resolution, vertex_normals=False, sparse=False)
    dense_seconds = time.perf_counter() - began
    verdict = difference(found, dense, Lattice.over(field.bounds, resolution).spacing)
    print(
        f"{name:24} {resolution:>10} {share:>9.2%} {dense_seconds:>6.2f} s {sparse_seconds:>6.2f} s "
        f"{dense_seconds / sparse_seconds:>6.1f} {whole_seconds:>10.2f} s  {verdict}",
        flush=True,
    )


def median_seconds(call: Callable[[], object], tries: int = 3) -> float:
    seconds = []
    for _ in range(tries):
        began = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


def difference(mesh: Mesh, other: Mesh, spacing: float) -> str:
    """Say whether two meshes have the same faces up to order, and how far their vertices are apart."""
    if mesh.vertices.shape != other.vertices.shape or mesh.faces.shape != other.faces.shape:
        return f"NO: {len(mesh.faces)} and {len(other.faces)} faces"
    (vertices, faces), (vertices_other, faces_other) = sorted_mesh(mesh), sorted_mesh(other)
    apart = np.abs(vertices - vertices_other).max() / spacing
    same = np.array_equal(faces, faces_other) and apart <= 1e-5
    return f"{'yes' if same else 'NO'}: {len(faces)} faces, vertices within {apart:.1g} of a spacing"


def sorted_mesh(mesh: Mesh) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return vertices sorted by place, and faces sorted, each from its lowest vertex on."""
    order = np.lexsort(np.round(mesh.vertices, 9).T)
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order))
    faces = rank[mesh.faces]
    faces = np.take_along_axis(faces, (faces.argmin(axis=1)[:, None] + np.arange(3)) % 3, axis=1)
    return mesh.vertices[order], faces[np.lexsort(faces.T)]


def measure_memory(run: Path, name: str, resolution: int) -> tuple[float, float]:
    """Return the seconds of one sparse extraction and the peak resident memory of this process in MB (Linux)."""
    field = load_run(run).field(name)
    began = time.perf_counter()
    extract_mesh(field, resolution=resolution)
    seconds = time.perf_counter() - began
    # Not getrusage: a child starts with the peak of the process that started it.
    status = Path("/proc/self/status").read_text(encoding="ascii")
    (peak,) = re.findall(r"VmHWM:\s+(\d+) kB", status)
    return seconds, int(peak) / 1024


if __name__ == "__main__":
    main()
