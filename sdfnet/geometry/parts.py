"""Split an oriented mesh into connected parts, closed where that can be had, and turn the parts right side out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from sdfnet.geometry.mesh import Mesh
from sdfnet.geometry.repair import Edges, face_patches
from sdfnet.geometry.winding import WindingNumber, spread_over_surface

NESTING_STEP = 1e-4
"""How far beside an inward part the rest is looked at to see what it lies in; unit frame."""

BOX_MARGIN = 1e-6
"""Boxes of parts this close meet, unit frame: six loose sides of a box belong together."""


@dataclass(frozen=True, eq=False)
class Part:
    """A connected surface cut out of a mesh.

    Attributes
    ----------
    mesh : Mesh
    faces : (F,) int64
        The faces of the whole mesh that the part consists of, in the part's order.
    closed : bool
        Every edge joins two faces that agree about the winding.
    volume : float
        Negative for an inward part.
    is_turned : bool
        Whether the winding is the reverse of what it was in the whole mesh.
    """

    mesh: Mesh
    faces: NDArray[np.int64]
    closed: bool
    volume: float
    is_turned: bool = False

    def turned(self) -> Part:
        """Return the part inside out."""
        mesh = Mesh(self.mesh.vertices, self.mesh.faces[:, ::-1])
        return Part(mesh, self.faces, self.closed, -self.volume, not self.is_turned)


def split_parts(mesh: Mesh) -> list[Part]:
    """Split an oriented mesh into connected parts.

    Where more than two faces meet at an edge they are paired as wedges of solid, so that parts that touch come apart
    and each is a surface without such edges. The parts' faces together are those of `mesh`.
    """
    edges = Edges.of(mesh)
    pairs = _paired_half_edges(mesh, edges)
    num_faces = len(mesh.faces)
    graph = coo_matrix((np.ones(len(pairs)), (pairs[:, 0] // 3, pairs[:, 1] // 3)), shape=(num_faces, num_faces))
    count, part_of = connected_components(graph, directed=False)
    corner_numbers, positions = _split_vertices(mesh, pairs)
    is_paired = np.zeros(3 * num_faces, dtype=bool)
    is_paired[pairs] = True
    num_open = np.bincount(part_of, weights=~is_paired.reshape(-1, 3).all(axis=1), minlength=count)
    order = np.argsort(part_of, kind="stable")
    parts = []
    for faces in np.split(order, np.cumsum(np.bincount(part_of, minlength=count))[:-1]):
        used, local = np.unique(corner_numbers[faces].reshape(-1), return_inverse=True)
        part = Mesh(positions[used], local.reshape(-1, 3))
        parts.append(Part(part, faces, bool(num_open[part_of[faces[0]]] == 0), part.signed_volume))
    return parts


def _paired_half_edges(mesh: Mesh, edges: Edges) -> NDArray[np.int64]:
    """Return pairs (P, 2) of half-edges along which two faces continue each other."""
    order = np.argsort(edges.edge_of, kind="stable")
    starts = np.concatenate([[0], np.cumsum(edges.counts)[:-1]])
    two = order[starts[edges.counts == 2][:, None] + np.arange(2)]
    pairs = [two[edges.forward[two[:, 0]] != edges.forward[two[:, 1]]]]
    crowded = np.flatnonzero(edges.counts > 2)
    patch = face_patches(edges)[1] if len(crowded) else np.zeros(0, dtype=np.int64)
    for edge in crowded:
        around = order[starts[edge] : starts[edge] + edges.counts[edge]]
        pairs.append(around[_match_brackets(_turn_about_edge(mesh, around, edges.forward), patch[around // 3])])
    return np.concatenate(pairs)


def _turn_about_edge(mesh: Mesh, around: NDArray[np.int64], forward: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return rows (number of a half-edge in `around`, 1 if it enters solid and -1 if it leaves it) in their order.

    The order is counter-clockwise about their edge, from a place where nothing is entered yet. A backward half-edge
    enters solid and a forward one leaves it. Where angles are equal, what leaves comes first: parts that touch
    are apart.
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


def _match_brackets(turn: NDArray[np.int64], patch: NDArray[np.int64]) -> NDArray[np.int64]:
    """Pair what enters with what leaves, (P, 2): the last entered of the same patch, or else the last entered."""
    pairs, opened = [], []
    for half, step in turn.tolist():
        if step > 0:
            opened.append(half)
        elif opened:
            same = [place for place, other in enumerate(opened) if patch[other] == patch[half]]
            pairs.append((opened.pop(same[-1] if same else -1), half))
    return np.array(pairs, dtype=np.int64).reshape(-1, 2)


def _split_vertices(mesh: Mesh, pairs: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Give each fan of faces around a vertex its own vertex: corners (F, 3) and positions."""
    start_a, start_b = pairs[:, 0], pairs[:, 1]
    stop_a, stop_b = (half // 3 * 3 + (half + 1) % 3 for half in (start_a, start_b))
    one, other = np.concatenate([start_a, stop_a]), np.concatenate([stop_b, start_b])
    size = 3 * len(mesh.faces)
    graph = coo_matrix((np.ones(len(one)), (one, other)), shape=(size, size))
    _, numbers = connected_components(graph, directed=False)
    _, first = np.unique(numbers, return_index=True)
    return numbers.reshape(-1, 3).astype(np.int64), mesh.vertices[mesh.faces.reshape(-1)[first]]


def turn_parts(parts: list[Part]) -> list[Part]:
    """Turn those of `parts` (unit frame) that are inside out as a whole.

    Parts whose boxes meet are judged together: if their volume is negative all are turned, cavities with them. Then
    a closed inward part that lies in nothing is turned outward: a cavity needs something around it.
    """
    clusters = cluster_parts(parts, margin=BOX_MARGIN)
    volumes = np.zeros(len(parts))
    for cluster in np.unique(clusters):
        members = np.flatnonzero(clusters == cluster)
        volumes[members] = join_meshes([parts[i].mesh for i in members]).signed_volume
    turned = [part.turned() if volume < 0 else part for part, volume in zip(parts, volumes, strict=True)]
    inward = [i for i, part in enumerate(turned) if part.closed and part.volume < 0]
    if not inward:
        return turned
    everything = WindingNumber(join_meshes([part.mesh for part in turned]))
    for i in inward:
        points, faces = spread_over_surface(turned[i].mesh, 64)
        step = NESTING_STEP * turned[i].mesh.face_normals[faces]
        around = (
            everything(points + step) + everything(points - step)
        ) / 2 + 0.5  # without the part itself: it gives -½
        if np.median(around) < 0.5:
            turned[i] = turned[i].turned()
    return turned


def cluster_parts(parts: list[Part], *, margin: float) -> NDArray[np.int64]:
    """Number the groups of parts whose bounding boxes, grown by `margin`, meet directly or through others, (P,)."""
    lower = np.array([part.mesh.vertices.min(axis=0) for part in parts]) - margin
    upper = np.array([part.mesh.vertices.max(axis=0) for part in parts]) + margin
    rows, columns = [], []
    for i in range(len(parts)):
        meets = np.flatnonzero(((lower[i] <= upper[i:]) & (lower[i:] <= upper[i])).all(axis=1)) + i
        rows.append(np.full(len(meets), i))
        columns.append(meets)
    row, column = np.concatenate(rows), np.concatenate(columns)
    _, labels = connected_components(coo_matrix((np.ones(len(row)), (row, column)), shape=(len(parts),) * 2))
    return labels.astype(np.int64)


def join_meshes(meshes: list[Mesh]) -> Mesh:
    """Put meshes side by side into one, without merging vertices."""
    offsets = np.cumsum([0] + [len(mesh.vertices) for mesh in meshes])
    faces = [mesh.faces + offset for mesh, offset in zip(meshes, offsets, strict=False)]
    return Mesh(np.concatenate([mesh.vertices for mesh in meshes]), np.concatenate(faces))
