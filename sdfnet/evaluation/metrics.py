"""How near one surface is to another: distances, Chamfer, F-score, normals, volume.

Surface distances are plain and in percent of the source's radius; Chamfer is DeepSDF's, squared and summed, unit frame,
times 1000. `result` is the mesh to judge and `source` the correct mesh. Only the radius and the holes are taken from
the source.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.spatial import cKDTree

from sdfnet.evaluation.closest_points import (
    NUM_POINTS,
    DirectedDistances,
    Surface,
    SurfaceMatch,
    bounding_radius,
    match_surfaces,
)
from sdfnet.geometry.arrays import FloatArray
from sdfnet.geometry.similarity import UNIT_RADIUS
from sdfnet.mesh.mesh import Mesh
from sdfnet.mesh.winding import WindingNumber
from sdfnet.sampling.samplers import sample_surface, sample_volume

F_SCORE_THRESHOLD = 0.01
"""A point is right within this share of the source's radius (half of Tatarchenko et al.'s 1 % of the whole box)."""

CHAMFER_SCALE = 1e3


@dataclass(frozen=True)
class SurfaceDistance:
    """Plain (not squared) distances between two surfaces, percent of the source's radius.

    Attributes
    ----------
    mean : float
        Average of the two directions' means.
    p95 : float
        95th percentile of both directions' distances together.
    max : float
        The largest met: a lower bound of the Hausdorff distance.
    result_to_source, source_to_result : float
        The mean of each direction. The first shows surplus parts of the result, the second missing parts.

    >>> SurfaceDistance(mean=0.1, p95=0.3, max=0.9, result_to_source=0.12, source_to_result=0.08).p95
    0.3
    """

    mean: float
    p95: float
    max: float
    result_to_source: float
    source_to_result: float


def surface_distance(
    result: Mesh, source: Mesh, *, num_points: int = NUM_POINTS, generator: torch.Generator
) -> SurfaceDistance:
    """Measure plain distances between two meshes of one frame both ways, in percent of the source's radius.

    Each mesh gets `num_points` samples of uniform density. The distance of a sample to the other mesh is exact. With
    30,000 samples, the sampling error of the mean is about 0.5 % of its value.

    >>> from sdfnet.fields.primitives import Sphere
    >>> from sdfnet.extraction.extract import extract_mesh
    >>> small, large = (extract_mesh(Sphere(r), resolution=32) for r in (1.0, 1.1))
    >>> round(surface_distance(large, small, generator=torch.Generator()).mean, 1)
    10.0
    """
    both = Surface.of(result), Surface.of(source)
    return distances_of(match_surfaces(*both, num_points=num_points, generator=generator))


def distances_of(match: SurfaceMatch) -> SurfaceDistance:
    """Summarize the plain distances of `match`, in percent of the source's radius.

    Raises
    ------
    ValueError
        Every sample of the result lies over a hole of the source.

    >>> low, high = (Surface.of(Mesh([[0, 0, z], [6, 0, z], [0, 8, z]], [[0, 1, 2]])) for z in (0, 1))
    >>> match = match_surfaces(high, low, num_points=100, generator=torch.Generator())
    >>> round(distances_of(match).mean)  # percent of the radius, which is 5
    20
    """
    too_much, missing = (_counted_distances(way) for way in (match.from_result, match.from_source))
    percent = 100 / match.radius
    both = np.concatenate([too_much, missing])
    return SurfaceDistance(
        mean=percent * float(too_much.mean() + missing.mean()) / 2,
        p95=percent * float(np.percentile(both, 95)),
        max=percent * float(both.max()),
        result_to_source=percent * float(too_much.mean()),
        source_to_result=percent * float(missing.mean()),
    )


def f_score(match: SurfaceMatch, *, threshold: float = F_SCORE_THRESHOLD) -> float:
    """Return the harmonic mean of precision and recall in percent, at `threshold` times the source's radius.

    Precision is the share of the result's area within the threshold of the source. Recall is the share of the source's
    area within the threshold of the result.

    References
    ----------
    Knapitsch et al. 2017, eq. 5; Tatarchenko et al. 2019. Exact distances instead of those between samples.

    >>> low, high = (Surface.of(Mesh([[0, 0, z], [6, 0, z], [0, 8, z]], [[0, 1, 2]])) for z in (0, 1))
    >>> match = match_surfaces(high, low, num_points=100, generator=torch.Generator())
    >>> f_score(match, threshold=0.21), f_score(match, threshold=0.19)
    (100.0, 0.0)
    """
    limit = threshold * match.radius
    precision, recall = (
        float((_counted_distances(way) <= limit).mean()) for way in (match.from_result, match.from_source)
    )
    return 100 * 2 * precision * recall / (precision + recall) if precision + recall > 0 else 0.0


def normal_consistency(match: SurfaceMatch) -> float:
    """Return the mean absolute cosine between the normals of samples and of their closest points, both ways; at most 1.

    References
    ----------
    Mescheder et al. 2019 (Occupancy Networks), section 4. Normals are those of the faces. The absolute value hides a
    mesh turned inside out: `volume_iou` shows that.

    >>> low, high = (Surface.of(Mesh([[0, 0, z], [6, 0, z], [0, 8, z]], [[0, 1, 2]])) for z in (0, 1))
    >>> match = match_surfaces(high, low, num_points=100, generator=torch.Generator())
    >>> round(normal_consistency(match), 2)
    1.0
    """
    ways = (match.from_result, match.from_source)
    means = [float(np.abs(np.einsum("ij,ij->i", way.normals, way.other_normals)[way.counted]).mean()) for way in ways]
    return sum(means) / 2


def chamfer_of(match: SurfaceMatch) -> float:
    """Return DeepSDF's Chamfer distance of the samples of `match`: squared, summed both ways, unit frame, times 1000.

    The distance is between the two sets of samples, as in the paper. Lengths are scaled to the frame in which the
    source has radius 1 / 1.03. The value is never zero: `chamfer_of_sampling` gives the part of the sampling alone.

    References
    ----------
    Park et al. 2019, section 6 and supplement C.1 (mean instead of sum over the points, 30,000 of them).
    """
    result, source = match.from_result.points, match.from_source.points
    return _chamfer(result[match.from_result.counted], source, result, match.radius)


def chamfer_distance(result: Mesh, source: Mesh, *, num_points: int = NUM_POINTS, generator: torch.Generator) -> float:
    """Return DeepSDF's Chamfer distance of two meshes: squared, summed both ways, unit frame, times 1000.

    >>> from sdfnet.extraction import extract_mesh
    >>> from sdfnet.fields import Sphere
    >>> small, large = (extract_mesh(Sphere(radius), resolution=32) for radius in (1.0, 1.1))
    >>> generator = torch.Generator().manual_seed(0)
    >>> round(chamfer_distance(large, small, num_points=2000, generator=generator), 1)  # 1000 · 2 · 0.1², and sampling
    22.8
    """
    on_result, on_source = (
        sample_surface(mesh, num_points, generator=generator).points.numpy() for mesh in (result, source)
    )
    return _chamfer(on_result, on_source, on_result, bounding_radius(source))


def chamfer_of_sampling(source: Mesh, *, num_points: int = NUM_POINTS, generator: torch.Generator) -> float:
    """Return the Chamfer distance between two samplings of `source`. Smaller values of a result have no meaning.

    >>> triangle = Mesh([[0, 0, 0], [1, 0, 0], [0, 1, 0]], [[0, 1, 2]])
    >>> 0 < chamfer_of_sampling(triangle, num_points=2000, generator=torch.Generator()) < 10
    True
    """
    return chamfer_distance(source, source, num_points=num_points, generator=generator)


def volume_iou(result: Mesh, source: Mesh, *, num_points: int, generator: torch.Generator) -> float:
    """Return the common volume divided by the volume of the union, estimated at uniform points in the common box.

    Inside is where the winding number exceeds ½; so a mesh turned inside out has no inside. The standard error is about
    sqrt(iou (1 - iou) / the points that fall inside either). The result is 0 if no point falls inside either.

    >>> from sdfnet.extraction import extract_mesh
    >>> from sdfnet.fields import Sphere
    >>> small, large = (extract_mesh(Sphere(radius), resolution=32) for radius in (1.0, 1.1))
    >>> generator = torch.Generator().manual_seed(0)
    >>> round(volume_iou(large, small, num_points=10_000, generator=generator), 1)  # 1 / 1.1³
    0.8
    """
    box = result.bounds.union(source.bounds)
    points = sample_volume(box, num_points, generator=generator).numpy()
    inside_a, inside_b = (WindingNumber(mesh)(points) > 0.5 for mesh in (result, source))
    either = int((inside_a | inside_b).sum())
    return int((inside_a & inside_b).sum()) / either if either else 0.0


def _counted_distances(way: DirectedDistances) -> FloatArray:
    distances = way.distances[way.counted]
    if not len(distances):
        raise ValueError("the whole result lies over holes of the source: nothing is left to measure")
    return distances


def _chamfer(counted: FloatArray, on_source: FloatArray, on_result: FloatArray, radius: float) -> float:
    """Return the Chamfer distance; only the `counted` samples of the result are compared with those of the source."""
    forward, _ = cKDTree(on_source).query(counted)
    backward, _ = cKDTree(on_result).query(on_source)
    return CHAMFER_SCALE * float((forward**2).mean() + (backward**2).mean()) * (UNIT_RADIUS / radius) ** 2
