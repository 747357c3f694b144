"""Sparse marching cubes: the mesh of the whole lattice from the part of it that can hold the surface.

The blocks to visit come from `blocks`. Whatever was chosen, the surface is then followed: where it enters a block that
was skipped, that block is visited too, so a piece of the surface is found whole or not at all. A piece that lies wholly
in skipped blocks is impossible where the field is exact or bound; where it is approximate, an audit looks for it.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sdfnet.surfacing.blocks import BlockChoice, Sample, choose_blocks, count_missed, inside_reaches_border
from sdfnet.surfacing.bricks import (
    crossed_cells,
    entered_blocks,
    fill_bricks,
    inside_at_border,
    march_bricks,
    name_places,
    weld,
)
from sdfnet.surfacing.marching import LatticeMesh, LatticePieces, merge_vertices

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
    mesh = merge_vertices(weld(pieces, shape))
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
