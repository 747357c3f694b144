"""Changes of the topology of a moving surface, as lattices show them: which are one, and which the lattice's own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from sdfnet.surfacing.euler import LevelTopology

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
