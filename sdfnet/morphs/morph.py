"""A morph as files: a sequence of meshes with a manifest, films from a steady camera, and a contact sheet.

Its ends (and every shape on the way) are the very meshes that extraction gives for those shapes at the same
resolution. Frames are written one by one, whole, and listed in the manifest, so that an interrupted morph goes on
where it stopped when it is called again with the same settings.

The line on which frames are made: one thread extracts, this one draws with GL, others shade, measure and write.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import os
import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from sdfnet.files import ensure_folder
from sdfnet.latents.interpolation import playback_order
from sdfnet.mesh.mesh import Mesh
from sdfnet.morphs.export import SHEET_NAME, frame_formats, write_frame, write_sequence
from sdfnet.morphs.film import Filming, Staging, legend_of, plan_staging
from sdfnet.morphs.frames import extract_frame, extracted_frames, piece_counter
from sdfnet.morphs.plan import MorphConfig, MorphFrame, morph_keys, plan_frames
from sdfnet.morphs.plot import PLOT_FILE, save_plot
from sdfnet.morphs.report import REPORT_FILE, make_report, save_morph_report
from sdfnet.morphs.store import (
    MANIFEST_FILE,
    MadeFrame,
    MorphSequence,
    finished_frames,
    load_stored,
    open_manifest,
    save_manifest,
)
from sdfnet.morphs.tracked import tracked_frames
from sdfnet.rendering.renderer import Renderer
from sdfnet.runs import Run
from sdfnet.runs.mixes import add_mixes

_SAVE_SECONDS = 2.0
"""A manifest of many frames is long; a kill loses at most the frames of this many seconds."""

_MOST_WRITERS = 8
"""Threads that finish frames. Much of their work is native code that runs beside Python, not all of it."""


def produce(
    surfaces: Generator[MadeFrame],
    frames: Sequence[MorphFrame],
    finished: dict[int, dict[str, Any]],
    out: Path,
    *,
    config: MorphConfig,
    filming: Filming,
    mesh_of: Callable[[int], Mesh],
    save: Callable[[], None],
    num_missing: int,
    progress: bool,
) -> None:
    """Picture, measure and write every frame that `surfaces` yields; add its record to `finished`.

    `save` is called every few seconds and at the end, also if that is an error: what is `finished` then is whole.
    """
    num_writers = max(1, min(_MOST_WRITERS, (os.cpu_count() or 1) - 1))
    pending: deque[tuple[int, Future[dict[str, Any]]]] = deque()
    saved, last = time.monotonic(), None
    try:
        with contextlib.closing(surfaces), ThreadPoolExecutor(num_writers) as pool:
            for made in tqdm(surfaces, total=num_missing, desc="morph", unit="frame", disable=not progress):
                before = _mesh_before(made.index, last, mesh_of)
                last = made
                picture = filming.begin(made)
                frame = frames[made.index]
                job = pool.submit(write_frame, out, made, frame, picture, before=before, config=config)
                pending.append((made.index, job))
                while len(pending) > num_writers:
                    _collect(pending, finished)
                if time.monotonic() > saved + _SAVE_SECONDS:
                    save()
                    saved = time.monotonic()
        while pending:
            _collect(pending, finished)
    finally:
        finished.update((index, job.result()) for index, job in pending if job.done() and not job.exception())
        save()


def _mesh_before(index: int, last: MadeFrame | None, mesh_of: Callable[[int], Mesh]) -> Mesh | None:
    if index == 0:
        return None
    return last.mesh if last is not None and last.index == index - 1 else mesh_of(index - 1)


def _collect(pending: deque[tuple[int, Future[dict[str, Any]]]], finished: dict[int, dict[str, Any]]) -> None:
    index, job = pending.popleft()
    finished[index] = job.result()


@dataclass(frozen=True)
class MorphResult:
    """Where a morph was written.

    Attributes
    ----------
    out, manifest, sheet : Path
        The folder, its `manifest.json` and `contact_sheet.png`.
    report, plot : Path
        `morph.json`, what was measured, and `morph.png`, the same as curves.
    meshes : tuple of Path
        The sequence, frame by frame; all formats of a frame in turn.
    films : tuple of Path
        The files of the whole morph, by format: films, animated files.
    num_frames, num_skipped : int
        Frames in all, and those of them that were there already.

    >>> from sdfnet.runs import load_run
    >>> run = load_run("runs/chairs")
    >>> config = MorphConfig(frames=2, resolution=16, format=("obj",))
    >>> made = make_morph(run, ["chair_00", "chair_01"], "two_frames", config=config)
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

    `frame_0000.obj` and so on are in world units; between shapes of different size and place the world moves along.
    Loose pieces are left out (`config.min_piece`); the report says what was, and how even the pace, how good the
    triangles and how near the ends to their sources are. Called again with the same settings it makes only what is
    missing.

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
    config = config or MorphConfig()
    run, keys = add_mixes(run, shapes)
    keys = morph_keys(run.names, keys)
    frames = plan_frames(run, keys, config=config, progress=progress)
    out = ensure_folder(out)
    manifest = open_manifest(out, _settings(run, keys, config), overwrite=overwrite)
    manifest |= {"run": str(run.directory), "playback": playback_order(len(frames), playback=config.playback)}
    finished = finished_frames(out, manifest)
    num_skipped = len(finished)
    mesh_of = _mesh_finder(run, frames, finished, out, config)
    if num_skipped < len(frames):
        manifest["complete"] = False
        _make_frames(run, frames, finished, out, manifest, mesh_of, config, progress=progress)
    _finish(run, frames, finished, out, manifest, mesh_of, config, renew=num_skipped < len(frames))
    meshes = [out / record["meshes"][name] for record in manifest["frames"] for name in frame_formats(config)]
    return MorphResult(
        out,
        out / MANIFEST_FILE,
        out / SHEET_NAME,
        out / REPORT_FILE,
        out / PLOT_FILE,
        tuple(meshes),
        tuple(out / name for name in manifest["films"]),
        len(frames),
        num_skipped,
    )


def _settings(run: Run, keys: Sequence[str], config: MorphConfig) -> dict[str, Any]:
    """Return what the files depend on: the same settings give the same files."""
    digest = hashlib.sha256()
    for name, tensor in [*run.decoder.state_dict().items(), *((key, run.latent(key)) for key in keys)]:
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    similarities = [run.similarity(name).to_dict() for name in keys]
    return {
        "shapes": list(keys),
        **dataclasses.asdict(config),
        "easing": config.easing_used,
        "step": run.step,
        "weights": digest.hexdigest()[:16],
        "similarities": similarities,
    }


def _mesh_finder(
    run: Run, frames: list[MorphFrame], finished: dict[int, dict[str, Any]], out: Path, config: MorphConfig
) -> Callable[[int], Mesh]:
    """Return a function from a frame's number to its mesh: as it was kept, or made again."""
    counts_of = piece_counter(run, frames, config=config)

    @functools.lru_cache(maxsize=4)
    def extracted(index: int) -> Mesh:
        return extract_frame(run, frames, index, config=config, allowed=counts_of(index)).mesh

    def mesh_of(index: int) -> Mesh:
        if "stored" in finished.get(index, {}):
            return load_stored(out / finished[index]["stored"])
        return extracted(index)

    return mesh_of


def _make_frames(
    run: Run,
    frames: list[MorphFrame],
    finished: dict[int, dict[str, Any]],
    out: Path,
    manifest: dict[str, Any],
    mesh_of: Callable[[int], Mesh],
    config: MorphConfig,
    *,
    progress: bool,
) -> None:
    """Make every frame that is not `finished`, and add its record there and to the manifest."""
    if "view" not in manifest:
        manifest["view"] = plan_staging(run, frames, mesh_of, config=config).to_dict()
    missing = [index for index in range(len(frames)) if index not in finished]
    _save(out, manifest, finished)  # before the first frame: a killed morph must know its own files
    with Renderer(size=(config.width, config.height)) as renderer:
        staging = Staging.from_dict(manifest["view"])
        filming = Filming(staging, frames, mesh_of, renderer, config=config)
        surfaces = _surfaces(run, frames, missing, config, progress=progress)
        produce(
            surfaces,
            frames,
            finished,
            out,
            config=config,
            filming=filming,
            mesh_of=mesh_of,
            save=lambda: _save(out, manifest, finished),
            num_missing=len(missing),
            progress=progress,
        )


def _surfaces(
    run: Run, frames: list[MorphFrame], missing: list[int], config: MorphConfig, *, progress: bool
) -> Generator[MadeFrame]:
    """Yield the `missing` frames, made in the way that `config` asks for."""
    if config.tracked:
        return tracked_frames(run, frames, missing, config=config, progress=progress)
    return extracted_frames(run, frames, missing, config=config)


def _finish(
    run: Run,
    frames: list[MorphFrame],
    finished: dict[int, dict[str, Any]],
    out: Path,
    manifest: dict[str, Any],
    mesh_of: Callable[[int], Mesh],
    config: MorphConfig,
    *,
    renew: bool,
) -> None:
    """Write the files of the whole morph that are missing, or all if any frame is new."""
    records = tuple(finished[index] for index in range(len(frames)))
    staging = Staging.from_dict(manifest["view"])
    playback = tuple(manifest["playback"])
    sequence = MorphSequence(out, config, tuple(frames), records, playback, staging.travel_limit)
    legend = functools.partial(legend_of, staging, config=config)
    manifest |= {"films": write_sequence(sequence, legend=legend, renew=renew), "sheet": SHEET_NAME}
    if renew or not all((out / name).is_file() for name in (REPORT_FILE, PLOT_FILE)):
        report = make_report(run, sequence, mesh_of)
        save_morph_report(report, out)
        save_plot(report, out)
    manifest |= {"report": REPORT_FILE, "plot": PLOT_FILE, "complete": True}
    _save(out, manifest, finished)


def _save(out: Path, manifest: dict[str, Any], finished: dict[int, dict[str, Any]]) -> None:
    manifest["frames"] = [finished[index] for index in sorted(finished)]
    save_manifest(out, manifest)
