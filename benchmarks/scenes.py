"""Measure scenes: time and edges beside sdfcad, random trees, and a scene of 100 nodes with five learned shapes.

    python benchmarks/scenes.py block                                  # sphere and box without three cylinders, 512³
    python benchmarks/scenes.py block --peer /path/to/python           # a Python that has sdfcad, beside it
    python benchmarks/scenes.py trees --number 200 --resolution 32     # closed, and the same after a round trip
    python benchmarks/scenes.py hundred runs/chairs                    # a preview at 64³ after an edit, and 256³
    python benchmarks/scenes.py page runs/chairs page.html             # bytes of the offline page of three sliders

Times are processor times of one process, which a busy machine disturbs least, and the times of the clock beside them.
Run each with one thread (OMP_NUM_THREADS=1) to compare them with the peer's `workers=1`.
Goals: half of sdfcad's time at an equal step, edges within a hundredth of a spacing; no open tree; 1 s and 10 s; 5 MB.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sdfnet.extraction import extract_mesh
from sdfnet.fields import Box, Cylinder, Field, Sphere, X, Y, Z, orient
from sdfnet.geometry.bounds import Lattice
from sdfnet.mesh.mesh import Mesh
from sdfnet.mesh.topology import check_closed
from sdfnet.runs import load_run
from sdfnet.scenes import Node, SceneFile, build_scene, extract_built, format_scene, parse_scene

PEER = """
import sys, time
from sdf import sphere, box, cylinder, X, Y, Z
step = float(sys.argv[1])
f = sphere(1) & box(1.5)
c = cylinder(0.5)
f -= c.orient(X) | c.orient(Y) | c.orient(Z)
start, wall = time.process_time(), time.perf_counter()
points = f.generate(step=step, workers=1, verbose=False, sparse=True, bounds=((-0.7875,) * 3, (0.7875,) * 3))
print(time.process_time() - start, time.perf_counter() - wall, len(points) // 3)
"""


def timed(call: Callable[[], Any]) -> tuple[Any, float, float]:
    """Return the result, its processor seconds and its seconds by the clock."""
    start, wall = time.process_time(), time.perf_counter()
    result = call()
    return result, time.process_time() - start, time.perf_counter() - wall


def block() -> tuple[Field, list[Field]]:
    """Return the solid of fogleman's example, and the surfaces that it is made of."""
    bars = [orient(Cylinder(0.5, 2.0), axis) for axis in (X, Y, Z)]
    ball, cube = Sphere(1.0), Box([0.75] * 3)
    return (ball & cube) - (bars[0] | bars[1] | bars[2]), [ball, cube, *bars]


def edge_errors(mesh: Mesh, surfaces: list[Field], spacing: float) -> np.ndarray:
    """Return for each vertex on a sharp edge how far it is from the second of its two surfaces, in spacings."""
    normals, faces = mesh.face_normals, mesh.faces
    corners = np.sort(np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]), axis=1)
    order = np.lexsort(corners.T)
    owner = np.tile(np.arange(len(faces)), 3)[order].reshape(-1, 2)  # every edge of a closed mesh has two faces
    is_sharp = (normals[owner[:, 0]] * normals[owner[:, 1]]).sum(axis=1) < np.cos(np.radians(20))
    on_edge = np.unique(corners[order].reshape(-1, 2, 2)[is_sharp, 0])
    points = torch.from_numpy(mesh.vertices[on_edge])
    values = torch.stack([field(points).abs() for field in surfaces]).numpy()
    return np.sort(values, axis=0)[1] / spacing


def run_block(resolution: int, peer: str | None) -> None:
    solid, surfaces = block()
    spacing = Lattice.over(solid.bounds, resolution).spacing
    for sharp in (True, False):
        options = {"resolution": resolution, "sharp": sharp, "vertex_normals": False}  # the peer gives none
        mesh, seconds, wall = timed(lambda options=options: extract_mesh(solid, **options))
        closed = "closed" if check_closed(mesh).is_clean else "NOT closed"
        told = f"{seconds:.2f} s, clock {wall:.2f} s, {len(mesh.faces):,} faces, {closed}"
        print(f"sdfnet {resolution} sharp={sharp}: {told}", flush=True)
        if sharp:
            errors = edge_errors(mesh, surfaces, spacing)
            told = ", ".join(f"{name} {np.quantile(errors, q):.2g}" for name, q in (("median", 0.5), ("99 %", 0.99)))
            print(f"  edge vertices {len(errors):,}: {told}, largest {errors.max():.2g} spacings off")
    if peer:
        done = subprocess.run([peer, "-c", PEER, str(spacing)], capture_output=True, text=True, check=False)
        words = done.stdout.split() or [done.stderr[-400:]]
        print(f"sdfcad at the same step {spacing:.5f} (processor s, clock s, faces): {' '.join(words)}")


def run_trees(number: int, resolution: int) -> None:
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "scenes"))
    from random_trees import random_tree

    counts = {"closed and equal": 0, "open": 0, "different": 0, "no surface": 0}
    for seed in range(number):
        scene = SceneFile(random_tree(seed))
        back = parse_scene(format_scene(scene))
        try:
            first, second = (extract_built(build_scene(each), resolution=resolution).mesh for each in (scene, back))
        except ValueError:
            counts["no surface"] += 1
            print(f"tree {seed} has no surface at {resolution}")
            continue
        equal = np.array_equal(first.vertices, second.vertices) and np.array_equal(first.faces, second.faces)
        clean = check_closed(first).is_clean
        counts["closed and equal" if equal and clean else "different" if clean else "open"] += 1
        if not (equal and clean):
            print(f"tree {seed}: equal {equal}, {check_closed(first)}")
    print(f"{number} trees at {resolution}: {counts}")


def hundred_nodes(run: Path) -> SceneFile:
    """Return a scene of 100 nodes: five learned chairs on a drilled floor with rails and knobs."""
    names = load_run(run).names
    arguments = {"run": str(run.resolve()), "frame": "unit"}
    chairs = [
        Node("learned", arguments={**arguments, "shape": name}, placing={"move": (3.0 * index, 1, 0)})
        for index, name in enumerate((names * 5)[:5])
    ]
    kinds = (
        ("sphere", {"radius": 0.3}),
        ("box", {"half_extents": (0.3, 0.2, 0.3)}),
        ("cylinder", {"radius": 0.2, "half_height": 0.5}),
    )
    knobs = [
        Node(
            kinds[index % 3][0],
            arguments=kinds[index % 3][1],
            placing={"move": (0.35 * index - 8, -0.5, 2.5 * (-1) ** index)},
        )
        for index in range(91)
    ]
    floor = Node("box", arguments={"half_extents": ("width", 0.3, 4)}, placing={"move": (6, -0.6, 0)})
    top = Node("union", (*chairs, *knobs, Node("difference", (floor, Node("sphere", arguments={"radius": 1.0})))))
    return parse_scene("parameters: {width: 9}\n" + format_scene(SceneFile(top)))


def run_hundred(run: Path) -> None:
    scene = hundred_nodes(run)
    nodes = list(scene.shape.walk())
    print(f"{len(nodes)} nodes, {sum(node.kind == 'learned' for node in nodes)} learned", flush=True)
    build_scene(scene)  # the first reading of the run, which a viewer does once
    for resolution in (64, 256):
        for edit in (9.0, 9.5):
            found, seconds, wall = timed(
                lambda edit=edit, resolution=resolution: extract_built(
                    build_scene(scene, {"width": edit}), resolution=resolution, vertex_normals=False
                )
            )
        print(f"{resolution}: {seconds:.2f} s, clock {wall:.2f} s after an edit, {len(found.mesh.faces):,} faces")


def run_page(run: Path, path: Path) -> None:
    from sdfnet.viewer import open_subject, save_slider_page

    save_slider_page(open_subject(load_run(run)), path, progress=True)
    print(f"{path.stat().st_size / 1e6:.2f} MB for three sliders of nine meshes each at 64³")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["block", "trees", "hundred", "page"])
    parser.add_argument("paths", type=Path, nargs="*")
    parser.add_argument("--peer", help="a Python that has sdfcad")
    parser.add_argument("--number", type=int, default=200)
    parser.add_argument("--resolution", type=int)
    options = parser.parse_args()
    if options.what == "block":
        run_block(options.resolution or 512, options.peer)
    elif options.what == "trees":
        run_trees(options.number, options.resolution or 32)
    elif options.what == "hundred":
        run_hundred(options.paths[0])
    else:
        run_page(options.paths[0], options.paths[1])


if __name__ == "__main__":
    main()
