"""The interface of all kinds of observations: the data on a new shape to which its code is fitted.

A new kind is one file beside this one, and one line of the table in `__init__.py`. The file has a function that reads
an input file into a `PartObservation` (`part.py`), and an `ObservationKind` that names it. A whole mesh is an
`Observation` instead: its frame is that of the training, and only its code is unknown.
"""

from __future__ import annotations

import abc
import dataclasses
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from sdfnet.evaluation.closest_points import Surface
from sdfnet.fitting.config import MeshFitConfig, ObserveConfig
from sdfnet.fitting.observations.part import PartObservation
from sdfnet.geometry.bounds import LATTICE_MARGIN
from sdfnet.geometry.similarity import Similarity
from sdfnet.runs import Run, RunShape
from sdfnet.training.losses import clamped_residual


class Observation(abc.ABC):
    """The observed data of one shape. Descent on `misfit` fits the code to `rows`.

    Attributes
    ----------
    rows : (N, W) floating
        One row for each observed point: x, y, z in the unit frame, then the columns that `misfit` needs. In any order:
        `fit_codes` shuffles them.
    shape : RunShape or None
        Name, source and similarity with which the fitted shape joins the run; None where only the code is wanted.
    reference : Surface or None
        The surface that the result is measured against, unit frame; None where the whole shape is not known.
    notes : tuple of str
        What a reader must know about the input.

    >>> issubclass(DistanceObservation, Observation)
    True
    """

    rows: Tensor
    shape: RunShape | None
    reference: Surface | None
    notes: tuple[str, ...]

    @abc.abstractmethod
    def misfit(self, sdf_pred: Tensor, rows: Tensor, *, clamp_distance: float) -> Tensor:
        """Return the misfit of predictions (N,) at some of the rows (N, W): a scalar, differentiable by `sdf_pred`.

        Where the true distance is beyond `clamp_distance`, the prediction must only be beyond it too, as in training.
        """


@dataclass(frozen=True, eq=False)
class DistanceObservation(Observation):
    """Points with signed distances, (N, 4) rows of x, y, z and distance. The misfit is DeepSDF's clamped difference.

    Raises
    ------
    ValueError
        Rows of another shape, none, or some that are not finite.

    >>> import torch
    >>> points = torch.tensor([[0.0, 0.0, 0.7, 0.1], [0.0, 0.6, 0.0, 0.0]])  # x, y, z and the distance
    >>> observation = DistanceObservation(points)
    >>> round(float(observation.misfit(torch.zeros(2), points, clamp_distance=0.05)), 3)  # 0.1 counts as 0.05
    0.025
    """

    rows: Tensor
    shape: RunShape | None = None
    reference: Surface | None = None
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.rows.ndim != 2 or self.rows.shape[1] != 4 or not len(self.rows):
            raise ValueError(f"rows must have shape (N, 4), got {tuple(self.rows.shape)}")
        if not self.rows.isfinite().all():
            raise ValueError(f"rows must be finite, got {int((~self.rows.isfinite()).sum())} numbers that are not")

    def misfit(self, sdf_pred: Tensor, rows: Tensor, *, clamp_distance: float) -> Tensor:
        return clamped_residual(sdf_pred, rows[:, 3], clamp_distance=clamp_distance).abs().mean()


def choose_similarity(run: Run, points_world: NDArray[np.floating], *, alone: Similarity | None = None) -> Similarity:
    """Return the similarity from the world to the unit frame for a shape with the known points `points_world` (N, 3).

    It is the one that training would give the shape. Where the run's shapes share one (`normalize=shared`), it is that.
    Otherwise it is `alone`, or else the map that centres the points' box and brings the farthest to the unit radius.

    Raises
    ------
    ValueError
        The points lie outside the unit frame that the run's shapes share.

    >>> from sdfnet.runs import load_run
    >>> similarity = choose_similarity(load_run("runs/chairs"), np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 8.0]]))
    >>> similarity.to_unit(np.array([0.0, 0.0, 4.0])).tolist()
    [0.0, 0.0, 0.0]
    """
    if run.document.get("config", {}).get("normalize") != "shared":
        return alone or Similarity.normalizing(points_world)
    similarity = run.shapes[0].similarity
    reach = float(np.abs(similarity.to_unit(points_world)).max())
    if reach > 1 + LATTICE_MARGIN:
        raise ValueError(
            f"it reaches to {reach:.3g} in the unit frame that the run's shapes share, which ends at "
            f"{1 + LATTICE_MARGIN:g}. Is it in the same units and place as the meshes of the training?"
        )
    return similarity


@dataclass(frozen=True)
class ObservationKind:
    """One kind of input of `sdfnet fit`.

    Attributes
    ----------
    suffixes : tuple of str
        Of its files, in lower case, with their dots.
    read_part : function
        Takes a file and the options; returns what the file says of a part of a shape. Raises ValueError or OSError if
        the file cannot be used; the message goes to the user. Its `content_hash` is `hash_file(path, config)`.
    read_whole : function or None
        For a kind that can show a whole shape: takes a run, the name of the shape, its file and the options; returns an
        observation in the frame that training would give the shape.
    hash_whole : function or None
        From a file and the shape of an earlier fit, to the `content_hash` that `read_whole` would put into the shape.

    >>> from sdfnet.fitting.observations import KINDS
    >>> KINDS["points"].suffixes[0]
    '.ply'
    """

    suffixes: tuple[str, ...]
    read_part: Callable[[Path, ObserveConfig], PartObservation]
    read_whole: Callable[[Run, str, Path, MeshFitConfig], Observation] | None = None
    hash_whole: Callable[[Path, RunShape], str] | None = None


def hash_file(path: Path, config: ObserveConfig) -> str:
    """Return a hash of an input and of the options that read it: where it changes, the input is fitted again.

    The files of a folder count together, and so does a JSON file beside an image of the same name.

    >>> from sdfnet.fitting.config import ObserveConfig
    >>> _ = Path("five.xyz").write_text("1 2 3")
    >>> hash_file(Path("five.xyz"), ObserveConfig()) == hash_file(Path("five.xyz"), ObserveConfig(every=2))
    False
    """
    files = sorted(each for each in path.iterdir() if each.is_file()) if path.is_dir() else [path]
    beside = path.with_suffix(".json")
    digest = hashlib.sha256(json.dumps(dataclasses.asdict(config), sort_keys=True).encode())
    for file in [*files, *([beside] if beside != path and beside.is_file() else [])]:
        digest.update(file.name.encode())
        digest.update(file.read_bytes())
    return digest.hexdigest()
