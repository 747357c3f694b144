"""`sdfnet info`: say what a run directory holds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sdfnet.cli.command import Command
from sdfnet.cli.output import say, say_where
from sdfnet.cli.wording import format_value


@dataclass(frozen=True)
class InfoConfig:
    """What to look at.

    Attributes
    ----------
    run : path
        A run directory, as train writes it.
    """

    run: Path


def info(config: InfoConfig) -> None:
    """Print the network, the training and the shapes of a run."""
    from sdfnet.runs import load_run

    run = load_run(config.run)
    num_weights = sum(parameter.numel() for parameter in run.decoder.parameters())
    say(f"run       {config.run}")
    say(f"decoder   {type(run.decoder).__name__}, {num_weights:,} weights, latent size {run.decoder.latent_size}")
    say(f"trained   {run.step:,} steps")
    say(f"shapes    {len(run.shapes)}")
    width = max((len(shape.name) for shape in run.shapes), default=0)
    for shape in run.shapes:
        open_note = "" if shape.closed else "  (source is open)"
        say(f"  {shape.name:<{width}}  from {shape.source}{open_note}")
    for key, value in run.document.items():
        if key != "shapes":
            _say_nested({key: value})
    say_where(config.run)


def _say_nested(document: dict[str, Any], depth: int = 0) -> None:
    for key, value in document.items():
        if isinstance(value, dict) and value:
            say(f"{'  ' * depth}{key}:")
            _say_nested(value, depth + 1)
        else:
            say(f"{'  ' * depth}{key}: {format_value(value)}")


COMMAND = Command(
    name="info",
    config=InfoConfig,
    run=info,
    examples=("sdfnet info run=runs/chairs",),
)
