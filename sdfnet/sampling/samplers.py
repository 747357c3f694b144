"""Random points on a mesh, near a mesh, where a shape is hard to learn, on a thickened sheet, and in a volume.

Each sampler draws exactly the requested number of points with the given generator. The points are independent and
identically distributed unless the docstring says otherwise. Points are float64 tensors in the frame of the mesh or box
that came in.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sdfnet.geometry.bounds import Bounds
from sdfnet.mesh.edges import EdgeTable
from sdfnet.mesh.mesh import Mesh
from sdfnet.mesh.winding import libigl

SMALLEST_THICKNESS = 0.01
"""Below this thickness (share of the mesh's bounding radius), thinner parts do not get more samples."""

_CANDIDATES = 2
"""Number of measured surface points for each sample that is kept in a thin part."""

_ROUNDS = 50
_ROUNDING = 1e-6


@dataclass(frozen=True, eq=False)
class SurfaceSamples:
    """Points on a mesh.

    >>> triangle = Mesh([[0, 0, 0], [1, 0, 0], [0, 1, 0]], [[0, 1, 2]])
    >>> sample_surface(triangle, 5, generator=torch.Generator().manual_seed(0)).faces.tolist()
    [0, 0, 0, 0, 0]
    """

    points: Tensor
    """(N, 3) float64, frame of the mesh."""
    normals: Tensor
    """(N, 3) float64: the unit outward normal of the face that each point lies on."""
    faces: Tensor
    """(N,) int64."""


def sample_surface(mesh: Mesh, num_points: int, *, generator: torch.Generator) -> SurfaceSamples:
    """Draw points uniformly by area on `mesh`.

    Raises
    ------
    ValueError
        `num_points` is negative; the mesh has no area.

    >>> square = Mesh([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]], [[0, 1, 2], [0, 2, 3]])
    >>> samples = sample_surface(square, 5, generator=torch.Generator().manual_seed(0))
    >>> samples.points.shape, samples.normals[0].tolist()
    (torch.Size([5, 3]), [0.0, 0.0, 1.0])
    """
    check_num_points(num_points)
    areas = torch.from_numpy(mesh.face_areas)
    if not float(areas.sum()) > 0:
        raise ValueError(f"cannot sample the surface of a mesh without area ({len(mesh.faces)} faces)")
    faces = draw_by_weight(areas, num_points, generator=generator)
    corners = torch.from_numpy(mesh.vertices)[torch.from_numpy(mesh.faces)[faces]]
    # Uniform in a triangle: Osada et al. 2002, Shape Distributions, equation 1.
    first, second = torch.rand(2, num_points, dtype=torch.float64, generator=generator)
    root = first.sqrt()[:, None]
    across = second[:, None]
    points = (1 - root) * corners[:, 0] + root * (1 - across) * corners[:, 1] + root * across * corners[:, 2]
    return SurfaceSamples(points, torch.from_numpy(mesh.face_normals)[faces], faces)


def sample_near_surface(
    mesh: Mesh, num_points: int, *, noise_std: float | Sequence[float], generator: torch.Generator
) -> Tensor:
    """Draw surface points and move each by isotropic Gaussian noise of standard deviation `noise_std` per axis.

    With several deviations, each applies to an equal share of the points. The first rows have the first deviation.

    Returns
    -------
    (N, 3) float64, frame of the mesh.

    >>> square = Mesh([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]], [[0, 1, 2], [0, 2, 3]])
    >>> points = sample_near_surface(square, 1000, noise_std=[0.1, 0.01], generator=torch.Generator().manual_seed(0))
    >>> [round(float(part[:, 2].std()), 2) for part in points.split(500)]
    [0.1, 0.01]
    """
    deviations = [noise_std] if isinstance(noise_std, (int, float)) else list(noise_std)
    if not deviations or not all(math.isfinite(value) and value >= 0 for value in deviations):
        raise ValueError(f"noise_std must be one or more finite numbers, 0 or more, got {noise_std}")
    points = sample_surface(mesh, num_points, generator=generator).points
    counts = split_by_shares(num_points, [1.0] * len(deviations))
    scales = torch.tensor(deviations, dtype=torch.float64).repeat_interleave(torch.tensor(counts))
    return add_noise(points, scales[:, None], generator=generator)


def add_noise(points: Tensor, noise_std: float | Tensor, *, generator: torch.Generator) -> Tensor:
    """Return `points` (N, 3) moved by isotropic Gaussian noise. A tensor of deviations has shape (N, 1)."""
    return points + noise_std * torch.randn(points.shape, dtype=points.dtype, generator=generator)


def sample_volume(bounds: Bounds, num_points: int, *, generator: torch.Generator) -> Tensor:
    """Draw points uniformly in a box, (N, 3) float64, frame of `bounds`.

    >>> sample_volume(Bounds.cube(0.5), 4, generator=torch.Generator().manual_seed(0)).abs().max() <= 0.5
    tensor(True)
    """
    check_num_points(num_points)
    if not bounds.is_finite:
        raise ValueError(f"cannot sample infinite bounds uniformly, got {bounds}")
    share = torch.rand(num_points, 3, dtype=torch.float64, generator=generator)
    return torch.tensor(bounds.lower) + share * torch.tensor(bounds.extent)


def sample_ball(num_points: int, *, radius: float = 1.0, generator: torch.Generator) -> Tensor:
    """Draw points uniformly in the ball about the origin, (N, 3) float64.

    >>> sample_ball(4, generator=torch.Generator().manual_seed(0)).norm(dim=1).max() <= 1
    tensor(True)
    """
    check_num_points(num_points)
    if not (math.isfinite(radius) and radius > 0):
        raise ValueError(f"radius must be positive and finite, got {radius}")
    directions = torch.randn(num_points, 3, dtype=torch.float64, generator=generator)
    directions = torch.nn.functional.normalize(directions, dim=1)
    share = torch.rand(num_points, dtype=torch.float64, generator=generator)
    return directions * radius * share.pow(1 / 3)[:, None]


# Points where a shape is hard to learn: about sharp or strongly curved places, and in thin parts.


def sample_features(mesh: Mesh, num_points: int, *, noise_std: float, generator: torch.Generator) -> Tensor:
    """Draw points near `mesh` where it is hard to learn: one half near curved places, one half in and near thin parts.

    Uniform surface samples follow the area, so that few lie on a chair's leg or a finger. The measures here do not
    depend on how finely a mesh is triangulated. For curvature, points on edges are drawn in proportion to the edge's
    length times its dihedral angle. So a straight bar of any thickness has a measure of 2π per length. For thinness,
    surface points are drawn in proportion to one over the thickness of the solid below the point. This measure covers
    thin plates, whose faces have no curvature.

    The offsets are isotropic Gaussian. Near curved places their deviation is `noise_std`. In thin parts it is half the
    local thickness, but at most `noise_std`. So about a third of the points in thin parts lie inside, however thin the
    part is. A flat mesh without curvature, or an open one without an opposite side, gets area-weighted points instead.

    Returns
    ------- (N, 3) float64, frame of the mesh. The first half of the points is near curved places.

    Raises
    ------
    ValueError
        `num_points` negative, `noise_std` not a finite number of 0 or more, or a mesh without area.

    References
    ----------
    Cohen-Steiner and Morvan 2003, "Restricted Delaunay triangulations and normal cycle": the absolute mean-curvature
    measure of a polyhedron.

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
    scales = torch.cat([thickness.new_full((num_curved,), noise_std), (thickness / 2).clamp(max=noise_std)])
    return add_noise(torch.cat([curved, thin]), scales[:, None], generator=generator)


def sample_curvature(mesh: Mesh, num_points: int, *, generator: torch.Generator) -> Tensor:
    """Draw points on the edges of `mesh` in proportion to length times dihedral angle, (N, 3) float64.

    Only edges between two faces count. If the mesh has no curvature, the points are uniform by area.
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
    """Draw surface points of `mesh` in proportion to area over local thickness. Return the points and the thickness.

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
    """The E edges (vertices, (E, 2)) between exactly two faces (E, 2), and the angles (E,) between their normals."""

    edges: NDArray[np.int64]
    faces: NDArray[np.int64]
    angles: NDArray[np.float64]


def find_creases(mesh: Mesh) -> Creases:
    """Return the edges that two faces share, and their dihedral angles."""
    table = EdgeTable.of(mesh.faces, len(mesh.vertices))
    faces = table.pairs // 3
    normals = mesh.face_normals[faces]
    sines = np.linalg.norm(np.cross(normals[:, 0], normals[:, 1]), axis=1)
    angles = np.arctan2(sines, np.einsum("ij,ij->i", normals[:, 0], normals[:, 1]))
    return Creases(table.ends[table.counts == 2], faces, angles)


def _inward_thickness(mesh: Mesh, points: NDArray[np.float64], normals: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the length (N,) of a ray from just below each surface point to its exit from the solid, or infinity."""
    if not len(points):
        return np.zeros(0)
    tree = libigl().AABB()
    tree.init(mesh.vertices, mesh.faces)
    step = 1e-6 * float(np.linalg.norm(mesh.bounds.extent))
    origins = np.ascontiguousarray(points - step * normals)
    hits, distances, _ = tree.intersect_ray_first(mesh.vertices, mesh.faces, origins, np.ascontiguousarray(-normals))
    return np.where(hits >= 0, distances + step, np.inf)


def draw_by_weight(weights: Tensor, num_points: int, *, generator: torch.Generator) -> Tensor:
    """Draw indices (N,) int64 with replacement, in proportion to `weights` ((K,) float64, not all zero).

    `torch.multinomial` does the same but stops at 2²⁴ categories and is slower for many draws.
    """
    cumulative = weights.cumsum(0)
    share = torch.rand(num_points, dtype=torch.float64, generator=generator)
    indices = torch.searchsorted(cumulative, share * cumulative[-1], right=True)
    # Rounding may carry the largest draw past the last category that has a weight.
    last = int(weights.nonzero().max())
    return indices.clamp_(max=last)


def split_by_shares(num_points: int, shares: Sequence[float]) -> list[int]:
    """Split a count in proportion to `shares` by the largest remainders. The parts sum to the count exactly."""
    total = math.fsum(shares)
    exact = [num_points * share / total for share in shares]
    counts = [math.floor(value) for value in exact]
    for k in sorted(range(len(shares)), key=lambda k: counts[k] - exact[k])[: num_points - sum(counts)]:
        counts[k] += 1
    return counts


def check_num_points(num_points: int) -> None:
    """Raise ValueError unless `num_points` is a count."""
    if num_points < 0:
        raise ValueError(f"num_points must be 0 or more, got {num_points}")
