"""Measure how right signed distances are on meshes that are wrong.

Every mesh is damaged in the ways that users' files are (faces flipped, reversed duplicates added, taken apart into a
triangle soup), repaired by `make_solid`, and asked for the sign of points near its surface. The judge is the exact
generalized winding number of the undamaged mesh; of an open mesh, that of the mesh itself. Distances are judged by
brute force over all triangles. Goals: at most 0.1 % of signs wrong, distances within 10⁻⁶ of the radius.

The blobs are convex decompositions with gaps of about 10⁻⁴ of the radius between their pieces. `make_solid` closes
those, and points in them count as wrong here: up to 0.3 % of points this close to the surface.

Run it with the folder of real meshes (see its README; by default the environment variable SDFNET_DATA):

    python benchmarks/signs.py --data DIR                     # the single meshes and some of each family
    python benchmarks/signs.py --data DIR --only "bunny*"     # those whose name matches
    python benchmarks/signs.py                                # without data: analytic shapes only
"""

from __future__ import annotations

import argparse
import fnmatch
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import trimesh
from numpy.typing import NDArray

from sdfnet.mesh.distance import MeshDistance
from sdfnet.mesh.mesh import Mesh
from sdfnet.mesh.winding import libigl, mesh_frame, spread_over_surface
from sdfnet.solids.solid import Solid, make_solid

FAMILY_SAMPLES = 4
"""Meshes taken from each folder of a family."""

Damage = Callable[[Mesh, np.random.Generator], Mesh]


def flipped(mesh: Mesh, generator: np.random.Generator) -> Mesh:
    """Turn 20 % of the faces."""
    faces = mesh.faces.copy()
    rows = generator.permutation(len(faces))[: len(faces) // 5]
    faces[rows] = faces[rows][:, ::-1]
    return Mesh(mesh.vertices, faces)


def doubled(mesh: Mesh, generator: np.random.Generator) -> Mesh:
    """Add 20 % of the faces again, reversed."""
    rows = generator.permutation(len(mesh.faces))[: len(mesh.faces) // 5]
    return Mesh(mesh.vertices, np.concatenate([mesh.faces, mesh.faces[rows][:, ::-1]]))


def all_doubled(mesh: Mesh, generator: np.random.Generator) -> Mesh:
    """Add every face again, reversed."""
    return Mesh(mesh.vertices, np.concatenate([mesh.faces, mesh.faces[:, ::-1]]))


def soup(mesh: Mesh, generator: np.random.Generator) -> Mesh:
    """Give every face its own vertices, and shuffle the faces."""
    triangles = mesh.triangles[generator.permutation(len(mesh.faces))]
    return Mesh(triangles.reshape(-1, 3), np.arange(3 * len(triangles)).reshape(-1, 3))


def everything(mesh: Mesh, generator: np.random.Generator) -> Mesh:
    """Do all of these."""
    return soup(doubled(flipped(mesh, generator), generator), generator)


DAMAGES: dict[str, Damage] = {
    "none": lambda mesh, generator: mesh,
    "flipped": flipped,
    "doubled": doubled,
    "all doubled": all_doubled,
    "soup": soup,
    "all of it": everything,
}


def analytic_meshes() -> dict[str, Mesh]:
    """Return shapes for a run without data."""
    sphere = trimesh.creation.icosphere(subdivisions=4)
    inner = trimesh.creation.icosphere(subdivisions=3, radius=0.5)
    inner.invert()
    shapes = {
        "sphere": sphere,
        "hollow sphere": trimesh.util.concatenate([sphere, inner]),
        "torus": trimesh.creation.torus(1.0, 0.3),
        "far box": trimesh.creation.box().apply_translation([1e6, 1e6, 1e6]),
    }
    return {name: Mesh(shape.vertices, shape.faces) for name, shape in shapes.items()}


def real_meshes(data: Path) -> dict[str, Path]:
    """Return the single meshes and some of each family."""
    found = {path.name: path for path in sorted((data / "singles").iterdir()) if path.suffix in (".obj", ".ply")}
    for family in ("bodies", "blobs", "wings", "letters"):
        paths = sorted(path for path in (data / family).rglob("*") if path.suffix in (".obj", ".ply", ".stl"))
        chosen = paths[:: max(1, len(paths) // FAMILY_SAMPLES)][:FAMILY_SAMPLES]
        found |= {f"{family}/{path.stem}": path for path in chosen}
    return found


def near_surface(mesh: Mesh, num_points: int, generator: np.random.Generator) -> NDArray[np.float64]:
    """Return points around the surface: half within about 1 % of the radius, half within 0.1 %."""
    points, _ = spread_over_surface(mesh, num_points)
    scale = np.where(np.arange(num_points) % 2 == 0, 1e-2, 1e-3) / mesh_frame(mesh).scale
    return points + generator.normal(size=points.shape) * scale[:, None]


def brute_force(mesh: Mesh, points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the distance of each point (N, 3) to the nearest of all triangles, (N,), float64 and without a tree.

    Not `trimesh.triangles.closest_point`: on meshes as small as the original bunny it is off by 10⁻⁴ of the radius.
    """
    triangles = mesh.triangles[mesh.face_areas > 0]
    sides = np.roll(triangles, -1, axis=1) - triangles
    normals = np.cross(sides[:, 0], -sides[:, 2])
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    inward = np.cross(normals[:, None], sides)
    squared_lengths = (sides**2).sum(axis=2)
    distances = np.empty(len(points))
    for row, point in enumerate(points):
        arms = point - triangles
        along = np.clip((arms * sides).sum(axis=2) / squared_lengths, 0, 1)
        to_sides = np.linalg.norm(arms - along[..., None] * sides, axis=2).min(axis=1)
        to_planes = np.abs((arms[:, 0] * normals).sum(axis=1))
        above = ((arms * inward).sum(axis=2) >= 0).all(axis=1)
        distances[row] = np.where(above, to_planes, to_sides).min()
    return distances


def measure(name: str, mesh: Mesh, *, num_points: int, num_brute: int, generator: np.random.Generator) -> list[str]:
    """Return one line for each damage."""
    frame = mesh_frame(mesh)
    points = near_surface(mesh, num_points, generator)
    unit = mesh.to_unit(frame)
    truth = libigl().winding_number(unit.vertices, unit.faces, frame.to_unit(points)) > 0.5
    lines = []
    for damage, apply in DAMAGES.items():
        damaged = apply(mesh, generator)
        start = time.perf_counter()
        try:
            solid = make_solid(damaged)
        except ValueError as error:
            lines.append(f"{name:28s} {damage:12s} refused: {error}")
            continue
        repaired = time.perf_counter()
        distance = MeshDistance(solid.mesh)
        sdf = distance(points).sdf
        stop = time.perf_counter()
        error = distance_error(solid, points[:num_brute]) * frame.scale if damage == "none" else None
        lines.append(
            f"{name:28s} {damage:12s} {len(damaged.faces):8d} {'closed' if solid.closed else 'open':6s} "
            f"{((sdf < 0) != truth).mean():8.3%} {'' if error is None else f'{error:.1e}':>9s} "
            f"{repaired - start:8.2f} {stop - repaired:8.2f}"
        )
    return lines


def distance_error(solid: Solid, points: NDArray[np.float64]) -> float:
    """Return the largest difference to brute force, in the mesh's unit."""
    found = MeshDistance(solid.mesh)(points)
    return float(np.abs(np.abs(found.sdf) - brute_force(solid.mesh, points)).max(initial=0.0))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("SDFNET_DATA"), help="folder of real meshes")
    parser.add_argument("--only", default="*", help="glob over names")
    parser.add_argument("--points", type=int, default=20_000, help="points near the surface of each mesh")
    parser.add_argument("--brute", type=int, default=100, help="points whose distance is checked by brute force")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    generator = np.random.default_rng(options.seed)
    meshes: dict[str, Mesh | Path] = dict(analytic_meshes())
    if options.data is not None:
        meshes |= real_meshes(Path(options.data))
    print(
        f"{'mesh':28s} {'damage':12s} {'faces':>8s} {'':6s} "
        f"{'wrong':>8s} {'distance':>9s} {'repair s':>8s} {'query s':>8s}"
    )
    for name, source in meshes.items():
        if not fnmatch.fnmatch(name, options.only):
            continue
        mesh = source if isinstance(source, Mesh) else read(source)
        for line in measure(name, mesh, num_points=options.points, num_brute=options.brute, generator=generator):
            print(line, flush=True)


def read(path: Path) -> Mesh:
    """Read a mesh as it is in the file."""
    loaded = trimesh.load(path, process=False, force="mesh", skip_materials=True)
    return Mesh(loaded.vertices, loaded.faces)


if __name__ == "__main__":
    main()
