"""`sdfnet sample`: draw points and signed distances from a folder of meshes, in parallel, into a sample store.

Examples:

    sdfnet sample meshes=chairs samples=samples
    sdfnet sample meshes=chairs samples=paper sampler=deepsdf
    sdfnet sample meshes=chairs samples=shared/samples workers=dask workers.scheduler=tcp://host:8786
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from sdfnet.cli.commands.keys import check_num_workers, say_skipped
from sdfnet.cli.hydra_app.command import Command
from sdfnet.cli.hydra_app.output import counted, say, say_where
from sdfnet.cli.hydra_app.schema import flat, with_tied
from sdfnet.sampling import PrepareReport, SamplerConfig, WorkersConfig, prepare_samples
from sdfnet.solids.limits import MeshLimits
from sdfnet.solids.rule import SolidRule
from sdfnet.solids.source_shape import format_reports


@dataclass(frozen=True, kw_only=True)
class SamplingKeys:
    """How a folder of meshes is sampled: the keys of every command that does it.

    Attributes
    ----------
    shapes : names
        all, one name, or a list of names and globs. A name is the path below meshes, without suffix.
    normalize : each or shared
        each: every shape fills the unit frame; shared: one similarity for the folder keeps relative size and place.
    num_workers : whole number
        Processes for sampling, 1 or more; null takes one for each core. A cluster elsewhere has its own.
    seed : whole number
        Fixes all randomness, 0 or more.
    """

    shapes: str | tuple[str, ...] = "all"
    normalize: Literal["each", "shared"] = "each"
    num_workers: int | None = None
    seed: int = 0
    sampler: SamplerConfig = field(default_factory=SamplerConfig)
    workers: WorkersConfig = field(default_factory=WorkersConfig)
    rule: SolidRule = flat(SolidRule)
    limits: MeshLimits = flat(MeshLimits)

    def __post_init__(self) -> None:
        check_num_workers(self.num_workers)
        object.__setattr__(self, "sampler", with_tied(self.sampler, seed=self.seed))


@dataclass(frozen=True, kw_only=True)
class SampleCommand:
    """The keys of `sdfnet sample`.

    Attributes
    ----------
    meshes : path
        The folder of meshes, searched recursively.
    samples : path
        The sample store: made, or completed if it is there.
    """

    meshes: Path
    samples: Path
    sampling: SamplingKeys = flat(SamplingKeys)


def run_sample(command: SampleCommand) -> None:
    """Prepare the store and print the report on every mesh."""
    done = prepare(command.sampling, command.meshes, command.samples)
    say(format_reports(done.reports))
    say(
        f"{counted(done.num_done, 'shape')} sampled, "
        f"{done.num_skipped} {'was' if done.num_skipped == 1 else 'were'} there already; "
        f"{done.store.num_samples:,} samples per shape, {done.bytes_on_disk / 1e6:,.1f} MB on disk"
    )
    say_where(command.samples)


def prepare(keys: SamplingKeys, meshes: Path, samples: Path) -> PrepareReport:
    """Sample the meshes that the store in `samples` does not hold yet, with a progress bar."""
    done = prepare_samples(
        meshes,
        samples,
        config=keys.sampler,
        normalize=keys.normalize,
        rule=keys.rule,
        limits=keys.limits,
        shapes=keys.shapes,
        num_workers=keys.num_workers,
        workers=keys.workers,
        progress=True,
    )
    say_skipped(meshes)
    return done


COMMAND = Command(
    "sample",
    SampleCommand,
    run_sample,
    output_key="samples",
    groups={"sampler": {"default": SamplerConfig}, "workers": {"loky": WorkersConfig}},
    interrupted=lambda config: f"Finished shapes are kept in {config.samples}; the same command goes on.",
)
