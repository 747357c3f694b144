"""A morph as files: a sequence of meshes with a manifest, films from a steady camera, and a contact sheet.

Its ends (and every shape on the way) are the very meshes that extraction gives for those shapes at the same
resolution. Frames are written one by one, whole, and listed in the manifest, so that an interrupted morph goes on
where it stopped when it is called again with the same settings.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import itertools
import time
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from sdfnet.evaluation.topology import components_and_genus
from sdfnet.fields.neural import NeuralField
from sdfnet.files import ensure_folder
from sdfnet.geometry.bounds import Bounds
from sdfnet.geometry.mesh import Mesh, replace_vertices
from sdfnet.geometry.writing import save_mesh
from sdfnet.latents.frames import MorphConfig, MorphFrame, morph_keys, plan_frames
from sdfnet.latents.interpolation import playback_order
from sdfnet.latents.manifest import MANIFEST_FILE, finished_frames, open_manifest, save_manifest
from sdfnet.latents.view import ground_travel, view_bounds
from sdfnet.rendering.camera import fit_camera
from sdfnet.rendering.films import save_film
from sdfnet.rendering.images import load_image, save_image
from sdfnet.rendering.renderer import Image, Renderer
from sdfnet.rendering.sheets import contact_sheet
from sdfnet.runs import Run
from sdfnet.surfacing.extract import extract_mesh

FILM_NAME = "morph"
SHEET_NAME = "contact_sheet.png"
PICTURES = "pictures"

_SHEET_FRAMES = 12
_SHEET_COLUMNS = 4
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
    """Write a morph of `run` through `shapes` (names or globs, in order) into the folder `out`.

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
    keys = morph_keys(run.names, shapes)
    frames = plan_frames(run, keys, config=config)
    out = ensure_folder(out)
    manifest = open_manifest(out, _settings(run, keys, config), overwrite=overwrite)
    manifest |= {"run": str(run.directory), "playback": playback_order(len(frames), playback=config.playback)}
    finished = finished_frames(out, manifest)
    num_skipped = len(finished)
    if num_skipped < len(frames):
        manifest["complete"] = False
        _make_frames(run, frames, finished, out, manifest, config, progress=progress)
    _finish(out, frames, finished, manifest, config, renew=num_skipped < len(frames))
    meshes = [out / record["meshes"][name] for record in manifest["frames"] for name in config.mesh_formats]
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
        with Renderer(size=size) as renderer, contextlib.closing(_extracted(run, frames, missing, config)) as meshes:
            for index, mesh in tqdm(meshes, total=len(missing), desc="morph", unit="frame", disable=not progress):
                travel = ground_travel(frames, index, config=config)
                picture = renderer.render(replace_vertices(mesh, mesh.vertices - travel), camera=camera)
                finished[index] = _write_frame(out, index, frames[index], mesh, picture, config)
                if time.monotonic() > saved + _SAVE_SECONDS:
                    _save(out, manifest, finished)
                    saved = time.monotonic()
    finally:
        _save(out, manifest, finished)


def _extracted(
    run: Run, frames: list[MorphFrame], missing: list[int], config: MorphConfig
) -> Generator[tuple[int, Mesh]]:
    """Yield the mesh of each of the `missing` frames in turn; a thread extracts the next one meanwhile."""
    with ThreadPoolExecutor(max_workers=1) as pool:
        ahead = pool.submit(_extract, run, frames[missing[0]], missing[0], config)
        for index, following in itertools.zip_longest(missing, missing[1:]):
            mesh = ahead.result()
            if following is not None:
                ahead = pool.submit(_extract, run, frames[following], following, config)
            yield index, mesh


def _write_frame(
    out: Path, index: int, frame: MorphFrame, mesh: Mesh, image: Image, config: MorphConfig
) -> dict[str, Any]:
    """Write the files of one frame; return its record."""
    topology = components_and_genus(mesh)
    meshes = {name: f"frame_{index:04d}.{name}" for name in config.mesh_formats}
    picture = f"{PICTURES}/frame_{index:04d}.png"
    for name in meshes.values():
        save_mesh(mesh, out / name)
    save_image(image, out / picture)
    return {
        "index": index,
        "time": frame.time,
        "shape": frame.shape,
        "meshes": meshes,
        "picture": picture,
        "components": topology.num_components,
        "genus": topology.genus,
        "vertices": len(mesh.vertices),
        "faces": len(mesh.faces),
        "similarity": frame.similarity.to_dict(),
        "latent": frame.latent.tolist(),
        "files": {name: (out / name).stat().st_size for name in [*meshes.values(), picture]},
    }


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


def _finish(
    out: Path,
    frames: list[MorphFrame],
    finished: dict[int, dict[str, Any]],
    manifest: dict[str, Any],
    config: MorphConfig,
    *,
    renew: bool,
) -> None:
    """Write the films and the contact sheet that are missing, or all if any frame is new."""
    pictures = [out / finished[index]["picture"] for index in range(len(frames))]
    films = [f"{FILM_NAME}.{name}" for name in config.film_formats]
    for name in films:
        if renew or not (out / name).is_file():
            save_film(_played(pictures, manifest["playback"]), out / name, fps=config.fps)
    if renew or not (out / SHEET_NAME).is_file():
        save_image(_sheet(pictures, frames), out / SHEET_NAME)
    manifest |= {"films": films, "sheet": SHEET_NAME, "complete": True}
    _save(out, manifest, finished)


def _played(pictures: list[Path], order: list[int]) -> Iterator[Image]:
    for index in order:
        yield load_image(pictures[index])


def _sheet(pictures: list[Path], frames: list[MorphFrame]) -> Image:
    """Return a few pictures at even steps, first and last among them, labelled by shape or by time."""
    chosen = np.unique(np.linspace(0, len(frames) - 1, _SHEET_FRAMES).round().astype(int)).tolist()
    labels = [frames[index].shape or f"{frames[index].time:.2f}" for index in chosen]
    images = [load_image(pictures[index]) for index in chosen]
    return contact_sheet(images, columns=min(_SHEET_COLUMNS, len(images)), labels=labels)


def _save(out: Path, manifest: dict[str, Any], finished: dict[int, dict[str, Any]]) -> None:
    manifest["frames"] = [finished[index] for index in sorted(finished)]
    save_manifest(out, manifest)
