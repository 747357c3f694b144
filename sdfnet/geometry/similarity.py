"""The invertible map between the world frame (a mesh file's own units) and the unit frame (the network's)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sdfnet.geometry.bounds import Bounds

UNIT_RADIUS = 1 / 1.03
"""Distance of the farthest vertex from the origin in the unit frame (DeepSDF's normalisation, Park et al. 2019)."""


@dataclass(frozen=True, eq=False)
class Similarity:
    """A uniform scale and shift: `points_unit = (points_world - center) * scale`. It always computes in float64.

    Attributes
    ----------
    center : (3,) float64, world frame
    scale : float
        Length in the unit frame per length in the world frame, positive.

    >>> similarity = Similarity([10, 0, 0], 0.5)
    >>> similarity.to_unit(np.array([[12.0, 0, 0]])).tolist()
    [[1.0, 0.0, 0.0]]
    """

    center: NDArray[np.float64]
    scale: float

    def __init__(self, center: ArrayLike, scale: float) -> None:
        center_3 = np.array(center, dtype=np.float64)
        if center_3.shape != (3,) or not np.isfinite(center_3).all():
            raise ValueError(f"center must be three finite numbers, got {center!r}")
        if not (math.isfinite(scale) and scale > 0):
            raise ValueError(f"scale must be positive and finite, got {scale}")
        center_3.flags.writeable = False
        object.__setattr__(self, "center", center_3)
        object.__setattr__(self, "scale", float(scale))

    @classmethod
    def identity(cls) -> Similarity:
        return cls([0.0, 0.0, 0.0], 1.0)

    @classmethod
    def normalizing(cls, vertices: NDArray[np.floating]) -> Similarity:
        """Return the map that centres the box of `vertices` (V, 3) and moves the farthest vertex to UNIT_RADIUS."""
        vertices_64 = np.asarray(vertices, dtype=np.float64)
        center = Bounds.of(vertices_64).center
        radius = float(np.linalg.norm(vertices_64 - center, axis=1).max())
        if radius <= 0:
            raise ValueError("cannot normalise a mesh of zero extent")
        return cls(center, UNIT_RADIUS / radius)

    def to_unit(self, points_world: NDArray[np.floating]) -> NDArray[np.float64]:
        return (np.asarray(points_world, dtype=np.float64) - self.center) * self.scale

    def to_world(self, points_unit: NDArray[np.floating]) -> NDArray[np.float64]:
        return np.asarray(points_unit, dtype=np.float64) / self.scale + self.center

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON document that `from_dict` reads back exactly."""
        return {"center": self.center.tolist(), "scale": self.scale}

    @classmethod
    def from_dict(cls, document: dict[str, Any]) -> Similarity:
        return cls(document["center"], document["scale"])
