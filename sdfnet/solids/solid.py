"""Turn a user's mesh into a solid. The inside of a solid is where the winding number of its surface exceeds ½.

Every mesh becomes a solid before distances are computed or its surface is sampled. A good mesh does not change.
`Solid.notes` says what was wrong, and what could not be repaired. Holes are not filled.

In measurements, this order of repairs gives correct signs after 20 % of the faces are flipped, after reversed
duplicates are added, and after the mesh is split into single triangles.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sdfnet.geometry.similarity import Similarity
from sdfnet.mesh.components import OrientedComponents, nest_components, orient_components, split_components
from sdfnet.mesh.distance import MeshDistance
from sdfnet.mesh.edges import EdgeTable, half_edge_ends, label_connected
from sdfnet.mesh.mesh import (
    Mesh,
    drop_unreferenced_vertices,
    join_meshes,
    label_positions,
    names_vertex_twice,
    turn_faces,
)
from sdfnet.mesh.topology import HoleMeasures, measure_holes
from sdfnet.mesh.union import GAP_WIDTH, UnionResult, unite_components
from sdfnet.mesh.visibility import visible_points
from sdfnet.mesh.winding import SURFACE_STEP, SurfaceShares, libigl, mesh_frame, probe_surface
from sdfnet.solids import walls
from sdfnet.solids.limits import enter_stage
from sdfnet.solids.rule import AUTO, SolidRule
from sdfnet.solids.walls import close_shallow_holes, exceeds_union, extract_outer, extract_solid, find_walls

WELD_TOLERANCE = 5e-7
"""Boundary vertices closer than this (share of the radius) are merged. Rounding in files separates vertices so far."""

MIN_INSIDE_SHARE = 0.3
"""A mesh is a thin sheet if a smaller share of its surface has an inside. Sheets have 0.0, real meshes 0.9 and more."""

FINE_STEP = 1e-5
"""A closed mesh is probed again at this distance before it is called a sheet, because it may be a thin plate."""

KEPT_WITHIN = 0.015
"""Visible surface counts as kept if it is this near to the surface of the solid (unit frame). In the middle of a thick
wall, it may be as far away as the wall's own surface."""

MIN_VISIBLE_KEPT = 0.99
"""If a new surface keeps less of what is visible, a note says so. A slat of a chair has about 1 %; the probes tell
0.2 %."""

_NUM_SEEN = 2000

_SWALLOWED = "{} inside another part and is filled; turn the faces inward to make a cavity of it"

MIN_NOTED_SHARE = 0.015
"""A smaller share of the surface that is buried or inside out is not worth a note."""

MIN_NOTED_THIN_SHARE = 0.05
"""A smaller share of the surface without an inside is not worth a note. This share is never quite zero along sharp
edges."""


@dataclass(frozen=True, eq=False)
class Solid:
    """A mesh whose signed distance is well defined.

    Attributes
    ----------
    mesh : Mesh
        World frame, outward faces, float64. It is the given mesh itself if nothing was wrong with it.
    closed : bool
        Whether the mesh has no boundary edges. Then the signed distance is exact.
    notes : tuple of str
        Texts on the repairs, and on faults that were not repaired. Empty for a good mesh.
    num_components : int
        Connected surfaces of `mesh`, cavities included.
    holes : HoleMeasures
        World units. The area is roughly that of the surface by which the winding number closes the holes.
    wall_thickness : float or None
        Thickness of the walls in the solid, world units; None if there are none.
    visible_kept : float
        Share of the surface seen from outside that is within 1.5 % of the radius of the solid. 1 if the solid has the
        faces of the file.
    """

    mesh: Mesh
    closed: bool
    notes: tuple[str, ...]
    num_components: int
    holes: HoleMeasures
    wall_thickness: float | None = None
    visible_kept: float = 1.0


def make_solid(mesh: Mesh, *, rule: SolidRule = AUTO) -> Solid:
    """Repair `mesh` (world frame), and make one closed surface of its parts where that is needed.

    Equal vertices are merged. Degenerate and duplicate faces are dropped. The winding is made consistent and outward,
    and cavities are kept. Closed parts that overlap or touch are united, so that buried faces do not count as surface.

    With `solid=auto`, parts that enclose nothing become walls. If there are such parts, or if the exact union of the
    parts would take long or fails, the solid is a new closed mesh (see `walls`), which keeps the visible surface within
    a few thousandths of the radius. With `solid=winding`, only a mesh that has hardly any inside becomes walls.

    Parameters
    ----------
    rule
        What the inside of a mesh is.

    Raises
    ------
    ValueError
        The mesh has no faces, vertices that are not finite, or zero extent or area; a wall is too thin to be resolved;
        the mesh has hardly any inside, and the `rule` is solid=winding without a thickness.

    >>> corners = [[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]]
    >>> make_solid(Mesh(corners, [[0, 1, 2], [0, 1, 3], [0, 3, 2], [1, 2, 3]])).notes
    ('1 of 4 faces turned: the winding was not consistent',)
    """
    enter_stage("merging vertices, turning faces")
    frame = mesh_frame(mesh)
    clean, notes = _clean(mesh, radius=1 / frame.scale)
    if rule.solid == "outer":
        return _filled(clean.to_unit(frame), rule, frame, notes)
    oriented, patch = orient_patches(clean.to_unit(frame))
    parts = orient_components(split_components(oriented, patch))
    num_swallowed, num_capped = _count_swallowed(parts), 0
    enter_stage(f"telling solids from walls, {len(parts)} parts")
    if rule.solid == "auto":
        parts, num_capped = close_shallow_holes(parts)
    given = parts.component_of[: len(oriented.faces)]  # without the caps
    turned = Mesh(clean.vertices, turn_faces(oriented.faces, parts.is_turned[given]))
    notes += _winding_notes(clean, turned)
    if num_swallowed:
        notes.append(_SWALLOWED.format("1 part lies" if num_swallowed == 1 else f"{num_swallowed} parts lie"))
    if num_capped:
        turned = parts.mesh.to_world(frame)
        notes.append(f"{num_capped} wide, shallow {'hole' if num_capped == 1 else 'holes'} closed by a flat cap")
    if rule.solid == "auto" and (exceeds_union(parts) or find_walls(parts).any()):
        return _rebuilt(parts, rule, frame, notes)
    enter_stage(f"uniting {len(parts)} parts")
    union = unite_components(parts)
    result = _assemble(mesh, turned, parts, union, frame)
    shares, closed = probe_surface(result.to_unit(frame)), bool(parts.closed.all())
    if closed and shares.solid < MIN_INSIDE_SHARE:
        shares = probe_surface(result.to_unit(frame), step=FINE_STEP)
    if rule.solid == "auto":
        if union.failures or max(shares.buried, shares.reversed, shares.inverted) > MIN_NOTED_SHARE:
            return _rebuilt(parts, rule, frame, notes)
    elif shares.solid < MIN_INSIDE_SHARE:
        if rule.thickness is None:
            raise ValueError(
                f"the mesh is a sheet: {shares.solid:.0%} of its surface has an inside (at least "
                f"{MIN_INSIDE_SHARE:.0%} wanted). Give a thickness, solid=auto, or close the mesh."
            )
        return _rebuilt(parts, rule, frame, notes)
    notes += _overlap_notes(union, shares, num_swallowed)
    num_components = int(union.kept.sum()) + sum(len(split_components(united)) for united in union.united)
    if num_components > 1:
        notes.append(f"{num_components} connected components")
    holes = measure_holes(parts.some(~parts.closed).to_world(frame))
    if not closed:
        share = f"caps over them add {holes.area / float(result.face_areas.sum()):.2%} of area"
        notes.append(f"open: {holes.num_edges} border edges around {holes.num_holes} holes; {share}")
    return Solid(result, closed, tuple(notes), num_components, holes)


def _rebuilt(parts: OrientedComponents, rule: SolidRule, frame: Similarity, notes: list[str]) -> Solid:
    """Return the solid whose surface is extracted anew from the solids and walls among `parts` (unit frame).

    With solid=winding, all parts are walls.
    """
    thickness = walls.WALL_THICKNESS if rule.thickness is None else rule.thickness * frame.scale
    is_wall = np.ones(len(parts), dtype=bool)
    if rule.solid == "auto":
        is_wall = find_walls(parts, depth=walls.SPACING)
    enter_stage(f"extracting a new surface of {len(parts)} parts")
    surface = extract_solid(parts, is_wall, thickness=thickness)
    wall_thickness = thickness / frame.scale if is_wall.any() else None
    if is_wall.any():
        areas = np.bincount(parts.component_of, weights=parts.mesh.face_areas, minlength=len(parts))
        share = f"{areas[is_wall].sum() / areas.sum():.0%} of the surface encloses nothing"
        notes.append(f"{share}: taken as walls {wall_thickness:g} thick")
    notes.append(f"all {len(parts)} parts made into one new surface" if len(parts) > 1 else "made into a new surface")
    return _new_solid(parts.mesh, surface, frame, notes, wall_thickness=wall_thickness)


def _filled(mesh: Mesh, rule: SolidRule, frame: Similarity, notes: list[str]) -> Solid:
    """Return the solid of all space that is closed off from outside by `mesh` (unit frame)."""
    gap = walls.GAP if rule.gap is None else rule.gap * frame.scale
    enter_stage("extracting the outermost surface")
    surface = extract_outer(mesh, gap=gap)
    notes.append(f"all that is closed off is full, with gaps below {gap / frame.scale:g} closed")
    return _new_solid(mesh, surface, frame, notes)


def _new_solid(
    mesh: Mesh, surface: Mesh, frame: Similarity, notes: list[str], *, wall_thickness: float | None = None
) -> Solid:
    """Return the solid whose boundary is the new `surface` of `mesh`, both in the unit frame."""
    enter_stage("comparing what can be seen")
    seen = visible_points(mesh, _NUM_SEEN)
    within = KEPT_WITHIN if wall_thickness is None else max(KEPT_WITHIN, 0.55 * wall_thickness * frame.scale)
    kept = float((MeshDistance(surface).unsigned(seen).distance <= within).mean()) if len(seen) else 1.0
    if kept < MIN_VISIBLE_KEPT:
        notes.append(f"only {kept:.1%} of the surface that is seen from outside is in the solid")
    num_components = len(nest_components(surface).volumes)
    if num_components > 1:
        notes.append(f"{num_components} connected components")
    return Solid(
        surface.to_world(frame), True, tuple(notes), num_components, HoleMeasures(0, 0, 0.0), wall_thickness, kept
    )


def _clean(mesh: Mesh, *, radius: float) -> tuple[Mesh, list[str]]:
    """Merge vertices and drop useless faces. Return the mesh and notes on the dropped faces."""
    notes = []
    merged = merge_vertices(mesh)
    proper = drop_degenerate_faces(merged)
    single, num_walls = drop_duplicate_faces(proper)
    clean = drop_degenerate_faces(merge_boundary_vertices(single, tolerance=WELD_TOLERANCE * radius))
    if len(clean.faces) == 0 or not clean.face_areas.any():
        raise ValueError(f"all {len(mesh.faces)} faces of the mesh are degenerate: they have no area")
    if num_degenerate := len(merged.faces) - len(proper.faces):
        notes.append(f"{num_degenerate} degenerate faces dropped")
    if num_duplicates := len(proper.faces) - len(single.faces) - 2 * num_walls:
        notes.append(f"{num_duplicates} duplicate faces dropped")
    if num_walls:
        notes.append(f"{num_walls} faces of walls between touching parts dropped")
    return drop_unreferenced_vertices(clean), notes


def _winding_notes(before: Mesh, after: Mesh) -> list[str]:
    """Return a note on how many faces were turned. Corners are compared from the lowest vertex of each face on."""
    first, last = (
        np.take_along_axis(faces, (faces.argmin(axis=1)[:, None] + np.arange(3)) % 3, axis=1)
        for faces in (before.faces, after.faces)
    )
    count = int((first != last).any(axis=1).sum())
    if count == 0:
        return []
    if count == len(before.faces):
        return [f"all {count} faces turned: the winding was inward"]
    return [f"{count} of {len(before.faces)} faces turned: the winding was not consistent"]


def _assemble(given: Mesh, turned: Mesh, parts: OrientedComponents, union: UnionResult, frame: Similarity) -> Mesh:
    """Join the kept components, with their own coordinates, and the united components; world frame."""
    if not union.united:
        is_given = turned.faces.shape == given.faces.shape and turned.vertices.shape == given.vertices.shape
        return given if is_given and (turned.triangles == given.triangles).all() else turned
    kept = Mesh(turned.vertices, turned.faces[union.kept[parts.component_of]])
    return join_meshes([drop_unreferenced_vertices(kept), *(united.to_world(frame) for united in union.united)])


def _count_swallowed(parts: OrientedComponents) -> int:
    """Return how many closed outward components (unit frame) lie deep inside another one, and so add nothing.

    The faces of a cavity point inward. So a shell that faces outward inside a solid is not a cavity.
    """
    outward = np.flatnonzero(parts.closed & (parts.volumes() > 0))
    lower, upper = parts.boxes()
    count = 0
    for inner in outward.tolist():
        around = (lower[outward] < lower[inner]).all(axis=1) & (upper[inner] < upper[outward]).all(axis=1)
        if around.any():
            vertices, bodies = parts.one(inner).vertices, (parts.one(outer) for outer in outward[around].tolist())
            count += any(MeshDistance(body)(vertices).sdf.max() < -GAP_WIDTH for body in bodies)
    return count


def _overlap_notes(union: UnionResult, shares: SurfaceShares, num_swallowed: int) -> list[str]:
    """Return notes on the united components, and on surface that is still buried or inside out."""
    notes = []
    num_united = int((~union.kept).sum()) - num_swallowed
    if union.united and num_united > len(union.united):
        seams = f", {union.num_seams} seams between them closed" if union.num_seams else ""
        notes.append(f"{num_united} overlapping or touching parts united into {len(union.united)}{seams}")
    kept = list(union.failures)
    if shares.buried > MIN_NOTED_SHARE:
        kept.append(f"{shares.buried:.1%} of the surface lies buried and still counts as surface")
    if kept:
        notes.append(f"overlaps kept: {'; '.join(kept)}")
    if shares.reversed > MIN_NOTED_SHARE:
        notes.append(f"{shares.reversed:.1%} of the surface is inside out")
    thin = 1 - shares.solid - shares.buried - shares.reversed
    if thin > MIN_NOTED_THIN_SHARE:
        sheets = f"sheets, or thinner than {SURFACE_STEP:g} of the radius"
        notes.append(f"{thin:.1%} of the surface has no inside ({sheets})")
    return notes


def merge_vertices(mesh: Mesh) -> Mesh:
    """Merge vertices at the same place, and drop unused vertices and all vertex normals.

    Components that are closed without merging stay separate even where they touch, because the file separates them.

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
    """Merge boundary vertices within `tolerance` of one another, because rounding may have split an edge."""
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
    """Drop faces that name a vertex twice. Also drop faces without area, unless they close the mesh.

    A needle along a T-junction has no area, but it joins its neighbours. Without it the mesh would count as open.

    >>> len(drop_degenerate_faces(Mesh([[0, 0, 0], [1, 0, 0], [2, 0, 0], [0, 1, 0]], [[0, 1, 2], [0, 1, 3]])).faces)
    1
    """
    proper = Mesh(mesh.vertices, mesh.faces[~names_vertex_twice(mesh.faces)])
    flat = proper.face_areas == 0
    if not flat.any() or (EdgeTable.of(proper.faces, len(proper.vertices)).counts % 2 == 0).all():
        return proper
    return Mesh(mesh.vertices, proper.faces[~flat])


def drop_duplicate_faces(mesh: Mesh) -> tuple[Mesh, int]:
    """Keep one face of those with the same corners, whatever their orientation. Also return the number of walls.

    Where two components touch, a whole patch of faces exists twice. With only one copy, an odd number of faces would
    meet along the boundary of the patch. If the two copies have opposite orientations, the patch is a wall inside the
    solid, and both copies are dropped. If they have the same orientation, one component lies in a corner of the other.
    Then each component needs its copy, and both stay.
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
    """Return which faces lie in patches where components touch, (F,), and the patch of each face, (F,).

    `mesh` has no duplicate faces. All faces of such a patch were `doubled`. The patch has a boundary, and an odd number
    of faces (three, five, …) meets at every edge of this boundary.
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

    This rule keeps cavities. Turning every component outward would fill them. Returns the mesh and the patch of each
    face (F,). Duplicate faces get the same orientation, and the copies are patches of their own.
    """
    _, first, group = np.unique(np.sort(mesh.faces, axis=1), axis=0, return_index=True, return_inverse=True)
    group, is_copy = group.reshape(-1), np.ones(len(mesh.faces), dtype=bool)
    is_copy[first] = False
    single = Mesh(mesh.vertices, mesh.faces[first])
    oriented, patch = libigl().bfs_orient(single.faces)
    areas = single.face_areas
    kept = (oriented == single.faces).all(axis=1)
    votes = np.bincount(patch, weights=np.where(kept, areas, -areas))
    oriented = turn_faces(oriented, (votes < 0)[patch])
    return Mesh(mesh.vertices, oriented[group]), patch[group] + is_copy * len(votes)
