"""The surfaces of a morph's frames, extracted one by one and cleaned: each frame has faces of its own.

A frame that is a shape is what extracting that shape gives, without the specks that `min_piece` tells; a mix loses the
loose pieces that none of its shapes has. Between shapes a learned surface also has larger loose pieces, bits of a
spindle that fades: there as many stay as the shapes before and after have, whichever has more, and besides only what is
too large to be called loose.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from sdfnet.extraction.extract import extract_mesh
from sdfnet.fields.adaptors import NeuralField
from sdfnet.mesh.components import CleanMesh, drop_loose_components, drop_specks
from sdfnet.mesh.mesh import Mesh
from sdfnet.morphs.plan import MorphConfig, MorphFrame
from sdfnet.morphs.store import MadeFrame, shapes_around
from sdfnet.runs import Run


@dataclass(frozen=True)
class PieceCounts:
    """How many pieces and cavities a frame may have."""

    pieces: int
    cavities: int


def extracted_frames(
    run: Run, frames: Sequence[MorphFrame], missing: Sequence[int], *, config: MorphConfig
) -> Generator[MadeFrame]:
    """Yield each of the `missing` frames in turn; a thread extracts the next one meanwhile.

    Raises
    ------
    ValueError
        A frame without a surface; the message says which.
    """
    counts_of = piece_counter(run, frames, config=config)
    with ThreadPoolExecutor(max_workers=1) as pool:

        def start(index: int) -> Future[MadeFrame]:
            return pool.submit(lambda: extract_frame(run, frames, index, config=config, allowed=counts_of(index)))

        ahead = start(missing[0])
        for following in [*missing[1:], None]:
            made = ahead.result()
            if following is not None:
                ahead = start(following)
            yield made


def piece_counter(
    run: Run, frames: Sequence[MorphFrame], *, config: MorphConfig
) -> Callable[[int], PieceCounts | None]:
    """Return a function from a frame's index to what that frame may have; None for a shape, which has what it has.

    Each shape is extracted for it once, when first asked for. A mix counts with no more than what it is mixed of has.
    """

    @functools.cache
    def of_shape(index: int) -> PieceCounts:
        made = extract_frame(run, frames, index, config=config)
        return PieceCounts(made.num_pieces - made.num_extra, made.num_cavities)

    def of_frame(index: int) -> PieceCounts | None:
        if frames[index].shape or config.min_piece == 0:
            return None
        before, after = (of_shape(shape) for shape in shapes_around(frames, index))
        return PieceCounts(max(before.pieces, after.pieces), max(before.cavities, after.cavities))

    return of_frame


def extract_frame(
    run: Run, frames: Sequence[MorphFrame], index: int, *, config: MorphConfig, allowed: PieceCounts | None = None
) -> MadeFrame:
    """Return the surface of one frame without its loose pieces, world frame.

    Parameters
    ----------
    allowed : PieceCounts, optional
        Of what is loose, only so much stays. Without it only specks go.
    """
    clean = clean_frame(run, frames[index], _extract(run, frames[index], index, config), allowed, config.min_piece)
    return MadeFrame(
        index,
        clean.mesh,
        removed=clean.removed,
        num_pieces=clean.num_components,
        num_cavities=clean.num_cavities,
        num_extra=num_extra(run, frames[index], clean, allowed),
    )


def clean_frame(run: Run, frame: MorphFrame, mesh: Mesh, allowed: PieceCounts | None, min_share: float) -> CleanMesh:
    """Return the mesh of a frame without its loose pieces (`extract_frame`)."""
    if allowed is not None:
        return drop_loose_components(
            mesh, min_share=min_share, num_components=allowed.pieces, num_cavities=allowed.cavities
        )
    if not frame.shape:
        return drop_loose_components(mesh, min_share=min_share)
    shape = run.shape(frame.shape)
    return drop_specks(mesh, num_surfaces=shape.num_surfaces, is_mix=shape.is_mix, min_share=min_share)


def num_extra(run: Run, frame: MorphFrame, clean: CleanMesh, allowed: PieceCounts | None) -> int:
    """Return how many pieces a frame has beyond what it may have: too large to be called loose."""
    most = None if allowed is None else allowed.pieces
    if frame.shape and run.shape(frame.shape).is_mix:
        most = run.shape(frame.shape).num_surfaces
    return 0 if most is None else max(0, clean.num_components - most)


def _extract(run: Run, frame: MorphFrame, index: int, config: MorphConfig) -> Mesh:
    try:
        return extract_mesh(
            NeuralField(run.decoder, frame.latent),
            resolution=config.resolution,
            similarity=frame.similarity,
            project_steps=config.project_steps,
            sparse=config.sparse,
            device=run.latents.device,
        )
    except ValueError as error:
        place = f"the shape {frame.shape}" if frame.shape else f"at time {frame.time:.3f}"
        raise ValueError(f"frame {index} of the morph ({place}) cannot be extracted: {error}") from error
