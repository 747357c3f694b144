"""A morph as files: a sequence of meshes with a manifest, films from a steady camera, and a contact sheet.

Its ends (and every shape on the way) are the very meshes that extraction gives for those shapes at the same
resolution. Frames are written one by one, whole, and listed in the manifest, so that an interrupted morph goes on
where it stopped when it is called again with the same settings.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sdfnet.files import ensure_folder
from sdfnet.geometry.mesh import Mesh
from sdfnet.latents.extraction import extract_frame, extracted_frames, piece_counter
from sdfnet.latents.filming import Filming, Staging, legend_of, plan_staging
from sdfnet.latents.frames import MorphConfig, MorphFrame, morph_keys, plan_frames
from sdfnet.latents.interpolation import playback_order
from sdfnet.latents.manifest import MANIFEST_FILE, finished_frames, open_manifest, save_manifest
from sdfnet.latents.mixing import add_mixes
from sdfnet.latents.plot import PLOT_FILE, save_plot
from sdfnet.latents.production import produce
from sdfnet.latents.report import REPORT_FILE, make_report, save_report
from sdfnet.latents.sequence import MadeFrame, MorphSequence, load_stored
from sdfnet.latents.tracked import tracked_frames
from sdfnet.latents.writers import SHEET_NAME, frame_formats, write_sequence
from sdfnet.rendering.renderer import Renderer
from sdfnet.runs import Run


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
        save_report(report, out)
        save_plot(report, out)
    manifest |= {"report": REPORT_FILE, "plot": PLOT_FILE, "complete": True}
    _save(out, manifest, finished)


def _save(out: Path, manifest: dict[str, Any], finished: dict[int, dict[str, Any]]) -> None:
    manifest["frames"] = [finished[index] for index in sorted(finished)]
    save_manifest(out, manifest)
