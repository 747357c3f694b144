"""Unite closed components that overlap or touch, so that no surface is buried inside the solid.

The solid is where the winding number exceeds ½: outward components add 1, inward components (cavities) subtract 1.
`manifold3d` computes the booleans. Components that it does not accept stay as they are, and the result says so.

Narrow gaps between components are filled. Files round coordinates, and convex decompositions leave gaps of 10⁻⁴ of the
radius. No lattice or network resolves such a gap, but its two walls would count as surface. The filler is the
intersection of the two components after each has moved across the gap along its normal. This filler is a slab between
the walls that hardly extends beyond them sideways. Only `make_solid` uses this module; repairing single components is
another subject.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sdfnet.mesh.components import OrientedComponents, cluster_boxes, split_components
from sdfnet.mesh.distance import MeshDistance
from sdfnet.mesh.mesh import Mesh, join_meshes, sum_at_vertices
from sdfnet.mesh.winding import SURFACE_STEP, WindingNumber, probe_surface, spread_over_surface

if TYPE_CHECKING:
    import manifold3d


GAP_WIDTH = 1e-3
"""Gaps between closed components up to this width (share of the radius) are filled."""

FACING = -0.9
"""The normals of the two walls of a gap have a dot product below this."""

OVERREACH = 1e-6
"""A filler extends this far into both components (unit frame): more than rounding, less than the accuracy of
distances."""

_GAP_PROBES, _MAX_GAP_PROBES = 400, 100_000
"""Number of probes on each component, and on all components together."""


def find_narrow_gaps(meshes: list[Mesh]) -> list[tuple[int, int, NDArray[np.float64]]]:
    """Find the narrow gaps between closed outward meshes (unit frame), by probes spread over their surfaces.

    Each gap has the numbers of two components, and the vector (3,) that moves the wall of the first component across
    the gap into the second. The gap width is zero if the components just touch.

    >>> box = Mesh(np.indices((2, 2, 2)).reshape(3, -1).T, [[0, 1, 3], [0, 3, 2], [4, 7, 5], [4, 6, 7], [0, 4, 5],
    ...     [0, 5, 1], [2, 3, 7], [2, 7, 6], [0, 2, 6], [0, 6, 4], [1, 5, 7], [1, 7, 3]])
    >>> ((one, other, push),) = find_narrow_gaps([box, Mesh(box.vertices + [1.0005, 0, 0], box.faces)])
    >>> one, other, push.round(4).tolist()
    (0, 1, [0.0005, 0.0, 0.0])
    """
    num_probes = min(_GAP_PROBES, max(1, _MAX_GAP_PROBES // max(len(meshes), 1)))
    probes = [spread_over_surface(mesh, num_probes) for mesh in meshes]
    points = np.concatenate([points for points, _ in probes])
    normals = np.concatenate([mesh.face_normals[faces] for mesh, (_, faces) in zip(meshes, probes, strict=True)])
    owners = np.repeat(np.arange(len(meshes)), num_probes)
    contacts = [np.zeros((0, 6))]
    for number, mesh in enumerate(meshes):
        near = mesh.bounds.grown(GAP_WIDTH).contains(points) & (owners != number)
        if near.any():
            contacts.append(_contacts(mesh, number, points[near], normals[near], owners[near]))
    table = np.concatenate(contacts)
    _, pair = np.unique(table[:, :2], axis=0, return_inverse=True)
    groups = [table[pair == number] for number in range(pair.max(initial=-1) + 1)]
    return [(int(group[0, 0]), int(group[0, 1]), push) for group in groups for push in _pushes(group)]


def _contacts(
    mesh: Mesh, number: int, points: NDArray[np.float64], normals: NDArray[np.float64], owners: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return rows (lower number, higher number, normal of the lower, width) of probes that closely face `mesh`."""
    found = MeshDistance(mesh).unsigned(points)
    facing = np.einsum("ij,ij->i", mesh.face_normals[found.faces], normals) < FACING
    rows = facing & (found.distance <= GAP_WIDTH)
    widths = np.einsum("ij,ij->i", found.closest_points[rows] - points[rows], normals[rows])
    forward = owners[rows] < number
    outward = np.where(forward[:, None], normals[rows], -normals[rows])
    return np.column_stack([np.minimum(owners[rows], number), np.maximum(owners[rows], number), outward, widths])


def _pushes(contacts: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    """Group the contacts of two components by direction. The vector of each group crosses its widest place."""
    pushes = []
    while len(contacts):
        same = contacts[:, 2:5] @ contacts[0, 2:5] > -FACING
        mean = contacts[same, 2:5].mean(axis=0)
        reach = 1.05 * max(float(contacts[same, 5].max()), 0.0) + OVERREACH
        pushes.append(reach * mean / np.linalg.norm(mean))
        contacts = contacts[~same]
    return pushes


def inflate(mesh: Mesh, amount: float) -> Mesh:
    """Return a closed outward mesh with every face moved outward by `amount`, as far as its vertices allow.

    Each vertex goes to the point where the moved planes of its faces meet, in the least-squares sense, but at most
    three times as far as the faces. The amount must be smaller than any detail of the mesh.
    """
    normals = mesh.face_normals
    products = (normals[:, :, None] * normals[:, None, :]).reshape(-1, 9)
    matrices = sum_at_vertices(mesh.faces, products, len(mesh.vertices))
    sums = sum_at_vertices(mesh.faces, normals, len(mesh.vertices))
    moves = np.linalg.solve(matrices.reshape(-1, 3, 3) + 1e-6 * np.eye(3), sums[..., None])[..., 0]
    lengths = np.linalg.norm(moves, axis=1, keepdims=True)
    return Mesh(mesh.vertices + amount * moves * np.minimum(1, 3 / np.maximum(lengths, 1e-9)), mesh.faces)


UNCHANGED = 1e-9
"""If area and volume change less than this share, the union found nothing to unite."""

MAX_DISAGREEMENT = 1e-2
"""A union is refused if it disagrees with the winding number at more than this share of probes beside the surfaces."""

NUM_PROBES = 500

FLAKE_THICKNESS = 1e-5
"""Components of a union that are thinner than this (unit frame) come from rounding."""

INFLATION = 2e-7
"""Components with common walls are inflated by one to two times this (unit frame), each by a different amount. Then no
two faces coincide. Booleans of coinciding faces leave slits and flakes. The amount is well below the accuracy of
distances."""


@dataclass(frozen=True, eq=False)
class UnionResult:
    """The result of uniting the P components of a mesh.

    Attributes
    ----------
    kept : (P,) bool
        Components that overlap no other, or that could not be united.
    united : tuple of Mesh
        One mesh for each group of components that were united.
    num_seams : int
        Narrow gaps that were filled.
    failures : tuple of str
        Reasons why groups of components were not united.
    """

    kept: NDArray[np.bool_]
    united: tuple[Mesh, ...]
    num_seams: int
    failures: tuple[str, ...]


def unite_components(components: OrientedComponents) -> UnionResult:
    """Unite closed components (unit frame) whose bounding boxes touch, if the union changes the surface."""
    closed = np.flatnonzero(components.closed)
    kept = np.ones(len(components), dtype=bool)
    if len(closed) < 2:
        return UnionResult(kept, (), 0, ())
    lower, upper = components.boxes()
    clusters = cluster_boxes(lower[closed], upper[closed], margin=GAP_WIDTH / 2)
    groups = np.split(closed[np.argsort(clusters, kind="stable")], np.cumsum(np.bincount(clusters))[:-1])
    united, num_seams, failures = [], 0, []
    for group in groups:
        if len(group) < 2:
            continue
        result, num_fillers = _unite_group([components.one(number) for number in group])
        if isinstance(result, str):
            failures.append(result)
        elif result is not None:
            kept[group] = False
            united.append(result)
            num_seams += num_fillers
    return UnionResult(kept, tuple(united), num_seams, tuple(failures))


def _unite_group(group: list[Mesh]) -> tuple[Mesh | str | None, int]:
    """Return the union of closed components and the number of gaps that were filled because faces were still buried.

    Instead of the union, return None if it changes nothing, or the reason if there is no proper union.
    """
    import manifold3d

    is_cavity = [not mesh.signed_volume >= 0 for mesh in group]
    outward = [
        Mesh(mesh.vertices, mesh.faces[:, ::-1]) if cavity else mesh
        for mesh, cavity in zip(group, is_cavity, strict=True)
    ]
    solids = [_to_manifold(mesh) for mesh in outward]
    bad = [str(solid.status()).split(".")[-1] for solid in solids if solid.status() != manifold3d.Error.NoError]
    if bad:
        return f"{len(bad)} of {len(group)} parts are no manifold ({bad[0]})", 0
    parents = _parents(outward, is_cavity)
    bodies = _hollow(solids, parents)
    result = _add(bodies)
    fillers: list[manifold3d.Manifold] = []
    if len(result.faces) and probe_surface(result, num_probes=NUM_PROBES).buried > 0:
        gaps = find_narrow_gaps([_to_mesh(body) for body in bodies])
        fillers = [bodies[one].translate(push) ^ bodies[other].translate(-push) for one, other, push in gaps]
        inflated = [
            solid if cavity else _to_manifold(inflate(mesh, INFLATION * (1 + number * 0.618 % 1)))
            for number, (mesh, solid, cavity) in enumerate(zip(outward, solids, is_cavity, strict=True))
        ]
        result = _add([*_hollow(inflated, parents), *fillers])
    result = _drop_flakes(result)
    if len(result.faces) == 0:
        return f"the union of {len(group)} parts came out empty", 0
    before = join_meshes(group)
    if _same_measures(before, result):
        return None, 0
    disagreement = _disagreement(before, result)
    if disagreement > MAX_DISAGREEMENT:
        share = f"{disagreement:.1%} of probes"
        return f"the union of {len(group)} parts differs from their winding number at {share}", 0
    return result, len(fillers)


def _parents(outward: list[Mesh], is_cavity: list[bool]) -> list[int | None]:
    """Return the smallest body around each cavity, or None. For a body, return the number of the body itself."""
    bodies = sorted((i for i, cavity in enumerate(is_cavity) if not cavity), key=lambda i: outward[i].signed_volume)
    return [
        next((body for body in bodies if _lies_in(mesh, outward[body])), None) if is_cavity[i] else i
        for i, mesh in enumerate(outward)
    ]


def _hollow(solids: list[manifold3d.Manifold], parents: list[int | None]) -> list[manifold3d.Manifold]:
    """Return the bodies among `solids`, after subtracting from each body the cavities whose parent it is."""
    import manifold3d

    bodies = {i: [solids[i]] for i, parent in enumerate(parents) if parent == i}
    for i, parent in enumerate(parents):
        if parent is not None and parent != i:
            bodies[parent].append(solids[i])
    return [manifold3d.Manifold.batch_boolean(body, manifold3d.OpType.Subtract) for body in bodies.values()]


def _add(solids: list[manifold3d.Manifold]) -> Mesh:
    import manifold3d

    return _to_mesh(manifold3d.Manifold.batch_boolean(solids, manifold3d.OpType.Add))


def _lies_in(cavity: Mesh, body: Mesh) -> bool:
    """Whether most of the cavity's vertices are inside `body`."""
    probes = cavity.vertices[:: max(1, len(cavity.vertices) // 32)]
    return bool(body.bounds.contains(probes).mean() > 0.5 and (WindingNumber(body)(probes) > 0.5).mean() > 0.5)


def _drop_flakes(mesh: Mesh) -> Mesh:
    """Drop the remains of coincident walls: specks, components without thickness, and slits as narrow as a gap."""
    parts = split_components(mesh)
    if len(parts) < 2:
        return mesh
    volumes, (lower, upper) = parts.volumes(), parts.boxes()
    areas = np.bincount(parts.component_of, weights=parts.mesh.face_areas)
    is_thin = 2 * np.abs(volumes) <= areas * np.where(volumes < 0, GAP_WIDTH, FLAKE_THICKNESS)
    is_speck = (upper - lower).max(axis=1) <= GAP_WIDTH
    return parts.some(~is_thin & ~is_speck)


def _to_manifold(mesh: Mesh) -> manifold3d.Manifold:
    import manifold3d

    faces = np.ascontiguousarray(mesh.faces, dtype=np.uint64)
    return manifold3d.Manifold(manifold3d.Mesh64(vert_properties=mesh.vertices, tri_verts=faces))


def _to_mesh(solid: manifold3d.Manifold) -> Mesh:
    raw = solid.to_mesh64()
    return Mesh(np.array(raw.vert_properties)[:, :3], np.array(raw.tri_verts).astype(np.int64))


def _same_measures(before: Mesh, after: Mesh) -> bool:
    """Whether two meshes have the same area and volume, so that the union found nothing to unite."""
    area, volume = before.face_areas.sum(), abs(before.signed_volume)
    return bool(
        abs(after.face_areas.sum() - area) <= UNCHANGED * area
        and abs(after.signed_volume - before.signed_volume) <= UNCHANGED * max(volume, UNCHANGED)
    )


def _disagreement(before: Mesh, after: Mesh) -> float:
    """Return the share of probes just beside both surfaces that are inside one mesh but outside the other."""
    probes = []
    for mesh in (before, after):
        points, faces = spread_over_surface(mesh, NUM_PROBES)
        step = SURFACE_STEP * mesh.face_normals[faces]
        probes += [points + step, points - step]
    points = np.concatenate(probes)
    return float(((WindingNumber(before)(points) > 0.5) != (WindingNumber(after)(points) > 0.5)).mean())
