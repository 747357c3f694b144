"""Change the triangles of a surface: remesh it with edges of equal length, or decimate it to fewer faces.

`remesh` does the four operations of Botsch & Kobbelt. Each step changes many places at once that share no faces. No
operation changes the topology. `simplify_mesh` collapses edges by quadrics (libigl's `qslim`), which keeps the surface
manifold and refuses most collapses that make faces cross.

References
----------
Botsch & Kobbelt 2004, A Remeshing Approach to Multiresolution Modeling, section 4. Deviation: splits, collapses and
flips are done in independent sets instead of one after the other.
Garland & Heckbert 1997, Surface Simplification Using Quadric Error Metrics.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sdfnet.mesh.distance import MeshDistance
from sdfnet.mesh.edges import EdgeTable, require_closed
from sdfnet.mesh.mesh import Mesh, face_crosses, names_vertex_twice, renumber_faces, sum_at_vertices
from sdfnet.mesh.quality import shape_quality, side_lengths
from sdfnet.mesh.topology import check_closed
from sdfnet.mesh.winding import libigl

Project = Callable[[NDArray[np.float64]], NDArray[np.float64]]
"""Moves points (V, 3) near the surface onto the surface."""

_LONG, _SHORT = 4 / 3, 4 / 5
"""Factors on the wanted edge length: longer edges are split, shorter edges are collapsed (section 4 of the paper)."""

_ITERATIONS = 6
"""Number of rounds of all four operations."""

_ROUNDS = 3
"""Number of independent sets of collapses, and of flips, in each round. Each set covers most of the remaining
places."""

_TURN = 0.5
"""Smallest allowed cosine between a face's normals before and after a collapse or flip."""

_SLIVER = 0.2
"""Smallest allowed `shape_quality` of a face that a flip makes."""

_SETTLING = 3
"""Number of final rounds that only flip and relax, without splits or collapses."""


def remesh(mesh: Mesh, *, edge_length: float, project: Project | None = None) -> Mesh:
    """Return a mesh of the same surface with edges of about `edge_length` (mesh units) and even triangles.

    The topology does not change. Triangles stay smaller where the surface has fine details. Vertex normals are dropped.
    Deterministic.

    Parameters
    ----------
    mesh : Mesh
        Closed and manifold: every edge has two faces that run along it in opposite directions.
    project : function, optional
        Moves points back onto the surface. Without this function, a curved surface shrinks a little.

    Raises
    ------
    ValueError
        An open or non-manifold mesh; an edge length that is not positive.

    >>> from sdfnet.fields import Sphere
    >>> from sdfnet.extraction import extract_mesh
    >>> ball = extract_mesh(Sphere(1.0), resolution=24)
    >>> even = remesh(ball, edge_length=0.2, project=lambda p: p / np.linalg.norm(p, axis=1, keepdims=True))
    >>> bool(even.face_areas.std() / even.face_areas.mean() < 0.2), round(even.signed_volume, 1)
    (True, 4.2)
    """
    if not edge_length > 0:
        raise ValueError(f"edge_length must be positive, got {edge_length}")
    require_closed(mesh.faces, len(mesh.vertices))
    vertices, faces = mesh.vertices, mesh.faces
    for _ in range(_ITERATIONS):
        vertices, faces = _split_long(vertices, faces, _LONG * edge_length)
        for _ in range(_ROUNDS):
            vertices, faces = _collapse_short(vertices, faces, _SHORT * edge_length, _LONG * edge_length)
        faces = _even_valences(vertices, faces)
        vertices = _relaxed(vertices, faces, project)
    for _ in range(_SETTLING):
        faces = _even_valences(vertices, faces)
        vertices = _relaxed(vertices, faces, project)
    return Mesh(vertices, faces)


def collapse_faces(mesh: Mesh, chosen: NDArray[np.bool_]) -> Mesh:
    """Remove many of the `chosen` faces (F,) of a closed mesh. An edge of each is collapsed into one of its ends.

    The shortest edges are collapsed first. An edge stays if its collapse would change the topology, or if it lies near
    a collapsed edge. Vertex normals are dropped.
    """
    vertices, faces = mesh.vertices, mesh.faces
    edges = EdgeTable.of(faces, len(vertices))
    candidates = np.flatnonzero(chosen[edges.beside].any(axis=1))
    candidates = candidates[_is_link(edges, candidates)]
    gone, kept = _independent(edges, candidates, edges.lengths(vertices)[candidates])
    target = np.arange(len(vertices))
    target[gone] = kept
    return Mesh(*_compact(vertices, target[faces]))


def _split_long(
    vertices: NDArray[np.float64], faces: NDArray[np.int64], longest: float
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Halve edges until no edge is longer than `longest`. The longest edge of each face is halved first."""
    while True:
        edges = EdgeTable.of(faces, len(vertices))
        lengths = edges.lengths(vertices)
        candidates = np.flatnonzero(lengths > longest)
        if not len(candidates):
            return vertices, faces
        rank = _ranks(-lengths[candidates])
        best = _lowest(edges.beside[candidates], rank, len(faces))
        chosen = candidates[(best[edges.beside[candidates]] == rank[:, None]).all(axis=1)]
        (a, b), (c, d), (f, g) = edges.ends[chosen].T, edges.opposite[chosen].T, edges.beside[chosen].T
        middle = len(vertices) + np.arange(len(chosen))
        vertices = np.concatenate([vertices, (vertices[a] + vertices[b]) / 2])
        faces = faces.copy()
        faces[f], faces[g] = np.stack([a, middle, c], axis=1), np.stack([b, middle, d], axis=1)
        added = [np.stack([middle, b, c], axis=1), np.stack([middle, a, d], axis=1)]
        faces = np.concatenate([faces, *added])


def _collapse_short(
    vertices: NDArray[np.float64], faces: NDArray[np.int64], shortest: float, longest: float
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Collapse an independent set of edges shorter than `shortest` into their middles.

    An edge stays where the topology or a normal would change, or an edge would become longer than `longest`.
    """
    edges = EdgeTable.of(faces, len(vertices))
    lengths = edges.lengths(vertices)
    candidates = np.flatnonzero(lengths < shortest)
    candidates = candidates[_is_link(edges, candidates)]
    kept, gone = _independent(edges, candidates, lengths[candidates])
    owner = np.full(len(vertices), -1)
    owner[kept] = owner[gone] = np.arange(len(kept))
    target, moved = np.arange(len(vertices)), vertices.copy()
    target[gone], moved[kept] = kept, (vertices[kept] + vertices[gone]) / 2
    near = owner[faces].max(axis=1)
    changed = np.flatnonzero((near >= 0) & ~names_vertex_twice(target[faces]))
    bad = _turned(face_crosses(vertices, faces[changed]), face_crosses(moved, target[faces[changed]]))
    bad |= (side_lengths(moved, target[faces[changed]]) > longest).any(axis=1)
    refused = np.unique(near[changed[bad]])
    target[gone[refused]], moved[kept[refused]] = gone[refused], vertices[kept[refused]]
    return _compact(moved, target[faces])


def _independent(edges: EdgeTable, candidates: NDArray[np.int64], costs: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the ends (2, N) of an independent set of `candidates`.

    A candidate is taken if it costs least among the candidates at the faces around its ends.
    """
    rank = _ranks(costs)
    at_vertex = _lowest(edges.ends[candidates], rank, edges.num_vertices)
    at_ring = np.full(edges.num_vertices, len(rank))
    np.minimum.at(at_ring, edges.faces.ravel(), np.repeat(at_vertex[edges.faces].min(axis=1), 3))
    chosen = candidates[(at_ring[edges.ends[candidates]] == rank[:, None]).all(axis=1)]
    return edges.ends[chosen].T


def _is_link(edges: EdgeTable, candidates: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether the collapse of each candidate keeps the topology: its ends must have exactly two common neighbours."""
    from scipy.sparse import coo_array  # Here, because the import takes 0.3 s and many commands do without.

    ones = np.ones(2 * len(edges.ends), dtype=np.int32)
    rows, columns = edges.ends.ravel(), edges.ends[:, ::-1].ravel()
    adjacent = coo_array((ones, (rows, columns)), shape=(edges.num_vertices, edges.num_vertices)).tocsr()
    a, b = edges.ends[candidates].T
    common = np.asarray(adjacent[a].multiply(adjacent[b]).sum(axis=1)).ravel()
    valence = np.bincount(edges.ends.ravel(), minlength=edges.num_vertices)
    return (common == 2) & (valence[edges.opposite[candidates]] > 3).all(axis=1)


def _even_valences(vertices: NDArray[np.float64], faces: NDArray[np.int64]) -> NDArray[np.int64]:
    """Flip edges in several independent sets if the flip brings the valences of the four vertices nearer to 6."""
    for _ in range(_ROUNDS):
        edges = EdgeTable.of(faces, len(vertices))
        valence = np.bincount(edges.ends.ravel(), minlength=len(vertices)) - 6
        before = np.abs(valence[edges.ends]).sum(axis=1) + np.abs(valence[edges.opposite]).sum(axis=1)
        after = np.abs(valence[edges.ends] - 1).sum(axis=1) + np.abs(valence[edges.opposite] + 1).sum(axis=1)
        candidates = np.flatnonzero(after < before)
        candidates = candidates[_may_flip(edges, candidates, vertices)]
        if not len(candidates):
            break
        four = np.concatenate([edges.ends[candidates], edges.opposite[candidates]], axis=1)
        rank = _ranks((after - before)[candidates])
        chosen = candidates[(_lowest(four, rank, len(vertices))[four] == rank[:, None]).all(axis=1)]
        (a, b), (c, d), (f, g) = edges.ends[chosen].T, edges.opposite[chosen].T, edges.beside[chosen].T
        faces = faces.copy()
        faces[f], faces[g] = np.stack([c, a, d], axis=1), np.stack([d, b, c], axis=1)
    return faces


def _may_flip(edges: EdgeTable, candidates: NDArray[np.int64], vertices: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether the other diagonal is not an edge yet and neither of the two new faces turns away or is a sliver."""
    (a, b), (c, d) = edges.ends[candidates].T, edges.opposite[candidates].T
    keys = np.minimum(c, d) * len(vertices) + np.maximum(c, d)
    place = np.minimum(np.searchsorted(edges.keys, keys), len(edges.keys) - 1)
    free = edges.keys[place] != keys
    around = face_crosses(vertices, np.stack([a, b, c], axis=1)) + face_crosses(vertices, np.stack([b, a, d], axis=1))
    new = [np.stack([c, a, d], axis=1), np.stack([d, b, c], axis=1)]
    for triangle in new:
        free &= ~_turned(around, face_crosses(vertices, triangle)) & (shape_quality(vertices, triangle) > _SLIVER)
    return free


def _relaxed(vertices: NDArray[np.float64], faces: NDArray[np.int64], project: Project | None) -> NDArray[np.float64]:
    """Move each vertex in its tangent plane towards its faces, then onto the surface, unless a face would turn over."""
    crosses = face_crosses(vertices, faces)
    areas = np.linalg.norm(crosses, axis=1, keepdims=True)
    sums = sum_at_vertices(faces, np.hstack([areas * vertices[faces].mean(axis=1), areas, crosses]), len(vertices))
    normals = sums[:, 4:] / np.maximum(np.linalg.norm(sums[:, 4:], axis=1, keepdims=True), 1e-300)
    step = sums[:, :3] / sums[:, 3:4] - vertices
    moved = vertices + step - (step * normals).sum(axis=1, keepdims=True) * normals
    moved = moved if project is None else project(moved)
    for _ in range(_ROUNDS):
        over = _turned(crosses, face_crosses(moved, faces))
        moved[faces[over]] = vertices[faces[over]]
    return moved


def _turned(before: NDArray[np.float64], after: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether each normal (of any length) has turned too far. A normal that has become zero counts as turned."""
    dots = np.einsum("ij,ij->i", before, after)
    return ~(dots > _TURN * np.linalg.norm(before, axis=1) * np.linalg.norm(after, axis=1))


def _ranks(costs: NDArray[np.number]) -> NDArray[np.int64]:
    """Return a different rank for each cost. Lower costs get lower ranks."""
    rank = np.empty(len(costs), dtype=np.int64)
    rank[np.argsort(costs, kind="stable")] = np.arange(len(costs))
    return rank


def _lowest(places: NDArray[np.int64], rank: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    """Return the lowest rank at each place, (size,). Row n of `places` (N, K) lists the places with `rank[n]`."""
    lowest = np.full(size, len(rank))
    np.minimum.at(lowest, places.ravel(), np.repeat(rank, places.shape[1]))
    return lowest


def _compact(vertices: NDArray[np.float64], faces: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Drop the faces that a collapse left without area, and the vertices that no face uses."""
    used, faces = renumber_faces(faces[~names_vertex_twice(faces)], len(vertices))
    return vertices[used], faces


_LOGGER = logging.getLogger(__name__)

_LEAST_FACES = 4
"""A tetrahedron."""


@dataclass(frozen=True, eq=False)
class Simplified:
    """A mesh with fewer faces, without vertex normals.

    `distance` is the largest distance from the vertices and face centres of one surface to the other, both ways, in
    mesh units.
    """

    mesh: Mesh
    num_faces_before: int
    distance: float


def check_max_faces(max_faces: int) -> None:
    """Raise ValueError if `max_faces` is too few for a closed surface."""
    if max_faces < _LEAST_FACES:
        raise ValueError(f"max_faces must be at least {_LEAST_FACES} (a tetrahedron), got {max_faces}")


def simplify_mesh(mesh: Mesh, *, max_faces: int) -> Simplified:
    """Collapse edges of `mesh` until it has at most `max_faces` faces, where the surface changes least.

    A closed mesh stays closed, with its components and handles. If `max_faces` cannot be reached under these
    conditions, a warning says how many faces are left. A mesh that has few enough faces is returned unchanged.

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
