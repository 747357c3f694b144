"""Coordinates in mesh files: text encodings, parsing and formatting of numbers, and the rounding of float32."""

from __future__ import annotations

import codecs
import math
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from sdfnet.geometry.bounds import Bounds

_FLOAT32_HARM = 1e-6
"""Rounding to float32 may move a vertex by this share of the extent. From 16 extents off the origin it moves more."""

SIGNIFICANT_DIGITS = 9
"""Digits of a coordinate, counted from the mesh's extent. Far from the origin, the offset needs some more digits."""


def to_single_bytes(data: bytes) -> bytes:
    """Return text as bytes whose ASCII part can be parsed. UTF-16 becomes UTF-8, and a byte order mark is removed.

    Names in other encodings (Latin-1, Shift-JIS) do not change. Numbers and keywords are ASCII in all of these
    encodings.
    """
    if data.startswith(codecs.BOM_UTF8):
        return data[len(codecs.BOM_UTF8) :]
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16", errors="replace").encode()
    head = data[:64]
    if len(head) >= 4 and head[1::2].count(0) == len(head) // 2:
        return data.decode("utf-16-le", errors="replace").encode()
    if len(head) >= 4 and head[0::2].count(0) == (len(head) + 1) // 2:
        return data.decode("utf-16-be", errors="replace").encode()
    return data


def parse_floats(tokens: Iterable[bytes]) -> NDArray[np.float64]:
    """Return the numbers of `tokens`, each rounded once to float64 (N,)."""
    return np.array(list(map(float, tokens)), dtype=np.float64)


def parse_ints(tokens: Iterable[bytes]) -> NDArray[np.int64]:
    """Return the whole numbers of `tokens`, (N,) int64."""
    return np.array(list(map(int, tokens)), dtype=np.int64)


def coordinate_digits(vertices: NDArray[np.float64]) -> int:
    """Return how many significant digits resolve the extent of `vertices` (V, 3) to nine digits: from 9 to 17.

    >>> coordinate_digits(np.array([[0.0, 0, 0], [1, 1, 1]]))
    9
    >>> coordinate_digits(np.array([[1e6, 0, 0], [1e6 + 1, 1, 1]]))
    15
    """
    extent = float((vertices.max(axis=0) - vertices.min(axis=0)).max())
    largest = float(np.abs(vertices).max())
    if not extent > 0:
        return 17
    offset_digits = math.floor(math.log10(largest)) - math.floor(math.log10(extent))
    return min(SIGNIFICANT_DIGITS + max(offset_digits, 0), 17)


def format_rows(template: str, rows: NDArray[np.generic]) -> str:
    """Return one copy of `template` for each row of `rows` (N, k), filled with the k numbers of the row.

    One `%` over all rows takes a quarter of the time of `np.savetxt`.
    """
    return (template * len(rows)) % tuple(rows.ravel().tolist())


def is_far_from_origin(vertices: NDArray[np.float64]) -> bool:
    """Whether float32 coordinates would move one of `vertices` (V, 3) by more than a millionth of the extent.

    >>> is_far_from_origin(np.eye(3)), is_far_from_origin(np.eye(3) / 3 + 1e6)
    (False, True)
    """
    with np.errstate(over="ignore"):
        moved = np.abs(vertices - vertices.astype(np.float32)).max()
    return bool(not moved <= _FLOAT32_HARM * Bounds.of(vertices).extent.max())
