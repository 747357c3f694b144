"""The closed surfaces of a mesh: which are pieces, which cavities, and what lies in what.

A piece is a closed surface that points outward, with the cavities inside it; its volume is what is between. Faces are
connected across shared edges, so the mesh must be welded, as extraction gives it; pieces that touch in a vertex (it
lies on the lattice, where marching cubes makes one of it) are apart. Surfaces with an open border have no volume.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sdfnet.geometry.connectivity import label_connected
from sdfnet.geometry.mesh import Mesh
from sdfnet.geometry.winding import WindingNumber

NOTHING = -1
"""The host of what lies in nothing."""


@dataclass(frozen=True, eq=False)
class Pieces:
    """The C connected surfaces of a mesh.

    Attributes
    ----------
    surface_of : (F,) int64
        The surface that each face belongs to.
    volumes : (C,) float64
        Enclosed by each surface alone, negative where it points inward; 0 where it is open.
    closed : (C,) bool
    host : (C,) int64
        The surface that each lies in, the innermost of them; NOTHING if in none.
    """

    surface_of: NDArray[np.int64]
    volumes: NDArray[np.float64]
    closed: NDArray[np.bool_]
    host: NDArray[np.int64]

    @property
    def is_cavity(self) -> NDArray[np.bool_]:
        return self.closed & (self.volumes < 0) & (self.host != NOTHING)

    @property
    def shares(self) -> NDArray[np.float64]:
        """Share of the whole volume, (C,): of a piece without its cavities, of a cavity alone; 0 of an open one."""
        net = np.abs(self.volumes)
        cavities = np.flatnonzero(self.is_cavity)
        np.subtract.at(net, self.host[cavities], net[cavities])
        return net / max(float(net[~self.is_cavity].sum()), 1e-300)

    @property
    def num_pieces(self) -> int:
        return int((~self.is_cavity).sum())

    @property
    def num_cavities(self) -> int:
        return int(self.is_cavity.sum())


def split_pieces(mesh: Mesh) -> Pieces:
    """Return the connected surfaces of `mesh`, and what lies in what.

    >>> tetrahedron = Mesh(np.eye(4)[:, :3], [[0, 2, 1], [0, 1, 3], [1, 2, 3], [2, 0, 3]])
    >>> split_pieces(tetrahedron).num_pieces
    1
    """
    surface_of, closed = _surfaces(mesh)
    count = len(closed)
    corners = mesh.triangles
    starts = corners[np.unique(surface_of, return_index=True)[1], 0] if count else np.zeros((0, 3))
    corners = corners - starts[surface_of][:, None]
    cones = np.einsum("ij,ij->i", corners[:, 0], np.cross(corners[:, 1], corners[:, 2])) / 6
    volumes = np.where(closed, np.bincount(surface_of, weights=cones, minlength=count), 0.0)
    return Pieces(surface_of, volumes, closed, _hosts(mesh, surface_of, volumes, closed))


def surface_boxes(mesh: Mesh, surface_of: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the lower and upper corners of the surfaces' boxes, each (C, 3)."""
    order = np.argsort(surface_of, kind="stable")
    starts = np.concatenate([[0], np.cumsum(np.bincount(surface_of))[:-1]])
    corners = mesh.triangles[order]
    return np.minimum.reduceat(corners.min(axis=1), starts), np.maximum.reduceat(corners.max(axis=1), starts)


def _surfaces(mesh: Mesh) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return the surface of each face, (F,), numbered without gaps, and which surfaces are closed, (C,).

    At every edge of a closed surface as many faces run along it one way as the other.
    """
    starts, stops = mesh.faces.ravel(), np.roll(mesh.faces, -1, axis=1).ravel()
    keys = np.minimum(starts, stops) * np.int64(len(mesh.vertices)) + np.maximum(starts, stops)
    order = np.argsort(keys)
    same = keys[order[:-1]] == keys[order[1:]]
    size = len(mesh.faces)
    count, surface_of = label_connected(order[:-1][same] // 3, order[1:][same] // 3, size)
    first = np.flatnonzero(np.concatenate([[True], ~same])) if size else np.zeros(0, dtype=np.int64)
    balance = np.add.reduceat(np.where(starts < stops, 1, -1)[order], first) if size else first
    open_edges = np.bincount(surface_of[order[first] // 3], weights=balance != 0, minlength=count)
    return surface_of, np.asarray(open_edges == 0)


def _hosts(
    mesh: Mesh, surface_of: NDArray[np.int64], volumes: NDArray[np.float64], closed: NDArray[np.bool_]
) -> NDArray[np.int64]:
    """Return the innermost closed surface around each, (C,)."""
    host = np.full(len(volumes), NOTHING, dtype=np.int64)
    if len(volumes) < 2:
        return host
    lower, upper = surface_boxes(mesh, surface_of)
    points = mesh.triangles[np.unique(surface_of, return_index=True)[1], 0]  # one of each surface
    for around in np.argsort(-np.abs(volumes), kind="stable").tolist():  # the innermost comes last and stays
        if not closed[around]:
            continue
        inner = (lower[around] < lower).all(axis=1) & (upper < upper[around]).all(axis=1)
        if inner.any():
            winding = WindingNumber(Mesh(mesh.vertices, mesh.faces[surface_of == around]))(points[inner])
            host[np.flatnonzero(inner)[np.abs(winding) > 0.5]] = around
    return host
