"""Flat caps over shallow holes: a seat or a round foot whose underside is missing becomes a solid.

The winding number closes small holes well. Over a hole that is about as large as the part, the caps of the winding
number bulge where other parts are near, and a bowl must stay open. Therefore a wide hole is closed by triangles, and
only if it is flat, and if the part lies close over it: then hardly any surface that can be seen is lost.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

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

_NUM_PROBES = 200
_SMALL = 1e-7


def shallow_caps(part: Mesh) -> NDArray[np.int64]:
    """Return faces (K, 3) of `part` (unit frame) that close its shallow holes; none if all holes are small or deep.

    >>> step = Mesh([[0, 0, 0], [1, 0, 0], [0, 1, 0]], [[0, 1, 2]])
    >>> len(shallow_caps(step))
    0
    """
    caps, area, faces = cap_holes(part), float(part.face_areas.sum()), np.zeros((0, 3), dtype=np.int64)
    closable = caps.is_flat & (caps.areas <= MAX_SHALLOW_CAPS * area)
    if area <= 0 or caps.areas.sum() <= MAX_CAPS * area or caps.areas[~closable].sum() > MAX_CAPS * area:
        return faces
    distance, closed = MeshDistance(part), 0.0
    for hole in np.flatnonzero(closable).tolist():
        if relative_depth(distance, caps, hole) < SHALLOW:
            faces = np.concatenate([faces, _triangulated(part, caps, hole)])
            closed += float(caps.areas[hole])
    return faces if closed <= MAX_SHALLOW_CAPS * area else faces[:0]


def relative_depth(distance: MeshDistance, caps: HoleCaps, hole: int) -> float:
    """Return how far the part is from the cap over a hole, as a share of how far the rim is. Medians over the cap."""
    is_own = caps.hole_of == hole
    fan = Mesh(caps.triangles[is_own].reshape(-1, 3), np.arange(3 * is_own.sum()).reshape(-1, 3))
    if not fan.face_areas.any():
        return 1.0
    points = spread_over_surface(fan, _NUM_PROBES)[0]
    starts, along = caps.rims[is_own, 0], caps.rims[is_own, 1] - caps.rims[is_own, 0]
    squares = np.maximum((along**2).sum(axis=1), _SMALL**2)
    to_rim = np.empty(len(points))
    for number, point in enumerate(points):
        share = np.clip(((point - starts) * along).sum(axis=1) / squares, 0, 1)
        to_rim[number] = np.linalg.norm(starts + share[:, None] * along - point, axis=1).min()
    return float(np.median(distance.unsigned(points).distance) / max(np.median(to_rim), _SMALL))


def _triangulated(part: Mesh, caps: HoleCaps, hole: int) -> NDArray[np.int64]:
    """Return faces (K, 3) over a flat hole; none if its rim is not one simple loop."""
    import manifold3d  # Here, because few meshes need it.

    starts, stops = caps.rim_vertices[caps.hole_of == hole].T
    following = dict(zip(stops.tolist(), starts.tolist(), strict=True))  # Caps run along the rim the other way.
    loop = [int(stops[0])]
    while len(loop) < len(starts) and following[loop[-1]] != loop[0]:
        loop.append(following[loop[-1]])
    if len(loop) < len(starts) or len(following) < len(starts):
        return np.zeros((0, 3), dtype=np.int64)
    rim = part.vertices[loop] - caps.centers[hole]
    normal = np.cross(rim, np.roll(rim, -1, axis=0)).sum(axis=0)
    aside = np.cross(normal, np.eye(3)[np.abs(normal).argmin()])
    axes = np.stack([aside / np.linalg.norm(aside), np.cross(normal, aside) / np.linalg.norm(np.cross(normal, aside))])
    return np.array(loop)[np.asarray(manifold3d.triangulate([rim @ axes.T]), dtype=np.int64)]
