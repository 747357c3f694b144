"""The families of shapes that `space.py` learns. Each is a folder of meshes, written once into a cache folder.

A family has learned shapes and held-out shapes: the first files by name are learned, the next ones are held out.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import nibabel
import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from skimage.measure import marching_cubes
from tracking_maps import bend, twist

from sdfnet.geometry.similarity import Similarity
from sdfnet.mesh.io.read import find_meshes, read_mesh
from sdfnet.mesh.io.write import save_mesh
from sdfnet.mesh.mesh import Mesh

SHIPPED = Path(__file__).resolve().parent.parent / "meshes"

NUM_MIXES, MIX_SEED, MOST_BENT, MOST_TWISTED = 100, 7, 0.4, 0.5

VOXELS_AROUND, SMOOTHING = 2, 0.8
"""Empty voxels around a label volume, and the standard deviation of the Gaussian, in voxels."""


@dataclass(frozen=True)
class Family:
    """A family: how many shapes are learned and held out by default, and how its folder of meshes is made.

    `corresponding` tells whether vertex k is the same place on every shape. Then the mean of the vertices of two shapes
    is the true shape half-way.
    """

    num_learned: int
    num_held_out: int
    folder: Callable[[Path, Path], Path]
    """Takes the folder of test data and the cache folder; returns the folder of meshes."""
    normalize: Literal["each", "shared"] = "each"
    corresponding: bool = False


def write_chairs(data: Path, cache: Path) -> Path:
    """Copy the shipped chairs and make eight others, whose names come after them."""
    folder = cache / "chairs"
    if len(list(folder.glob("*.obj"))) < 32:
        others = cache / "chairs_77"
        command = [
            sys.executable,
            str(SHIPPED / "make_chairs.py"),
            "--count",
            "8",
            "--seed",
            "77",
            "--out",
            str(others),
        ]
        subprocess.run(command, check=True)
        folder.mkdir(parents=True, exist_ok=True)
        for path in SHIPPED.glob("chair_*.obj"):
            shutil.copy(path, folder)
        for path in others.glob("chair_*.obj"):
            shutil.copy(path, folder / f"other_{path.name}")
    return folder


def write_hippocampus(data: Path, cache: Path) -> Path:
    """Mesh the label volumes: both labels as one solid, smoothed, in millimetres."""
    folder = cache / "hippocampus"
    for path in sorted((data / "hippocampus" / "labels").glob("*.nii.gz"), key=lambda path: path.name):
        target = folder / f"{path.name.removesuffix('.nii.gz')}.ply"
        if not target.exists():
            save_mesh(mesh_of_labels(path), target)
    return folder


def mesh_of_labels(path: Path) -> Mesh:
    image = nibabel.load(path)
    solid = np.isin(np.rint(np.asarray(image.dataobj)), (1, 2)).astype(np.float64)
    smooth = gaussian_filter(np.pad(solid, VOXELS_AROUND), SMOOTHING)
    vertices, faces, _, _ = marching_cubes(0.5 - smooth, 0.0)
    world = (vertices - VOXELS_AROUND) @ image.affine[:3, :3].T + image.affine[:3, 3]
    mesh = Mesh(world, faces)
    return mesh if mesh.signed_volume > 0 else Mesh(world, faces[:, ::-1])


def write_mixes(data: Path, cache: Path) -> Path:
    """Write mixes of the corresponding bodies, each bent and then twisted about the axis from feet to head."""
    folder = cache / "mixes"
    if len(list(folder.glob("mix_*.ply"))) < NUM_MIXES:
        bodies = [read_mesh(path) for path in find_meshes(data / "bodies_corresponding").values()]
        vertices_BV3 = np.stack([body.vertices for body in bodies])
        similarity = Similarity.normalizing(vertices_BV3.reshape(-1, 3))
        generator = np.random.default_rng(MIX_SEED)
        for number in range(NUM_MIXES):
            weights = generator.dirichlet(np.ones(len(bodies)))
            bent = float(generator.uniform(-MOST_BENT, MOST_BENT))
            twisted = float(generator.uniform(-MOST_TWISTED, MOST_TWISTED))
            points = similarity.to_unit(np.einsum("b,bvc->vc", weights, vertices_BV3))
            moved = similarity.to_world(warped(points, bent, twisted))
            save_mesh(Mesh(moved, bodies[0].faces), folder / f"mix_{number:03d}.ply")
    return folder


def warped(points: NDArray[np.float64], bent: float, twisted: float) -> NDArray[np.float64]:
    """Bend and then twist points (N, 3). The maps act about z, so y is turned to z for them."""
    turned = torch.from_numpy(points[:, [2, 0, 1]])
    return twist(twisted)[0](bend(bent)[0](turned)).numpy()[:, [1, 2, 0]]


FAMILIES = {
    "bodies": Family(24, 8, lambda data, cache: data / "bodies"),
    "chairs": Family(24, 8, write_chairs),
    "hippocampus": Family(24, 6, write_hippocampus),
    "letters": Family(24, 8, lambda data, cache: data / "letters"),
    "mixes": Family(80, 20, write_mixes, "shared", corresponding=True),
    "corresponding": Family(12, 0, lambda data, cache: data / "bodies_corresponding", "shared", corresponding=True),
}
