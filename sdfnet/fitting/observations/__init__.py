"""Kinds of observations that codes are fitted to, and the table of them: one file and one line for each."""

from sdfnet.fitting.observations.base import DistanceObservation as DistanceObservation
from sdfnet.fitting.observations.base import Observation as Observation
from sdfnet.fitting.observations.base import ObservationKind as ObservationKind
from sdfnet.fitting.observations.base import choose_similarity as choose_similarity
from sdfnet.fitting.observations.contours import CONTOURS
from sdfnet.fitting.observations.depth import DEPTH
from sdfnet.fitting.observations.grid import SDF
from sdfnet.fitting.observations.labels import LABELS
from sdfnet.fitting.observations.mesh import MESH
from sdfnet.fitting.observations.part import PartObservation as PartObservation
from sdfnet.fitting.observations.part import surface_part as surface_part
from sdfnet.fitting.observations.points import POINTS

KINDS: dict[str, ObservationKind] = {
    "mesh": MESH,
    "points": POINTS,
    "depth": DEPTH,
    "labels": LABELS,
    "contours": CONTOURS,
    "sdf": SDF,
}
"""By the word that `kind=` takes."""


def observation_kind(word: str) -> ObservationKind:
    """Return the kind of observation that `word` names, or raise ValueError.

    >>> observation_kind("labels").suffixes
    ('.nii', '.nii.gz', '.nrrd', '.npy')
    """
    if word not in KINDS:
        raise ValueError(f"kind must be one of auto, {', '.join(KINDS)}, got {word!r}")
    return KINDS[word]
