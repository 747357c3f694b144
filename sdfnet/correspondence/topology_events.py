"""Where the surface of a moving field changes its pieces, handles or cavities.

The field is looked at on one lattice, at every frame and at evenly spaced sub-steps between. Only what can hold the
surface is evaluated: at a frame the blocks near it, at a sub-step the samples whose sign the frames on both sides leave
open. Pieces and cavities below a share of the volume are passed over; their growing beyond it is a change.

What is thinner than a spacing, such as the handle of a slender letter, that lattice does not see. So all is looked at
on a finer one, too.

Changes of the topology of a moving surface, as lattices show them: which are one, and which the lattice's own.

A closer look at a change of topology that a lattice shows: is it one of the field, and when does it happen?

A lattice sees a gap close when it is narrower than a spacing or so: early or late, and where a thin part sweeps over
the lattice, again and again. So the place is found, and looked at on a finer lattice, before and after.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from tqdm import tqdm

from sdfnet.correspondence.lattice_topology import LevelTopology, LooseBits, euler_number, euler_shares, level_topology
from sdfnet.correspondence.narrow_band import FieldAt, Window, sample
from sdfnet.geometry.bounds import UNIT_BOUNDS, Bounds, Lattice

_SOON = 8
"""In frames. A change that only the coarse lattice shows, and undoes within so many, is the lattice's own."""


@dataclass(frozen=True)
class Change:
    """A change of topology between two neighbouring sub-steps.

    Attributes
    ----------
    frame : int
        The last frame before it.
    time, until : float
        The last sub-step before it, and the first at which it is seen.
    before, after : LevelTopology
    seen : int
        The last frame before the lattice shows it, maybe later: a mesh that begins in between has what was before.
    """

    frame: int
    time: float
    until: float
    before: LevelTopology
    after: LevelTopology
    seen: int

    @property
    def reason(self) -> str:
        """What changed, in words."""
        names = ("components", "genus", "cavities")
        pairs = [(name, getattr(self.before, name), getattr(self.after, name)) for name in names]
        return ", ".join(f"{name} {old} to {new}" for name, old, new in pairs if old != new)


def joined(changes: Sequence[Change], more: Sequence[Change]) -> list[Change]:
    """Return the changes that two lattices show, each once, and `seen` as the second one, the finer, does."""
    found = list(changes)
    for change in more:
        twin = next((index for index, other in enumerate(changes) if _same(change, other)), None)
        if twin is None:
            found.append(change)
        else:
            found[twin] = replace(found[twin], seen=change.seen)
    return found


def lasting(doubtful: list[Change]) -> list[Change]:
    """Return those changes, in order of time, all seen by the lattice only, that it does not take back soon."""
    kept: list[Change] = []
    for change in doubtful:
        undone = [other for other in kept if _difference(other) == _difference(change, -1)]
        if undone and change.frame - undone[-1].frame <= _SOON:
            kept.remove(undone[-1])
        else:
            kept.append(change)
    return kept


def _same(one: Change, other: Change) -> bool:
    """Return whether these may be one change that two lattices show: both know its time to a sub-step or two."""
    return abs(one.time - other.time) <= 2 * (other.until - other.time) and _difference(one) == _difference(other)


def _difference(change: Change, sign: int = 1) -> tuple[int, ...]:
    names = ("components", "genus", "cavities")
    return tuple(sign * (getattr(change.after, name) - getattr(change.before, name)) for name in names)


_SUBDIVISION = 4
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
    box = place + np.indices([2 * _HALF_SIDE * _SUBDIVISION + 1] * 3).reshape(3, -1).T / _SUBDIVISION - _HALF_SIDE
    shape = (2 * _HALF_SIDE * _SUBDIVISION + 1,) * 3
    inward = (_HALF_SIDE - np.abs(box - place).max(axis=1)).reshape(shape) / _SEAM
    blend = np.clip(inward, 0, 1).astype(np.float32)

    @cache
    def look(number: int) -> NDArray[np.float32]:
        return sample(field_at(time_of(number)), lattice, box).reshape(shape) * _SUBDIVISION

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


_FINER, _NEAR = 2, 2
"""A change that only the lattice shows is counted on one so much finer, so many frames before and after it."""

_FINEST = 192
"""Samples per axis of the second, finer lattice, at most: its time grows faster than its use."""

_OPEN = 0.4
"""In spacings: where the value interpolated between frames is nearer to zero, a sub-step evaluates the field. Doubled
where a value found so differs by more than half of this from the interpolated one."""


@dataclass(frozen=True, eq=False)
class Transitions:
    """What was found along a sequence.

    Attributes
    ----------
    changes : tuple of Change
        In order of time.
    topologies : tuple of LevelTopology
        At each frame.
    loose : tuple of LooseBits
        What was left out at each frame.
    """

    changes: tuple[Change, ...]
    topologies: tuple[LevelTopology, ...]
    loose: tuple[LooseBits, ...]


def find_changes(
    field_at: FieldAt,
    times: Sequence[float],
    *,
    resolution: int = 128,
    substeps: int = 8,
    smallest: float = 1e-4,
    bounds: Bounds = UNIT_BOUNDS,
    progress: bool = False,
) -> Transitions:
    """Find the changes of topology of a moving field between the frames at `times` (T,), increasing.

    Parameters
    ----------
    resolution : int
        Samples along the longest axis of the lattice over `bounds`; a second one has twice as many, up to 192. What is
        thinner than its spacing may be missed. A change that they show is looked at on a finer one, which tells when
        it happens, or that it does not.
    substeps : int
        How many times each interval between two frames is looked at, its end included.
    smallest : float
        Pieces and cavities below this share of the volume of the inside do not count.
    """
    changes: list[Change] = []
    finer = min(_FINER * resolution, _FINEST)
    for samples in (resolution, finer) if finer > resolution else (resolution,):
        look = _Look(field_at, list(times), Lattice.over(bounds, samples), substeps, smallest)
        twice = Lattice.over(bounds, _FINER * samples)
        seen, found = look.follow(twice, sparing=samples != resolution, progress=progress)
        changes = joined(changes, seen)
    changes.sort(key=lambda change: (change.time, change.until))
    return Transitions(tuple(changes), *(tuple(column) for column in zip(*found, strict=True)))


@dataclass(frozen=True, eq=False)
class _Look:
    """How a sequence is looked at."""

    field_at: FieldAt
    times: list[float]
    lattice: Lattice
    substeps: int
    smallest: float

    def follow(
        self, finer: Lattice, *, sparing: bool, progress: bool
    ) -> tuple[list[Change], list[tuple[LevelTopology, LooseBits]]]:
        """Return the changes, and what is counted at each frame. Those that only this lattice shows `finer` counts.

        If `sparing`, pieces that grow are passed over: another lattice has measured them.
        """
        times, window = self.times, Window.around(self.field_at, self.times, self.lattice)
        changes: list[Change] = []
        doubtful: list[Change] = []
        found: list[tuple[LevelTopology, LooseBits]] = []
        earlier = np.zeros(0, dtype=np.float32)
        label = "finer topology" if sparing else "topology"
        for frame, time in enumerate(tqdm(times, desc=label, unit="frame", disable=not progress)):
            intervals = range(max(frame - 1, 0), min(frame + 1, len(times) - 1))
            numbers = window.samples(*intervals)
            values = window.far(frame)
            values.ravel()[numbers] = window.evaluate(self.field_at(time), numbers)
            found.append(level_topology(values, smallest=self.smallest))
            if frame:
                steps = _Interval(self.field_at, window, frame - 1, (times[frame - 1], time), (earlier, values))
                for one in _changes_between(steps, (found[-2][0], found[-1][0]), self.substeps, self.smallest):
                    if not len(one.places) and sparing:
                        continue
                    change = _confirmed(one, steps, times, self.substeps)
                    (changes if change else doubtful).append(change or one.change)
            earlier = values
        return changes + [change for change in lasting(doubtful) if self._lasts(change, finer)], found

    def _lasts(self, change: Change, lattice: Lattice) -> bool:
        """Return whether a finer lattice, too, counts otherwise a little before a change than a little after.

        Where it does not, a gap or a wall has come to lie on samples of the coarse lattice, or off them. What grows
        from nothing the finer one shows some frames earlier.
        """
        last = len(self.times) - 1
        pair = [self.times[max(change.frame - _NEAR, 0)], self.times[min(change.frame + 1 + _NEAR, last)]]
        window = Window.around(self.field_at, pair, lattice)
        numbers = window.samples(0)
        counts = []
        for index, time in enumerate(pair):
            values = window.far(index)
            values.ravel()[numbers] = window.evaluate(self.field_at(time), numbers)
            counts.append(level_topology(values, smallest=self.smallest)[0])
        return counts[0] != counts[1]


@dataclass(frozen=True, eq=False)
class _Interval:
    """The time between two frames, and the values at both."""

    field_at: FieldAt
    window: Window
    frame: int
    times: tuple[float, float]
    ends: tuple[NDArray[np.float32], NDArray[np.float32]]

    def time(self, share: float) -> float:
        return self.times[0] + share * (self.times[1] - self.times[0])

    def values(self, share: float) -> NDArray[np.float32]:
        """Return the values at a share of the time, the field's own wherever the sign is open."""
        numbers = self.window.samples(self.frame)
        first, last = (end.ravel()[numbers] for end in self.ends)
        guess = (1 - np.float32(share)) * first + np.float32(share) * last
        field, width = self.field_at(self.time(share)), _OPEN
        known = np.zeros(len(numbers), dtype=bool)
        while True:
            asked = np.flatnonzero((np.abs(guess) <= width) & ~known)
            exact = self.window.evaluate(field, numbers[asked])
            off = float(np.abs(exact - guess[asked]).max(initial=0.0))
            guess[asked], known[asked] = exact, True
            if off <= width / 2:
                break
            width *= 2
        values = self.ends[0].copy()
        values.ravel()[numbers] = guess
        return values


def _changes_between(
    interval: _Interval, ends: tuple[LevelTopology, LevelTopology], substeps: int, smallest: float
) -> list[_Seen]:
    """Return the changes between two frames as the lattice shows them.

    Pieces are only counted where the Euler number tells of a change.
    """
    shares = np.linspace(0, 1, substeps + 1).tolist()
    values = [interval.ends[0], *(interval.values(share) for share in shares[1:-1]), interval.ends[1]]
    euler = [euler_number(one) for one in values]
    if len(set(euler)) == 1 and ends[0] == ends[1]:
        return []
    changes = []
    before = ends[0]
    for step in range(1, substeps + 1):
        if step == substeps:
            after = ends[1]
        elif euler[step] == euler[step - 1] and len(set(euler)) > 1:
            after = before
        else:
            after = level_topology(values[step], smallest=smallest)[0]
        if after != before:
            span = interval.time(shares[step - 1]), interval.time(shares[step])
            places = places_of_change(values[step - 1], values[step])
            changes.append(_Seen(Change(interval.frame, *span, before, after, interval.frame), step, places))
        before = after
    return changes


@dataclass(frozen=True, eq=False)
class _Seen:
    """A change as the lattice shows it, at a sub-step of its interval, and the cells (N, 3) where."""

    change: Change
    step: int
    places: NDArray[np.int64]


def _confirmed(seen: _Seen, interval: _Interval, times: Sequence[float], substeps: int) -> Change | None:
    """Return a change at the time when the field itself has it; None where only the lattice shows one.

    A change at no place is that of a piece that grew or shrank past the bound, and is left as it is.
    """
    if not len(seen.places):
        return seen.change

    def time_of(number: int) -> float:
        frame, part = divmod(number, substeps)
        later = times[min(frame + 1, len(times) - 1)]
        return float(times[frame] + part / substeps * (later - times[frame]))

    last = substeps * (len(times) - 1)
    steps = [
        confirm(
            interval.field_at,
            interval.window.lattice,
            interval.window.place_of(cell),
            step=substeps * interval.frame + seen.step,
            time_of=time_of,
            last=last,
        )
        for cell in seen.places
    ]
    true = [step for step in steps if step is not None]
    if not true:
        return None
    step = min(true)
    return replace(seen.change, frame=step // substeps, time=time_of(step), until=time_of(step + 1))
