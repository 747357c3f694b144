"""`sdfnet train`: learn all shapes of a folder with one network, or go on with a training that was interrupted.

Examples:

    sdfnet train meshes=chairs run=runs/chairs
    sdfnet train meshes=chairs run=runs/chairs budget=30min 'holdout=[chair_1*]'
    sdfnet train meshes=chairs run=runs/deepsdf experiment=deepsdf device=cuda
    torchrun --nproc-per-node 4 -m sdfnet train meshes=chairs run=runs/large training.strata=4
    sdfnet train meshes=chairs run=runs/rates samples=samples -m training.learning_rate=2e-3,5e-3
"""

from __future__ import annotations

import contextlib
import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Union

import sdfnet
from sdfnet.cli.commands.keys import find_device
from sdfnet.cli.commands.sample import SamplingKeys, prepare
from sdfnet.cli.hydra_app.command import Command, UsageError
from sdfnet.cli.hydra_app.output import let_complain, say, say_where
from sdfnet.cli.hydra_app.schema import flat, with_tied
from sdfnet.decoders import AutoConfig, DecoderConfig, choose_decoder, decoder_configs, decoder_kind
from sdfnet.files import ensure_folder, only_process
from sdfnet.runs import MODEL_FILE, RUN_FILE, ExtractConfig, describe_thin_walls, load_document, select_shapes
from sdfnet.sampling import SamplerConfig, SampleStore, WorkersConfig
from sdfnet.solids.rule import AUTO
from sdfnet.solids.source_shape import find_sources, format_reports
from sdfnet.training import (
    Processes,
    TrainingConfig,
    Verdict,
    check_one_shape,
    do_first,
    join_processes,
    known_decoder,
    refuse_another_run,
    train,
    verdict,
)

if TYPE_CHECKING:
    AnyDecoderConfig = DecoderConfig | AutoConfig
else:
    AnyDecoderConfig = Union[(AutoConfig, *decoder_configs().values())]


@dataclass(frozen=True, kw_only=True)
class TrainCommand:
    """The keys of `sdfnet train`.

    Attributes
    ----------
    run : path
        The run directory: made, or continued if it holds a training with the same configuration.
    meshes : path
        The folder of meshes, searched recursively; those that samples lacks are sampled first. null uses samples alone.
    samples : path
        The sample store; null is samples/ inside the run.
    holdout : names
        Names and globs of shapes that are not learned. auto: a tenth is held out to measure, then all are learned.
    init : path
        A run to start from: its network, and its codes for shapes of the same name. New shapes may come.
    budget : time
        Time for training, such as 90s, 5min or 2h: the training follows the clock, also on a busy machine.
    steps : whole number
        The number of steps, 1 or more, instead of a budget.
    device : text
        auto, cpu, cuda, cuda:1 or mps.
    """

    run: Path
    meshes: Path | None = None
    samples: Path | None = None
    holdout: Literal["auto"] | tuple[str, ...] = ()
    init: Path | None = None
    budget: str | None = "5min"
    steps: int | None = None
    device: str = "auto"
    decoder: AnyDecoderConfig = field(default_factory=AutoConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    sampling: SamplingKeys = flat(SamplingKeys)

    def __post_init__(self) -> None:
        if self.meshes is None and self.samples is None:
            raise UsageError("meshes=DIR must be given, or samples=DIR with what `sdfnet sample` prepared")
        given = {"normalize": self.sampling.normalize, **self.sampling.rule.to_dict()}
        for key, default in {"normalize": SamplingKeys.normalize, **AUTO.to_dict()}.items():
            if self.meshes is None and given[key] != default:
                raise UsageError(f"{key} belongs to sampling; it needs meshes=DIR")
        training = with_tied(self.training, budget=self.budget, steps=self.steps, seed=self.sampling.seed)
        object.__setattr__(self, "training", training)

    @property
    def named_holdout(self) -> tuple[str, ...]:
        """The shapes that are held out by name."""
        return () if self.holdout == "auto" else self.holdout

    @property
    def chosen_decoder(self) -> DecoderConfig | None:
        """The options of the decoder; None where it is chosen from the shapes."""
        return None if isinstance(self.decoder, AutoConfig) else self.decoder

    @property
    def store(self) -> Path:
        return self.run / "samples" if self.samples is None else self.samples


def run_train(command: TrainCommand, *, may_fail: bool = False) -> None:
    """Sample the meshes that the store lacks, train, and print how well the shapes were learned.

    A run that has not learned its shapes is saved, and is an error unless it `may_fail`.
    """
    with join_processes() as processes:
        let_complain()
        found = _train(command, processes)
        if found is not None and found.has_failed and not may_fail:
            raise ValueError(found.text)
        if found is not None:
            say(found.text)
    say_where(command.run)


def _train(command: TrainCommand, processes: Processes) -> Verdict | None:
    """Train, and return the verdict in the first process."""
    device = find_device(command.device, processes_here=processes.count_here, number_here=processes.number_here)
    if command.init is not None and not (command.run / MODEL_FILE).is_file():  # Later, the run has all it needs itself.
        load_document(command.init, key="init")
    do_first(processes, lambda: _check(command))
    ensure_folder(command.run)
    with only_process(command.run, doing="training", key="run") if processes.is_first else contextlib.nullcontext():
        return _sample_and_learn(command, processes, device)


def _check(command: TrainCommand) -> None:
    """Refuse what can be refused before the samples are drawn: that may take hours."""
    if command.holdout == "auto":  # The steps of the run come from the training in the folder inside it.
        if command.meshes is not None:
            from sdfnet.fitting.holdout import choose_holdout  # loads what no other training needs

            names = select_shapes(list(find_sources(command.meshes)), command.sampling.shapes)
            choose_holdout(names, seed=command.training.seed)
        return
    refuse_another_run(
        command.run, command.chosen_decoder, command.training, holdout=command.named_holdout, init=command.init
    )
    num_shapes = _num_shapes(command)
    if command.chosen_decoder is not None:
        check_one_shape(command.chosen_decoder, num_shapes, init=command.init)


def _num_shapes(command: TrainCommand) -> int:
    """Return how many shapes will be learned, as far as files tell; refuse shapes that no file has."""
    names = list(SampleStore(command.store).names if command.meshes is None else find_sources(command.meshes))
    left_out = set(select_shapes(names, command.named_holdout) if command.named_holdout else ())
    return len(set(select_shapes(names, command.sampling.shapes)) - left_out)


def _sample_and_learn(command: TrainCommand, processes: Processes, device: str) -> Verdict | None:
    names = do_first(processes, lambda: _prepare(command))
    store = SampleStore(command.store, verify=processes.is_first and command.meshes is None)
    options: dict[str, Any] = {
        "decoder": command.chosen_decoder,
        "config": command.training,
        "init": command.init,
        "device": device,
        "provenance": provenance(),
    }
    if command.holdout == "auto":
        from sdfnet.fitting.holdout import train_with_holdout  # loads what no other training needs

        if processes.count > 1:
            raise ValueError("holdout=auto takes one process; name the shapes to hold out, or start one process")
        run = train_with_holdout(command.run, store, names=select_shapes(store.names, names), **options)
        held_out = run.document["held_out"]
        mean = sum(held_out.values()) / max(1, len(held_out))
        say(f"held out, before the last training: {', '.join(held_out)}: surface error {mean:.3f} % of the radius")
    else:
        run = train(command.run, store, shapes=names, holdout=command.named_holdout, processes=processes, **options)
    if not processes.is_first:
        return None
    if thin := describe_thin_walls(run.shapes, resolution=ExtractConfig().resolution):
        say(thin)
    return verdict(run, store)


def _prepare(command: TrainCommand) -> str | Sequence[str]:
    """Complete the sample store and return the shapes to learn."""
    if command.meshes is None:
        return command.sampling.shapes
    done = prepare(_as_begun(command), command.meshes, command.store)
    if any(report.status != "used" for report in done.reports):
        say(format_reports(done.reports))
    say(
        f"samples: {done.num_done} shapes drawn now, {done.num_skipped} were there; "
        f"{done.store.num_samples:,} per shape, {done.bytes_on_disk / 1e6:,.1f} MB"
    )
    return done.names


def _as_begun(command: TrainCommand) -> SamplingKeys:
    """Return how to sample.

    A decoder may have a number of samples of its own, in place of the sampler's default. A run of a version that knew
    only solid=winding goes on with that choice.
    """
    kind = command.decoder.kind
    if command.chosen_decoder is None:
        known = known_decoder(command.run, command.init)
        kind = known["kind"] if known else choose_decoder(_num_shapes(command)).kind  # whether it is a grid
    keys, num_samples = command.sampling, decoder_kind(kind).num_samples
    if num_samples is not None and keys.sampler.num_samples == SamplerConfig().num_samples:
        keys = replace(keys, sampler=replace(keys.sampler, num_samples=num_samples))
    if (command.run / RUN_FILE).is_file():
        began = load_document(command.run)[1][0].rule
        if command.sampling.rule.repeats(began):
            return replace(keys, rule=began)
    return keys


def provenance() -> dict[str, Any]:
    """Return the command and, in a checkout, the commit of the program."""
    folder = Path(sdfnet.__file__).resolve().parent.parent
    commit = None
    if (folder / ".git").exists():
        git = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
        try:
            commit = subprocess.run(git, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
        except (OSError, subprocess.SubprocessError):
            commit = None  # Without git nothing is known; that stops nobody from training.
    return {"command": shlex.join(["sdfnet", *sys.argv[1:]]), "commit": commit}


COMMAND = Command(
    "train",
    TrainCommand,
    run_train,
    output_key="run",
    groups={
        "decoder": {"auto": AutoConfig, **decoder_configs()},
        "sampler": {"default": SamplerConfig},
        "workers": {"loky": WorkersConfig},
        "training": {"default": TrainingConfig},
        "experiment": {},
    },
    interrupted=lambda config: f"What is finished is kept in {config.run}; the same command goes on.",
)
