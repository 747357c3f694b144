"""A cut through what is shown: the faces on one side of a plane, and lines of equal distance on the plane."""

from __future__ import annotations

import numpy as np
import torch
from skimage.measure import find_contours

from sdfnet.fields import Field, evaluate
from sdfnet.geometry.arrays import FloatArray, IntArray
from sdfnet.geometry.bounds import Bounds
from sdfnet.mesh.mesh import Mesh
from sdfnet.rendering.colormap import diverging_colors

_SAMPLES = 64
_LEVELS = 7
"""Lines on each side of the surface."""


def faces_below(mesh: Mesh, axis: int, place: float) -> IntArray:
    """Return the faces (F', 3) whose three corners lie at or below `place` along `axis`.

    >>> triangle = Mesh([[0, 0, 0], [1, 0, 0], [0, 1, 0]], [[0, 1, 2]])
    >>> len(faces_below(triangle, 0, 0.5)), len(faces_below(triangle, 0, 1.0))
    (0, 1)
    """
    return mesh.faces[(mesh.vertices[mesh.faces][:, :, axis] <= place).all(axis=1)]


def distance_lines(field: Field, bounds: Bounds, axis: int, place: float) -> tuple[FloatArray, FloatArray]:
    """Return line segments (N, 2, 3) of equal distance on the plane, and their colours (N, 2, 3), sRGB in [0, 1].

    Lines inside are cold, outside warm, and the surface itself is dark.

    >>> from sdfnet.fields import Sphere
    >>> segments, colors = distance_lines(Sphere(1.0), Bounds.cube(1.5), 2, 0.0)
    >>> segments.shape == colors.shape, bool(np.allclose(segments[..., 2], 0.0))
    (True, True)
    """
    others = [index for index in range(3) if index != axis]
    grid = [np.linspace(bounds.lower[index], bounds.upper[index], _SAMPLES) for index in others]
    points = np.full((_SAMPLES, _SAMPLES, 3), place)
    points[..., others[0]], points[..., others[1]] = np.meshgrid(*grid, indexing="ij")
    values = evaluate(field, torch.from_numpy(points).float()).double().numpy()
    step = float(bounds.extent.max()) / (4 * _LEVELS)
    segments, colors = [], []
    for level in step * np.arange(-_LEVELS, _LEVELS + 1):
        tint = np.array([0.1, 0.1, 0.1]) if level == 0 else diverging_colors(level, limit=step * _LEVELS)
        for line in find_contours(values, level):
            places = np.empty((len(line), 3))
            places[:, axis] = place
            for column, index in enumerate(others):
                places[:, index] = np.interp(line[:, column], np.arange(_SAMPLES), grid[column])
            segments.append(np.stack([places[:-1], places[1:]], axis=1))
            colors.append(np.broadcast_to(tint, segments[-1].shape))
    if not segments:
        return np.zeros((0, 2, 3)), np.zeros((0, 2, 3))
    return np.concatenate(segments), np.concatenate(colors)
