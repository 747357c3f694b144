"""How far a training has come: the share of it that lies before each step, and the learning rate at this share.

With `steps=N` the share before a step is step / N. With `budget=TIME` the share follows the clock. The training
measures its pace again and again. Each time, it decides by how much each further step raises the share, so that the
share reaches 1 when the budget is used. On a machine that is busy with other programs, it also decides how many
threads a step uses. Each decision is written into the run before the next step, and the share is a function of the
decisions alone. So a killed training that continues takes the same steps as before, as far as decisions are written.

The learning rate is constant and falls only in the last part of the training (`rate_factor`). So the length of the
training matters late, when it is known well.
"""

from __future__ import annotations

import json
import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from sdfnet.files import write_json

SCHEDULE_FILE = "schedule.json"

RateKind = Literal["late", "cosine"]

_DECAY_SHARE = 0.7
"""Share of the training in which the rate falls (docs/notes/decoders.md compares shares and shapes of the fall)."""

_ROUNDING = 1e-9

_ASSUMED_STEPS = 2000
"""The share grows as if the training had this many steps until the pace is measured."""

LEAST_STEPS = 40
"""A training takes at least this many steps, even if the budget is too short for them."""

_WARM_STEPS, _TIMED_STEPS = 2, 6
"""The first steps of a process are slower and are not timed. The first pace is that of so many further steps."""

_INTERVAL_SHARE, _LEAST_INTERVAL = 0.02, 1.0
"""Time between decisions: a share of the budget, at least one second, but at most a tenth of the budget."""

_WINDOW_SHARE = 0.1
"""The pace is that of the steps in the last time, this share of the budget."""

_OVERTIME_SHARE = 0.1
"""If the budget is used too early, the rest of the training takes at most this share of the steps so far."""

_BUSY_SHARE = 0.2
"""Share of the time without the processor from which the machine counts as busy with other programs."""


@dataclass(frozen=True)
class Decision:
    """What holds from a step on, until the next decision."""

    step: int
    share: float
    """The share of the training that lies before this step, 0 to 1."""
    per_step: float
    """The growth of the share in each step from this step on."""
    seconds: float
    """The part of the budget that was used when the decision was made."""
    waited: float = 0.0
    """Seconds of this time in which the training waited for the processor, because other programs had it."""
    threads: int | None = None
    """Threads of the steps from this step on; None is the number with which the process began."""

    def share_at(self, step: int) -> float:
        return self.share + self.per_step * (step - self.step)

    @property
    def last_step(self) -> int:
        """The number of steps of the whole training, if no other decision follows."""
        return self.step + max(0, math.ceil((1 - self.share) / self.per_step - 1e-6))


FIRST_DECISION = Decision(0, 0.0, 1 / _ASSUMED_STEPS, 0.0)
"""It holds until the pace is measured."""


@dataclass(frozen=True)
class Schedule:
    """The schedule of a training: `steps` are given, or `decisions` follow the clock.

    >>> schedule = Schedule(decisions=(Decision(0, 0.0, 0.1, 0.0), Decision(5, 0.5, 0.25, 9.0)))
    >>> [schedule.share(step) for step in (0, 4, 5, 6, 7)], schedule.expected_steps(4), schedule.expected_steps(5)
    ([0.0, 0.4, 0.5, 0.75, 1.0], 10, 7)
    """

    steps: int | None = None
    decisions: tuple[Decision, ...] = ()

    def share(self, step: int) -> float:
        """Return the share of the training that lies before `step`. It is 1 where the training has ended."""
        share = step / self.steps if self.steps is not None else self._decision(step).share_at(step)
        return 1.0 if share > 1 - _ROUNDING else share

    def expected_steps(self, step: int) -> int:
        """Return the number of steps of the whole training, as it is known at `step`."""
        return self.steps if self.steps is not None else self._decision(step).last_step

    @property
    def is_measured(self) -> bool:
        """Whether the number of steps is given, or comes from a measured pace."""
        return self.steps is not None or len(self.decisions) > 1

    @property
    def planned_steps(self) -> int:
        """The number of steps that was planned at the start: given, or by the first measured pace."""
        return self.steps if self.steps is not None else self.decisions[:2][-1].last_step

    def _decision(self, step: int) -> Decision:
        return next(decision for decision in reversed(self.decisions) if decision.step <= step)

    def threads(self, step: int) -> int | None:
        """Return the number of threads of a step; None is the number with which the process began."""
        return self._decision(step).threads if self.decisions else None

    @property
    def waited_share(self) -> float:
        """The share of the time in which the training waited for the processor. It is 0 if `steps` are given."""
        last = self.decisions[-1] if self.decisions else None
        return last.waited / last.seconds if last and last.seconds > 0 else 0.0

    @property
    def was_busy(self) -> bool:
        """Whether other programs had the processor in a large part of the time."""
        return self.waited_share > _BUSY_SHARE

    def is_due(self, step: int, times: int) -> bool:
        """Tell whether the step before `step` ends one of `times` equal shares of the training."""
        after, before = (math.floor(self.share(at) * times + _ROUNDING) for at in (step, step - 1))
        return after != before


def rate_factor(share: float, *, warmup_share: float, kind: RateKind) -> float:
    """Return the factor on the learning rates at `share` (0 to 1) of the training. It begins with a linear warm-up.

    "late" is 1 and falls to 0 in the last part of the training, as 1 - sqrt(u) over the part's share u. "cosine" falls
    from the start; trainings of earlier versions use it.

    References
    ----------
    Hägele et al., "Scaling Laws and Compute-Optimal Training Beyond Fixed Training Durations", NeurIPS 2024, section 3.

    >>> [round(rate_factor(share, warmup_share=0.02, kind="late"), 3) for share in (0.01, 0.3, 0.475, 1.0)]
    [0.501, 1.0, 0.5, 0.0]
    """
    if kind == "cosine":
        factor = 0.5 * (1 + math.cos(math.pi * share))
    else:
        factor = 1 - math.sqrt(max(0.0, (share - 1) / _DECAY_SHARE + 1))
    return factor * min(1.0, share / warmup_share + 1e-3) if warmup_share else factor


class BudgetClock:
    """Measures how much of a budget a training has used, and its pace.

    Parameters
    ----------
    budget : float
        Seconds.
    used, waited : float
        Seconds that were used before this process began, and seconds of them that were spent waiting.
    threads : int
        The most threads that a step may use.
    threads_now : int, optional
        The number that it uses now, by default the most.
    clock, processor_clock : functions
        They return seconds: of the real time, and of the processor in this thread. Without a processor clock, nothing
        is known about waiting.
    """

    def __init__(
        self,
        budget: float,
        *,
        used: float = 0.0,
        waited: float = 0.0,
        threads: int = 1,
        threads_now: int | None = None,
        clock: Callable[[], float] = time.monotonic,
        processor_clock: Callable[[], float] | None = None,
    ) -> None:
        self.budget, self._clock, self._processor_clock = budget, clock, processor_clock
        self._began = clock() - used
        self._idle_began = self._idle() - waited
        self._most_threads, self._threads = threads, threads if threads_now is None else threads_now
        self._paces: dict[int, float] = {}
        self._marks: deque[tuple[int, float]] = deque()
        self._steps_here = 0
        self._interval = max(_INTERVAL_SHARE * budget, min(_LEAST_INTERVAL, 0.1 * budget))

    def _idle(self) -> float:
        return 0.0 if self._processor_clock is None else self._clock() - self._processor_clock()

    @property
    def seconds(self) -> float:
        """The part of the budget that is used now."""
        return self._clock() - self._began

    @property
    def waited(self) -> float:
        """The seconds in which other programs had the processor."""
        return max(0.0, self._idle() - self._idle_began)

    @property
    def _pace(self) -> float:
        """Seconds of a step, with the share of measurements, pictures and saves."""
        (first, began), (step, now) = self._marks[0], self._marks[-1]
        return max((now - began) / (step - first), 1e-9)

    def mark(self, step: int) -> None:
        """Note that the step before `step` has ended now."""
        self._steps_here += 1
        if self._steps_here < _WARM_STEPS:
            return
        now = self.seconds
        self._marks.append((step, now))
        while len(self._marks) > _TIMED_STEPS + 1 and self._marks[1][1] < now - _WINDOW_SHARE * self.budget:
            self._marks.popleft()

    def wants_decision(self, decisions: Sequence[Decision]) -> bool:
        """Tell whether the next decision is due now, after the last call of `mark`."""
        if len(self._marks) < 2:
            return False
        (step, now), last = self._marks[-1], decisions[-1]
        if step <= last.step:  # These steps are repeated after a kill.
            return False
        is_late = now - last.seconds >= self._interval
        return is_late or (len(decisions) == 1 and len(self._marks) > _TIMED_STEPS)

    def decide(self, decisions: Sequence[Decision]) -> Decision:
        """Decide from the pace how fast the share grows from the step of the last mark on."""
        step, seconds = self._marks[-1][0], self.seconds
        share = decisions[-1].share_at(step)
        least = max(LEAST_STEPS - step, math.ceil(_OVERTIME_SHARE * (1 - share) * step), 1)
        steps = max(least, round((self.budget - seconds) / self._pace))
        threads = self._choose_threads(decisions[-1])
        if threads != self._threads:
            self._threads, self._steps_here = threads, 0
            self._marks.clear()  # The pace with another number of threads says nothing.
        return Decision(step, share, (1 - share) / steps, seconds, self.waited, threads)

    def _choose_threads(self, last: Decision) -> int:
        """Return the number of threads of the next steps.

        The threads of a step wait for each other. On a busy machine, one of them often has no core, and all wait. So
        half as many are tried, and the faster number is kept. When the machine is quiet again, all are used.
        """
        self._paces[self._threads] = self._pace
        if self.waited - last.waited <= _BUSY_SHARE * (self.seconds - last.seconds):
            self._paces.clear()
            return self._most_threads
        fewer, more = max(self._threads // 2, 1), min(2 * self._threads, self._most_threads)
        if self._paces.get(fewer, 0.0) < self._pace:
            return fewer
        return more if self._paces.get(more, math.inf) < self._pace else self._threads

    def expected_seconds(self, steps: int) -> float:
        """Return the seconds that a training of `steps` takes in all at the present pace."""
        step, now = self._marks[-1]
        return now + self._pace * (steps - step)


def save_decisions(directory: Path, decisions: Sequence[Decision]) -> None:
    """Write the decisions of the run in `directory`."""
    write_json(directory / SCHEDULE_FILE, {"decisions": [asdict(decision) for decision in decisions]})


def load_decisions(directory: Path) -> tuple[Decision, ...]:
    """Return the decisions of the run in `directory`; none if the file is missing.

    Raises
    ------
    ValueError
        The file is damaged.
    """
    path = directory / SCHEDULE_FILE
    if not path.is_file():
        return ()
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        return tuple(Decision(**decision) for decision in document["decisions"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is damaged ({error!r}). Restore it from a copy or train again.") from error
