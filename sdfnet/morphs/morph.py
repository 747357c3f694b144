"""A morph as files: a sequence of meshes with a manifest, films from a steady camera, and a contact sheet.

The first and the last frame, and every shape on the way, are exactly the meshes that `extract_shape` gives at the same
resolution. Frames are written one by one, each whole or not at all, and listed in the manifest. So an interrupted morph
continues when it is called again with the same settings.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from sdfnet.latents.interpolation import playback_order
from sdfnet.morphs.config import MorphConfig
from sdfnet.morphs.export import SHEET_FILE, frame_drawer, plan_view, write_frame, write_sequence
from sdfnet.morphs.plan import MorphPlan, extracted_frames, plan_morph, tracked_frames
from sdfnet.morphs.report import PLOT_FILE, REPORT_FILE, make_report, save_morph_report
from sdfnet.morphs.store import (
    MORPH_FOLDER,
    MorphFrame,
    MorphSequence,
    View,
    load_stored,
    save_manifest,
    written_frames,
)
from sdfnet.rendering.renderer import Renderer
from sdfnet.runs import Run
from sdfnet.runs.folder import open_folder

_SAVE_SECONDS = 2.0
"""Seconds between two writes of the manifest, which can be long. A kill loses at most the frames of this time."""

_MOST_WRITERS = 8
"""Largest number of threads that finish frames, and of frames that wait. Fewer than 16 frames are in memory."""


@dataclass(frozen=True)
class MorphResult:
    """Where a morph was written.

    Attributes
    ----------
    out, manifest, sheet, report, plot : Path
        The folder, its `manifest.json`, `contact_sheet.png`, `morph.json` and `morph.png`.
    meshes : tuple of Path
        The mesh files, frame by frame; the formats of one frame follow each other.
    films : tuple of Path
        The files of the whole morph: one film or animated file for each format.
    num_frames, num_skipped : int
        The number of all frames, and of the frames that an earlier call had written.

    >>> from sdfnet.runs import load_run
    >>> config = MorphConfig(frames=2, resolution=16, format=("obj",))
    >>> made = make_morph(load_run("runs/chairs"), ["chair_00", "chair_01"], "two_frames", config=config)
    >>> made.num_frames, [path.name for path in made.meshes]
    (2, ['frame_0000.obj', 'frame_0001.obj'])
    """

    out: Path
    manifest: Path
    sheet: Path
    report: Path
    plot: Path
    meshes: tuple[Path, ...]
    films: tuple[Path, ...]
    num_frames: int
    num_skipped: int


def make_morph(
    run: Run,
    shapes: str | Sequence[str],
    out: str | Path,
    *,
    config: MorphConfig | None = None,
    overwrite: bool = False,
    progress: bool = False,
) -> MorphResult:
    """Write a morph of `run` through `shapes` (names, globs or mixes, in order) into the folder `out`.

    `frame_0000.obj` and so on are in world units. Between two shapes, size and place are interpolated too. Loose
    components are left out (`config.min_piece`), and the report lists them. The report also gives the evenness of the
    speed, the quality of the triangles, and the distance of the ends from their sources. A second call with the same
    settings makes only the missing files.

    Parameters
    ----------
    overwrite : bool
        Whether to replace another morph in `out`.

    Raises
    ------
    ValueError
        Unknown shapes or fewer than two; fewer frames than shapes; a folder that cannot be written to or holds another
        morph; a frame without a surface (the message says which; finished frames stay).

    >>> from sdfnet.runs import load_run
    >>> config = MorphConfig(frames=3, resolution=16, format=("obj",), width=64, height=48)
    >>> result = make_morph(load_run("runs/chairs"), ["chair_00", "chair_01"], "morph", config=config)
    >>> [path.name for path in result.meshes]
    ['frame_0000.obj', 'frame_0001.obj', 'frame_0002.obj']
    """
    plan = plan_morph(run, shapes, config=config, progress=progress)
    config, frames = plan.config, plan.frames

    out = Path(out)
    manifest = open_folder(out, _settings(plan), MORPH_FOLDER, overwrite=overwrite)
    manifest |= {"run": str(run.directory), "playback": playback_order(len(frames), playback=config.playback)}
    written = written_frames(out, manifest, frames, config=config)
    num_skipped = len(written)
    renew = num_skipped < len(frames)
    if renew:
        manifest["complete"] = False
        if "view" not in manifest:
            manifest["view"] = plan_view(plan).to_dict()
        _make_frames(plan, out, manifest, written, progress=progress)
    records = tuple(written[index] for index in range(len(frames)))
    sequence = MorphSequence(out, config, records, tuple(manifest["playback"]), View.from_dict(manifest["view"]))
    films = write_sequence(sequence, renew=renew)
    if renew or not all((out / name).is_file() for name in (REPORT_FILE, PLOT_FILE)):
        save_morph_report(make_report(plan, sequence), out)
    manifest |= {"films": films, "sheet": SHEET_FILE, "report": REPORT_FILE, "plot": PLOT_FILE, "complete": True}
    save_manifest(out, manifest, written)
    return MorphResult(
        out,
        out / MORPH_FOLDER.file,
        out / SHEET_FILE,
        out / REPORT_FILE,
        out / PLOT_FILE,
        tuple(out / frame.meshes[suffix] for frame in records for suffix in config.frame_formats),
        tuple(out / name for name in films),
        len(frames),
        num_skipped,
    )


def _settings(plan: MorphPlan) -> dict[str, Any]:
    """Return all settings on which the files depend. The same settings give the same files."""
    run, config = plan.run, plan.config
    names = [frame.shape for frame in plan.frames if frame.shape]
    digest = hashlib.sha256()
    for name, tensor in [*run.decoder.state_dict().items(), *((name, run.latent(name)) for name in names)]:
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return {
        "shapes": names,
        **dataclasses.asdict(config),
        "easing": config.easing_used,
        "step": run.step,
        "weights": digest.hexdigest()[:16],
        "similarities": [run.similarity(name).to_dict() for name in names],
    }


def _make_frames(
    plan: MorphPlan, out: Path, manifest: dict[str, Any], written: dict[int, MorphFrame], *, progress: bool
) -> None:
    """Make every frame that `written` lacks, and add it to `written` and to the manifest.

    One thread extracts, the calling thread draws with GL, and other threads shade, measure and write. After an error,
    the frames in `written` stay.
    """
    indices = _indices_to_make(len(plan.frames), written)
    num_writers = max(1, min(_MOST_WRITERS, (os.cpu_count() or 1) - 1))
    pending: deque[Future[MorphFrame]] = deque()
    made_last, before = -1, None
    save_manifest(out, manifest, written)  # before the first frame: a killed morph must know its own files
    saved = time.monotonic()

    def collect(*, waiting: int) -> None:
        while len(pending) > waiting:
            frame = pending.popleft().result()
            written[frame.index] = frame

    try:
        with (
            Renderer(size=(plan.config.width, plan.config.height)) as renderer,
            ThreadPoolExecutor(num_writers) as pool,
        ):
            draw = frame_drawer(plan, View.from_dict(manifest["view"]), renderer)
            if plan.config.tracked:
                surfaces = tracked_frames(plan, indices, progress=progress)
            else:
                surfaces = extracted_frames(plan, indices)
            for frame, mesh in tqdm(surfaces, total=len(indices), desc="morph", unit="frame", disable=not progress):
                if frame.index not in written:
                    if frame.index and made_last != frame.index - 1:
                        before = load_stored(out / written[frame.index - 1].stored)
                    picture = draw(frame, mesh)
                    job = pool.submit(write_frame, out, frame, mesh, picture, before=before, config=plan.config)
                    pending.append(job)
                    collect(waiting=num_writers)
                made_last, before = frame.index, mesh
                if time.monotonic() > saved + _SAVE_SECONDS:
                    save_manifest(out, manifest, written)
                    saved = time.monotonic()
            collect(waiting=0)
    finally:
        done = [job.result() for job in pending if job.done() and not job.exception()]
        written.update((frame.index, frame) for frame in done)
        save_manifest(out, manifest, written)


def _indices_to_make(num_frames: int, written: dict[int, MorphFrame]) -> list[int]:
    """Return the missing frames, and the written frames whose mesh is not stored although the next frame needs it."""
    missing = {index for index in range(num_frames) if index not in written}
    needed = {index - 1 for index in missing if index > 0} - missing
    return sorted(missing | {index for index in needed if not written[index].stored})
