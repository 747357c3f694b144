"""The topology of the inside of a field from its values on a lattice: pieces, handles and cavities, without a mesh.

Where four samples of a lattice square are inside and outside crosswise, the bilinear interpolant decides which two are
joined, as marching cubes does (the asymptotic decider of Nielson & Hamann 1991). In a cell, each loop of the surface on
its border is filled by a disc: no tunnel runs inside a single cell.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from sdfnet.mesh.edges import label_connected

_CORNERS = np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)])
"""Corner k of a cell is bit k of its case."""

_EDGES = np.array([[i, j] for i in range(8) for j in range(i) if np.abs(_CORNERS[i] - _CORNERS[j]).sum() == 1])

_SQUARES = np.array([[0, 1, 3, 2], [4, 5, 7, 6], [0, 1, 5, 4], [2, 3, 7, 6], [0, 2, 6, 4], [1, 3, 7, 5]])
"""Corners of the six squares of a cell, in turn; square k is bit 8 + k of its case where its inside is joined."""


@dataclass(frozen=True)
class LevelTopology:
    """What the inside of a field is up to bending; pieces and cavities smaller than a bound are left out.

    Attributes
    ----------
    components : int
        Pieces of the inside.
    genus : int
        Handles of all of them together.
    cavities : int
        Closed hollows in them.
    """

    components: int
    genus: int
    cavities: int

    def __str__(self) -> str:
        cavities = f", cavities {self.cavities}" if self.cavities else ""
        return f"components {self.components}, genus {self.genus}{cavities}"


@dataclass(frozen=True)
class LooseBits:
    """Pieces and cavities that were left out: how many, and their volume as a share of the whole inside."""

    count: int
    share: float


def euler_number(values: NDArray[np.float32]) -> int:
    """Return the Euler number of the inside (values <= 0) of a lattice (X, Y, Z): pieces - handles + cavities.

    The border of the lattice must be outside.

    >>> ring = np.ones((5, 5, 3), dtype=np.float32)
    >>> ring[1:4, 1:4, 1] = -1
    >>> euler_number(ring)
    1
    >>> ring[2, 2, 1] = 1
    >>> euler_number(ring)
    0
    """
    cases = _cases(values <= 0)
    euler = np.bincount(cases.ravel(), minlength=256) @ _weights()[:256]
    cells, joins = _joined_squares(values, cases)
    bits = joins @ (1 << np.arange(8, 14))
    plain = cases.ravel()[cells]
    return round(float(euler + (_weights()[plain + bits] - _weights()[plain]).sum()))


def euler_shares(values: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return what each cell adds to the Euler number, (X-1, Y-1, Z-1); multiples of 1/8, which add up exactly."""
    cases = _cases(values <= 0)
    shares = _weights()[cases.astype(np.int64)]
    cells, joins = _joined_squares(values, cases)
    shares.ravel()[cells] = _weights()[cases.ravel()[cells] + joins @ (1 << np.arange(8, 14))]
    return np.asarray(shares)


def level_topology(values: NDArray[np.float32], *, smallest: float) -> tuple[LevelTopology, LooseBits]:
    """Return the topology of the inside of a lattice, and what was left out of it.

    Parameters
    ----------
    values : (X, Y, Z)
        In spacings of the lattice, outside at its border. Volumes count samples, those near the surface in part.
    smallest : float
        Pieces and cavities below this share of the volume of the inside are left out.

    >>> two = np.ones((9, 5, 5), dtype=np.float32)
    >>> two[1:6, 1:4, 1:4] = -1
    >>> two[7, 2, 2] = -1
    >>> level_topology(two, smallest=0.1)[0]
    LevelTopology(components=1, genus=0, cavities=0)
    >>> level_topology(two, smallest=0.0)[0]
    LevelTopology(components=2, genus=0, cavities=0)
    """
    whole = float(_volumes(values, None).sum())
    cleaned, pieces, small_in = _without_small(values, smallest * whole)
    cleaned, hollows, small_out = _without_small(-cleaned, smallest * whole)
    num_cavities = hollows - 1  # the outside itself is one of them
    genus = pieces + num_cavities - euler_number(-cleaned)
    loose = small_in + small_out
    share = sum(loose) / whole if whole else 0.0
    return LevelTopology(pieces, genus, num_cavities), LooseBits(len(loose), share)


def _without_small(values: NDArray[np.float32], smallest: float) -> tuple[NDArray[np.float32], int, list[float]]:
    """Turn out the pieces of the negative side below a volume; return how many stay, and the volumes of the others."""
    labels, count = _label(values)
    if count == 0:
        return values, 0, []
    volumes = _volumes(values, labels)[1:]
    small = np.concatenate([[False], volumes < smallest])
    if not small.any():
        return values, count, []
    return np.where(small[labels], np.abs(values), values), count - int(small.sum()), volumes[small[1:]].tolist()


def _volumes(values: NDArray[np.float32], labels: NDArray[np.int32] | None) -> NDArray[np.float64]:
    inside = np.flatnonzero(values <= 0)
    shares = np.minimum(0.5 - values.ravel()[inside], 1)
    if labels is None:
        return np.asarray(shares, dtype=np.float64)
    return np.asarray(np.bincount(labels.ravel()[inside], weights=shares), dtype=np.float64)


def _label(values: NDArray[np.float32]) -> tuple[NDArray[np.int32], int]:
    """Number the pieces of the negative side from 1, joined along lattice edges and joined diagonals."""
    inside = values <= 0
    labels, count = ndimage.label(inside)
    cases = _cases(inside)
    cells, joins = _joined_squares(values, cases)
    row, square = np.nonzero(joins)
    if not len(row):
        return labels, count
    corners = np.stack(np.unravel_index(cells[row], cases.shape), axis=1)[:, None] + _CORNERS[_SQUARES[square]]
    around = labels[tuple(np.moveaxis(corners, -1, 0))]  # (N, 4), zero outside: two of each row are not
    pairs = np.sort(around, axis=1)[:, 2:]
    number, merged = label_connected(pairs[:, 0], pairs[:, 1], count + 1)
    _, first = np.unique(merged, return_index=True)
    order = np.argsort(np.argsort(first))  # label 0, the other side, stays 0
    return order[merged].astype(np.int32)[labels], number - 1


def _cases(inside: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Return which corners of each cell are inside, (X-1, Y-1, Z-1), one bit each."""
    bits = inside.astype(np.uint8)
    along_z = bits[:, :, :-1] | bits[:, :, 1:] << 1
    along_y = along_z[:, :-1] | along_z[:, 1:] << 2
    return np.asarray(along_y[:-1] | along_y[1:] << 4)


def _joined_squares(
    values: NDArray[np.float32], cases: NDArray[np.uint8]
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return the cells (flat) with crosswise squares, (N,), and which of their squares join the inside, (N, 6)."""
    cells = np.flatnonzero(_crosswise()[cases])
    corners = np.stack(np.unravel_index(cells, cases.shape), axis=1)[:, None] + _CORNERS
    at_corners = values[tuple(np.moveaxis(corners, -1, 0))].astype(np.float64)
    a, b, c, d = np.moveaxis(at_corners[:, _SQUARES], -1, 0)
    in_first, in_second = (a <= 0) & (c <= 0) & (b > 0) & (d > 0), (a > 0) & (c > 0) & (b <= 0) & (d <= 0)
    # The value at the saddle of the bilinear interpolant is (a c - b d) / (a + c - b - d).
    return cells, (in_first & (a * c >= b * d)) | (in_second & (b * d >= a * c))


@cache
def _crosswise() -> NDArray[np.bool_]:
    """Whether a case has a square with inside and outside crosswise, (256,)."""
    bits = (np.arange(256)[:, None] >> np.arange(8) & 1).astype(bool)[:, _SQUARES]
    return np.asarray(
        ((bits[..., 0] == bits[..., 2]) & (bits[..., 1] == bits[..., 3]) & (bits[..., 0] != bits[..., 1])).any(axis=1)
    )


@cache
def _weights() -> NDArray[np.float64]:
    """Return what a cell adds to the Euler number, (16384,), by case and joined squares.

    The number is the sum over open vertices, edges, squares and cells; a vertex belongs to 8 cells, an edge to 4 and
    a square to 2, so they are shared out. The inside of a closed cell is one ball for each piece on its border.
    """
    cases = np.arange(1 << 14)
    corner = (cases[:, None] >> np.arange(8) & 1).astype(bool)
    joined = (cases[:, None] >> np.arange(8, 14) & 1).astype(bool)
    labels = np.where(corner, np.arange(8), 8)
    links = [(*edge, corner[:, edge].all(axis=1)) for edge in _EDGES]
    for square, (a, b, c, d) in enumerate(_SQUARES):
        links += [(i, j, joined[:, square] & corner[:, [i, j]].all(axis=1)) for i, j in ((a, c), (b, d))]
    for _ in range(8):
        for i, j, linked in links:
            lowest = np.minimum(labels[:, i], labels[:, j])
            labels[:, i], labels[:, j] = np.where(linked, lowest, labels[:, i]), np.where(linked, lowest, labels[:, j])
    pieces = (labels == np.arange(8)).sum(axis=1)
    num_edges = corner[:, _EDGES].all(axis=2).sum(axis=1)
    num_squares = corner[:, _SQUARES].all(axis=2).sum(axis=1) - joined.sum(axis=1)
    return np.asarray(pieces - 7 / 8 * corner.sum(axis=1) + 3 / 4 * num_edges - 1 / 2 * num_squares)
