"""`sdfnet evaluate`: measure learned shapes against their source meshes, beside the extraction error."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import joblib

from sdfnet.cli.hydra_app.command import Command
from sdfnet.cli.hydra_app.devices import find_device
from sdfnet.cli.hydra_app.output import say, say_where
from sdfnet.cli.hydra_app.schema import flat
from sdfnet.evaluation.quality import EvaluationConfig
from sdfnet.evaluation.report import evaluate_run, format_table, save_report
from sdfnet.files import ensure_folder
from sdfnet.runs import load_run

_MOST_WORKERS = 4
"""Each holds a lattice and two search trees, and shares the interpreter with the others."""


@dataclass(frozen=True, kw_only=True)
class EvaluateCommand:
    """The keys of `sdfnet evaluate`.

    Attributes
    ----------
    run : path
        A run directory, as train writes it.
    meshes : path
        The folder of the source meshes; null looks where they were when the run was trained.
    shapes : names
        all, one name, or a list of names and globs.
    out : path
        Where evaluation.csv, evaluation.json and evaluation.txt go; null is evaluation/ inside the run.
    num_workers : whole number
        Threads, 1 or more, each measures one shape at a time; null takes one for each core, four at the most.
    device : text
        auto, cpu, cuda, cuda:1 or mps.
    """

    run: Path
    meshes: Path | None = None
    shapes: str | tuple[str, ...] = "all"
    out: Path | None = None
    num_workers: int | None = None
    device: str = "auto"
    evaluation: EvaluationConfig = flat(EvaluationConfig)

    def __post_init__(self) -> None:
        if self.num_workers is not None and self.num_workers < 1:
            raise ValueError(f"num_workers must be 1 or more, or null, got {self.num_workers}")

    @property
    def folder(self) -> Path:
        return self.run / "evaluation" if self.out is None else self.out


def run_evaluate(command: EvaluateCommand) -> None:
    """Print the table, and write it with the CSV and the JSON; shapes that could not be measured are an error."""
    run = load_run(command.run, device=find_device(command.device))
    ensure_folder(command.folder)
    num_workers = command.num_workers or min(joblib.cpu_count(), _MOST_WORKERS)
    report = evaluate_run(
        run, command.meshes, shapes=command.shapes, config=command.evaluation, num_workers=num_workers, progress=True
    )
    table = format_table(report)
    say(table)
    save_report(report, command.folder)
    if report.failed:
        which = f"only {len(report.measured)}" if report.measured else "none"
        place = f" The table is in {command.folder}." if report.measured else ""
        raise ValueError(
            f"{which} of the {len(report.shapes)} shapes could be measured; the reasons stand above.{place}"
        )
    say_where(command.folder)


COMMAND = Command(
    name="evaluate",
    config=EvaluateCommand,
    run=run_evaluate,
    output_key="out",
    examples=(
        "sdfnet evaluate run=runs/chairs",
        "sdfnet evaluate run=runs/chairs meshes=chairs 'shapes=[chair_0*]' resolution=256 out=report",
    ),
)
