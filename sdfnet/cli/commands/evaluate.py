"""`sdfnet evaluate`: measure learned shapes against their source meshes, or a folder of meshes against another one.

Examples:

    sdfnet evaluate run=runs/chairs
    sdfnet evaluate run=runs/chairs meshes=chairs 'shapes=[chair_0*]' resolution=256 out=report
    sdfnet evaluate meshes=completed/meshes reference=chairs out=report
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import joblib

from sdfnet.cli.commands.keys import RunKeys, check_num_workers
from sdfnet.cli.hydra_app.command import Command, UsageError
from sdfnet.cli.hydra_app.output import say, say_where
from sdfnet.cli.hydra_app.schema import flat
from sdfnet.evaluation.quality import EvaluationConfig
from sdfnet.evaluation.report import RunReport, evaluate_meshes, evaluate_run, format_table, save_report
from sdfnet.files import ensure_folder
from sdfnet.mesh.mesh import Mesh

_MOST_WORKERS = 4
"""Each holds a lattice and two search trees, and shares the interpreter with the others."""


_OF_EXTRACTION = ("resolution", "project_steps", "min_piece", "floor")
"""Options that meshes which are there already do not use."""


@dataclass(frozen=True, kw_only=True)
class EvaluateCommand(RunKeys):
    """The keys of `sdfnet evaluate`.

    Attributes
    ----------
    run : path
        A run directory, as train writes it; null compares meshes= with reference=.
    meshes : path
        The folder of the source meshes; null looks where they were at the training. With reference=: the results.
    reference : path
        Meshes, or label volumes, of the same names and in the same place that the results in meshes= are measured with.
    out : path
        Where evaluation.csv, .json, .txt and the meshes with their errors go; null is evaluation/ inside the run.
    errors : true or false
        Whether to write errors/NAME.ply: each result in world units, with the signed error of each vertex.
    num_workers : whole number
        Threads, 1 or more, each measures one shape at a time; null takes one for each core, four at the most.
    """

    inside = "evaluation"
    run: Path | None = None  # type: ignore[assignment]
    meshes: Path | None = None
    reference: Path | None = None
    errors: bool = True
    num_workers: int | None = None
    evaluation: EvaluationConfig = flat(EvaluationConfig)

    def __post_init__(self) -> None:
        check_num_workers(self.num_workers)
        if (self.run is None) == (self.reference is None):
            raise UsageError("give run=DIR (learned shapes) or meshes=DIR reference=DIR (two folders), one of the two")
        if self.reference is None:
            return
        if self.meshes is None or self.out is None:
            raise UsageError(f"reference={self.reference} needs meshes=DIR, the results, and out=DIR for the report")
        default = EvaluationConfig()
        changed = [field.name for field in fields(default) if field.name in _OF_EXTRACTION]
        changed = [name for name in changed if getattr(self.evaluation, name) != getattr(default, name)]
        if changed:
            raise UsageError(f"{changed[0]} is for run=; the meshes in {self.meshes} are measured as they are")

    def report(self, extracted: Mapping[str, Mesh] | None) -> RunReport:
        """Measure all shapes."""
        options: dict[str, Any] = {
            "shapes": self.shapes,
            "config": self.evaluation,
            "errors": self.folder / "errors" if self.errors else None,
            "num_workers": self.num_workers or min(joblib.cpu_count(), _MOST_WORKERS),
            "progress": True,
        }
        if self.reference is None:
            run = self.load()  # A run that is missing leaves no folder behind.
            ensure_folder(self.folder)
            return evaluate_run(run, self.meshes, extracted=extracted, **options)
        assert self.meshes is not None
        ensure_folder(self.folder)
        return evaluate_meshes(self.meshes, self.reference, **options)


def run_evaluate(command: EvaluateCommand, *, extracted: Mapping[str, Mesh] | None = None) -> None:
    """Print the table, and write it with the CSV and the JSON; shapes that could not be measured are an error."""
    report = command.report(extracted)
    say(format_table(report))
    save_report(report, command.folder)
    if report.failed:
        which = f"only {len(report.measured)}" if report.measured else "none"
        place = f" The table is in {command.folder}." if report.measured else ""
        raise ValueError(
            f"{which} of the {len(report.shapes)} shapes could be measured; the reasons stand above.{place}"
        )
    say_where(command.folder)


COMMAND = Command("evaluate", EvaluateCommand, run_evaluate)
