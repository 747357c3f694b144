"""Pieces of a solid on a lattice of values, and the shortest gaps between them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import label
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import dijkstra

_WIDEST = 0.06
"""Through values above it no gap is looked for."""

_TINY = 1e-3
"""A piece below this share of the largest is to go, not to be joined."""

_INSIDE, _OUTSIDE = 1e-3, 1e-2
"""What a step costs inside; and outside, in addition to the value: a short way counts beside a shallow one."""


@dataclass(frozen=True, eq=False)
class Pieces:
    """What makes a solid fall apart.

    Attributes
    ----------
    loose_share : float
        Share of the solid's nodes that are not in its largest piece.
    lower, higher : (N,) int64
        Flat indices of nodes at which the value is to become negative, so that pieces join, and positive, so that
        pieces go.
    """

    loose_share: float
    lower: NDArray[np.int64]
    higher: NDArray[np.int64]


def find_gaps(values: NDArray[np.float32]) -> Pieces:
    """Find the pieces where `values` (X, Y, Z) are negative (joined across faces), and how each could join the largest.

    >>> line = np.array([-1, -1, 0.01, 0.02, -1, 1, 1], dtype=np.float32)
    >>> found = find_gaps(line[:, None, None])
    >>> round(found.loose_share, 2), found.lower.tolist(), found.higher.tolist()
    (0.33, [3, 2], [])
    """
    none = np.zeros(0, dtype=np.int64)
    labels, number = label(values < 0)
    if number < 2:
        return Pieces(0.0, none, none)
    sizes = np.bincount(labels.ravel())[1:]
    largest = 1 + int(sizes.argmax())
    open_nodes = np.flatnonzero(values.ravel() < _WIDEST)
    node_values, node_labels = values.ravel()[open_nodes], labels.ravel()[open_nodes]
    distances, previous = _ways_from(open_nodes, values, np.flatnonzero(node_labels == largest))
    lower, higher = [none], [none]
    for piece in range(1, number + 1):
        if piece == largest:
            continue
        members = np.flatnonzero(node_labels == piece)
        nearest = members[distances[members].argmin()]
        if sizes[piece - 1] < _TINY * sizes[largest - 1] or not np.isfinite(distances[nearest]):
            higher.append(open_nodes[members])
        else:
            way = _trace(int(nearest), previous)
            lower.append(open_nodes[way[node_values[way] >= 0]])
    share = 1 - float(sizes[largest - 1] / sizes.sum())
    return Pieces(share, np.concatenate(lower), np.concatenate(higher))


def _ways_from(
    open_nodes: NDArray[np.int64], values: NDArray[np.float32], sources: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
    """Return for each of `open_nodes` the least cost of a way to a source, and the node before it on that way."""
    place = np.full(values.shape, -1, dtype=np.int64)
    place.reshape(-1)[open_nodes] = np.arange(len(open_nodes))
    cost = np.where(values < 0, _INSIDE, _OUTSIDE + values).astype(np.float64)
    starts, ends, costs = [], [], []
    for axis in range(values.ndim):
        nodes, along = np.moveaxis(place, axis, 0), np.moveaxis(cost, axis, 0)
        both = (nodes[:-1] >= 0) & (nodes[1:] >= 0)
        starts.append(nodes[:-1][both])
        ends.append(nodes[1:][both])
        costs.append((along[:-1] + along[1:])[both])
    edges = (np.concatenate(costs), (np.concatenate(starts), np.concatenate(ends)))
    graph = coo_matrix(edges, shape=(len(open_nodes), len(open_nodes))).tocsr()
    distances, previous, _ = dijkstra(graph, directed=False, indices=sources, min_only=True, return_predecessors=True)
    return distances, previous


def _trace(node: int, previous: NDArray[np.int32]) -> NDArray[np.int64]:
    way = []
    while node >= 0:
        way.append(node)
        node = int(previous[node])
    return np.array(way)
