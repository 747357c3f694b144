"""The training of an auto-decoder: one network and one code per shape, learned together (Park et al., CVPR 2019).

Read from top to bottom: `train` turns the configuration into a decoder, codes, batches and a plan. `_take_steps` is the
loop. Then follow the step, its records, the plan (precision, compiling), and the decisions of a schedule that follows
the clock.

A killed training continues from its last save. With `steps=` it ends with the same bytes as one that was never killed.
With `budget=` the bytes also depend on the decisions of the schedule (see `schedule.py`). Decisions that are written
hold again after a kill; later ones depend on the clock.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import logging
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from sdfnet.decoders import (
    Decoder,
    DecoderConfig,
    LearningRates,
    build_decoder,
    decoder_kind,
)
from sdfnet.files import ensure_folder, full_disk_named, only_process, remove_partial_files
from sdfnet.runs import METRICS_FILE, Run, load_run, select_shapes
from sdfnet.sampling import SampleStore
from sdfnet.training import checkpoint, distributed
from sdfnet.training.batches import Batch, BatchSchedule, move_samples_to
from sdfnet.training.checkpoint import Plan, TrainingState, whole_latents
from sdfnet.training.choice import decoder_for, shape_places
from sdfnet.training.config import (
    Precision,
    TrainingConfig,
    choose_optimizer,
    learning_rates,
    parse_duration,
    with_length,
    with_tuned_weights,
)
from sdfnet.training.distributed import ALONE, Processes, TrainingInterrupted, any_of
from sdfnet.training.losses import compute_losses
from sdfnet.training.metrics import (
    SURFACE_ERROR,
    Recorder,
    folded_percent,
    num_measurements,
    save_preview,
    surface_error,
    wrong_signs,
)
from sdfnet.training.optimizers import clear_gradients
from sdfnet.training.schedule import (
    FIRST_DECISION,
    LEAST_STEPS,
    BudgetClock,
    Decision,
    RateKind,
    Schedule,
    load_decisions,
    rate_factor,
    save_decisions,
)

logger = logging.getLogger(__name__)

_MAX_ROWS = 500
"""Largest number of rows of `metrics.csv`."""

_NEAR_SURFACE = 0.003
"""Points within this distance, unit frame, show a decoder of one shape where the surface is."""

_WORTH_SECONDS, _WORTH_STEPS = 120.0, 2000
"""Compiling takes tens of seconds, so a shorter training is faster without it."""


@dataclass(frozen=True, eq=False)
class _Training:
    """Everything that stays the same from the first step to the last."""

    directory: Path
    names: tuple[str, ...]
    schedule: BatchSchedule
    config: TrainingConfig
    kind: str
    device: torch.device
    processes: Processes
    clock: Callable[[], float]


def train(
    directory: str | Path,
    store: SampleStore | str | Path,
    *,
    budget: str | None = None,
    steps: int | None = None,
    decoder: DecoderConfig | None = None,
    config: TrainingConfig | None = None,
    shapes: str | Sequence[str] = "all",
    holdout: Sequence[str] = (),
    init: str | Path | None = None,
    device: str = "cpu",
    provenance: Mapping[str, Any] | None = None,
    progress: bool = True,
    processes: Processes = ALONE,
    clock: Callable[[], float] = time.monotonic,
) -> Run:
    """Train on the samples of `store` into the run `directory`, or continue the training that is there.

    Deterministic given the samples, the options, the machine, the library versions and the number of threads. With
    `budget`, the decisions of the schedule count too, and these depend on the clock. With several processes, all call
    this function (see `join_processes`). Then the result is the same up to rounding, except for decoders with dropout.

    Parameters
    ----------
    store : SampleStore or its folder
    budget, steps : str or int, optional
        Time for the training loop, such as "3min", or the number of steps, in place of `config`'s.
    decoder, config : optional
        The options of the decoder and of the training. By default the decoder is that of the run to continue or to
        start from, else `choose_decoder` takes one that suits the shapes.
    shapes, holdout : names or globs
        The shapes of the store to learn, and the shapes among them to exclude.
    init : run directory, optional
        A run to start from. Its decoder is used, and its codes for shapes of the same name.
    provenance : mapping, optional
        Entries for `run.json` such as command and commit. They are written unchanged and not compared on resuming.
    clock : function
        Returns the seconds by which the training follows its budget.

    Raises
    ------
    ValueError
        No shapes are left to train on; the directory holds a run with another configuration; files are damaged; there
        are fewer shapes than strata; the decoder holds one shape and there are more, or `init` is given; there are
        fewer shapes, in all or per step, than processes; both `budget` and `steps` are given; another process trains in
        the directory.
    OSError
        The disk is full. The training goes on from its last save when it is repeated.
    TrainingInterrupted
        The user pressed Ctrl-C. Everything is saved.

    >>> from sdfnet.sampling import SamplerConfig, prepare_samples
    >>> sampler = SamplerConfig(num_samples=1000, num_surface=100, num_heldout=100)
    >>> done = prepare_samples("chairs", "few", config=sampler, shapes="chair_00", num_workers=1, progress=False)
    >>> config = TrainingConfig(batch_points=64, evaluations=1, previews=0)
    >>> train("runs/few", done.store, steps=2, config=config, progress=False).step
    2
    """
    store = store if isinstance(store, SampleStore) else SampleStore(store)
    config = with_length(config or TrainingConfig(), budget=budget, steps=steps)
    names = _trained_names(store, shapes, holdout)
    if decoder is None:
        decoder = decoder_for(directory, store, names, init=init, processes=processes)
    _check_shares(len(names), config, processes)
    check_one_shape(decoder, len(names), init=init)
    decoder, config = checkpoint.with_earlier_defaults(directory, decoder, config)
    config = with_tuned_weights(config, decoder.kind)
    learning_rates(config, decoder.kind)  # Before anything is written: it refuses a decoder without a rate.
    directory, torch_device = ensure_folder(directory), torch.device(device)
    keep_freed_memory()
    with (
        only_process(directory, doing="training", key="run") if processes.is_first else contextlib.nullcontext(),
        torch.random.fork_rng(devices=[torch_device] if torch_device.type == "cuda" else []),
    ):
        if processes.is_first:
            remove_partial_files(directory)
        torch.manual_seed(config.seed)
        network = build_decoder(decoder)
        if network.holds_one_shape:
            network.adapt(_near_surface(store, store.index_of(names[0])))
        latents = checkpoint.first_latents(len(names), decoder.latent_size, config)
        resumes = distributed.do_first(processes, (directory / checkpoint.STATE_FILE).is_file)
        if not resumes:  # A saved state does not need its start any more.
            if init is not None:
                latents = checkpoint.start_from(load_run(init), names, latents, network, config=decoder)
            elif network.has_template:
                centers, sizes = shape_places(store, names)
                latents = network.place(torch.from_numpy(centers), torch.from_numpy(sizes), latents)
        schedule = BatchSchedule(
            store,
            tuple(store.index_of(name) for name in names),
            config.batch_shapes,
            config.batch_points,
            num_surface=_num_surface_points(config, store),
            seed=config.seed,
            strata=config.strata,
            processes=processes,
        )
        schedule = move_samples_to(torch_device, schedule, config.resident)
        training = _Training(directory, names, schedule, config, decoder.kind, torch_device, processes, clock)
        plan = checkpoint.open_run(
            directory,
            store,
            names,
            settings=checkpoint.chosen_settings(decoder, config, holdout=holdout, init=init),
            make_plan=lambda: _make_plan(training),
            provenance=provenance or {},
            processes=processes,
        )
        state = _make_state(training, network, latents, compiled=plan.compiled)
        if resumes:
            checkpoint.load_state(directory, state)
        _take_steps(training, state, plan, progress=progress and processes.is_first)
        if processes.is_first and plan.follows_clock:
            seconds = state.seconds / state.step
            checkpoint.close_run(directory, replace(plan, steps=state.step, seconds_per_step=seconds))
    any_of(processes, False)  # Wait until the first has saved.
    return load_run(directory, device=device)


def _take_steps(training: _Training, state: TrainingState, plan: Plan, *, progress: bool) -> None:
    """Take the remaining steps. Record, draw, decide and save at intervals."""
    directory, config, device, processes = training.directory, training.config, training.device, training.processes
    schedule, clock = _open_schedule(training, plan, state)
    if schedule.share(state.step) == 1:
        logger.info("the run at %s is complete (%d steps); nothing to do", directory, state.step)
        checkpoint.save_state(directory, state)
        return
    if state.step:
        logger.info("continuing %s at step %d of %s", directory, state.step, _total(schedule, plan))
        for change in checkpoint.changed_versions(directory, processes):
            logger.warning("%s: the result will not be to the bit what one undisturbed run gives", change)
    recorder = Recorder(directory, step=state.step) if processes.is_first else None
    bar = tqdm(initial=state.step, desc="training", unit="step", disable=not progress, smoothing=0.05)
    saved = time.monotonic()
    with (
        full_disk_named(directory / METRICS_FILE),
        recorder or contextlib.nullcontext(),
        bar,
        logging_redirect_tqdm(),
        distributed.stop_requests() as received,
        _threads_restored() as all_threads,
    ):
        state.decoder.train()
        while (share := schedule.share(state.step)) < 1:
            torch.set_num_threads(schedule.threads(state.step) or all_threads)
            bar.total = schedule.expected_steps(state.step) if schedule.is_measured else None
            distributed.set_random_state(processes, seed=config.seed, step=state.step, device=device)
            batch = training.schedule.batch(state.step, device=device)
            rates = learning_rates(config, training.kind, steps=schedule.expected_steps(state.step))
            losses = train_step(
                state, batch, config, rates=rates, share=share, precision=plan.precision, rate_kind=plan.rate_kind
            )
            state.step += 1
            _record(training, state, schedule, losses, recorder, bar)
            bar.update()
            if clock is not None:
                clock.mark(state.step)
            last = schedule.share(state.step) == 1
            is_time = processes.is_first and time.monotonic() - saved > config.checkpoint_seconds
            is_due = clock is not None and clock.wants_decision(schedule.decisions)
            stop, save, decide = any_of(processes, bool(received), is_time, is_due)
            if decide and not last:
                schedule = _decide(training, schedule, clock)
            if last or stop or save:
                if recorder is not None:
                    recorder.flush()
                state.seconds = 0.0 if clock is None else clock.seconds
                checkpoint.save_state(directory, state)
                saved = time.monotonic()
            if stop and not last:
                raise TrainingInterrupted(
                    f"stopped at step {state.step} of {_total(schedule, plan)}; all of it is saved in {directory}. "
                    "Repeat the same command to go on."
                )


@contextlib.contextmanager
def _threads_restored() -> Iterator[int]:
    """Give the number of torch's threads, and restore it afterwards."""
    count = torch.get_num_threads()
    try:
        yield count
    finally:
        torch.set_num_threads(count)


def _total(schedule: Schedule, plan: Plan) -> str:
    """Return the number of steps of the training in words."""
    if not schedule.is_measured:
        return "an unknown number"
    last = schedule.decisions[-1].last_step if plan.follows_clock else plan.steps
    return f"about {last}" if plan.follows_clock else f"{last}"


def train_step(
    state: TrainingState,
    batch: Batch,
    config: TrainingConfig,
    *,
    rates: LearningRates,
    share: float,
    precision: str,
    rate_kind: RateKind = "late",
) -> dict[str, Tensor]:
    """Take one step in place, at `share` (0 to 1) of the training. Return its losses, scalars that stay on the device.

    Every loss is a mean over shapes, with the same number of samples for each shape. So the loss of the whole batch is
    the sum of the losses of all processes, weighted by their shares of the shapes. The same holds for the gradient of
    the decoder. The gradients of codes are not sent: every process owns its codes.
    """
    factor = rate_factor(share, warmup_share=config.warmup_share, kind=rate_kind)
    checkpoint.set_learning_rates(state, rates, factor=factor)
    losses = compute_losses(state, batch, config, share=share, precision=precision)
    assert config.normal_weight is not None
    weights = {
        "sdf": 1.0,
        "prior": _prior_weight(config, state.step, share),
        "eikonal": config.eikonal_weight,
        "normal": config.normal_weight,
        "penalty": 1.0,
    }
    total = torch.stack([weights[name] * loss for name, loss in losses.items()]).sum()
    clear_gradients(state.optimizers)
    (total * batch.weight).backward()
    sums = torch.stack([total.detach(), *(loss.detach() for loss in losses.values())]) * batch.weight
    gradients = [parameter.grad for parameter in state.decoder.parameters() if parameter.grad is not None]
    distributed.sum_in_place(state.processes, [*gradients, sums])
    for optimizer in state.optimizers:
        optimizer.step()
    return dict(zip(["loss", *losses], sums, strict=True))


def _prior_weight(config: TrainingConfig, step: int, share: float) -> float:
    """Return the weight of the prior. A strong one from the first steps on would keep the codes from being learned."""
    assert config.prior_weight is not None
    assert config.prior_warmup_steps is not None
    of_share = min(1.0, share / config.prior_warmup_share) if config.prior_warmup_share else 1.0
    of_steps = min(1.0, step / config.prior_warmup_steps) ** 2 if config.prior_warmup_steps else 1.0
    return config.prior_weight * of_share * of_steps


def _record(
    training: _Training,
    state: TrainingState,
    schedule: Schedule,
    losses: Mapping[str, Tensor],
    recorder: Recorder | None,
    bar: tqdm,
) -> None:
    """Write a row, measure and draw if this step is due. The first process does so with the codes of all processes."""
    step, (evaluations, previews) = state.step, num_measurements(training.config)
    measured = schedule.is_due(step, evaluations)
    if not (measured or schedule.is_due(step, _MAX_ROWS)):
        return
    values = {name: float(loss) for name, loss in losses.items()} | {"learning_rate": state.decoder_rate}
    if not torch.isfinite(losses["loss"]):
        rate = learning_rates(training.config, training.kind, steps=schedule.expected_steps(step)).decoder
        raise ValueError(
            f"the loss is {values['loss']} at step {step}: the training has diverged. "
            f"Lower training.learning_rate (it is {rate:g}) and choose a new run=DIR."
        )
    drawn = bool(previews) and schedule.is_due(step, previews)
    latents = whole_latents(state) if measured or drawn else None
    if recorder is None:
        return
    if measured:
        assert latents is not None
        measure = (state.decoder, latents, training.schedule.store, training.schedule.indices)
        values[SURFACE_ERROR] = surface_error(*measure)
        values |= wrong_signs(*measure)
        if state.decoder.has_template:
            values["folded_percent"] = folded_percent(*measure)
    recorder.write(step, values)
    error = "" if recorder.surface_error is None else f", surface error {recorder.surface_error:.3f} %"
    bar.set_postfix_str(f"loss {values['sdf']:.5f}{error}", refresh=False)
    if drawn:
        assert latents is not None
        path = training.directory / "previews" / f"step_{step:07d}.png"
        save_preview(state.decoder, latents, training.names, path)


def _make_state(training: _Training, network: Decoder, latents: Tensor, *, compiled: bool) -> TrainingState:
    device, processes = training.device, training.processes
    optimizer = choose_optimizer(training.config, training.kind)
    return checkpoint.make_state(network, latents, device, optimizer, processes, compiled)


# The configuration: which shapes are trained, and refusals.


def _trained_names(store: SampleStore, shapes: str | Sequence[str], holdout: Sequence[str]) -> tuple[str, ...]:
    chosen = select_shapes(store.names, shapes)
    kept_out = set(select_shapes(store.names, holdout)) if holdout else set()
    names = tuple(name for name in chosen if name not in kept_out)
    if not names:
        raise ValueError(f"no shape is left to train on: {len(chosen)} chosen, all of them held out")
    return names


def _num_surface_points(config: TrainingConfig, store: SampleStore) -> int:
    """Return how many surface points a step reads for each shape. Refuse a normal term without any in the store."""
    if not config.normal_weight:
        return 0
    if not store.num_surface:
        raise ValueError(
            f"training.normal_weight={config.normal_weight:g} needs points on the surface, but the samples in "
            f"{store.directory} have none (sampler.num_surface=0); sample again, or give training.normal_weight=0"
        )
    return config.gradient_points


def _check_shares(num_shapes: int, config: TrainingConfig, processes: Processes) -> None:
    """Refuse strata without a shape, and processes that would own no shape or hardly ever use one."""
    if config.strata > num_shapes:
        raise ValueError(f"training.strata={config.strata} is more than there are shapes ({num_shapes})")
    if processes.count > min(num_shapes, config.batch_shapes):
        raise ValueError(
            f"{processes.count} processes cannot share {num_shapes} shapes, {config.batch_shapes} in each step: every "
            "process needs one of them. Start fewer processes or raise training.batch_shapes"
        )


def check_one_shape(decoder: DecoderConfig, num_shapes: int, *, init: str | Path | None) -> None:
    """Refuse several shapes, or a run to start from, for a decoder that holds exactly one shape.

    Raises
    ------
    ValueError
        The decoder holds one shape, and there are more, or `init` is given.

    >>> from sdfnet.decoders import VolumeConfig
    >>> check_one_shape(VolumeConfig(), 24, init=None)
    """
    if not decoder_kind(decoder.kind).network.holds_one_shape:
        return
    if num_shapes != 1:
        raise ValueError(
            f"decoder={decoder.kind} learns exactly one shape, got {num_shapes}. "
            "Choose one with shapes=[NAME], or decoder=volume for a family"
        )
    if init is not None:
        raise ValueError(f"decoder={decoder.kind} learns one shape from nothing; leave out init={init}")


def _near_surface(store: SampleStore, index: int) -> Tensor:
    """Return points (N, 3) of the samples that are on the surface or near it."""
    samples = torch.from_numpy(store.read(index, 0, store.num_samples))
    surface = torch.from_numpy(store.surface(index, 0, store.num_surface))
    return torch.cat([samples[samples[:, 3].abs() < _NEAR_SURFACE, :3], surface[:, :3]])


# The plan, and the schedule that follows the clock.


def _make_plan(training: _Training) -> Plan:
    """Fix the precision, and the number of steps if it is given."""
    config, device = training.config, training.device
    compiled = compiles(
        config,
        device_type=device.type,
        capability=torch.cuda.get_device_capability(device) if device.type == "cuda" else (0, 0),
        has_triton=importlib.util.find_spec("triton") is not None,
    )
    precision = choose_precision(config.precision, device)
    return Plan(config.steps, precision, None, compiled, follows_clock=config.steps is None, rate_kind="late")


def _open_schedule(training: _Training, plan: Plan, state: TrainingState) -> tuple[Schedule, BudgetClock | None]:
    """Return the schedule as far as it is decided, and in the first process the clock that later decisions need."""
    if not plan.follows_clock:
        return Schedule(plan.steps), None
    directory, processes, budget = training.directory, training.processes, training.config.budget
    device, clock = training.device, training.clock
    known = distributed.do_first(processes, lambda: [asdict(decision) for decision in load_decisions(directory)])
    schedule = Schedule(decisions=tuple(Decision(**decision) for decision in known) or (FIRST_DECISION,))
    if not processes.is_first:
        return schedule, None
    assert budget is not None
    last = schedule.decisions[-1]
    return schedule, BudgetClock(
        parse_duration(budget),
        used=max(state.seconds, last.seconds),  # The time before a kill counts.
        waited=last.waited,
        threads=torch.get_num_threads(),
        threads_now=last.threads,
        clock=clock,
        # On a GPU this thread also waits for the device. Another clock cannot be compared.
        processor_clock=time.thread_time if device.type == "cpu" and clock is time.monotonic else None,
    )


def _decide(training: _Training, schedule: Schedule, clock: BudgetClock | None) -> Schedule:
    """Let the first process decide how the training goes on, and write the decision before the next step."""

    def work() -> dict[str, Any]:
        assert clock is not None
        needed = clock.expected_seconds(LEAST_STEPS)
        decision = clock.decide(schedule.decisions)
        if not schedule.is_measured and needed > clock.budget:
            logger.warning(
                "budget=%s is too short for %d steps, the fewest that sdfnet takes: about %s s",
                training.config.budget, LEAST_STEPS, f"{needed:.0f}" if needed >= 10 else f"{needed:.1g}",
            )  # fmt: skip
        save_decisions(training.directory, (*schedule.decisions, decision))
        return asdict(decision)

    decision = Decision(**distributed.do_first(training.processes, work))
    return Schedule(decisions=(*schedule.decisions, decision))


def compiles(config: TrainingConfig, *, device_type: str, capability: tuple[int, int], has_triton: bool) -> bool:
    """Tell whether to compile the decoder. "auto" compiles for a long training on a GPU that Triton supports."""
    if config.compile != "auto":
        return config.compile
    if config.steps is not None:
        is_long = config.steps >= _WORTH_STEPS
    else:
        is_long = config.budget is not None and parse_duration(config.budget) >= _WORTH_SECONDS
    return device_type == "cuda" and has_triton and capability >= (7, 0) and is_long


def choose_precision(choice: Precision, device: torch.device) -> str:
    """Return "bfloat16" or "float32". "auto" means bfloat16 if the processor multiplies bfloat16 in hardware."""
    if choice != "auto":
        return choice
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    native = device.type == "cpu" and (torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
    return "bfloat16" if native else "float32"


_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_NEVER = 2**31 - 1


def keep_freed_memory() -> None:
    """Tell glibc to keep freed memory for the next step. On other systems, do nothing.

    By default glibc returns the memory of a step's activations to the system, which must clear this memory again. If
    glibc keeps the memory, a step takes 23 % less time (benchmarks/decoders.py, two cores). The memory of the process
    stays at its peak.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _NEVER)
        mallopt(_M_TRIM_THRESHOLD, _NEVER)
