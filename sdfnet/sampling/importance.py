"""Points where a shape is hard to learn: about sharp or strongly curved places, and in thin parts.

Uniform surface samples give a place its share of the *area*, so that a chair's leg or a finger is seldom seen.
Two measures that do not depend on how finely a mesh is triangulated decide here instead:

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

    >>> box = Mesh(*_doctest_box())
    >>> points = sample_features(box, 100, noise_std=0.01, generator=torch.Generator().manual_seed(0))
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

    >>> creases = find_creases(Mesh(*_doctest_box()))
    >>> len(creases.edges), sorted({round(float(angle), 4) for angle in creases.angles})
    (18, [0.0, 1.5708])
    """
    edges, faces, first, counts = _group_edges(mesh)
    first = first[counts == 2]
    pairs = np.stack([faces[first], faces[first + 1]], axis=1)
    normals = mesh.face_normals[pairs]
    sines = np.linalg.norm(np.cross(normals[:, 0], normals[:, 1]), axis=1)
    return Creases(edges[first], pairs, np.arctan2(sines, np.einsum("ij,ij->i", normals[:, 0], normals[:, 1])))


def find_borders(mesh: Mesh) -> NDArray[np.int64]:
    """Return the edges (E, 2) that only one face has."""
    edges, _, first, counts = _group_edges(mesh)
    return edges[first[counts == 1]]


def _group_edges(
    mesh: Mesh,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return the edges of all faces sorted (3F, 2), their faces (3F,), and where each group of equal edges starts and
    how many it has.
    """
    halves = np.sort(mesh.faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), axis=1)
    codes = halves[:, 0] * len(mesh.vertices) + halves[:, 1]
    order = np.argsort(codes, kind="stable")
    _, first, counts = np.unique(codes[order], return_index=True, return_counts=True)
    return halves[order], order // 3, first, counts


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


def _doctest_box() -> tuple[list[list[int]], list[list[int]]]:
    """Return the vertices and faces of the unit cube, for the examples above."""
    vertices = [[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)]
    quads = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
    return vertices, [[*corner] for a, b, c, d in quads for corner in ((a, b, c), (a, c, d))]
