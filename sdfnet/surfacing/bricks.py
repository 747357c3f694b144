"""Values of a field in bricks of 8³ cells around the surface, marched brick by brick and welded by lattice edge.

A brick keeps all its 9³ lattice points, those on its border again in its neighbours; of its cells only those of the
visited blocks count. Memory is proportional to the number of bricks, hence to the surface.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sdfnet.surfacing.blocks import FINEST, Sample
from sdfnet.surfacing.marching import LatticePieces, march_cells

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
