"""Points where a shape is hard to learn: about sharp or strongly curved places, and in thin parts.

Uniform surface samples follow the *area*, so that few of them lie on a chair's leg or a finger. Here two other measures
decide, which do not depend on how finely a mesh is triangulated:

- **curvature**: a point on an edge, in proportion to the edge's length times its dihedral angle. That is the absolute
  mean-curvature measure of a polyhedron (Cohen-Steiner and Morvan 2003, Restricted Delaunay triangulations and normal
  cycle): a straight bar of any thickness has 2π per length, so thin bars get as many points as thick ones.
- **thinness**: a surface point in proportion to one over the thickness of the solid below it, which a ray along the
  inward normal measures. It serves thin plates, whose faces have no curvature.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sdfnet.mesh.edges import EdgeTable
from sdfnet.mesh.mesh import Mesh
from sdfnet.mesh.winding import libigl
from sdfnet.sampling.samplers import add_noise, check_num_points, draw_by_weight, sample_surface

SMALLEST_THICKNESS = 0.01
"""Parts thinner than this (share of the mesh's bounding radius) get no further samples for being thinner still."""

_CANDIDATES = 2
"""Surface points that are measured for each sample that is kept in a thin part."""


def sample_features(mesh: Mesh, num_points: int, *, noise_std: float, generator: torch.Generator) -> Tensor:
    """Draw points near `mesh`: half about curved places, half in and about thin parts.

    The offsets are isotropic Gaussian: of deviation `noise_std` about curved places, and of half the local thickness
    but at most `noise_std` in thin parts, so that about a third of those lie inside however thin the part is. A flat
    mesh without curvature, or an open one without an opposite side, gets area-weighted points instead.

    Returns
    -------
    (N, 3) float64, frame of the mesh; the first half about curved places.

    Raises
    ------
    ValueError
        `num_points` negative, `noise_std` not a finite number of 0 or more, or a mesh without area.

    >>> square = Mesh([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]], [[0, 1, 2], [0, 2, 3]])
    >>> points = sample_features(square, 100, noise_std=0.01, generator=torch.Generator().manual_seed(0))
    >>> points.shape
    torch.Size([100, 3])
    """
    check_num_points(num_points)
    if not (math.isfinite(noise_std) and noise_std >= 0):
        raise ValueError(f"noise_std must be a finite number, 0 or more, got {noise_std}")
    num_curved = num_points // 2
    curved = sample_curvature(mesh, num_curved, generator=generator)
    thin, thickness = sample_thin(mesh, num_points - num_curved, generator=generator)
    scales = torch.cat(
        [torch.full((num_curved,), noise_std, dtype=torch.float64), (thickness / 2).clamp(max=noise_std)]
    )
    return add_noise(torch.cat([curved, thin]), scales[:, None], generator=generator)


def sample_curvature(mesh: Mesh, num_points: int, *, generator: torch.Generator) -> Tensor:
    """Draw points on the edges of `mesh` in proportion to length times dihedral angle, (N, 3) float64.

    Only edges between two faces count; without any curvature the points are uniform by area.
    """
    creases = find_creases(mesh)
    starts, ends = mesh.vertices[creases.edges[:, 0]], mesh.vertices[creases.edges[:, 1]]
    weights = torch.from_numpy(np.linalg.norm(ends - starts, axis=1) * creases.angles)
    if not float(weights.sum()) > 0:
        return sample_surface(mesh, num_points, generator=generator).points
    chosen = draw_by_weight(weights, num_points, generator=generator)
    share = torch.rand(num_points, 1, dtype=torch.float64, generator=generator)
    return torch.lerp(torch.from_numpy(starts)[chosen], torch.from_numpy(ends)[chosen], share)


def sample_thin(mesh: Mesh, num_points: int, *, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw points on the surface of `mesh` in proportion to area over local thickness; return them and the thickness.

    The thickness (N,) is infinite where a ray along the inward normal meets nothing.
    """
    candidates = sample_surface(mesh, _CANDIDATES * num_points, generator=generator)
    thickness = torch.from_numpy(_inward_thickness(mesh, candidates.points.numpy(), candidates.normals.numpy()))
    radius = float(np.linalg.norm(mesh.bounds.extent)) / 2
    weights = 1 / thickness.clamp(min=SMALLEST_THICKNESS * radius)
    if not num_points or not float(weights.sum()) > 0:
        return candidates.points[:num_points], thickness[:num_points]
    chosen = draw_by_weight(weights, num_points, generator=generator)
    return candidates.points[chosen], thickness[chosen]


@dataclass(frozen=True, eq=False)
class Creases:
    """The edges between exactly two faces of a mesh.

    Attributes
    ----------
    edges : (E, 2) int64, vertices
    faces : (E, 2) int64
    angles : (E,) float64
        Between the normals of the two faces, in [0, π].
    """

    edges: NDArray[np.int64]
    faces: NDArray[np.int64]
    angles: NDArray[np.float64]


def find_creases(mesh: Mesh) -> Creases:
    """Return the edges that two faces share, and their dihedral angles.

    >>> creases = find_creases(Mesh([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]], [[0, 2, 1], [0, 1, 3]]))
    >>> creases.edges.tolist(), creases.angles.round(4).tolist()
    ([[0, 1]], [1.5708])
    """
    table = EdgeTable.of(mesh.faces, len(mesh.vertices))
    faces = table.pairs // 3
    normals = mesh.face_normals[faces]
    sines = np.linalg.norm(np.cross(normals[:, 0], normals[:, 1]), axis=1)
    angles = np.arctan2(sines, np.einsum("ij,ij->i", normals[:, 0], normals[:, 1]))
    return Creases(table.ends[table.counts == 2], faces, angles)


def _inward_thickness(mesh: Mesh, points: NDArray[np.float64], normals: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return how far (N,) a ray from just below each surface point runs until it leaves the solid; else infinity."""
    if not len(points):
        return np.zeros(0)
    tree = libigl().AABB()
    tree.init(mesh.vertices, mesh.faces)
    step = 1e-6 * float(np.linalg.norm(mesh.bounds.extent))
    origins = np.ascontiguousarray(points - step * normals)
    hits, distances, _ = tree.intersect_ray_first(mesh.vertices, mesh.faces, origins, np.ascontiguousarray(-normals))
    return np.where(hits >= 0, distances + step, np.inf)
