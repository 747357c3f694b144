"""Closest points between two surfaces: samples on each, and the closest point of the other to each sample.

`metrics` takes all distances and normals from one match, so that each shape is sampled once. Distances are exact
point-to-triangle distances. Both meshes are in one frame, and lengths come out in its unit.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from sdfnet.geometry.arrays import BoolArray, FloatArray
from sdfnet.geometry.bounds import Bounds
from sdfnet.mesh.distance import MeshDistance, SignedDistances, at_sign_jump
from sdfnet.mesh.edges import EdgeTable
from sdfnet.mesh.mesh import Mesh, drop_unreferenced_vertices
from sdfnet.sampling.samplers import sample_surface

NUM_POINTS = 30_000
"""Samples on each surface (Park et al. 2019 take as many for their Chamfer distance)."""

HOLE_DISTANCE = 0.005
"""A sample nearer to an open source than this share of its radius lies on the source and does not cover a hole."""

_EDGE_SHARE = 1e-6
"""Barycentric coordinate below which a closest point lies on the edge opposite to that corner."""


@dataclass(frozen=True, eq=False)
class Surface:
    """A mesh with its search tree, for comparisons with other meshes. Make it with `Surface.of`.

    Attributes
    ----------
    mesh : Mesh
    distance : MeshDistance
        The search tree of `mesh`.
    is_closed : bool
        False if the mesh has holes. Then parts of the other surface that cover these holes are left out.

    >>> from sdfnet.extraction import extract_mesh
    >>> from sdfnet.fields import Sphere
    >>> surface = Surface.of(extract_mesh(Sphere(2.0), resolution=32))
    >>> round(surface.radius, 2), surface.is_closed
    (2.0, True)
    """

    mesh: Mesh
    distance: MeshDistance
    is_closed: bool

    @classmethod
    def of(cls, mesh: Mesh, *, is_closed: bool = True) -> Surface:
        return cls(mesh, MeshDistance(mesh), is_closed)

    @property
    def radius(self) -> float:
        """See `bounding_radius`."""
        return bounding_radius(self.mesh)


def bounding_radius(mesh: Mesh) -> float:
    """Return the radius of the sphere around `mesh`. The centre is the centre of the box, as in normalisation.

    >>> bounding_radius(Mesh([[0, 0, 0], [6, 0, 0], [0, 8, 0], [99, 0, 0]], [[0, 1, 2]]))
    5.0
    """
    used = drop_unreferenced_vertices(mesh).vertices
    return float(np.linalg.norm(used - Bounds.of(used).center, axis=1).max())


@dataclass(frozen=True, eq=False)
class DirectedDistances:
    """Samples on one surface and their closest points on the other.

    Attributes
    ----------
    points, normals : (N, 3) float64
        Samples of uniform density over the area, and the normals of their faces.
    distances : (N,) float64
        To the other surface, not negative.
    other_normals : (N, 3) float64
        Normals of the faces that hold the closest points.
    counted : (N,) bool
        False for samples on faces that close a hole of the other surface; no measure counts them.
    """

    points: FloatArray
    normals: FloatArray
    distances: FloatArray
    other_normals: FloatArray
    counted: BoolArray


@dataclass(frozen=True, eq=False)
class SurfaceMatch:
    """The match of two surfaces in both directions.

    Attributes
    ----------
    from_result, from_source : DirectedDistances
        Samples on the result against the source, and the reverse.
    radius : float
        The radius of the source. Percentages refer to it.
    """

    from_result: DirectedDistances
    from_source: DirectedDistances
    radius: float

    @property
    def hole_share(self) -> float:
        """Share of the result's area that only closes holes of an open source, left out of every measure."""
        return float((~self.from_result.counted).mean())


def match_surfaces(
    result: Surface, source: Surface, *, num_points: int = NUM_POINTS, generator: torch.Generator
) -> SurfaceMatch:
    """Sample both surfaces evenly by area and find the closest points of each on the other.

    If `source` is open, samples of the result that close its holes are marked. Such a sample is farther from the source
    than HOLE_DISTANCE times its radius. Its closest point is on a boundary edge, or the winding number there is near ½.

    Raises
    ------
    ValueError
        `num_points` below 1.

    >>> from sdfnet.extraction import extract_mesh
    >>> from sdfnet.fields import Sphere
    >>> small, large = (extract_mesh(Sphere(radius), resolution=32) for radius in (1.0, 1.1))
    >>> both = Surface.of(large), Surface.of(small)
    >>> match = match_surfaces(*both, num_points=1000, generator=torch.Generator().manual_seed(0))
    >>> round(float(match.from_result.distances.mean()), 2)
    0.1
    """
    if num_points < 1:
        raise ValueError(f"num_points must be at least 1, got {num_points}")
    from_result = _one_way(result, source, num_points, generator)
    from_source = _one_way(source, result, num_points, generator)
    return SurfaceMatch(from_result, from_source, source.radius)


def _one_way(surface: Surface, other: Surface, num_points: int, generator: torch.Generator) -> DirectedDistances:
    samples = sample_surface(surface.mesh, num_points, generator=generator)
    points, normals = samples.points.numpy(), samples.normals.numpy()
    if other.is_closed:
        found = other.distance.unsigned(points)
        distances, faces, over_hole = found.distance, found.faces, np.zeros(num_points, dtype=bool)
    else:
        signed = other.distance(points)
        distances, faces = np.abs(signed.sdf), signed.faces
        over_hole = at_sign_jump(signed) | _on_boundary(signed, other.mesh)
        over_hole &= distances > HOLE_DISTANCE * other.radius
    return DirectedDistances(points, normals, distances, other.mesh.face_normals[faces], ~over_hole)


def _on_boundary(found: SignedDistances, mesh: Mesh) -> BoolArray:
    """Return a mask of the closest points that lie on a boundary edge of `mesh`, an edge with a single face."""
    is_boundary = EdgeTable.of(mesh.faces, len(mesh.vertices)).is_boundary
    is_boundary_F3 = np.roll(is_boundary.reshape(-1, 3), -1, axis=1)  # by the corner opposite to the edge
    corners = mesh.triangles[found.faces]
    crosses = mesh.face_crosses[found.faces]
    least = _EDGE_SHARE * np.einsum("ij,ij->i", crosses, crosses)
    on_boundary = np.zeros(len(found.faces), dtype=bool)
    for corner in range(3):
        start, end = corners[:, (corner + 1) % 3], corners[:, (corner + 2) % 3]
        area_share = np.einsum("ij,ij->i", np.cross(end - start, found.closest_points - start), crosses)
        on_boundary |= is_boundary_F3[found.faces, corner] & (area_share <= least)
    return on_boundary
