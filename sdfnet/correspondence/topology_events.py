"""Find the topology events of a moving field: where components, handles or cavities appear, vanish, join or part.

The field is sampled on a lattice, at every frame and at evenly spaced sub-steps between frames. Only samples that can
hold the surface are evaluated. Components and cavities below a share of the volume are ignored. It is an event if one
of them grows beyond this share.

A lattice misses parts thinner than a spacing, so a finer lattice is scanned too, and the events of both are merged. On
a lattice, a gap may close too early or too late, or again and again while a thin part moves across the lattice. So the
place of each event is sampled on a fine lattice, which tells when the event happens, or that there is no event.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from scipy import ndimage
from tqdm import tqdm

from sdfnet.correspondence.lattice_topology import LevelTopology, euler_number, euler_shares, level_topology
from sdfnet.correspondence.narrow_band import FieldAt, NarrowBand, sample_field
from sdfnet.geometry.arrays import Float32Array, FloatArray, IntArray
from sdfnet.geometry.bounds import UNIT_BOUNDS, Lattice

_FINER, _FINEST = 2, 192
"""The second lattice is finer by the first number, but has at most the second number of samples per axis."""

_OPEN = 0.4
"""In spacings. A sub-step evaluates the field where the value interpolated between frames is nearer to zero than this.
The bound doubles while an evaluated value differs from the interpolated one by more than half of the bound."""

_NEAR, _SOON = 2, 8
"""An event without confirmation is counted on a finer lattice, the first number of frames before and after the event.
If the event is undone within the second number of frames, it is an artefact of the lattice."""

_SUBDIVISION, _HALF_SIDE = 4, 5
"""The close-up of an event has this many samples per sample of the lattice, along each axis. The second number is half
the side of the close-up's box, in spacings of the lattice."""

_BLEND = 2
"""At its border, the box shows the earlier time. It blends into the later time within this many spacings inward."""

_REACH, _FAR_REACH = 8, 32
"""The search for an event covers the first number of sub-steps before and after the sub-step where the lattice shows
the event. If this search finds nothing, the next search covers the second number."""

_COUNTS = ("components", "genus", "cavities")


@dataclass(frozen=True)
class TopologyEvent:
    """A change of topology between two neighbouring sub-steps.

    Attributes
    ----------
    frame : int
        The last frame before the event.
    time, until : float
        The last sub-step before the event, and the first sub-step after the event.
    before, after : LevelTopology
    seen_frame : int
        The last frame before the lattice shows the event. It may be later than `frame`. A mesh that is extracted
        between both frames still has the topology before the event.
    """

    frame: int
    time: float
    until: float
    before: LevelTopology
    after: LevelTopology
    seen_frame: int

    @property
    def reason(self) -> str:
        """Return what changed, in words."""
        pairs = [(name, getattr(self.before, name), getattr(self.after, name)) for name in _COUNTS]
        return ", ".join(f"{name} {old} to {new}" for name, old, new in pairs if old != new)

    @property
    def difference(self) -> tuple[int, ...]:
        """Return the changes of the numbers of components, handles and cavities."""
        return tuple(getattr(self.after, name) - getattr(self.before, name) for name in _COUNTS)


@dataclass(frozen=True, eq=False)
class TopologyHistory:
    """The topology of a moving field: its events in order of time, and the topology at each frame."""

    events: tuple[TopologyEvent, ...]
    topologies: tuple[LevelTopology, ...]


def find_topology_events(
    field_at: FieldAt,
    times: Sequence[float],
    *,
    resolution: int = 128,
    substeps: int = 8,
    min_share: float = 1e-4,
    progress: bool = False,
) -> TopologyHistory:
    """Find the topology events of a moving field between frames at the increasing `times` (T,).

    Parameters
    ----------
    resolution : int
        Samples along each axis of the lattice over the unit bounds. A second lattice has twice as many samples, up to
        192. Parts that are thinner than the spacing of the second lattice may be missed.
    substeps : int
        The number of times at which each interval between two frames is examined. The last one is its end.
    min_share : float
        Components and cavities below this share of the volume of the inside do not count.

    >>> from sdfnet.fields.primitives import Sphere
    >>> find_topology_events(lambda time: Sphere(0.4 + time), [0.0, 0.1], resolution=16).events
    ()
    """
    events: list[TopologyEvent] = []
    finer = min(_FINER * resolution, _FINEST)
    for samples in (resolution, finer) if finer > resolution else (resolution,):
        scan = _Scan(field_at, list(times), Lattice.over(UNIT_BOUNDS, samples), substeps, min_share)
        check_lattice = Lattice.over(UNIT_BOUNDS, _FINER * samples)
        found, counted = scan.run(check_lattice, second=samples != resolution, progress=progress)
        events = _merged(events, found)
    events.sort(key=lambda event: (event.time, event.until))
    return TopologyHistory(tuple(events), tuple(counted))


def _merged(events: Sequence[TopologyEvent], finer: Sequence[TopologyEvent]) -> list[TopologyEvent]:
    """Merge the events of two lattices. An event of both occurs once, with the `seen_frame` of the finer lattice."""
    merged = list(events)
    for event in finer:
        twins = [
            index
            for index, other in enumerate(events)  # both lattices know the time of an event to a sub-step or two
            if abs(event.time - other.time) <= 2 * (other.until - other.time) and event.difference == other.difference
        ]
        if twins:
            merged[twins[0]] = replace(merged[twins[0]], seen_frame=event.seen_frame)
        else:
            merged.append(event)
    return merged


def _lasting(doubtful: Sequence[TopologyEvent]) -> list[TopologyEvent]:
    """Return the events that the lattice does not undo soon. `doubtful` is in order of time."""
    kept: list[TopologyEvent] = []
    for event in doubtful:
        undone = [other for other in kept if other.difference == tuple(-change for change in event.difference)]
        if undone and event.frame - undone[-1].frame <= _SOON:
            kept.remove(undone[-1])
        else:
            kept.append(event)
    return kept


@dataclass(frozen=True, eq=False)
class _Scan:
    """A sequence, and the lattice on which it is examined."""

    field_at: FieldAt
    times: list[float]
    lattice: Lattice
    substeps: int
    min_share: float

    def run(
        self, check_lattice: Lattice, *, second: bool, progress: bool
    ) -> tuple[list[TopologyEvent], list[LevelTopology]]:
        """Return the events, and the topology at each frame.

        An event that the close-up does not confirm counts only if it lasts and also shows on `check_lattice`. The
        `second` scan leaves out components that grow beyond `min_share`.
        """
        times, band = self.times, NarrowBand.around(self.field_at, self.times, self.lattice)
        events: list[TopologyEvent] = []
        doubtful: list[TopologyEvent] = []
        counted: list[LevelTopology] = []
        earlier = np.zeros(0, dtype=np.float32)
        label = "finer topology" if second else "topology"
        for frame, time in enumerate(tqdm(times, desc=label, unit="frame", disable=not progress)):
            intervals = range(max(frame - 1, 0), min(frame + 1, len(times) - 1))
            values = band.frame_values(self.field_at(time), frame, *intervals)
            counted.append(level_topology(values, min_share=self.min_share))
            if frame:
                interval = _Interval(self.field_at, band, frame - 1, (times[frame - 1], time), (earlier, values))
                for shown, step, cells in self._shown_events(interval, (counted[-2], counted[-1])):
                    if not len(cells) and second:
                        continue
                    event = self._confirmed(shown, step, cells, band) if len(cells) else shown
                    (events if event else doubtful).append(event or shown)
            earlier = values
        return events + [event for event in _lasting(doubtful) if self._shows_on(check_lattice, event)], counted

    def _shown_events(
        self, interval: _Interval, ends: tuple[LevelTopology, LevelTopology]
    ) -> list[tuple[TopologyEvent, int, IntArray]]:
        """Return the events between two frames as the lattice shows them, their sub-steps and their cells (N, 3).

        Components are only counted at sub-steps where the Euler number changes. An event without cells is a component
        that grew or shrank past `min_share`.
        """
        shares = np.linspace(0, 1, self.substeps + 1).tolist()
        values = [interval.ends[0], *(interval.values(share) for share in shares[1:-1]), interval.ends[1]]
        euler = [euler_number(one) for one in values]
        if len(set(euler)) == 1 and ends[0] == ends[1]:
            return []
        shown = []
        before = ends[0]
        for step in range(1, self.substeps + 1):
            if step == self.substeps:
                after = ends[1]
            elif euler[step] == euler[step - 1] and len(set(euler)) > 1:
                after = before
            else:
                after = level_topology(values[step], min_share=self.min_share)
            if after != before:
                span = interval.time(shares[step - 1]), interval.time(shares[step])
                event = TopologyEvent(interval.frame, *span, before, after, interval.frame)
                shown.append((event, step, _event_cells(values[step - 1], values[step])))
            before = after
        return shown

    def _confirmed(self, shown: TopologyEvent, step: int, cells: IntArray, band: NarrowBand) -> TopologyEvent | None:
        """Return the event with the time at which the field itself has it, or None if only the lattice shows it."""

        def time_of(number: int) -> float:
            frame, part = divmod(number, self.substeps)
            later = self.times[min(frame + 1, len(self.times) - 1)]
            return float(self.times[frame] + part / self.substeps * (later - self.times[frame]))

        first, last = self.substeps * shown.frame + step, self.substeps * (len(self.times) - 1)
        centers = [band.cell_center(cell) for cell in cells]
        close_ups = [_CloseUp.around(self.field_at, self.lattice, center, time_of) for center in centers]
        found = [number for each in close_ups if (number := each.find_event(first, last=last)) is not None]
        if not found:
            return None
        before = min(found)
        return replace(shown, frame=before // self.substeps, time=time_of(before), until=time_of(before + 1))

    def _shows_on(self, lattice: Lattice, event: TopologyEvent) -> bool:
        """Return whether counts on a finer lattice differ between a little before the event and a little after it."""
        last = len(self.times) - 1
        pair = [self.times[max(event.frame - _NEAR, 0)], self.times[min(event.frame + 1 + _NEAR, last)]]
        band = NarrowBand.around(self.field_at, pair, lattice)
        before, after = (
            level_topology(band.frame_values(self.field_at(time), index, 0), min_share=self.min_share)
            for index, time in enumerate(pair)
        )
        return before != after


@dataclass(frozen=True, eq=False)
class _Interval:
    """The time between two frames, and the values at both."""

    field_at: FieldAt
    band: NarrowBand
    frame: int
    times: tuple[float, float]
    ends: tuple[Float32Array, Float32Array]

    def time(self, share: float) -> float:
        return self.times[0] + share * (self.times[1] - self.times[0])

    def values(self, share: float) -> Float32Array:
        """Interpolate the values at a share of the time. Evaluate the field where the interpolated sign is unsure."""
        indices = self.band.indices(self.frame)
        first, last = (end.ravel()[indices] for end in self.ends)
        guess = (1 - np.float32(share)) * first + np.float32(share) * last
        field, width = self.field_at(self.time(share)), _OPEN
        known = np.zeros(len(indices), dtype=bool)
        while True:
            needed = np.flatnonzero((np.abs(guess) <= width) & ~known)
            exact = self.band.evaluate(field, indices[needed])
            error = float(np.abs(exact - guess[needed]).max(initial=0.0))
            guess[needed], known[needed] = exact, True
            if error <= width / 2:
                break
            width *= 2
        values = self.ends[0].copy()
        values.ravel()[indices] = guess
        return values


def _event_cells(before: Float32Array, after: Float32Array) -> IntArray:
    """Return the cells (N, 3) that change the Euler number between two neighbouring sub-steps.

    Each connected set of changed cells whose changes do not cancel gives one cell. This is the cell where the field is
    flattest, because the critical point of the field lies there.
    """
    change = euler_shares(after) - euler_shares(before)
    around = np.ones((3, 3, 3))
    turned, count = ndimage.label((after <= 0) != (before <= 0), structure=around)
    labels = np.zeros(change.shape, dtype=np.int64)
    for x, y, z in np.ndindex(2, 2, 2):  # cells at samples that turned; a cell touches the samples of one set only
        np.maximum(labels, turned[x:, y:, z:][tuple(map(slice, labels.shape))], out=labels)
    others, more = ndimage.label((change != 0) & (labels == 0), structure=around)  # where an ambiguous square turned
    labels = np.where(others > 0, others + count, labels)
    cells = np.argwhere(change != 0)
    label = labels[tuple(cells.T)]
    sums = np.bincount(label, weights=change[tuple(cells.T)], minlength=count + more + 1)
    corners = np.stack([after[tuple((cells + corner).T)] for corner in np.ndindex(2, 2, 2)], axis=1).reshape(
        -1, 2, 2, 2
    )
    slopes = [np.diff(corners, axis=axis).mean(axis=(1, 2, 3)) for axis in (1, 2, 3)]
    flatness = np.linalg.norm(slopes, axis=0) + np.abs(corners.mean(axis=(1, 2, 3))) / 4
    order = np.lexsort([flatness, label])
    _, first = np.unique(label[order], return_index=True)
    flattest = order[first]
    return np.asarray(cells[flattest[np.abs(sums[label[flattest]]) > 0.5]])


@dataclass(frozen=True, eq=False)
class _CloseUp:
    """The field in a small box around an event: the values at a sub-step, and the weight of the later of two times."""

    values: Callable[[int], Float32Array]
    blend: Float32Array

    @classmethod
    def around(
        cls, field_at: FieldAt, lattice: Lattice, place: FloatArray, time_of: Callable[[int], float]
    ) -> _CloseUp:
        """Return the box around `place` (3,) in lattice coordinates; `time_of` gives the time of a sub-step."""
        shape = (2 * _HALF_SIDE * _SUBDIVISION + 1,) * 3
        places = place + np.indices(shape).reshape(3, -1).T / _SUBDIVISION - _HALF_SIDE
        inward = (_HALF_SIDE - np.abs(places - place).max(axis=1)).reshape(shape) / _BLEND

        @cache
        def values(step: int) -> Float32Array:
            return sample_field(field_at(time_of(step)), lattice, places).reshape(shape) * _SUBDIVISION

        return cls(values, np.clip(inward, 0, 1).astype(np.float32))

    def find_event(self, step: int, *, last: int) -> int | None:
        """Return the sub-step after which the field's topology changes in the box, or None if there is no change.

        `step` is the first sub-step at which the lattice shows the event. `last` is the last sub-step of the sequence.
        """
        near, far = ((max(step - reach, 0), min(step + reach - 1, last)) for reach in (_REACH, _FAR_REACH))
        found = self._bisect(*near)
        if found is None:  # the topology may change and change back
            nearest_first = sorted(range(*near), key=lambda number: abs(number + 1 - step))
            found = next((number for number in nearest_first if self._differ(number, number + 1)), None)
        return self._bisect(*far) if found is None else found

    def _bisect(self, low: int, high: int) -> int | None:
        """Return the sub-step after which the box differs from the box at `low`, or None if it is alike at `high`.

        Over a long time, a part that moves through the box may look torn or joined where two times are blended. So the
        topology must also differ between the returned sub-step and the next.
        """
        start = low
        if not self._differ(start, high):
            return None
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if self._differ(start, middle) else (middle, high)
        return low if self._differ(low, high) else None

    def _differ(self, one: int, other: int) -> bool:
        mixed = (1 - self.blend) * self.values(one) + self.blend * self.values(other)
        return _padded_euler_number(mixed) != _padded_euler_number(self.values(one))


def _padded_euler_number(values: Float32Array) -> int:
    return euler_number(np.pad(values, 1, constant_values=1.0))
