"""Count components, handles and cavities of the inside of a field, on a lattice and without a mesh.

A lattice square is ambiguous when its inside corners lie on one diagonal and its outside corners on the other. The
bilinear interpolant then decides which two corners are joined, as in marching cubes (the asymptotic decider of Nielson
& Hamann 1991). In a cell, a disc closes every loop of the surface on the cell's border. So a tunnel inside a single
cell does not count.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from sdfnet.geometry.arrays import BoolArray, Float32Array, FloatArray, IntArray
from sdfnet.mesh.edges import label_connected

_CORNERS = np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)])
"""Corner k of a cell is bit k of its case."""

_EDGES = np.array([[i, j] for i in range(8) for j in range(i) if np.abs(_CORNERS[i] - _CORNERS[j]).sum() == 1])

_SQUARES = np.array([[0, 1, 3, 2], [4, 5, 7, 6], [0, 1, 5, 4], [2, 3, 7, 6], [0, 2, 6, 4], [1, 3, 7, 5]])
"""The corners of the six squares of a cell, in order around each square. Bit 8 + k of a case is set if the inside
corners of square k are joined."""


@dataclass(frozen=True)
class LevelTopology:
    """Components, handles and closed hollows of the inside of a level set, without small components and cavities."""

    components: int
    genus: int
    cavities: int

    def __str__(self) -> str:
        cavities = f", cavities {self.cavities}" if self.cavities else ""
        return f"components {self.components}, genus {self.genus}{cavities}"


def euler_number(values: Float32Array) -> int:
    """Return the Euler number of the inside (values <= 0) of a lattice (X, Y, Z): components - handles + cavities.

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
    cells, joined = _joined_cases(values, cases)
    return round(float(euler + (_weights()[joined] - _weights()[cases.ravel()[cells]]).sum()))


def euler_shares(values: Float32Array) -> FloatArray:
    """Return each cell's share of the Euler number, (X-1, Y-1, Z-1). Shares are multiples of 1/8, so sums are exact."""
    cases = _cases(values <= 0)
    shares = _weights()[cases.astype(np.int64)]
    cells, joined = _joined_cases(values, cases)
    shares.ravel()[cells] = _weights()[joined]
    return np.asarray(shares)


def level_topology(values: Float32Array, *, min_share: float) -> LevelTopology:
    """Return the topology of the inside of a lattice, without small components and cavities.

    Parameters
    ----------
    values : (X, Y, Z)
        In spacings of the lattice. The border of the lattice must be outside. A volume is a number of samples; a
        sample near the surface counts in part.
    min_share : float
        Components and cavities below this share of the volume of the inside are left out.

    >>> two = np.ones((9, 5, 5), dtype=np.float32)
    >>> two[1:6, 1:4, 1:4] = -1
    >>> two[7, 2, 2] = -1
    >>> [level_topology(two, min_share=share).components for share in (0.0, 0.1)]
    [2, 1]
    """
    volume = min_share * float(_volumes(values).sum())
    cleaned, num_components = _drop_small(values, volume)
    cleaned, num_hollows = _drop_small(-cleaned, volume)
    num_cavities = num_hollows - 1  # the outside itself is one of them
    genus = num_components + num_cavities - euler_number(-cleaned)
    return LevelTopology(num_components, genus, num_cavities)


def _drop_small(values: Float32Array, volume: float) -> tuple[Float32Array, int]:
    """Make the components of the negative side that are below `volume` positive. Count the other components."""
    labels, count = _label(values)
    small = np.bincount(labels[values <= 0], weights=_volumes(values), minlength=count + 1) < volume
    small[0] = False  # the positive side
    if not small.any():
        return values, count
    return np.where(small[labels], np.abs(values), values), count - int(small.sum())


def _volumes(values: Float32Array) -> FloatArray:
    """Return the volume of each sample of the inside, in the order of the samples. A full sample has the volume 1."""
    return np.minimum(0.5 - values[values <= 0], 1).astype(np.float64)


def _label(values: Float32Array) -> tuple[NDArray[np.int32], int]:
    """Number the components of the negative side from 1. Lattice edges and joined diagonals connect samples."""
    inside = values <= 0
    labels, count = ndimage.label(inside)
    cases = _cases(inside)
    cells, joins = _joined_squares(values, cases)
    row, square = np.nonzero(joins)
    if not len(row):
        return labels, count
    corners = np.stack(np.unravel_index(cells[row], cases.shape), axis=1)[:, None] + _CORNERS[_SQUARES[square]]
    around = labels[tuple(np.moveaxis(corners, -1, 0))]  # (N, 4): two of each row are inside, the others zero
    pairs = np.sort(around, axis=1)[:, 2:]
    number, merged = label_connected(pairs[:, 0], pairs[:, 1], count + 1)
    _, first = np.unique(merged, return_index=True)
    order = np.argsort(np.argsort(first))  # label 0, the other side, stays 0
    return order[merged].astype(np.int32)[labels], number - 1


def _cases(inside: BoolArray) -> NDArray[np.uint8]:
    """Return the case of each cell, (X-1, Y-1, Z-1). Bit k of a case tells whether corner k is inside."""
    bits = inside.astype(np.uint8)
    along_z = bits[:, :, :-1] | bits[:, :, 1:] << 1
    along_y = along_z[:, :-1] | along_z[:, 1:] << 2
    return np.asarray(along_y[:-1] | along_y[1:] << 4)


def _joined_squares(values: Float32Array, cases: NDArray[np.uint8]) -> tuple[IntArray, BoolArray]:
    """Return the flat indices of cells with ambiguous squares, (N,), and which of their squares are joined, (N, 6)."""
    cells = np.flatnonzero(_ambiguous()[cases])
    corners = np.stack(np.unravel_index(cells, cases.shape), axis=1)[:, None] + _CORNERS
    at_corners = values[tuple(np.moveaxis(corners, -1, 0))].astype(np.float64)
    a, b, c, d = np.moveaxis(at_corners[:, _SQUARES], -1, 0)
    in_first, in_second = (a <= 0) & (c <= 0) & (b > 0) & (d > 0), (a > 0) & (c > 0) & (b <= 0) & (d <= 0)
    # The value at the saddle of the bilinear interpolant is (a c - b d) / (a + c - b - d).
    return cells, (in_first & (a * c >= b * d)) | (in_second & (b * d >= a * c))


def _joined_cases(values: Float32Array, cases: NDArray[np.uint8]) -> tuple[IntArray, IntArray]:
    """Return the flat indices of cells with ambiguous squares, (N,), and their cases with the joined squares, (N,)."""
    cells, joins = _joined_squares(values, cases)
    return cells, cases.ravel()[cells].astype(np.int64) + joins @ (1 << np.arange(8, 14))


@cache
def _ambiguous() -> BoolArray:
    """Return whether each case has an ambiguous square, (256,)."""
    bits = (np.arange(256)[:, None] >> np.arange(8) & 1).astype(bool)[:, _SQUARES]
    return np.asarray(
        ((bits[..., 0] == bits[..., 2]) & (bits[..., 1] == bits[..., 3]) & (bits[..., 0] != bits[..., 1])).any(axis=1)
    )


@cache
def _weights() -> FloatArray:
    """Return a cell's share of the Euler number for each case with joined squares, (16384,).

    A vertex belongs to 8 cells, an edge to 4 and a square to 2, so each cell counts a fraction of them. A closed cell
    contains one ball for each component of the inside on the cell's border.
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
    components = (labels == np.arange(8)).sum(axis=1)
    num_edges = corner[:, _EDGES].all(axis=2).sum(axis=1)
    num_squares = corner[:, _SQUARES].all(axis=2).sum(axis=1) - joined.sum(axis=1)
    return np.asarray(components - 7 / 8 * corner.sum(axis=1) + 3 / 4 * num_edges - 1 / 2 * num_squares)
