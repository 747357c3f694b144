"""Repair a mesh: merge vertices, drop useless faces, and give all faces a consistent orientation.

`solids.solid.make_solid` calls these steps in order. The order was measured to give right signs after 20 % of the faces
are flipped, after reversed duplicates are added, and after the mesh is taken apart into single triangles. Holes are
not filled, and no new vertices are made.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sdfnet.mesh.edges import EdgeTable, half_edge_ends, label_connected
from sdfnet.mesh.mesh import Mesh, drop_unreferenced_vertices, label_positions
from sdfnet.mesh.winding import libigl


def merge_vertices(mesh: Mesh) -> Mesh:
    """Merge vertices at the same place, and drop those that no face uses. Vertex normals are dropped.

    Components that are closed without merging stay apart, even where they touch: the file says what belongs together.

    >>> merge_vertices(Mesh([[0, 0, 0], [1, 0, 0], [0, 0, 0], [9, 9, 9]], [[0, 1, 2]])).faces.tolist()
    [[0, 1, 0]]
    """
    used = drop_unreferenced_vertices(mesh)
    start, stop = used.faces[:, :2].reshape(-1), used.faces[:, 1:].reshape(-1)
    count, part_of = label_connected(start, stop, len(used.vertices))
    if count > 1:
        apart = _merge_within(used, part_of)
        edges = EdgeTable.of(apart.faces, len(apart.vertices))
        is_torn = (edges.counts != 2)[edges.edge_of].reshape(-1, 3).any(axis=1)
        is_open = np.bincount(part_of[used.faces[:, 0]], weights=is_torn, minlength=count) > 0
        part_of = np.where(is_open[part_of], -1, part_of)
    return _merge_within(used, part_of)


def _merge_within(mesh: Mesh, part_of: NDArray[np.int64]) -> Mesh:
    """Merge vertices at the same place that belong to the same component."""
    first, numbers = label_positions(mesh.vertices, part_of)
    return Mesh(mesh.vertices[first] + 0.0, numbers[mesh.faces])  # adding zero makes -0.0 equal to 0.0


def merge_boundary_vertices(mesh: Mesh, *, tolerance: float) -> Mesh:
    """Merge boundary vertices within `tolerance` of one another, where rounding has torn an edge apart."""
    from scipy.spatial import cKDTree  # Here, because the import takes time and many commands do without.

    edges = EdgeTable.of(mesh.faces, len(mesh.vertices))
    border = np.unique(np.stack(half_edge_ends(mesh.faces))[:, edges.is_boundary])
    pairs = cKDTree(mesh.vertices[border]).query_pairs(tolerance, output_type="ndarray")
    if len(pairs) == 0:
        return mesh
    _, labels = label_connected(pairs[:, 0], pairs[:, 1], len(border))
    first = np.unique(labels, return_index=True)[1]
    numbers = np.arange(len(mesh.vertices))
    numbers[border] = border[first[labels]]
    return merge_vertices(Mesh(mesh.vertices, numbers[mesh.faces]))


def drop_degenerate_faces(mesh: Mesh) -> Mesh:
    """Drop faces that name a vertex twice, and those without area unless they close the mesh.

    A needle along a T-junction has no area, but it joins its neighbours. Without it the mesh would count as open.

    >>> len(drop_degenerate_faces(Mesh([[0, 0, 0], [1, 0, 0], [2, 0, 0], [0, 1, 0]], [[0, 1, 2], [0, 1, 3]])).faces)
    1
    """
    faces = mesh.faces
    twice = (faces[:, 0] == faces[:, 1]) | (faces[:, 1] == faces[:, 2]) | (faces[:, 2] == faces[:, 0])
    proper = Mesh(mesh.vertices, faces[~twice])
    flat = proper.face_areas == 0
    if not flat.any() or (EdgeTable.of(proper.faces, len(proper.vertices)).counts % 2 == 0).all():
        return proper
    return Mesh(mesh.vertices, proper.faces[~flat])


def drop_duplicate_faces(mesh: Mesh) -> tuple[Mesh, int]:
    """Keep the first of the faces with the same corners, whatever their orientation; return the number of walls, too.

    Where two components touch, a whole patch of faces comes twice, and with one copy an odd number of faces would meet
    along its boundary. If the two copies have opposite orientations, the patch is a wall inside the solid, and both go.
    If they have the same orientation, one component lies in a corner of the other, and each needs its copy: both stay.
    """
    ranks = np.argsort(mesh.faces, axis=1)
    _, first, group, counts = np.unique(
        np.sort(mesh.faces, axis=1), axis=0, return_index=True, return_inverse=True, return_counts=True
    )
    if len(first) == len(mesh.faces):
        return mesh, 0
    is_even = (ranks[:, 1] - ranks[:, 0]) % 3 == 1  # as a permutation of the sorted corners
    net = np.abs(np.bincount(group.reshape(-1), weights=np.where(is_even, 1, -1)))
    keep = np.sort(first)
    times, alike = counts[group.reshape(-1)[keep]], net[group.reshape(-1)[keep]] > 1
    single = Mesh(mesh.vertices, mesh.faces[keep])
    doubled = (times // 2 if (times % 2 == 0).all() else times) % 2 == 0  # a mesh may be doubled as a whole
    touching, patch = _touching_patches(single, doubled)
    is_shared = touching & (np.bincount(patch, weights=np.where(alike, 1, -1)) > 0)[patch]
    is_wall = touching & ~is_shared
    return Mesh(mesh.vertices, np.concatenate([single.faces[~is_wall], single.faces[is_shared]])), int(is_wall.sum())


def _touching_patches(mesh: Mesh, doubled: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Return which faces are in patches where components touch, (F,), and the patch of each face; no face comes twice.

    All faces of such a patch were `doubled`. The patch has a boundary, and along all of it three, five, … faces meet.
    """
    edges = EdgeTable.of(mesh.faces, len(mesh.vertices))
    num_patches, patch = edges.label_patches()
    faces_at = edges.counts[edges.edge_of].reshape(-1, 3)
    rim = (faces_at != 2).any(axis=1)
    loose = ((faces_at != 2) & ((faces_at % 2 == 0) | (faces_at == 1))).any(axis=1)
    has_rim = np.bincount(patch, weights=rim, minlength=num_patches) > 0
    is_loose = np.bincount(patch, weights=loose | ~doubled, minlength=num_patches) > 0
    return (has_rim & ~is_loose)[patch], patch


def orient_patches(mesh: Mesh) -> tuple[Mesh, NDArray[np.int64]]:
    """Give the faces of each patch the orientation that most of the patch's area has already.

    This rule keeps cavities; "turn every component outward" would fill them. Returns the mesh and the patch of each
    face (F,). Faces that come twice get the same orientation, and their copies are patches of their own.
    """
    _, first, group = np.unique(np.sort(mesh.faces, axis=1), axis=0, return_index=True, return_inverse=True)
    group, is_copy = group.reshape(-1), np.ones(len(mesh.faces), dtype=bool)
    is_copy[first] = False
    single = Mesh(mesh.vertices, mesh.faces[first])
    oriented, patch = libigl().bfs_orient(single.faces)
    areas = single.face_areas
    kept = (oriented == single.faces).all(axis=1)
    votes = np.bincount(patch, weights=np.where(kept, areas, -areas))
    turn = (votes < 0)[patch]
    oriented[turn] = oriented[turn][:, ::-1]
    return Mesh(mesh.vertices, oriented[group]), patch[group] + is_copy * len(votes)


@dataclass(frozen=True)
class HoleMeasures:
    """The boundary edges and holes of a mesh.

    Attributes
    ----------
    num_edges, num_holes : int
        Edges with one face, and connected groups of such edges.
    area : float
        Of fans over the holes from their centroids: exact for flat convex holes, too large for most others.
    """

    num_edges: int
    num_holes: int
    area: float


def measure_holes(mesh: Mesh) -> HoleMeasures:
    """Count the boundary edges and holes of a mesh, and measure the area of the holes.

    >>> measure_holes(Mesh([[0, 0, 0], [1, 0, 0], [0, 1, 0]], [[0, 1, 2]]))
    HoleMeasures(num_edges=3, num_holes=1, area=0.5)
    """
    edges = EdgeTable.of(mesh.faces, len(mesh.vertices))
    if not edges.is_boundary.any():
        return HoleMeasures(0, 0, 0.0)
    start, stop = np.stack(half_edge_ends(mesh.faces))[:, edges.is_boundary]
    _, labels = label_connected(start, stop, len(mesh.vertices))
    names, loop = np.unique(labels[start], return_inverse=True)
    a, b = mesh.vertices[start], mesh.vertices[stop]
    lengths = np.linalg.norm(b - a, axis=1)
    total = np.bincount(loop, weights=lengths)
    centers = np.stack([np.bincount(loop, weights=lengths * (a + b)[:, i] / 2) / total for i in range(3)], axis=1)
    fans = np.cross(a - centers[loop], b - centers[loop])
    return HoleMeasures(len(start), len(names), float(np.linalg.norm(fans, axis=1).sum() / 2))
