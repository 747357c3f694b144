"""A morph of a scene: its parameters go from one set of values to the next, and each frame is extracted.

A parameter is no code: the surface between two sets is what the scene says, so there is nothing to track, to bend or to
clean. Options of `MorphConfig` that only learned shapes have are refused. Every frame has faces of its own, and sharp
edges. A morph that was killed continues with the first frame that is not whole on disk.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from sdfnet.geometry.bounds import Bounds
from sdfnet.geometry.similarity import Similarity
from sdfnet.latents.interpolation import interpolate, playback_order
from sdfnet.mesh.io.write import save_mesh
from sdfnet.morphs.config import MorphConfig
from sdfnet.morphs.export import SHEET_FILE, write_sequence
from sdfnet.morphs.plan import time_frames
from sdfnet.morphs.store import MorphFrame, MorphSequence, View, load_painted, save_stored
from sdfnet.rendering.camera import Camera, fit_camera
from sdfnet.rendering.images import save_image
from sdfnet.rendering.renderer import Renderer
from sdfnet.rendering.scene import PaintedMesh
from sdfnet.runs.folder import FolderKind, file_sizes, is_whole, open_folder, save_folder
from sdfnet.scenes.build import build_scene
from sdfnet.scenes.extract import ExtractedScene, extract_built
from sdfnet.scenes.node import SceneFile
from sdfnet.scenes.scene_file import format_scene

SCENE_MORPH = FolderKind(
    what="morph of a scene",
    file="manifest.json",
    format=1,
    records="frames",
    listed=True,
    other_files=("films", "sheet"),
    pattern="frame_*",
)

_LEARNED_ONLY = ("pace", "frame", "tracked", "on_change", "color", "overlay", "follow", "turntable", "project_steps")


def morph_scene(
    scene: SceneFile,
    key_sets: Sequence[Mapping[str, float]],
    out: str | Path,
    *,
    values: Mapping[str, float] | None = None,
    config: MorphConfig | None = None,
    overwrite: bool = False,
    device: str = "cpu",
    progress: bool = False,
) -> tuple[Path, ...]:
    """Write a morph of a scene through sets of parameter values into the folder `out`; return the files.

    A parameter that a set leaves out keeps its value of `values`, or the scene's. The files are those of `make_morph`:
    a mesh for each frame, films, an animated GLB, the page, a contact sheet and `manifest.json`.

    Raises
    ------
    ValueError
        Fewer than two sets; an unknown parameter or a value outside its range; an option that only learned shapes have;
        a frame without a surface; a folder that holds another morph.

    >>> from sdfnet.scenes import parse_scene
    >>> ball = parse_scene("parameters: {radius: 1}\\nshape: {sphere: radius}")
    >>> config = MorphConfig(frames=3, resolution=8, format=("obj",), width=64, height=48)
    >>> files = morph_scene(ball, [{"radius": 1}, {"radius": 2}], "ball_morph", config=config)
    >>> [path.name for path in files[:3]]
    ['frame_0000.obj', 'frame_0001.obj', 'frame_0002.obj']
    """
    config = config or MorphConfig()
    _check_options(key_sets, config)
    keys = [scene.values({**(values or {}), **each}) for each in key_sets]
    sets = _frame_values(keys, config)
    out = Path(out)
    settings = {"scene": format_scene(scene), "key_sets": keys, **dataclasses.asdict(config)}
    manifest = open_folder(out, settings, SCENE_MORPH, overwrite=overwrite)
    is_complete = bool(manifest.get("complete"))
    manifest |= {"playback": playback_order(len(sets), playback=config.playback), "complete": False}
    records = {each["index"]: each for each in manifest["frames"] if "stored" in each and is_whole(out, each)}
    num_kept = sum("picture" in record for record in records.values())

    def save() -> None:
        manifest["frames"] = [records[index] for index in sorted(records)]
        save_folder(out, manifest, SCENE_MORPH)

    for index, each in enumerate(tqdm(sets, desc="morph", unit="frame", delay=2, disable=not progress)):
        if index not in records:
            records[index] = _write_frame(_extracted(scene, index, each, config, device), out, index, each, config)
            save()
    ordered = [records[index] for index in range(len(sets))]
    camera = _camera(ordered, config)
    with Renderer(size=(config.width, config.height)) as renderer:
        for record in tqdm(ordered, desc="pictures", delay=2, disable=not progress):
            if "picture" not in record:
                _write_picture(record, out, renderer, camera)
                save()
    save()
    renew = not is_complete or num_kept < len(sets)
    films = write_sequence(_sequence(ordered, out, config, _key_names(sets, keys)), renew=renew)
    manifest |= {"films": films, "sheet": SHEET_FILE, "complete": True}
    save()
    meshes = [f"frame_{index:04d}.{suffix}" for index in range(len(sets)) for suffix in config.frame_formats]
    return tuple(out / name for name in (*meshes, *films, SHEET_FILE))


def _check_options(key_sets: Sequence[Mapping[str, float]], config: MorphConfig) -> None:
    if len(key_sets) < 2:
        raise ValueError(f"key_sets must be two or more sets of values, got {len(key_sets)}")
    plain = MorphConfig()
    for name in _LEARNED_ONLY:
        if getattr(config, name) != getattr(plain, name):
            raise ValueError(f"{name} has an effect on learned shapes only, not on a scene")
    if config.path == "geodesic":
        raise ValueError(
            "path=geodesic bends codes of learned shapes; a scene takes linear, spherical, spline, natural"
        )


def _frame_values(keys: Sequence[Mapping[str, float]], config: MorphConfig) -> list[dict[str, float]]:
    """Return the values of all parameters at each frame."""
    names = list(keys[0])
    if not names:
        raise ValueError("the scene has no parameters, so nothing of it can change")
    table = torch.tensor([[key[name] for name in names] for key in keys], dtype=torch.float64)
    times = time_frames(len(keys), config=config).path
    closed = config.playback == "loop"
    rows = interpolate(table, times, kind=config.path, key_times=config.key_times, closed=closed)  # type: ignore[arg-type]
    return [dict(zip(names, row, strict=True)) for row in rows.tolist()]


def _key_names(sets: Sequence[dict[str, float]], keys: Sequence[dict[str, float]]) -> dict[int, str]:
    """Return the frames that are sets of the user, with the parameters that differ between the sets."""
    changing = [name for name in keys[0] if len({key[name] for key in keys}) > 1]
    found, start = {}, 0
    for key in keys:
        index = next((index for index in range(start, len(sets)) if sets[index] == key), None)
        if index is not None:
            found[index] = ", ".join(f"{name} {key[name]:g}" for name in changing) or "start"
            start = index + 1
    return found


def _extracted(
    scene: SceneFile, index: int, values: Mapping[str, float], config: MorphConfig, device: str
) -> ExtractedScene:
    try:
        return extract_built(
            build_scene(scene, values, device=device),
            resolution=config.resolution,
            sharp=True,
            min_piece=config.min_piece,
            device=device,
        )
    except ValueError as error:
        told = ", ".join(f"{name}={value:g}" for name, value in values.items())
        raise ValueError(f"frame {index} of the morph ({told}) cannot be extracted: {error}") from error


def _write_frame(
    frame: ExtractedScene, out: Path, index: int, values: Mapping[str, float], config: MorphConfig
) -> dict[str, Any]:
    """Write the mesh of a frame, in all formats and bit for bit; return its record."""
    stored = f"frames/frame_{index:04d}.npz"
    save_stored(frame.mesh, out / stored, vertex_colors=frame.vertex_colors)
    names = [stored]
    for suffix in config.frame_formats:
        names.append(f"frame_{index:04d}.{suffix}")
        save_mesh(frame.mesh, out / names[-1], vertex_colors=frame.vertex_colors)
    box = frame.mesh.bounds
    return {
        "index": index,
        "parameters": dict(values),
        "faces": len(frame.mesh.faces),
        "bounds": [box.lower.tolist(), box.upper.tolist()],
        "stored": stored,
        "files": file_sizes(out, names),
    }


def _write_picture(record: dict[str, Any], out: Path, renderer: Renderer, camera: Camera) -> None:
    """Draw the frame of a record, and put the picture into the record."""
    mesh, colors = load_painted(out / record["stored"])
    name = f"pictures/frame_{record['index']:04d}.png"
    save_image(renderer.render(PaintedMesh(mesh, vertex_colors=colors), camera=camera), out / name)
    record["picture"] = name
    record["files"] |= file_sizes(out, [name])


def _camera(records: Iterable[Mapping[str, Any]], config: MorphConfig) -> Camera:
    seen = _bounds(records)
    size = (config.width, config.height)
    return fit_camera(seen, size=size, azimuth=config.azimuth, elevation=config.elevation, up_axis=config.up_axis)


def _bounds(records: Iterable[Mapping[str, Any]]) -> Bounds:
    return Bounds.of(np.concatenate([record["bounds"] for record in records]))


def _sequence(
    records: Sequence[Mapping[str, Any]], out: Path, config: MorphConfig, names: Mapping[int, str]
) -> MorphSequence:
    """Return the frames of `records` as those of a morph without codes, whose shapes are the sets of the user."""
    last = max(len(records) - 1, 1)
    frames = tuple(
        MorphFrame(
            index,
            index / last,
            torch.zeros(0),
            Similarity.identity(),
            names.get(index, ""),
            picture=record["picture"],
            stored=record["stored"],
        )
        for index, record in enumerate(records)
    )
    order = tuple(playback_order(len(records), playback=config.playback))
    return MorphSequence(out, config, frames, order, View(_bounds(records)))
