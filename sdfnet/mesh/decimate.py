"""Decimate a mesh: fewer faces for the same surface, and a measure of how far the surface moved.

Quadric edge collapses by libigl's `qslim` (Garland and Heckbert, "Surface simplification using quadric error metrics",
SIGGRAPH 1997). libigl keeps the surface manifold and refuses most collapses that make faces cross. Extraction alone
decimates today; the operation is general, so it lives beside remeshing.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np

from sdfnet.mesh.distance import MeshDistance
from sdfnet.mesh.mesh import Mesh
from sdfnet.mesh.validity import check_closed
from sdfnet.mesh.winding import libigl

_LOGGER = logging.getLogger(__name__)

_LEAST_FACES = 4
"""A tetrahedron."""


@dataclass(frozen=True, eq=False)
class Simplified:
    """A mesh with fewer faces.

    Attributes
    ----------
    mesh : Mesh
        Without vertex normals.
    num_faces_before : int
    distance : float
        The largest distance from the vertices and face centres of either surface to the other, in the mesh's units.

    >>> from sdfnet.extraction import extract_mesh
    >>> from sdfnet.fields import Sphere
    >>> fewer = simplify_mesh(extract_mesh(Sphere(1.0), resolution=24), max_faces=200)
    >>> len(fewer.mesh.faces), fewer.distance < 0.1
    (200, True)
    """

    mesh: Mesh
    num_faces_before: int
    distance: float


def check_max_faces(max_faces: int) -> None:
    """Raise ValueError unless a closed surface can have so few faces."""
    if max_faces < _LEAST_FACES:
        raise ValueError(f"max_faces must be at least {_LEAST_FACES} (a tetrahedron), got {max_faces}")


def simplify_mesh(mesh: Mesh, *, max_faces: int) -> Simplified:
    """Collapse edges of `mesh` until it has at most `max_faces` faces, where the surface changes least.

    A closed mesh stays closed, with its components and handles. If `max_faces` cannot be reached that way, a warning
    says how many faces are left. A mesh with few enough faces comes back as it is.

    Raises
    ------
    ValueError
        `max_faces` is less than 4, or an edge of the mesh has more than two faces.

    >>> from sdfnet.fields.primitives import Sphere
    >>> from sdfnet.extraction.extract import extract_mesh
    >>> found = simplify_mesh(extract_mesh(Sphere(1.0), resolution=24), max_faces=500)
    >>> len(found.mesh.faces), found.num_faces_before, found.distance < 0.02
    (500, 4508, True)
    """
    check_max_faces(max_faces)
    if len(mesh.faces) <= max_faces:
        return Simplified(Mesh(mesh.vertices, mesh.faces), len(mesh.faces), 0.0)
    before = check_closed(mesh)
    if before.num_crowded_edges or before.num_twisted_edges:
        raise ValueError(f"cannot simplify a mesh that is not an oriented surface: it has {before}")
    # In its own unit box, because libigl's thresholds are absolute.
    center, size = mesh.bounds.center, float(mesh.bounds.extent.max())
    vertices, faces, *_ = libigl().qslim((mesh.vertices - center) / size, mesh.faces.astype(np.int32), max_faces, True)
    simple = Mesh(vertices * size + center, faces)
    if len(faces) > max_faces:
        _LOGGER.warning("simplified to %d faces only: fewer than that would change what is joined", len(faces))
    after = check_closed(simple)
    if before.is_clean and not after.is_clean:
        _LOGGER.warning("the simplified mesh has %s", after)
    return Simplified(simple, len(mesh.faces), max(_farthest(simple, mesh), _farthest(mesh, simple)))


def _farthest(mesh: Mesh, other: Mesh) -> float:
    points = np.concatenate([mesh.vertices, mesh.triangles.mean(axis=1)])
    return float(MeshDistance(other).unsigned(points).distance.max())
