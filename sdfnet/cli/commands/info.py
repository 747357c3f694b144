"""`sdfnet info`: print the contents of a run directory.

Examples:

    sdfnet info run=runs/chairs
"""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sdfnet.cli.hydra_app.command import Command
from sdfnet.cli.hydra_app.output import counted, format_value, say
from sdfnet.geometry.similarity import UNIT_RADIUS
from sdfnet.runs.document import (
    METRICS_FILE,
    MOST_WRONG_SIGNS,
    SURFACE_ERROR,
    WRONG_SIGNS,
    RunShape,
    load_codes,
    load_document,
    load_model_header,
)

_MOST_SPREAD = 0.95
"""The share of the variance of the codes that the told number of directions holds."""

_MANY = 12
"""Items of a list that are printed; of a longer one, the first and the last."""


@dataclass(frozen=True)
class InfoCommand:
    """The keys of `sdfnet info`.

    Attributes
    ----------
    run : path
        A run directory, as train writes it.
    """

    run: Path


def run_info(command: InfoCommand) -> None:
    """Print decoder, progress, errors, shapes and configuration; read the heads of the files, and the codes."""
    document, shapes = load_document(command.run)
    model = load_model_header(command.run)
    say(f"run       {command.run}, {_num_bytes(command.run) / 1e6:,.1f} MB")
    if model is not None:
        kind = document.get("config", {}).get("decoder", {}).get("kind", "unknown")
        say(f"decoder   {kind}, {model.num_weights:,} weights, latent size {model.latent_size}")
        say(f"codes     {_codes(command.run, shapes)}")
    say(f"trained   {_progress(0 if model is None else model.step, document)}")
    for line in (*_learned(command.run), *_evaluated(command.run)):
        say(line)
    num_open = sum(not shape.closed for shape in shapes)
    open_note = f", {num_open} from open sources" if num_open else ""
    say(f"shapes    {len(shapes)}{open_note}; radius and centre in the world:")
    _say_shapes(shapes)
    for key, value in document.items():
        if key != "shapes":
            _say_nested({key: value})


def _codes(folder: Path, shapes: Sequence[RunShape]) -> str:
    """Say how the codes of the learned shapes are spread about their mean."""
    learned = [row for row, shape in enumerate(shapes) if shape.learned and not shape.is_mix]
    codes = load_codes(folder)[learned].astype(np.float64)
    mean = codes.mean(axis=0)
    variances = np.linalg.svd(codes - mean, compute_uv=False) ** 2
    total = float(variances.sum())
    most = int(np.searchsorted(np.cumsum(variances), _MOST_SPREAD * total)) + 1 if total else 0
    spread = f"standard deviation {np.sqrt(total / codes.size):.3g} a number"
    directions = f"{counted(most, 'direction')} hold{'s' if most == 1 else ''} {100 * _MOST_SPREAD:.0f} % of the spread"
    return f"{len(codes)}; mean of length {np.linalg.norm(mean):.3g}, {spread}; {directions}"


def _num_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _progress(step: int, document: dict[str, Any]) -> str:
    plan = document.get("plan", {"steps": step})
    planned, go_on = plan.get("steps"), f"its command goes on: {document.get('command', 'sdfnet train …')}"
    if planned is None:
        return f"{step:,} steps, and the budget is not used yet; {go_on}"
    if step < planned:
        return f"{step:,} of {planned:,} planned steps; {go_on}"
    return f"{step:,} steps" + (", all that were planned" if "plan" in document else "")


def _learned(folder: Path) -> list[str]:
    """Return the last surface error that the training measured, if there is one, and signs that say that it failed."""
    if not (folder / METRICS_FILE).is_file():
        return []
    with open(folder / METRICS_FILE, encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row.get(SURFACE_ERROR)]
    lines = []
    for row in rows[-1:]:
        lines.append(f"learned   surface error {float(row[SURFACE_ERROR]):.3f} % at step {row['step']}")
        wrong = max(float(row.get(column) or 0) for column in WRONG_SIGNS)
        if wrong > MOST_WRONG_SIGNS:
            lines.append(f"failed    {wrong:.1f} % of the signs beside the surfaces are wrong: train longer")
    return lines


def _evaluated(folder: Path) -> list[str]:
    """Return the totals of an evaluation inside the run, if there is one."""
    path = folder / "evaluation" / "evaluation.json"
    if not path.is_file():
        return []
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        measured = [shape for shape in document["shapes"] if shape["quality"] is not None]
        if not measured:
            return [f"measured  no shape: none of the {len(document['shapes'])} could be measured (evaluation/)"]
        mean, worst = document["totals"]["mean"], document["totals"]["worst"]
        return [
            f"measured  surface distance {mean['mean_percent']:.3f} % in the mean, {worst['mean_percent']:.3f} % of "
            f"the worst of {len(measured)} shapes, at step {document['step']:,} and resolution "
            f"{document['config']['resolution']} (evaluation/)"
        ]
    except (ValueError, KeyError, TypeError) as error:
        return [f"measured  {path} cannot be read ({error!r}); repeat sdfnet evaluate"]


def _say_shapes(shapes: Sequence[RunShape]) -> None:
    width = max((len(shape.name) for shape in shapes), default=0)
    for shape in shapes:
        center = ", ".join(f"{value:.6g}" for value in shape.similarity.center)
        size = f"{UNIT_RADIUS / shape.similarity.scale:.4g} at ({center})"
        say(f"  {shape.name:<{width}}  {size}  from {shape.source}{'' if shape.closed else '  (open)'}")


def _say_nested(document: dict[str, Any], depth: int = 0) -> None:
    for key, value in document.items():
        if isinstance(value, dict) and value:
            say(f"{'  ' * depth}{key}:")
            _say_nested(value, depth + 1)
        elif isinstance(value, list) and len(value) > _MANY:
            say(f"{'  ' * depth}{key}: {len(value)}, {format_value(value[0])} to {format_value(value[-1])}")
        else:
            say(f"{'  ' * depth}{key}: {format_value(value)}")


COMMAND = Command("info", InfoCommand, run_info, output_key=None)
