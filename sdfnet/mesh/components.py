"""The closed surfaces of a mesh: which are pieces, which cavities, and what lies in what.

A piece is a closed surface that points outward, with the cavities inside it; its volume is what is between. Faces are
connected across shared edges, so the mesh must be welded, as extraction gives it; pieces that touch in a vertex (it
lies on the lattice, where marching cubes makes one of it) are apart. Surfaces with an open border have no volume.

Removing the pieces of an extracted surface that are too small to be meant, and filling such cavities (`pieces`).

Surfaces with an open border are pieces that are never removed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sdfnet.mesh.edges import EdgeTable
from sdfnet.mesh.mesh import Mesh, drop_unreferenced_vertices
from sdfnet.mesh.winding import WindingNumber

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
    edges = EdgeTable.of(mesh.faces, len(mesh.vertices))
    count, surface_of = edges.label_faces()
    is_unbalanced = (edges.balance != 0)[edges.edge_of].reshape(-1, 3).any(axis=1)
    return surface_of, np.bincount(surface_of, weights=is_unbalanced, minlength=count) == 0


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


MIN_PIECE = 1e-4
"""Pieces below this share of the volume are specks. Over 24 chairs, 32 bodies and 16 random objects, learned in minutes
and extracted at 128, the largest loose piece had 0.55 of it; a cell of the lattice has 0.1 to 0.8 of it."""

LARGEST_LOOSE = 0.05
"""A piece with more than this share of the volume is never loose: without it the shape would be another one."""

_BEYOND = 10.0
"""What a source does not have is a speck up to so many times `min_share`: one of 24 chairs learned in three minutes had
one of five times. A finger that has come off a body may be below it, and goes; so does what is as small and torn."""


@dataclass(frozen=True)
class RemovedPiece:
    """What was taken away.

    Attributes
    ----------
    share : float
        Of the whole volume before.
    center : tuple of float
        The middle of its box, in the mesh's frame.
    is_cavity : bool
        It was a cavity, and is now filled.
    """

    share: float
    center: tuple[float, float, float]
    is_cavity: bool


@dataclass(frozen=True, eq=False)
class CleanMesh:
    """A mesh without its loose pieces.

    Attributes
    ----------
    mesh : Mesh
        Vertices and faces that stay keep their order; the very mesh that was given if nothing was loose.
    kept : (F,) bool
        The faces that stay.
    removed : tuple of RemovedPiece
        The largest first.
    num_pieces, num_cavities : int
        What is left.
    """

    mesh: Mesh
    kept: NDArray[np.bool_]
    removed: tuple[RemovedPiece, ...]
    num_pieces: int
    num_cavities: int


def drop_loose_pieces(
    mesh: Mesh,
    *,
    min_share: float = MIN_PIECE,
    num_pieces: int | None = None,
    num_cavities: int | None = None,
    largest: float = LARGEST_LOOSE,
) -> CleanMesh:
    """Return `mesh` without pieces, and with cavities filled, whose share of the whole volume is below `min_share`.

    Where `num_pieces` is given, of the pieces below the share `largest` only so many of the largest stay, counted with
    those above; `num_cavities` is the same for cavities. What lies in a cavity goes with it. The largest piece always
    stays, and so does everything if `min_share` is 0.

    Raises
    ------
    ValueError
        `min_share` out of [0, LARGEST_LOOSE].

    >>> corners = np.eye(4)[:, :3]
    >>> faces = np.array([[0, 2, 1], [0, 1, 3], [1, 2, 3], [2, 0, 3]])
    >>> two = Mesh(np.concatenate([corners, 5 + corners / 100]), np.concatenate([faces, faces + 4]))
    >>> clean = drop_loose_pieces(two)
    >>> len(clean.mesh.faces), [f"{piece.share:.0e}" for piece in clean.removed]
    (4, ['1e-06'])
    """
    check_min_piece(min_share)
    pieces = split_pieces(mesh)
    dropped = np.zeros(len(pieces.volumes), dtype=bool)
    if min_share > 0:
        for kind, allowed in ((~pieces.is_cavity, num_pieces), (pieces.is_cavity, num_cavities)):
            dropped |= _too_small(pieces, kind, min_share, allowed, largest)
        if len(dropped):
            dropped[np.where(pieces.is_cavity, -1.0, pieces.shares).argmax()] = False
        dropped = _with_contents(pieces, dropped)
    return _without(mesh, pieces, dropped)


def keep_surfaces(mesh: Mesh, kept: NDArray[np.bool_]) -> CleanMesh:
    """Return `mesh` with those of its connected surfaces that have a face among the `kept` (F,)."""
    pieces = split_pieces(mesh)
    dropped = np.ones(len(pieces.volumes), dtype=bool)
    dropped[pieces.surface_of[kept]] = False
    return _without(mesh, pieces, dropped)


def _without(mesh: Mesh, pieces: Pieces, dropped: NDArray[np.bool_]) -> CleanMesh:
    """Return `mesh` without the surfaces `dropped` (C,)."""
    kept = ~dropped[pieces.surface_of]
    return CleanMesh(
        mesh if kept.all() else drop_unreferenced_vertices(Mesh(mesh.vertices, mesh.faces[kept], mesh.vertex_normals)),
        kept,
        _removed(mesh, pieces, dropped) if dropped.any() else (),
        int((~pieces.is_cavity & ~dropped).sum()),
        int((pieces.is_cavity & ~dropped).sum()),
    )


def drop_specks(
    mesh: Mesh, *, num_surfaces: int | None, is_mix: bool = False, min_share: float = MIN_PIECE
) -> CleanMesh:
    """Return the `mesh` of a learned shape without specks and bubbles: the rule of all that extracts learned shapes.

    Below `min_share` of the volume they go; up to ten times that only beyond as many as the source of the shape has. Of
    a mix, which nobody has learned, all goes beyond as many that is not too large to be called loose.

    Parameters
    ----------
    num_surfaces : int or None
        Connected surfaces of the source, those of cavities included; of a mix, the most of what it is mixed of. None if
        unknown.
    """
    return drop_loose_pieces(
        mesh,
        min_share=min_share,
        num_pieces=num_surfaces,
        num_cavities=None if num_surfaces is None else num_surfaces - 1,
        largest=LARGEST_LOOSE if is_mix else min(_BEYOND * min_share, LARGEST_LOOSE),
    )


def check_min_piece(share: float) -> None:
    """Raise ValueError unless `share` can be a bound for loose pieces."""
    if not 0 <= share <= LARGEST_LOOSE:
        raise ValueError(f"min_piece must be a share of the volume from 0 (keep all) to {LARGEST_LOOSE}, got {share}")


def _too_small(
    pieces: Pieces, kind: NDArray[np.bool_], min_share: float, allowed: int | None, largest: float
) -> NDArray[np.bool_]:
    """Return those of one `kind` (C,) below `min_share`, or below `largest` and not among the first `allowed`."""
    shares = pieces.shares
    candidates = kind & pieces.closed
    small = candidates & (shares < min_share)
    if allowed is not None:
        ranked = np.flatnonzero(kind)[np.argsort(-shares[kind], kind="stable")]
        extra = np.zeros(len(kind), dtype=bool)
        extra[ranked[allowed:]] = True
        small |= candidates & extra & (shares < largest)
    return small


def _with_contents(pieces: Pieces, dropped: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Add what lies, at any depth, in what is `dropped`."""
    grown = dropped.copy()
    while True:
        inside = (pieces.host != NOTHING) & grown[pieces.host]
        if not (inside & ~grown).any():
            return grown
        grown |= inside


def _removed(mesh: Mesh, pieces: Pieces, dropped: NDArray[np.bool_]) -> tuple[RemovedPiece, ...]:
    lower, upper = surface_boxes(mesh, pieces.surface_of)
    centers, shares = (lower + upper) / 2, pieces.shares
    found = []
    for surface in np.flatnonzero(dropped)[np.argsort(-shares[dropped], kind="stable")].tolist():
        x, y, z = centers[surface].tolist()
        found.append(RemovedPiece(float(shares[surface]), (x, y, z), bool(pieces.is_cavity[surface])))
    return tuple(found)
