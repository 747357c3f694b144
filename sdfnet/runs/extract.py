"""Extract clean meshes of learned shapes and of mixes. Every command uses this module.

`extract_shape` gives one mesh, `extract_run` writes the meshes of many shapes into a folder. The rule for loose
components, the device and the frame are those of the run and of the shape, so that a caller cannot choose another one
by mistake.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from torch import Tensor
from tqdm import tqdm

from sdfnet.extraction.extract import NoSurfaceError, extract_mesh
from sdfnet.extraction.normals import with_field_normals
from sdfnet.fields.adaptors import NeuralField
from sdfnet.fields.base import Intersection
from sdfnet.fields.primitives import Box
from sdfnet.files import ensure_folder, write_json
from sdfnet.geometry.bounds import LATTICE_MARGIN, check_resolution
from sdfnet.mesh.components import (
    MIN_PIECE,
    CleanMesh,
    RemovedComponent,
    check_min_piece,
    drop_loose_components,
    drop_specks,
)
from sdfnet.mesh.io.formats import WritableFormat, check_format_names
from sdfnet.mesh.io.write import save_mesh
from sdfnet.mesh.mesh import Mesh
from sdfnet.mesh.remesh import Simplified, check_max_faces, simplify_mesh
from sdfnet.runs.document import RunShape, check_overwrites
from sdfnet.runs.folder import setting_differences
from sdfnet.runs.mixes import add_mixes
from sdfnet.runs.run import Run

SUMMARY_FILE = "extract.json"

CLOSED_WITHIN = 1 + LATTICE_MARGIN / 2
"""A mix or a fitted shape is cut by the cube of this half side, unit frame, within the lattice. So a component that the
network puts into empty space is closed there, and is recognised as loose."""


@dataclass(frozen=True)
class ComponentCounts:
    """How many connected components and cavities a surface may have.

    >>> ComponentCounts(components=1, cavities=0).components
    1
    """

    components: int
    cavities: int


@dataclass(frozen=True, eq=False)
class ExtractedShape:
    """The mesh of one learned shape, and the changes that made it clean.

    Attributes
    ----------
    mesh : Mesh
        World units, with vertex normals, unless `extract_shape` was asked otherwise.
    removed : tuple of RemovedComponent
        Loose components that were left out and cavities that were filled, the largest first; in the mesh's frame.
    num_components, num_cavities : int
        The numbers of components and cavities of `mesh`.
    decimated : Simplified or None
        The decimation, with its error in the mesh's units; None where no bound on the faces was given.
    decimation_error : float or None
        The same error as a share of the shape's radius.
    extracted : Mesh or None
        The mesh as it was extracted, with its loose components, in the unit frame.

    >>> from sdfnet.runs import load_run
    >>> run = load_run("runs/chairs")
    >>> found = extract_shape(run, "chair_00", resolution=24)
    >>> found.num_components, len(found.removed)
    (1, 0)
    """

    mesh: Mesh
    removed: tuple[RemovedComponent, ...]
    num_components: int
    num_cavities: int
    decimated: Simplified | None = None
    decimation_error: float | None = None
    extracted: Mesh | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the entry of the shape in `extract.json`."""
        document: dict[str, Any] = {
            "pieces": self.num_components,
            "cavities": self.num_cavities,
            "vertices": len(self.mesh.vertices),
            "faces": len(self.mesh.faces),
            "removed": [dataclasses.asdict(each) for each in self.removed],
        }
        if self.decimated is not None:
            document["simplified"] = {
                "faces_before": self.decimated.num_faces_before,
                "distance": self.decimated.distance,
                "distance_unit": self.decimation_error,
            }
        return document


def extract_shape(
    run: Run,
    shape: str | RunShape,
    *,
    latent: Tensor | None = None,
    extracted: Mesh | None = None,
    resolution: int = 128,
    project_steps: int = 0,
    sharp: bool = False,
    min_piece: float = MIN_PIECE,
    allowed: ComponentCounts | None = None,
    max_faces: int | None = None,
    vertex_normals: bool = True,
    frame: Literal["world", "unit"] = "world",
) -> ExtractedShape:
    """Extract a learned shape of `run` as a mesh without loose components.

    Parameters
    ----------
    shape : str or RunShape
        The name of a shape of the run; or the description of a shape that the run does not hold, with its `latent`.
    latent : (L,) float32, optional
        The code to extract; by default the code of the shape in the run.
    extracted : Mesh, optional
        The mesh that an earlier call with the same options extracted (`ExtractedShape.extracted`). It is cleaned again,
        for example in the other frame.
    resolution, project_steps, sharp, vertex_normals
        As `extract_mesh` takes them.
    min_piece : float
        Components and cavities below this share of the volume are left out (`clean_components`); 0 keeps all.
    allowed : ComponentCounts, optional
        How many components and cavities may stay. It replaces the counts of the shape, for example between the shapes
        of a morph.
    max_faces : int, optional
        The mesh is decimated to at most so many faces after loose components are left out.
    frame : "world" or "unit"
        The frame of the mesh: that of the shape's source, or the unit frame.

    Raises
    ------
    ValueError
        The field has no surface on the lattice, or an option is out of its range.

    >>> from sdfnet.runs import load_run
    >>> found = extract_shape(load_run("runs/chairs"), "chair_00", resolution=24)
    >>> found.num_components, found.mesh.to_trimesh().is_watertight
    (1, True)
    """
    described = run.shape(shape) if isinstance(shape, str) else shape
    field = run.field(described.name) if latent is None else NeuralField(run.decoder, latent)
    similarity = None if frame == "unit" else described.similarity
    if extracted is None:
        try:
            extracted = extract_mesh(
                field if _was_seen(described) else Intersection(field, Box([CLOSED_WITHIN] * 3)),
                bounds=field.bounds,
                resolution=resolution,
                project_steps=project_steps,
                sharp=sharp,
                vertex_normals=vertex_normals,
                device=run.device,
            )
        except NoSurfaceError as empty:
            raise ValueError(_without_surface(described, empty.found)) from empty
    mesh = extracted if similarity is None else extracted.to_world(similarity)
    clean = clean_components(mesh, described, min_piece=min_piece, allowed=allowed)
    found = ExtractedShape(clean.mesh, clean.removed, clean.num_components, clean.num_cavities, extracted=extracted)
    if max_faces is None:
        return found
    decimated = simplify_mesh(clean.mesh, max_faces=max_faces)
    mesh = decimated.mesh
    if vertex_normals:
        in_unit = mesh if similarity is None else mesh.to_unit(similarity)
        normals = with_field_normals(in_unit, field, device=run.device, may_crease=True).vertex_normals
        mesh = Mesh(mesh.vertices, mesh.faces, normals)
    error = decimated.distance * (1.0 if similarity is None else similarity.scale)
    return dataclasses.replace(found, mesh=mesh, decimated=decimated, decimation_error=error)


def _without_surface(shape: RunShape, found: str) -> str:
    """Return the message about a shape of a run without a surface; more training gives one to learned shapes only."""
    if shape.is_mix:
        return f"{shape.name} has no surface ({found}): take a mix that is nearer to the learned shapes"
    if not shape.learned:
        return found
    return f"{shape.name} has no surface yet: train longer ({found})"


def clean_components(
    mesh: Mesh, shape: RunShape, *, min_piece: float = MIN_PIECE, allowed: ComponentCounts | None = None
) -> CleanMesh:
    """Return the mesh of a learned shape without loose components and cavities.

    Components and cavities below `min_piece` of the volume are always removed. Larger ones are removed only if the
    source has fewer of them. The limit is ten times `min_piece` for a learned shape. It is a twentieth of the volume
    for a mix or a fitted shape, because the network may put components into empty space there. `allowed` replaces the
    counts of the shape.

    >>> from sdfnet.runs import load_run
    >>> run = load_run("runs/chairs")
    >>> mesh = extract_mesh(run.field("chair_00"), resolution=24)
    >>> len(clean_components(mesh, run.shape("chair_00")).mesh.faces) == len(mesh.faces)
    True
    """
    if allowed is not None:
        return drop_loose_components(
            mesh, min_share=min_piece, num_components=allowed.components, num_cavities=allowed.cavities
        )
    return drop_specks(mesh, num_surfaces=shape.num_surfaces, is_mix=not _was_seen(shape), min_share=min_piece)


def _was_seen(shape: RunShape) -> bool:
    """Tell whether training showed the network where this shape has no surface."""
    return shape.learned and not shape.is_mix


@dataclass(frozen=True)
class ExtractConfig:
    """How learned shapes are extracted and written.

    >>> ExtractConfig(resolution=256).format
    ('obj',)
    """

    resolution: int = 128
    """Samples along each axis of the lattice on [-1.05, 1.05]³ of the unit frame, 2 to 4096."""
    format: tuple[WritableFormat, ...] = ("obj",)
    """Mesh formats; one file of each is written."""
    project_steps: int = 0
    """Newton steps that move the vertices onto the zero level; 0 leaves them where marching cubes puts them."""
    sharp: bool = False
    """Whether to restore the sharp edges and corners of the learned shape, which marching cubes cuts off."""
    max_faces: int | None = None
    """Decimate each mesh to at most this many faces, 4 or more, after loose components are left out; null keeps all."""
    min_piece: float = MIN_PIECE
    """Components and cavities below this share of the volume, 0 to 0.05, are left out and reported; 0 keeps all."""

    def __post_init__(self) -> None:
        check_resolution(self.resolution)
        check_min_piece(self.min_piece)
        if self.project_steps < 0:
            raise ValueError(f"project_steps must be 0 or more, got {self.project_steps}")
        if self.max_faces is not None:
            check_max_faces(self.max_faces)
        check_format_names(self.format)


@dataclass(frozen=True, eq=False)
class ExtractedRun:
    """The files that `extract_run` wrote.

    Attributes
    ----------
    out : Path
        The folder of the meshes and of `extract.json`.
    files : dict
        The mesh files of each shape, in the order of the formats.
    summaries : dict
        The entry of each shape in `extract.json`.
    failures : dict
        The reason for each shape without a mesh.
    extracted : dict
        `ExtractedShape.extracted` of each shape if `extract_run` was asked to keep the meshes, else empty.
    others : dict
        The shapes that an earlier call with other settings left in the folder, and how these settings differ.

    >>> from sdfnet.runs import load_run
    >>> run = load_run("runs/chairs")
    >>> done = extract_run(run, "chair_00", "meshes", config=ExtractConfig(resolution=24, format=("stl",)))
    >>> done.files["chair_00"][0].name
    'chair_00.stl'
    """

    out: Path
    files: dict[str, tuple[Path, ...]]
    summaries: dict[str, dict[str, Any]]
    failures: dict[str, str]
    extracted: dict[str, Mesh]
    others: dict[str, str]


def extract_run(
    run: Run,
    shapes: str | Sequence[str],
    out: str | Path,
    *,
    config: ExtractConfig | None = None,
    keep: bool = False,
    progress: bool = False,
) -> ExtractedRun:
    """Write the `shapes` (names, globs or mixes) of `run` as mesh files in world units into the folder `out`.

    `extract.json` lists the size of each mesh, the components that were left out and the settings. Shapes of an earlier
    call stay in the folder and in the file; `others` has those with other settings. A shape without a surface does not
    stop the others; it is among the `failures`. With `keep`, the result holds the meshes too, for `evaluate_run`.

    Raises
    ------
    ValueError
        Unknown shapes, a folder that cannot be written to, or a file to be written is a source mesh of the run.

    >>> from sdfnet.runs import load_run
    >>> run = load_run("runs/chairs")
    >>> done = extract_run(run, ["chair_00", "0.5*chair_00 + 0.5*chair_01"], "out", config=ExtractConfig(resolution=24))
    >>> [path.as_posix() for paths in done.files.values() for path in paths]
    ['out/chair_00.obj', 'out/0.5chair_00+0.5chair_01.obj']
    """
    config = config or ExtractConfig()
    run, chosen = add_mixes(run, shapes)
    names = list(dict.fromkeys(chosen))
    out = Path(out)
    targets = {name: tuple(out / f"{name}.{suffix}" for suffix in config.format) for name in names}
    sources = [shape.source for shape in run.shapes]
    check_overwrites(out, itertools.chain(*targets.values()), sources, what="the source meshes of this run")
    ensure_folder(out)
    options = {key: value for key, value in vars(config).items() if key != "format"}
    settings = {"run": run.directory.resolve().name, "step": run.step, **options}
    files: dict[str, tuple[Path, ...]] = {}
    summaries: dict[str, dict[str, Any]] = {}
    failures: dict[str, str] = {}
    extracted: dict[str, Mesh] = {}
    for name in tqdm(names, desc="extracting", unit="shape", delay=2, leave=False, disable=not progress):
        try:
            found = extract_shape(run, name, **options)
        except ValueError as error:
            failures[name] = str(error)
            continue
        files[name] = targets[name]
        for path in files[name]:
            save_mesh(found.mesh, path)
        summaries[name] = {**found.to_dict(), "settings": settings}
        if keep and found.extracted is not None:
            extracted[name] = found.extracted
    earlier = save_summaries(out, summaries)
    differences = {
        name: setting_differences(summary["settings"], settings)
        for name, summary in earlier.items()
        if name not in names and "settings" in summary
    }
    others = {name: "; ".join(found) for name, found in differences.items() if found}
    return ExtractedRun(out, files, summaries, failures, extracted, others)


def save_summaries(out: Path, summaries: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """Write the entries of shapes into `extract.json`. Shapes that an earlier call wrote into the folder stay there,
    and are returned.

    >>> save_summaries(Path("."), {"chair_00": {"faces": 8000}})
    {}
    >>> json.loads(Path("extract.json").read_text())["shapes"]["chair_00"]
    {'faces': 8000}
    """
    earlier: dict[str, Any] = {}
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):  # No such file, or another program wrote it.
        earlier = dict(json.loads((out / SUMMARY_FILE).read_text(encoding="utf-8"))["shapes"])
    write_json(out / SUMMARY_FILE, {"shapes": {**earlier, **summaries}})
    return earlier
