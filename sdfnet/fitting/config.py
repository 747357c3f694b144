"""Options of fitting, apart from the code that uses them: `sdfnet fit --help` reads them and needs no torch."""

from __future__ import annotations

import math
from dataclasses import dataclass

from sdfnet.geometry.bounds import check_resolution
from sdfnet.mesh.io.formats import WritableFormat, check_format_names
from sdfnet.solids.rule import SolidChoice


@dataclass(frozen=True)
class FitConfig:
    """How codes are fitted.

    Attributes
    ----------
    steps : int
        Optimiser steps; the rate falls to 0 along a cosine.
    batch_points : int
        Points per shape and step.
    num_starts : int
        The mean code and the learned codes that fit best; after a fifth of the steps the best of them goes on.
    learning_rate : float or None
        Peak rate; None takes 0.3 of the spread of the learned codes.
    prior_weight : float
        Weight of the squared length of the code (DeepSDF's 1 / sigma²); more keeps a shape nearer to the family.
    seed : int
        Of the order of the points, and of which learned codes are tried where there are very many.

    >>> FitConfig(steps=100).num_starts
    4
    """

    steps: int = 300
    batch_points: int = 2048
    num_starts: int = 4
    learning_rate: float | None = None
    prior_weight: float = 1e-4
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "batch_points", "num_starts"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.learning_rate is not None and not 0 < self.learning_rate < math.inf:
            raise ValueError(f"learning_rate must be positive and finite, or null, got {self.learning_rate}")
        for name in ("prior_weight", "seed"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be 0 or more, got {getattr(self, name)}")


@dataclass(frozen=True)
class MeshFitConfig(FitConfig):
    """How meshes are sampled, fitted, extracted and measured.

    Attributes
    ----------
    num_samples : int
        Points with signed distances drawn from each mesh, spread as those that the run was trained on.
    solid : auto, winding, outer or None
        What the inside of a mesh is (see `SolidRule`); None takes the run's choice.
    thickness, gap : float or None
        The widths of that choice, above 0, in the meshes' own units; None takes the run's.
    resolution : int
        Samples along each axis of the lattice on [-1.05, 1.05]³ of the unit frame, at least 8.
    format : list
        Mesh formats; one file of each is written.
    kind : text
        What the input files are: mesh, or another word of the table KINDS in sdfnet.fitting.observations.

    >>> MeshFitConfig(resolution=256).kind
    'mesh'
    """

    num_samples: int = 100_000
    solid: SolidChoice | None = None
    thickness: float | None = None
    gap: float | None = None
    resolution: int = 128
    format: tuple[WritableFormat, ...] = ("obj",)
    kind: str = "mesh"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_resolution(self.resolution, least=8)
        if self.num_samples < 1:
            raise ValueError(f"num_samples must be at least 1, got {self.num_samples}")
        for name in ("thickness", "gap"):
            width = getattr(self, name)
            if width is not None and not 0 < width < math.inf:
                raise ValueError(f"{name} must be above 0 or null, got {width}")
        check_format_names(self.format)
