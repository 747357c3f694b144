"""One mesh carried along a moving surface: the same faces in every frame, and vertex k the same place throughout.

In each of a few sub-steps between frames vertices move as all frames together tell (`steadiness`), the whole slides in
the smoothest way that makes up for what is left along the normals (`motion`), and Newton steps put the vertices back
onto the surface. Where the topology of the surface changes (`transitions`), or triangles fold or stretch too much, no
mesh can go on: there the sequence is cut, and the next piece starts from an extraction of its own. Asked to, it keeps
its mesh through small changes of topology (`holding`, `strays`).

The mesh that a tracked piece starts from: an extraction without loose bits, remeshed to even triangles.

Where the surface has creases and gaps narrower than an edge, triangles are crumpled. Mending (`mending`) turns most of
them over again; of what it cannot mend there is too much, so that edges are collapsed until it can.

How far a mesh kept through changes of topology is from the surface, and what of the surface it does not cover.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from tqdm import tqdm

from sdfnet.correspondence.advect import carry, fault, num_turned, settle, turned_over
from sdfnet.correspondence.flow import SteadyMotion, look_ahead
from sdfnet.correspondence.narrow_band import FieldAt
from sdfnet.correspondence.results import Cut as Cut
from sdfnet.correspondence.results import OnChange as OnChange
from sdfnet.correspondence.results import Stray, TrackConfig, TrackedMorph, TrackedPiece
from sdfnet.correspondence.topology_events import Change, Transitions, find_changes
from sdfnet.correspondence.tracked_mesh import FAR, Carried
from sdfnet.extraction.extract import extract_mesh
from sdfnet.extraction.projection import project_to_level
from sdfnet.fields.base import Field, evaluate
from sdfnet.geometry.bounds import Lattice
from sdfnet.mesh.distance import MeshDistance
from sdfnet.mesh.mesh import Mesh, drop_unreferenced_vertices, face_crosses
from sdfnet.mesh.orientation import split_parts
from sdfnet.mesh.remesh import collapse_faces, remesh

_ROUNDS = 16
"""Of collapses and mending at most."""


def even_mesh(field: Field, *, resolution: int, edge_length: float = 1.0, smallest: float = 1e-4) -> Mesh:
    """Extract the surface of `field`, drop its small loose pieces, and remesh it to even triangles on the surface.

    Parameters
    ----------
    edge_length : float
        In spacings of the lattice of extraction.
    smallest : float
        Closed pieces and cavities below this share of the volume of the whole are dropped.
    """
    spacing = Lattice.over(field.bounds, resolution).spacing
    mesh = without_small_pieces(extract_mesh(field, resolution=resolution, vertex_normals=False), smallest=smallest)
    target = edge_length * spacing

    def project(points: NDArray[np.float64]) -> NDArray[np.float64]:
        moved = project_to_level(field, torch.from_numpy(points).float(), steps=1, reach=target)
        return moved.double().numpy()

    return _smooth(remesh(mesh, edge_length=target, project=project), field)


def _smooth(mesh: Mesh, field: Field) -> Mesh:
    """Return `mesh` without what is crumpled in it, as far as that can be."""
    settled = settle(mesh, field)
    for _ in range(_ROUNDS):
        turned = turned_over(settled.vertices, settled.faces, settled.normals)
        if not turned.any():
            break
        settled = settle(collapse_faces(Mesh(settled.vertices, settled.faces), turned), field)
    return Mesh(settled.vertices, settled.faces)


def without_small_pieces(mesh: Mesh, *, smallest: float) -> Mesh:
    """Return a closed mesh without the pieces whose volume is below a share of the whole's; cavities are pieces."""
    parts = split_parts(mesh)
    volumes = parts.volumes()
    kept = np.abs(volumes) >= smallest * volumes.sum()
    if kept.all():
        return mesh
    return drop_unreferenced_vertices(Mesh(mesh.vertices, mesh.faces[kept[parts.part_of]], mesh.vertex_normals))


_MOST_SHARE, _MOST_BARE = 0.02, 0.01
"""Of the area of the mesh, and of the surface: where more of one is not at the other, a change is large."""

_FARTHEST = 0.03
"""Unit frame: so it is where a vertex is farther off."""

_COARSER = 2
"""What is bare is looked for on a lattice with so many times fewer samples."""

_NEAR = 2.0
"""In its spacings: what is nearer to the mesh is not bare."""


def find_strays(carried: Carried, field: Field, frame: int, config: TrackConfig, *, changed: bool) -> Stray:
    """Measure a mesh against the surface of a frame; what is bare only where the topology has `changed`."""
    off = np.abs(carried.distances) > FAR
    share = farthest = 0.0
    if off.any():
        areas = np.linalg.norm(face_crosses(carried.vertices, carried.faces), axis=1)
        share = float((areas * off[carried.faces].mean(axis=1)).sum() / areas.sum())
        farthest = float(evaluate(field, torch.from_numpy(carried.vertices[off]).float()).abs().max())
    return Stray(frame, int(off.sum()), share, farthest, _bare_share(carried, field, config) if changed else 0.0)


def too_far(stray: Stray) -> str:
    """Say why a mesh cannot be kept; empty if it can."""
    if stray.share > _MOST_SHARE:
        return f"{100 * stray.share:.1f} % of the mesh has no surface to go to"
    if stray.farthest > _FARTHEST:
        return f"a vertex without surface to go to is {stray.farthest:.3f} off"
    return f"{100 * stray.bare:.1f} % of the surface has no mesh near it" if stray.bare > _MOST_BARE else ""


def _bare_share(carried: Carried, field: Field, config: TrackConfig) -> float:
    resolution = max(config.resolution // _COARSER, 8)
    surface = without_small_pieces(
        extract_mesh(field, resolution=resolution, vertex_normals=False), smallest=config.smallest
    )
    near = _NEAR * Lattice.over(field.bounds, resolution).spacing
    bare = np.flatnonzero(cKDTree(carried.vertices).query(surface.vertices, distance_upper_bound=near)[0] > near)
    if len(bare):  # nearest vertices are quick to find, and never nearer than the mesh
        distances = MeshDistance(Mesh(carried.vertices, carried.faces)).unsigned(surface.vertices[bare]).distance
        bare = bare[distances > near]
    marked: NDArray[np.bool_] = np.zeros(len(surface.vertices), dtype=bool)
    marked[bare] = True
    areas = surface.face_areas
    return float((areas * marked[surface.faces].mean(axis=1)).sum() / areas.sum())


_QUANTILE = 0.99
"""Of the given mesh's vertices so many must be near the surface."""

_FINER = 2
"""Of the lattice on which a piece starts: tips, gaps and necks that one of `resolution` does not see are most of what a
mesh with edges of one length lacks, and cost few faces."""

_REASONS = 3
"""A cut names so many changes."""

_SHORTER_STEPS = 3
"""A frame whose mesh comes out unsound is tried again in so many times as many sub-steps."""


def track_surface(
    field_at: FieldAt,
    times: Sequence[float],
    mesh: Mesh | None = None,
    *,
    config: TrackConfig | None = None,
    progress: bool = False,
) -> TrackedMorph:
    """Carry a mesh of the surface of `field_at(times[0])` along to all `times` (T,), increasing.

    Every vertex of every frame lies on that frame's surface. Deterministic.

    Parameters
    ----------
    field_at : function
        From a time to the field at that time, unit frame, differentiable with respect to points. Neighbouring times
        give neighbouring fields.
    mesh : Mesh, optional
        Of the surface at the first time, unit frame; closed, but vertices at one place may be several (as texture
        coordinates want). Its vertices keep their order, and are put onto the surface. By default an even mesh, see
        `TrackConfig`.

    Raises
    ------
    ValueError
        Times that do not increase; a mesh that is open or not near the surface; a frame without a surface.
    """
    config = config or TrackConfig()
    times = [float(time) for time in times]
    if not times or any(b <= a for a, b in itertools.pairwise(times)):
        raise ValueError(f"times must increase and be at least one, got {times[:3]} and so on")
    even_start = _first_mesh(field_at(times[0]), config) if mesh is None else mesh
    _check_start(even_start, field_at(times[0]))
    transitions = find_changes(
        field_at,
        times,
        resolution=config.resolution,
        substeps=config.substeps,
        smallest=config.smallest,
        progress=progress,
    )
    way = _Way(field_at, times, look_ahead(field_at, times, even_start.vertices))
    pieces: list[TrackedPiece] = []
    cuts: list[Cut] = []
    strays: list[Stray] = []
    with tqdm(total=len(times), desc="track", unit="frame", disable=not progress) as bar:
        while not pieces or pieces[-1].last_frame < len(times) - 1:
            first = pieces[-1].last_frame + 1 if pieces else 0
            start = _start(field_at(times[first]), even_start, first, transitions, config)
            if start is None:
                cut = _change_after(transitions.changes, first, times[first])
                cut = cut or Cut(first, times[first], "triangles turn over in the mesh it starts from", False)
                piece, cut = _single(field_at(times[first]), first, config), cut if first < len(times) - 1 else None
                bar.update()
            else:
                piece, cut, off = _track_piece(way, first, start, transitions, config, bar)
                strays += off
            pieces.append(piece)
            if cut is not None:
                cuts.append(cut)
    if cuts and config.on_change == "frames":
        pieces = [_single(field_at(time), frame, config) for frame, time in enumerate(times)]
    return TrackedMorph(tuple(pieces), tuple(cuts), transitions, tuple(strays))


def _start(field: Field, first_mesh: Mesh, frame: int, transitions: Transitions, config: TrackConfig) -> _Start | None:
    """Return the mesh that a piece starts from; None where the frame has to be meshed on its own."""
    if frame == 0:
        return first_mesh, settle(first_mesh, field)
    if config.on_change != "keep" and any(change.frame == frame for change in transitions.changes):
        return None  # one frame: need not be even
    return _sound_start(field, config)


_Start = tuple[Mesh, Carried]
"""A mesh, and the same on the surface."""


def _sound_start(field: Field, config: TrackConfig) -> _Start | None:
    """Return a mesh that can go on, of the fine lattice if that gives one."""
    for finer in (_FINER, 1):
        mesh = _even_mesh(field, config, finer=finer)
        settled = settle(mesh, field)
        if not fault(settled):
            return mesh, settled
    return None


def _first_mesh(field: Field, config: TrackConfig) -> Mesh:
    """Return the mesh of the first frame: there is one, sound or not."""
    start = _sound_start(field, config)
    return start[0] if start else _even_mesh(field, config)


@dataclass(frozen=True, eq=False)
class _Way:
    """What moves, when it is looked at, and how it moves on the whole."""

    field_at: FieldAt
    times: list[float]
    steady: SteadyMotion | None


def _track_piece(
    way: _Way,
    first: int,
    start: _Start,
    transitions: Transitions,
    config: TrackConfig,
    bar: tqdm,
) -> tuple[TrackedPiece, Cut | None, list[Stray]]:
    """Carry `start` from the frame `first` as far as it goes; say why it ends before the last, and what is off."""
    mesh, carried = start
    field_at, times = way.field_at, way.times
    tolerated, keep = num_turned(carried), config.on_change == "keep"
    late = _late(transitions, first, carried)
    frames, strays = [carried], list[Stray]()
    bar.update()
    cut = None
    for frame in range(first, len(times) - 1):
        change = _change_after(transitions.changes + late, frame, times[frame])
        cut = None if keep else change
        if cut is None:
            moved, reached, reason = _carried(carried, way, frame, tolerated, keep)
            stray = None
            changed = keep and transitions.topologies[frame + 1] != transitions.topologies[first]
            if keep and not reason:
                stray = find_strays(moved, field_at(times[frame + 1]), frame + 1, config, changed=changed)
                reason = too_far(stray)
            cut = Cut(frame, reached, reason, changed) if reason else None
        if cut is not None:
            break
        carried = moved
        frames.append(carried)
        strays += [stray] if stray is not None and (stray.vertices or stray.bare) else []
        bar.update()
    normals = np.stack([one.expanded(one.normals) for one in frames]) if config.normals else None
    vertices = np.stack([one.expanded(one.vertices) for one in frames])
    return TrackedPiece(first, first + len(frames) - 1, mesh.faces, vertices, normals), cut, strays


def _carried(carried: Carried, way: _Way, frame: int, tolerated: int, keep: bool) -> tuple[Carried, float, str]:
    """Carry a mesh to the next frame; return it, the last time before that, and what is wrong with it."""
    for finer in (1, _SHORTER_STEPS):
        span = way.times[frame], way.times[frame + 1]
        moved, reached = carry(carried, way.field_at, span, steady=way.steady, keep=keep, finer=finer)
        reason = fault(moved, tolerated=tolerated, keep=keep)
        if not reason:
            break
    return moved, reached, reason


def _check_start(mesh: Mesh, field: Field) -> None:
    """Refuse a mesh that is not of this surface."""
    sides = mesh.vertices[mesh.faces] - mesh.vertices[np.roll(mesh.faces, 1, axis=1)]
    edge_length = float(np.linalg.norm(sides, axis=2).mean())
    values = evaluate(field, torch.from_numpy(mesh.vertices).float()).double().numpy()
    worst = float(np.quantile(np.abs(values), _QUANTILE))
    if worst > 2 * edge_length:
        raise ValueError(
            f"mesh must lie on the surface at the first time, but the field is up to {worst:.3g} at its vertices; "
            "is it in the unit frame, and of the first shape?"
        )


def _late(transitions: Transitions, first: int, carried: Carried) -> tuple[Change, ...]:
    """Return what has changed before the frame `first` but shows later, at the time when it shows.

    A mesh that begins in between has what was before, as the lattice has, if its Euler characteristic is the same.
    """
    there = transitions.topologies[first]
    characteristic = 2 * (there.components + there.cavities - there.genus)
    if len(carried.vertices) - len(carried.faces) // 2 != characteristic:
        return ()
    return tuple(
        replace(change, frame=change.seen) for change in transitions.changes if change.frame < first <= change.seen
    )


def _change_after(changes: Sequence[Change], frame: int, time: float) -> Cut | None:
    reasons = [change for change in changes if change.frame == frame]
    if not reasons:
        return None
    told = list(dict.fromkeys(change.reason for change in reasons))
    more = f" and {len(told) - _REASONS} changes more" if len(told) > _REASONS else ""
    return Cut(frame, max(reasons[0].time, time), "; ".join(told[:_REASONS]) + more, True)


def _even_mesh(field: Field, config: TrackConfig, *, finer: int = 1) -> Mesh:
    return even_mesh(
        field,
        resolution=finer * config.resolution,
        edge_length=finer * config.spacings_an_edge,
        smallest=config.smallest,
    )


def _single(field: Field, frame: int, config: TrackConfig) -> TrackedPiece:
    """Return one frame meshed on its own."""
    mesh = extract_mesh(field, resolution=config.resolution, vertex_normals=config.normals)
    mesh = without_small_pieces(mesh, smallest=config.smallest)
    normals = None if mesh.vertex_normals is None else mesh.vertex_normals[None]
    return TrackedPiece(frame, frame, mesh.faces, mesh.vertices[None], normals)
