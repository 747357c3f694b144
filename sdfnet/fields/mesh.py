"""The adaptor from a triangle mesh to a field."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from sdfnet.fields.base import Accuracy, Field, check_points
from sdfnet.mesh.distance import MeshDistance
from sdfnet.mesh.mesh import Mesh

SURFACE_SHARE = 1e-7
"""Nearer to the surface than this share of the mesh's size, the direction to the closest point is only rounding."""


class MeshField(Field):
    """The signed distance to a triangle mesh, in the mesh's frame: distance to the closest point, sign by winding.

    Exact if `closed`; across the holes of an open mesh the sign jumps where the distance is not zero, so it is only
    approximate. Hand in a repaired mesh (`make_solid`): buried and flipped faces count.

    Computed on the CPU in float64 whatever the points are. Differentiable once with respect to the points: the gradient
    is the unit direction away from the closest point, or the face's normal where the point lies on the surface.

    Parameters
    ----------
    closed : bool
        Whether the mesh bounds a volume; not checked.

    >>> corners = [[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]]
    >>> field = MeshField(Mesh(corners, [[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]]))
    >>> field(torch.tensor([[-1.0, 0.1, 0.1]])).tolist()
    [1.0]
    """

    def __init__(self, mesh: Mesh, *, closed: bool = True) -> None:
        self.mesh = mesh
        self.accuracy: Accuracy = "exact" if closed else "approximate"
        self.bounds = mesh.bounds
        self._distance = MeshDistance(mesh)
        self._face_normals = mesh.face_normals
        self._on_surface = SURFACE_SHARE * float(np.abs(mesh.vertices).max())

    def __call__(self, points: Tensor) -> Tensor:
        check_points(points)
        flat = points.reshape(-1, 3)
        points_64 = flat.detach().to("cpu", torch.float64).numpy()
        if len(points_64) == 0:
            return points.sum(dim=-1)  # Empty, and still part of the graph.
        found = self._distance(points_64)
        sdf = torch.from_numpy(np.ascontiguousarray(found.sdf)).to(points)
        if points.requires_grad and torch.is_grad_enabled():
            offsets = points_64 - found.closest_points
            away = np.where(found.sdf < 0, -1.0, 1.0)[:, None] * offsets
            lengths = np.linalg.norm(offsets, axis=1, keepdims=True)
            directions = np.where(
                lengths > self._on_surface, away / np.maximum(lengths, 1e-300), self._face_normals[found.faces]
            )
            # Adds zero, with the slope of the distance.
            sdf = sdf + ((flat - flat.detach()) * torch.from_numpy(directions).to(points)).sum(dim=-1)
        return sdf.reshape(points.shape[:-1])
