"""`sdfnet check`: read every mesh of a folder and say what is right and wrong with it.

Examples:

    sdfnet check meshes=scans
    sdfnet check meshes=scans out=report 'shapes=[bone_*,skull]'
"""

from __future__ import annotations

import contextlib
import tempfile
from dataclasses import dataclass
from pathlib import Path

from sdfnet.cli.commands.keys import check_num_workers, say_skipped
from sdfnet.cli.hydra_app.command import Command
from sdfnet.cli.hydra_app.output import say, say_where
from sdfnet.cli.hydra_app.schema import flat
from sdfnet.files import ensure_folder
from sdfnet.rendering import render_solids
from sdfnet.solids.limits import MeshLimits
from sdfnet.solids.rule import SolidRule
from sdfnet.solids.source_shape import check_folder, format_reports


@dataclass(frozen=True)
class CheckCommand:
    """The keys of `sdfnet check`.

    Attributes
    ----------
    meshes : path
        The folder of meshes, searched recursively.
    shapes : names
        all, one name, or a list of names and globs. A name is the path below meshes, without suffix.
    num_workers : whole number
        Processes, 1 or more; null takes one for each core.
    out : path
        Where report.json, report.txt and pictures of noted meshes go; null only prints.
    """

    meshes: Path
    shapes: str | tuple[str, ...] = "all"
    num_workers: int | None = None
    out: Path | None = None
    rule: SolidRule = flat(SolidRule)
    limits: MeshLimits = flat(MeshLimits)

    def __post_init__(self) -> None:
        check_num_workers(self.num_workers)


def run_check(command: CheckCommand) -> None:
    """Print the report, and write it where `out` says."""
    with contextlib.ExitStack() as stack:
        solids = None
        if command.out is not None:
            solids = stack.enter_context(tempfile.TemporaryDirectory(dir=ensure_folder(command.out), prefix=".solids-"))
        reports = check_folder(
            command.meshes,
            shapes=command.shapes,
            rule=command.rule,
            limits=command.limits,
            num_workers=command.num_workers,
            out=command.out,
            solids=solids,
            progress=True,
        )
        say(format_reports(reports))
        say_skipped(command.meshes)
        if command.out is not None:
            render_solids(reports, command.out, rule=command.rule, solids=solids, progress=True)
            say_where(command.out)
    if all(report.status == "refused" for report in reports):
        raise ValueError(f"none of the {len(reports)} meshes in {command.meshes} can be used; the reasons stand above")


COMMAND = Command("check", CheckCommand, run_check)
