"""`sdfnet extract`: write learned shapes as meshes, in the units and at the place of their sources."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from sdfnet.cli.hydra_app.command import Command
from sdfnet.cli.hydra_app.devices import check_device_name, find_device
from sdfnet.cli.hydra_app.output import say, say_where
from sdfnet.geometry.bounds import check_resolution
from sdfnet.mesh.components import MIN_PIECE, check_min_piece
from sdfnet.mesh.decimate import check_max_faces, simplify_mesh
from sdfnet.mesh.mesh import Mesh

if TYPE_CHECKING:
    from sdfnet.fields import Field
    from sdfnet.geometry.similarity import Similarity
    from sdfnet.mesh.components import CleanMesh
    from sdfnet.runs import RunShape

_TOLD = 3
"""Failed shapes whose reason an error gives; of many, the reason is the same."""

_SUMMARY = "extract.json"


@dataclass(frozen=True)
class ExtractConfig:
    """What to extract.

    Attributes
    ----------
    run : path
        A run directory, as train writes it.
    shapes : names
        all, one name, or a list of names, globs and mixes such as 0.5*a + 0.5*b.
    resolution : whole number
        Samples along each axis of the lattice on [-1.05, 1.05]³ of the unit frame.
    format : list
        One or more of obj, ply, stl, glb.
    project_steps : whole number
        Newton steps that pull the vertices onto the zero level; 0 leaves them where marching cubes puts them.
    sharp : true or false
        Whether to put sharp edges and corners back, where the learned shape has them; marching cubes cuts them off.
    max_faces : whole number or null
        Simplify each mesh to at most so many faces, after loose pieces are left out; null keeps all.
    sparse : true or false
        Whether to visit only the part of the lattice that can hold the surface; false visits all, for the same mesh.
    min_piece : number
        Loose pieces and cavities below this share of the shape's volume are left out and reported, up to ten times that
        beyond as many as the source has; 0 keeps all.
    out : path
        Where the meshes and extract.json go; null is meshes/ inside the run.
    device : text
        auto, cpu, cuda, cuda:1 or mps.
    """

    run: Path
    shapes: str | tuple[str, ...] = "all"
    resolution: int = 128
    format: tuple[Literal["obj", "ply", "stl", "glb"], ...] = ("obj",)
    project_steps: int = 0
    sharp: bool = False
    max_faces: int | None = None
    sparse: bool = True
    min_piece: float = MIN_PIECE
    out: Path | None = None
    device: str = "auto"

    def __post_init__(self) -> None:
        check_device_name(self.device)
        check_resolution(self.resolution)
        check_min_piece(self.min_piece)
        if self.project_steps < 0:
            raise ValueError(f"project_steps must be 0 or more, got {self.project_steps}")
        if self.max_faces is not None:
            check_max_faces(self.max_faces)
        if not self.format:
            raise ValueError("format must name at least one of obj, ply, stl, glb, got an empty list")

    @property
    def folder(self) -> Path:
        return self.run / "meshes" if self.out is None else self.out


def extract(config: ExtractConfig) -> None:
    """Write one file per shape and format, and what was left out; a shape that fails does not stop the others."""
    from tqdm import tqdm

    from sdfnet.files import ensure_folder
    from sdfnet.mesh.io.write import save_mesh
    from sdfnet.runs import load_run
    from sdfnet.runs.mixes import add_mixes

    run = load_run(config.run, device=find_device(config.device))
    run, chosen = add_mixes(run, config.shapes)
    names = list(dict.fromkeys(chosen))
    ensure_folder(config.folder)
    failures, summaries = {}, {}
    for name in tqdm(names, desc="extracting", unit="shape", delay=2, leave=False):
        try:
            mesh, summary = _extract_one(config, run.field(name), run.shape(name))
        except ValueError as error:
            failures[name] = str(error)
            continue
        for suffix in config.format:
            save_mesh(mesh, config.folder / f"{name}.{suffix}")
        summaries[name] = summary
    _save_summary(config, summaries)
    if failures:
        raise ValueError(_told(failures, len(names), config.folder))
    formats = ", ".join(config.format)
    say(f"{len(names)} shapes at resolution {config.resolution} as {formats}{_left_out(summaries)}{_far(summaries)}")
    say_where(config.folder)


def _extract_one(config: ExtractConfig, field: Field, shape: RunShape) -> tuple[Mesh, dict[str, Any]]:
    """Return the mesh of one shape in world units, and what `extract.json` says of it."""
    from sdfnet.extraction import extract_mesh
    from sdfnet.mesh.components import drop_specks

    mesh = extract_mesh(
        field,
        resolution=config.resolution,
        similarity=shape.similarity,
        project_steps=config.project_steps,
        sharp=config.sharp,
        sparse=config.sparse,
    )
    clean = drop_specks(mesh, num_surfaces=shape.num_surfaces, is_mix=shape.is_mix, min_share=config.min_piece)
    summary = _summary(clean)
    if config.max_faces is None:
        return clean.mesh, summary
    mesh, told = _simplified(clean.mesh, config.max_faces, field, shape.similarity)
    return mesh, summary | told


def _told(failures: dict[str, str], num_shapes: int, folder: Path) -> str:
    told = "; ".join(f"{name}: {message}" for name, message in list(failures.items())[:_TOLD])
    rest = f" The others are in {folder}." if len(failures) < num_shapes else ""
    return f"{len(failures)} of {num_shapes} shapes have no mesh. {told}.{rest}"


def _summary(clean: CleanMesh) -> dict[str, Any]:
    """Return what `extract.json` says of one shape; `removed` has the largest first."""
    return {
        "pieces": clean.num_pieces,
        "cavities": clean.num_cavities,
        "vertices": len(clean.mesh.vertices),
        "faces": len(clean.mesh.faces),
        "removed": [dataclasses.asdict(piece) for piece in clean.removed],
    }


def _simplified(mesh: Mesh, max_faces: int, field: Field, similarity: Similarity) -> tuple[Mesh, dict[str, Any]]:
    """Return a mesh (world units) with fewer faces and the field's normals, and what `extract.json` says of that."""
    from sdfnet.extraction import with_field_normals

    found = simplify_mesh(mesh, max_faces=max_faces)
    normals = with_field_normals(found.mesh.to_unit(similarity), field, may_crease=True).vertex_normals
    told = {
        "vertices": len(found.mesh.vertices),
        "faces": len(found.mesh.faces),
        "simplified": {
            "faces_before": found.num_faces_before,
            "distance": found.distance,
            "distance_unit": found.distance * similarity.scale,
        },
    }
    return Mesh(found.mesh.vertices, found.mesh.faces, normals), told


def _far(summaries: dict[str, dict[str, Any]]) -> str:
    """Say how far simplification has moved a surface at most; empty if nothing was simplified."""
    far = {
        name: summary["simplified"]["distance_unit"] for name, summary in summaries.items() if "simplified" in summary
    }
    if not far:
        return ""
    worst = max(far, key=lambda name: far[name])
    faces = max(summary["faces"] for summary in summaries.values())
    return f"; simplified to at most {faces:,} faces, {100 * far[worst]:.2g} % of the radius away at most ({worst})"


def _save_summary(config: ExtractConfig, cleaned: dict[str, dict[str, Any]]) -> None:
    """Write `extract.json`; it keeps what it says of shapes that an earlier call has put into the same folder."""
    from sdfnet.files import write_json

    path = config.folder / _SUMMARY
    try:
        earlier = json.loads(path.read_text(encoding="utf-8"))["shapes"]
        document = {"shapes": {**earlier, **cleaned}}
    except (OSError, ValueError, KeyError, TypeError):
        document = {"shapes": cleaned}  # nothing there, or not what this command writes: it is written anew
    write_json(path, document)


def _left_out(cleaned: dict[str, dict[str, Any]]) -> str:
    """Say how much was left out of how many shapes; empty if nothing was."""
    shares = {name: [piece["share"] for piece in summary["removed"]] for name, summary in cleaned.items()}
    dirty = {name: found for name, found in shares.items() if found}
    if not dirty:
        return ""
    number = sum(map(len, dirty.values()))
    worst = max(dirty, key=lambda name: dirty[name][0])
    pieces, shapes = f"loose piece{'s' * (number > 1)}", f"shape{'s' * (len(dirty) > 1)}"
    return (
        f"; {number} {pieces} left out of {len(dirty)} {shapes}, the largest "
        f"{100 * dirty[worst][0]:.2g} % of the volume of {worst} ({_SUMMARY})"
    )


COMMAND = Command(
    name="extract",
    config=ExtractConfig,
    run=extract,
    output_key="out",
    interrupted=lambda config: f"The meshes written so far are whole, in {config.folder}.",
    examples=(
        "sdfnet extract run=runs/chairs",
        "sdfnet extract run=runs/chairs 'shapes=[chair_01,chair_1*]' resolution=256 'format=[obj,glb]' out=meshes",
        "sdfnet extract run=runs/chairs 'shapes=[0.5*chair_01 + 0.5*chair_07, chair_01 - chair_02 + chair_03]'",
        "sdfnet extract run=runs/parts sharp=true max_faces=20000 project_steps=2",
        """sdfnet extract run=runs/odd 'shapes=["a=b [1]"]'""",
    ),
)
