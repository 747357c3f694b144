"""Names for the types of NumPy arrays, and the few operations on arrays that most folders need."""

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


def stable_order(keys: IntArray) -> tuple[IntArray, IntArray]:
    """Return the stable order of `keys` (N,), and the sorted keys. Keys must not be negative.

    >>> [each.tolist() for each in stable_order(np.array([7, 2, 7]))]
    [[1, 0, 2], [2, 7, 7]]
    """
    bits = len(keys).bit_length()
    if int(keys.max(initial=0)).bit_length() + bits > 63:
        order = np.argsort(keys, kind="stable")
        return order, keys[order]
    words = (keys << bits) | np.arange(len(keys))
    words.sort()  # several times faster than an argsort
    return words & ((1 << bits) - 1), words >> bits


def unique_keys(keys: IntArray) -> tuple[IntArray, IntArray, IntArray]:
    """Return the distinct `keys` (N,) in order, (U,), where each stands first, (U,), and the number of each key, (N,).

    It is `np.unique` with both indices, in less time. Keys must not be negative.

    >>> [each.tolist() for each in unique_keys(np.array([7, 2, 7]))]
    [[2, 7], [1, 0], [1, 0, 1]]
    """
    order, ordered = stable_order(keys)
    is_first = np.ones(len(keys), dtype=bool)
    is_first[1:] = ordered[1:] != ordered[:-1]
    number = np.empty(len(keys), dtype=np.int64)
    number[order] = np.cumsum(is_first) - 1
    return ordered[is_first], order[is_first], number


def sorted_unique(keys: IntArray) -> IntArray:
    """Return the distinct `keys` (N,) in order. `np.unique` uses a hash table, which takes up to ten times as long.

    >>> sorted_unique(np.array([7, 2, 7])).tolist()
    [2, 7]
    """
    ordered = np.sort(keys)
    return ordered[np.concatenate([[True], ordered[1:] != ordered[:-1]])[: len(ordered)]]


def are_among(keys: IntArray, ordered: IntArray) -> BoolArray:
    """Return which `keys` (N,) are among the sorted keys `ordered` (M,), (N,).

    >>> are_among(np.array([3, 4]), np.array([1, 4])).tolist()
    [False, True]
    """
    if not len(ordered):
        return np.zeros(len(keys), dtype=bool)
    return np.asarray(ordered[np.minimum(np.searchsorted(ordered, keys), len(ordered) - 1)] == keys)
