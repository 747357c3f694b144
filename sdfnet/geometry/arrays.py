"""Names for the types of NumPy arrays, and two operations on arrays that most folders need.

This module has under 60 lines, but all numerical modules share it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
Float32Array = NDArray[np.float32]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]


def mask_of(indices: NDArray[np.integer], size: int) -> BoolArray:
    """Return a mask (size,) that is True at each of `indices`.

    >>> mask_of(np.array([2, 0, 2]), 4).tolist()
    [True, False, True, False]
    """
    mask = np.zeros(size, dtype=bool)
    mask[indices] = True
    return mask


def unit_vectors(vectors: FloatArray) -> FloatArray:
    """Return `vectors` (..., 3) scaled to length 1. Zero vectors stay zero.

    >>> unit_vectors(np.array([[0.0, 3.0, 4.0], [0.0, 0.0, 0.0]])).tolist()
    [[0.0, 0.6, 0.8], [0.0, 0.0, 0.0]]
    """
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-300))
