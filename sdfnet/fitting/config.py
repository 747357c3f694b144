"""Options of fitting, apart from the code that uses them: `sdfnet fit --help` reads them and needs no torch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from sdfnet.geometry.bounds import check_resolution
from sdfnet.mesh.io.formats import WritableFormat, check_format_names
from sdfnet.solids.limits import LIMITS, MeshLimits
from sdfnet.solids.rule import SolidChoice


@dataclass(frozen=True)
class FitConfig:
    """How codes are fitted.

    Attributes
    ----------
    steps : int
        Optimiser steps; the rate falls to 0 along a cosine. More than the default gave nothing.
    batch_points : int
        Points per shape and step.
    num_starts : int
        The mean code and the learned codes that fit best; after a fifth of the steps the best of them goes on.
    learning_rate : float or None
        Peak rate; None takes an eighth of the typical distance of a learned code from the mean code.
    prior_weight : float
        Weight of the squared length of the code (DeepSDF's 1 / sigma²); more keeps a shape nearer to the family.
    seed : int
        Of the order of the points, and of which learned codes are tried where there are very many.

    >>> FitConfig(steps=100).num_starts
    4
    """

    steps: int = 600
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
    mesh_seconds : float
        Seconds that reading one mesh and making its solid may take, above 0. A mesh that needs longer is refused.
    mesh_gigabytes : float or None
        Memory that this may take, in gigabytes, above 0; None is four fifths of the machine's.
    resolution : int
        Samples along each axis of the lattice on [-1.05, 1.05]³ of the unit frame, at least 8.
    format : list
        Mesh formats; one file of each is written.

    >>> MeshFitConfig(resolution=256).format
    ('obj',)
    """

    num_samples: int = 100_000
    solid: SolidChoice | None = None
    thickness: float | None = None
    gap: float | None = None
    mesh_seconds: float = LIMITS.mesh_seconds
    mesh_gigabytes: float | None = None
    resolution: int = 128
    format: tuple[WritableFormat, ...] = ("obj",)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_resolution(self.resolution, least=8)
        if self.num_samples < 1:
            raise ValueError(f"num_samples must be at least 1, got {self.num_samples}")
        for name in ("thickness", "gap"):
            width = getattr(self, name)
            if width is not None and not 0 < width < math.inf:
                raise ValueError(f"{name} must be above 0 or null, got {width}")
        MeshLimits(self.mesh_seconds, self.mesh_gigabytes)
        check_format_names(self.format)

    @property
    def limits(self) -> MeshLimits:
        """What the reading of one mesh may take."""
        return MeshLimits(self.mesh_seconds, self.mesh_gigabytes)


@dataclass(frozen=True)
class ObserveConfig:
    """How input files are read. A key that the kind of the input does not use is refused.

    Attributes
    ----------
    noise_std : float or None
        Standard deviation of the observed surface, in the input's units; None estimates it.
    sensor : list or None
        Where the scanner of a point cloud stood, x, y, z: the space between it and each point is empty.
    label : list or None
        Labels of a volume that are the solid, together; None takes every label above 0.
    axis : 0, 1 or 2
        The index axis of a volume along which slices are chosen.
    every, start : int
        Only slices start, start + every, … of a volume are used.
    spacing : list or None
        Distance between samples along each axis of a .npy file, in world units.

    >>> ObserveConfig(axis=1, every=4).start
    0
    """

    noise_std: float | None = None
    sensor: tuple[float, float, float] | None = None
    label: tuple[int, ...] | None = None
    axis: Literal[0, 1, 2] = 0
    every: int = 1
    start: int = 0
    spacing: tuple[float, float, float] | None = None

    def __post_init__(self) -> None:
        if self.noise_std is not None and not 0 < self.noise_std < math.inf:
            raise ValueError(f"noise_std must be above 0 or null, got {self.noise_std}")
        if self.axis not in (0, 1, 2):
            raise ValueError(f"axis must be 0, 1 or 2, got {self.axis}")
        if self.every < 1 or self.start < 0:
            raise ValueError(f"every must be 1 or more and start 0 or more, got {self.every} and {self.start}")
        if self.spacing is not None and not all(0 < each < math.inf for each in self.spacing):
            raise ValueError(f"spacing must be three numbers above 0, got {list(self.spacing)}")
        if self.sensor is not None and not all(map(math.isfinite, self.sensor)):
            raise ValueError(f"sensor must be three finite numbers, got {list(self.sensor)}")


Align = Literal["none", "yaw", "rigid", "similarity"]


@dataclass(frozen=True)
class CompletionConfig:
    """How a part is placed and completed.

    Attributes
    ----------
    align : none, yaw, rigid or similarity
        How it may be moved onto the family; yaw turns about up_axis only.
    up_axis : x, y or z
        The axis of align=yaw.
    frame_of : text or None
        The learned shape in whose frame the input lies, for align=none; None is the frame that all shapes share.
    symmetry : auto, none, x, y or z
        The axis along which shapes mirror themselves; auto finds it.
    refine : code or shape
        shape: a grid of residuals follows the input where it is, beyond what a code can show.
    hypotheses : int
        Different shapes that agree with the input, ranked by probability; 1 writes only the most likely one.
    calibrate : bool
        Whether to scale the spread so that the 90 % bands hold on shapes that the run has not learned.
    calibrate_with : path
        A folder of whole meshes for the calibration; null takes the shapes that the training held out.

    >>> CompletionConfig("yaw").up_axis
    'y'
    """

    align: Align = "similarity"
    up_axis: Literal["x", "y", "z"] = "y"
    frame_of: str | None = None
    symmetry: Literal["auto", "none", "x", "y", "z"] = "auto"
    refine: Literal["code", "shape"] = "code"
    hypotheses: int = 1
    calibrate: bool = False
    calibrate_with: Path | None = None

    def __post_init__(self) -> None:
        if self.align not in get_args(Align):
            raise ValueError(f"align must be one of {', '.join(get_args(Align))}, got {self.align!r}")
        if self.up_axis not in ("x", "y", "z"):
            raise ValueError(f"up_axis must be x, y or z, got {self.up_axis!r}")
        if self.symmetry not in ("auto", "none", "x", "y", "z"):
            raise ValueError(f"symmetry must be auto, none, x, y or z, got {self.symmetry!r}")
        if self.refine not in ("code", "shape"):
            raise ValueError(f"refine must be code or shape, got {self.refine!r}")
        if not 1 <= self.hypotheses <= 64:
            raise ValueError(f"hypotheses must be from 1 to 64, got {self.hypotheses}")
        if self.calibrate_with is not None and not self.calibrate:
            raise ValueError(f"calibrate_with={self.calibrate_with} needs calibrate=true")
        if self.frame_of is not None and self.align != "none":
            raise ValueError(f"frame_of={self.frame_of} needs align=none, got align={self.align}")
