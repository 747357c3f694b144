"""The mesh that a tracked piece starts from: an extraction without loose bits, remeshed to even triangles.

Where the surface has creases and gaps narrower than an edge, triangles are crumpled. Mending (`mending`) turns most of
them over again; of what it cannot mend there is too much, so that edges are collapsed until it can.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from sdfnet.fields.base import Field
from sdfnet.geometry.bounds import Lattice
from sdfnet.geometry.mesh import Mesh
from sdfnet.geometry.parts import split_parts
from sdfnet.geometry.remeshing import collapse_faces, remesh
from sdfnet.surfacing.carrying import settle
from sdfnet.surfacing.extract import extract_mesh
from sdfnet.surfacing.projection import project_to_level
from sdfnet.surfacing.shapes import turned_over

_ROUNDS = 16
"""Of collapses and mending at most."""


def even_mesh(field: Field, *, resolution: int, edge_length: float = 1.0, smallest: float = 1e-4) -> Mesh:
    """Extract the surface of `field`, drop its small loose pieces, and remesh it to even triangles on the surface.

    Parameters
    ----------
    edge_length : float
        In spacings of the lattice of extraction.
    smallest : float
        Closed pieces and cavities below this share of the volume of the whole are dropped.
    """
    spacing = Lattice.over(field.bounds, resolution).spacing
    mesh = without_small_pieces(extract_mesh(field, resolution=resolution, vertex_normals=False), smallest=smallest)
    target = edge_length * spacing

    def project(points: NDArray[np.float64]) -> NDArray[np.float64]:
        moved = project_to_level(field, torch.from_numpy(points).float(), steps=1, reach=target)
        return moved.double().numpy()

    return _smooth(remesh(mesh, edge_length=target, project=project), field)


def _smooth(mesh: Mesh, field: Field) -> Mesh:
    """Return `mesh` without what is crumpled in it, as far as that can be."""
    settled = settle(mesh, field)
    for _ in range(_ROUNDS):
        turned = turned_over(settled.vertices, settled.faces, settled.normals)
        if not turned.any():
            break
        settled = settle(collapse_faces(Mesh(settled.vertices, settled.faces), turned), field)
    return Mesh(settled.vertices, settled.faces)


def without_small_pieces(mesh: Mesh, *, smallest: float) -> Mesh:
    """Return a closed mesh without the pieces whose volume is below a share of the whole's; cavities are pieces."""
    parts = split_parts(mesh)
    volumes = parts.volumes()
    kept = np.abs(volumes) >= smallest * volumes.sum()
    if kept.all():
        return mesh
    faces = mesh.faces[kept[parts.part_of]]
    used, compact = np.unique(faces, return_inverse=True)
    normals = None if mesh.vertex_normals is None else mesh.vertex_normals[used]
    return Mesh(mesh.vertices[used], compact.reshape(-1, 3), normals)
