"""`sdfnet transfer`: carry labels, colours or landmarks from one shape of a run to the others.

Examples:

    sdfnet transfer run=runs/chairs source=chair_00 labels=meshes/chair_00.parts.json
    sdfnet transfer run=fitted source=body_000 'shapes=[new_*]' landmarks=body_000.mrk.json out=landmarks
    sdfnet transfer run=runs/chairs source=chair_00 'shapes=[0.5*chair_00 + 0.5*chair_01]' colors=painted.glb
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from sdfnet.cli.commands.keys import RunKeys, some_failed
from sdfnet.cli.hydra_app.command import Command, UsageError
from sdfnet.cli.hydra_app.output import counted, say, say_where
from sdfnet.correspondence import Colors, Labels, Landmarks, load_colors, load_labels, load_landmarks, transfer
from sdfnet.geometry.bounds import check_resolution
from sdfnet.mesh.io.read import read_mesh
from sdfnet.runs import Run


@dataclass(frozen=True, kw_only=True)
class TransferCommand(RunKeys):
    """The keys of `sdfnet transfer`.

    Attributes
    ----------
    source : name
        The shape that the labels, colours or landmarks belong to.
    shapes : names
        all, one name, or a list of names, globs and mixes such as 0.5*a + 0.5*b.
    labels : path
        Labels of the faces (.parts.json) or of the faces or vertices (.csv) of the source mesh.
    colors : path
        A mesh with vertex colours (.ply, .glb), in the place and units of the source mesh.
    landmarks : path
        Named points on the source, in its units: .csv with name, x, y, z, or .mrk.json of 3D Slicer.
    out : path
        Where a PLY and a CSV of each shape go; null is transfer/ inside the run.
    resolution : whole number
        Samples along each axis of the lattice at which the meshes are extracted, 2 to 4096.
    """

    inside = "transfer"
    source: str = field()
    labels: Path | None = None
    colors: Path | None = None
    landmarks: Path | None = None
    resolution: int = 128

    def __post_init__(self) -> None:
        given = [key for key in ("labels", "colors", "landmarks") if getattr(self, key) is not None]
        if len(given) != 1:
            raise UsageError(
                f"give one of labels=FILE, colors=FILE or landmarks=FILE, got {', '.join(given) or 'none'}"
            )
        check_resolution(self.resolution)


def run_transfer(command: TransferCommand) -> None:
    """Write the carried labels, colours or landmarks, and print how far to trust them."""
    run = command.load()
    annotation = _read(command, run)
    done = transfer(
        run, command.source, annotation, command.shapes, command.folder, resolution=command.resolution, progress=True
    )
    if done.failures:
        number = len(done.failures) + len(done.confidence)
        raise some_failed(done.failures, number, "shapes cannot be matched", done.out)
    worst = min(done.confidence, key=lambda name: done.confidence[name])
    mean = sum(done.confidence.values()) / len(done.confidence)
    say(
        f"{counted(len(done.confidence), 'shape')} from {command.source}: confidence {mean:.2f} in the mean, "
        f"{done.confidence[worst]:.2f} for {worst}"
    )
    say_where(done.out)


def _read(command: TransferCommand, run: Run) -> Labels | Colors | Landmarks:
    shape = run.shape(command.source)
    if command.landmarks is not None:
        return load_landmarks(command.landmarks)
    if command.colors is not None:
        return load_colors(command.colors)
    assert command.labels is not None
    if not Path(shape.source).is_file():
        raise ValueError(f"the source mesh of {shape.name}, {shape.source or 'of a mix'}, is not there; labels need it")
    return load_labels(command.labels, read_mesh(shape.source))


COMMAND = Command(
    "transfer",
    TransferCommand,
    run_transfer,
    interrupted=lambda command: f"The shapes written so far are whole, in {command.folder}.",
)
