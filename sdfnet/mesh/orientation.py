"""Split an oriented mesh into connected components, and turn those outward that are inside out.

Components that touch at non-manifold edges come apart, so that each is closed where possible.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sdfnet.mesh.components import component_boxes
from sdfnet.mesh.edges import EdgeTable, label_connected, label_fans
from sdfnet.mesh.mesh import Mesh, drop_unreferenced_vertices
from sdfnet.mesh.winding import WindingNumber, spread_over_surface

NESTING_STEP = 1e-4
"""Distance beside an inward component at which the winding number tells what it lies in; unit frame."""

BOX_MARGIN = 1e-6
"""Bounding boxes this close meet, unit frame: six loose sides of a box belong together."""


@dataclass(frozen=True, eq=False)
class OrientedComponents:
    """A mesh split into P connected components that share no vertex.

    Attributes
    ----------
    mesh : Mesh
        Its faces are those of the given mesh, in their order.
    component_of : (F,) int64
        The component of each face.
    closed : (P,) bool
        Every edge joins two faces that agree about the winding.
    is_turned : (P,) bool
        Which have the opposite orientation of the given mesh.
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
        """Return all components, with those `chosen` (P,) turned inside out."""
        faces = self.mesh.faces.copy()
        turn = chosen[self.component_of]
        faces[turn] = faces[turn][:, ::-1]
        return OrientedComponents(
            Mesh(self.mesh.vertices, faces), self.component_of, self.closed, self.is_turned ^ chosen
        )

    def volumes(self, groups: NDArray[np.int64] | None = None) -> NDArray[np.float64]:
        """Return the volume of each component (P,), negative if it points inward; or of each of the `groups` (P,).

        The volume of an open one depends on a reference point: here the mean of the group's corners.
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

    Where more than two faces meet at an edge, they are paired as wedges of solid, so that components that touch come
    apart. Faces of one `patch` (F,) surely belong together; by default patches end at non-manifold edges.
    """
    edges = EdgeTable.of(mesh.faces, len(mesh.vertices))
    pairs = _paired_half_edges(mesh, edges, edges.label_patches()[1] if patch is None else patch)
    num_faces = len(mesh.faces)
    count, component_of = label_connected(pairs[:, 0] // 3, pairs[:, 1] // 3, num_faces)
    is_paired = np.zeros(3 * num_faces, dtype=bool)
    is_paired[pairs] = True
    num_open = np.bincount(component_of, weights=~is_paired.reshape(-1, 3).all(axis=1), minlength=count)
    return OrientedComponents(_split_vertices(mesh, pairs), component_of, num_open == 0, np.zeros(count, dtype=bool))


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
    """Return rows (number of a half-edge in `around`, 1 if it enters solid and -1 if it leaves it) in their order.

    The order is counter-clockwise about their edge, from a place where nothing is entered yet. A backward half-edge
    enters solid and a forward one leaves it. Where angles are equal, what leaves comes first: parts that touch
    stay apart.
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
    """Pair what enters with what leaves, (P, 2): the last entered of the same body, or else the last entered.

    Joins the bodies that it pairs.
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


def _split_vertices(mesh: Mesh, pairs: NDArray[np.int64]) -> Mesh:
    """Give each fan of faces around a vertex a vertex of its own."""
    _, numbers = label_fans(mesh.faces, pairs)
    _, first = np.unique(numbers, return_index=True)
    return Mesh(mesh.vertices[mesh.faces.reshape(-1)[first]], numbers.reshape(-1, 3))


def orient_components(components: OrientedComponents) -> OrientedComponents:
    """Turn the components (unit frame) that are inside out.

    Components whose bounding boxes meet are judged together: if their volume is negative, all of them are turned,
    cavities included. Then each closed inward component that lies in nothing is turned, because a cavity needs a body.
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
    """Number the groups of boxes (P, 3) that meet, directly or through others, once grown by `margin`, (P,)."""
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
