"""The surfaces of a morph's frames as one mesh carried along: the same faces, until a change of topology cuts them.

Between two frames the codes go straight. A piece starts from an even mesh; a frame that no mesh can be carried to
starts a new one, and its `cut` says why. With `on_change=keep` its `stray` says where the mesh is off the surface.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence

import numpy as np

from sdfnet.evaluation.topology import components_and_genus
from sdfnet.fields.neural import NeuralField
from sdfnet.latents.config import MorphConfig
from sdfnet.latents.frames import MorphFrame
from sdfnet.latents.sequence import MadeFrame
from sdfnet.runs import Run
from sdfnet.surfacing.pieces import TrackConfig, TrackedMorph
from sdfnet.surfacing.tracking import track_surface


def tracked_frames(
    run: Run, frames: Sequence[MorphFrame], missing: Sequence[int], *, config: MorphConfig, progress: bool = False
) -> Generator[MadeFrame]:
    """Yield each of the `missing` frames in turn, world frame. All are tracked, whatever is missing.

    Raises
    ------
    ValueError
        A frame without a surface.
    """
    tracked = _track(run, frames, config=config, progress=progress)
    cuts = {cut.frame + 1: f"{cut.reason}, at frame {cut.time:.2f}" for cut in tracked.cuts}
    strays = {stray.frame: stray for stray in tracked.strays}
    for index in missing:
        mesh = tracked.mesh(index).to_world(frames[index].similarity)
        alone = config.on_change == "frames" and bool(tracked.cuts)
        yield MadeFrame(
            index,
            mesh,
            piece=None if alone else tracked.piece_at(index),
            num_pieces=components_and_genus(mesh).num_components,
            cut=cuts.get(index, ""),
            stray=strays.get(index),
        )


def _track(run: Run, frames: Sequence[MorphFrame], *, config: MorphConfig, progress: bool) -> TrackedMorph:
    numbers = np.arange(len(frames))

    def field_at(number: float) -> NeuralField:
        before = int(min(np.floor(number), len(frames) - 2))
        share = number - before
        latent = frames[before].latent.lerp(frames[before + 1].latent, share)
        if share in (0, 1):
            latent = frames[before + int(share)].latent
        return NeuralField(run.decoder, latent)

    options = TrackConfig(resolution=config.resolution, smallest=config.min_piece, on_change=config.on_change)
    return track_surface(field_at, numbers.tolist(), config=options, progress=progress)
