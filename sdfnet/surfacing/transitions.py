"""Where the surface of a moving field changes its pieces, handles or cavities.

The field is looked at on one lattice, at every frame and at evenly spaced sub-steps between. Only what can hold the
surface is evaluated: at a frame the blocks near it, at a sub-step the samples whose sign the frames on both sides leave
open. Pieces and cavities below a share of the volume are passed over; their growing beyond it is a change.

What is thinner than a spacing, such as the handle of a slender letter, that lattice does not see. So all is looked at
on a finer one, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from sdfnet.geometry.bounds import UNIT_BOUNDS, Bounds, Lattice
from sdfnet.surfacing.changes import Change, joined, lasting
from sdfnet.surfacing.euler import LevelTopology, LooseBits, euler_number, level_topology
from sdfnet.surfacing.refining import confirm, places_of_change
from sdfnet.surfacing.window import FieldAt, Window

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
