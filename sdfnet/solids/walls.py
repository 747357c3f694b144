"""Which parts of a mesh enclose a solid and which become walls, and the closed surface of both together.

People's meshes hold closed bodies beside surfaces without an inside: a seat of one layer, a tube without ends, a
doubled panel. Every edge-connected part is a *solid* or a *wall*. A point is inside where the winding numbers of all
solids sum to more than ½ in size (Jacobson et al., SIGGRAPH 2013), or where a wall is nearer than half its thickness.
The boundary of that set is extracted once, with its sharp edges, as a closed mesh. So nothing that can be seen from
outside is lost, no boolean operation is needed, and the way always ends.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sdfnet.extraction import extract_mesh
from sdfnet.fields.base import Accuracy, Field, check_points
from sdfnet.geometry.bounds import Bounds
from sdfnet.mesh.components import OrientedComponents, nest_components
from sdfnet.mesh.distance import Distances, MeshDistance, SignedDistances
from sdfnet.mesh.mesh import Mesh, drop_unreferenced_vertices
from sdfnet.mesh.topology import measure_holes
from sdfnet.mesh.union import GAP_WIDTH
from sdfnet.mesh.winding import SURFACE_STEP, WindingNumber, spread_over_surface

WALL_THICKNESS = 0.017
"""Of a wall where the user gives none, as a share of the radius: one lattice spacing at resolution 128."""

MIN_INSIDE = 0.95
"""A solid has an inside along at least this share of its area."""

MAX_CAPS = 1 / 3
"""Flat caps over a solid's holes have at most this share of its own area: a scan's bottom is
closed, a bowl stays open."""

THIN_DEPTH, MIN_DEEP = 4e-3, 0.5
"""At least `MIN_DEEP` of a solid's area still has an inside this deep (share of the radius). A plate or wire
thinner than this would vanish in any lattice."""

RESOLUTION = 256
"""Samples per axis of the lattice on which the surface of a solid with walls is extracted."""

MOST_RESOLUTION, _SPACINGS = 1024, 2
"""Thin walls take a finer lattice, up to this. It has two spacings in a wall."""

MOST_PAIRS, MOST_FACES = 400, 400_000
"""The exact union is taken up to so many pairs of parts whose boxes meet, and up to so many faces of such parts."""

_ON_SURFACE = 1e-7
_FEWEST_PROBES, _MOST_PROBES = 100, 400


def find_walls(parts: OrientedComponents) -> NDArray[np.bool_]:
    """Return which of `parts` (unit frame) do not enclose a solid and become walls, (P,)."""
    return np.array([not _is_solid(parts.one(number)) for number in range(len(parts))], dtype=bool)


def _is_solid(part: Mesh) -> bool:
    area = float(part.face_areas.sum())
    if area <= 0 or measure_holes(part).area > MAX_CAPS * area:
        return False
    points, faces = spread_over_surface(part, int(np.clip(len(part.faces), _FEWEST_PROBES, _MOST_PROBES)))
    normals = part.face_normals[faces]
    steps = np.concatenate([step * normals for step in (-SURFACE_STEP, SURFACE_STEP, -THIN_DEPTH, THIN_DEPTH)])
    is_inside = np.abs(WindingNumber(part)(np.tile(points, (4, 1)) + steps)) > 0.5
    behind, before, deep_behind, deep_before = is_inside.reshape(4, -1)
    crossing = behind & before  # The part crosses itself here: buried, and no evidence either way.
    if crossing.all() or (behind ^ before)[~crossing].mean() < MIN_INSIDE:
        return False
    return bool((deep_behind | deep_before).mean() >= MIN_DEEP)


def exceeds_union(parts: OrientedComponents) -> bool:
    """Tell whether the exact union of `parts` (unit frame) would take long. The answer depends on counts only."""
    lower, upper = (corners[parts.closed] for corners in parts.boxes())
    num_faces = np.bincount(parts.component_of, minlength=len(parts))[parts.closed]
    num_pairs, num_meeting = 0, 0
    for number in range(len(lower)):
        meets = (lower[number] <= upper + GAP_WIDTH).all(axis=1) & (lower <= upper[number] + GAP_WIDTH).all(axis=1)
        others = int(meets.sum()) - 1
        num_pairs += others
        num_meeting += int(num_faces[number]) if others else 0
    return num_pairs // 2 > MOST_PAIRS or num_meeting > MOST_FACES


def extract_solid(parts: OrientedComponents, is_wall: NDArray[np.bool_], *, thickness: float) -> Mesh:
    """Return the closed boundary of the solids and walls among `parts`, unit frame, outward.

    Hollows that nothing connects with the outside are filled: nobody sees them. Vertices are within about a hundredth
    of a lattice spacing of the exact boundary on smooth places; sharp edges are kept.

    Parameters
    ----------
    is_wall : (P,) bool
    thickness : float
        Of a whole wall, unit frame.

    Raises
    ------
    ValueError
        Nothing is left: all parts are thinner than the lattice resolves.
    """
    field = _SolidField(
        parts.some(~is_wall), parts.some(is_wall), thickness / 2, is_closed=bool(parts.closed[~is_wall].all())
    )
    resolution = _resolution(field.bounds, thickness) if is_wall.any() else RESOLUTION
    mesh = extract_mesh(field, resolution=resolution, sharp=True, vertex_normals=False, dtype=torch.float64)
    shells = nest_components(mesh)
    return drop_unreferenced_vertices(Mesh(mesh.vertices, mesh.faces[~shells.is_cavity[shells.component_of]]))


def _resolution(bounds: Bounds, thickness: float) -> int:
    """Return the samples per axis of a lattice with two spacings in a wall."""
    least = math.ceil(_SPACINGS * float(bounds.extent.max()) / thickness) + 1
    if least > MOST_RESOLUTION:
        share = _SPACINGS * float(bounds.extent.max()) / (MOST_RESOLUTION - 1)
        raise ValueError(
            f"walls of {thickness:.2g} of the radius are too thin: a lattice of {MOST_RESOLUTION} has two samples in "
            f"walls of {share:.2g} of the radius and more. Give a larger thickness."
        )
    return max(RESOLUTION, least)


class _SolidField(Field):
    """Negative where the solids' winding numbers sum to more than ½ in size, or within a wall.

    Exact outside. Inside, the distance may be that to a buried face, so it never exceeds the true distance. Across the
    holes of an open solid the sign jumps, and the field is only approximate.
    """

    def __init__(self, solids: Mesh, walls: Mesh, half_thickness: float, *, is_closed: bool) -> None:
        self._solids, self._walls, self._half_thickness = solids, walls, half_thickness
        self._to_solids = MeshDistance(solids) if len(solids.faces) else None
        self._to_walls = MeshDistance(walls) if len(walls.faces) else None
        self.accuracy: Accuracy = "bound" if is_closed else "approximate"
        self.bounds = Bounds.of(np.concatenate([solids.vertices, walls.vertices]))
        self.bounds = self.bounds.grown(half_thickness if len(walls.faces) else 0.0)

    def __call__(self, points: Tensor) -> Tensor:
        check_points(points)
        flat = points.reshape(-1, 3)
        points_64 = flat.detach().to("cpu", torch.float64).numpy()
        if len(points_64) == 0:
            return points.sum(dim=-1)
        sdf, slopes = np.full(len(points_64), np.inf), np.zeros_like(points_64)
        if self._to_solids is not None:
            found = self._to_solids(points_64)
            sign = np.where(np.abs(found.winding) > 0.5, -1.0, 1.0)
            sdf = sign * np.abs(found.sdf)
            slopes = sign[:, None] * _away(points_64, found, self._solids)
        if self._to_walls is not None:
            nearest = self._to_walls.unsigned(points_64)
            outside = nearest.distance - self._half_thickness
            nearer = outside < sdf
            sdf = np.where(nearer, outside, sdf)
            slopes = np.where(nearer[:, None], _away(points_64, nearest, self._walls), slopes)
        result = torch.from_numpy(sdf).to(points)
        if points.requires_grad and torch.is_grad_enabled():
            result = result + ((flat - flat.detach()) * torch.from_numpy(slopes).to(points)).sum(dim=-1)
        return result.reshape(points.shape[:-1])


def _away(points: NDArray[np.float64], found: SignedDistances | Distances, mesh: Mesh) -> NDArray[np.float64]:
    """Return the unit directions from the closest points to `points`; the face's normal on the surface."""
    offsets = points - found.closest_points
    lengths = np.linalg.norm(offsets, axis=1, keepdims=True)
    return np.where(lengths > _ON_SURFACE, offsets / np.maximum(lengths, 1e-300), mesh.face_normals[found.faces])
