"""Make an input of each kind from one mesh, to try `sdfnet fit input=`: parts of a shape whose whole is known.

    python make_parts.py chair_03.obj parts

writes into the folder, in the mesh's units: `scan.ply`, the mesh above two fifths of its height; `points.xyz`, points
of it; a depth image from the front with its camera, `front.png` and `front.json`; `labels.npy`, voxels of 1/40 of the
height; `contours.csv`, its outlines at eight heights; `distances.npy`, signed distances on the same grid. The two grids
have no place in the world, so their shapes are found with `align=rigid`. It prints their spacing.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from skimage.measure import find_contours

from sdfnet.fields import MeshField
from sdfnet.mesh.distance import MeshDistance
from sdfnet.mesh.io.read import read_mesh
from sdfnet.mesh.io.write import save_mesh
from sdfnet.mesh.mesh import Mesh
from sdfnet.rendering.sphere_tracing import sphere_trace
from sdfnet.sampling.samplers import sample_surface

SEEN_ABOVE = 0.4
"""Scan and points show what lies above this share of the height."""

VOXELS, CURVES, PIXELS, NUM_POINTS = 40, 8, 160, 5000


def make_parts(mesh: Mesh, folder: Path) -> float:
    """Write an input of each kind into `folder`, and return the spacing of the two grids."""
    folder.mkdir(parents=True, exist_ok=True)
    lower, upper = mesh.bounds.lower, mesh.bounds.upper
    height = upper[1] - lower[1]
    middle = (lower + upper) / 2
    cut = lower[1] + SEEN_ABOVE * height
    above = mesh.triangles.mean(axis=1)[:, 1] > cut
    save_mesh(Mesh(mesh.vertices, mesh.faces[above]), folder / "scan.ply")
    points = sample_surface(mesh, 3 * NUM_POINTS, generator=torch.Generator().manual_seed(0)).points.numpy()
    np.savetxt(folder / "points.xyz", points[points[:, 1] > cut][:NUM_POINTS], fmt="%.4f")
    _write_depth(mesh, middle, 2.5 * height, folder / "front.png")
    spacing = float(height / VOXELS)
    axes = [
        np.arange(low, high + spacing, spacing) for low, high in zip(lower - 2 * spacing, upper + spacing, strict=True)
    ]
    lattice = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
    values = MeshDistance(mesh)(lattice.reshape(-1, 3)).sdf.reshape(lattice.shape[:3])
    np.save(folder / "labels.npy", (values < 0).astype(np.uint8))
    np.save(folder / "distances.npy", values.astype(np.float32))
    _write_contours(mesh, spacing / 4, folder / "contours.csv")
    return spacing


def _write_contours(mesh: Mesh, step: float, path: Path) -> None:
    """Write the outlines at even heights, found on a grid of this step in each plane."""
    lower, upper = mesh.bounds.lower, mesh.bounds.upper
    x, z = (np.arange(lower[axis] - 2 * step, upper[axis] + 2 * step, step) for axis in (0, 2))
    curves = []
    for height in np.linspace(lower[1], upper[1], CURVES + 2)[1:-1]:
        plane = np.stack(np.meshgrid(x, [height], z, indexing="ij"), axis=-1)
        values = MeshDistance(mesh)(plane.reshape(-1, 3)).sdf.reshape(len(x), len(z))
        for curve in find_contours(values, 0.0):
            points = np.insert(curve[:-1] * step + plane[0, 0, 0, [0, 2]], 1, height, axis=1)
            curves.append(np.insert(points, 0, len(curves), axis=1))
    np.savetxt(path, np.concatenate(curves), fmt="%.4f", delimiter=",")


def _write_depth(mesh: Mesh, middle: np.ndarray, away: float, path: Path) -> None:
    """Write a depth image from +z, a tenth of a world unit in each step, and its camera (OpenCV axes)."""
    focal = 2.2 * PIXELS
    row, column = np.mgrid[:PIXELS, :PIXELS]
    center = (PIXELS - 1) / 2
    rays = np.stack([(column - center) / focal, -(row - center) / focal, -np.ones_like(row)], axis=-1).reshape(-1, 3)
    camera_center = middle + np.array([0, 0, away])
    origins = np.tile(camera_center, (len(rays), 1))
    trace = sphere_trace(MeshField(mesh), torch.from_numpy(origins).float(), torch.from_numpy(rays).float())
    along_z = trace.distances.numpy() / np.linalg.norm(rays, axis=1)
    depth = np.where(trace.hit.numpy(), 10 * along_z, 0.0).round().astype(np.uint16).reshape(PIXELS, PIXELS)
    Image.fromarray(depth).save(path)
    pose = np.diag([1.0, -1.0, -1.0, 1.0])
    pose[:3, 3] = camera_center
    camera = {"fx": focal, "fy": focal, "cx": center, "cy": center, "depth_scale": 0.1}
    path.with_suffix(".json").write_text(json.dumps({**camera, "camera_to_world": pose.tolist()}), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description="Make an input of each kind of sdfnet fit from one closed mesh.")
    parser.add_argument("mesh", type=Path)
    parser.add_argument("folder", type=Path)
    options = parser.parse_args()
    spacing = make_parts(read_mesh(options.mesh), options.folder)
    print(f"labels.npy and distances.npy have a spacing of {spacing:.5g}")
    print(f"Results are in {options.folder}")


if __name__ == "__main__":
    main()
