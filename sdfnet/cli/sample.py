"""`sdfnet sample`: draw points and signed distances from a folder of meshes, in parallel, into a sample store."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from sdfnet.cli.command import Command
from sdfnet.cli.output import say, say_where
from sdfnet.sampling.mixture import SamplerConfig


@dataclass(frozen=True)
class SampleConfig:
    """What to sample.

    Attributes
    ----------
    meshes : path
        The folder of meshes, searched recursively.
    samples : path
        The sample store: made, or completed if it is there.
    shapes : names
        all, one name, or a list of names and globs. A name is the path below meshes, without suffix.
    normalize : each or shared
        each shape fills the unit frame; or one similarity for the whole folder keeps relative size and position.
    thickness : number
        Sheets without an inside are taken as walls this thick, in the meshes' own units; null refuses them.
    num_workers : whole number
        Processes; null takes one for each core.
    seed : whole number
        All randomness.
    """

    meshes: Path
    samples: Path
    shapes: str | tuple[str, ...] = "all"
    normalize: Literal["each", "shared"] = "each"
    thickness: float | None = None
    num_workers: int | None = None
    seed: int = 0
    sampler: SamplerConfig = field(default_factory=SamplerConfig)

    def __post_init__(self) -> None:
        if self.thickness is not None and not self.thickness > 0:
            raise ValueError(f"thickness must be above 0 or null, got {self.thickness}")
        if self.num_workers is not None and self.num_workers < 1:
            raise ValueError(f"num_workers must be 1 or more, or null, got {self.num_workers}")


def sample(config: SampleConfig) -> None:
    """Prepare the store and print what became of every mesh."""
    from sdfnet.geometry.checking import format_reports
    from sdfnet.sampling.prepare import prepare_samples

    done = prepare_samples(
        config.meshes,
        config.samples,
        config=config.sampler,
        normalize=config.normalize,
        thickness=config.thickness,
        shapes=config.shapes,
        num_workers=config.num_workers,
        progress=True,
    )
    say(format_reports(done.reports))
    say(
        f"{done.num_done} shapes sampled, {done.num_skipped} were there already; "
        f"{config.sampler.num_samples:,} samples per shape, {done.bytes_on_disk / 1e6:,.1f} MB on disk"
    )
    say_where(config.samples)


COMMAND = Command(
    name="sample",
    config=SampleConfig,
    run=sample,
    output_key="samples",
    groups=("sampler",),
    interrupted=lambda config: f"Finished shapes are kept in {config.samples}; the same command goes on.",
    examples=(
        "sdfnet sample meshes=chairs samples=samples",
        "sdfnet sample meshes=chairs samples=paper sampler=deepsdf",
    ),
)
