"""A camera that circles a target, and a function that fits a camera to shapes.

Cameras are in the frame of the meshes, float64. Angles are degrees. At azimuth 0 the camera looks at the front: from +z
if y is up, from -y if z is up, as in modelling programs. Azimuth increases when the camera moves to its right,
elevation when it moves up.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sdfnet.geometry.arrays import Float32Array, FloatArray
from sdfnet.geometry.bounds import Bounds
from sdfnet.mesh.mesh import Mesh, drop_unreferenced_vertices

UpAxis = Literal["x", "y", "z"]

# Rows: right, up and back of a camera at azimuth 0 and elevation 0.
_FRONT: dict[str, list[list[float]]] = {
    "x": [[0, 1, 0], [1, 0, 0], [0, 0, -1]],
    "y": [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
    "z": [[1, 0, 0], [0, 0, 1], [0, -1, 0]],
}


_MARGIN = 0.08  # share of half the picture that a fitted camera leaves free


@dataclass(frozen=True, eq=False)
class Camera:
    """A perspective camera.

    Attributes
    ----------
    target : (3,) float64
        The point in the middle of the picture.
    field_of_view : float
        Degrees across the shorter side of the picture, in (0, 180).
    ground : float or None
        Height along the up axis of the floor that takes the shadow; None for no floor.

    >>> fit_camera(Bounds([-1, -1, -1], [1, 1, 1])).turned(90).azimuth
    90.0
    """

    target: FloatArray
    distance: float
    _: KW_ONLY
    azimuth: float = 30.0
    elevation: float = 20.0
    up_axis: UpAxis = "y"
    field_of_view: float = 30.0
    ground: float | None = None

    def __post_init__(self) -> None:
        target = np.array(self.target, dtype=np.float64)
        if target.shape != (3,) or not np.isfinite(target).all():
            raise ValueError(f"target must be three finite numbers, got {self.target!r}")
        if not (math.isfinite(self.distance) and self.distance > 0):
            raise ValueError(f"distance must be positive and finite, got {self.distance}")
        if not math.isfinite(self.azimuth):
            raise ValueError(f"azimuth must be finite, got {self.azimuth}")
        if not -90 <= self.elevation <= 90:
            raise ValueError(f"elevation must be in [-90, 90] degrees, got {self.elevation}")
        if self.up_axis not in _FRONT:
            raise ValueError(f"up_axis must be x, y or z, got {self.up_axis!r}")
        if not 0 < self.field_of_view < 180:
            raise ValueError(f"field_of_view must be between 0 and 180 degrees, got {self.field_of_view}")
        object.__setattr__(self, "target", target)
        for name in ("distance", "azimuth", "elevation", "field_of_view", "ground"):
            value = getattr(self, name)
            object.__setattr__(self, name, None if value is None else float(value))

    @property
    def axes(self) -> FloatArray:
        """Unit vectors to the right, up and back (away from what is seen), as rows, (3, 3)."""
        return camera_axes(self.azimuth, self.elevation, self.up_axis)

    @property
    def position(self) -> FloatArray:
        return self.target + self.distance * self.axes[2]

    def turned(self, azimuth: float) -> Camera:
        """Return the same camera at another azimuth."""
        return replace(self, azimuth=azimuth)

    def slopes(self, size: tuple[int, int]) -> FloatArray:
        """Return the tangents of half the angles across the width and the height of a picture of `size`, (2,)."""
        return math.tan(math.radians(self.field_of_view) / 2) * np.array(size, dtype=np.float64) / min(size)


def camera_axes(azimuth: float, elevation: float, up_axis: UpAxis) -> FloatArray:
    """Return the unit vectors right, up and back of a camera as rows, (3, 3), a rotation.

    >>> camera_axes(90, 0, "y").round().tolist()
    [[0.0, 0.0, -1.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]]
    """
    right, up, back = np.array(_FRONT[up_axis], dtype=np.float64)
    turn, lift = math.radians(azimuth), math.radians(elevation)
    level = math.cos(turn) * back + math.sin(turn) * right
    sideways = math.cos(turn) * right - math.sin(turn) * back
    toward = math.cos(lift) * level + math.sin(lift) * up
    upward = math.cos(lift) * up - math.sin(lift) * level
    return np.stack([sideways, upward, toward])


def pixel_directions(
    camera: Camera, size: tuple[int, int], rows: NDArray[np.floating], columns: NDArray[np.floating]
) -> Float32Array:
    """Return the directions (..., 3) of the rays through fractional pixel positions, with length 1 along the view.

    `rows` and `columns` broadcast.
    """
    slopes = camera.slopes(size)
    right, up, back = camera.axes.astype(np.float32)
    across = ((2 * (columns + 0.5) / size[0] - 1) * slopes[0]).astype(np.float32)
    down = ((1 - 2 * (rows + 0.5) / size[1]) * slopes[1]).astype(np.float32)
    return across[..., None] * right + down[..., None] * up - back


def fit_camera(
    shapes: Mesh | Bounds | Sequence[Mesh | Bounds],
    *,
    size: tuple[int, int] = (640, 480),
    azimuth: float = 30.0,
    elevation: float = 20.0,
    up_axis: UpAxis = "y",
    turntable: bool = False,
) -> Camera:
    """Return the closest camera that sees all of `shapes`, centred, with a margin of 8 % on every side.

    Meshes are fitted exactly, boxes by their corners. For a steady camera, give all shapes of a film at once. The
    ground lies under the lowest of them.

    Parameters
    ----------
    size : tuple of int
        Width and height of the picture in pixels.
    turntable : bool
        Whether to stand so far from the middle of the shapes that the camera sees all of them at every azimuth.

    Raises
    ------
    ValueError
        No shapes, an empty mesh, infinite bounds, or shapes of no extent.

    >>> camera = fit_camera(Bounds.cube(1.0), azimuth=0, elevation=0)
    >>> round(camera.distance, 3), camera.ground  # the near face, 1 away from the target, fills 92 % of the height
    (5.057, -1.0)
    """
    camera = Camera(np.zeros(3), 1.0, azimuth=azimuth, elevation=elevation, up_axis=up_axis)
    points = _points_to_fit(shapes)
    bounds = Bounds.of(points)
    radius = float(np.linalg.norm(points - bounds.center, axis=1).max())
    if radius <= 0:
        raise ValueError("cannot fit a camera to shapes of no extent")
    slope = camera.slopes(size) * (1 - _MARGIN)
    target, distance = bounds.center, 0.0
    if turntable:
        for turn in range(0, 360, 10):
            local = (points - target) @ camera_axes(turn, elevation, up_axis).T
            distance = max(distance, float((np.abs(local[:, :2]) / slope + local[:, 2:]).max()))
    else:
        local = (points - target) @ camera.axes.T
        distance = max(_least_distance(local[:, axis], local[:, 2], slope[axis]) for axis in range(2))
        shift = [_centred_shift(local[:, axis], local[:, 2], distance) for axis in range(2)]
        target = target + np.array(shift) @ camera.axes[:2]
    ground = float(bounds.lower["xyz".index(up_axis)])
    return replace(camera, target=target, distance=max(distance, 1e-3 * radius), ground=ground)


def _least_distance(across: FloatArray, back: FloatArray, slope: float) -> float:
    """Return the least distance at which some shift has |across - shift| <= (distance - back) * slope at all points."""
    return float((across + back * slope).max() + (-across + back * slope).max()) / (2 * slope)


def _centred_shift(across: FloatArray, back: FloatArray, distance: float) -> float:
    """Return the shift at which both sides have the same free room at this `distance`, by bisection."""
    low, high = float(across.min()), float(across.max())
    depth = np.maximum(distance - back, 1e-12 * distance)
    for _ in range(48):
        middle = (low + high) / 2
        slopes = (across - middle) / depth
        low, high = (middle, high) if slopes.max() > -slopes.min() else (low, middle)
    return (low + high) / 2


def _points_to_fit(shapes: Mesh | Bounds | Sequence[Mesh | Bounds]) -> FloatArray:
    listed = [shapes] if isinstance(shapes, Mesh | Bounds) else list(shapes)
    if not listed:
        raise ValueError("cannot fit a camera to no shapes; give at least one mesh or box")
    parts = []
    for shape in listed:
        if isinstance(shape, Bounds):
            if not shape.is_finite:
                raise ValueError("cannot fit a camera to infinite bounds; give a finite box")
            corners = np.stack(np.meshgrid(*zip(shape.lower, shape.upper, strict=True)), axis=-1)
            parts.append(corners.reshape(-1, 3))
        else:
            if not len(shape.faces):
                raise ValueError(f"cannot fit a camera to a mesh without faces ({len(shape.vertices)} vertices)")
            parts.append(drop_unreferenced_vertices(shape).vertices)
    return np.concatenate(parts)
