"""`sdfnet evaluate`: measure learned shapes against their source meshes, beside the floor that extraction sets."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sdfnet.cli.command import Command
from sdfnet.cli.devices import check_device_name, find_device
from sdfnet.cli.output import say, say_where
from sdfnet.cli.schema import component_options
from sdfnet.evaluation.quality import EvaluationConfig
from sdfnet.evaluation.report import evaluate_run
from sdfnet.evaluation.tables import format_table, save_report
from sdfnet.files import ensure_folder
from sdfnet.runs import load_run


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig(EvaluationConfig):
    """What to measure.

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
    device : text
        auto, cpu, cuda, cuda:1 or mps.
    """

    run: Path
    meshes: Path | None = None
    shapes: str | tuple[str, ...] = "all"
    out: Path | None = None
    device: str = "auto"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_device_name(self.device)

    @property
    def folder(self) -> Path:
        return self.run / "evaluation" if self.out is None else self.out


def evaluate(config: EvaluateConfig) -> None:
    """Print the table, and write it with the CSV and the JSON."""
    run = load_run(config.run, device=find_device(config.device))
    ensure_folder(config.folder)
    options = component_options(config, EvaluationConfig)
    report = evaluate_run(run, config.meshes, shapes=config.shapes, config=options, progress=True)
    table = format_table(report)
    say(table)
    save_report(report, config.folder)
    if not report.measured:
        raise ValueError(f"none of the {len(report.failed)} shapes could be measured; the reasons stand above")
    say_where(config.folder)


COMMAND = Command(
    name="evaluate",
    config=EvaluateConfig,
    run=evaluate,
    output_key="out",
    examples=(
        "sdfnet evaluate run=runs/chairs",
        "sdfnet evaluate run=runs/chairs meshes=chairs 'shapes=[chair_0*]' resolution=256 out=report",
    ),
)
