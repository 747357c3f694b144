"""`sdfnet fit`: find the codes of meshes that were not trained on, with the network as it is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sdfnet.cli.commands.train import provenance
from sdfnet.cli.hydra_app.command import Command
from sdfnet.cli.hydra_app.devices import find_device
from sdfnet.cli.hydra_app.output import say, say_where
from sdfnet.cli.hydra_app.schema import flat
from sdfnet.fitting.config import MeshFitConfig
from sdfnet.fitting.fit_meshes import MeshFits, fit_meshes
from sdfnet.fitting.observations import observation_kind
from sdfnet.runs import load_run, select_shapes

_TOLD = 3
"""Failed meshes whose reason an error gives; fit.json has all."""

_NAME_WIDTH = 26

_LEGEND = (
    "percent of the bounding-sphere radius, both ways; floor: the exact field of the mesh, extracted; world: the mesh's"
    " own units"
)


@dataclass(frozen=True, kw_only=True)
class FitCommand:
    """The keys of `sdfnet fit`.

    Attributes
    ----------
    run : path
        A run directory, as train writes it. It is not changed.
    meshes : path
        The folder of meshes to fit, searched recursively.
    shapes : names
        all, one name, or a list of names and globs. A name is the path below meshes, without suffix.
    out : path
        A run of the learned and the fitted shapes, with meshes/, codes/ and fit.json; null is fit/ inside the run.
    device : text
        auto, cpu, cuda, cuda:1 or mps.
    """

    run: Path
    meshes: Path
    shapes: str | tuple[str, ...] = "all"
    out: Path | None = None
    device: str = "auto"
    fit: MeshFitConfig = flat(MeshFitConfig)

    @property
    def folder(self) -> Path:
        return self.run / "fit" if self.out is None else self.out


def run_fit(command: FitCommand) -> None:
    """Fit, and print how far each result is from its mesh; a mesh that cannot be used does not stop the others."""
    run = load_run(command.run, device=find_device(command.device))
    paths = observation_kind(command.fit.kind).find(command.meshes)
    names = select_shapes(list(paths), command.shapes)
    done = fit_meshes(
        run,
        {name: paths[name] for name in names},
        command.folder,
        config=command.fit,
        provenance=provenance(),
        progress=True,
    )
    for line in _table(done):
        say(line)
    if done.failures:
        told = "; ".join(f"{name}: {reason}" for name, reason in list(done.failures.items())[:_TOLD])
        rest = f" The others are in {command.folder}." if done.records else ""
        raise ValueError(f"{len(done.failures)} of {len(names)} meshes could not be fitted. {told}.{rest}")
    there = f" ({done.num_skipped} were there already)" if done.num_skipped else ""
    say(
        f"{len(done.records)} shapes fitted{there}; they stand in the new run beside the {len(run.shapes)} learned ones"
    )
    say_where(command.folder)


def _table(done: MeshFits) -> list[str]:
    """Return the distances of each shape, and their means."""
    if not done.records:
        return []
    columns = ("mean %", "floor", "p95 %", "floor", "mean, world", "pieces")
    rows = {name: _numbers(record) for name, record in done.records.items()}
    lines = [_row("shape", columns, start="began at")]
    for name, numbers in rows.items():
        lines.append(_row(name, _formatted(numbers), start=done.records[name]["start"] or "the mean code"))
    measured = [numbers[:4] for numbers in rows.values() if numbers[0] is not None]
    if len(measured) > 1:
        means: list[Any] = np.mean(measured, axis=0).tolist()
        lines.append(_row("mean", _formatted([*means, None, None]), start=""))
    return [*lines, _LEGEND]


def _numbers(record: dict[str, Any]) -> list[Any]:
    """Return the numbers of a row; those of the distances are None where nothing was there to measure against."""
    if "percent" not in record:
        return [None, None, None, None, None, record["pieces"]]
    percent, floor = record["percent"], record["floor_percent"]
    return [percent["mean"], floor["mean"], percent["p95"], floor["p95"], record["world"]["mean"], record["pieces"]]


def _formatted(numbers: list[Any]) -> tuple[str, ...]:
    forms = (".3f", ".3f", ".3f", ".3f", ".4g", "d")
    return tuple("" if number is None else format(number, form) for number, form in zip(numbers, forms, strict=True))


def _row(name: str, cells: tuple[str, ...], *, start: str) -> str:
    if len(name) >= _NAME_WIDTH:
        name = "…" + name[len(name) - _NAME_WIDTH + 2 :]
    widths = (9, 8, 9, 8, 13, 8)
    return (
        f"{name:{_NAME_WIDTH}}"
        + "".join(f"{c:>{w}}" for c, w in zip(cells, widths, strict=True))
        + (f"  {start}" if start else "")
    )


COMMAND = Command(
    name="fit",
    config=FitCommand,
    run=run_fit,
    output_key="out",
    interrupted=lambda config: f"Finished shapes are kept in {config.folder}; the same command goes on.",
    examples=(
        "sdfnet fit run=runs/chairs meshes=new_chairs out=fitted",
        "sdfnet fit run=runs/chairs meshes=chairs 'shapes=[chair_1*]' steps=1000 resolution=256 out=fitted",
        "sdfnet morph run=fitted 'shapes=[chair_01,new_chair]' out=morph",
    ),
)
