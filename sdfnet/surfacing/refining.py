"""A closer look at a change of topology that a lattice shows: is it one of the field, and when does it happen?

A lattice sees a gap close when it is narrower than a spacing or so: early or late, and where a thin part sweeps over
the lattice, again and again. So the place is found, and looked at on a finer lattice, before and after.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from sdfnet.geometry.bounds import Lattice
from sdfnet.surfacing.euler import euler_number, euler_shares
from sdfnet.surfacing.window import FieldAt, sample

_FINER = 4
"""Samples of the finer lattice for each of the coarse one, along an axis."""

_HALF_SIDE = 5
"""Of the box that is looked at, in coarse spacings."""

_SEAM = 2
"""Within so many coarse spacings of its border the box shows the earlier time, and the later one gradually."""

_REACH, _FAR_REACH = 8, 32
"""How many sub-steps before and after the one where the lattice shows a change it is looked for; the second, if the
ends of the first are alike."""


def places_of_change(before: NDArray[np.float32], after: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return the cells (N, 3) at which the Euler numbers of two neighbouring sub-steps come to differ.

    Of each connected set of changed cells whose changes do not cancel, that where the field is flattest: there its
    critical point is.
    """
    change = euler_shares(after) - euler_shares(before)
    around = np.ones((3, 3, 3))
    turned, count = ndimage.label((after <= 0) != (before <= 0), structure=around)
    labels = np.zeros(change.shape, dtype=np.int64)
    for x, y, z in np.ndindex(2, 2, 2):  # cells at samples that turned; those of one set touch only that set's
        np.maximum(labels, turned[x:, y:, z:][tuple(map(slice, labels.shape))], out=labels)
    others, more = ndimage.label((change != 0) & (labels == 0), structure=around)  # where a crosswise square turned
    labels = np.where(others > 0, others + count, labels)
    cells = np.argwhere(change != 0)
    label = labels[tuple(cells.T)]
    sums = np.bincount(label, weights=change[tuple(cells.T)], minlength=count + more + 1)
    corners = np.stack([after[tuple((cells + corner).T)] for corner in np.ndindex(2, 2, 2)], axis=1).reshape(
        -1, 2, 2, 2
    )
    steps = [np.diff(corners, axis=axis).mean(axis=(1, 2, 3)) for axis in (1, 2, 3)]
    flatness = np.linalg.norm(steps, axis=0) + np.abs(corners.mean(axis=(1, 2, 3))) / 4
    order = np.lexsort([flatness, label])
    _, first = np.unique(label[order], return_index=True)
    flattest = order[first]
    return np.asarray(cells[flattest[np.abs(sums[label[flattest]]) > 0.5]])


def confirm(
    field_at: FieldAt,
    lattice: Lattice,
    place: NDArray[np.float64],
    *,
    step: int,
    time_of: Callable[[int], float],
    last: int,
) -> int | None:
    """Return the sub-step after which the field itself changes its topology near `place`; None if it does not.

    Parameters
    ----------
    place : (3,)
        In lattice coordinates.
    step, last : int
        The first sub-step at which the lattice shows the change, and the last of the sequence.
    time_of : function
        From the number of a sub-step to its time.
    """
    box = place + np.indices([2 * _HALF_SIDE * _FINER + 1] * 3).reshape(3, -1).T / _FINER - _HALF_SIDE
    shape = (2 * _HALF_SIDE * _FINER + 1,) * 3
    inward = (_HALF_SIDE - np.abs(box - place).max(axis=1)).reshape(shape) / _SEAM
    blend = np.clip(inward, 0, 1).astype(np.float32)

    @cache
    def look(number: int) -> NDArray[np.float32]:
        return sample(field_at(time_of(number)), lattice, box).reshape(shape) * _FINER

    def differ(one: int, other: int) -> bool:
        mixed = (1 - blend) * look(one) + blend * look(other)
        return _padded_euler_number(mixed) != _padded_euler_number(look(one))

    def halve(low: int, high: int) -> int | None:
        """Return the sub-step after which the box is no longer what it is at `low`; None where it is still at `high`.

        Over so long a time what moves through the box may look torn or joined where the times are blended; so from one
        sub-step to the next it must change, too.
        """
        start = low
        if not differ(start, high):
            return None
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if differ(start, middle) else (middle, high)
        return low if differ(low, high) else None

    near, far = ((max(step - reach, 0), min(step + reach - 1, last)) for reach in (_REACH, _FAR_REACH))
    found = halve(*near)
    if found is None:  # it may change and change back
        one_by_one = sorted(range(*near), key=lambda number: abs(number + 1 - step))
        found = next((number for number in one_by_one if differ(number, number + 1)), None)
    return halve(*far) if found is None else found


def _padded_euler_number(values: NDArray[np.float32]) -> int:
    return euler_number(np.pad(values, 1, constant_values=1.0))
