"""Vertex normals from a field's gradient, or from the faces where the gradient is zero or misleading at an edge.

The module is under 60 lines, but extraction and decimation both need it.
"""

from __future__ import annotations

import numpy as np
import torch

from sdfnet.fields.base import Field, normals
from sdfnet.geometry.arrays import BoolArray, unit_vectors
from sdfnet.mesh.mesh import Mesh, vertex_normals

_CHUNK = 32768

_CREASE_COSINE = 0.85
"""If a gradient is more than 32° off the normal of the faces around a vertex, the vertex lies on an edge. The gradient
is then the gradient on one side of the edge, by chance."""


def with_field_normals(
    mesh: Mesh,
    field: Field,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    may_crease: BoolArray | bool = False,
) -> Mesh:
    """Return `mesh` with the unit normals of `field` at its vertices. Mesh and field have the same frame.

    If the gradient at a vertex is zero, its normal is the mean of the normals of its faces, weighted by area.

    Parameters
    ----------
    may_crease : bool or (V,) bool
        Whether vertices may lie on sharp edges. If the gradient there belongs to one side only, the mean replaces it.

    >>> from sdfnet.fields.primitives import Sphere
    >>> triangle = Mesh([[1, 0, 0], [0, 1, 0], [0, 0, 1]], [[0, 1, 2]])
    >>> bool(np.allclose(with_field_normals(triangle, Sphere(1.0)).vertex_normals, np.eye(3)))
    True
    """
    points = torch.from_numpy(mesh.vertices).to(device=device, dtype=dtype)
    directions = normals(field, points, chunk_size=_CHUNK).detach().double().cpu().numpy()
    lost = ~(np.linalg.norm(directions, axis=1) > 0.5)
    if np.any(may_crease) or lost.any():
        summed = vertex_normals(mesh.vertices, mesh.faces)
        lost |= may_crease & (np.einsum("ij,ij->i", directions, summed) < _CREASE_COSINE)
        directions[lost] = summed[lost]
    return Mesh(mesh.vertices, mesh.faces, unit_vectors(directions))
