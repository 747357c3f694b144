"""The surfaces of a morph's frames as one mesh carried along: the same faces, until a change of topology cuts them.

Between two frames the codes go straight. A piece starts from an even mesh; a frame that no mesh can be carried to
starts a new one, and its `cut` says why. With `on_change=keep` its `stray` says where the mesh is off the surface.
"""

from __future__ import annotations

import functools
from collections.abc import Generator, Sequence

import numpy as np
from numpy.typing import NDArray

from sdfnet.correspondence.narrow_band import FieldAt
from sdfnet.correspondence.results import TrackConfig, TrackedMorph
from sdfnet.correspondence.track import track_surface
from sdfnet.fields.adaptors import NeuralField
from sdfnet.mesh.components import keep_components
from sdfnet.morphs.config import MorphConfig
from sdfnet.morphs.frames import clean_frame, num_extra, piece_counter
from sdfnet.morphs.plan import MorphFrame
from sdfnet.morphs.store import MadeFrame
from sdfnet.runs import Run


def field_along(run: Run, frames: Sequence[MorphFrame]) -> FieldAt:
    """Return what moves through `frames`: a function from a time, 0 to their number - 1, to its field, unit frame.

    A whole number is that frame, with its very code; between two frames the code goes straight. For `track_surface`.

    Raises
    ------
    ValueError
        Fewer than two frames; from the function, a time before the first or after the last.

    >>> from sdfnet.runs import load_run
    >>> run = load_run("runs/chairs")
    >>> from sdfnet.morphs import MorphConfig, plan_frames
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


def tracked_frames(
    run: Run, frames: Sequence[MorphFrame], missing: Sequence[int], *, config: MorphConfig, progress: bool = False
) -> Generator[MadeFrame]:
    """Yield each of the `missing` frames in turn, world frame. All are tracked, whatever is missing.

    Tracking is done before this returns. Loose pieces are left out as in `extraction`, but a surface that is not loose
    in one frame of a piece stays in all.

    Raises
    ------
    ValueError
        A frame without a surface.
    """
    options = TrackConfig(resolution=config.resolution, min_share=config.min_piece, on_change=config.on_change)
    tracked = track_surface(field_along(run, frames), range(len(frames)), config=options, progress=progress)
    return _made(run, frames, missing, tracked, config)


def _made(
    run: Run, frames: Sequence[MorphFrame], missing: Sequence[int], tracked: TrackedMorph, config: MorphConfig
) -> Generator[MadeFrame]:
    cuts = {cut.frame + 1: f"{cut.reason}, at frame {cut.time:.2f}" for cut in tracked.cuts}
    deviations = {deviation.frame: deviation for deviation in tracked.deviations}
    counts_of = piece_counter(run, frames, config=config)

    @functools.lru_cache(maxsize=1)
    def kept(number: int) -> NDArray[np.bool_]:
        """Return which faces of a piece are not loose in some frame."""
        piece = tracked.segments[number]
        numbers = range(piece.first_frame, piece.last_frame + 1)
        cleaned = [
            clean_frame(run, frames[index], piece.mesh(index), counts_of(index), config.min_piece) for index in numbers
        ]
        return np.any([clean.kept for clean in cleaned], axis=0)

    for index in missing:
        piece = tracked.segment_at(index)
        clean = keep_components(tracked.mesh(index).to_world(frames[index].similarity), kept(piece))
        alone = config.on_change == "frames" and bool(tracked.cuts)
        yield MadeFrame(
            index,
            clean.mesh,
            piece=None if alone else piece,
            removed=clean.removed,
            num_pieces=clean.num_components,
            num_cavities=clean.num_cavities,
            num_extra=num_extra(run, frames[index], clean, counts_of(index)),
            cut=cuts.get(index, ""),
            stray=deviations.get(index),
        )
