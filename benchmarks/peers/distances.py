"""Signed distances of points near a mesh of 100,000 faces: this project and its peers in one run.

    python -m venv PEERS && PEERS/bin/pip install open3d warp-lang pysdf point-cloud-utils libigl trimesh rtree …
    python benchmarks/peers/distances.py --data DIR --python PEERS/bin/python --keep FOLDER

Three meshes: a closed scan, the same with a fifth of its faces flipped, and a scan that is open. Every peer runs in a
process of its own with the same number of threads, in the interpreter given by `--python` (ours in this one); one that
cannot be imported there is left out, and said. Distances are held against exact ones (a tree in float64, itself checked
against all triangles at some points), signs against the exact generalized winding number of the undamaged mesh. Errors
are in shares of the radius. Slow peers get a tenth of the points; their times are scaled up and marked.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from distance_peers import PEERS
from machine import processor, thread_environment, versions
from numpy.typing import NDArray

sys.path.insert(1, str(Path(__file__).resolve().parent.parent))

from signs import brute_force, flipped, near_surface, read

from sdfnet.files import write_atomic
from sdfnet.mesh.mesh import Mesh
from sdfnet.mesh.winding import libigl, mesh_frame, morton_order

CLOSED, OPEN = "lucy_100k.ply", "bunny_original_open.ply"
OWN = ("sdfnet", "sdfnet, sorted queries", "sdfnet, repaired first")
SORTED = ("sdfnet, sorted queries", "Open3D, sorted queries")
SLOW = ("trimesh", "mesh_to_sdf, scans", "mesh_to_sdf, samples")
SLOW_SHARE = 10
NUM_BRUTE = 200
HEAD = ("| | version | build s | query s | together s | × ours | largest error | wrong signs |", "|---" * 8 + "|")


@dataclass(frozen=True, eq=False)
class Case:
    """One mesh, the points asked, and what is true of them.

    Attributes
    ----------
    name : str
    mesh : Mesh
        As the libraries get it, unit frame.
    points : (N, 3) float64
    distance : (N,) float64
        Exact, not negative.
    inside : (K,) bool
        Of the first K points.
    """

    name: str
    mesh: Mesh
    points: NDArray[np.float64]
    distance: NDArray[np.float64]
    inside: NDArray[np.bool_]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of real meshes")
    parser.add_argument("--python", type=Path, default=Path(sys.executable), help="interpreter that has the peers")
    parser.add_argument("--keep", type=Path, help="folder for exact values and the table; a temporary one by default")
    parser.add_argument("--points", type=int, default=250_000)
    parser.add_argument("--signs", type=int, default=20_000, help="points whose sign is compared")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--limit", type=float, default=300.0, help="seconds that a peer may take for one mesh")
    parser.add_argument("--only", nargs="*", default=[""], help="peers whose name contains one of these")
    parser.add_argument("--cases", nargs="*", default=["closed", "flipped", "open"])
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        compare(arguments, arguments.keep or Path(temporary))


def compare(arguments: argparse.Namespace, folder: Path) -> None:
    """Measure the chosen peers and print all that is known: what earlier calls left in the folder stays there."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"rows_{arguments.points}_{arguments.threads}.json"
    known: dict[str, dict[str, Any]] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    for name in arguments.cases:
        case = make_case(name, arguments, folder)
        known.setdefault(name, {"faces": len(case.mesh.faces), "rows": {}})
        for peer in PEERS:
            if any(part in peer for part in arguments.only):
                known[name]["rows"][peer] = row = ask(peer, case, arguments, folder)
                print(f"{name}: {peer}: {row}", file=sys.stderr, flush=True)
                write_atomic(path, json.dumps(known, indent=1))
    machine = (
        f"{processor()}, {arguments.threads} threads; {versions(['numpy', 'libigl'])}; {arguments.points:,} points."
    )
    text = "\n".join([machine, *(format_case(name, found) for name, found in known.items())])
    write_atomic(folder / "distances.md", text)
    print(text)


def format_case(name: str, found: dict[str, Any]) -> str:
    """Return a Markdown table of one case."""
    own_row = found["rows"].get("sdfnet", {})
    own = own_row["build"] + own_row["query"] if "query" in own_row else None
    lines = [format_row(peer, found["rows"][peer], own) for peer in PEERS if peer in found["rows"]]
    return "\n".join(["", f"**{name}** ({found['faces']:,} faces)", "", *HEAD, *lines]) + "\n"


def make_case(name: str, arguments: argparse.Namespace, folder: Path) -> Case:
    """Return the mesh called `name` with exact values, kept in `folder` because they take a minute."""
    mesh = read(arguments.data / "singles" / (OPEN if name == "open" else CLOSED))
    mesh = mesh.to_unit(mesh_frame(mesh))
    generator = np.random.default_rng(0)
    points = near_surface(mesh, arguments.points, generator)[generator.permutation(arguments.points)]
    path = folder / f"exact_{name}_{arguments.points}_{arguments.signs}.npz"
    if not path.is_file():
        np.savez(path, **exact_values(mesh, points, arguments.signs))
    with np.load(path) as exact:
        distance, inside = exact["distance"], exact["inside"]
    return Case(name, flipped(mesh, generator) if name == "flipped" else mesh, points, distance, inside)


def exact_values(mesh: Mesh, points: NDArray[np.float64], num_signs: int) -> dict[str, NDArray[Any]]:
    tree = libigl().AABB()
    tree.init(mesh.vertices, mesh.faces)
    order = morton_order(points)
    distance = np.empty(len(points))
    distance[order] = np.sqrt(tree.squared_distance(mesh.vertices, mesh.faces, points[order])[0])
    apart = np.abs(distance[:NUM_BRUTE] - brute_force(mesh, points[:NUM_BRUTE])).max()
    if apart > 1e-9:
        raise RuntimeError(f"the tree's distances differ from those to all triangles by {apart}")
    inside = libigl().winding_number(mesh.vertices, mesh.faces, points[:num_signs]) > 0.5
    return {"distance": distance, "inside": inside}


def ask(peer: str, case: Case, arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Run one peer and judge its answer; what went wrong is under "failed"."""
    scale = SLOW_SHARE if peer in SLOW else 1
    points = case.points[: len(case.points) // scale]
    order = morton_order(points) if peer in SORTED else np.arange(len(points))
    queries, answer = folder / "queries.npz", folder / "answer.npz"
    np.savez(queries, vertices=case.mesh.vertices, faces=case.mesh.faces, points=points[order])
    answer.unlink(missing_ok=True)
    python = sys.executable if peer in OWN else str(arguments.python)
    program = str(Path(__file__).with_name("distance_peers.py"))
    options = ["--threads", str(arguments.threads), "--repeats", str(arguments.repeats)]
    try:
        done = subprocess.run(
            [python, program, peer, str(queries), str(answer), *options],
            env=thread_environment(arguments.threads), capture_output=True, text=True, check=False,
            timeout=arguments.limit,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return {"failed": f"not done after {arguments.limit:g} s"}
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        return {"failed": last}
    times = json.loads(done.stdout.strip().splitlines()[-1])
    sdf = np.empty(len(points))
    with np.load(answer) as found:
        sdf[order] = found["sdf"]
    return times | {"query": times["query"] * scale, "scaled": scale > 1} | judge(sdf, case)


def judge(sdf: NDArray[np.float64], case: Case) -> dict[str, float]:
    """Return the largest error of the distance and the share of wrong signs; values that are not finite are wrong."""
    error = np.abs(np.abs(sdf) - case.distance[: len(sdf)])
    count = min(len(sdf), len(case.inside))
    wrong = (sdf[:count] < 0) != case.inside[:count]
    return {"error": float(np.nan_to_num(error, nan=np.inf).max()), "wrong": float(wrong.mean())}


def format_row(peer: str, row: dict[str, Any], own_seconds: float | None) -> str:
    if "failed" in row:
        return f"| {peer} | left out: {row['failed'][:100]} | | | | | | |"
    together = row["build"] + row["query"]
    ratio = "" if own_seconds is None else f"{together / own_seconds:.1f}"
    mark = "*" if row["scaled"] else ""
    return (
        f"| {peer} | {row['version']} | {row['build']:.2f} | {row['query']:.2f}{mark} | {together:.2f}{mark} | {ratio} "
        f"| {row['error']:.1e} | {row['wrong']:.3%} |"
    )


if __name__ == "__main__":
    main()
