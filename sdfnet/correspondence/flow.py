"""The steadiest motion behind a sequence of surfaces: what one surface leaves open, those before and after it tell.

A surface tells only how fast it moves along its normal. Where it is symmetric that leaves much open: a sphere that
begins to bend moves like one that is shifted and pinched, and no choice among smooth motions that lets what shifts
shift can tell these apart. The bean that it becomes can. So one motion is sought for all frames together, that of least
bending energy and least change which agrees with the normal motion of each. Besides, nothing is to pull at the inside
(pinching would; bends, twists and stretches leave an elastic body in equilibrium), and nothing is to turn on the whole
unless it shows. The motion need not agree exactly: tracking makes up for the rest from step to step (`motion`).

References
----------
Eisenberger, Lähner & Cremers 2019, Divergence-Free Shape Interpolation and Correspondence: correspondence from a flow
that does not change over time, out of a space of few dimensions. Deviations: it may change, at a price, and instead of
its divergence its bending energy is small, that of thin plates (Bookstein 1989, Principal Warps: Thin-Plate Splines and
the Decomposition of Deformations), and its elastic forces are (`Basis.forces`), so that stretches are free.

The smoothest motion of space that moves a surface as its normal motion says: where along the surface things go.

A level set tells only how fast it moves along its normal. Among all motions that agree with that, bodies move by the
smooth ones: shifts, turns, stretches, bends. So a displacement that is a quadratic function of position plus a sum of
wide bumps is fitted to the normal displacements, the bumps at a price. Its tangential part says how vertices slide.
What all surfaces of a sequence tell together is taken first (`steadiness`).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from sdfnet.correspondence.narrow_band import FieldAt
from sdfnet.correspondence.tracked_mesh import FAR, lengths, newton
from sdfnet.fields.base import evaluate

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

_SLIDE_ROUNDS = 2
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
    for _ in range(_SLIDE_ROUNDS):
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


_NUM_SAMPLES = 600
"""Points of each surface that are asked, about."""

_MOST_TIMES = 64
"""Of a longer sequence so many frames are looked at, evenly."""

_DELTA = 0.25
"""The speed at a frame is measured over so much of the time to the frames before and after it."""

_BENDING = 2e-5
"""Price of squared second derivatives beside the squared error along the normals; lengths in radii of the sequence.
With less the errors of a learned field's speeds make bends on an ellipsoid, with more a sphere's bend is lost."""

_FORCES = 50.0
"""Price of squared elastic forces, in that of second derivatives. Without it a sphere that is bent is shifted along
itself, too, by the conformal motion that has no part along its normals."""

_TURNING = 5e-6
"""Price of a squared turn of the whole. A body as round as an ellipsoid may be turned inside itself, and that explains
some of what its bends and twists do; a pear that turns is still turned, but for a hundredth (with 1e-4 a quarter)."""

_CHANGE = 2e-5
"""Price of a squared change of the motion's bending in a travel of one radius. Where surfaces show a bend it may change
over half a hundredth of that, the root of this price; where none shows, over one radius. With fifty times the price the
motion cannot follow a sphere that is stretched, twisted and bent at once; with a twentieth its bend is lost. Times are
measured by travel, and speeds in terms of the mean there, so that the pace of a morph does not matter."""

_ROUNDS = 2
"""Fits; each but the first gives less weight to what the one before it did not explain (Cauchy's weights)."""

_RIDGE = 1e-9

_STILL = 0.01
"""Frames slower than this share of the mean count as so fast."""


@dataclass(frozen=True, eq=False)
class SteadyMotion:
    """A motion of space over time.

    Attributes
    ----------
    times : (T,) float64
    basis : Basis
    velocities : (T, B, 3) float64
        Coefficients of the velocity at each time; between them it changes linearly.
    """

    times: NDArray[np.float64]
    basis: Basis
    velocities: NDArray[np.float64]

    def displacement(self, points: NDArray[np.float64], span: tuple[float, float]) -> NDArray[np.float64]:
        """Return how points (V, 3) move in a short span of time, (V, 3)."""
        middle = (span[0] + span[1]) / 2
        after = int(np.clip(np.searchsorted(self.times, middle), 1, len(self.times) - 1))
        share = (middle - self.times[after - 1]) / (self.times[after] - self.times[after - 1])
        velocity = (1 - share) * self.velocities[after - 1] + share * self.velocities[after]
        return (span[1] - span[0]) * self.basis.values(points) @ velocity


@dataclass(frozen=True, eq=False)
class Seen:
    """What a surface shows at one time: points (N, 3), unit normals (N, 3), and the speeds (N,) along these."""

    points: NDArray[np.float64]
    normals: NDArray[np.float64]
    speeds: NDArray[np.float64]


def look_ahead(field_at: FieldAt, times: Sequence[float], points: NDArray[np.float64]) -> SteadyMotion | None:
    """Return the steadiest motion of the surfaces at `times` (T,), increasing; some of `points` (V, 3) follow them.

    The points are spread over the first surface. None where too little is seen.
    """
    some = np.linspace(0, len(times) - 1, min(len(times), _MOST_TIMES)).round().astype(int)
    chosen = [times[index] for index in some.tolist()]
    return steady_motion(watch(field_at, chosen, points), chosen)


def watch(field_at: FieldAt, times: Sequence[float], points: NDArray[np.float64]) -> list[Seen]:
    """Follow some of `points` (V, 3), near the first surface, and say what they show at each time.

    Those that lose the surface are left out until they find it again.
    """
    step = max(1, len(points) // _NUM_SAMPLES)
    some, seen = points[step // 2 :: step], []
    reach = float(np.linalg.norm(np.ptp(points, axis=0))) / 10
    for index, time in enumerate(times):
        some, values, slopes = newton(field_at(time), some, reach)
        steep = lengths(slopes)
        on = np.abs(values) < FAR * steep
        before = time - _DELTA * (time - times[max(index - 1, 0)])
        after = time + _DELTA * (times[min(index + 1, len(times) - 1)] - time)
        where = torch.from_numpy(some[on]).float()
        change = evaluate(field_at(after), where).double() - evaluate(field_at(before), where).double()
        seen.append(Seen(some[on], slopes[on] / steep[on, None], -change.numpy() / (after - before) / steep[on]))
    return seen


def steady_motion(seen: Sequence[Seen], times: Sequence[float]) -> SteadyMotion | None:
    """Return the steadiest smooth motion that agrees with what is seen at `times` (T,), increasing.

    Shifts, turns and scalings of what is seen shift, turn and scale it. None where too little is seen: no times between
    which to move, or hardly a point on a surface.
    """
    points = np.concatenate([one.points for one in seen])
    if len(times) < 2 or min(len(one.points) for one in seen) < 2 * _NUM_SAMPLES // 10:
        return None
    basis = Basis.of(points, points[spread_centers(points)])
    pace = np.array([np.sqrt((one.speeds**2).mean()) for one in seen])
    pace = np.maximum(pace, max(_STILL * float(pace.mean()), 1e-9 * basis.radius))
    travel = (pace[1:] + pace[:-1]) / 2 * np.diff(times) / basis.radius
    weights = [np.ones(len(one.points)) for one in seen]
    for _ in range(_ROUNDS):
        coefficients = _fitted(seen, basis, pace, travel, weights)
        for index, one in enumerate(seen):
            motion = basis.values(one.points) @ coefficients[index]
            residuals = (one.normals * motion).sum(axis=1) - one.speeds / pace[index]
            weights[index] = 1 / (1 + (residuals / max(2 * float(np.median(np.abs(residuals))), 1e-7)) ** 2)
    return SteadyMotion(np.asarray(times, dtype=np.float64), basis, pace[:, None, None] * coefficients)


def _fitted(
    seen: Sequence[Seen],
    basis: Basis,
    pace: NDArray[np.float64],
    travel: NDArray[np.float64],
    weights: Sequence[NDArray[np.float64]],
) -> NDArray[np.float64]:
    """Return the coefficients (T, B, 3) of the motion at unit pace, of all times together."""
    blocks, sides, ties = [], [], []
    for one, speed, some, way in zip(seen, pace, weights, np.convolve(travel, [0.5, 0.5]), strict=True):
        values, bends = basis.values(one.points), basis.bends(one.points)
        forces, turns = basis.forces(one.points), basis.turns(one.points)
        rows = (one.normals[:, :, None] * values[:, None, :]).reshape(len(values), -1)
        square = (rows * some[:, None]).T @ rows + np.kron(np.eye(3), _BENDING * bends.T @ bends)
        square += _BENDING * _FORCES * forces.T @ forces
        square[np.diag_indices_from(square)] += _RIDGE * len(values)
        blocks.append(way * (square / len(values) + _TURNING * turns.T @ turns))
        sides.append(way / len(values) * rows.T @ (some * one.speeds / speed))
        ties.append(bends.T @ bends / len(values))
    prices = [
        np.kron(np.eye(3), _CHANGE / way * (a + b) / 2)
        for way, (a, b) in zip(travel, itertools.pairwise(ties), strict=True)
    ]
    return _chained(blocks, sides, prices).reshape(len(seen), 3, -1).transpose(0, 2, 1)


def _chained(
    blocks: Sequence[NDArray[np.float64]], sides: Sequence[NDArray[np.float64]], ties: Sequence[NDArray[np.float64]]
) -> NDArray[np.float64]:
    """Return the x (T, K) of least sum of x_i' blocks_i x_i - 2 sides_i' x_i + (x_i - x_i+1)' ties_i (x_i - x_i+1)."""
    heads, tails = list[NDArray[np.float64]](), list[NDArray[np.float64]]()
    for index, (block, side) in enumerate(zip(blocks, sides, strict=True)):
        tie = ties[index] if index < len(ties) else np.zeros_like(block)
        square, right = block + tie, side
        if index:  # Gaussian elimination of the one before
            square = square + ties[index - 1] - ties[index - 1] @ heads[-1]
            right = right + ties[index - 1] @ tails[-1]
        solved: NDArray[np.float64] = np.linalg.solve(square, np.column_stack([tie, right])).astype(
            np.float64, copy=False
        )
        heads.append(solved[:, :-1])
        tails.append(solved[:, -1])
    found = [tails[-1]]
    for head, tail in zip(heads[-2::-1], tails[-2::-1], strict=True):
        found.append(tail + head @ found[-1])
    return np.array(found[::-1])
