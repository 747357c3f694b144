"""The surfaces of a morph's frames as one mesh carried along: the same faces, until a change of topology cuts them.

Between two frames the codes go straight. A piece starts from an even mesh; a frame that no mesh can be carried to
starts a new one, and its `cut` says why. With `on_change=keep` its `stray` says where the mesh is off the surface.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence

from sdfnet.evaluation.topology import components_and_genus
from sdfnet.fields.neural import NeuralField
from sdfnet.latents.config import MorphConfig
from sdfnet.latents.frames import MorphFrame
from sdfnet.latents.sequence import MadeFrame
from sdfnet.runs import Run
from sdfnet.surfacing.pieces import TrackConfig
from sdfnet.surfacing.tracking import track_surface
from sdfnet.surfacing.window import FieldAt


def field_along(run: Run, frames: Sequence[MorphFrame]) -> FieldAt:
    """Return what moves through `frames`: a function from a time, 0 to their number - 1, to its field, unit frame.

    A whole number is that frame, with its very code; between two frames the code goes straight. For `track_surface`.

    Raises
    ------
    ValueError
        Fewer than two frames; from the function, a time before the first or after the last.
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

    Raises
    ------
    ValueError
        A frame without a surface.
    """
    options = TrackConfig(resolution=config.resolution, smallest=config.min_piece, on_change=config.on_change)
    tracked = track_surface(field_along(run, frames), range(len(frames)), config=options, progress=progress)
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
