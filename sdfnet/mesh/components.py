"""Connected components of a mesh: find bodies, cavities and specks, remove specks, and orient the components.

A body is a component that points outward; a cavity is a component that points inward and lies in a body. Faces are
connected across shared edges, so the vertices of the mesh must be merged. Extracted meshes have merged vertices. Two
components may share a vertex. An open component has no volume and is never removed.

`split_components` also separates components that touch at non-manifold edges, so that each is closed where possible.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sdfnet.mesh.edges import EdgeTable, label_connected, label_fans
from sdfnet.mesh.mesh import Mesh, drop_unreferenced_vertices, turn_faces
from sdfnet.mesh.winding import WindingNumber, spread_over_surface

MIN_PIECE = 1e-4
"""Components below this share of the volume are specks. Over 24 chairs, 32 bodies and 16 random objects, learned in
minutes and extracted at 128, the largest loose component had 0.55 of this share. A cell of the lattice has 0.1 to 0.8
of it."""

LARGEST_LOOSE = 0.05
"""A component with more than this share of the volume is never loose, because the shape would differ without it."""

NOTHING = -1
"""The host of a component that lies in no other component."""

_BEYOND = 10.0
"""A component that the source does not have is a speck up to this many times `min_share`. Of 24 chairs learned in three
minutes, one had a speck of five times `min_share`. A finger that is separated from its body may be as small, and is
removed too."""


@dataclass(frozen=True, eq=False)
class NestedComponents:
    """The C connected components of a mesh, with their volumes and their nesting.

    Attributes
    ----------
    component_of : (F,) int64
    volumes : (C,) float64
        Negative for a component that points inward, 0 for an open component.
    closed : (C,) bool
    host : (C,) int64
        The innermost component around each component; NOTHING if there is none.
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
        """Share of the whole volume, (C,). A body counts without its cavities. An open component has share 0."""
        net = np.abs(self.volumes)
        cavities = np.flatnonzero(self.is_cavity)
        np.subtract.at(net, self.host[cavities], net[cavities])
        return net / max(float(net[~self.is_cavity].sum()), 1e-300)


def nest_components(mesh: Mesh) -> NestedComponents:
    """Return the connected components of `mesh`, and the component around each of them.

    >>> tetrahedron = Mesh(np.eye(4)[:, :3], [[0, 2, 1], [0, 1, 3], [1, 2, 3], [2, 0, 3]])
    >>> nest_components(tetrahedron).is_cavity.tolist()
    [False]
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
    host = np.full(count, NOTHING, dtype=np.int64)
    lower, upper = component_boxes(mesh, component_of)
    for around in np.argsort(-np.abs(volumes), kind="stable").tolist():  # the innermost comes last and stays
        inner = (lower[around] < lower).all(axis=1) & (upper < upper[around]).all(axis=1)
        if closed[around] and inner.any():
            winding = WindingNumber(Mesh(mesh.vertices, mesh.faces[component_of == around]))(firsts[inner])
            host[np.flatnonzero(inner)[np.abs(winding) > 0.5]] = around
    return NestedComponents(component_of, volumes, closed, host)


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


@dataclass(frozen=True)
class RemovedComponent:
    """The share of the whole volume of a removed component, the middle of its box, and whether it was a cavity."""

    share: float
    center: tuple[float, float, float]
    is_cavity: bool


@dataclass(frozen=True, eq=False)
class CleanMesh:
    """A mesh without its loose components.

    Attributes
    ----------
    mesh : Mesh
        The remaining vertices and faces keep their order. If nothing was loose, this is the given mesh itself.
    kept : (F,) bool
        The faces that stay.
    removed : tuple of RemovedComponent, the largest first
    num_components, num_cavities : int
        The numbers of remaining bodies (with open components) and of remaining cavities.
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
    """Remove the components of `mesh` with less than the share `min_share` of its volume, and fill such cavities.

    With `num_components`, at most that many components stay. The smallest are removed first, but no component with the
    share `largest` or more. `num_cavities` limits the cavities in the same way. Components inside a removed component
    are removed too. The largest component always stays. With `min_share=0` every component stays.

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
            shares = np.where(kind & nested.closed, nested.shares, np.inf)
            dropped |= shares < min_share
            if allowed is not None:
                ranked = np.flatnonzero(kind)[np.argsort(-nested.shares[kind], kind="stable")]
                dropped[ranked[allowed:]] |= shares[ranked[allowed:]] < largest
        if len(dropped):
            dropped[np.where(nested.is_cavity, -1.0, nested.shares).argmax()] = False
        while (inside := (nested.host != NOTHING) & dropped[nested.host] & ~dropped).any():
            dropped |= inside
    return _without(mesh, nested, dropped)


def drop_specks(
    mesh: Mesh, *, num_surfaces: int | None, is_mix: bool = False, min_share: float = MIN_PIECE
) -> CleanMesh:
    """Remove specks and bubbles from the `mesh` of a learned shape; every command uses this rule.

    Components below `min_share` of the volume are removed. Components up to ten times that share are removed if the
    source of the shape has fewer components. `num_surfaces` is the number of components of the source, cavities
    included, or None if unknown. A mix of shapes has no source. There `num_surfaces` is the largest number among its
    shapes, and components up to LARGEST_LOOSE are removed by the same count.

    >>> from sdfnet.extraction import extract_mesh
    >>> from sdfnet.fields import Sphere, Union
    >>> ball_and_speck = extract_mesh(Union(Sphere(0.8), Sphere(0.03, center=[0.95, 0.0, 0.0])), resolution=64)
    >>> len(drop_specks(ball_and_speck, num_surfaces=1).removed)
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


def _without(mesh: Mesh, nested: NestedComponents, dropped: NDArray[np.bool_]) -> CleanMesh:
    """Return `mesh` without the components `dropped` (C,)."""
    kept = ~dropped[nested.component_of]
    num_kept = [int((kind & ~dropped).sum()) for kind in (~nested.is_cavity, nested.is_cavity)]
    if kept.all():
        return CleanMesh(mesh, kept, (), *num_kept)
    lower, upper = component_boxes(mesh, nested.component_of)
    centers, shares = (lower + upper) / 2, nested.shares
    removed = []
    for component in np.flatnonzero(dropped)[np.argsort(-shares[dropped], kind="stable")].tolist():
        x, y, z = centers[component].tolist()
        removed.append(RemovedComponent(float(shares[component]), (x, y, z), bool(nested.is_cavity[component])))
    rest = drop_unreferenced_vertices(Mesh(mesh.vertices, mesh.faces[kept], mesh.vertex_normals))
    return CleanMesh(rest, kept, tuple(removed), *num_kept)


NESTING_STEP = 1e-4
"""The winding number at this distance (unit frame) from an inward component tells whether it lies in another one."""

BOX_MARGIN = 1e-6
"""Bounding boxes at this distance (unit frame) still count as touching, so that six loose sides of a box are one
group."""


@dataclass(frozen=True, eq=False)
class OrientedComponents:
    """A mesh that is split into P connected components without common vertices. The faces keep their order.

    Attributes
    ----------
    mesh : Mesh
    component_of : (F,) int64
    closed : (P,) bool
        Every edge joins two faces that agree about the winding.
    is_turned : (P,) bool
        Whether a component has the opposite orientation of the given mesh.
    """

    mesh: Mesh
    component_of: NDArray[np.int64]
    closed: NDArray[np.bool_]
    is_turned: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.closed)

    def one(self, component: int) -> Mesh:
        """Return one component as a mesh of its own."""
        return drop_unreferenced_vertices(Mesh(self.mesh.vertices, self.mesh.faces[self._face_lists[component]]))

    def some(self, chosen: NDArray[np.bool_]) -> Mesh:
        """Return the components `chosen` (P,) as one mesh."""
        return drop_unreferenced_vertices(Mesh(self.mesh.vertices, self.mesh.faces[chosen[self.component_of]]))

    def turned(self, chosen: NDArray[np.bool_]) -> OrientedComponents:
        """Return all components. The components `chosen` (P,) are turned inside out."""
        mesh = Mesh(self.mesh.vertices, turn_faces(self.mesh.faces, chosen[self.component_of]))
        return OrientedComponents(mesh, self.component_of, self.closed, self.is_turned ^ chosen)

    def volumes(self, groups: NDArray[np.int64] | None = None) -> NDArray[np.float64]:
        """Return the volume (negative if inward) of each component (P,), or of each of the `groups` (P,) of components.

        The volume of an open component depends on a reference point. The reference is the mean of the group's corners.
        """
        group_of = self.component_of if groups is None else groups[self.component_of]
        corners = self.mesh.triangles
        counts = np.maximum(np.bincount(group_of), 1)
        middles = np.stack([np.bincount(group_of, weights=corners[:, :, i].mean(axis=1)) / counts for i in range(3)], 1)
        corners = corners - middles[group_of][:, None]
        cones = np.einsum("ij,ij->i", corners[:, 0], np.cross(corners[:, 1], corners[:, 2])) / 6
        return np.bincount(group_of, weights=cones).astype(np.float64)

    @functools.cached_property
    def _face_lists(self) -> list[NDArray[np.int64]]:
        counts = np.bincount(self.component_of, minlength=len(self))
        return np.split(np.argsort(self.component_of, kind="stable"), np.cumsum(counts)[:-1])

    def boxes(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the lower and upper corners of the components' bounding boxes, each (P, 3)."""
        return component_boxes(self.mesh, self.component_of)


def split_components(mesh: Mesh, patch: NDArray[np.int64] | None = None) -> OrientedComponents:
    """Split an oriented mesh into connected components without non-manifold edges.

    Where more than two faces meet at an edge, they are paired as wedges of solid. So components that touch are
    separated. The faces of one `patch` (F,) always stay together. By default patches end at non-manifold edges.
    """
    edges = EdgeTable.of(mesh.faces, len(mesh.vertices))
    pairs = _paired_half_edges(mesh, edges, edges.label_patches()[1] if patch is None else patch)
    num_faces = len(mesh.faces)
    count, component_of = label_connected(pairs[:, 0] // 3, pairs[:, 1] // 3, num_faces)
    is_paired = np.zeros(3 * num_faces, dtype=bool)
    is_paired[pairs] = True
    num_open = np.bincount(component_of, weights=~is_paired.reshape(-1, 3).all(axis=1), minlength=count)
    _, corner_fans = label_fans(mesh.faces, pairs)  # each fan of faces around a vertex gets a vertex of its own
    _, first = np.unique(corner_fans, return_index=True)
    split = Mesh(mesh.vertices[mesh.faces.reshape(-1)[first]], corner_fans.reshape(-1, 3))
    return OrientedComponents(split, component_of, num_open == 0, np.zeros(count, dtype=bool))


def _paired_half_edges(mesh: Mesh, edges: EdgeTable, patch: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return pairs (P, 2) of half-edges along which two faces continue each other."""
    starts = np.cumsum(edges.counts) - edges.counts
    pairs = [edges.pairs[edges.forward[edges.pairs[:, 0]] != edges.forward[edges.pairs[:, 1]]]]
    body = list(range(int(patch.max(initial=-1)) + 1))  # union-find: patches that were paired are one body
    for edge in np.flatnonzero(edges.counts > 2):
        around = edges.order[starts[edge] : starts[edge] + edges.counts[edge]]
        turn = _turn_about_edge(mesh, around, edges.forward)
        pairs.append(around[_match_brackets(turn, patch[around // 3].tolist(), body)])
    return np.concatenate(pairs)


def _turn_about_edge(mesh: Mesh, around: NDArray[np.int64], forward: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return rows (number of a half-edge in `around`, 1 if it enters solid and -1 if it leaves it), counter-clockwise.

    The rows start outside of any solid. A backward half-edge enters solid. At equal angles, half-edges that leave solid
    come first, so that parts that touch stay separate.
    """
    faces, corners = mesh.faces[around // 3], around % 3
    ends = np.take_along_axis(faces, np.stack([corners, (corners + 1) % 3, (corners + 2) % 3], axis=1), axis=1)
    lower, upper = mesh.vertices[ends[0, :2].min()], mesh.vertices[ends[0, :2].max()]
    axis = (upper - lower) / np.linalg.norm(upper - lower)
    arms = mesh.vertices[ends[:, 2]] - lower
    arms = arms - (arms @ axis)[:, None] * axis
    angles = np.arctan2(np.cross(arms[0], arms) @ axis, arms @ arms[0])
    rounded = np.round(np.mod(np.round(angles, 9), 2 * np.pi), 9)
    enters = np.where(forward[around], -1, 1)
    order = np.lexsort([enters, rounded])
    order = np.roll(order, -int(np.cumsum(enters[order]).argmin()) - 1)
    return np.column_stack([order, enters[order]])


def _match_brackets(turn: NDArray[np.int64], patch: list[int], body: list[int]) -> NDArray[np.int64]:
    """Pair each half-edge that leaves solid with the last unpaired one that enters, of the same body if possible.

    Returns the pairs (P, 2) and joins the bodies of each pair.
    """

    def body_of(half: int) -> int:
        root = patch[half]
        while body[root] != root:
            body[root] = root = body[body[root]]
        return root

    pairs, opened = [], []
    for half, step in turn.tolist():
        if step > 0:
            opened.append(half)
        elif opened:
            same = [place for place, other in enumerate(opened) if body_of(other) == body_of(half)]
            partner = opened.pop(same[-1] if same else -1)
            body[body_of(partner)] = body_of(half)
            pairs.append((partner, half))
    return np.array(pairs, dtype=np.int64).reshape(-1, 2)


def orient_components(components: OrientedComponents) -> OrientedComponents:
    """Turn the components (unit frame) that are inside out.

    Components whose bounding boxes touch form a group. If the volume of a group is negative, all its components are
    turned, cavities included. Then each closed inward component that lies in no other is turned, because a cavity needs
    a body.
    """
    clusters = cluster_boxes(*components.boxes(), margin=BOX_MARGIN)
    turned = components.turned((components.volumes(clusters) < 0)[clusters])
    inward = np.flatnonzero(turned.closed & (turned.volumes() < 0))
    if len(inward) == 0:
        return turned
    whole = WindingNumber(turned.mesh)
    alone = np.zeros(len(components), dtype=bool)
    for component in inward.tolist():
        mesh = turned.one(component)
        points, faces = spread_over_surface(mesh, 64)
        step = NESTING_STEP * mesh.face_normals[faces]
        around = (whole(points + step) + whole(points - step)) / 2 + 0.5  # without the component itself, which gives -½
        alone[component] = np.median(around) < 0.5
    return turned.turned(alone)


def cluster_boxes(lower: NDArray[np.float64], upper: NDArray[np.float64], *, margin: float) -> NDArray[np.int64]:
    """Return the group of each box, (P,). Boxes that overlap after growing by `margin` belong to the same group."""
    order = np.argsort(lower[:, 0])
    low, high = lower[order] - margin, upper[order] + margin
    last = np.searchsorted(low[:, 0], high[:, 0], side="right")
    rows, columns = [], []
    for row, stop in enumerate(last):
        others = slice(row + 1, stop)
        meets = (low[row, 1:] <= high[others, 1:]).all(axis=1) & (low[others, 1:] <= high[row, 1:]).all(axis=1)
        columns.append(np.flatnonzero(meets) + row + 1)
        rows.append(np.full(len(columns[-1]), row))
    labels = np.empty(len(lower), dtype=np.int64)
    _, labels[order] = label_connected(np.concatenate(rows), np.concatenate(columns), len(lower))
    return labels
