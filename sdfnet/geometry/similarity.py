"""The invertible map between the world frame (a mesh file's own units) and the unit frame (the network's)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sdfnet.geometry.bounds import Bounds

UNIT_RADIUS = 1 / 1.03
"""Distance of the farthest vertex from the origin in the unit frame (DeepSDF's normalisation, Park et al. 2019)."""


@dataclass(frozen=True, eq=False)
class Similarity:
    """A rotation, uniform scale and shift: `points_unit = rotation @ (points_world - center) * scale`, in float64.

    Attributes
    ----------
    center : (3,) float64, world frame
    scale : float
        Length in the unit frame per length in the world frame, positive.
    rotation : (3, 3) float64 or None
        From world directions to unit directions, determinant 1. None is no rotation, as normalisation gives.

    >>> similarity = Similarity([10, 0, 0], 0.5)
    >>> similarity.to_unit(np.array([[12.0, 0, 0]])).tolist()
    [[1.0, 0.0, 0.0]]
    """

    center: NDArray[np.float64]
    scale: float
    rotation: NDArray[np.float64] | None = None

    def __init__(self, center: ArrayLike, scale: float, rotation: ArrayLike | None = None) -> None:
        center_3 = np.array(center, dtype=np.float64)
        if center_3.shape != (3,) or not np.isfinite(center_3).all():
            raise ValueError(f"center must be three finite numbers, got {center!r}")
        if not (math.isfinite(scale) and scale > 0):
            raise ValueError(f"scale must be positive and finite, got {scale}")
        center_3.flags.writeable = False
        object.__setattr__(self, "center", center_3)
        object.__setattr__(self, "scale", float(scale))
        object.__setattr__(self, "rotation", None if rotation is None else _checked_rotation(rotation))

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
        moved = np.asarray(points_world, dtype=np.float64) - self.center
        return (moved if self.rotation is None else moved @ self.rotation.T) * self.scale

    def to_world(self, points_unit: NDArray[np.floating]) -> NDArray[np.float64]:
        scaled = np.asarray(points_unit, dtype=np.float64) / self.scale
        return (scaled if self.rotation is None else scaled @ self.rotation) + self.center

    def directions_to_unit(self, directions: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return world directions (..., 3), such as normals, in the unit frame, with the same lengths."""
        vectors = np.asarray(directions, dtype=np.float64)
        return vectors if self.rotation is None else np.asarray(vectors @ self.rotation.T)

    def directions_to_world(self, directions: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return unit-frame directions (..., 3) in the world, with the same lengths."""
        vectors = np.asarray(directions, dtype=np.float64)
        return vectors if self.rotation is None else np.asarray(vectors @ self.rotation)

    def then(self, rotation: NDArray[np.floating], scale: float, shift: NDArray[np.floating]) -> Similarity:
        """Return the similarity whose result is `scale * rotation @ (result of this one) + shift`, unit frame.

        >>> Similarity([1, 0, 0], 2.0).then(np.eye(3), 0.5, np.array([0.0, 0, 1])).to_unit(np.zeros(3)).tolist()
        [-1.0, 0.0, 1.0]
        """
        turned = rotation if self.rotation is None else rotation @ self.rotation
        whole = scale * self.scale
        return Similarity(self.center - np.asarray(shift) @ turned / whole, whole, turned)

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON document that `from_dict` reads back exactly."""
        document = {"center": self.center.tolist(), "scale": self.scale}
        return document if self.rotation is None else document | {"rotation": self.rotation.tolist()}

    @classmethod
    def from_dict(cls, document: dict[str, Any]) -> Similarity:
        return cls(document["center"], document["scale"], document.get("rotation"))


def _checked_rotation(rotation: ArrayLike) -> NDArray[np.float64]:
    rotation_33 = np.array(rotation, dtype=np.float64)
    if rotation_33.shape != (3, 3) or not np.allclose(rotation_33 @ rotation_33.T, np.eye(3), atol=1e-6):
        raise ValueError(f"rotation must be a matrix (3, 3) with orthonormal rows, got {rotation_33.tolist()}")
    if np.linalg.det(rotation_33) < 0:
        raise ValueError(f"rotation must not reflect, got the determinant {np.linalg.det(rotation_33):.3g}")
    rotation_33.flags.writeable = False
    return rotation_33


def rotation_vectors(similarities: Sequence[Similarity]) -> NDArray[np.float64]:
    """Return the rotations of `similarities` relative to the first one, as rotation vectors (B, 3) in radians.

    >>> rotation_vectors([Similarity.identity(), Similarity([0, 0, 0], 2.0)]).tolist()
    [[0.0, 0.0, 0.0], [0.0, 0.0, 0.0]]
    """
    if all(each.rotation is None for each in similarities):
        return np.zeros((len(similarities), 3))
    turns = np.stack([np.eye(3) if each.rotation is None else each.rotation for each in similarities])
    from scipy.spatial.transform import Rotation  # Here, because training from samples starts without scipy.

    return np.asarray(Rotation.from_matrix(turns @ turns[0].T).as_rotvec())


def turned(rotation: NDArray[np.float64] | None, turn: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """Return `rotation` followed by the rotation vector `turn` (3,); None where neither turns.

    >>> turned(None, np.zeros(3)) is None
    True
    """
    if rotation is None and not turn.any():
        return None
    from scipy.spatial.transform import Rotation

    return np.asarray(Rotation.from_rotvec(turn).as_matrix()) @ (np.eye(3) if rotation is None else rotation)
