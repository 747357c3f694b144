"""What `sdfnet space` measures and draws."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sdfnet.geometry.bounds import check_resolution
from sdfnet.rendering.renderer import Backend


@dataclass(frozen=True)
class SpaceConfig:
    """What `sdfnet space` measures and draws.

    >>> SpaceConfig(num_modes=3).resolution
    96
    """

    num_modes: int = 4
    """Principal components that are drawn, from -2 to 2 standard deviations, 0 to 20."""
    resolution: int = 96
    """Of the extraction for pictures and distances: samples along each axis of the lattice, 16 to 4096."""
    num_neighbours: int = 3
    """Nearest neighbours that are listed for each shape, 1 or more."""
    num_shapes: int = 0
    """New shapes that are drawn from the family and written into new/ as a run with meshes, 0 or more."""
    novelty: float | None = None
    """How far a new shape is from the learned one that it starts from, up to 1; null: as far as shapes stay whole."""
    attributes: Path | None = None
    """A CSV table of numbers or classes, a row for each shape; null: no attributes."""
    columns: tuple[str, ...] = ()
    """Columns of the table to use; empty takes all."""
    groups: tuple[str, ...] = ()
    """Columns whose groups are compared: classes, or numbers split at the median; empty takes all classes."""
    num_permutations: int = 1000
    """Random divisions of a comparison of groups, 19 or more; the smallest p-value is 1 over one more."""
    num_tests: int = 10
    """Shapes for generalization and specificity, 2 or more; 0 leaves both out, because they take most of the time."""
    up_axis: Literal["x", "y", "z"] = "y"
    """The axis of the meshes that points up in the pictures."""
    azimuth: float = 30.0
    """Of the camera, degrees."""
    elevation: float = 20.0
    """Of the camera, degrees."""
    backend: Backend = "auto"
    """gl (pyrender), rays (on the CPU), or auto: gl where it works."""
    seed: int = 0
    """Fixes all randomness, 0 or more."""

    def __post_init__(self) -> None:
        check_resolution(self.resolution, least=16)
        if not 0 <= self.num_modes <= 20:
            raise ValueError(f"num_modes must be from 0 to 20, got {self.num_modes}")
        if self.num_neighbours < 1:
            raise ValueError(f"num_neighbours must be 1 or more, got {self.num_neighbours}")
        if self.num_tests < 0 or self.num_tests == 1:
            raise ValueError(f"num_tests must be 0, or 2 or more, got {self.num_tests}")
        if self.num_shapes < 0:
            raise ValueError(f"num_shapes must be 0 or more, got {self.num_shapes}")
        if self.novelty is not None and not 0 < self.novelty <= 1:
            raise ValueError(f"novelty must be above 0 and at most 1, got {self.novelty}")
        if self.attributes is None and (self.columns or self.groups):
            raise ValueError("columns and groups need attributes=FILE.csv")
        if self.num_permutations < 19:
            raise ValueError(f"num_permutations must be 19 or more, got {self.num_permutations}")
        if self.seed < 0:
            raise ValueError(f"seed must be 0 or more, got {self.seed}")
