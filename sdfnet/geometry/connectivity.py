"""Which nodes of a graph hang together: faces over edges, edges over vertices, regions over contacts."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def label_connected(left: ArrayLike, right: ArrayLike, size: int) -> tuple[int, NDArray[np.int64]]:
    """Return how many connected parts a graph has, and the part of each node, (size,).

    Parameters
    ----------
    left, right : (E,) ints
        The nodes, from 0 to size - 1, that each edge joins; an edge may be given more than once.

    >>> label_connected([0, 3], [1, 1], 4)
    (2, array([0, 0, 1, 0]))
    """
    from scipy.sparse import coo_array  # Here, since it takes 0.3 s of the start of commands that need none of it.
    from scipy.sparse.csgraph import connected_components

    left, right = np.asarray(left, dtype=np.int64), np.asarray(right, dtype=np.int64)
    graph = coo_array((np.ones(len(left), dtype=bool), (left, right)), shape=(size, size))
    count, labels = connected_components(graph, directed=False)
    return int(count), labels.astype(np.int64)
