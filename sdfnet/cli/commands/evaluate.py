"""`sdfnet evaluate`: measure learned shapes against their source meshes, beside the extraction error.

Examples:

    sdfnet evaluate run=runs/chairs
    sdfnet evaluate run=runs/chairs meshes=chairs 'shapes=[chair_0*]' resolution=256 out=report
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import joblib

from sdfnet.cli.commands.keys import RunKeys, check_num_workers
from sdfnet.cli.hydra_app.command import Command
from sdfnet.cli.hydra_app.output import say, say_where
from sdfnet.cli.hydra_app.schema import flat
from sdfnet.evaluation.quality import EvaluationConfig
from sdfnet.evaluation.report import evaluate_run, format_table, save_report
from sdfnet.files import ensure_folder
from sdfnet.mesh.mesh import Mesh

_MOST_WORKERS = 4
"""Each holds a lattice and two search trees, and shares the interpreter with the others."""


@dataclass(frozen=True, kw_only=True)
class EvaluateCommand(RunKeys):
    """The keys of `sdfnet evaluate`.

    Attributes
    ----------
    meshes : path
        The folder of the source meshes; null looks where they were when the run was trained.
    out : path
        Where evaluation.csv, evaluation.json and evaluation.txt go; null is evaluation/ inside the run.
    num_workers : whole number
        Threads, 1 or more, each measures one shape at a time; null takes one for each core, four at the most.
    """

    inside = "evaluation"
    meshes: Path | None = None
    num_workers: int | None = None
    evaluation: EvaluationConfig = flat(EvaluationConfig)

    def __post_init__(self) -> None:
        check_num_workers(self.num_workers)


def run_evaluate(command: EvaluateCommand, *, extracted: Mapping[str, Mesh] | None = None) -> None:
    """Print the table, and write it with the CSV and the JSON; shapes that could not be measured are an error."""
    run = command.load()
    ensure_folder(command.folder)
    num_workers = command.num_workers or min(joblib.cpu_count(), _MOST_WORKERS)
    report = evaluate_run(
        run,
        command.meshes,
        shapes=command.shapes,
        config=command.evaluation,
        extracted=extracted,
        num_workers=num_workers,
        progress=True,
    )
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
