"""From a scene to a mesh with colours, to mesh files and to pictures."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from sdfnet.extraction.extract import extract_mesh
from sdfnet.extraction.normals import with_field_normals
from sdfnet.files import ensure_folder, write_json
from sdfnet.geometry.arrays import FloatArray
from sdfnet.mesh.components import MIN_PIECE, RemovedComponent, drop_specks
from sdfnet.mesh.io.formats import COLORED
from sdfnet.mesh.io.write import save_mesh
from sdfnet.mesh.mesh import Mesh
from sdfnet.mesh.remesh import Simplified, simplify_mesh
from sdfnet.rendering.renderer import Renderer
from sdfnet.rendering.scene import PaintedMesh
from sdfnet.rendering.shapes import RenderConfig, RenderedShapes, draw_shape
from sdfnet.runs.extract import SUMMARY_FILE, ExtractConfig
from sdfnet.scenes.build import BuiltNode, build_scene
from sdfnet.scenes.colors import colors_at, has_colors
from sdfnet.scenes.node import SceneFile

_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class ExtractedScene:
    """The mesh of a scene.

    Attributes
    ----------
    mesh : Mesh
        The scene's own units, with vertex normals.
    vertex_colors : (V, 3) float64 or None
        sRGB in [0, 1]; None of a scene without colours.
    removed : tuple of RemovedComponent
        Loose components of learned shapes that were left out, the largest first.
    decimated : Simplified or None

    >>> from sdfnet.scenes import parse_scene
    >>> found = extract_built(build_scene(parse_scene("shape: {sphere: 2, color: red}")), resolution=16)
    >>> found.vertex_colors[0].tolist()
    [1.0, 0.0, 0.0]
    """

    mesh: Mesh
    vertex_colors: FloatArray | None
    removed: tuple[RemovedComponent, ...] = ()
    decimated: Simplified | None = None


def extract_built(
    built: BuiltNode,
    *,
    resolution: int = 128,
    project_steps: int = 0,
    sharp: bool = False,
    max_faces: int | None = None,
    min_piece: float = MIN_PIECE,
    vertex_normals: bool = True,
    device: str = "cpu",
) -> ExtractedScene:
    """Extract a scene that `build_scene` has made, over its bounds. The options are those of `ExtractConfig`.

    If a shape of the scene is learned, components and cavities below `min_piece` of the volume are left out, because
    networks make such specks. Without learned shapes, every component stays.

    Raises
    ------
    ValueError
        The scene has no surface, or its bounds are infinite.

    >>> from sdfnet.scenes import parse_scene
    >>> extract_built(build_scene(parse_scene("shape: {sphere: 2}")), resolution=16).mesh.bounds.is_finite
    True
    """
    if not built.field.bounds.is_finite:
        raise ValueError("the scene has infinite bounds, as half spaces and complements have; intersect it with a box")
    mesh = extract_mesh(
        built.field,
        resolution=resolution,
        project_steps=project_steps,
        sharp=sharp,
        vertex_normals=vertex_normals,
        device=device,
    )
    removed: tuple[RemovedComponent, ...] = ()
    if min_piece and any(node.kind == "learned" for node in built.node.walk()):
        clean = drop_specks(mesh, num_surfaces=None, is_mix=False, min_share=min_piece)
        mesh, removed = clean.mesh, clean.removed
    decimated = None
    if max_faces is not None:
        decimated = simplify_mesh(mesh, max_faces=max_faces)
        mesh = decimated.mesh
        if vertex_normals:
            mesh = with_field_normals(mesh, built.field, device=device, may_crease=True)
    colors = None
    if has_colors(built):
        colors = colors_at(built, torch.from_numpy(mesh.vertices).to(device=device, dtype=torch.float32))
    return ExtractedScene(mesh, colors, removed, decimated)


def extract_scene(
    scene: SceneFile,
    out: str | Path,
    *,
    values: Mapping[str, float] | None = None,
    name: str | None = None,
    config: ExtractConfig | None = None,
    device: str = "cpu",
) -> tuple[Path, ...]:
    """Write the mesh of a scene in each format of `config` into the folder `out`, and return the files.

    `values` are those of some parameters. The files are called `name`, by default as the scene's file. `extract.json`
    holds the values and the sizes of the mesh.

    Raises
    ------
    ValueError
        As `build_scene` and `extract_built` raise them, or a place that cannot be written to.

    >>> from sdfnet.scenes import parse_scene
    >>> config = ExtractConfig(resolution=16)
    >>> files = extract_scene(parse_scene("shape: {sphere: 2}"), "out", name="ball", config=config)
    >>> [path.as_posix() for path in files]
    ['out/ball.obj']
    """
    config = config or ExtractConfig()
    out, name = ensure_folder(out), name or scene.name
    options = {key: value for key, value in vars(config).items() if key != "format"}
    found = extract_built(build_scene(scene, values, device=device), device=device, **options)
    files = tuple(out / f"{name}.{suffix}" for suffix in config.format)
    for path in files:
        save_mesh(found.mesh, path, vertex_colors=found.vertex_colors)
    plain = [suffix for suffix in config.format if suffix not in COLORED]
    if found.vertex_colors is not None and plain:
        _LOGGER.warning("no colours in %s: these formats keep none; format=[%s] does", ", ".join(plain), COLORED[-1])
    summary: dict[str, Any] = {
        "parameters": scene.values(values),
        "vertices": len(found.mesh.vertices),
        "faces": len(found.mesh.faces),
        "volume": found.mesh.signed_volume,
        "removed": [vars(each) for each in found.removed],
    }
    if found.decimated is not None:
        summary["simplified"] = {
            "faces_before": found.decimated.num_faces_before,
            "distance": found.decimated.distance,
        }
    write_json(out / SUMMARY_FILE, {"shapes": {name: summary}})
    return files


def render_scene(
    scene: SceneFile,
    out: str | Path,
    *,
    values: Mapping[str, float] | None = None,
    config: RenderConfig | None = None,
    device: str = "cpu",
) -> RenderedShapes:
    """Draw a scene as files in the folder `out`, named as the scene's file, with the colours of its nodes.

    >>> from sdfnet.scenes import parse_scene
    >>> config = RenderConfig(width=64, height=64, resolution=16, backend="rays")
    >>> drawn = render_scene(parse_scene("shape: {sphere: 2, color: red}"), "pictures", config=config)
    >>> [path.name for path in drawn.files["scene"]]
    ['scene.png']
    """
    config = config or RenderConfig()
    out, name = ensure_folder(out), scene.name
    found = extract_built(
        build_scene(scene, values, device=device),
        resolution=config.resolution,
        sharp=config.sharp,
        min_piece=config.min_piece,
        device=device,
    )
    files = tuple(out / f"{name}.{suffix}" for suffix in config.format)
    with Renderer(size=(config.width, config.height), backend=config.backend) as renderer:
        draw_shape(PaintedMesh(found.mesh, vertex_colors=found.vertex_colors), files, renderer, config)
    return RenderedShapes({name: files}, None, renderer.backend, renderer.why)
