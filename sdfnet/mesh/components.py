"""Connected components of a mesh: which are bodies, which are cavities, and which are too small to be meant.

A body is a component that points outward; a cavity is a component that points inward and lies in a body. Faces are
connected across shared edges, so the vertices of the mesh must be merged, as extraction gives them. Two components may
share a vertex: marching cubes makes such vertices where bodies touch at a lattice point. An open component has no
volume and is never removed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sdfnet.mesh.edges import EdgeTable
from sdfnet.mesh.mesh import Mesh, drop_unreferenced_vertices
from sdfnet.mesh.winding import WindingNumber

MIN_PIECE = 1e-4
"""Components below this share of the volume are specks. Over 24 chairs, 32 bodies and 16 random objects, learned in
minutes and extracted at 128, the largest loose component had 0.55 of it; a cell of the lattice has 0.1 to 0.8 of it."""

LARGEST_LOOSE = 0.05
"""A component with more than this share of the volume is never loose: without it the shape would be another one."""

NOTHING = -1
"""The host of a component that lies in no other."""

_BEYOND = 10.0
"""A component that the source does not have is a speck up to this many times `min_share`: of 24 chairs learned in three
minutes, one had a speck of five times. A finger that has come off a body may be that small, and goes too."""


@dataclass(frozen=True, eq=False)
class NestedComponents:
    """The C connected components of a mesh, with their volumes and their nesting.

    Attributes
    ----------
    component_of : (F,) int64
        The component of each face.
    volumes : (C,) float64
        Volume that each component alone encloses: negative where it points inward, 0 where it is open.
    closed : (C,) bool
    host : (C,) int64
        The innermost component around each; NOTHING if there is none.
    """

    component_of: NDArray[np.int64]
    volumes: NDArray[np.float64]
    closed: NDArray[np.bool_]
    host: NDArray[np.int64]

    @property
    def is_cavity(self) -> NDArray[np.bool_]:
        """Which components are cavities, (C,)."""
        return self.closed & (self.volumes < 0) & (self.host != NOTHING)

    @property
    def shares(self) -> NDArray[np.float64]:
        """Share of the whole volume, (C,): of a body without its cavities, of a cavity alone; 0 if open."""
        net = np.abs(self.volumes)
        cavities = np.flatnonzero(self.is_cavity)
        np.subtract.at(net, self.host[cavities], net[cavities])
        return net / max(float(net[~self.is_cavity].sum()), 1e-300)

    @property
    def num_components(self) -> int:
        """Number of components that are no cavities."""
        return int((~self.is_cavity).sum())

    @property
    def num_cavities(self) -> int:
        """Number of cavities."""
        return int(self.is_cavity.sum())


def nest_components(mesh: Mesh) -> NestedComponents:
    """Return the connected components of `mesh`, and which lies in which.

    >>> tetrahedron = Mesh(np.eye(4)[:, :3], [[0, 2, 1], [0, 1, 3], [1, 2, 3], [2, 0, 3]])
    >>> nest_components(tetrahedron).num_components
    1
    """
    edges = EdgeTable.of(mesh.faces, len(mesh.vertices))
    count, component_of = edges.label_faces()
    is_unbalanced = (edges.balance != 0)[edges.edge_of].reshape(-1, 3).any(axis=1)
    closed = np.bincount(component_of, weights=is_unbalanced, minlength=count) == 0
    corners = mesh.triangles
    firsts = corners[np.unique(component_of, return_index=True)[1], 0] if count else np.zeros((0, 3))
    corners = corners - firsts[component_of][:, None]
    cones = np.einsum("ij,ij->i", corners[:, 0], np.cross(corners[:, 1], corners[:, 2])) / 6
    volumes = np.where(closed, np.bincount(component_of, weights=cones, minlength=count), 0.0)
    return NestedComponents(component_of, volumes, closed, _hosts(mesh, component_of, volumes, closed, firsts))


def component_boxes(mesh: Mesh, component_of: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the lower and upper corners of the bounding boxes of components, each (C, 3).

    >>> [corners.tolist() for corners in component_boxes(Mesh(np.eye(3), [[0, 1, 2]]), np.array([0]))]
    [[[0.0, 0.0, 0.0]], [[1.0, 1.0, 1.0]]]
    """
    order = np.argsort(component_of, kind="stable")
    counts = np.bincount(component_of)
    corners = mesh.triangles[order]
    starts = np.cumsum(counts) - counts
    return np.minimum.reduceat(corners.min(axis=1), starts), np.maximum.reduceat(corners.max(axis=1), starts)


def _hosts(
    mesh: Mesh,
    component_of: NDArray[np.int64],
    volumes: NDArray[np.float64],
    closed: NDArray[np.bool_],
    points: NDArray[np.float64],
) -> NDArray[np.int64]:
    """Return the innermost closed component around each, (C,); `points` (C, 3) lie on the components."""
    host = np.full(len(volumes), NOTHING, dtype=np.int64)
    if len(volumes) < 2:
        return host
    lower, upper = component_boxes(mesh, component_of)
    for around in np.argsort(-np.abs(volumes), kind="stable").tolist():  # the innermost comes last and stays
        if not closed[around]:
            continue
        inner = (lower[around] < lower).all(axis=1) & (upper < upper[around]).all(axis=1)
        if inner.any():
            winding = WindingNumber(Mesh(mesh.vertices, mesh.faces[component_of == around]))(points[inner])
            host[np.flatnonzero(inner)[np.abs(winding) > 0.5]] = around
    return host


@dataclass(frozen=True)
class RemovedComponent:
    """A component that was removed.

    Attributes
    ----------
    share : float
        Of the whole volume before.
    center : tuple of float
        The middle of its bounding box, in the frame of the mesh.
    is_cavity : bool
        Whether it was a cavity, which is now filled.
    """

    share: float
    center: tuple[float, float, float]
    is_cavity: bool


@dataclass(frozen=True, eq=False)
class CleanMesh:
    """A mesh without its loose components.

    Attributes
    ----------
    mesh : Mesh
        Vertices and faces that stay keep their order. If nothing was loose, this is the given mesh itself.
    kept : (F,) bool
        The faces that stay.
    removed : tuple of RemovedComponent
        The largest first.
    num_components, num_cavities : int
        Components that stay, without and with an inside of air.

    >>> from sdfnet.extraction import extract_mesh
    >>> from sdfnet.fields import Sphere
    >>> mesh = extract_mesh(Sphere(1.0), resolution=16)
    >>> drop_specks(mesh, num_surfaces=1).removed
    ()
    """

    mesh: Mesh
    kept: NDArray[np.bool_]
    removed: tuple[RemovedComponent, ...]
    num_components: int
    num_cavities: int


def drop_loose_components(
    mesh: Mesh,
    *,
    min_share: float = MIN_PIECE,
    num_components: int | None = None,
    num_cavities: int | None = None,
    largest: float = LARGEST_LOOSE,
) -> CleanMesh:
    """Remove the components of `mesh` below the share `min_share` of its volume, and fill such cavities.

    With `num_components`, only that many components may stay: the smallest go first, but none with the share `largest`
    or more. `num_cavities` is the same for cavities. Whatever lies in a removed component goes with it. The largest
    component always stays. With `min_share=0` everything stays.

    Raises
    ------
    ValueError
        `min_share` out of [0, LARGEST_LOOSE].

    >>> corners = np.eye(4)[:, :3]
    >>> faces = np.array([[0, 2, 1], [0, 1, 3], [1, 2, 3], [2, 0, 3]])
    >>> two = Mesh(np.concatenate([corners, 5 + corners / 100]), np.concatenate([faces, faces + 4]))
    >>> clean = drop_loose_components(two)
    >>> len(clean.mesh.faces), [f"{each.share:.0e}" for each in clean.removed]
    (4, ['1e-06'])
    """
    check_min_piece(min_share)
    nested = nest_components(mesh)
    dropped = np.zeros(len(nested.volumes), dtype=bool)
    if min_share > 0:
        for kind, allowed in ((~nested.is_cavity, num_components), (nested.is_cavity, num_cavities)):
            dropped |= _too_small(nested, kind, min_share, allowed, largest)
        if len(dropped):
            dropped[np.where(nested.is_cavity, -1.0, nested.shares).argmax()] = False
        dropped = _with_contents(nested, dropped)
    return _without(mesh, nested, dropped)


def drop_specks(
    mesh: Mesh, *, num_surfaces: int | None, is_mix: bool = False, min_share: float = MIN_PIECE
) -> CleanMesh:
    """Remove specks and bubbles from the `mesh` of a learned shape; every command uses this rule.

    Components below `min_share` of the volume go. Components up to ten times that go if the source of the shape has
    fewer components. Of a mix, which nobody has learned, components up to LARGEST_LOOSE go by the same count.

    Parameters
    ----------
    num_surfaces : int or None
        Connected components of the source, cavities included; of a mix, the most of its shapes. None if unknown.

    >>> from sdfnet.extraction import extract_mesh
    >>> from sdfnet.fields import Sphere, Union
    >>> ball_and_speck = extract_mesh(Union(Sphere(0.8), Sphere(0.03, center=[0.95, 0.0, 0.0])), resolution=64)
    >>> clean = drop_specks(ball_and_speck, num_surfaces=1)
    >>> len(clean.removed)
    1
    """
    return drop_loose_components(
        mesh,
        min_share=min_share,
        num_components=num_surfaces,
        num_cavities=None if num_surfaces is None else num_surfaces - 1,
        largest=LARGEST_LOOSE if is_mix else min(_BEYOND * min_share, LARGEST_LOOSE),
    )


def keep_components(mesh: Mesh, kept: NDArray[np.bool_]) -> CleanMesh:
    """Return `mesh` with only those components that have one of the faces `kept` (F,)."""
    nested = nest_components(mesh)
    dropped = np.ones(len(nested.volumes), dtype=bool)
    dropped[nested.component_of[kept]] = False
    return _without(mesh, nested, dropped)


def check_min_piece(share: float) -> None:
    """Raise ValueError unless `share` can be a bound for loose components."""
    if not 0 <= share <= LARGEST_LOOSE:
        raise ValueError(f"min_piece must be a share of the volume from 0 (keep all) to {LARGEST_LOOSE}, got {share}")


def _too_small(
    nested: NestedComponents, kind: NDArray[np.bool_], min_share: float, allowed: int | None, largest: float
) -> NDArray[np.bool_]:
    """Return those of one `kind` (C,) below `min_share`, or below `largest` and not among the first `allowed`."""
    shares = nested.shares
    candidates = kind & nested.closed
    small = candidates & (shares < min_share)
    if allowed is not None:
        ranked = np.flatnonzero(kind)[np.argsort(-shares[kind], kind="stable")]
        extra = np.zeros(len(kind), dtype=bool)
        extra[ranked[allowed:]] = True
        small |= candidates & extra & (shares < largest)
    return small


def _with_contents(nested: NestedComponents, dropped: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Add the components that lie, at any depth, in those `dropped`."""
    grown = dropped.copy()
    while True:
        inside = (nested.host != NOTHING) & grown[nested.host]
        if not (inside & ~grown).any():
            return grown
        grown |= inside


def _without(mesh: Mesh, nested: NestedComponents, dropped: NDArray[np.bool_]) -> CleanMesh:
    """Return `mesh` without the components `dropped` (C,)."""
    kept = ~dropped[nested.component_of]
    rest = mesh
    if not kept.all():
        rest = drop_unreferenced_vertices(Mesh(mesh.vertices, mesh.faces[kept], mesh.vertex_normals))
    num_kept = [int((kind & ~dropped).sum()) for kind in (~nested.is_cavity, nested.is_cavity)]
    return CleanMesh(rest, kept, _removed(mesh, nested, dropped) if dropped.any() else (), *num_kept)


def _removed(mesh: Mesh, nested: NestedComponents, dropped: NDArray[np.bool_]) -> tuple[RemovedComponent, ...]:
    lower, upper = component_boxes(mesh, nested.component_of)
    centers, shares = (lower + upper) / 2, nested.shares
    found = []
    for component in np.flatnonzero(dropped)[np.argsort(-shares[dropped], kind="stable")].tolist():
        x, y, z = centers[component].tolist()
        found.append(RemovedComponent(float(shares[component]), (x, y, z), bool(nested.is_cavity[component])))
    return tuple(found)
