"""Track the shapes of a decoder with a template: one mesh of the template, moved to every frame by the displacement.

The surface of the template is extracted once. In each frame, a vertex is the point of the shape at its place in the
template, so no frame depends on another. Where the mesh does not fit a frame, an advected mesh (`track`) replaces it.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from sdfnet.correspondence.advect import untangle
from sdfnet.correspondence.lattice_topology import LevelTopology
from sdfnet.correspondence.narrow_band import FieldAt
from sdfnet.correspondence.results import Cut, Deviation, TrackConfig, TrackedMorph, TrackedSegment
from sdfnet.correspondence.template_map import points_at
from sdfnet.correspondence.topology_events import TopologyHistory, find_topology_events
from sdfnet.correspondence.track import (
    describe_excess,
    even_start,
    extract_single_frame,
    measure_deviation,
    track_surface,
)
from sdfnet.correspondence.tracked_mesh import TrackedMesh, project
from sdfnet.decoders import Decoder
from sdfnet.fields.adaptors import NeuralField
from sdfnet.geometry.arrays import FloatArray, IntArray
from sdfnet.mesh.components import split_components
from sdfnet.mesh.topology import components_and_genus


def track_template(
    decoder: Decoder,
    latents: Sequence[Tensor],
    field_at: FieldAt,
    *,
    config: TrackConfig | None = None,
    progress: bool = False,
) -> TrackedMorph:
    """Follow the moving surface of a decoder with a template, through the frames of the codes `latents`, (L,) each.

    `field_at` gives the field at a time in [0, T - 1]; at the number of a frame it has the code of the frame. The
    frames that the mesh of the template fits share its faces. The other frames are tracked as `track_surface` does,
    and each border between the two is a cut. A mesh fits if the displacement does not fold at its vertices, no triangle
    turns over or stretches too much, and the surface has no part without mesh. If the decoder adds features to the
    template, the topology must be that of the template too. Deterministic.

    Raises
    ------
    ValueError
        The decoder has no template, or a frame has no surface.

    >>> from sdfnet.decoders import TemplateConfig, build_decoder
    >>> decoder = build_decoder(TemplateConfig(latent_size=4, channels=(4, 4)))
    >>> track_template(decoder, [], lambda time: None)
    Traceback (most recent call last):
    ValueError: latents must be at least one code, got none
    """
    if not decoder.has_template:
        raise ValueError(f"{type(decoder).__name__} has no template; use track_surface")
    if not latents:
        raise ValueError("latents must be at least one code, got none")
    config = config or TrackConfig()
    carrier = _Carrier.of(decoder, latents, config)
    if carrier is None:
        return track_surface(field_at, range(len(latents)), config=config, progress=progress)
    history = carrier.history(field_at, len(latents), progress=progress)
    frames: list[TrackedMesh | _Misfit] = []
    for frame, latent in enumerate(tqdm(latents, desc="track", unit="frame", disable=not progress)):
        counted = history.topologies[frame]
        same = counted == carrier.topology
        frames.append(carrier.carry(latent) if same else _Misfit(f"{counted}, not {carrier.topology}", topology=True))
    if config.on_change == "frames" and not all(isinstance(frame, TrackedMesh) for frame in frames):
        return track_surface(field_at, range(len(latents)), config=config, progress=progress)
    return _joined(frames, carrier.start.faces, history, field_at, config)


@dataclass(frozen=True)
class _Misfit:
    """Why the mesh of the template does not fit a frame."""

    reason: str
    topology: bool = False


@dataclass(eq=False)
class _Carrier:
    """The mesh of the template, which moves to shapes. It remembers the last shape, because the next one is near."""

    decoder: Decoder
    config: TrackConfig
    start: TrackedMesh
    topology: LevelTopology
    points: FloatArray

    @classmethod
    def of(cls, decoder: Decoder, latents: Sequence[Tensor], config: TrackConfig) -> _Carrier | None:
        """Return the carrier of the template's mesh; None if the template has no surface or no sound mesh."""
        try:
            mesh, start = even_start(NeuralField(decoder, torch.zeros_like(latents[0])), config)
        except ValueError:
            return None
        if start is None:
            return None
        cavities = int(np.count_nonzero(split_components(mesh).volumes() < 0))
        counted = components_and_genus(mesh)
        topology = LevelTopology(counted.num_components - cavities, counted.genus or 0, cavities)
        return cls(decoder, config, start, topology, start.vertices)

    def history(self, field_at: FieldAt, num_frames: int, *, progress: bool) -> TopologyHistory:
        """Return the topology of all frames: that of the template, if the decoder adds nothing to the template."""
        if not self.decoder.adds_to_template:
            return TopologyHistory((), (self.topology,) * num_frames)
        config = self.config
        return find_topology_events(
            field_at,
            range(num_frames),
            resolution=config.resolution,
            substeps=config.substeps,
            min_share=config.min_share,
            progress=progress,
        )

    def carry(self, latent: Tensor) -> TrackedMesh | _Misfit:
        """Return the mesh on the surface of a shape, or the reason why it does not fit."""
        mapped = points_at(self.decoder, latent, self.start.vertices, starts=self.points)
        if not mapped.found.all():  # The last shape was too far away.
            mapped = points_at(self.decoder, latent, self.start.vertices)
        lost = np.count_nonzero(~mapped.found)
        if lost:
            self.points = self.start.vertices
            return _Misfit(f"the displacement folds at {lost} vertices")
        self.points, field = mapped.points, NeuralField(self.decoder, latent)
        moved = project(replace(self.start, vertices=mapped.points), field)
        if moved.fault():
            moved = untangle(moved, field)
        deviation = measure_deviation(moved, field, self.config, frame=0, changed=True)
        reason = moved.fault() or describe_excess(deviation)
        return _Misfit(reason) if reason else moved


def _joined(
    frames: Sequence[TrackedMesh | _Misfit], faces: IntArray, history: TopologyHistory, field_at: FieldAt,
    config: TrackConfig,
) -> TrackedMorph:  # fmt: skip
    """Return the segments of carried frames, and between them the segments of advected frames."""
    segments: list[TrackedSegment] = []
    cuts: list[Cut] = []
    deviations: list[Deviation] = []
    for _, numbers in itertools.groupby(range(len(frames)), key=lambda at: isinstance(frames[at], TrackedMesh)):
        group = list(numbers)
        first, last = group[0], group[-1]
        carried = [frame for frame in frames[first : last + 1] if isinstance(frame, TrackedMesh)]
        if segments:
            misfit = next(frame for frame in (frames[first], frames[first - 1]) if isinstance(frame, _Misfit))
            words = "the mesh of the template " + ("fits again" if carried else f"does not fit: {misfit.reason}")
            cuts.append(Cut(first - 1, float(first - 1), words, misfit.topology))
        if carried:
            vertices, normals = (
                np.stack([getattr(each, name) for each in carried]) for name in ("vertices", "normals")
            )
            segments.append(TrackedSegment(first, last, faces, vertices, normals))
            continue
        if len(group) == 1:  # A mesh with nowhere to go.
            segments.append(extract_single_frame(field_at(first), first, config))
            continue
        advected = track_surface(_later(field_at, first), range(len(group)), config=config)
        for segment in advected.segments:
            first_frame, last_frame = segment.first_frame + first, segment.last_frame + first
            segments.append(replace(segment, first_frame=first_frame, last_frame=last_frame))
        cuts += [replace(cut, frame=cut.frame + first, time=cut.time + first) for cut in advected.cuts]
        deviations += [replace(each, frame=each.frame + first) for each in advected.deviations]
    return TrackedMorph(tuple(segments), tuple(cuts), history, tuple(deviations))


def _later(field_at: FieldAt, frames: int) -> FieldAt:
    """Return the moving field that is `frames` later at each time."""
    return lambda time: field_at(time + frames)
