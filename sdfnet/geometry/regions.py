"""Which points no surface parts from one another: beside a closed mesh they share their winding number.

A sum of winding numbers costs about as much as a distance, and many points can borrow that of a neighbour. Nothing
here is a guess: where two points are not shown to lie in one region, each keeps its own.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_STEPS = (1, 2, 3)
"""How far back along the Morton curve a neighbour is looked for; each further step finds fewer than it costs."""

_SAFETY = 1 - 1e-6

TOO_NEAR = 1e-5
"""Nearer to the surface than this (unit frame) a point's own sign is little more than rounding: none may borrow it."""


def is_boundless(faces: NDArray[np.int64], num_vertices: int) -> bool:
    """Return whether every edge is run as often one way as the other, by vertex numbers.

    Then the winding number is whole everywhere off the surface. The mesh may be in pieces, overlap and cross itself;
    one with a hole or a face turned over is refused, and so is one whose vertices are not merged.

    >>> tetrahedron = np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]])
    >>> is_boundless(tetrahedron, 4), is_boundless(tetrahedron[1:], 4)
    (True, False)
    """
    starts, stops = faces.ravel(), faces[:, [1, 2, 0]].ravel()
    forward, backward = np.sort(starts * num_vertices + stops), np.sort(stops * num_vertices + starts)
    return bool((forward == backward).all())


def shared_regions(points: NDArray[np.float64], away: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return for each point (N,) the number of an earlier one, or its own, that no surface parts it from.

    Those named stand for themselves. The ball around a point that reaches to the surface holds none of it. Two such
    balls that overlap are one region, and so is a chain of them.

    Parameters
    ----------
    points : (N, 3) float64, unit frame
        Along a Morton curve, so that neighbours are found.
    away : (N,) float64
        How far each is from the surface; never more than it is.

    >>> points = np.array([[0.0, 0, 1], [0, 0, 2], [0, 0, -1]])  # beside the plane z = 0
    >>> shared_regions(points, np.array([1.0, 2, 1])).tolist()
    [0, 0, 2]
    """
    x, y, z = (column.copy() for column in points.T)
    x[away < TOO_NEAR] = np.nan  # no comparison with it holds
    numbers = np.arange(len(points))
    regions = numbers.copy()
    for step in reversed(_STEPS):  # the nearest neighbour has the last word
        reach = away[step:] + away[:-step]
        reach *= _SAFETY
        reach *= reach
        gap = x[step:] - x[:-step]
        gap *= gap
        for column in (y, z):
            along = column[step:] - column[:-step]
            along *= along
            gap += along
        np.copyto(regions[step:], numbers[:-step], where=gap < reach)
    # Each names an earlier one: follow the chains to their ends, twice as far each time.
    moving = np.flatnonzero(regions.take(regions) != regions)
    while len(moving):
        further = regions.take(regions.take(moving))
        regions[moving] = further
        moving = moving[regions.take(further) != further]
    return regions
