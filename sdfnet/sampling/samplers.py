"""Random points on a mesh, near it and in a volume: the plain samplers of which every mixture is made.

Each draws exactly the number of points asked for from the generator it is given, independently and identically
distributed unless it says otherwise. Points are float64 tensors in the frame of the mesh or box that came in.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sdfnet.geometry.bounds import Bounds
from sdfnet.mesh.mesh import Mesh


@dataclass(frozen=True, eq=False)
class SurfaceSamples:
    """Points on a mesh.

    Attributes
    ----------
    points : (N, 3) float64, frame of the mesh
    normals : (N, 3) float64
        Unit outward normal of the face that each point lies on.
    faces : (N,) int64

    >>> triangle = Mesh([[0, 0, 0], [1, 0, 0], [0, 1, 0]], [[0, 1, 2]])
    >>> samples = sample_surface(triangle, 5, generator=torch.Generator().manual_seed(0))
    >>> samples.normals[0].tolist()
    [0.0, 0.0, 1.0]
    """

    points: Tensor
    normals: Tensor
    faces: Tensor


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
    first, second = _uniform(2, num_points, generator=generator)
    root = first.sqrt()[:, None]
    across = second[:, None]
    points = (1 - root) * corners[:, 0] + root * (1 - across) * corners[:, 1] + root * across * corners[:, 2]
    return SurfaceSamples(points, torch.from_numpy(mesh.face_normals)[faces], faces)


def sample_near_surface(
    mesh: Mesh, num_points: int, *, noise_std: float | Sequence[float], generator: torch.Generator
) -> Tensor:
    """Draw surface points and move each by isotropic Gaussian noise of standard deviation `noise_std` per axis.

    With several deviations, each gets an equal share of the points: the first rows have the first deviation.

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
    """Return `points` (N, 3) moved by isotropic Gaussian noise; a tensor of deviations is (N, 1)."""
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
    (share,) = _uniform(1, num_points, generator=generator)
    return directions * radius * share.pow(1 / 3)[:, None]


def draw_by_weight(weights: Tensor, num_points: int, *, generator: torch.Generator) -> Tensor:
    """Draw (N,) int64 indices with replacement, each in proportion to `weights` ((K,) float64, not all zero).

    `torch.multinomial` does the same but stops at 2²⁴ categories and is slower for many draws.
    """
    cumulative = weights.cumsum(0)
    (share,) = _uniform(1, num_points, generator=generator)
    indices = torch.searchsorted(cumulative, share * cumulative[-1], right=True)
    # Rounding may carry the largest draw past the last category that has a weight.
    last = int(weights.nonzero().max())
    return indices.clamp_(max=last)


def split_by_shares(num_points: int, shares: Sequence[float]) -> list[int]:
    """Split a count in proportion to `shares`, exactly, by the largest remainders.

    >>> split_by_shares(10, [1.0, 1.0, 1.0])
    [4, 3, 3]
    """
    total = math.fsum(shares)
    exact = [num_points * share / total for share in shares]
    counts = [math.floor(value) for value in exact]
    by_remainder = sorted(range(len(shares)), key=lambda k: counts[k] - exact[k])
    for k in by_remainder[: num_points - sum(counts)]:
        counts[k] += 1
    return counts


def check_num_points(num_points: int) -> None:
    """Raise ValueError unless `num_points` is a count."""
    if num_points < 0:
        raise ValueError(f"num_points must be 0 or more, got {num_points}")


def _uniform(num_rows: int, num_points: int, *, generator: torch.Generator) -> Tensor:
    """Return (num_rows, N) float64 uniform in [0, 1)."""
    return torch.rand(num_rows, num_points, dtype=torch.float64, generator=generator)
