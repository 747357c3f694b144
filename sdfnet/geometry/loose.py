"""Removing the pieces of an extracted surface that are too small to be meant, and filling such cavities (`pieces`).

Surfaces with an open border are pieces that are never removed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sdfnet.geometry.mesh import Mesh
from sdfnet.geometry.pieces import NOTHING, Pieces, split_pieces, surface_boxes

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
        mesh if kept.all() else _kept(mesh, kept),
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


def describe_removed(removed: tuple[RemovedPiece, ...]) -> str:
    """Say in a few words what was removed; empty if nothing was.

    >>> describe_removed((RemovedPiece(2.5e-05, (0.0, 0.0, 0.0), False),))
    '1 loose piece, the largest 0.0025 % of the volume'
    """
    if not removed:
        return ""
    plural = "" if len(removed) == 1 else "s"
    return f"{len(removed)} loose piece{plural}, the largest {100 * removed[0].share:.2g} % of the volume"


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


def _kept(mesh: Mesh, faces_kept: NDArray[np.bool_]) -> Mesh:
    faces = mesh.faces[faces_kept]
    used = np.zeros(len(mesh.vertices), dtype=bool)
    used[faces] = True
    number = np.cumsum(used) - 1
    normals = None if mesh.vertex_normals is None else mesh.vertex_normals[used]
    return Mesh(mesh.vertices[used], number[faces], normals)


def _removed(mesh: Mesh, pieces: Pieces, dropped: NDArray[np.bool_]) -> tuple[RemovedPiece, ...]:
    lower, upper = surface_boxes(mesh, pieces.surface_of)
    centers, shares = (lower + upper) / 2, pieces.shares
    found = []
    for surface in np.flatnonzero(dropped)[np.argsort(-shares[dropped], kind="stable")].tolist():
        x, y, z = centers[surface].tolist()
        found.append(RemovedPiece(float(shares[surface]), (x, y, z), bool(pieces.is_cavity[surface])))
    return tuple(found)
