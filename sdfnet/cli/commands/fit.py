"""`sdfnet fit`: find the shapes that agree with new meshes, or with parts of them, with the network as it is.

Examples:

    sdfnet fit run=runs/chairs meshes=new_chairs out=fitted
    sdfnet fit run=runs/chairs meshes=chairs 'shapes=[chair_1*]' steps=1000 resolution=256 out=fitted
    sdfnet fit run=runs/chairs input=half_a_chair.ply out=completed
    sdfnet fit run=runs/bones input=slices axis=1 every=8 out=completed
    sdfnet morph run=fitted 'shapes=[chair_01,new_chair]' out=morph
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from sdfnet.cli.commands.keys import RunKeys, some_failed
from sdfnet.cli.commands.train import provenance
from sdfnet.cli.hydra_app.command import Command, UsageError
from sdfnet.cli.hydra_app.output import counted, say, say_where
from sdfnet.cli.hydra_app.schema import flat
from sdfnet.fitting.config import CompletionConfig, MeshFitConfig, ObserveConfig
from sdfnet.fitting.fit_meshes import MeshFits, fit_inputs
from sdfnet.fitting.inputs import InputFile, find_inputs, resolve_inputs
from sdfnet.runs import select_shapes
from sdfnet.solids.source_shape import find_sources

_NAME_WIDTH = 26
_HEADINGS = ("mean %", "floor", "p95 %", "floor", "mean, world", "pieces")
_WIDTHS = (9, 8, 9, 8, 13, 8)
_FORMS = (".3f", ".3f", ".3f", ".3f", ".4g", "d")

_LEGEND = (
    "percent of the bounding-sphere radius, both ways; floor: the exact field of the mesh, extracted; world: the mesh's"
    " own units"
)


@dataclass(frozen=True, kw_only=True)
class FitCommand(RunKeys):
    """The keys of `sdfnet fit`.

    Attributes
    ----------
    run : path
        A run directory, as train writes it. It is not changed.
    meshes : path
        A folder of whole meshes to fit, searched recursively. Give meshes or input, not both.
    input : path
        A file, or a folder searched recursively: scans, points, depth images, label volumes, contours, whole meshes.
    reference : path
        The truth: a mesh for one input, or a folder of meshes of the same names; the results are measured against it.
    kind : text
        What the input is: mesh, points, depth, labels, contours or sdf; auto decides by suffix and content.
    shapes : names
        all, one name, or a list of names and globs. A name is the path below meshes or input, without suffix.
    out : path
        A run of the learned and the fitted shapes, with meshes/, codes/ and fit.json; null is fit/ inside the run.
    """

    inside = "fit"
    meshes: Path | None = None
    input: Path | None = None
    reference: Path | None = None
    kind: str = "auto"
    fit: MeshFitConfig = flat(MeshFitConfig)
    observe: ObserveConfig = flat(ObserveConfig)
    completion: CompletionConfig = flat(CompletionConfig)

    def __post_init__(self) -> None:
        if (self.meshes is None) == (self.input is None):
            raise UsageError("give meshes=DIR (whole meshes) or input=FILE|DIR (whole or part), exactly one of them")
        if self.meshes is not None:
            changed = [key for key, value in self._of_inputs().items() if value and key != "refine"]
            if changed:
                raise UsageError(f"{changed[0]} is for input=; meshes={self.meshes} holds whole meshes")

    def _of_inputs(self) -> dict[str, bool]:
        """Return for each key of `input` whether it was changed."""
        found = {"kind": self.kind != "auto"}
        for member in (self.observe, self.completion):
            found |= {field.name: getattr(member, field.name) != field.default for field in fields(member)}
        return found

    def references(self, inputs: Mapping[str, InputFile]) -> dict[str, Path]:
        """Return the true mesh of each input that has one."""
        if self.reference is None:
            return {}
        if self.reference.is_dir():
            found = find_sources(self.reference)
            if not found.keys() & inputs.keys():
                raise ValueError(f"reference={self.reference} has no mesh named like an input ({', '.join(inputs)})")
            return {name: found[name] for name in inputs if name in found}
        if len(inputs) != 1:
            raise ValueError(
                f"reference={self.reference} is one file, but there are {len(inputs)} inputs; give a folder"
            )
        return dict.fromkeys(inputs, self.reference)

    def inputs(self) -> tuple[dict[str, InputFile], dict[str, str]]:
        """Return the chosen inputs, and the reason for each that cannot be one."""
        if self.meshes is not None:
            paths = find_sources(self.meshes)
            names = select_shapes(list(paths), self.shapes)
            return {name: InputFile(paths[name], "mesh", is_whole=True) for name in names}, {}
        assert self.input is not None
        paths = find_inputs(self.input, kind=self.kind)
        chosen = {name: paths[name] for name in select_shapes(list(paths), self.shapes)}
        return resolve_inputs(chosen, kind=self.kind, config=self.observe)


def run_fit(command: FitCommand) -> None:
    """Fit, and print how far each result is from its mesh; a mesh that cannot be used does not stop the others."""
    run = command.load()
    inputs, unreadable = command.inputs()
    done = fit_inputs(
        run,
        inputs,
        command.folder,
        config=command.fit,
        observe=command.observe,
        completion=command.completion,
        references=command.references(inputs),
        provenance=provenance(),
        progress=True,
    )
    for line in _table(done):
        say(line)
    for name, record in done.records.items():
        for warning in record.get("warnings", ()):
            say(f"{name}: {warning}")
    failures = {**unreadable, **done.failures}
    if failures:
        what = "meshes could not be fitted" if command.input is None else "inputs could not be fitted"
        raise some_failed(failures, len(inputs) + len(unreadable), what, command.folder)
    was = "was" if done.num_skipped == 1 else "were"
    there = f" ({done.num_skipped} {was} there already)" if done.num_skipped else ""
    number, stand = counted(len(done.records), "shape"), "it stands" if len(done.records) == 1 else "they stand"
    replaced = [name for name in done.records if name in run.names]
    beside = f"beside the {counted(len(run.shapes) - len(replaced), 'learned one')}"
    if replaced:
        more = f" and {len(replaced) - 1} more" if len(replaced) > 1 else ""
        beside += f"; the learned {replaced[0]}{more} of the same name is not in it"
    say(f"{number} fitted{there}; {stand} in the new run {beside}")
    say_where(command.folder)


def _table(done: MeshFits) -> list[str]:
    """Return the distances of each shape, and their means; blank where nothing was there to measure against.

    Where no shape was measured, only the number of pieces and the start are there.
    """
    if not done.records:
        return []
    measured = [_numbers(record) for record in done.records.values() if "percent" in record]
    first = 0 if measured else len(_HEADINGS) - 1
    lines = [_row("shape", _HEADINGS[first:], "began at")]
    for name, record in done.records.items():
        numbers = _numbers(record) if "percent" in record else [None] * 5
        lines.append(_row(name, _formatted([*numbers, record["pieces"]])[first:], record["start"] or "the mean code"))
    if len(measured) > 1:
        means = np.mean([numbers[:4] for numbers in measured], axis=0).tolist()
        lines.append(_row("mean", _formatted([*means, None, None]), ""))
    return [*lines, _LEGEND] if measured else lines


def _numbers(record: Mapping[str, Any]) -> list[Any]:
    percent, floor = record["percent"], record["floor_percent"]
    return [percent["mean"], floor["mean"], percent["p95"], floor["p95"], record["world"]["mean"]]


def _formatted(numbers: Sequence[Any]) -> tuple[str, ...]:
    return tuple("" if number is None else format(number, form) for number, form in zip(numbers, _FORMS, strict=True))


def _row(name: str, cells: Sequence[str], start: str) -> str:
    """Return a line of the table; fewer cells are those of the last columns."""
    if len(name) >= _NAME_WIDTH:
        name = "…" + name[len(name) - _NAME_WIDTH + 2 :]
    text = "".join(f"{cell:>{width}}" for cell, width in zip(cells, _WIDTHS[-len(cells) :], strict=True))
    return f"{name:{_NAME_WIDTH}}{text}" + (f"  {start}" if start else "")


COMMAND = Command(
    "fit",
    FitCommand,
    run_fit,
    interrupted=lambda config: f"Finished shapes are kept in {config.folder}; the same command goes on.",
)
