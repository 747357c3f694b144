"""Unite closed parts that overlap or touch, so that what lies buried inside the solid is no surface.

The solid meant is where the winding number exceeds ½: outward parts add 1, inward parts (cavities) take 1 away.
`manifold3d` does the booleans. OrientedComponents that it cannot take stay as they are, and the caller is told.

Find the cracks between parts that touch only nearly, and what fills them.

Files round coordinates, and convex decompositions leave gaps of 10⁻⁴ of the radius between their pieces. No lattice
or network resolves such a crack, but its two walls would count as surface. A crack is filled by the intersection of
both parts, each pushed over it along its normal: that is a slab between the walls which hardly reaches beyond them
sideways, so the surface around the crack stays what it was.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sdfnet.mesh.distance import MeshDistance
from sdfnet.mesh.mesh import Mesh, join_meshes
from sdfnet.mesh.orientation import OrientedComponents, cluster_boxes, split_components
from sdfnet.mesh.winding import SURFACE_STEP, WindingNumber, probe_surface, spread_over_surface

if TYPE_CHECKING:
    import manifold3d


CRACK_WIDTH = 1e-3
"""Gaps between closed parts up to this wide are cracks, share of the radius."""

FACING = -0.9
"""Walls of a crack have normals whose product is below this."""

OVERREACH = 1e-6
"""A filler reaches at least this far into both parts, unit frame: beyond rounding, below the accuracy of distances."""

_CRACK_PROBES, _MAX_CRACK_PROBES = 400, 100_000
"""Probes on each part, and on all of them."""


@dataclass(frozen=True, eq=False)
class Crack:
    """A narrow gap between two parts, or none at all where they just touch.

    Attributes
    ----------
    one, other : int
        Numbers of the parts.
    push : (3,) float64, unit frame
        Moves the wall of `one` across the gap into `other`.
    """

    one: int
    other: int
    push: NDArray[np.float64]


def find_cracks(meshes: list[Mesh]) -> list[Crack]:
    """Find the cracks between closed outward meshes (unit frame), by probes spread over their surfaces."""
    num_probes = min(_CRACK_PROBES, max(1, _MAX_CRACK_PROBES // max(len(meshes), 1)))
    probes = [spread_over_surface(mesh, num_probes) for mesh in meshes]
    points = np.concatenate([points for points, _ in probes])
    normals = np.concatenate([mesh.face_normals[faces] for mesh, (_, faces) in zip(meshes, probes, strict=True)])
    owners = np.repeat(np.arange(len(meshes)), num_probes)
    contacts = [np.zeros((0, 6))]
    for number, mesh in enumerate(meshes):
        near = mesh.bounds.grown(CRACK_WIDTH).contains(points) & (owners != number)
        if near.any():
            contacts.append(_contacts(mesh, number, points[near], normals[near], owners[near]))
    table = np.concatenate(contacts)
    _, pair = np.unique(table[:, :2], axis=0, return_inverse=True)
    return [crack for number in range(pair.max(initial=-1) + 1) for crack in _cracks_of_pair(table[pair == number])]


def _contacts(
    mesh: Mesh, number: int, points: NDArray[np.float64], normals: NDArray[np.float64], owners: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return rows (lower part, higher part, normal out of the lower, gap) for the probes that face `mesh` closely."""
    found = MeshDistance(mesh).unsigned(points)
    facing = np.einsum("ij,ij->i", mesh.face_normals[found.faces], normals) < FACING
    rows = facing & (found.distance <= CRACK_WIDTH)
    gaps = np.einsum("ij,ij->i", found.closest_points[rows] - points[rows], normals[rows])
    forward = owners[rows] < number
    outward = np.where(forward[:, None], normals[rows], -normals[rows])
    return np.column_stack([np.minimum(owners[rows], number), np.maximum(owners[rows], number), outward, gaps])


def _cracks_of_pair(contacts: NDArray[np.float64]) -> list[Crack]:
    """Group the contacts of two parts by direction; the push of each group crosses its widest gap."""
    cracks = []
    one, other = contacts[0, :2].astype(int).tolist()
    while len(contacts):
        same = contacts[:, 2:5] @ contacts[0, 2:5] > -FACING
        mean = contacts[same, 2:5].mean(axis=0)
        reach = 1.05 * max(float(contacts[same, 5].max()), 0.0) + OVERREACH
        cracks.append(Crack(one, other, reach * mean / np.linalg.norm(mean)))
        contacts = contacts[~same]
    return cracks


def inflate(mesh: Mesh, amount: float) -> Mesh:
    """Return a closed outward mesh with every face moved outward by `amount`, as far as its vertices allow.

    A vertex goes where the moved planes of its faces meet, in the least-squares sense, but not beyond three times as
    far. Meant for amounts below any detail of the mesh.
    """
    corners = mesh.faces.reshape(-1)
    normals = np.repeat(mesh.face_normals, 3, axis=0)
    products = (normals[:, :, None] * normals[:, None, :]).reshape(-1, 9)
    count = len(mesh.vertices)
    matrices = np.stack([np.bincount(corners, weights=products[:, i], minlength=count) for i in range(9)], axis=1)
    sums = np.stack([np.bincount(corners, weights=normals[:, i], minlength=count) for i in range(3)], axis=1)
    moves = np.linalg.solve(matrices.reshape(-1, 3, 3) + 1e-6 * np.eye(3), sums[..., None])[..., 0]
    lengths = np.linalg.norm(moves, axis=1, keepdims=True)
    return Mesh(mesh.vertices + amount * moves * np.minimum(1, 3 / np.maximum(lengths, 1e-9)), mesh.faces)


UNCHANGED = 1e-9
"""Relative change of area and volume below which a union counts as having found nothing to unite."""

MAX_DISAGREEMENT = 1e-2
"""Share of probes beside the surfaces at which a union may differ from the winding number before it is refused."""

NUM_PROBES = 500

FLAKE_THICKNESS = 1e-5
"""OrientedComponents of a union thinner than this are rounding, unit frame."""

INFLATION = 2e-7
"""Components with common walls are inflated by one to two times this, each differently (unit frame). Then no two faces
coincide; where faces coincide, booleans leave slits and flakes. Well below the accuracy of distances."""


@dataclass(frozen=True, eq=False)
class UnionResult:
    """What became of the parts of a mesh.

    Attributes
    ----------
    kept : (P,) bool
        OrientedComponents that overlap nothing, or could not be united.
    united : tuple of Mesh
        One for each group of the other parts, which were united.
    num_seams : int
        Places where they touch only nearly, and were joined.
    failures : tuple of str
        Why parts were not united, one entry for each group.
    """

    kept: NDArray[np.bool_]
    united: tuple[Mesh, ...]
    num_seams: int
    failures: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class _Attempt:
    """A group of parts united: the mesh, or None if that changed nothing or could not be had, and then why."""

    mesh: Mesh | None = None
    num_seams: int = 0
    failure: str | None = None


def unite_components(parts: OrientedComponents) -> UnionResult:
    """Unite the closed ones of `parts` (unit frame) where their boxes meet and the union changes the surface."""
    closed = np.flatnonzero(parts.closed)
    kept = np.ones(len(parts), dtype=bool)
    if len(closed) < 2:
        return UnionResult(kept, (), 0, ())
    lower, upper = parts.boxes()
    clusters = cluster_boxes(lower[closed], upper[closed], margin=CRACK_WIDTH / 2)
    groups = np.split(closed[np.argsort(clusters, kind="stable")], np.cumsum(np.bincount(clusters))[:-1])
    attempts = []
    for group in groups:
        if len(group) > 1:
            attempts.append(_unite_group([parts.one(part) for part in group]))
            kept[group] = attempts[-1].mesh is None
    return UnionResult(
        kept,
        tuple(attempt.mesh for attempt in attempts if attempt.mesh is not None),
        sum(attempt.num_seams for attempt in attempts),
        tuple(attempt.failure for attempt in attempts if attempt.failure is not None),
    )


def _unite_group(group: list[Mesh]) -> _Attempt:
    """Unite closed parts, and fill the cracks between them if faces lie buried after that."""
    import manifold3d

    outward = [_outward(mesh) for mesh in group]
    is_cavity = [one is not mesh for one, mesh in zip(outward, group, strict=True)]
    solids = [_to_manifold(mesh) for mesh in outward]
    bad = [str(solid.status()).split(".")[-1] for solid in solids if solid.status() != manifold3d.Error.NoError]
    if bad:
        return _Attempt(failure=f"{len(bad)} of {len(group)} parts are no manifold ({bad[0]})")
    parents = _parents(outward, is_cavity)
    result = _add(_hollow(solids, parents))
    fillers: list[manifold3d.Manifold] = []
    if len(result.faces) and probe_surface(result, num_probes=NUM_PROBES).buried > 0:
        fillers = _fillers(_hollow(solids, parents))
        inflated = [
            solid if cavity else _to_manifold(inflate(mesh, INFLATION * (1 + number * 0.618 % 1)))
            for number, (mesh, solid, cavity) in enumerate(zip(outward, solids, is_cavity, strict=True))
        ]
        result = _add([*_hollow(inflated, parents), *fillers])
    result = _drop_flakes(result)
    if len(result.faces) == 0:
        return _Attempt(failure=f"the union of {len(group)} parts came out empty")
    before = join_meshes(group)
    if _same_measures(before, result):
        return _Attempt()
    disagreement = _disagreement(before, result)
    if disagreement > MAX_DISAGREEMENT:
        return _Attempt(
            failure=f"the union of {len(group)} parts differs from their winding number at {disagreement:.1%} of probes"
        )
    return _Attempt(result, num_seams=len(fillers))


def _outward(mesh: Mesh) -> Mesh:
    return mesh if mesh.signed_volume >= 0 else Mesh(mesh.vertices, mesh.faces[:, ::-1])


def _parents(outward: list[Mesh], is_cavity: list[bool]) -> list[int | None]:
    """Return for each cavity the smallest body that it lies in, if any, and for each body itself."""
    bodies = sorted((i for i, cavity in enumerate(is_cavity) if not cavity), key=lambda i: outward[i].signed_volume)
    return [
        next((body for body in bodies if _lies_in(mesh, outward[body])), None) if is_cavity[i] else i
        for i, mesh in enumerate(outward)
    ]


def _hollow(solids: list[manifold3d.Manifold], parents: list[int | None]) -> list[manifold3d.Manifold]:
    """Return the bodies among `solids`, each less the cavities whose parent it is."""
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


def _fillers(bodies: list[manifold3d.Manifold]) -> list[manifold3d.Manifold]:
    """Return what fills the cracks between `bodies`."""
    return [
        bodies[crack.one].translate(crack.push) ^ bodies[crack.other].translate(-crack.push)
        for crack in find_cracks([_to_mesh(body) for body in bodies])
    ]


def _drop_flakes(mesh: Mesh) -> Mesh:
    """Drop what rounding leaves of coincident walls: specks, parts without thickness, slits no wider than a crack."""
    parts = split_components(mesh)
    if len(parts) < 2:
        return mesh
    volumes, (lower, upper) = parts.volumes(), parts.boxes()
    areas = np.bincount(parts.component_of, weights=parts.mesh.face_areas)
    is_thin = 2 * np.abs(volumes) <= areas * np.where(volumes < 0, CRACK_WIDTH, FLAKE_THICKNESS)
    is_speck = (upper - lower).max(axis=1) <= CRACK_WIDTH
    return parts.some(~is_thin & ~is_speck)


def _to_manifold(mesh: Mesh) -> manifold3d.Manifold:
    import manifold3d

    faces = np.ascontiguousarray(mesh.faces, dtype=np.uint64)
    return manifold3d.Manifold(manifold3d.Mesh64(vert_properties=mesh.vertices, tri_verts=faces))


def _to_mesh(solid: manifold3d.Manifold) -> Mesh:
    raw = solid.to_mesh64()
    return Mesh(np.array(raw.vert_properties)[:, :3], np.array(raw.tri_verts).astype(np.int64))


def _same_measures(before: Mesh, after: Mesh) -> bool:
    """Whether two meshes have the same area and volume; then a union found nothing to unite."""
    area, volume = before.face_areas.sum(), abs(before.signed_volume)
    return bool(
        abs(after.face_areas.sum() - area) <= UNCHANGED * area
        and abs(after.signed_volume - before.signed_volume) <= UNCHANGED * max(volume, UNCHANGED)
    )


def _disagreement(before: Mesh, after: Mesh) -> float:
    """Return the share of probes just beside both surfaces at which two meshes differ about inside."""
    probes = []
    for mesh in (before, after):
        points, faces = spread_over_surface(mesh, NUM_PROBES)
        step = SURFACE_STEP * mesh.face_normals[faces]
        probes += [points + step, points - step]
    points = np.concatenate(probes)
    return float(((WindingNumber(before)(points) > 0.5) != (WindingNumber(after)(points) > 0.5)).mean())
