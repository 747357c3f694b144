"""Sparse marching cubes: the mesh of the whole lattice from the part of it that can hold the surface.

The blocks to visit come from `blocks`. Whatever was chosen, the surface is then followed: where it enters a block that
was skipped, that block is visited too, so a piece of the surface is found whole or not at all. A piece that lies wholly
in skipped blocks is impossible where the field is exact or bound; where it is approximate, an audit looks for it.

Coarse to fine: which blocks of a lattice can hold the surface, and an audit of those that were skipped.

A block is a cube of 2, 4, 8, … cells, named by its place (3,) among the blocks of its size. It is skipped where the
field's value at its centre is larger than the field can change on the way to its corners. How much that is, is proven
for an exact or bound field (by as much as the way is long); for an approximate one it is taken from the slopes seen.

Values of a field in bricks of 8³ cells around the surface, marched brick by brick and welded by lattice edge.

A brick keeps all its 9³ lattice points, those on its border again in its neighbours; of its cells only those of the
visited blocks count. Memory is proportional to the number of bricks, hence to the surface.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sdfnet.extraction.marching_cubes import LatticeMesh, LatticePieces, march_cells, merge_lattice_vertices

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


_SIDE = 8
"""Cells along a side of a brick."""

_BLOCKS = _SIDE // FINEST

_BATCH = 64
"""Bricks per call of marching cubes: they are stacked along x, and the cells between two of them are masked."""


@dataclass(frozen=True, eq=False)
class Bricks:
    """Values in bricks.

    Attributes
    ----------
    corners : (N, 3) int64
        The lowest lattice point of each brick.
    cells : (N, 8, 8, 8) bool
        Cells of visited blocks, inside the lattice.
    values : (N, 9, 9, 9) float32
        At the points of such cells; 1 elsewhere.
    """

    corners: NDArray[np.int64]
    cells: NDArray[np.bool_]
    values: NDArray[np.float32]


def fill_bricks(
    blocks: NDArray[np.int32],
    sample: Sample,
    shape: tuple[int, int, int],
    *,
    centers: NDArray[np.float32] | None = None,
) -> Bricks:
    """Evaluate all lattice points of `blocks` (N, 3), places of blocks of FINEST cells, each point once.

    The values at the `centers` (N,) of blocks are not asked for again where they are given.
    """
    places, which = np.unique(name_places(blocks // _BLOCKS, shape), return_inverse=True)
    corners = np.stack(np.unravel_index(places, shape), axis=1).astype(np.int64) * _SIDE
    chosen = np.zeros((len(places), _BLOCKS, _BLOCKS, _BLOCKS), dtype=bool)
    chosen[which, *(blocks % _BLOCKS).T] = True
    cells = chosen.repeat(FINEST, axis=1).repeat(FINEST, axis=2).repeat(FINEST, axis=3)
    for axis in range(3):
        beyond = corners[:, axis, None] + np.arange(_SIDE) >= shape[axis] - 1
        np.moveaxis(cells, axis + 1, 1)[beyond] = False
    needed = np.zeros((len(places), _SIDE + 1, _SIDE + 1, _SIDE + 1), dtype=bool)
    for x, y, z in np.ndindex(2, 2, 2):
        needed[:, x : x + _SIDE, y : y + _SIDE, z : z + _SIDE] |= cells
    brick, *local = np.nonzero(needed)
    names = name_places(corners[brick] + np.stack(local, axis=1), shape)
    points, again = np.unique(names, return_inverse=True)
    values = np.ones(needed.shape, dtype=np.float32)
    values[needed] = _sampled(points, sample, shape, blocks, centers)[again]
    return Bricks(corners, cells, values)


def _sampled(
    points: NDArray[np.int64],
    sample: Sample,
    shape: tuple[int, int, int],
    blocks: NDArray[np.int32],
    centers: NDArray[np.float32] | None,
) -> NDArray[np.float32]:
    """Return the values at the lattice points that are named `points` (P,), in order, each asked for once at most."""
    if centers is None:
        return sample(np.stack(np.unravel_index(points, shape), axis=1))
    middles = blocks * FINEST + FINEST // 2
    whole = (middles < np.array(shape) - 1).all(axis=1)  # a block cut off by the lattice has its centre elsewhere
    known = np.searchsorted(points, name_places(middles[whole], shape))
    values = np.empty(len(points), dtype=np.float32)
    unknown = np.ones(len(points), dtype=bool)
    unknown[known] = False
    values[known] = centers[whole]
    values[unknown] = sample(np.stack(np.unravel_index(points[unknown], shape), axis=1))
    return values


def name_places(places: NDArray[np.integer], shape: tuple[int, int, int]) -> NDArray[np.int64]:
    """Return one number for each place (N, 3) below `shape`."""
    x, y, z = places.astype(np.int64).T
    return (x * shape[1] + y) * shape[2] + z


def crossed_cells(bricks: Bricks) -> NDArray[np.bool_]:
    """Return the visited cells that have corners of both signs, (N, 8, 8, 8)."""
    inside = (bricks.values <= 0).astype(np.int8)
    count = np.zeros(bricks.cells.shape, dtype=np.int8)
    for x, y, z in np.ndindex(2, 2, 2):
        count += inside[:, x : x + _SIDE, y : y + _SIDE, z : z + _SIDE]
    return bricks.cells & (count > 0) & (count < 8)


def entered_blocks(bricks: Bricks, shape: tuple[int, int, int]) -> NDArray[np.int32]:
    """Return the blocks (of FINEST cells) that the surface enters from a visited one next to it, (N, 3), each once."""
    names = [np.zeros(0, dtype=np.int64)]
    for axis in range(3):
        inside = np.moveaxis(bricks.values <= 0, axis + 1, 1).astype(np.int8)
        count = inside[:, :, :-1, :-1] + inside[:, :, 1:, :-1] + inside[:, :, :-1, 1:] + inside[:, :, 1:, 1:]
        mixed = (count > 0) & (count < 4)  # faces of cells across the axis, (N, 9, 8, 8)
        cells = np.moveaxis(bricks.cells, axis + 1, 1)
        # Up through the upper faces of the last cells of blocks, down through the lower faces of the first.
        for step, first_cell, first_face in ((1, FINEST - 1, FINEST), (-1, 0, 0)):
            crossed = cells[:, first_cell::FINEST] & mixed[:, first_face : first_face + _SIDE : FINEST][:, :_BLOCKS]
            brick, along, *across = np.nonzero(crossed)
            local = np.stack([first_cell + FINEST * along + step, *across], axis=1)
            order = [axis, *(other for other in range(3) if other != axis)]
            cell = bricks.corners[brick]  # a copy
            cell[:, order] += local
            there = ((cell >= 0) & (cell < np.array(shape) - 1)).all(axis=1)
            names.append(np.unique(name_places(cell[there] // FINEST, shape)))
    return np.stack(np.unravel_index(np.unique(np.concatenate(names)), shape), axis=1).astype(np.int32)


def inside_at_border(bricks: Bricks, shape: tuple[int, int, int]) -> bool:
    """Whether a visited point at the border of the lattice is inside."""
    for axis in range(3):
        inside = np.moveaxis(bricks.values <= 0, axis + 1, 1)
        for plane in (0, shape[axis] - 1):
            local = plane - bricks.corners[:, axis]
            has = np.flatnonzero((local >= 0) & (local <= _SIDE))
            if inside[has, local[has]].any():
                return True
    return False


def march_bricks(bricks: Bricks, crossed: NDArray[np.bool_], *, spacing: float) -> list[LatticePieces]:
    """Run marching cubes over the `crossed` cells; vertices on the border between bricks come once for each."""
    pieces = []
    rows = np.flatnonzero(crossed.any(axis=(1, 2, 3)))
    points = _SIDE + 1
    for first in range(0, len(rows), _BATCH):
        batch = rows[first : first + _BATCH]
        stack = bricks.values[batch].reshape(-1, points, points)
        cells = np.zeros((len(batch), points, _SIDE, _SIDE), dtype=bool)
        cells[:, :_SIDE] = crossed[batch]
        piece = march_cells(stack, spacing=spacing, cells=cells.reshape(-1, _SIDE, _SIDE)[:-1])
        brick, local = np.divmod(piece.starts[:, 0], points)
        starts = bricks.corners[batch[brick]] + np.column_stack([local, piece.starts[:, 1:]])
        pieces.append(LatticePieces(starts, piece.axes, piece.shares, piece.faces))
    return pieces


def weld(pieces: list[LatticePieces], shape: tuple[int, int, int]) -> LatticePieces:
    """Make one of `pieces`: vertices on the same lattice edge are one. Sorted by lattice edge."""
    starts = np.concatenate([piece.starts for piece in pieces])
    axes = np.concatenate([piece.axes for piece in pieces])
    counts = np.cumsum([0] + [len(piece.starts) for piece in pieces])
    faces = np.concatenate([piece.faces + count for piece, count in zip(pieces, counts[:-1], strict=True)])
    _, first, merged = np.unique(4 * name_places(starts, shape) + axes, return_index=True, return_inverse=True)
    shares = np.concatenate([piece.shares for piece in pieces], axis=1)[:, first]
    return LatticePieces(starts[first], axes[first], shares, merged[faces])


_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class SparseSurface:
    """What sparse marching found.

    Attributes
    ----------
    mesh : LatticeMesh
        The one that `march` gives for the whole lattice, with its vertices and faces in another order.
    leaves_lattice : bool
        Whether the inside reaches the border of the lattice.
    """

    mesh: LatticeMesh
    leaves_lattice: bool


def march_sparse(
    sample: Sample, shape: tuple[int, int, int], *, spacing: float, proven: bool, slack: float
) -> SparseSurface | None:
    """March the cells of a lattice of `shape` points that the surface crosses, and evaluate little else.

    Parameters
    ----------
    proven : bool
        Whether the field is known to be 1-Lipschitz. If not, the slopes seen are trusted, and an audit of a hundredth
        of the skipped blocks.
    slack : float
        How far rounding may move a value.

    Returns
    -------
    None where only the whole lattice can tell: nothing was found, or the audit found a sign that had been missed (a
    warning is logged).
    """
    choice = choose_blocks(sample, shape, spacing=spacing, proven=proven, slack=slack)
    pieces, leaves, visited = _follow(sample, choice, shape, spacing=spacing)
    if not proven:
        num_missed = count_missed(
            sample, choice.skipped, shape, lambda blocks: np.isin(name_places(blocks, shape), visited)
        )
        if num_missed:
            _LOGGER.warning(
                "%d of the skipped blocks that were audited hold a surface: the field is steeper than it seemed; "
                "evaluating the whole lattice instead",
                num_missed,
            )
            return None
    if not pieces:
        return None
    mesh = merge_lattice_vertices(weld(pieces, shape))
    return SparseSurface(mesh, leaves or inside_reaches_border(choice.skipped, shape)) if len(mesh.faces) else None


def _follow(
    sample: Sample, choice: BlockChoice, shape: tuple[int, int, int], *, spacing: float
) -> tuple[list[LatticePieces], bool, NDArray[np.int64]]:
    """March the visited blocks, then those that the surface enters from them, until it enters none.

    Returned are the pieces, whether the inside reaches the border, and the names of all blocks visited.
    """
    pieces: list[LatticePieces] = []
    leaves = False
    blocks: NDArray[np.int32] = choice.visited
    centers: NDArray[np.float32] | None = choice.centers
    known = np.zeros(0, dtype=np.int64)
    while len(blocks):
        known = np.union1d(known, name_places(blocks, shape))
        bricks = fill_bricks(blocks, sample, shape, centers=centers)
        leaves = leaves or inside_at_border(bricks, shape)
        pieces += march_bricks(bricks, crossed_cells(bricks), spacing=spacing)
        entered = entered_blocks(bricks, shape)
        blocks, centers = entered[~np.isin(name_places(entered, shape), known)], None
        if len(blocks):
            _LOGGER.info("the surface enters %d blocks that were skipped; they are visited too", len(blocks))
    return pieces, leaves, known
