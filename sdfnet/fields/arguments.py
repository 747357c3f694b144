"""Checks of the numbers from which fields are made. Each check returns the clean value or raises. Not for users.

The module is under 60 lines, but four modules of fields use it, and the contract in `base` does not need it.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from sdfnet.geometry.arrays import FloatArray


def check_positive(name: str, number: float) -> float:
    """Return `number` as a float. Raise ValueError if `number` is not finite or not above zero."""
    if not (math.isfinite(number) and number > 0):
        raise ValueError(f"{name} must be positive and finite, got {number}")
    return float(number)


def check_not_negative(name: str, number: float) -> float:
    """Return `number` as a float. Raise ValueError if `number` is not finite or is below zero."""
    if not (math.isfinite(number) and number >= 0):
        raise ValueError(f"{name} must be zero or more and finite, got {number}")
    return float(number)


def check_vector(name: str, vector: ArrayLike) -> FloatArray:
    """Return `vector` as (3,) float64. Raise ValueError if `vector` is not three finite numbers."""
    array = np.array(vector, dtype=np.float64)
    if array.shape != (3,) or not np.isfinite(array).all():
        raise ValueError(f"{name} must be three finite numbers, got {vector!r}")
    return array


def check_direction(name: str, vector: ArrayLike) -> FloatArray:
    """Return `vector` as a unit vector, (3,) float64. Raise ValueError if `vector` has no direction."""
    array = check_vector(name, vector)
    length = float(np.linalg.norm(array))
    if length == 0:
        raise ValueError(f"{name} must not be zero, got {vector!r}")
    # A unit vector stays as it is, bit for bit, so that a direction can be read from a field and given to another.
    return array if abs(length - 1) <= 4 * np.finfo(np.float64).eps else array / length


def check_curve(name: str, curve: ArrayLike, *, axes: int, at_least: int) -> FloatArray:
    """Return `curve` as finite (K, axes) float64. Raise if K < at_least or two successive points are equal."""
    array = np.array(curve, dtype=np.float64)
    if array.ndim != 2 or array.shape[1] != axes or len(array) < at_least:
        raise ValueError(f"{name} must have shape (K, {axes}) with K at least {at_least}, got {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} must be finite, got {array.tolist()}")
    if not np.linalg.norm(np.diff(array, axis=0), axis=1).all():
        raise ValueError(f"{name} must not repeat a point, got {array.tolist()}")
    return array
