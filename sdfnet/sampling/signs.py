"""Signed distances to a closed mesh at many points at once, for fewer winding numbers than points.

The winding number of a closed mesh only changes across the surface. Two points that are nearer to each other than one
of them is to the surface have none between them, so they share it. Samples are dense enough that about two thirds
find such a neighbour close to them on the Morton curve; the winding number is what takes longest.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sdfnet.geometry.distance import MeshDistance
from sdfnet.geometry.winding import WindingNumber, morton_order

_STEPS = (1, 2, 3, 4, 6, 8)
"""How far back along the curve a neighbour is looked for; each further step finds fewer than it costs."""

_SAFETY = 1 - 1e-6


def closed_signed_distance(
    distance: MeshDistance, winding: WindingNumber, points: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the signed distances (N,) of `points` (N, 3) to a closed mesh: those of `distance` itself, sooner.

    `distance` and `winding` are of that mesh. Of an open one the signs would be wrong.
    """
    order = morton_order(points)
    sorted_points = points[order]
    away = distance.unsigned(sorted_points).distance
    roots = _regions(sorted_points, away)
    asked = np.flatnonzero(roots == np.arange(len(roots)))
    inside = np.zeros(len(points), dtype=bool)
    inside[asked] = winding(sorted_points[asked]) > 0.5
    sdf = np.empty(len(points))
    sdf[order] = np.where(inside[roots], -away, away)
    return sdf


def _regions(points: NDArray[np.float64], away: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return for each point (N,) an earlier one, or itself, that no surface parts it from; one for all linked.

    `away` (N,) is how far each is from the surface.
    """
    roots = np.arange(len(points))
    alone = roots[1:]
    for step in _STEPS:
        tried = alone[alone >= step]
        apart = np.linalg.norm(points[tried] - points[tried - step], axis=1)
        linked = tried[apart < _SAFETY * np.maximum(away[tried], away[tried - step])]
        roots[linked] = linked - step
        alone = alone[roots[alone] == alone]
    # Each points at an earlier one; follow the chains to their ends, twice as far each time.
    while (further := roots[roots] != roots).any():
        roots = np.where(further, roots[roots], roots)
    return roots
