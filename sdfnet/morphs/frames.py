"""The surfaces of a morph's frames, one after the other: extracted, or one mesh that is tracked through all frames.

An extracted frame has faces of its own. A frame that is a shape is what `extract_shape` gives. A frame between shapes
loses its loose components: as many stay as the shapes before and after have, and besides those only what is too large
to be called loose. A tracked mesh keeps its faces until the topology changes or triangles fold; a new one starts there.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdfnet.correspondence.narrow_band import FieldAt
from sdfnet.correspondence.results import Deviation, TrackConfig, TrackedMorph
from sdfnet.correspondence.track import track_surface
from sdfnet.fields.adaptors import NeuralField
from sdfnet.mesh.components import keep_components
from sdfnet.mesh.mesh import Mesh
from sdfnet.morphs.plan import MorphPlan, described_shape, extract_frame
from sdfnet.morphs.store import MorphFrame
from sdfnet.runs import Run, clean_components


def make_frames(
    plan: MorphPlan, indices: Sequence[int], *, progress: bool = False
) -> Generator[tuple[MorphFrame, Mesh]]:
    """Yield each of the frames `indices` with its mesh, world frame; tracked where the configuration says so.

    Raises
    ------
    ValueError
        A frame without a surface; the message says which.
    """
    if plan.config.tracked:
        return tracked_frames(plan, indices, progress=progress)
    return extracted_frames(plan, indices)


def extracted_frames(plan: MorphPlan, indices: Sequence[int]) -> Generator[tuple[MorphFrame, Mesh]]:
    """Yield each of the frames `indices` with its mesh; a thread extracts the next one meanwhile."""
    key_shapes = plan.key_shapes  # extracted here, not by the thread

    def extracted(index: int) -> tuple[MorphFrame, Mesh]:
        frame = plan.frames[index]
        found = key_shapes[frame.shape] if frame.shape else extract_frame(plan, frame)
        num_extra = plan.num_extra(frame.shape, found.num_components, plan.allowed_components(frame))
        return dataclasses.replace(frame, removed=found.removed, num_extra=num_extra), found.mesh

    with ThreadPoolExecutor(max_workers=1) as pool:
        ahead = pool.submit(extracted, indices[0])
        for following in [*indices[1:], None]:
            made = ahead.result()
            if following is not None:
                ahead = pool.submit(extracted, following)
            yield made


def tracked_frames(
    plan: MorphPlan, indices: Sequence[int], *, progress: bool = False
) -> Generator[tuple[MorphFrame, Mesh]]:
    """Yield each of the frames `indices` with its mesh. All frames are tracked first, whatever the indices are.

    Loose components are left out as in extracted frames, but a component that is not loose in one frame of a piece
    stays in all frames of that piece.
    """
    config = plan.config
    options = TrackConfig(resolution=config.resolution, min_share=config.min_piece, on_change=config.on_change)
    field_at = field_along(plan.run, plan.frames)
    tracked = track_surface(field_at, range(len(plan.frames)), config=options, progress=progress)
    return _tracked_meshes(plan, tracked, indices)


def _tracked_meshes(
    plan: MorphPlan, tracked: TrackedMorph, indices: Sequence[int]
) -> Generator[tuple[MorphFrame, Mesh]]:
    cuts = {cut.frame + 1: f"{cut.reason}, at frame {cut.time:.2f}" for cut in tracked.cuts}
    deviations = {each.frame: _deviation_record(each) for each in tracked.deviations}
    all_apart = plan.config.on_change == "frames" and bool(tracked.cuts)

    @functools.lru_cache(maxsize=1)
    def kept_faces(number: int) -> NDArray[np.bool_]:
        """Return which faces of a piece are not loose in some frame."""
        piece = tracked.segments[number]
        kept = np.zeros(len(piece.faces), dtype=bool)
        for frame in plan.frames[piece.first_frame : piece.last_frame + 1]:
            shape, allowed = described_shape(plan.run, frame), plan.allowed_components(frame)
            mesh = piece.mesh(frame.index)
            kept |= clean_components(mesh, shape, min_piece=plan.config.min_piece, allowed=allowed).kept
        return kept

    for index in indices:
        frame, piece = plan.frames[index], tracked.segment_at(index)
        clean = keep_components(tracked.mesh(index).to_world(frame.similarity), kept_faces(piece))
        made = dataclasses.replace(
            frame,
            piece=None if all_apart else piece,
            cut=cuts.get(index, ""),
            deviation=deviations.get(index),
            removed=clean.removed,
            num_extra=plan.num_extra(frame.shape, clean.num_components, plan.allowed_components(frame)),
        )
        yield made, clean.mesh


def _deviation_record(deviation: Deviation) -> dict[str, Any]:
    """Return what the manifest says of a deviation; its keys are older than the names of `Deviation`."""
    return {
        "frame": deviation.frame,
        "vertices": deviation.num_vertices,
        "share": deviation.area_share,
        "farthest": deviation.largest_distance,
        "bare": deviation.uncovered_share,
    }


def field_along(run: Run, frames: Sequence[MorphFrame]) -> FieldAt:
    """Return the moving field of `frames`: a function from a time, 0 to their number - 1, to a field, unit frame.

    A whole number is that frame, with its very code; between two frames the code goes straight. For `track_surface`.

    Raises
    ------
    ValueError
        Fewer than two frames; from the function, a time before the first or after the last.

    >>> from sdfnet.runs import load_run
    >>> from sdfnet.morphs import MorphConfig, plan_frames
    >>> run = load_run("runs/chairs")
    >>> frames = plan_frames(run, ["chair_00", "chair_01"], config=MorphConfig(frames=3))
    >>> field_along(run, frames)(0.5).accuracy
    'approximate'
    """
    last = len(frames) - 1
    if last < 1:
        raise ValueError(f"frames must be at least two, got {len(frames)}")

    def field_at(time: float) -> NeuralField:
        if not 0 <= time <= last:
            raise ValueError(f"time must be from 0 to {last}, got {time}")
        before = min(int(time), last - 1)
        share = time - before
        if share in (0, 1):
            return NeuralField(run.decoder, frames[before + int(share)].latent)
        return NeuralField(run.decoder, frames[before].latent.lerp(frames[before + 1].latent, share))

    return field_at
