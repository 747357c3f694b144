"""Sparse marching cubes: only the part of the lattice that can hold the surface is evaluated.

1. Blocks are chosen from coarse to fine. A block is a cube of 2, 4, 8, … cells, named by its index (3,) among blocks
   of its size. A block is skipped if the field's value at its centre is larger than the field's greatest change from
   the centre to a corner. This change is proven for an exact or bound field, and estimated from slopes otherwise.
2. The chosen blocks are evaluated and marched in tiles of 8³ cells. If the surface enters a skipped block, this block
   is visited too. So a connected component of the surface is found completely or not at all.
3. If the field is approximate, an audit looks for components that lie completely in skipped blocks.

All coordinates are lattice coordinates. Memory is proportional to the area of the surface.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sdfnet.extraction.marching_cubes import LatticeMesh, UnmergedMesh, march_cells, merge_lattice_vertices
from sdfnet.geometry.arrays import BoolArray, Float32Array, FloatArray, IntArray, are_among, sorted_unique, unique_keys

Sample = Callable[[NDArray[np.number]], Float32Array]
"""A function from positions (N, 3) in lattice coordinates to finite values (N,), from which the level is subtracted."""

_FINEST = 2
"""Cells along a side of the finest blocks. Blocks of one cell would need more centre values than they save."""

_COARSEST_COUNT = 32
"""The search begins with this many blocks along the longest axis. On [-1.05, 1.05], their half diagonal is 0.057. A
network that learned clamped distances gives no true distances beyond 0.1, which is well above 0.057."""

_SLOPE_QUANTILE, _FEW_NEAR = 0.99, 64
_SLOPE_SAFETY, _FINEST_SAFETY = 1.2, 1.0
"""An approximate field is trusted to change no faster than a usual slope times a safety factor. The usual slope is the
quantile of the slopes in groups of eight blocks near the surface (in all groups where few are near), or the slope of
the block's own group if that is steeper. At the finest size only components smaller than two cells can be lost."""

_STRAIGHT = 2 * _FINEST
"""Up to this block size, the bound uses the finite-difference direction instead of the worst-case corner direction."""

_PROVEN_SAFETY = 1.001
"""A margin for the rounding of positions and values, if the slope is proven."""

_AUDIT_SHARE = 0.01
_AUDIT_STEPS = 2
"""An audited block is evaluated at 3³ of its lattice points: corners, middles of edges and faces, and the centre."""

_TILE = 8
"""Cells along a side of a tile."""

_TILE_BLOCKS = _TILE // _FINEST

_TILES_AT_A_TIME = 64
"""Tiles for each call of marching cubes. They are stacked along x, and the cells between two of them are masked."""

_LOGGER = logging.getLogger(__name__)


def march_sparse(
    sample: Sample, shape: tuple[int, int, int], *, spacing: float, proven: bool, slack: float
) -> tuple[LatticeMesh, bool] | None:
    """March the cells that the surface crosses in a lattice of `shape` points, and evaluate few other points.

    Parameters
    ----------
    proven : bool
        Whether the field is known to be 1-Lipschitz. If not, the slopes seen are trusted, and a hundredth of the
        skipped blocks is audited.
    slack : float
        How far rounding may move a value.

    Returns
    -------
    The mesh that `march` gives for the whole lattice, with vertices and faces in another order, and whether the inside
    reaches the border. None if the whole lattice must be examined, because no surface was found or the audit found a
    missed sign (a warning is logged).
    """
    choice = _choose_blocks(sample, shape, spacing=spacing, proven=proven, slack=slack)
    marched, leaves, visited = _follow(sample, choice, shape, spacing=spacing)
    if not proven:
        num_missed = _count_missed(sample, choice.skipped, shape, visited)
        if num_missed:
            _LOGGER.warning(
                "%d of the skipped blocks that were audited hold a surface: the field is steeper than it seemed; "
                "evaluating the whole lattice instead",
                num_missed,
            )
            return None
    if not marched:
        return None
    mesh = merge_lattice_vertices(_weld(marched, shape))
    return (mesh, leaves or _inside_reaches_border(choice.skipped, shape)) if len(mesh.faces) else None


def _follow(
    sample: Sample, choice: _BlockChoice, shape: tuple[int, int, int], *, spacing: float
) -> tuple[list[UnmergedMesh], bool, IntArray]:
    """March the chosen blocks, and then repeatedly the skipped blocks that the surface enters.

    Return the meshes, whether the inside reaches the border, and the numbers of all visited blocks.
    """
    marched: list[UnmergedMesh] = []
    leaves, known = False, np.zeros(0, dtype=np.int64)
    blocks: NDArray[np.int32] = choice.visited
    centers: Float32Array | None = choice.centers
    while len(blocks):
        known = sorted_unique(np.concatenate([known, _numbered(blocks, shape)]))
        tiles = _fill_tiles(blocks, sample, shape, centers=centers)
        leaves = leaves or _inside_at_border(tiles, shape)
        marched += _march_tiles(tiles, _crossed_cells(tiles), spacing=spacing)
        entered = _entered_blocks(tiles, shape)
        blocks, centers = entered[~are_among(_numbered(entered, shape), known)], None
        if len(blocks):
            _LOGGER.debug("the surface enters %d blocks that were skipped; they are visited too", len(blocks))
    return marched, leaves, known


# The choice of blocks, and the audit of the skipped blocks.


@dataclass(frozen=True, eq=False)
class _SkippedBlocks:
    """Blocks of one size without surface: their indices (N, 3), and whether their centres are inside, (N,)."""

    side: int
    indices: NDArray[np.int32]
    inside: BoolArray


@dataclass(frozen=True, eq=False)
class _BlockChoice:
    """The finest blocks (N, 3) that may hold the surface, the values (N,) at their centres, and the skipped blocks."""

    visited: NDArray[np.int32]
    centers: Float32Array
    skipped: tuple[_SkippedBlocks, ...]


def _choose_blocks(
    sample: Sample, shape: tuple[int, int, int], *, spacing: float, proven: bool, slack: float
) -> _BlockChoice:
    """Choose the blocks that can hold the surface; `proven` and `slack` are those of `march_sparse`."""
    side = _FINEST
    while 2 * side * _COARSEST_COUNT <= max(shape):
        side *= 2
    counts = [-(-(points - 1) // (2 * side)) for points in shape]
    parents = np.indices(counts, dtype=np.int32).reshape(3, -1).T
    skipped: list[_SkippedBlocks] = []
    while True:
        blocks = (2 * parents[:, None] + _offsets(2)).astype(np.int32)  # (P, 8, 3)
        lower, upper = _block_extent(blocks, side, shape)
        values = sample(((lower + upper) / np.float32(2)).reshape(-1, 3)).reshape(blocks.shape[:2])
        reach = spacing * np.linalg.norm(upper - lower, axis=-1) / 2
        if proven:
            margin = _PROVEN_SAFETY * reach + slack
        else:
            steepest = _steepest(values, lower + upper, spacing)
            seen = np.linalg.norm(steepest, axis=-1)
            safety = _FINEST_SAFETY if side == _FINEST else _SLOPE_SAFETY
            slopes = safety * np.maximum(seen, _usual_slope(seen, values, reach))[:, None]
            if side <= _STRAIGHT:
                slopes = slopes * _share_along(steepest[:, None], upper - lower)
            margin = slopes * reach + slack
        within = (upper > lower).all(axis=-1)  # The last parents reach beyond the lattice.
        kept = np.abs(values) <= margin
        away = within & ~kept
        skipped.append(_SkippedBlocks(side, blocks[away], values[away] <= 0))
        parents = blocks[within & kept]
        if side == _FINEST:
            return _BlockChoice(parents, values[within & kept], tuple(skipped))
        side //= 2


def _count_missed(
    sample: Sample, skipped: tuple[_SkippedBlocks, ...], shape: tuple[int, int, int], visited: IntArray
) -> int:
    """Audit a hundredth of the skipped blocks, drawn with a fixed seed, and count the blocks that hold both signs.

    A block does not count if a part of it is among the `visited` blocks.
    """
    random = np.random.default_rng(0)
    missed = 0
    for level in skipped:
        num_audited = -(-len(level.indices) * _AUDIT_SHARE // 1)
        drawn = random.choice(len(level.indices), size=int(num_audited), replace=False)
        lower, upper = _block_extent(level.indices[drawn], level.side, shape)
        offsets = _offsets(_AUDIT_STEPS + 1) * (level.side // _AUDIT_STEPS)
        points = np.minimum(lower[:, None] + offsets, upper[:, None])
        inside = (sample(points.reshape(-1, 3)) <= 0).reshape(points.shape[:2])
        changed = drawn[(inside != level.inside[drawn, None]).any(axis=1)]
        parts = level.side // _FINEST
        finest = level.indices[changed][:, None] * parts + _offsets(parts)
        is_visited = np.isin(_numbered(finest.reshape(-1, 3), shape), visited).reshape(finest.shape[:2])
        missed += int((~is_visited.any(axis=1)).sum())
    return missed


def _inside_reaches_border(skipped: tuple[_SkippedBlocks, ...], shape: tuple[int, int, int]) -> bool:
    """Return whether a skipped block of the inside lies at the border of the lattice."""
    for level in skipped:
        lower, upper = _block_extent(level.indices[level.inside], level.side, shape)
        if (lower == 0).any() or (upper == np.array(shape) - 1).any():
            return True
    return False


def _block_extent(
    blocks: NDArray[np.int32], side: int, shape: tuple[int, int, int]
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Return the lowest and highest lattice points of blocks (..., 3), clipped to the lattice."""
    last = np.array(shape, dtype=np.int32) - 1
    return np.minimum(blocks * np.int32(side), last), np.minimum((blocks + 1) * np.int32(side), last)


def _offsets(count: int) -> NDArray[np.int32]:
    """Return (i, j, k) for all i, j, k below `count`, (count³, 3)."""
    return np.indices((count, count, count), dtype=np.int32).reshape(3, -1).T


def _numbered(indices: NDArray[np.integer], shape: tuple[int, int, int]) -> IntArray:
    """Return one number for each index (N, 3) of a lattice point, a block or a tile. Indices are below `shape`."""
    x, y, z = indices.astype(np.int64).T
    return (x * shape[1] + y) * shape[2] + z


def _steepest(values: Float32Array, doubled_centers: NDArray[np.int32], spacing: float) -> Float32Array:
    """Return the steepest difference along each axis, (P, 3), in each group of eight `values` (P, 8)."""
    cubes, centers = values.reshape(-1, 2, 2, 2), doubled_centers.reshape(-1, 2, 2, 2, 3)
    slopes = np.zeros((len(cubes), 3), dtype=np.float32)
    for axis in range(3):
        steps = np.abs(np.diff(cubes, axis=axis + 1)).reshape(-1, 4)
        lengths = np.diff(centers[..., axis], axis=axis + 1).reshape(-1, 4) * np.float32(spacing / 2)
        slopes[:, axis] = np.divide(steps, lengths, out=np.zeros_like(steps), where=lengths > 0).max(axis=1)
    return slopes


def _share_along(slopes: Float32Array, extents: NDArray[np.int32]) -> FloatArray:
    """Return the change from the centre of a box to a corner, relative to a gradient that points at the corner."""
    most = np.linalg.norm(slopes, axis=-1) * np.linalg.norm(extents, axis=-1)
    return np.divide((slopes * extents).sum(axis=-1), most, out=np.ones_like(most), where=most > 0)


def _usual_slope(slopes: Float32Array, values: Float32Array, reach: FloatArray) -> float:
    """Return a high quantile of the slopes of the groups near the surface, or of all groups if few are near."""
    near = (np.abs(values) <= reach).any(axis=1)
    known = slopes[near] if np.count_nonzero(near) >= _FEW_NEAR else slopes
    return float(np.quantile(known, _SLOPE_QUANTILE)) if len(known) else 0.0


# Tiles: the values around the surface, marched tile by tile and welded by lattice edge.


@dataclass(frozen=True, eq=False)
class _Tiles:
    """Values in cubes of 8³ cells. A tile has all its 9³ lattice points, so neighbouring tiles share points.

    `corners` (N, 3) are the lowest lattice points of the tiles. `cells` (N, 8, 8, 8) tells which cells lie in visited
    blocks and in the lattice. `values` (N, 9, 9, 9) are 1 except at the points of such cells.
    """

    corners: IntArray
    cells: BoolArray
    values: Float32Array


def _fill_tiles(
    blocks: NDArray[np.int32], sample: Sample, shape: tuple[int, int, int], *, centers: Float32Array | None = None
) -> _Tiles:
    """Evaluate the lattice points of the finest `blocks` (N, 3) once each, but use the given `centers` (N,)."""
    numbers, _, which = unique_keys(_numbered(blocks // _TILE_BLOCKS, shape))
    corners = np.stack(np.unravel_index(numbers, shape), axis=1).astype(np.int64) * _TILE
    chosen = np.zeros((len(numbers), _TILE_BLOCKS, _TILE_BLOCKS, _TILE_BLOCKS), dtype=bool)
    chosen[which, *(blocks % _TILE_BLOCKS).T] = True
    cells = chosen.repeat(_FINEST, axis=1).repeat(_FINEST, axis=2).repeat(_FINEST, axis=3)
    for axis in range(3):
        beyond = corners[:, axis, None] + np.arange(_TILE) >= shape[axis] - 1
        np.moveaxis(cells, axis + 1, 1)[beyond] = False
    needed = np.zeros((len(numbers), _TILE + 1, _TILE + 1, _TILE + 1), dtype=bool)
    for x, y, z in np.ndindex(2, 2, 2):
        needed[:, x : x + _TILE, y : y + _TILE, z : z + _TILE] |= cells
    tile, local = np.divmod(np.flatnonzero(needed), needed[0].size)
    points, _, again = unique_keys(_numbered(corners, shape)[tile] + _numbered(_offsets(_TILE + 1), shape)[local])
    values = np.ones(needed.shape, dtype=np.float32)
    values[needed] = _sampled(points, sample, shape, blocks, centers)[again]
    return _Tiles(corners, cells, values)


def _sampled(
    points: IntArray,
    sample: Sample,
    shape: tuple[int, int, int],
    blocks: NDArray[np.int32],
    centers: Float32Array | None,
) -> Float32Array:
    """Return the values at the lattice points numbered `points` (P,), in order. Known centres are not evaluated."""
    if centers is None:
        return sample(np.stack(np.unravel_index(points, shape), axis=1))
    middles = blocks * _FINEST + _FINEST // 2
    whole = (middles < np.array(shape) - 1).all(axis=1)  # A block cut off by the lattice has its centre elsewhere.
    known = np.searchsorted(points, _numbered(middles[whole], shape))
    values = np.empty(len(points), dtype=np.float32)
    unknown = np.ones(len(points), dtype=bool)
    unknown[known] = False
    values[known] = centers[whole]
    values[unknown] = sample(np.stack(np.unravel_index(points[unknown], shape), axis=1))
    return values


def _crossed_cells(tiles: _Tiles) -> BoolArray:
    """Return which cells are visited and have corners of both signs, (N, 8, 8, 8)."""
    inside = (tiles.values <= 0).astype(np.int8)
    count = np.zeros(tiles.cells.shape, dtype=np.int8)
    for x, y, z in np.ndindex(2, 2, 2):
        count += inside[:, x : x + _TILE, y : y + _TILE, z : z + _TILE]
    return tiles.cells & (count > 0) & (count < 8)


def _entered_blocks(tiles: _Tiles, shape: tuple[int, int, int]) -> NDArray[np.int32]:
    """Return, without repeats, the finest blocks (N, 3) that the surface enters from a visited neighbour.

    Some of them may be visited blocks of other tiles.
    """
    numbers = [np.zeros(0, dtype=np.int64)]
    for axis in range(3):
        inside = np.moveaxis(tiles.values <= 0, axis + 1, 1).astype(np.int8)
        count = inside[:, :, :-1, :-1] + inside[:, :, 1:, :-1] + inside[:, :, :-1, 1:] + inside[:, :, 1:, 1:]
        mixed = (count > 0) & (count < 4)  # Faces of cells across the axis, (N, 9, 8, 8).
        cells = np.moveaxis(tiles.cells, axis + 1, 1)
        # Up through the upper faces of the last cells of blocks, down through the lower faces of the first.
        for step, first_cell, first_face in ((1, _FINEST - 1, _FINEST), (-1, 0, 0)):
            crossed = cells[:, first_cell::_FINEST] & mixed[:, first_face : first_face + _TILE : _FINEST]
            # Neighbours in the same tile are known to be visited or not; the others are looked up later.
            if step > 0:
                crossed[:, :-1] &= ~cells[:, _FINEST::_FINEST]
            else:
                crossed[:, 1:] &= ~cells[:, _FINEST - 1 : -1 : _FINEST]
            tile, along, *across = np.nonzero(crossed)
            local = np.stack([first_cell + _FINEST * along + step, *across], axis=1)
            order = [axis, *(other for other in range(3) if other != axis)]
            cell = tiles.corners[tile]  # a copy
            cell[:, order] += local
            there = ((cell >= 0) & (cell < np.array(shape) - 1)).all(axis=1)
            numbers.append(_numbered(cell[there] // _FINEST, shape))
    entered = sorted_unique(np.concatenate(numbers))
    return np.stack(np.unravel_index(entered, shape), axis=1).astype(np.int32)


def _inside_at_border(tiles: _Tiles, shape: tuple[int, int, int]) -> bool:
    """Return whether a visited point at the border of the lattice is inside."""
    for axis in range(3):
        inside = np.moveaxis(tiles.values <= 0, axis + 1, 1)
        for plane in (0, shape[axis] - 1):
            local = plane - tiles.corners[:, axis]
            has = np.flatnonzero((local >= 0) & (local <= _TILE))
            if inside[has, local[has]].any():
                return True
    return False


def _march_tiles(tiles: _Tiles, crossed: BoolArray, *, spacing: float) -> list[UnmergedMesh]:
    """Run marching cubes over the `crossed` cells. A vertex on the border of tiles is returned once for each tile."""
    marched = []
    rows = np.flatnonzero(crossed.any(axis=(1, 2, 3)))
    points = _TILE + 1
    for first in range(0, len(rows), _TILES_AT_A_TIME):
        batch = rows[first : first + _TILES_AT_A_TIME]
        stack = tiles.values[batch].reshape(-1, points, points)
        cells = np.zeros((len(batch), points, _TILE, _TILE), dtype=bool)
        cells[:, :_TILE] = crossed[batch]
        found = march_cells(stack, spacing=spacing, cells=cells.reshape(-1, _TILE, _TILE)[:-1])
        tile, local = np.divmod(found.starts[:, 0], points)
        starts = tiles.corners[batch[tile]] + np.column_stack([local, found.starts[:, 1:]])
        marched.append(UnmergedMesh(starts, found.axes, found.shares, found.faces))
    return marched


def _weld(marched: list[UnmergedMesh], shape: tuple[int, int, int]) -> UnmergedMesh:
    """Join the meshes. Vertices on the same lattice edge become one vertex, and are sorted by lattice edge."""
    starts = np.concatenate([each.starts for each in marched])
    axes = np.concatenate([each.axes for each in marched])
    counts = np.cumsum([0] + [len(each.starts) for each in marched])
    faces = np.concatenate([each.faces + count for each, count in zip(marched, counts[:-1], strict=True)])
    _, first, merged = unique_keys(4 * _numbered(starts, shape) + axes)
    shares = np.concatenate([each.shares for each in marched], axis=1)[:, first]
    return UnmergedMesh(starts[first], axes[first], shares, merged[faces])
