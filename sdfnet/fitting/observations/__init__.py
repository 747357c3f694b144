"""Kinds of observations that codes are fitted to, and the table of them: one file and one line for each."""

from sdfnet.fitting.observations.base import DistanceObservation as DistanceObservation
from sdfnet.fitting.observations.base import Observation as Observation
from sdfnet.fitting.observations.base import ObservationKind as ObservationKind
from sdfnet.fitting.observations.base import choose_similarity as choose_similarity
from sdfnet.fitting.observations.mesh import MESH

KINDS: dict[str, ObservationKind] = {"mesh": MESH}
"""By the word that `kind=` takes."""


def observation_kind(word: str) -> ObservationKind:
    """Return the kind of observation that `word` names, or raise ValueError.

    >>> sorted(observation_kind("mesh").find("chairs"))[:2]
    ['chair_00', 'chair_01']
    """
    if word not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}, got {word!r}")
    return KINDS[word]
