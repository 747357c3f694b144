"""`sdfnet extract`: write learned shapes as meshes, in the units and at the place of their sources."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sdfnet.cli.command import Command
from sdfnet.cli.devices import check_device_name, find_device
from sdfnet.cli.output import say, say_where
from sdfnet.geometry.bounds import check_resolution

_TOLD = 3
"""Failed shapes whose reason an error gives; of many, the reason is the same."""


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
    sparse : true or false
        Whether to visit only the part of the lattice that can hold the surface; false visits all, for the same mesh.
    out : path
        Where the meshes go; null is meshes/ inside the run.
    device : text
        auto, cpu, cuda, cuda:1 or mps.
    """

    run: Path
    shapes: str | tuple[str, ...] = "all"
    resolution: int = 128
    format: tuple[Literal["obj", "ply", "stl", "glb"], ...] = ("obj",)
    project_steps: int = 0
    sparse: bool = True
    out: Path | None = None
    device: str = "auto"

    def __post_init__(self) -> None:
        check_device_name(self.device)
        check_resolution(self.resolution)
        if self.project_steps < 0:
            raise ValueError(f"project_steps must be 0 or more, got {self.project_steps}")
        if not self.format:
            raise ValueError("format must name at least one of obj, ply, stl, glb, got an empty list")

    @property
    def folder(self) -> Path:
        return self.run / "meshes" if self.out is None else self.out


def extract(config: ExtractConfig) -> None:
    """Write one file per shape and format; a shape that fails does not stop the others."""
    from tqdm import tqdm

    from sdfnet.files import ensure_folder
    from sdfnet.geometry.writing import save_mesh
    from sdfnet.latents.mixing import add_mixes
    from sdfnet.runs import load_run
    from sdfnet.surfacing import extract_mesh

    run = load_run(config.run, device=find_device(config.device))
    run, chosen = add_mixes(run, config.shapes)
    names = list(dict.fromkeys(chosen))
    ensure_folder(config.folder)
    failures = {}
    for name in tqdm(names, desc="extracting", unit="shape", delay=2, leave=False):
        try:
            mesh = extract_mesh(
                run.field(name),
                resolution=config.resolution,
                similarity=run.similarity(name),
                project_steps=config.project_steps,
                sparse=config.sparse,
            )
        except ValueError as error:
            failures[name] = str(error)
            continue
        for suffix in config.format:
            save_mesh(mesh, config.folder / f"{name}.{suffix}")
    if failures:
        told = "; ".join(f"{name}: {message}" for name, message in list(failures.items())[:_TOLD])
        rest = f" The others are in {config.folder}." if len(failures) < len(names) else ""
        raise ValueError(f"{len(failures)} of {len(names)} shapes have no mesh. {told}.{rest}")
    say(f"{len(names)} shapes at resolution {config.resolution} as {', '.join(config.format)}")
    say_where(config.folder)


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
        """sdfnet extract run=runs/odd 'shapes=["a=b [1]"]'""",
    ),
)
