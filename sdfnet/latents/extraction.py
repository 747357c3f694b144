"""The surfaces of a morph's frames, extracted one by one: each frame has faces of its own."""

from __future__ import annotations

import itertools
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor

from sdfnet.fields.neural import NeuralField
from sdfnet.geometry.mesh import Mesh
from sdfnet.latents.frames import MorphConfig, MorphFrame
from sdfnet.latents.sequence import MadeFrame
from sdfnet.runs import Run
from sdfnet.surfacing.extract import extract_mesh


def extracted_frames(
    run: Run, frames: Sequence[MorphFrame], missing: Sequence[int], *, config: MorphConfig
) -> Generator[MadeFrame]:
    """Yield each of the `missing` frames in turn; a thread extracts the next one meanwhile.

    Raises
    ------
    ValueError
        A frame without a surface; the message says which.
    """
    with ThreadPoolExecutor(max_workers=1) as pool:
        ahead = pool.submit(extract_frame, run, frames[missing[0]], missing[0], config=config)
        for index, following in itertools.zip_longest(missing, missing[1:]):
            mesh = ahead.result()
            if following is not None:
                ahead = pool.submit(extract_frame, run, frames[following], following, config=config)
            yield MadeFrame(index, mesh)


def extract_frame(run: Run, frame: MorphFrame, index: int, *, config: MorphConfig) -> Mesh:
    """Return the surface of one frame, world frame: where the frame is a shape, what extracting that shape gives."""
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
