"""The smoothest motion of space that moves a surface as its normal motion says: where along the surface things go.

A level set tells only how fast it moves along its normal. Among all motions that agree with that, bodies move by the
smooth ones: shifts, turns, stretches, bends. So a displacement that is a quadratic function of position plus a sum of
wide bumps is fitted to the normal displacements, the bumps at a price. Its tangential part says how vertices slide.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

NUM_BUMPS = 64
"""Centres of bumps, spread evenly over the surface."""

_WIDTH = 1.5
"""Standard deviation of a bump over the median distance from a centre to the next."""

_PRICES = (1e-8, 1e-5, 1e-3)
"""Ridge penalties of the linear part, the quadratic part and the bumps, relative to the number of equations: what the
normal motion leaves open, such as the turning of a sphere, is left out, and the simpler of two motions is taken."""

_ROUNDS = 2
"""Fits; each but the first gives less weight to what the one before it did not explain (Cauchy's weights): normals at
sharp edges, and parts that vanish."""

_EQUATIONS = 2500
"""The fit looks at no more vertices than about this."""


def spread_centers(points: NDArray[np.float64], count: int = NUM_BUMPS) -> NDArray[np.int64]:
    """Return the numbers of `count` (or all) of `points` (V, 3), each as far as possible from those before it."""
    chosen = [int(np.linalg.norm(points - points.mean(axis=0), axis=1).argmax())]
    distance = np.full(len(points), np.inf)
    while len(chosen) < min(count, len(points)):
        distance = np.minimum(distance, ((points - points[chosen[-1]]) ** 2).sum(axis=1))
        chosen.append(int(distance.argmax()))
    return np.array(chosen)


def smooth_motion(
    points: NDArray[np.float64],
    normals: NDArray[np.float64],
    distances: NDArray[np.float64],
    centers: NDArray[np.int64],
) -> NDArray[np.float64]:
    """Return displacements (V, 3) of `points` (V, 3) whose parts along `normals` (V, 3) are about `distances` (V,).

    `centers` are the numbers of the points that bumps sit on. Shifts, turns, and all motions that are quadratic in
    position are found as they are, where the normals leave no choice.
    """
    basis, price = _basis(points, points[centers])
    step = max(1, len(points) // _EQUATIONS)
    some = slice(step // 2, None, step)
    rows = (normals[some, :, None] * basis[some, None, :]).reshape(-1, 3 * basis.shape[1])
    weights = np.ones(len(rows))
    for _ in range(_ROUNDS):
        square = (rows * weights[:, None]).T @ rows
        square[np.diag_indices_from(square)] += weights.sum() * np.tile(price, 3)
        coefficients = np.linalg.solve(square, rows.T @ (weights * distances[some]))
        residuals = rows @ coefficients - distances[some]
        weights = 1 / (1 + (residuals / max(2 * float(np.median(np.abs(residuals))), 1e-7)) ** 2)
    return basis @ coefficients.reshape(3, -1).T


def _basis(
    points: NDArray[np.float64], centers: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the functions (V, B) at `points`, and the price (B,) of each."""
    middle = points.mean(axis=0)
    x, y, z = ((points - middle) / np.abs(points - middle).max()).T
    smooth = np.stack([np.ones_like(x), x, y, z, x * x, y * y, z * z, x * y, y * z, z * x], axis=1)
    apart = ((centers[:, None] - centers) ** 2).sum(axis=-1)
    np.fill_diagonal(apart, np.inf)
    width = _WIDTH * np.sqrt(np.median(apart.min(axis=1)))
    squares = (points**2).sum(axis=1)[:, None] + (centers**2).sum(axis=1) - 2 * points @ centers.T
    bumps = np.exp(-np.maximum(squares, 0) / (2 * width**2))
    price = np.repeat(_PRICES, [4, 6, len(centers)])
    return np.hstack([smooth, bumps]), price
