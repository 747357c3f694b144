"""The motion of space behind a moving surface, estimated from the surface's speed along its normals.

A level set shows only its normal speed, so the sliding of points along the surface must be guessed. Every motion here
is a quadratic function of position plus a sum of wide Gaussians (`MotionBasis`). `fit_flow` fits one time-dependent
velocity to all frames together, because one frame says too little: a sphere that begins to bend moves like a sphere
that is shifted and pinched. Penalties keep the flow's bending energy, elastic forces and change over time small. At
each step, `fit_displacement` fits the rest that the flow does not explain.

References: Eisenberger, Lähner & Cremers 2019, Divergence-Free Shape Interpolation and Correspondence (here the flow
may change over time, and bending energy and elastic forces are small instead of the divergence); Bookstein 1989,
Principal Warps: Thin-Plate Splines and the Decomposition of Deformations.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from sdfnet.correspondence.narrow_band import FieldAt
from sdfnet.correspondence.tracked_mesh import OFF_SURFACE, gradient_norms, newton
from sdfnet.fields.base import evaluate
from sdfnet.geometry.arrays import FloatArray, IntArray

_NUM_SAMPLES, _MAX_TIMES = 600, 64
"""The approximate number of observed points of each surface, and the limit of evenly spaced observed frames."""

_TIME_STEP = 0.25
"""The speed at a frame is a finite difference over this share of the time to the frames before and after it."""

_BENDING = 2e-5
"""Penalty on squared second derivatives, relative to the squared error along the normals. Lengths are in radii of the
sequence. With a lower penalty, errors of a learned field's speeds become bends. With a higher one, bends get lost."""

_FORCES = 50.0
"""Penalty on squared elastic forces, relative to `_BENDING`. Without it, a bent sphere is also shifted along itself."""

_ROTATION = 5e-6
"""Penalty on a squared rotation of the whole body, because a round body may rotate inside itself. A pear that rotates
loses a hundredth of its rotation (a quarter with a penalty of 1e-4)."""

_CHANGE = 2e-5
"""Penalty on a squared change of the motion's bending while the surface moves by one radius. With fifty times as much,
the flow cannot follow a sphere that is stretched, twisted and bent at once; with a twentieth, it loses the bend. Time
is measured by the displacement of the surface, so that the speed of a morph does not matter."""

_RIDGE = 1e-9

_MIN_SPEED = 0.01
"""Frames slower than this share of the mean speed count as this fast."""

_NUM_GAUSSIANS, _WIDTH = 64, 1.5
"""The number of Gaussians, whose centres are spread evenly over the surface, and their standard deviation, relative to
the median distance from a centre to its nearest neighbour."""

_PENALTIES = (1e-8, 1e-5, 1e-3)
"""Ridge penalties on the linear part, the quadratic part and the Gaussians, relative to the number of equations."""

_RESIDUAL_PENALTIES = (1e-8, 1e-3, 1e-3)
"""The same penalties for the rest that a flow leaves. It is mostly roughness of the field and must not become bends."""

_MAX_EQUATIONS = 2500
"""`fit_displacement` uses at most about this many vertices."""

_FITS = 2
"""The number of least-squares fits. Each later fit gives less weight to points that the previous fit explains badly."""

_ROOT = np.sqrt(2.0)

_AXES_OF_SECOND = [(0, 0), (1, 1), (2, 2), (0, 1), (1, 2), (2, 0)]
"""The axes of the six second derivatives, in the order of the quadratic functions."""


@dataclass(frozen=True, eq=False)
class Flow:
    """A smooth velocity of space over time: its coefficients (T, B, 3) at `times` (T,), interpolated linearly."""

    times: FloatArray
    basis: MotionBasis
    velocities: FloatArray

    def displacement(self, points: FloatArray, span: tuple[float, float]) -> FloatArray:
        """Return the displacements (V, 3) of points (V, 3) in a short span of time: one step of the midpoint rule."""
        middle = (span[0] + span[1]) / 2
        after = int(np.clip(np.searchsorted(self.times, middle), 1, len(self.times) - 1))
        share = (middle - self.times[after - 1]) / (self.times[after] - self.times[after - 1])
        velocity = (1 - share) * self.velocities[after - 1] + share * self.velocities[after]
        return (span[1] - span[0]) * self.basis.values(points) @ velocity


@dataclass(frozen=True, eq=False)
class NormalSpeeds:
    """Observations of a surface at one time: points (N, 3), unit normals (N, 3), and speeds (N,) along the normals."""

    points: FloatArray
    normals: FloatArray
    speeds: FloatArray


def fit_flow(field_at: FieldAt, times: Sequence[float], points: FloatArray) -> Flow | None:
    """Fit a flow to the surfaces of `field_at` at the increasing `times` (T,).

    The normal speeds are observed at some of `points` (V, 3), which are spread over the first surface and follow the
    surface in time. Return None if too little is observed.
    """
    some = np.linspace(0, len(times) - 1, min(len(times), _MAX_TIMES)).round().astype(int)
    chosen = [times[index] for index in some.tolist()]
    return fit_flow_to_speeds(observe_normal_speeds(field_at, chosen, points), chosen)


def observe_normal_speeds(field_at: FieldAt, times: Sequence[float], points: FloatArray) -> list[NormalSpeeds]:
    """Project some of `points` (V, 3) onto each surface in turn, and return the normal speeds there.

    Points that lose the surface are left out until they find it again.
    """
    step = max(1, len(points) // _NUM_SAMPLES)
    some, observed = points[step // 2 :: step], []
    reach = float(np.linalg.norm(np.ptp(points, axis=0))) / 10
    for index, time in enumerate(times):
        some, values, gradients = newton(field_at(time), some, reach)
        norms = gradient_norms(gradients)
        on = np.abs(values) < OFF_SURFACE * norms
        before = time - _TIME_STEP * (time - times[max(index - 1, 0)])
        after = time + _TIME_STEP * (times[min(index + 1, len(times) - 1)] - time)
        where = torch.from_numpy(some[on]).float()
        change = evaluate(field_at(after), where).double() - evaluate(field_at(before), where).double()
        speeds = -change.numpy() / (after - before) / norms[on]
        observed.append(NormalSpeeds(some[on], gradients[on] / norms[on, None], speeds))
    return observed


def fit_flow_to_speeds(observed: Sequence[NormalSpeeds], times: Sequence[float]) -> Flow | None:
    """Fit the smoothest and steadiest flow that agrees with the normal speeds at the increasing `times` (T,).

    Return None if there is only one time, or if a surface has too few observed points.
    """
    points = np.concatenate([one.points for one in observed])
    if len(times) < 2 or min(len(one.points) for one in observed) < 2 * _NUM_SAMPLES // 10:
        return None
    basis = MotionBasis.over(points, points[farthest_points(points)])
    speeds = np.array([np.sqrt((one.speeds**2).mean()) for one in observed])
    speeds = np.maximum(speeds, max(_MIN_SPEED * float(speeds.mean()), 1e-9 * basis.radius))
    displacements = (speeds[1:] + speeds[:-1]) / 2 * np.diff(times) / basis.radius
    weights = [np.ones(len(one.points)) for one in observed]
    for _ in range(_FITS):
        coefficients = _fit_velocities(observed, basis, speeds, displacements, weights)
        for index, one in enumerate(observed):
            motion = basis.values(one.points) @ coefficients[index]
            weights[index] = _cauchy_weights((one.normals * motion).sum(axis=1) - one.speeds / speeds[index])
    return Flow(np.asarray(times, dtype=np.float64), basis, speeds[:, None, None] * coefficients)


def fit_displacement(
    points: FloatArray, normals: FloatArray, distances: FloatArray, centers: IntArray, *, residual: bool = False
) -> FloatArray:
    """Return smooth displacements (V, 3) of `points` that are about `distances` (V,) long along `normals` (V, 3).

    `centers` (C,) are the numbers of the points on which the Gaussians are centred. If `residual` is true, a flow has
    left these distances. Then only motions that are linear in position have a low penalty.
    """
    functions = MotionBasis.over(points, points[centers])
    basis, penalties = functions.values(points), functions.penalties(_RESIDUAL_PENALTIES if residual else _PENALTIES)
    step = max(1, len(points) // _MAX_EQUATIONS)
    some = slice(step // 2, None, step)
    rows = (normals[some, :, None] * basis[some, None, :]).reshape(-1, 3 * basis.shape[1])
    weights = np.ones(len(rows))
    for _ in range(_FITS):
        square = (rows * weights[:, None]).T @ rows
        square[np.diag_indices_from(square)] += weights.sum() * np.tile(penalties, 3)
        coefficients = np.linalg.solve(square, rows.T @ (weights * distances[some]))
        weights = _cauchy_weights(rows @ coefficients - distances[some])
    return basis @ coefficients.reshape(3, -1).T


def farthest_points(points: FloatArray, count: int = _NUM_GAUSSIANS) -> IntArray:
    """Choose `count` of `points` (V, 3), each as far as possible from the points before. Return their numbers.

    >>> farthest_points(np.array([[0.0, 0, 0], [1, 0, 0], [5, 0, 0]]), 2).tolist()
    [2, 0]
    """
    chosen = [int(np.linalg.norm(points - points.mean(axis=0), axis=1).argmax())]
    distance = np.full(len(points), np.inf)
    while len(chosen) < min(count, len(points)):
        distance = np.minimum(distance, ((points - points[chosen[-1]]) ** 2).sum(axis=1))
        chosen.append(int(distance.argmax()))
    return np.array(chosen)


@dataclass(frozen=True, eq=False)
class MotionBasis:
    """B functions of position whose sums are motions: ten quadratic functions, and Gaussians of one `width`.

    Positions are relative to `middle` (3,), in units of `radius`. `centers` (C, 3) are the centres of the Gaussians.
    """

    middle: FloatArray
    radius: float
    centers: FloatArray
    width: float

    @classmethod
    def over(cls, points: FloatArray, centers: FloatArray) -> MotionBasis:
        """Return the functions for a surface that has these points (V, 3)."""
        middle = points.mean(axis=0)
        squares = ((centers[:, None] - centers) ** 2).sum(axis=-1)
        np.fill_diagonal(squares, np.inf)
        width = _WIDTH * float(np.sqrt(np.median(squares.min(axis=1))))
        return cls(middle, float(np.linalg.norm(points - middle, axis=1).max()), centers, width)

    def penalties(self, kinds: tuple[float, float, float]) -> FloatArray:
        """Return the penalty on each function, (B,), from penalties on linear part, quadratic part and Gaussians."""
        return np.repeat(kinds, [4, 6, len(self.centers)])

    def values(self, points: FloatArray) -> FloatArray:
        """Return the functions (V, B) at points (V, 3)."""
        x, y, z = ((points - self.middle) / self.radius).T
        mixed = [_ROOT * x * y, _ROOT * y * z, _ROOT * z * x]  # so that coefficients have no preferred axes
        smooth = np.stack([np.ones_like(x), x, y, z, x * x, y * y, z * z, *mixed], axis=1)
        return np.hstack([smooth, self._gaussians(points)])

    def second_derivatives(self, points: FloatArray) -> FloatArray:
        """Return the second derivatives of each function at points (V, 3), (6 V, B), in units of 1 / radius².

        Mixed derivatives are multiplied by √2. So the sum of all squares is that of the whole Hessian matrix.
        """
        away = (points[:, None] - self.centers).transpose(2, 0, 1) * (self.radius / self.width**2)  # (3, V, C)
        gaussians, narrow = self._gaussians(points), (self.radius / self.width) ** 2
        rows = np.zeros((6, len(points), 10 + len(self.centers)))
        for row, (i, j) in enumerate(_AXES_OF_SECOND):
            rows[row, :, 4 + row] = 2.0
            rows[row, :, 10:] = (away[i] * away[j] - (narrow if i == j else 0.0)) * gaussians * (1 if i == j else _ROOT)
        return rows.reshape(6 * len(points), -1)

    def elastic_forces(self, points: FloatArray) -> FloatArray:
        """Return the body forces (3 V, 3 B) at points (V, 3) if each function is a displacement along x, y and z.

        The force is the Laplacian plus the gradient of the divergence, in units of 1 / radius² (the Navier-Cauchy
        equation with Poisson's ratio 0 and a modulus of 2). Linear displacements, bends and twists need none.
        """
        second = self.second_derivatives(points).reshape(6, len(points), -1)
        second[3:] /= _ROOT
        rows = np.empty((3, len(points), 3, second.shape[2]))
        for row, (i, j) in enumerate(_AXES_OF_SECOND):
            rows[i, :, j] = rows[j, :, i] = second[row]
        for axis in range(3):
            rows[axis, :, axis] += second[:3].sum(axis=0)
        return rows.reshape(3 * len(points), -1)

    def rotations(self, points: FloatArray) -> FloatArray:
        """Return the mean rotation (3, 3 B) of points (V, 3) if each function is a motion along x, y and z.

        The mean rotation is the antisymmetric part of the mean Jacobian, times √2, in units of 1 / radius.
        """
        away, count = points - self.middle, len(self.centers)
        slopes = np.zeros((3, 10 + count))  # mean derivatives in x, y and z
        slopes[:, 1:4] = np.eye(3)
        mean, gaussians = away.mean(axis=0) / self.radius, self._gaussians(points)
        for index, (i, j) in enumerate(_AXES_OF_SECOND):
            factor = 1.0 if i == j else _ROOT
            slopes[i, 4 + index] += factor * mean[j]
            slopes[j, 4 + index] += factor * mean[i]
        slopes[:, 10:] = (
            (self.centers.T * gaussians.sum(axis=0) - points.T @ gaussians) * self.radius / self.width**2 / len(points)
        )
        rows = np.zeros((3, 3, 10 + count))
        for row, (i, j) in enumerate([(0, 1), (1, 2), (2, 0)]):
            rows[row, i], rows[row, j] = slopes[j] / _ROOT, -slopes[i] / _ROOT
        return rows.reshape(3, -1)

    def _gaussians(self, points: FloatArray) -> FloatArray:
        squares = (points**2).sum(axis=1)[:, None] + (self.centers**2).sum(axis=1) - 2 * points @ self.centers.T
        return np.exp(-np.maximum(squares, 0) / (2 * self.width**2))


def _cauchy_weights(residuals: FloatArray) -> FloatArray:
    """Return Cauchy weights (N,), which fall with the residual. Their scale is twice the median residual."""
    return 1 / (1 + (residuals / max(2 * float(np.median(np.abs(residuals))), 1e-7)) ** 2)


def _fit_velocities(
    observed: Sequence[NormalSpeeds],
    basis: MotionBasis,
    speeds: FloatArray,
    displacements: FloatArray,
    weights: Sequence[FloatArray],
) -> FloatArray:
    """Fit the velocities at all times together. Return coefficients (T, B, 3), relative to the mean `speeds` (T,)."""
    blocks, sides, bendings = [], [], []
    lengths = np.convolve(displacements, [0.5, 0.5])
    for one, speed, weight, length in zip(observed, speeds, weights, lengths, strict=True):
        values, second = basis.values(one.points), basis.second_derivatives(one.points)
        forces, rotations = basis.elastic_forces(one.points), basis.rotations(one.points)
        rows = (one.normals[:, :, None] * values[:, None, :]).reshape(len(values), -1)
        square = (rows * weight[:, None]).T @ rows + np.kron(np.eye(3), _BENDING * second.T @ second)
        square += _BENDING * _FORCES * forces.T @ forces
        square[np.diag_indices_from(square)] += _RIDGE * len(values)
        blocks.append(length * (square / len(values) + _ROTATION * rotations.T @ rotations))
        sides.append(length / len(values) * rows.T @ (weight * one.speeds / speed))
        bendings.append(second.T @ second / len(values))
    couplings = [
        np.kron(np.eye(3), _CHANGE / length * (a + b) / 2)
        for length, (a, b) in zip(displacements, itertools.pairwise(bendings), strict=True)
    ]
    return _solve_chain(blocks, sides, couplings).reshape(len(observed), 3, -1).transpose(0, 2, 1)


def _solve_chain(
    blocks: Sequence[FloatArray], sides: Sequence[FloatArray], couplings: Sequence[FloatArray]
) -> FloatArray:
    """Return the x (T, K) that minimises x_i' blocks_i x_i - 2 sides_i' x_i + (x_i - x_i+1)' couplings_i (x_i - x_i+1).

    The sum is over i. The system is block tridiagonal; it is solved by block Gaussian elimination.
    """
    heads, tails = list[FloatArray](), list[FloatArray]()
    for index, (block, side) in enumerate(zip(blocks, sides, strict=True)):
        coupling = couplings[index] if index < len(couplings) else np.zeros_like(block)
        square, right = block + coupling, side
        if index:
            square = square + couplings[index - 1] - couplings[index - 1] @ heads[-1]
            right = right + couplings[index - 1] @ tails[-1]
        solved: FloatArray = np.linalg.solve(square, np.column_stack([coupling, right])).astype(np.float64, copy=False)
        heads.append(solved[:, :-1])
        tails.append(solved[:, -1])
    found = [tails[-1]]
    for head, tail in zip(heads[-2::-1], tails[-2::-1], strict=True):
        found.append(tail + head @ found[-1])
    return np.array(found[::-1])
