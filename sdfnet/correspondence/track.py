"""Track a moving surface with one mesh. The faces are the same in every frame, and vertex k is always the same place.

`track_surface` extracts an even mesh of the first frame and moves it from frame to frame (`advect`), along a flow that
is fitted to all frames together (`flow`). If the topology of the surface changes (`topology_events`), or triangles fold
or stretch too much, the sequence is cut. The next segment then starts from a new mesh. With
`on_change="keep"`, the mesh goes on through small topology events, and its deviation from the surface is measured.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.spatial import cKDTree
from tqdm import tqdm

from sdfnet.correspondence.advect import advect, place_on_surface
from sdfnet.correspondence.flow import Flow, fit_flow
from sdfnet.correspondence.narrow_band import FieldAt
from sdfnet.correspondence.results import Cut, Deviation, TrackConfig, TrackedMorph, TrackedSegment
from sdfnet.correspondence.topology_events import TopologyEvent, TopologyHistory, find_topology_events
from sdfnet.correspondence.tracked_mesh import TrackedMesh
from sdfnet.extraction.extract import extract_mesh
from sdfnet.extraction.projection import project_to_level
from sdfnet.fields.base import Field, evaluate
from sdfnet.geometry.arrays import FloatArray, IntArray, mask_of
from sdfnet.geometry.bounds import Lattice
from sdfnet.mesh.components import split_components
from sdfnet.mesh.distance import MeshDistance
from sdfnet.mesh.mesh import Mesh, drop_unreferenced_vertices, face_crosses
from sdfnet.mesh.quality import side_lengths
from sdfnet.mesh.remesh import collapse_faces, remesh

_QUANTILE = 0.99
"""Share of the given mesh's vertices that must be near the surface."""

_FINER, _COARSER = 2, 2
"""Segments start from a mesh of a lattice that is finer by the first factor. The search for uncovered surface runs on a
lattice that is coarser by the second factor."""

_REFINEMENT, _MAX_REASONS = 3, 3
"""If the mesh of a frame is unsound, the frame is tried again with more sub-steps, by the first factor. A cut names at
most the second number of topology events."""

_COLLAPSES = 16
"""The limit of rounds that collapse triangles of a start mesh that cannot be untangled."""

_MAX_AREA_SHARE, _MAX_UNCOVERED_SHARE = 0.02, 0.01
_MAX_DISTANCE = 0.03
"""If a `Deviation` exceeds these bounds, the topology event is too large to keep the mesh. The distance is in the unit
frame."""

_NEAR = 2.0
"""The mesh covers surface that is nearer than this, in spacings of the coarser lattice."""


def track_surface(
    field_at: FieldAt,
    times: Sequence[float],
    mesh: Mesh | None = None,
    *,
    config: TrackConfig | None = None,
    progress: bool = False,
) -> TrackedMorph:
    """Follow a moving surface with one mesh.

    The mesh starts on the surface of `field_at(times[0])` and moves to the surface at each later time. `times` (T,)
    must increase. Every vertex of a frame lies on the surface of this frame. The result is deterministic.

    Parameters
    ----------
    field_at : function
        A function from a time to the field at this time, in the unit frame. The field is differentiable with respect
        to points. Neighbouring times give similar fields.
    mesh : Mesh, optional
        A mesh of the surface at the first time, unit frame. It must be closed, but several vertices may lie at one
        place, as texture coordinates need. The vertices keep their order and are projected onto the surface. The
        default is an even mesh (see `TrackConfig`).

    Raises
    ------
    ValueError
        The times do not increase, the mesh is open or not near the surface, or a frame has no surface.

    >>> from sdfnet.fields.primitives import Sphere
    >>> morph = track_surface(lambda time: Sphere(0.4 + time), [0.0, 0.05], config=TrackConfig(resolution=12))
    >>> len(morph.segments), bool(np.allclose(np.linalg.norm(morph.mesh(1).vertices, axis=1), 0.45, atol=1e-3))
    (1, True)
    """
    config = config or TrackConfig()
    times = [float(time) for time in times]
    if not times or any(b <= a for a, b in itertools.pairwise(times)):
        raise ValueError(f"times must increase and be at least one, got {times[:3]} and so on")
    first_mesh = even_start(field_at(times[0]), config)[0] if mesh is None else mesh
    _check_near_surface(first_mesh, field_at(times[0]))
    history = find_topology_events(
        field_at,
        times,
        resolution=config.resolution,
        substeps=config.substeps,
        min_share=config.min_share,
        progress=progress,
    )
    surface = _MovingSurface(field_at, times, fit_flow(field_at, times, first_mesh.vertices), history, config)
    segments: list[TrackedSegment] = []
    cuts: list[Cut] = []
    deviations: list[Deviation] = []
    with tqdm(total=len(times), desc="track", unit="frame", disable=not progress) as bar:
        while not segments or segments[-1].last_frame < len(times) - 1:
            first = segments[-1].last_frame + 1 if segments else 0
            start, tracked = _start(surface, first, first_mesh)
            if tracked is None:
                segment, cut = extract_single_frame(surface.field(first), first, config), None
                if first < len(times) - 1:
                    cut = _cut_at_event(history.events, first, times[first])
                    cut = cut or Cut(first, times[first], "triangles turn over in the mesh it starts from", False)
                bar.update()
            else:
                segment, cut, off = _track_segment(surface, first, start.faces, tracked, bar)
                deviations += off
            segments.append(segment)
            if cut is not None:
                cuts.append(cut)
    if cuts and config.on_change == "frames":
        segments = [extract_single_frame(field_at(time), frame, config) for frame, time in enumerate(times)]
    return TrackedMorph(tuple(segments), tuple(cuts), history, tuple(deviations))


def extract_even_mesh(
    field: Field, *, resolution: int, edge_length: float = 1.0, min_share: float = 1e-4, mesh: Mesh | None = None
) -> Mesh:
    """Extract the surface of `field`, drop small components, and remesh the surface with even triangles.

    Creases and gaps narrower than an edge invert triangles. Triangles that cannot be untangled are collapsed.

    Parameters
    ----------
    edge_length : float
        In spacings of the lattice of extraction.
    min_share : float
        Closed components and cavities below this share of the volume of the whole are dropped.
    mesh : Mesh, optional
        The surface as it was extracted before, without what is not wanted.

    >>> from sdfnet.fields import Sphere
    >>> mesh = extract_even_mesh(Sphere(0.8), resolution=16)
    >>> round(float(np.linalg.norm(mesh.vertices, axis=1).mean()), 2)
    0.8
    """
    target = edge_length * Lattice.over(field.bounds, resolution).spacing
    if mesh is None:
        mesh = extract_mesh(field, resolution=resolution, vertex_normals=False)
        mesh = _drop_small_components(mesh, min_share=min_share)

    def project(points: FloatArray) -> FloatArray:
        moved = project_to_level(field, torch.from_numpy(points).float(), steps=1, reach=target)
        return moved.double().numpy()

    placed = place_on_surface(remesh(mesh, edge_length=target, project=project), field)
    for _ in range(_COLLAPSES):
        inverted = placed.inverted
        if not inverted.any():
            break
        placed = place_on_surface(collapse_faces(Mesh(placed.vertices, placed.faces), inverted), field)
    return Mesh(placed.vertices, placed.faces)


def _drop_small_components(mesh: Mesh, *, min_share: float) -> Mesh:
    """Return a closed mesh without the components and cavities below a share of the whole volume."""
    parts = split_components(mesh)
    volumes = parts.volumes()
    kept = np.abs(volumes) >= min_share * volumes.sum()
    if kept.all():
        return mesh
    return drop_unreferenced_vertices(Mesh(mesh.vertices, mesh.faces[kept[parts.component_of]], mesh.vertex_normals))


@dataclass(frozen=True, eq=False)
class _MovingSurface:
    """The surface at all times, its flow, its topology, and the options of tracking."""

    field_at: FieldAt
    times: list[float]
    flow: Flow | None
    history: TopologyHistory
    config: TrackConfig

    def field(self, frame: int) -> Field:
        return self.field_at(self.times[frame])


def _start(surface: _MovingSurface, frame: int, first_mesh: Mesh) -> tuple[Mesh, TrackedMesh | None]:
    """Return the start mesh of a segment, and its state on the surface, or None if the frame is meshed on its own."""
    if frame == 0:
        return first_mesh, place_on_surface(first_mesh, surface.field(0))
    if surface.config.on_change != "keep" and any(event.frame == frame for event in surface.history.events):
        return first_mesh, None  # the segment has one frame, so its mesh need not be even
    return even_start(surface.field(frame), surface.config)


def even_start(field: Field, config: TrackConfig) -> tuple[Mesh, TrackedMesh | None]:
    """Return an even mesh and its state on the surface. Try the fine lattice, then the coarse. None if both fail.

    >>> from sdfnet.fields import Sphere
    >>> mesh, start = even_start(Sphere(0.8), TrackConfig(resolution=12))
    >>> len(mesh.vertices) == len(start.vertices), start.fault()
    (True, '')
    """
    for finer in (_FINER, 1):
        edge_length = finer * config.edge_length
        mesh = extract_even_mesh(
            field, resolution=finer * config.resolution, edge_length=edge_length, min_share=config.min_share
        )
        placed = place_on_surface(mesh, field)
        if not placed.fault():
            return mesh, placed
    return mesh, None


def extract_single_frame(field: Field, frame: int, config: TrackConfig) -> TrackedSegment:
    """Return one frame meshed on its own.

    >>> from sdfnet.fields import Sphere
    >>> extract_single_frame(Sphere(0.8), 3, TrackConfig(resolution=12)).vertices.shape[0]
    1
    """
    mesh = _drop_small_components(extract_mesh(field, resolution=config.resolution), min_share=config.min_share)
    assert mesh.vertex_normals is not None
    return TrackedSegment(frame, frame, mesh.faces, mesh.vertices[None], mesh.vertex_normals[None])


def _check_near_surface(mesh: Mesh, field: Field) -> None:
    """Raise ValueError if the mesh does not lie near the surface."""
    edge_length = float(side_lengths(mesh.vertices, mesh.faces).mean())
    values = evaluate(field, torch.from_numpy(mesh.vertices).float()).double().numpy()
    worst = float(np.quantile(np.abs(values), _QUANTILE))
    if worst > 2 * edge_length:
        raise ValueError(
            f"mesh must lie on the surface at the first time, but the field is up to {worst:.3g} at its vertices; "
            "is it in the unit frame, and of the first shape?"
        )


def _track_segment(
    surface: _MovingSurface, first: int, faces: IntArray, tracked: TrackedMesh, bar: tqdm
) -> tuple[TrackedSegment, Cut | None, list[Deviation]]:
    """Move a mesh from the frame `first` through as many frames as possible. `faces` are the faces of the given mesh.

    Return the segment, the cut that ends it (None at the last frame), and the deviations of its frames.
    """
    config = surface.config
    keep, max_inverted = config.on_change == "keep", int(np.count_nonzero(tracked.inverted))
    topologies = surface.history.topologies
    events = surface.history.events + _events_shown_later(surface.history, first, tracked)
    frames, deviations = [tracked], list[Deviation]()
    bar.update()
    cut = None
    for frame in range(first, len(surface.times) - 1):
        cut = None if keep else _cut_at_event(events, frame, surface.times[frame])
        if cut is not None:
            break
        moved, reached, reason = _advance(tracked, surface, frame, max_inverted, keep)
        changed = keep and topologies[frame + 1] != topologies[first]
        if keep and not reason:
            deviation = measure_deviation(moved, surface.field(frame + 1), config, frame=frame + 1, changed=changed)
            reason = describe_excess(deviation)
            if not reason and (deviation.num_vertices or deviation.uncovered_share):
                deviations.append(deviation)
        if reason:
            cut = Cut(frame, reached, reason, changed)
            break
        tracked = moved
        frames.append(tracked)
        bar.update()
    vertices = np.stack([one.expanded(one.vertices) for one in frames])
    normals = np.stack([one.expanded(one.normals) for one in frames])
    return TrackedSegment(first, first + len(frames) - 1, faces, vertices, normals), cut, deviations


def _advance(
    tracked: TrackedMesh, surface: _MovingSurface, frame: int, max_inverted: int, keep: bool
) -> tuple[TrackedMesh, float, str]:
    """Move a mesh to the next frame. Return the mesh, the time at which the last sub-step starts, and any fault."""
    for refinement in (1, _REFINEMENT):
        span = surface.times[frame], surface.times[frame + 1]
        moved, reached = advect(tracked, surface.field_at, span, flow=surface.flow, keep=keep, refinement=refinement)
        reason = moved.fault(max_inverted=max_inverted, keep=keep)
        if not reason:
            break
    return moved, reached, reason


def _events_shown_later(history: TopologyHistory, first: int, tracked: TrackedMesh) -> tuple[TopologyEvent, ...]:
    """Return the events before the frame `first` that the lattice shows later. Their `frame` becomes `seen_frame`.

    A mesh that starts between both frames still meets these events if its Euler characteristic is that of the lattice.
    """
    counted = history.topologies[first]
    characteristic = 2 * (counted.components + counted.cavities - counted.genus)
    if len(tracked.vertices) - len(tracked.faces) // 2 != characteristic:
        return ()
    shown_later = [event for event in history.events if event.frame < first <= event.seen_frame]
    return tuple(replace(event, frame=event.seen_frame) for event in shown_later)


def _cut_at_event(events: Sequence[TopologyEvent], frame: int, time: float) -> Cut | None:
    """Return the cut that the topology events after a frame ask for, if there are any."""
    found = [event for event in events if event.frame == frame]
    if not found:
        return None
    reasons = list(dict.fromkeys(event.reason for event in found))
    more = f" and {len(reasons) - _MAX_REASONS} changes more" if len(reasons) > _MAX_REASONS else ""
    return Cut(frame, max(found[0].time, time), "; ".join(reasons[:_MAX_REASONS]) + more, True)


def measure_deviation(
    tracked: TrackedMesh, field: Field, config: TrackConfig, *, frame: int, changed: bool
) -> Deviation:
    """Compare a mesh with the surface of a frame. Measure uncovered surface only if the topology may have `changed`.

    >>> from sdfnet.fields import Sphere
    >>> _, start = even_start(Sphere(0.8), TrackConfig(resolution=12))
    >>> measure_deviation(start, Sphere(0.8), TrackConfig(resolution=12), frame=3, changed=True).uncovered_share
    0.0
    """
    off = tracked.off_surface
    share = farthest = 0.0
    if off.any():
        areas = np.linalg.norm(face_crosses(tracked.vertices, tracked.faces), axis=1)
        share = float((areas * off[tracked.faces].mean(axis=1)).sum() / areas.sum())
        farthest = float(evaluate(field, torch.from_numpy(tracked.vertices[off]).float()).abs().max())
    uncovered = _uncovered_share(tracked, field, config) if changed else 0.0
    return Deviation(frame, int(off.sum()), share, farthest, uncovered)


def describe_excess(deviation: Deviation) -> str:
    """Return why a mesh with this deviation cannot be kept; empty if it can."""
    if deviation.area_share > _MAX_AREA_SHARE:
        return f"{100 * deviation.area_share:.1f} % of the mesh has no surface to go to"
    if deviation.largest_distance > _MAX_DISTANCE:
        return f"a vertex without surface to go to is {deviation.largest_distance:.3f} off"
    if deviation.uncovered_share > _MAX_UNCOVERED_SHARE:
        return f"{100 * deviation.uncovered_share:.1f} % of the surface has no mesh near it"
    return ""


def _uncovered_share(tracked: TrackedMesh, field: Field, config: TrackConfig) -> float:
    """Return the share of the surface's area without mesh near it."""
    resolution = max(config.resolution // _COARSER, 8)
    surface = extract_mesh(field, resolution=resolution, vertex_normals=False)
    surface = _drop_small_components(surface, min_share=config.min_share)
    near = _NEAR * Lattice.over(field.bounds, resolution).spacing
    far = np.flatnonzero(cKDTree(tracked.vertices).query(surface.vertices, distance_upper_bound=near)[0] > near)
    if len(far):  # the nearest vertex is quick to find, and never nearer than the mesh itself
        distances = MeshDistance(Mesh(tracked.vertices, tracked.faces)).unsigned(surface.vertices[far]).distance
        far = far[distances > near]
    uncovered, areas = mask_of(far, len(surface.vertices)), surface.face_areas
    return float((areas * uncovered[surface.faces].mean(axis=1)).sum() / areas.sum())
