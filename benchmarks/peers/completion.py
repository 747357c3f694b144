"""Other ways to complete a shape, to compare with.

The best-matching learned shape, interpolated slices, a point model with known correspondences, and screened Poisson
reconstruction in an interpreter that has Open3D.
"""

from __future__ import annotations

import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage

from sdfnet.extraction.marching_cubes import march
from sdfnet.fields import evaluate
from sdfnet.fitting.observations.part import PartObservation
from sdfnet.geometry.arrays import BoolArray, FloatArray
from sdfnet.geometry.similarity import Similarity
from sdfnet.mesh.io.read import read_mesh
from sdfnet.mesh.mesh import Mesh
from sdfnet.runs import Run, RunShape, extract_shape
from sdfnet.volumes import LabelVolume

_EMPTY = 50.0


def nearest_shape(run: Run, part: PartObservation, place: Similarity, *, resolution: int = 128) -> Mesh:
    """Return the learned shape whose surface is nearest to the observed points on average, at a known place."""
    points = torch.from_numpy(place.to_unit(part.surface[:2000])).float()
    misfits = [float(evaluate(run.field(name), points).abs().median()) for name in run.names]
    name = run.names[int(np.argmin(misfits))]
    shape = RunShape(name, place, "x", "", closed=True)
    return extract_shape(run, shape, latent=run.latent(name), resolution=resolution).mesh


def shape_based_interpolation(volume: LabelVolume, inside: BoolArray, *, axis: int, every: int, start: int = 0) -> Mesh:
    """Return the surface of the linearly interpolated signed distances of the chosen slices, world frame.

    Raya and Udupa, "Shape-based interpolation of multidimensional objects", IEEE TMI 1990. A slice without the label
    beside one with it is taken as that slice, farther outside by half of its depth inside, so that the shape ends
    between the two.
    """
    slices = np.moveaxis(np.pad(inside, [(0, 0) if each == axis else (3, 3) for each in range(3)]), axis, 0)
    chosen = np.arange(start, len(slices), every)
    known: list[FloatArray | None] = [_distance(slices[each]) if slices[each].any() else None for each in chosen]
    levels = []
    for number, level in enumerate(known):
        beside = [known[each] for each in (number - 1, number + 1) if 0 <= each < len(known)]
        nearest = next((each for each in beside if each is not None), None)
        if level is not None:
            levels.append(level)
        else:
            levels.append(np.full(slices.shape[1:], _EMPTY) if nearest is None else nearest - nearest.min() + 0.5)
    values = np.full(slices.shape, _EMPTY, dtype=np.float32)
    for number in range(len(chosen) - 1):
        for step in range(every):
            share = step / every
            values[chosen[number] + step] = (1 - share) * levels[number] + share * levels[number + 1]
    values[chosen[-1]] = levels[-1]
    padded = np.pad(
        np.moveaxis(values, 0, axis), [(2, 2) if each == axis else (0, 0) for each in range(3)], constant_values=_EMPTY
    )
    found = march(padded, spacing=1.0)
    return Mesh(volume.to_world(found.vertices - [2 if each == axis else 3 for each in range(3)]), found.faces)


def _distance(inside: BoolArray) -> FloatArray:
    """Return the signed distance to the boundary half-way between pixels, in pixels."""
    outside = ndimage.distance_transform_edt(~inside) - 0.5
    within = ndimage.distance_transform_edt(inside) - 0.5
    return np.asarray(np.where(inside, -within, outside))


@dataclass(frozen=True, eq=False)
class PointModel:
    """Principal components of corresponding vertices: the mean (V, 3), modes (M, V, 3) of one standard deviation each.

    `noise_std` is the deviation of a coordinate that the modes leave out.
    """

    mean: FloatArray
    modes: FloatArray
    noise_std: float

    @classmethod
    def of(cls, vertices_BV3: FloatArray, *, share: float = 0.99) -> PointModel:
        """Return the model with the fewest modes that hold this share of the variance."""
        mean = vertices_BV3.mean(axis=0)
        flat = (vertices_BV3 - mean).reshape(len(vertices_BV3), -1)
        _, sizes, axes = np.linalg.svd(flat, full_matrices=False)
        variances = sizes**2 / (len(flat) - 1)
        kept = int(np.searchsorted(np.cumsum(variances) / variances.sum(), share)) + 1
        modes = axes[:kept] * np.sqrt(variances[:kept])[:, None]
        left = float(variances[kept:].sum()) / mean.size
        return cls(mean, modes.reshape(kept, *mean.shape), float(np.sqrt(max(left, 1e-12))))

    def complete(self, seen: BoolArray, points: FloatArray) -> FloatArray:
        """Return all vertices (V, 3), the mean of the posterior given the `seen` (V,) ones at `points` (S, 3).

        The modes have a standard normal prior (ridge regression; Albrecht et al., "Posterior shape models", 2013).
        """
        known = self.modes[:, seen].reshape(len(self.modes), -1)
        apart = (points - self.mean[seen]).reshape(-1)
        normal = known @ known.T / self.noise_std**2 + np.eye(len(known))
        scores = np.linalg.solve(normal, known @ apart / self.noise_std**2)
        return np.asarray(self.mean + np.einsum("m,mvc->vc", scores, self.modes))


_POISSON = """
import sys
import numpy as np
import open3d
data = np.load(sys.argv[1])
cloud = open3d.geometry.PointCloud(open3d.utility.Vector3dVector(data["points"]))
cloud.normals = open3d.utility.Vector3dVector(data["normals"])
mesh, _ = open3d.geometry.TriangleMesh.create_from_point_cloud_poisson(cloud, depth=8)
open3d.io.write_triangle_mesh(sys.argv[2], mesh)
"""


def screened_poisson(points: FloatArray, normals: FloatArray, python: Path) -> Mesh:
    """Return the surface of points with normals, (N, 3) each, by Open3D's screened Poisson reconstruction (depth 8).

    Kazhdan and Hoppe 2013. `python` is an interpreter that has Open3D.

    Raises
    ------
    ValueError
        The interpreter or Open3D does not start; one line says what is missing.
    """
    with tempfile.TemporaryDirectory() as folder:
        cloud, result = Path(folder) / "cloud.npz", Path(folder) / "mesh.ply"
        np.savez(cloud, points=points, normals=normals)
        try:
            words = [str(python), "-c", _POISSON, str(cloud), str(result)]
            subprocess.run(words, check=True, capture_output=True, text=True)
        except OSError as error:
            raise ValueError(f"{python} does not start: {error}") from error
        except subprocess.CalledProcessError as error:
            why = (error.stderr.strip().splitlines() or ["no message"])[-1]
            raise ValueError(f"{python}: {why} (it needs open3d and the system library libusb-1.0-0)") from error
        return read_mesh(result)
