"""Measure what refining a surface buys and costs: projection, sharp edges, fewer faces.

    python benchmarks/refinement.py                          # a box less a cylinder, also turned, in closed form
    python benchmarks/refinement.py runs/chairs --shapes 4   # learned shapes, and the exact fields of their sources

Closed form, lengths in spacings of the lattice: `edges` is how far points along the true edges are from the mesh, mean
and largest; `features` how far the mesh's own edge vertices are from the true edges, at most. Learned: surface distance
to the source in percent of the radius, normal consistency, and seconds with vertex normals.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from sdfnet.evaluation.closest_points import Surface, match_surfaces
from sdfnet.evaluation.metrics import distances_of, normal_consistency
from sdfnet.evaluation.report import source_surface
from sdfnet.extraction import extract_mesh
from sdfnet.fields import Box, Cylinder, Difference, Field, MeshField, Transformed, rotation_about
from sdfnet.geometry.bounds import UNIT_BOUNDS, Bounds, Lattice
from sdfnet.mesh.distance import MeshDistance
from sdfnet.mesh.mesh import Mesh
from sdfnet.mesh.quality import count_self_intersections
from sdfnet.mesh.remesh import simplify_mesh
from sdfnet.mesh.topology import check_closed
from sdfnet.runs import load_run
from sdfnet.solids.source_shape import load_shape

HALF = np.array([0.8, 0.5, 0.6])
RADIUS = 0.3
TURN = rotation_about([1, 2, 0.5], 31)
NUM_POINTS = 100_000

VARIANTS: dict[str, dict[str, object]] = {
    "plain": {},
    "project_steps=1": {"project_steps": 1},
    "project_steps=2": {"project_steps": 2},
    "sharp": {"sharp": True},
    "sharp, 2 steps": {"sharp": True, "project_steps": 2},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, nargs="?")
    parser.add_argument("--shapes", type=int, default=4, help="how many of the run's shapes")
    parser.add_argument("--resolutions", type=int, nargs="+", default=None)
    parser.add_argument("--faces", type=int, nargs="*", default=[20_000, 5_000])
    arguments = parser.parse_args()
    if arguments.run is None:
        for resolution in arguments.resolutions or [32, 64, 128, 256]:
            for turned in (False, True):
                measure_solid(resolution, turned=turned)
    else:
        for resolution in arguments.resolutions or [128]:
            measure_run(arguments.run, arguments.shapes, resolution, arguments.faces)


def measure_solid(resolution: int, *, turned: bool) -> None:
    field: Field = Difference(Box(HALF), Cylinder(RADIUS, 2.0))
    volume = float(8 * HALF.prod() - np.pi * RADIUS**2 * 2 * HALF[1])
    edges = true_edges()
    if turned:
        field, edges = Transformed(field, rotation=TURN), edges @ TURN.T
    spacing = Lattice.over(field.bounds, resolution).spacing
    reference = Surface.of(extract_mesh(field, resolution=400, sharp=True, vertex_normals=False))
    print(f"box less cylinder{', turned' if turned else ''}, {resolution}³")
    for name in ("plain", "sharp"):
        began = time.perf_counter()
        mesh = extract_mesh(field, resolution=resolution, vertex_normals=False, **VARIANTS[name])  # type: ignore[arg-type]
        seconds = time.perf_counter() - began
        off = MeshDistance(mesh).unsigned(edges).distance / spacing
        match = match_surfaces(
            Surface.of(mesh), reference, num_points=NUM_POINTS, generator=torch.Generator().manual_seed(0)
        )
        features = feature_distances(mesh, edges) / spacing
        print(
            f"  {name:6} {len(mesh.faces):>7} faces, {seconds:5.2f} s; "
            f"edges {off.mean():.5f} mean, {off.max():.3f} max, "
            f"beyond a tenth {(off > 0.1).mean():.2%}; features {features.max(initial=0):.4f}; "
            f"volume {mesh.signed_volume / volume - 1:+.5%}; normals {normal_consistency(match):.5f}; "
            f"{check_closed(mesh)}; {count_self_intersections(mesh)} faces cross",
            flush=True,
        )


def true_edges() -> NDArray[np.float64]:
    """Return points along the twelve edges of the box and the two rims of the hole, (N, 3)."""
    along = np.linspace(-1, 1, 20_000)
    lines = []
    for axis in range(3):
        for signs in np.ndindex(2, 2):
            points = np.zeros((len(along), 3))
            points[:, axis] = along * HALF[axis]
            points[:, [other for other in range(3) if other != axis]] = (2 * np.array(signs) - 1) * HALF[
                [other for other in range(3) if other != axis]
            ]
            lines.append(points)
    turn = np.linspace(0, 2 * np.pi, 40_000)
    for sign in (-1, 1):
        lines.append(
            np.stack([RADIUS * np.cos(turn), np.full_like(turn, sign * HALF[1]), RADIUS * np.sin(turn)], axis=1)
        )
    return np.concatenate(lines)


def feature_distances(mesh: Mesh, edges: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return how far the ends of those edges of `mesh` are from the true ones at which its faces meet by over 60°."""
    from scipy.spatial import cKDTree

    solid = mesh.to_trimesh()
    ends = np.unique(solid.face_adjacency_edges[solid.face_adjacency_angles > np.radians(60)])
    return cKDTree(edges).query(mesh.vertices[ends])[0] if len(ends) else np.zeros(0)


def measure_run(path: Path, num_shapes: int, resolution: int, faces: list[int]) -> None:
    run = load_run(path)
    rows: dict[str, list[list[float]]] = {}
    for name in run.names[:num_shapes]:
        shape = run.shape(name)
        source = source_surface(load_shape(Path(shape.source), name=name, rule=shape.rule), shape.similarity)
        exact = MeshField(source.mesh)
        measure_field("learned", run.field(name), source, resolution, faces, rows)
        measure_field("exact", exact, source, resolution, [], rows)
    print(f"{path.name}, {num_shapes} shapes at {resolution}: mean over the shapes")
    print(f"{'field and way':28} {'seconds':>8} {'faces':>8} {'mean %':>8} {'p95 %':>8} {'normals':>8} {'unsound':>8}")
    for label, numbers in rows.items():
        seconds, count, mean, p95, consistency, unsound = np.mean(numbers, axis=0)
        print(f"{label:28} {seconds:8.2f} {count:8.0f} {mean:8.4f} {p95:8.4f} {consistency:8.4f} {unsound:8.2f}")


def measure_field(
    kind: str, field: Field, source: Surface, resolution: int, faces: list[int], rows: dict[str, list[list[float]]]
) -> None:
    bounds: Bounds = UNIT_BOUNDS
    for variant, options in VARIANTS.items():
        began = time.perf_counter()
        mesh = extract_mesh(field, resolution=resolution, bounds=bounds, **options)  # type: ignore[arg-type]
        seconds = time.perf_counter() - began
        rows.setdefault(f"{kind}: {variant}", []).append([seconds, *numbers_of(mesh, source)])
        for max_faces in faces if variant in ("plain", "sharp") else []:
            began = time.perf_counter()
            simple = simplify_mesh(mesh, max_faces=max_faces)
            seconds = time.perf_counter() - began
            rows.setdefault(f"{kind}: {variant}, {max_faces}", []).append([seconds, *numbers_of(simple.mesh, source)])


def numbers_of(mesh: Mesh, source: Surface) -> list[float]:
    match = match_surfaces(Surface.of(mesh), source, num_points=NUM_POINTS, generator=torch.Generator().manual_seed(0))
    distance = distances_of(match)
    return [
        len(mesh.faces),
        distance.mean,
        distance.p95,
        normal_consistency(match),
        float(not check_closed(mesh).is_clean),
    ]


if __name__ == "__main__":
    main()
