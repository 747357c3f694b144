"""A morph as files: a sequence of meshes with a manifest, films from a steady camera, and a contact sheet.

Its ends (and every shape on the way) are the very meshes that extraction gives for those shapes at the same
resolution. Frames are written one by one, whole, and listed in the manifest, so that an interrupted morph goes on
where it stopped when it is called again with the same settings.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from sdfnet.files import ensure_folder
from sdfnet.geometry.bounds import Bounds
from sdfnet.geometry.mesh import replace_vertices
from sdfnet.latents.extraction import extracted_frames
from sdfnet.latents.frames import MorphConfig, MorphFrame, morph_keys, plan_frames
from sdfnet.latents.interpolation import playback_order
from sdfnet.latents.manifest import MANIFEST_FILE, finished_frames, open_manifest, save_manifest
from sdfnet.latents.mixing import add_mixes
from sdfnet.latents.sequence import MadeFrame, MorphSequence
from sdfnet.latents.view import ground_travel, view_bounds
from sdfnet.latents.writers import SHEET_NAME, frame_formats, write_frame, write_sequence
from sdfnet.rendering.camera import fit_camera
from sdfnet.rendering.renderer import Renderer
from sdfnet.runs import Run

_SAVE_SECONDS = 2.0
"""A manifest of many frames is long; a kill loses at most the frames of this many seconds."""


@dataclass(frozen=True)
class MorphResult:
    """Where a morph was written.

    Attributes
    ----------
    out, manifest, sheet : Path
        The folder, its `manifest.json` and `contact_sheet.png`.
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
    Small loose pieces are kept, and the manifest counts the components of every frame. Called again with the same
    settings it makes only what is missing.

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
    if num_skipped < len(frames):
        manifest["complete"] = False
        _make_frames(run, frames, finished, out, manifest, config, progress=progress)
    _finish(out, frames, finished, manifest, config, renew=num_skipped < len(frames))
    meshes = [out / record["meshes"][name] for record in manifest["frames"] for name in frame_formats(config)]
    return MorphResult(
        out,
        out / MANIFEST_FILE,
        out / SHEET_NAME,
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
        "step": run.step,
        "weights": digest.hexdigest()[:16],
        "similarities": similarities,
    }


def _make_frames(
    run: Run,
    frames: list[MorphFrame],
    finished: dict[int, dict[str, Any]],
    out: Path,
    manifest: dict[str, Any],
    config: MorphConfig,
    *,
    progress: bool,
) -> None:
    """Make every frame that is not `finished`, and add its record there and to the manifest."""
    view = manifest.get("view")
    bounds = view_bounds(run, frames, config=config) if view is None else Bounds(view["lower"], view["upper"])
    manifest["view"] = {"lower": bounds.lower.tolist(), "upper": bounds.upper.tolist()}
    size = (config.width, config.height)
    camera = fit_camera(bounds, size=size, azimuth=config.azimuth, elevation=config.elevation, up_axis=config.up_axis)
    missing = [index for index in range(len(frames)) if index not in finished]
    _save(out, manifest, finished)  # before the first frame: a killed morph must know its own files
    saved = time.monotonic()
    try:
        with (
            Renderer(size=size) as renderer,
            contextlib.closing(_surfaces(run, frames, missing, config)) as made_frames,
        ):
            for made in tqdm(made_frames, total=len(missing), desc="morph", unit="frame", disable=not progress):
                travel = ground_travel(frames, made.index, config=config)
                picture = renderer.render(replace_vertices(made.mesh, made.mesh.vertices - travel), camera=camera)
                finished[made.index] = write_frame(out, made, frames[made.index], picture, config=config)
                if time.monotonic() > saved + _SAVE_SECONDS:
                    _save(out, manifest, finished)
                    saved = time.monotonic()
    finally:
        _save(out, manifest, finished)


def _surfaces(run: Run, frames: list[MorphFrame], missing: list[int], config: MorphConfig) -> Generator[MadeFrame]:
    """Yield the `missing` frames, made in the way that `config` asks for."""
    return extracted_frames(run, frames, missing, config=config)


def _finish(
    out: Path,
    frames: list[MorphFrame],
    finished: dict[int, dict[str, Any]],
    manifest: dict[str, Any],
    config: MorphConfig,
    *,
    renew: bool,
) -> None:
    """Write the files of the whole morph that are missing, or all if any frame is new."""
    records = tuple(finished[index] for index in range(len(frames)))
    sequence = MorphSequence(out, config, tuple(frames), records, tuple(manifest["playback"]))
    manifest |= {"films": write_sequence(sequence, renew=renew), "sheet": SHEET_NAME, "complete": True}
    _save(out, manifest, finished)


def _save(out: Path, manifest: dict[str, Any], finished: dict[int, dict[str, Any]]) -> None:
    manifest["frames"] = [finished[index] for index in sorted(finished)]
    save_manifest(out, manifest)
