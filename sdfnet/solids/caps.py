"""Flat caps over shallow holes: a seat or a round foot whose underside is missing becomes a solid.

The winding number closes small holes well. Over a hole that is about as large as the part, the caps of the winding
number bulge where other parts are near, and a bowl must stay open. Therefore a wide hole is closed by triangles, and
only if it is flat, and if the part lies close over it: then hardly any surface that can be seen is lost.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sdfnet.geometry.arrays import unit_vectors
from sdfnet.mesh.distance import MeshDistance
from sdfnet.mesh.mesh import Mesh
from sdfnet.mesh.topology import HoleCaps, cap_holes
from sdfnet.mesh.winding import spread_over_surface

MAX_CAPS = 1 / 3
"""Flat caps over the holes of a solid have at most this share of its own area: a scan's bottom is closed, a bowl stays
open."""

MAX_SHALLOW_CAPS = 2 / 3
"""Caps over the shallow holes of a part have at most this share of its own area: a seat or a round foot without its
underside has more to it than the lid of a box, which stays open."""

SHALLOW = 2 / 3
"""A hole is shallow if the part lies over the hole at less than this share of the distance to the hole's rim, by the
medians over the hole. A half ball and a tube have 1, trays and bowls whose caps pass MAX_SHALLOW_CAPS have 0.7 to 0.9,
seats and round feet 0.1 to 0.6."""

_SAME_PLANE, _PARALLEL = 0.01, 0.9
"""Two rims lie in one plane if the middle of one is within this share of the square root of the other's area of the
other's plane, and if their normals have this cosine. One rim of a ring runs against the other."""

_NUM_PROBES = 200
_SMALL = 1e-7


def shallow_caps(part: Mesh) -> NDArray[np.int64]:
    """Return faces (K, 3) of `part` (unit frame) that close its shallow holes; none if all holes are small or deep.

    >>> step = Mesh([[0, 0, 0], [1, 0, 0], [0, 1, 0]], [[0, 1, 2]])
    >>> len(shallow_caps(step))
    0
    """
    caps, area, faces = cap_holes(part), float(part.face_areas.sum()), np.zeros((0, 3), dtype=np.int64)
    if area <= 0 or caps.areas.sum() <= MAX_CAPS * area:
        return faces
    outer = _outer_rims(caps)
    is_inner = outer != np.arange(len(outer))
    areas = caps.areas - np.bincount(outer[is_inner], weights=caps.areas[is_inner], minlength=len(outer))
    areas[is_inner] = 0.0
    closable = caps.is_flat & (areas <= MAX_SHALLOW_CAPS * area)
    if areas.sum() <= MAX_CAPS * area or areas[~closable].sum() > MAX_CAPS * area:
        return faces
    distance, closed = MeshDistance(part), 0.0
    for hole in np.flatnonzero(closable & ~is_inner).tolist():
        rims = [hole, *np.flatnonzero((outer == hole) & is_inner).tolist()]
        cap = _fan(caps, hole) if len(rims) == 1 else Mesh(part.vertices, _triangulated(part, caps, rims))
        if relative_depth(distance, cap, caps.rims[np.isin(caps.hole_of, rims)]) < SHALLOW:
            faces = np.concatenate([faces, _triangulated(part, caps, rims)])
            closed += float(areas[hole])
    return faces if closed <= MAX_SHALLOW_CAPS * area else faces[:0]


def _outer_rims(caps: HoleCaps) -> NDArray[np.int64]:
    """Return the hole in whose rim and plane each hole lies, (H,), or the hole itself: a ring has two such rims."""
    arms = caps.rims - caps.centers[caps.hole_of][:, None]
    normals = np.zeros_like(caps.centers)
    np.add.at(normals, caps.hole_of, np.cross(arms[:, 0], arms[:, 1]))
    normals = unit_vectors(normals)
    outer, order = np.arange(len(caps.areas)), np.argsort(-caps.areas, kind="stable")
    for hole in order[caps.is_flat[order]].tolist():
        heights = np.abs(((caps.centers[hole] - caps.centers) * normals).sum(axis=1))
        around = caps.is_flat & (caps.areas > caps.areas[hole]) & (heights <= _SAME_PLANE * np.sqrt(caps.areas))
        around &= normals @ normals[hole] < -_PARALLEL
        start = caps.rims[caps.hole_of == hole][0, 0]
        for other in sorted(np.flatnonzero(around).tolist(), key=lambda number: caps.areas[number]):
            starts, stops = (caps.rims[caps.hole_of == other] - start).transpose(1, 0, 2)
            turns = np.arctan2(np.cross(starts, stops) @ normals[other], (starts * stops).sum(axis=1))
            if abs(turns.sum()) > np.pi:  # The rim runs once around.
                outer[hole] = other if outer[other] == other else hole
                break
    return outer


def _fan(caps: HoleCaps, hole: int) -> Mesh:
    triangles = caps.triangles[caps.hole_of == hole]
    return Mesh(triangles.reshape(-1, 3), np.arange(3 * len(triangles)).reshape(-1, 3))


def relative_depth(distance: MeshDistance, cap: Mesh, rims: NDArray[np.float64]) -> float:
    """Return how far the part is from the `cap` over a hole, as a share of how far the `rims` (E, 2, 3) are.

    Both are medians over the cap.
    """
    if not cap.face_areas.any():
        return 1.0
    points = spread_over_surface(cap, _NUM_PROBES)[0]
    starts, along = rims[:, 0], rims[:, 1] - rims[:, 0]
    squares = np.maximum((along**2).sum(axis=1), _SMALL**2)
    to_rim = np.empty(len(points))
    for number, point in enumerate(points):
        share = np.clip(((point - starts) * along).sum(axis=1) / squares, 0, 1)
        to_rim[number] = np.linalg.norm(starts + share[:, None] * along - point, axis=1).min()
    return float(np.median(distance.unsigned(points).distance) / max(np.median(to_rim), _SMALL))


def _triangulated(part: Mesh, caps: HoleCaps, holes: list[int]) -> NDArray[np.int64]:
    """Return faces (K, 3) between flat rims in one plane, the outer one first; none if a rim is not one simple loop."""
    import manifold3d  # Here, because few meshes need it.

    loops = [_loop(caps.rim_vertices[caps.hole_of == hole]) for hole in holes]
    if not all(loops):
        return np.zeros((0, 3), dtype=np.int64)
    rims = [part.vertices[loop] - caps.centers[holes[0]] for loop in loops]
    normal = np.cross(rims[0], np.roll(rims[0], -1, axis=0)).sum(axis=0)
    aside = np.cross(normal, np.eye(3)[np.abs(normal).argmin()])
    axes = np.stack([aside / np.linalg.norm(aside), np.cross(normal, aside) / np.linalg.norm(np.cross(normal, aside))])
    triangles = manifold3d.triangulate([rim @ axes.T for rim in rims])
    return np.concatenate(loops)[np.asarray(triangles, dtype=np.int64)]


def _loop(edges: NDArray[np.int64]) -> list[int]:
    """Return the vertices of a rim (E, 2) in order, against its direction; none if they are not one simple loop."""
    starts, stops = edges.T
    following = dict(zip(stops.tolist(), starts.tolist(), strict=True))  # Caps run along the rim the other way.
    loop = [int(stops[0])]
    while len(loop) < len(starts) and following[loop[-1]] != loop[0]:
        loop.append(following[loop[-1]])
    return loop if len(loop) == len(starts) == len(following) else []
