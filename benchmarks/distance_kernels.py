"""Compare ways to compute signed distances to a mesh; `docs/notes/distances.md` keeps the table.

    pip install --target EXTRA fcpw
    python benchmarks/distance_kernels.py --data DIR --extra EXTRA --before CHECKOUT

Each method builds its trees and answers 250,000 points near the surface, on a closed scan, an open one and a body, with
one thread and queries in Morton order. Times are user time of the processor. The methods take turns, each in a process
of its own, and medians count: ratios then hold on a machine that is shared. Methods that cannot be imported are left
out. `--before` is a checkout of an earlier version to compare with; `--extra` is a folder that holds `fcpw`.

Distances are judged by libigl's tree in double precision, signs by exact winding numbers. "First use" is the time of
first queries to small meshes where no compiled code is on disk, less that of a second process.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

FOLDER = Path(__file__).resolve().parent
MESHES = {"closed": "singles/lucy_100k.ply", "open": "singles/bunny_original_open.ply", "body": "bodies/body_000.ply"}
HEAD = (
    "| | mesh | build s | query s | together | ratio | largest error | wrong signs | first use s |\n" + "|---" * 9 + "|"
)

Array = NDArray[Any]
Query = Callable[[Array], Array]


def sdfnet(vertices: Array, faces: Array) -> Query:
    """Signed distances of the version of sdfnet that is imported first."""
    from sdfnet.mesh.distance import MeshDistance
    from sdfnet.mesh.mesh import Mesh

    distance = MeshDistance(Mesh(vertices, faces))
    distance(vertices[:1])  # Builds what only signs need.
    return lambda points: distance(points).sdf


def libigl(vertices: Array, faces: Array) -> Query:
    """Distances from libigl's tree."""
    import igl

    tree, inside = igl.AABB(), _fast_winding(vertices, faces)
    tree.init(vertices, faces)

    def query(points: Array) -> Array:
        distance = np.sqrt(tree.squared_distance(vertices, faces, points)[0])
        return np.where(inside(points), -distance, distance)

    return query


def fcpw(vertices: Array, faces: Array) -> Query:
    """Distances from FCPW, which computes in single precision."""
    import fcpw as module

    inside = _fast_winding(vertices, faces)
    scene = module.scene_3D()
    scene.set_object_count(1)
    scene.set_object_vertices(vertices.astype(np.float32), 0)
    scene.set_object_triangles(faces.astype(np.int32), 0)
    scene.build(module.aggregate_type.bvh_surface_area, True)

    def query(points: Array) -> Array:
        found, no_limit = module.interaction_3D_list(), np.full(len(points), np.inf, dtype=np.float32)
        scene.find_closest_points(np.asfortranarray(points, dtype=np.float32), no_limit, found)
        distance = np.array([interaction.d for interaction in found])
        return np.where(inside(points), -distance, distance)

    return query


def _fast_winding(vertices: Array, faces: Array) -> Query:
    import igl

    winding = igl.FastWindingNumberBVH()
    winding.init(vertices, faces, 2)
    return lambda points: winding.winding_number(points, 2.0) > 0.5


_TETRAHEDRON = (
    np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]]),
    np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]]),
)

METHODS: dict[str, Callable[[Array, Array], Query]] = {
    "before": sdfnet,
    "sdfnet": sdfnet,
    "FCPW and libigl's winding number": fcpw,
    "libigl's tree and winding number": libigl,
}


def measure(name: str, queries: Path, answer: Path) -> dict[str, float]:
    """Build and ask one method in this process; return seconds of its processor time."""
    with np.load(queries) as given:
        vertices, faces, points = given["vertices"], given["faces"], given["points"]
    started = _seconds()
    for num_faces in (1, 3, 4):  # Summed, closed by a fan, and closed.
        METHODS[name](_TETRAHEDRON[0], _TETRAHEDRON[1][:num_faces])(np.zeros((10, 3)))
    first = _seconds() - started  # Imports, and compiling if nothing is on disk.
    started = _seconds()
    query = METHODS[name](vertices, faces)
    built = _seconds()
    np.save(answer, query(points))
    return {"first": first, "build": built - started, "query": _seconds() - built}


def _seconds() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_utime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder of real meshes")
    parser.add_argument("--before", type=Path, help="checkout of an earlier version")
    parser.add_argument("--extra", type=Path, help="folder that holds further packages")
    parser.add_argument("--points", type=int, default=250_000)
    parser.add_argument("--signs", type=int, default=10_000, help="points whose sign is compared")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--measure", nargs=3, metavar=("NAME", "QUERIES", "ANSWER"), help="used by the program itself")
    arguments = parser.parse_args()
    if arguments.measure:
        name, queries, answer = arguments.measure
        print(json.dumps(measure(name, Path(queries), Path(answer))))
        return
    if arguments.data is None:
        parser.error("the following arguments are required: --data")
    with tempfile.TemporaryDirectory() as temporary:
        compare(arguments, Path(temporary))


def compare(arguments: argparse.Namespace, folder: Path) -> None:
    sys.path[1:1] = [str(FOLDER / "peers"), str(FOLDER)]
    from machine import processor, versions

    print(f"{processor()}; {versions(['numpy', 'numba', 'libigl'])}; {arguments.points:,} points, one thread.\n")
    print(HEAD)
    for case, path in MESHES.items():
        distance, inside = make_case(arguments.data / path, arguments, folder)
        rows: dict[str, list[dict[str, float]]] = {name: [] for name in METHODS if name != "before" or arguments.before}
        failed: dict[str, str] = {}
        for round_number in range(arguments.rounds + 1):  # The first finds no compiled code, and only that counts.
            for name in set(rows) - set(failed):
                try:
                    rows[name].append(ask(name, arguments, folder) | {"round": round_number})
                except subprocess.CalledProcessError as error:
                    failed[name] = error.stderr.strip().splitlines()[-1]
        base = _together(rows["before" if arguments.before else "sdfnet"])
        for name, found in rows.items():
            if name in failed:
                print(f"| {name} | {case} | left out: {failed[name][:100]} | | | | | | |")
                continue
            sdf = np.load(folder / f"{name}.npy")
            error = np.abs(np.abs(sdf) - distance).max()
            wrong = int(((sdf[: len(inside)] < 0) != inside).sum())
            build, query = (statistics.median(row[key] for row in found[1:]) for key in ("build", "query"))
            first = found[0]["first"] - statistics.median(row["first"] for row in found[1:])
            print(
                f"| {name} | {case} | {build:.3f} | {query:.3f} | {build + query:.3f} | {_together(found) / base:.2f} "
                f"| {error:.1e} | {wrong} of {len(inside)} | {first:.1f} |",
                flush=True,
            )


def _together(found: list[dict[str, float]]) -> float:
    return statistics.median(row["build"] + row["query"] for row in found[1:])


def make_case(path: Path, arguments: argparse.Namespace, folder: Path) -> tuple[Array, Array]:
    """Write a mesh and points near it, unit frame, for the methods; return exact distances and what is inside."""
    import igl
    from signs import near_surface, read

    from sdfnet.mesh.winding import mesh_frame, morton_order

    mesh = read(path)
    mesh = mesh.to_unit(mesh_frame(mesh))
    generator = np.random.default_rng(0)
    points = near_surface(mesh, arguments.points, generator)
    some = generator.permutation(len(points))[: arguments.signs]
    points = np.concatenate([points[some], np.delete(points, some, axis=0)])
    inside = igl.winding_number(mesh.vertices, mesh.faces, points[: arguments.signs]) > 0.5
    tree = igl.AABB()
    tree.init(mesh.vertices, mesh.faces)
    distance = np.sqrt(tree.squared_distance(mesh.vertices, mesh.faces, points)[0])
    order = morton_order(points)
    np.savez(folder / "queries.npz", vertices=mesh.vertices, faces=mesh.faces, points=points[order])
    np.save(folder / "order.npy", order)
    return distance, inside


def ask(name: str, arguments: argparse.Namespace, folder: Path) -> dict[str, float]:
    """Run `measure` in a process of its own, and put its answers into the order of the points."""
    from machine import thread_environment

    root = arguments.before if name == "before" else FOLDER.parent
    cache = folder / ("cache_before" if name == "before" else "cache")
    paths = [str(root), *([str(arguments.extra)] if arguments.extra else [])]
    environment = thread_environment(1) | {"PYTHONPATH": ":".join(paths), "NUMBA_CACHE_DIR": str(cache)}
    command = [sys.executable, __file__, "--measure", name, str(folder / "queries.npz"), str(folder / "answer.npy")]
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    sdf = np.empty(arguments.points)
    sdf[np.load(folder / "order.npy")] = np.load(folder / "answer.npy")
    np.save(folder / f"{name}.npy", sdf)
    return json.loads(done.stdout.strip().splitlines()[-1])


if __name__ == "__main__":
    main()
