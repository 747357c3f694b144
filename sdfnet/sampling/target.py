"""One shape as the mixture sees it: how to measure points, and how to draw them on its surface and at its features.

Here closed meshes, open meshes and thickened sheets part; the mixture treats them alike.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sdfnet.geometry.distance import MeshDistance, at_sign_jump
from sdfnet.geometry.loading import SourceShape
from sdfnet.geometry.mesh import Mesh
from sdfnet.geometry.similarity import Similarity
from sdfnet.sampling.features import sample_features
from sdfnet.sampling.samplers import SurfaceSamples, sample_near_surface, sample_surface
from sdfnet.sampling.sheets import sample_sheet_surface


@dataclass(frozen=True, eq=False)
class Target:
    """What the mixture needs to know of one shape, unit frame.

    Attributes
    ----------
    measure
        From points (N, 3) to their signed distances (N,) and whether each may be used (N,).
    draw_surface
        From a number of points to that many on the surface.
    draw_features
        From a number of points and a standard deviation to that many about curved places and in thin parts.
    """

    measure: Callable[[NDArray[np.float64]], tuple[NDArray[np.float64], NDArray[np.bool_]]]
    draw_surface: Callable[[int], SurfaceSamples]
    draw_features: Callable[[int, float], Tensor]


def target_of(shape: SourceShape, similarity: Similarity, generator: torch.Generator) -> Target:
    """Build the search trees of `shape`; everything random is drawn from `generator`."""
    mesh = shape.mesh.to_unit(similarity)
    distance = MeshDistance(mesh)
    if shape.thickness is not None:
        return _sheet_target(mesh, distance, shape.thickness * similarity.scale, generator)

    def measure_closed(points: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        return distance(points).sdf, np.ones(len(points), dtype=bool)

    def measure_open(points: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        found = distance(points)
        return found.sdf, ~at_sign_jump(found)

    return Target(
        measure_closed if shape.closed else measure_open,
        lambda num: sample_surface(mesh, num, generator=generator),
        lambda num, noise_std: sample_features(mesh, num, noise_std=noise_std, generator=generator),
    )


def _sheet_target(mesh: Mesh, distance: MeshDistance, thickness: float, generator: torch.Generator) -> Target:
    """Return the solid of all points within `thickness` of a sheet: thin everywhere, so all of it is a feature."""

    def measure(points: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        return distance.unsigned(points).distance - thickness, np.ones(len(points), dtype=bool)

    def draw_surface(num: int) -> SurfaceSamples:
        return sample_sheet_surface(mesh, num, thickness=thickness, distance=distance, generator=generator)

    def draw_features(num: int, noise_std: float) -> Tensor:
        return sample_near_surface(mesh, num, noise_std=min(noise_std, thickness), generator=generator)

    return Target(measure, draw_surface, draw_features)
