"""Which parts of a mesh enclose a solid and which become walls, and the closed surface of both together.

People's meshes hold closed bodies beside surfaces without an inside: a seat of one layer, a tube without ends, a
doubled panel. Every edge-connected part is a *solid* or a *wall*. A point is inside where the winding numbers of all
solids sum to more than ½ in size (Jacobson et al., SIGGRAPH 2013), or where a wall is nearer than half its thickness.
The boundary of that set is extracted once, with its sharp edges, as a closed mesh. So nothing that can be seen from
outside is lost, no boolean operation is needed, and the way always ends.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sdfnet.extraction import extract_mesh
from sdfnet.fields import MeshField, Offset, Union
from sdfnet.fields.base import Accuracy, Field, check_points
from sdfnet.geometry.bounds import LATTICE_MARGIN, Bounds
from sdfnet.geometry.similarity import UNIT_RADIUS
from sdfnet.mesh.components import NOTHING, OrientedComponents, nest_components
from sdfnet.mesh.distance import Distances, MeshDistance, SignedDistances
from sdfnet.mesh.mesh import Mesh, drop_unreferenced_vertices
from sdfnet.mesh.topology import count_degenerate_faces, measure_holes
from sdfnet.mesh.union import GAP_WIDTH
from sdfnet.mesh.winding import SURFACE_STEP, WindingNumber, spread_over_surface
from sdfnet.solids.caps import MAX_CAPS, shallow_caps

WALL_THICKNESS = 0.017 * UNIT_RADIUS
"""Of a wall where the user gives none, unit frame: one lattice spacing at resolution 128."""

GAP = 0.02 * UNIT_RADIUS
"""With solid=outer, gaps below this width are closed where the user gives none, unit frame."""

MIN_INSIDE = 0.95
"""A solid has an inside along at least this share of its area."""

MIN_DEEP = 0.5
"""At least this share of a solid's area has an inside at some depth: plates and wires are that thick."""

KEPT_DEPTH = 3e-3
"""A mesh whose parts all are thicker than this (unit frame) keeps its own faces."""

SPACING = WALL_THICKNESS / 2
"""Of the lattice on which a new surface is extracted, unit frame: up to 256 samples per axis. Plates and wires that are
thinner than this are walls there, or they would fall between the samples. Thinner walls take a finer lattice."""

MOST_RESOLUTION = 1024
_SPACINGS_IN_WALL, _SPACINGS_IN_GAP = 2, 3

MOST_SHARP_PARTS = 64
"""A new surface of more parts is extracted without sharp edges: they cross everywhere, and take minutes."""

MOST_PAIRS, MOST_PAIR_FACES = 1000, 40_000
"""The exact union is taken up to so many pairs of parts whose boxes meet, and up to so many faces, summed over these
pairs. A convex decomposition has up to 400 pairs and 16,000 faces; a chair with 97 pairs and 73,000 faces takes
minutes."""

_ON_SURFACE = 1e-7
_STEP_OF_SMALL = 0.02
"""Probes beside a part are not farther from it than this share of the least extent of its box: near the sharp edges of
a small part, a longer step leaves the part on both sides."""
_FEWEST_PROBES, _MOST_PROBES = 100, 400


def find_walls(parts: OrientedComponents, *, depth: float = KEPT_DEPTH) -> NDArray[np.bool_]:
    """Return which of `parts` (unit frame) do not enclose a solid and become walls, (P,).

    A closed part that is too thin alone may still be a slice of a thick solid, as in convex decompositions. Therefore
    the closed parts that fail are tested again together with all solids.

    Parameters
    ----------
    depth : float
        A solid has an inside this deep below at least half of its area, unit frame. A plate or wire that is thinner
        vanishes in a lattice with this spacing.
    """
    meshes = [parts.one(number) for number in range(len(parts))]
    is_wall = np.array([not _is_solid(mesh, WindingNumber(mesh), depth) for mesh in meshes], dtype=bool)
    doubtful = is_wall & parts.closed
    if doubtful.any() and not doubtful.all():
        together = WindingNumber(parts.some(~is_wall | doubtful))
        for number in np.flatnonzero(doubtful):
            is_wall[number] = not _is_solid(meshes[number], together, depth)
    return is_wall


def close_shallow_holes(parts: OrientedComponents) -> tuple[OrientedComponents, int]:
    """Close wide, shallow holes of `parts` (unit frame) by flat caps, where that makes solids. Return their number.

    A part that is closed now is turned outward: before, its volume said little. Caps stand after all other faces.

    The vertices of the mesh stay, and the new faces come last.
    """
    faces, component_of, closed = [parts.mesh.faces], [parts.component_of], parts.closed.copy()
    num_closed = 0
    for number in np.flatnonzero(~parts.closed).tolist():
        chosen = parts.mesh.faces[parts.component_of == number]
        used, renumbered = np.unique(chosen, return_inverse=True)
        part = Mesh(parts.mesh.vertices[used], renumbered.reshape(-1, 3))
        added = shallow_caps(part)
        capped = Mesh(part.vertices, np.concatenate([part.faces, added]))
        if len(added) and _is_solid(capped, WindingNumber(capped), KEPT_DEPTH):
            faces.append(used[added])
            component_of.append(np.full(len(added), number))
            before, after = measure_holes(part), measure_holes(capped)
            closed[number] = after.num_edges == 0
            num_closed += before.num_holes - after.num_holes
    if not num_closed:
        return parts, 0
    mesh = Mesh(parts.mesh.vertices, np.concatenate(faces))
    parts_now = OrientedComponents(mesh, np.concatenate(component_of), closed, parts.is_turned)
    return parts_now.turned(closed & ~parts.closed & (parts_now.volumes() < 0)), num_closed


def _is_solid(part: Mesh, winding: WindingNumber, depth: float) -> bool:
    """Tell whether `part` has an inside where `winding` says that space is inside."""
    area = float(part.face_areas.sum())
    if area <= 0 or measure_holes(part).area > MAX_CAPS * area:
        return False
    points, faces = spread_over_surface(part, int(np.clip(len(part.faces), _FEWEST_PROBES, _MOST_PROBES)))
    normals = part.face_normals[faces]
    step = min(SURFACE_STEP, _STEP_OF_SMALL * float(part.bounds.extent.min()) + _ON_SURFACE)
    steps = np.concatenate([distance * normals for distance in (-step, step, -depth, depth)])
    is_inside = np.abs(winding(np.tile(points, (4, 1)) + steps)) > 0.5
    behind, before, deep_behind, deep_before = is_inside.reshape(4, -1)
    crossing = behind & before  # The part crosses itself here: buried, and no evidence either way.
    if crossing.all() or (behind ^ before)[~crossing].mean() < MIN_INSIDE:
        return False
    return bool((deep_behind | deep_before).mean() >= MIN_DEEP)


def exceeds_union(parts: OrientedComponents) -> bool:
    """Tell whether the exact union of `parts` (unit frame) may take long. The answer depends on counts only.

    What counts are the pairs of closed parts whose boxes meet, and the faces of both parts of every pair.
    """
    lower, upper = (corners[parts.closed] for corners in parts.boxes())
    num_faces = np.bincount(parts.component_of, minlength=len(parts))[parts.closed]
    num_pairs = num_pair_faces = 0
    for number in range(len(lower) - 1):
        later = slice(number + 1, None)
        meets = (lower[number] <= upper[later] + GAP_WIDTH).all(axis=1)
        meets &= (lower[later] <= upper[number] + GAP_WIDTH).all(axis=1)
        num_pairs += int(meets.sum())
        num_pair_faces += int((num_faces[number] + num_faces[later][meets]).sum())
    return num_pairs > MOST_PAIRS or num_pair_faces > MOST_PAIR_FACES


def extract_solid(parts: OrientedComponents, is_wall: NDArray[np.bool_], *, thickness: float) -> Mesh:
    """Return the closed boundary of the solids and walls among `parts`, unit frame, outward.

    Hollows between walls that nothing connects with the outside are filled: nobody sees them. Cavities of solids stay.
    Vertices are within about a hundredth of a lattice spacing of the exact boundary on smooth places. Sharp edges are
    kept up to `MOST_SHARP_PARTS` parts.

    Parameters
    ----------
    is_wall : (P,) bool
    thickness : float
        Of a whole wall, unit frame.

    Raises
    ------
    ValueError
        The walls are too thin for the finest lattice.
    """
    solids, walls = parts.some(~is_wall), parts.some(is_wall)
    fields: list[Field] = []
    if len(solids.faces):
        fields.append(_SolidField(solids, is_closed=bool(parts.closed[~is_wall].all())))
    if len(walls.faces):
        fields.append(_WallField(walls, thickness / 2))
    field = Union(*fields)
    width = thickness if len(walls.faces) else math.inf
    resolution = _resolution(field.bounds, width=width, spacings=_SPACINGS_IN_WALL, key="thickness")
    mesh = _extract(field, resolution, sharp=len(parts) <= MOST_SHARP_PARTS)
    shells = nest_components(mesh)
    dropped = shells.is_cavity
    inward = parts.some(~is_wall & parts.closed & (parts.volumes() < 0))
    if dropped.any() and len(inward.faces):
        distance = MeshDistance(inward).unsigned(mesh.triangles[:, 0]).distance
        for shell in np.flatnonzero(dropped):
            dropped[shell] = np.median(distance[shells.component_of == shell]) > SPACING
    return drop_unreferenced_vertices(Mesh(mesh.vertices, mesh.faces[~dropped[shells.component_of]]))


def extract_outer(mesh: Mesh, *, gap: float) -> Mesh:
    """Return the closed surface of all space that a ball of the diameter `gap` cannot reach from outside.

    The ball rolls over `mesh` (unit frame) and stays out of every opening that is narrower than the ball. The surface
    lies on the mesh where the ball touches the mesh; it is rounded by up to a fifth of `gap` in concave edges. Parts
    that stick out and are thinner than a lattice spacing become walls.

    Raises
    ------
    ValueError
        The gap is too narrow for the finest lattice.
    """
    around = _WallField(mesh, gap / 2)
    resolution = _resolution(around.bounds, width=gap, spacings=_SPACINGS_IN_GAP, key="gap")
    centers = extract_mesh(around, resolution=resolution, project_steps=1, vertex_normals=False, dtype=torch.float64)
    # The outermost surface is where the centre of the ball can be while the ball touches the mesh.
    filled: Field = Offset(MeshField(_outermost(centers)), -gap / 2)
    thin = _thin_faces(mesh, filled)
    if thin.any():
        sticking_out = drop_unreferenced_vertices(Mesh(mesh.vertices, mesh.faces[thin]))
        filled = Union(filled, _WallField(sticking_out, WALL_THICKNESS / 2))
    return _outermost(_extract(filled, _resolution(filled.bounds)))


def _extract(field: Field, resolution: int, *, sharp: bool = True) -> Mesh:
    """Extract a mesh with sharp edges. Where sharp edges cross, some faces can lose their area; then edges are cut."""
    options: dict[str, Any] = {"resolution": resolution, "vertex_normals": False, "dtype": torch.float64}
    with np.errstate(all="ignore"):  # The caller may raise for what is harmless here.
        mesh = extract_mesh(field, sharp=True, warn_if_damaged=False, **options) if sharp else None
        if mesh is None or count_degenerate_faces(mesh):
            return extract_mesh(field, project_steps=2, **options)
        return mesh


def _outermost(mesh: Mesh) -> Mesh:
    """Return the closed components of `mesh` that lie in no other."""
    shells = nest_components(mesh)
    return drop_unreferenced_vertices(Mesh(mesh.vertices, mesh.faces[(shells.host == NOTHING)[shells.component_of]]))


def _thin_faces(mesh: Mesh, filled: Field) -> NDArray[np.bool_]:
    """Return the faces of `mesh` (F,) that have no inside of `filled` one lattice spacing away, on either side."""
    centers, steps = mesh.triangles.mean(axis=1), SPACING * mesh.face_normals
    beside = filled(torch.from_numpy(np.stack([centers - steps, centers + steps]))).numpy()
    return np.asarray((beside > -SPACING / 4).all(axis=0))


def _resolution(bounds: Bounds, *, width: float = math.inf, spacings: int = 1, key: str = "") -> int:
    """Return the samples per axis of a lattice over `bounds` with so many `spacings` in a `width`, the user's `key`."""
    longest = float(bounds.extent.max()) * (1 + LATTICE_MARGIN)
    resolution = math.ceil(longest / min(SPACING, width / spacings)) + 1
    if resolution > MOST_RESOLUTION:
        least = spacings * longest / (MOST_RESOLUTION - 1) / UNIT_RADIUS
        raise ValueError(
            f"{key}: {width / UNIT_RADIUS:.2g} of the radius is too small; the finest lattice, of {MOST_RESOLUTION} "
            f"samples per axis, allows {least:.2g} of the radius. Give a larger {key}."
        )
    return resolution


class _SolidField(Field):
    """Negative where the winding number of `solids` is more than ½ in size.

    Exact outside. Inside, the distance may be that to a buried face, so it never exceeds the true distance. Across the
    holes of an open solid the sign jumps, and the field is only approximate.
    """

    def __init__(self, solids: Mesh, *, is_closed: bool) -> None:
        self.accuracy: Accuracy = "bound" if is_closed else "approximate"
        self.bounds = solids.bounds
        self._solids, self._distance = solids, MeshDistance(solids)

    def __call__(self, points: Tensor) -> Tensor:
        flat, points_64 = _flat(points)
        found = self._distance(points_64)
        sign = np.where(np.abs(found.winding) > 0.5, -1.0, 1.0)
        slopes = sign[:, None] * _away(points_64, found, self._solids)
        return _with_gradient(sign * np.abs(found.sdf), slopes, flat).reshape(points.shape[:-1])


class _WallField(Field):
    """Negative nearer than `half_thickness` to the faces of `walls`. Exact outside."""

    def __init__(self, walls: Mesh, half_thickness: float) -> None:
        self.accuracy: Accuracy = "bound"
        self.bounds = walls.bounds.grown(half_thickness)
        self._walls, self._half_thickness, self._distance = walls, half_thickness, MeshDistance(walls)

    def __call__(self, points: Tensor) -> Tensor:
        flat, points_64 = _flat(points)
        found = self._distance.unsigned(points_64)
        slopes = _away(points_64, found, self._walls)
        return _with_gradient(found.distance - self._half_thickness, slopes, flat).reshape(points.shape[:-1])


def _flat(points: Tensor) -> tuple[Tensor, NDArray[np.float64]]:
    """Return `points` as (N, 3), in torch and in NumPy."""
    check_points(points)
    flat = points.reshape(-1, 3)
    return flat, flat.detach().to("cpu", torch.float64).numpy()


def _with_gradient(sdf: NDArray[np.float64], slopes: NDArray[np.float64], points: Tensor) -> Tensor:
    """Return `sdf` (N,) as a tensor whose gradient at `points` (N, 3) is `slopes` (N, 3)."""
    result = torch.from_numpy(np.ascontiguousarray(sdf)).to(points)
    if points.requires_grad and torch.is_grad_enabled():
        result = result + ((points - points.detach()) * torch.from_numpy(slopes).to(points)).sum(dim=-1)
    return result


def _away(points: NDArray[np.float64], found: SignedDistances | Distances, mesh: Mesh) -> NDArray[np.float64]:
    """Return the unit directions from the closest points to `points`; the face's normal on the surface."""
    offsets = points - found.closest_points
    lengths = np.linalg.norm(offsets, axis=1, keepdims=True)
    return np.where(lengths > _ON_SURFACE, offsets / np.maximum(lengths, 1e-300), mesh.face_normals[found.faces])
