"""Correct a shape between its slices by what the learned shapes teach: their distance fields are an ensemble.

A code explains the slices of an unseen shape, yet it may be wrong between them. Where the shapes of a family overlap,
their signed distances say more: how much a surface moves here if it moves there. The learned shapes are brought to the
pose of their mean. The covariance of their fields, tapered with distance so that few shapes do not tie far places
together by chance, is the prior of a new field; the observed points correct the mean field (kriging, the analysis step
of an ensemble Kalman filter). What no learned shape shows is left to the residual process of `refine`.

References: Houtekamer and Mitchell, "A sequential ensemble Kalman filter", Monthly Weather Review 2001 (the taper);
Leventon et al., "Statistical shape influence in geodesic active contours", CVPR 2000 (distances as shape vectors).

Legend: M learned shapes, R samples of the lattice along each axis, N observed points.
"""

from __future__ import annotations

import dataclasses
import functools
from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage
from scipy.linalg import cho_factor, cho_solve
from scipy.spatial.transform import Rotation
from scipy.stats import truncnorm
from torch import Tensor

from sdfnet.fields.adaptors import NeuralField
from sdfnet.fields.base import Field, evaluate
from sdfnet.fitting.align import pose_jacobian
from sdfnet.fitting.family import clamp_distance_of
from sdfnet.fitting.refine import Evidence, ResidualProcess, fit_residual
from sdfnet.geometry.arrays import Float32Array, FloatArray
from sdfnet.geometry.bounds import LATTICE_MARGIN, UNIT_BOUNDS, Lattice
from sdfnet.runs import Run

_RESOLUTION = 48
_MOST_SHAPES, _LEAST_SHAPES = 200, 20
"""Learned shapes of an ensemble: of more, some at equal intervals; fewer say too little about a covariance."""

_LEAST_OVERLAP = 0.5
"""Mean intersection over union with the common shape, below which distances at a place do not compare."""

_ROUNDS, _BAND, _POINTS = 3, 0.2, 20_000
"""Times that each shape is brought nearer to the mean, by points this near to its surface, and lattice points used."""

_TAPER = 0.4
"""Distance over which the covariance of the ensemble is believed: a Gaussian's deviation, unit frame."""

_POSE_STD = np.array([0.14, 0.14, 0.14, 0.05, 0.05, 0.05, 0.05])
"""What is left of the pose: turn in radians, log scale and shift, in the order of `pose_jacobian`."""

_MOST_POINTS, _MOST_BROKEN = 900, 300
_UPDATES, _DEGREES = 3, 3.0
_CHUNK = 20_000
_HALF_EXTENT = 1 + LATTICE_MARGIN


@dataclass(frozen=True, eq=False)
class FieldEnsemble:
    """The signed distances of the learned shapes of a run on one lattice over [-1.05, 1.05]³, each in the mean's pose.

    Attributes
    ----------
    mean : (R, R, R) float32
        [x, y, z], unit frame.
    deviations : (M, R, R, R) float32
        Of each shape from the mean.
    overlap : float
        Mean intersection over union of a shape with the space that more than half of them fill.

    >>> from sdfnet.runs import load_run
    >>> ensemble = FieldEnsemble.of(load_run("runs/chairs"))
    >>> len(ensemble.deviations), ensemble.is_useful
    (2, False)
    """

    mean: Float32Array
    deviations: Float32Array
    overlap: float

    @staticmethod
    @functools.lru_cache(maxsize=1)  # The parts of one command share it; runs are compared by identity.
    def of(run: Run) -> FieldEnsemble:
        """Return the ensemble of the learned shapes of a run; fitted shapes do not count."""
        learned = [row for row, shape in enumerate(run.shapes) if shape.learned] or list(range(len(run.shapes)))
        rows = learned[:: -(-len(learned) // _MOST_SHAPES)]
        fields = _aligned(np.stack([_distances(run, row) for row in rows]))
        filled = fields < 0
        common = filled.mean(axis=0) > 0.5
        shared = (filled & common).sum(axis=(1, 2, 3)) / np.maximum((filled | common).sum(axis=(1, 2, 3)), 1)
        mean = fields.mean(axis=0)
        return FieldEnsemble(mean, fields - mean, float(shared.mean()))

    @property
    def is_useful(self) -> bool:
        """Whether there are enough shapes, and they overlap."""
        return len(self.deviations) >= _LEAST_SHAPES and self.overlap >= _LEAST_OVERLAP

    def field_given(self, evidence: Evidence, process: ResidualProcess) -> Float32Array:
        """Return the mean field (R, R, R) given intervals of the distance; without the part of `process`.

        `process` is what the ensemble leaves out. `fit_residual` adds it to this field.
        """
        points, lower, upper, std = (each.double().numpy() for each in dataclasses.astuple(evidence))
        equal = np.flatnonzero(lower == upper)
        random = np.random.default_rng(0)
        used = random.permutation(equal)[:_MOST_POINTS]
        surface = np.arange(len(used))
        target, variance, believed = lower[used], std[used] ** 2, np.ones(len(used))
        for _ in range(_UPDATES):
            here = _Features.at(self, points[used])
            factor = cho_factor(here.covariance(here, process) + np.diag(variance / believed))
            weights = cho_solve(factor, target - here.mean)
            field = self.mean + self._added(here, weights)
            error = variance[surface] ** 0.5 * weights[surface] / believed[surface]
            believed[surface] = np.minimum(1.0, (_DEGREES + 1) / (_DEGREES + error**2))
            sdf = _look_up(field, points)
            broken = np.setdiff1d(np.flatnonzero((sdf < lower) | (sdf > upper)), equal)
            more = np.setdiff1d(random.permutation(broken)[:_MOST_BROKEN], used)
            if len(more):
                there = _Features.at(self, points[more])
                across = there.covariance(here, process)
                left = there.variance(process) - (across * cho_solve(factor, across.T).T).sum(axis=1)
                mean, spread = there.mean + across @ weights, np.sqrt(np.maximum(left, std[more] ** 2))
                value, size = _truncated(mean, spread, lower[more], upper[more])
                used = np.concatenate([used, more])
                target = np.concatenate([target, value])
                variance = np.concatenate([variance, size + std[more] ** 2])
                believed = np.concatenate([believed, np.ones(len(more))])
        return field

    def _added(self, here: _Features, weights: FloatArray) -> Float32Array:
        """Return what the weights (N,) of points add to the mean field, (R, R, R)."""
        lattice = _lattice_points()
        flat = self.deviations.reshape(len(self.deviations), -1)
        added = []
        for start in range(0, len(lattice), _CHUNK):
            rows = slice(start, start + _CHUNK)
            there = _Features(lattice[rows], flat[:, rows], _pose_modes(self.mean, lattice[rows]), here.mean)
            added.append(there.covariance(here) @ weights)
        return np.concatenate(added).reshape(self.mean.shape).astype(np.float32)


@dataclass(frozen=True, eq=False)
class _Features:
    """What the prior says of the distances at points (N, 3): deviations (M, N), modes of the pose (N, 7), mean (N,)."""

    points: FloatArray
    members: FloatArray | Float32Array
    pose: FloatArray
    mean: FloatArray

    @classmethod
    def at(cls, ensemble: FieldEnsemble, points: FloatArray) -> _Features:
        members = np.stack([_look_up(each, points) for each in ensemble.deviations])
        return cls(points, members, _pose_modes(ensemble.mean, points), _look_up(ensemble.mean, points))

    def covariance(self, other: _Features, process: ResidualProcess | None = None) -> FloatArray:
        """Return the covariance between these points and others: the tapered ensemble, the pose, and the process."""
        a, b = self.points, other.points
        squared = np.maximum((a * a).sum(axis=1)[:, None] + (b * b).sum(axis=1) - 2 * a @ b.T, 0.0)
        found: FloatArray = self.members.T @ other.members / (len(self.members) - 1)
        found = found * np.exp(-squared / (2 * _TAPER**2)) + self.pose @ other.pose.T
        return found if process is None else found + process.kernel(torch.from_numpy(np.sqrt(squared))).numpy()

    def variance(self, process: ResidualProcess) -> FloatArray:
        shared = (self.members**2).sum(axis=0) / (len(self.members) - 1)
        return np.asarray(shared + (self.pose**2).sum(axis=1) + process.std**2)


def _truncated(
    mean: FloatArray, spread: FloatArray, lower: FloatArray, upper: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Return mean and variance of normal values that are known to lie in an interval.

    The bound itself, in place of this mean, would let the end of a shape grow up to the next empty slice.
    """
    low, high = np.clip((lower - mean) / spread, -30, 6), np.clip((upper - mean) / spread, -6, 30)
    first, second = truncnorm.stats(low, np.maximum(high, low + 1e-3), moments="mv")
    return np.asarray(mean + spread * first), np.asarray(spread**2 * second)


def ensemble_residual(run: Run, field: Field, evidence: Evidence) -> Tensor:
    """Return the residual (R, R, R), [x, y, z], of a code's `field` to what ensemble and evidence say, unit frame.

    It is 0 where both are beyond the clamp distance of the training on the same side.
    """
    process = ResidualProcess.for_parts()
    given = FieldEnsemble.of(run).field_given(evidence, process)
    fine = ndimage.zoom(given, process.resolution / len(given), order=3)
    at_points = torch.from_numpy(_look_up(fine, evidence.points.double().numpy())).float()
    wanted = torch.from_numpy(fine) + fit_residual(evidence, at_points, process)
    points = torch.from_numpy(_lattice_points(process.resolution)).to(run.latents)
    sdf = evaluate(field, points).cpu().reshape(wanted.shape)
    clamp = clamp_distance_of(run)
    both_far = (wanted.abs() >= clamp) & (sdf.abs() >= clamp) & ((wanted < 0) == (sdf < 0))
    return torch.where(both_far, 0.0, wanted.clamp(-clamp, clamp) - sdf)


def _lattice_points(resolution: int = _RESOLUTION) -> FloatArray:
    return Lattice.over(UNIT_BOUNDS, resolution).slab(0, resolution).reshape(-1, 3)


def _distances(run: Run, row: int) -> Float32Array:
    """Return the signed distances (R, R, R) of a learned shape, also beyond the clamp distance of the training."""
    field = NeuralField(run.decoder, run.latents[row])
    values = evaluate(field, torch.from_numpy(_lattice_points()).to(run.latents)).cpu().numpy()
    grid = values.reshape(*[_RESOLUTION] * 3).astype(np.float32)
    spacing = 2 * _HALF_EXTENT / (_RESOLUTION - 1)
    far = np.abs(grid) > min(clamp_distance_of(run), spacing)
    if far.all() or not far.any():
        return grid
    away, nearest = ndimage.distance_transform_edt(far, sampling=spacing, return_indices=True)
    found: Float32Array = np.where(far, np.sign(grid) * (away + np.abs(grid[tuple(nearest)])), grid).astype(np.float32)
    return found


def _aligned(fields: Float32Array) -> Float32Array:
    """Return fields (M, R, R, R) turned, scaled and shifted so that they are near to their mean."""
    points = _lattice_points()
    some = np.random.default_rng(0).permutation(len(points))[:_POINTS]
    moved, poses = fields.copy(), [(np.eye(3), 1.0, np.zeros(3)) for _ in fields]
    for _ in range(_ROUNDS):
        mean = moved.mean(axis=0)
        band = some[np.abs(mean.reshape(-1)[some]) < _BAND]
        for row, (rotation, scale, shift) in enumerate(poses):
            jacobian = _by_pose(moved[row], points[band])
            sdf = moved[row].reshape(-1)[band]
            jacobian[:, 3] -= sdf
            right = jacobian.T @ (mean.reshape(-1)[band] - sdf)
            delta = np.linalg.solve(jacobian.T @ jacobian + 1e-3 * np.eye(7), right)
            turn, more = Rotation.from_rotvec(delta[:3]).as_matrix(), float(np.exp(delta[3]))
            poses[row] = (rotation @ turn, scale * more, shift + scale * rotation @ delta[4:])
            rotation, scale, shift = poses[row]
            moved[row] = (_look_up(fields[row], scale * points @ rotation.T + shift) / scale).reshape(mean.shape)
    return moved


def _by_pose(grid: Float32Array, points: FloatArray) -> FloatArray:
    """Return the derivatives (N, 7) of a field's values at points by turn, log scale and shift."""
    spacing = 2 * _HALF_EXTENT / (_RESOLUTION - 1)
    slope = np.stack([_look_up(np.gradient(grid, spacing, axis=axis), points) for axis in range(3)], axis=1)
    found = pose_jacobian(torch.from_numpy(slope), torch.from_numpy(points), torch.zeros(3, dtype=torch.float64))
    return np.asarray(found.numpy())


def _pose_modes(mean: Float32Array, points: FloatArray) -> FloatArray:
    return _by_pose(mean, points) * _POSE_STD


def _look_up(grid: Float32Array, points: FloatArray) -> FloatArray:
    """Return the values (N,) of a grid at points, linear between the samples; float64."""
    where = (points + _HALF_EXTENT) / (2 * _HALF_EXTENT) * (len(grid) - 1)
    return np.asarray(ndimage.map_coordinates(grid, where.T, order=1, mode="nearest", output=np.float64))
