"""Unite closed parts that overlap or touch, so that what lies buried inside the solid is no surface.

The solid meant is where the winding number exceeds ½: outward parts add 1, inward parts (cavities) take 1 away.
`manifold3d` does the booleans. Parts that it cannot take stay as they are, and the caller is told.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sdfnet.geometry.cracks import CRACK_WIDTH, find_cracks
from sdfnet.geometry.mesh import Mesh
from sdfnet.geometry.parts import Part, cluster_parts, join_meshes, split_parts
from sdfnet.geometry.sides import probe_sides
from sdfnet.geometry.winding import SURFACE_STEP, WindingNumber, spread_over_surface

if TYPE_CHECKING:
    import manifold3d

UNCHANGED = 1e-9
"""Relative change of area and volume below which a union counts as having found nothing to unite."""

MAX_DISAGREEMENT = 1e-2
"""Share of probes beside the surfaces at which a union may differ from the winding number before it is refused."""

NUM_PROBES = 500


@dataclass(frozen=True, eq=False)
class Union:
    """What became of the parts of a mesh.

    Attributes
    ----------
    kept : tuple of Part
        Parts that overlap nothing, or could not be united.
    united : tuple of Mesh
        One for each group of parts that were.
    num_united : int
        Parts that went into `united`.
    failures : tuple of str
        Why parts were not united, one entry for each group.
    """

    kept: tuple[Part, ...]
    united: tuple[Mesh, ...]
    num_united: int
    failures: tuple[str, ...]


def unite_parts(parts: list[Part]) -> Union:
    """Unite the closed ones of `parts` (unit frame) where their boxes meet and the union changes the surface."""
    closed = [part for part in parts if part.closed]
    kept = [part for part in parts if not part.closed]
    united: list[Mesh] = []
    failures: list[str] = []
    clusters = cluster_parts(closed, margin=CRACK_WIDTH / 2) if closed else np.zeros(0, dtype=np.int64)
    for cluster in np.unique(clusters):
        group = [closed[i] for i in np.flatnonzero(clusters == cluster)]
        mesh, failure = _unite_group(group) if len(group) > 1 else (None, None)
        if mesh is None:
            kept += group
        else:
            united.append(mesh)
        if failure is not None:
            failures.append(failure)
    num_united = len(parts) - len(kept)
    return Union(tuple(kept), tuple(united), num_united, tuple(failures))


def _unite_group(group: list[Part]) -> tuple[Mesh | None, str | None]:
    """Return the union of closed parts, or None if it changes nothing or cannot be had, and then why."""
    import manifold3d

    solids = [_to_manifold(part.mesh if part.volume > 0 else part.turned().mesh) for part in group]
    bad = [str(solid.status()).split(".")[-1] for solid in solids if solid.status() != manifold3d.Error.NoError]
    if bad:
        return None, f"{len(bad)} of {len(group)} parts are no manifold ({bad[0]})"
    bodies = _hollow_bodies(group, solids)
    before = join_meshes([part.mesh for part in group])
    result = _to_mesh(manifold3d.Manifold.batch_boolean(bodies, manifold3d.OpType.Add))
    if len(result.faces) and probe_sides(result, num_probes=NUM_PROBES).buried > 0:
        result = _to_mesh(manifold3d.Manifold.batch_boolean([*bodies, *_fillers(bodies)], manifold3d.OpType.Add))
        result = _drop_slits(result)
    if len(result.faces) == 0:
        return None, f"the union of {len(group)} parts came out empty"
    if _same_measures(before, result):
        return None, None
    disagreement = _disagreement(before, result)
    if disagreement > MAX_DISAGREEMENT:
        return (
            None,
            f"the union of {len(group)} parts differs from their winding number at {disagreement:.1%} of probes",
        )
    return result, None


def _hollow_bodies(group: list[Part], solids: list[manifold3d.Manifold]) -> list[manifold3d.Manifold]:
    """Return the outward ones of `solids`, each less the cavities that lie in it."""
    import manifold3d

    outward = [i for i, part in enumerate(group) if part.volume > 0]
    cavities: dict[int, list[manifold3d.Manifold]] = {i: [] for i in outward}
    for part, solid in zip(group, solids, strict=True):
        parent = None if part.volume > 0 else _parent(part, [group[j] for j in outward])
        if parent is not None:
            cavities[outward[parent]].append(solid)
    return [manifold3d.Manifold.batch_boolean([solids[i], *cavities[i]], manifold3d.OpType.Subtract) for i in outward]


def _fillers(bodies: list[manifold3d.Manifold]) -> list[manifold3d.Manifold]:
    """Return what fills the cracks between `bodies`."""
    return [
        bodies[crack.one].translate(crack.push) ^ bodies[crack.other].translate(-crack.push)
        for crack in find_cracks([_to_mesh(body) for body in bodies])
    ]


def _drop_slits(mesh: Mesh) -> Mesh:
    """Drop the cavities of a closed mesh that are no thicker than a crack: what is left of one in the middle."""
    parts = split_parts(mesh)
    kept = [
        part for part in parts if part.volume > 0 or -2 * part.volume > CRACK_WIDTH * part.mesh.face_areas.sum() / 2
    ]
    return mesh if len(kept) == len(parts) else join_meshes([part.mesh for part in kept])


def _to_manifold(mesh: Mesh) -> manifold3d.Manifold:
    import manifold3d

    faces = np.ascontiguousarray(mesh.faces, dtype=np.uint64)
    return manifold3d.Manifold(manifold3d.Mesh64(vert_properties=mesh.vertices, tri_verts=faces))


def _to_mesh(solid: manifold3d.Manifold) -> Mesh:
    raw = solid.to_mesh64()
    return Mesh(np.array(raw.vert_properties)[:, :3], np.array(raw.tri_verts).astype(np.int64))


def _parent(cavity: Part, bodies: list[Part]) -> int | None:
    """Return which of `bodies` is the smallest that holds most of the cavity's vertices."""
    probes = cavity.mesh.vertices[:: max(1, len(cavity.mesh.vertices) // 32)]
    best: int | None = None
    for i, body in enumerate(bodies):
        if best is not None and body.volume >= bodies[best].volume:
            continue
        bounds = body.mesh.bounds
        if bounds.contains(probes).mean() > 0.5 and (WindingNumber(body.mesh)(probes) > 0.5).mean() > 0.5:
            best = i
    return best


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
