"""The smoothest motion of space that moves a surface as its normal motion says: where along the surface things go.

A level set tells only how fast it moves along its normal. Among all motions that agree with that, bodies move by the
smooth ones: shifts, turns, stretches, bends. So a displacement that is a quadratic function of position plus a sum of
wide bumps is fitted to the normal displacements, the bumps at a price. Its tangential part says how vertices slide.
What all surfaces of a sequence tell together is taken first (`steadiness`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

NUM_BUMPS = 64
"""Centres of bumps, spread evenly over the surface."""

_WIDTH = 1.5
"""Standard deviation of a bump over the median distance from a centre to the next."""

_PRICES = (1e-8, 1e-5, 1e-3)
"""Ridge penalties of the linear part, the quadratic part and the bumps, relative to the number of equations: what the
normal motion leaves open, such as the turning of a sphere, is left out, and the simpler of two motions is taken."""

_REST_PRICES = (1e-8, 1e-3, 1e-3)
"""The same for what a steady motion leaves: little, and so much of it the field's own roughness that bends would be
made of it where the surface leaves them open (on a nearly round body to half of the way)."""

_ROOT = np.sqrt(2.0)

_SECOND = [(0, 0), (1, 1), (2, 2), (0, 1), (1, 2), (2, 0)]
"""The second derivatives, in the order of the quadratic functions."""

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
    *,
    rest: bool = False,
) -> NDArray[np.float64]:
    """Return displacements (V, 3) of `points` (V, 3) whose parts along `normals` (V, 3) are about `distances` (V,).

    `centers` are the numbers of the points that bumps sit on. Shifts, turns, and all motions that are quadratic in
    position are found as they are, where the normals leave no choice. With `rest` it is what a steady motion leaves:
    then only motions that are linear in position are cheap.
    """
    functions = Basis.of(points, points[centers])
    basis, price = functions.values(points), functions.price(_REST_PRICES if rest else _PRICES)
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


@dataclass(frozen=True, eq=False)
class Basis:
    """Functions of position that motions are made of: the quadratic ones, and wide bumps.

    Attributes
    ----------
    middle : (3,) float64
    radius : float
        Positions are taken from the middle in units of this.
    centers : (C, 3) float64
        Of the bumps.
    width : float
        Their standard deviation.
    """

    middle: NDArray[np.float64]
    radius: float
    centers: NDArray[np.float64]
    width: float

    @classmethod
    def of(cls, points: NDArray[np.float64], centers: NDArray[np.float64]) -> Basis:
        """Return the functions that suit a surface that has these points (V, 3)."""
        middle = points.mean(axis=0)
        apart = ((centers[:, None] - centers) ** 2).sum(axis=-1)
        np.fill_diagonal(apart, np.inf)
        width = _WIDTH * float(np.sqrt(np.median(apart.min(axis=1))))
        return cls(middle, float(np.linalg.norm(points - middle, axis=1).max()), centers, width)

    def price(self, prices: tuple[float, float, float]) -> NDArray[np.float64]:
        """Return what each function costs, (B,), given the prices of the linear part, the quadratic part and bumps."""
        return np.repeat(prices, [4, 6, len(self.centers)])

    def values(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the functions (V, B) at points (V, 3)."""
        x, y, z = ((points - self.middle) / self.radius).T
        mixed = [_ROOT * x * y, _ROOT * y * z, _ROOT * z * x]  # so that coefficients have no preferred axes
        smooth = np.stack([np.ones_like(x), x, y, z, x * x, y * y, z * z, *mixed], axis=1)
        return np.hstack([smooth, self._bumps(points)])

    def bends(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the second derivatives of each function at points (V, 3), (6 V, B), in units of 1 / radius².

        Mixed ones times √2: the squares of all sum to those of the whole matrix. Linear functions have none.
        """
        away = (points[:, None] - self.centers).transpose(2, 0, 1) * (self.radius / self.width**2)  # (3, V, C)
        bumps, narrow = self._bumps(points), (self.radius / self.width) ** 2
        rows = np.zeros((6, len(points), 10 + len(self.centers)))
        for row, (i, j) in enumerate(_SECOND):
            rows[row, :, 4 + row] = 2.0
            rows[row, :, 10:] = (away[i] * away[j] - (narrow if i == j else 0.0)) * bumps * (1 if i == j else _ROOT)
        return rows.reshape(6 * len(points), -1)

    def forces(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the force that each function, as a displacement along x, y and z, asks for at points (V, 3).

        (3 V, 3 B), Laplacian plus gradient of the divergence, in units of 1 / radius²: what an elastic body without
        transverse contraction must be pulled by inside (the Navier-Cauchy equation with Poisson's ratio 0, a material
        of modulus 2). Linear displacements, bends and twists need none.
        """
        second = self.bends(points).reshape(6, len(points), -1)
        second[3:] /= _ROOT
        rows = np.empty((3, len(points), 3, second.shape[2]))
        for row, (i, j) in enumerate(_SECOND):
            rows[i, :, j] = rows[j, :, i] = second[row]
        for axis in range(3):
            rows[axis, :, axis] += second[:3].sum(axis=0)
        return rows.reshape(3 * len(points), -1)

    def turns(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return how fast each function, as a motion along x, y and z, turns points (V, 3) on the whole, (3, 3 B).

        The antisymmetric part of the mean derivatives, times √2, in units of 1 / radius.
        """
        away, count = points - self.middle, len(self.centers)
        slopes = np.zeros((3, 10 + count))  # mean derivatives in x, y and z
        slopes[:, 1:4] = np.eye(3)
        mean, bumps = away.mean(axis=0) / self.radius, self._bumps(points)
        for index, (i, j) in enumerate(_SECOND):
            factor = 1.0 if i == j else _ROOT
            slopes[i, 4 + index] += factor * mean[j]
            slopes[j, 4 + index] += factor * mean[i]
        slopes[:, 10:] = (
            (self.centers.T * bumps.sum(axis=0) - points.T @ bumps) * self.radius / self.width**2 / len(points)
        )
        rows = np.zeros((3, 3, 10 + count))
        for row, (i, j) in enumerate([(0, 1), (1, 2), (2, 0)]):
            rows[row, i], rows[row, j] = slopes[j] / _ROOT, -slopes[i] / _ROOT
        return rows.reshape(3, -1)

    def _bumps(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        squares = (points**2).sum(axis=1)[:, None] + (self.centers**2).sum(axis=1) - 2 * points @ self.centers.T
        return np.exp(-np.maximum(squares, 0) / (2 * self.width**2))
