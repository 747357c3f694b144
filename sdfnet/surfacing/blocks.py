"""Coarse to fine: which blocks of a lattice can hold the surface, and an audit of those that were skipped.

A block is a cube of 2, 4, 8, … cells, named by its place (3,) among the blocks of its size. It is skipped where the
field's value at its centre is larger than the field can change on the way to its corners. How much that is, is proven
for an exact or bound field (by as much as the way is long); for an approximate one it is taken from the slopes seen.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FINEST = 2
"""Cells along a side of the blocks that are visited in full. One cell would ask for more centres than it saves."""

_COARSEST_COUNT = 32
"""Blocks along the longest axis to begin with. On [-1.05, 1.05] their half diagonal is 0.057, well below the distance
(0.1) from which on a network that learned clamped distances says no more than 'far'."""

_SLOPE_QUANTILE = 0.99
_SLOPE_SAFETY = 1.2
_FINEST_SAFETY = 1.0
"""An approximate field is trusted to change no faster than this many times what it does in all but the steepest of the
groups of eight blocks of that size near the surface, or in the block's own group if that is steeper. At the finest size
it is taken at its word: the surface is followed into what was skipped, so only pieces smaller than two cells are lost.
"""

_STRAIGHT = 2 * FINEST
"""Up to this size the gradient is taken to point where the differences of the block's group say, not at a corner."""

_FEW_NEAR = 64
"""From so few groups near the surface nothing is concluded for all."""

_PROVEN_SAFETY = 1.001
"""For the rounding of positions and values where the slope is proven."""

_AUDIT_SHARE = 0.01
_AUDIT_STEPS = 2
"""An audited block is looked at in 3³ of its lattice points: corners, middles of edges and faces, and the centre."""

Sample = Callable[[NDArray[np.number]], NDArray[np.float32]]
"""From positions (N, 3) in lattice coordinates to values relative to the level, (N,), all finite."""

IsVisited = Callable[[NDArray[np.int32]], NDArray[np.bool_]]
"""From places (N, 3) of blocks of FINEST cells to whether they were visited, (N,)."""


@dataclass(frozen=True, eq=False)
class SkippedBlocks:
    """Blocks of one size without surface: places (N, 3) int32 and whether the centre is inside, (N,) bool."""

    side: int
    places: NDArray[np.int32]
    inside: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class BlockChoice:
    """What to visit and what not.

    Attributes
    ----------
    visited : (N, 3) int32
        Places of the blocks of FINEST cells that may hold the surface.
    centers : (N,) float32
        The values at their centres, which are points of the lattice.
    skipped : tuple of SkippedBlocks
        All the rest, the coarsest first.
    lowest, highest : float
        The values seen at centres.
    """

    visited: NDArray[np.int32]
    centers: NDArray[np.float32]
    skipped: tuple[SkippedBlocks, ...]
    lowest: float
    highest: float


def choose_blocks(
    sample: Sample, shape: tuple[int, int, int], *, spacing: float, proven: bool, slack: float
) -> BlockChoice:
    """Choose the blocks of a lattice of `shape` points that can hold the surface.

    `proven` says that the field is 1-Lipschitz. `slack` is how far rounding may move a value.
    """
    side = _coarsest_side(shape)
    parents = _all_places(shape, 2 * side)
    lowest, highest = np.inf, -np.inf
    skipped: list[SkippedBlocks] = []
    while True:
        places = (2 * parents[:, None] + _offsets(2)).astype(np.int32)  # (P, 8, 3)
        lower, upper = block_extent(places, side, shape)
        values = sample(((lower + upper) / np.float32(2)).reshape(-1, 3)).reshape(places.shape[:2])
        lowest, highest = min(lowest, float(values.min())), max(highest, float(values.max()))
        reach = spacing * np.linalg.norm(upper - lower, axis=-1) / 2
        if proven:
            margin = _PROVEN_SAFETY * reach + slack
        else:
            steepest = _steepest(values, lower + upper, spacing)
            seen = np.linalg.norm(steepest, axis=-1)
            safety = _FINEST_SAFETY if side == FINEST else _SLOPE_SAFETY
            slopes = safety * np.maximum(seen, _usual_slope(seen, values, reach))[:, None]
            if side <= _STRAIGHT:
                slopes = slopes * _share_along(steepest[:, None], upper - lower)
            margin = slopes * reach + slack
        within = (upper > lower).all(axis=-1)  # The last parents reach beyond the lattice.
        kept = np.abs(values) <= margin
        away = within & ~kept
        skipped.append(SkippedBlocks(side, places[away], values[away] <= 0))
        parents = places[within & kept]
        if side == FINEST:
            return BlockChoice(parents, values[within & kept], tuple(skipped), lowest, highest)
        side //= 2


def block_extent(
    places: NDArray[np.int32], side: int, shape: tuple[int, int, int]
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Return the lowest and highest lattice points of blocks (..., 3), as far as they lie in the lattice."""
    last = np.array(shape, dtype=np.int32) - 1
    return np.minimum(places * np.int32(side), last), np.minimum((places + 1) * np.int32(side), last)


def count_missed(
    sample: Sample, skipped: tuple[SkippedBlocks, ...], shape: tuple[int, int, int], is_visited: IsVisited
) -> int:
    """Return how many of a hundredth of the skipped blocks, drawn with a fixed seed, hold both signs after all.

    Those of which a part was visited later, because the surface led there, were not missed.
    """
    random = np.random.default_rng(0)
    missed = 0
    for level in skipped:
        num_audited = -(-len(level.places) * _AUDIT_SHARE // 1)
        drawn = random.choice(len(level.places), size=int(num_audited), replace=False)
        lower, upper = block_extent(level.places[drawn], level.side, shape)
        offsets = _offsets(_AUDIT_STEPS + 1) * (level.side // _AUDIT_STEPS)
        points = np.minimum(lower[:, None] + offsets, upper[:, None])
        inside = (sample(points.reshape(-1, 3)) <= 0).reshape(points.shape[:2])
        changed = drawn[(inside != level.inside[drawn, None]).any(axis=1)]
        parts = level.side // FINEST
        finest = level.places[changed][:, None] * parts + _offsets(parts)
        missed += int((~is_visited(finest.reshape(-1, 3)).reshape(finest.shape[:2]).any(axis=1)).sum())
    return missed


def inside_reaches_border(skipped: tuple[SkippedBlocks, ...], shape: tuple[int, int, int]) -> bool:
    """Whether a skipped block of the inside lies at the border of the lattice."""
    for level in skipped:
        lower, upper = block_extent(level.places[level.inside], level.side, shape)
        if (lower == 0).any() or (upper == np.array(shape) - 1).any():
            return True
    return False


def _coarsest_side(shape: tuple[int, int, int]) -> int:
    side = FINEST
    while 2 * side * _COARSEST_COUNT <= max(shape):
        side *= 2
    return side


def _all_places(shape: tuple[int, int, int], side: int) -> NDArray[np.int32]:
    counts = [-(-(points - 1) // side) for points in shape]
    return np.stack(np.meshgrid(*map(np.arange, counts), indexing="ij"), axis=-1).reshape(-1, 3).astype(np.int32)


def _offsets(count: int) -> NDArray[np.int32]:
    """Return (i, j, k) for all i, j, k below `count`, (count³, 3)."""
    return np.indices((count, count, count), dtype=np.int32).reshape(3, -1).T


def _steepest(values: NDArray[np.float32], doubled_centers: NDArray[np.int32], spacing: float) -> NDArray[np.float32]:
    """Return for each group of eight (P, 8) the steepest difference along each axis, (P, 3)."""
    cubes, centers = values.reshape(-1, 2, 2, 2), doubled_centers.reshape(-1, 2, 2, 2, 3)
    slopes = np.zeros((len(cubes), 3), dtype=np.float32)
    for axis in range(3):
        steps = np.abs(np.diff(cubes, axis=axis + 1)).reshape(-1, 4)
        ways = np.diff(centers[..., axis], axis=axis + 1).reshape(-1, 4) * np.float32(spacing / 2)
        slopes[:, axis] = np.divide(steps, ways, out=np.zeros_like(steps), where=ways > 0).max(axis=1)
    return slopes


def _share_along(slopes: NDArray[np.float32], extents: NDArray[np.int32]) -> NDArray[np.float64]:
    """Return the change to the corner of a box over that of a field as steep whose gradient points there.

    Slopes and extents are those along the axes, (..., 3). For a cube it is between 1/√3 and 1.
    """
    most = np.linalg.norm(slopes, axis=-1) * np.linalg.norm(extents, axis=-1)
    return np.divide((slopes * extents).sum(axis=-1), most, out=np.ones_like(most), where=most > 0)


def _usual_slope(slopes: NDArray[np.float32], values: NDArray[np.float32], reach: NDArray[np.float64]) -> float:
    """Return the slope that all but the steepest groups near the surface keep to; of all where few are near.

    A network that learned clamped distances is steep anywhere beyond the clamp, where no surface comes of it.
    """
    near = (np.abs(values) <= reach).any(axis=1)
    known = slopes[near] if np.count_nonzero(near) >= _FEW_NEAR else slopes
    return float(np.quantile(known, _SLOPE_QUANTILE)) if len(known) else 0.0
