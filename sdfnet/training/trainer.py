"""The training of an auto-decoder: one network and one code per shape, learned together (Park et al., CVPR 2019).

`train` makes or continues a run directory. Order of events: refuse what does not fit, write `run.json` with the plan
(the run exists from here on), then steps, with the state saved now and then; a killed process continues from the last
save and ends where an undisturbed one would have.

Fixing the length of a training before it begins: a time budget becomes a number of steps, once.

A few steps are timed on a copy that is thrown away; the number is written into the run, and elapsed time never enters
the schedule. So a run on a slow day learns no other way than planned, and a resumed one is the same run.

The run's `run.json` from the side of training: what is written at the start and compared on resuming.

Ctrl-C and termination signals during a training: noted, and obeyed between two steps.
"""

from __future__ import annotations

import contextlib
import copy
import json
import logging
import platform
import signal
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from sdfnet.decoders import Decoder, DecoderConfig, LearningRates, build_decoder
from sdfnet.files import ensure_folder
from sdfnet.runs import RUN_FILE, Run, RunShape, load_document, load_run, save_document, save_model, select_shapes
from sdfnet.sampling import SampleStore
from sdfnet.training.acceleration import choose_compiling, free_memory, keep_freed_memory, keeps_samples
from sdfnet.training.batches import BatchSchedule, load_resident, num_bytes
from sdfnet.training.checkpoint import (
    STATE_FILE,
    TrainingState,
    first_latents,
    load_state,
    make_state,
    save_state,
    start_from,
    whole_latents,
)
from sdfnet.training.config import TrainingConfig, choose_optimizer, learning_rates, parse_duration
from sdfnet.training.distributed import (
    ALONE,
    Processes,
    TrainingInterrupted,
    any_of,
    do_first,
    set_random_state,
    wait_for_all,
)
from sdfnet.training.metrics import SURFACE_ERROR, Recorder, save_preview, surface_error
from sdfnet.training.step import train_step

_TIMED_STEPS = 24
_TIMED_SECONDS = 8.0
_OVERHEAD = 1.06
"""Held-out measurements, pictures and saves cost about this factor."""
_MIN_STEPS = 40
_TIMED_SHARE = 0.05
"""Of a short budget so much goes into timing, at most."""
_SECONDS_PER_EVALUATION, _SECONDS_PER_PREVIEW = 6.0, 30.0
"""A measurement takes about 0.1 s, a picture about 1 s: they must not eat a budget of seconds."""


@dataclass(frozen=True)
class Plan:
    """What was fixed before the first step.

    Attributes
    ----------
    steps : int
    precision : "float32" or "bfloat16"
    seconds_per_step : float or None
        As timed, where a budget was given.
    compiled : bool
        Whether the decoder is compiled.
    """

    steps: int
    precision: str
    seconds_per_step: float | None
    compiled: bool = False

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def dtype(self) -> torch.dtype:
        return torch.bfloat16 if self.precision == "bfloat16" else torch.float32


@dataclass(frozen=True)
class Looks:
    """How often a training is looked at on its way."""

    evaluations: int
    previews: int


def planned_looks(config: TrainingConfig) -> Looks:
    """Return what `config` asks for, less where its budget is too short for it; neither influences the training.

    >>> planned_looks(TrainingConfig(budget="12s")), planned_looks(TrainingConfig(budget="3min"))
    (Looks(evaluations=2, previews=0), Looks(evaluations=20, previews=4))
    """
    if config.steps is not None or config.budget is None:
        return Looks(config.evaluations, config.previews)
    seconds = parse_duration(config.budget)
    return Looks(
        min(config.evaluations, max(1, int(seconds / _SECONDS_PER_EVALUATION))),
        min(config.previews, int(seconds / _SECONDS_PER_PREVIEW)),
    )


def make_plan(
    decoder: Decoder, latents: torch.Tensor, schedule: BatchSchedule, config: TrainingConfig, *,
    kind: str, device: torch.device,
) -> Plan:  # fmt: skip
    """Fix precision and number of steps; where a budget is given, by timing steps on a copy of `decoder`."""
    precision = choose_precision(config, device)
    compiled = choose_compiling(config, device)
    if config.steps is not None:
        return Plan(config.steps, precision, None, compiled)
    assert config.budget is not None
    plan = Plan(_TIMED_STEPS, precision, None, compiled)
    seconds = _time_step(decoder, latents, schedule, config, kind=kind, plan=plan, device=device)
    steps = int(parse_duration(config.budget) / (_OVERHEAD * seconds))
    return replace(plan, steps=max(_MIN_STEPS, steps), seconds_per_step=seconds)


def choose_precision(config: TrainingConfig, device: torch.device) -> str:
    """Return "bfloat16" or "float32"; auto takes bfloat16 where the hardware multiplies it natively."""
    if config.precision != "auto":
        return config.precision
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    native = device.type == "cpu" and (torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
    return "bfloat16" if native else "float32"


def _time_step(
    decoder: Decoder, latents: torch.Tensor, schedule: BatchSchedule, config: TrainingConfig, *,
    kind: str, plan: Plan, device: torch.device,
) -> float:  # fmt: skip
    """Return the median seconds of a step after two that warm up; all processes of the training take it together."""
    processes = schedule.processes
    state = make_state(
        copy.deepcopy(decoder), latents, device=device,
        optimizer=choose_optimizer(config, kind), processes=processes, compiled=plan.compiled,
    )  # fmt: skip
    rates = learning_rates(config, kind)
    assert config.budget is not None
    budget = parse_duration(config.budget)
    longest = min(_TIMED_SECONDS, _TIMED_SHARE * budget)
    times: list[float] = []
    began = time.perf_counter()
    for step in range(_TIMED_STEPS):
        start = time.perf_counter()
        losses = train_step(
            state, schedule.batch(step, device=device), config, rates=rates, share=0.05, precision=plan.dtype
        )
        losses["loss"].item()  # waits for the device
        times.append(time.perf_counter() - start)
        is_least = _MIN_STEPS * min(times) > budget  # However exact the time, it will be the least number of steps.
        limit = longest if step >= 7 or is_least else _TIMED_SECONDS
        if step >= 3 and any(any_of(processes, time.perf_counter() - began > limit)):
            break
    return statistics.median(times[2:])


_FREE = tuple(f"training.{key}" for key in ("checkpoint_seconds", "previews", "evaluations", "compile", "resident"))
"""Options that do not influence the result and may differ on resuming; whether to compile is fixed by the plan."""

_ADDED = {"training.strata": 1, "training.optimizer": "adam"}
"""Options that runs of earlier versions do not name, and what those did."""


def run_config(
    store: SampleStore, decoder: DecoderConfig, config: TrainingConfig, *,
    names: Sequence[str], holdout: Sequence[str], init: str | Path | None,
) -> dict[str, Any]:  # fmt: skip
    """Return the configuration of a run as plain JSON values."""
    document = {
        **_chosen(decoder, config, holdout, init),
        "sampler": store.config.to_dict(),
        "normalize": store.normalize,
        "meshes": store.meshes,
        "samples": str(store.directory),
        "shapes": list(names),
    }
    return json.loads(json.dumps(document))  # tuples become lists, as they will be read back


def refuse_another_run(
    directory: Path, decoder: DecoderConfig, config: TrainingConfig, *,
    holdout: Sequence[str], init: str | Path | None,
) -> None:  # fmt: skip
    """Refuse what would not continue the run in `directory`, if there is one, as far as that is known without samples.

    Raises
    ------
    ValueError
        The run there has another configuration; the message names the difference.
    """
    if (directory / RUN_FILE).is_file():
        chosen = json.loads(json.dumps(_chosen(decoder, config, holdout, init)))
        began = load_document(directory)[0]["config"]
        _refuse(directory, _differences({key: began.get(key) for key in chosen}, chosen))


def _chosen(
    decoder: DecoderConfig, config: TrainingConfig, holdout: Sequence[str], init: str | Path | None
) -> dict[str, Any]:
    return {
        "decoder": asdict(decoder),
        "training": asdict(config),
        "holdout": list(holdout),
        "init": None if init is None else str(init),
    }


def _refuse(directory: Path, differences: Sequence[str]) -> None:
    if differences:
        raise ValueError(
            f"the run at {directory} was begun differently: {'; '.join(differences[:4])}. "
            "Repeat its own command to continue it, or choose a new run=DIR (init=DIR starts from an earlier run)."
        )


def continue_or_begin(
    directory: Path,
    store: SampleStore,
    config: Mapping[str, Any],
    *,
    names: Sequence[str],
    provenance: Mapping[str, Any],
    make_plan: Callable[[], Plan],
    processes: Processes = ALONE,
) -> tuple[Plan, tuple[RunShape, ...]]:
    """Return plan and shapes of the run that is in `directory`, or write those of a new one.

    `make_plan` is called in all of `processes`; the first one's plan holds.

    Raises
    ------
    ValueError
        The run there has another configuration or was trained on other meshes; the message names the difference.
    """
    shapes = tuple(_run_shape(store, name) for name in names)
    if do_first(processes, (directory / RUN_FILE).is_file):
        document, known = load_document(directory)
        differences = _differences(document["config"], config)
        differences += [
            f"the mesh of {a.name} has changed" for a, b in zip(known, shapes, strict=False)
            if a.name == b.name and a.content_hash != b.content_hash
        ]  # fmt: skip
        _refuse(directory, differences)
        return Plan(**document["plan"]), known
    plan = make_plan()

    def begin() -> dict[str, Any]:
        content = {"config": config, "plan": plan.to_dict(), "versions": _versions(processes), **provenance}
        save_document(directory, content, shapes)
        return plan.to_dict()

    return Plan(**do_first(processes, begin)), shapes


def changed_versions(directory: Path, processes: Processes = ALONE) -> list[str]:
    """Return what a result to the bit depends on and has changed since the run began, as `torch was A, is B`."""
    began, now = load_document(directory)[0].get("versions", {}), _versions(processes)
    return [f"{key} was {began[key]}, is {now[key]}" for key in now if began.get(key, now[key]) != now[key]]


def _versions(processes: Processes) -> dict[str, Any]:
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "processes": processes.count,
    }


def _run_shape(store: SampleStore, name: str) -> RunShape:
    shape = store.shapes[store.index_of(name)]
    source = str(Path(store.meshes) / shape.source)
    count = shape.report.get("num_components")
    return RunShape(name, shape.similarity, source, shape.content_hash, shape.closed, store.thickness, count)


def _differences(old: Mapping[str, Any], new: Mapping[str, Any], where: str = "") -> list[str]:
    """Return what differs, as `key was A, now B`."""
    found: list[str] = []
    for key in dict.fromkeys([*old, *new]):
        name = f"{where}{key}"
        before, after = old.get(key, _ADDED.get(name)), new.get(key)
        if name in _FREE or before == after or name in ("samples", "meshes"):
            continue
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            found += _differences(before, after, f"{name}.")
        elif isinstance(before, list) and isinstance(after, list) and len(str(before)) + len(str(after)) > 120:
            gone = [str(item) for item in before if item not in after]
            added = [str(item) for item in after if item not in before]
            found.append(f"{name} lost {_short(gone)} and gained {_short(added)}")
        else:
            found.append(f"{name} was {before}, now {after}")
    return found


def _short(items: Sequence[str]) -> str:
    return ", ".join(items[:3]) + (f" and {len(items) - 3} more" if len(items) > 3 else "") if items else "nothing"


@contextlib.contextmanager
def stop_requests() -> Iterator[list[int]]:
    """Collect SIGINT and SIGTERM in the yielded list, so that a step is never torn; a second one acts at once."""
    received: list[int] = []
    previous = {}

    def note(number: int, frame: Any) -> None:
        if received:
            raise KeyboardInterrupt
        received.append(number)

    with contextlib.suppress(ValueError):  # handlers can be set in the main thread only; elsewhere nothing to catch
        for number in (signal.SIGINT, signal.SIGTERM):
            previous[number] = signal.signal(number, note)
    try:
        yield received
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


logger = logging.getLogger(__name__)

_MAX_ROWS = 500


@dataclass(frozen=True, eq=False)
class _Training:
    """What stays the same from the first step to the last."""

    directory: Path
    shapes: tuple[RunShape, ...]
    schedule: BatchSchedule
    config: TrainingConfig
    rates: LearningRates
    plan: Plan
    device: torch.device

    @property
    def processes(self) -> Processes:
        return self.schedule.processes


def train(
    directory: str | Path,
    store: SampleStore,
    *,
    decoder: DecoderConfig,
    config: TrainingConfig,
    shapes: str | Sequence[str] = "all",
    holdout: Sequence[str] = (),
    init: str | Path | None = None,
    device: str = "cpu",
    provenance: Mapping[str, Any] | None = None,
    progress: bool = True,
    processes: Processes = ALONE,
) -> Run:
    """Train on the samples of `store` into the run `directory`, or continue the training that is there.

    Deterministic given the samples, the options, the machine, the library versions and the number of threads. With
    several processes (all call this, see `join_processes`) the same up to rounding, but for decoders with dropout.

    Parameters
    ----------
    shapes, holdout : names or globs
        Which shapes of the store to learn, and which of those to keep out.
    init : run directory, optional
        Start from its decoder, and from its codes for shapes of the same name.
    provenance : mapping, optional
        Written into `run.json` as it is (command, commit); not compared on resuming.

    Raises
    ------
    ValueError
        Nothing left to train on; the directory holds a run with another configuration; damaged files; fewer shapes
        than strata, or fewer shapes, in all or per step, than processes.
    TrainingInterrupted
        Ctrl-C; everything is saved.
    """
    directory = ensure_folder(directory)
    names = _trained_names(store, shapes, holdout)
    _check_shares(len(names), config, processes)
    learning_rates(config, decoder.kind)  # Before anything is written: it refuses a decoder without a rate.
    document_config = run_config(store, decoder, config, names=names, holdout=holdout, init=init)
    torch_device = torch.device(device)
    keep_freed_memory()
    with torch.random.fork_rng(devices=[torch_device] if torch_device.type == "cuda" else []):
        torch.manual_seed(config.seed)
        network = build_decoder(decoder)
        latents = first_latents(len(names), decoder.latent_size, config)
        resumes = do_first(processes, (directory / STATE_FILE).is_file)
        if init is not None and not resumes:  # A saved state needs no start any more.
            latents = start_from(load_run(init), names, latents, network)
        num_surface = config.gradient_points if config.normal_weight > 0 else 0
        indices = tuple(store.index_of(name) for name in names)
        schedule = BatchSchedule(
            store, indices, config.batch_shapes, config.batch_points, num_surface, config.seed, config.strata, processes
        )
        schedule = _keep_samples(schedule, config, torch_device)
        before = torch.get_rng_state()
        plan, run_shapes = continue_or_begin(
            directory,
            store,
            document_config,
            names=names,
            provenance=provenance or {},
            make_plan=lambda: make_plan(network, latents, schedule, config, kind=decoder.kind, device=torch_device),
            processes=processes,
        )
        torch.set_rng_state(before)  # timing the plan may have drawn
        optimizer, compiled = choose_optimizer(config, decoder.kind), plan.compiled
        state = make_state(
            network, latents, device=torch_device, optimizer=optimizer, processes=processes, compiled=compiled
        )
        if resumes:
            load_state(directory, state)
        rates = learning_rates(config, decoder.kind, steps=plan.steps)
        training = _Training(directory, run_shapes, schedule, config, rates, plan, torch_device)
        _run_steps(training, state, progress=progress and processes.is_first)
    wait_for_all(processes)  # The first has saved.
    return load_run(directory, device=device)


def _trained_names(store: SampleStore, shapes: str | Sequence[str], holdout: Sequence[str]) -> tuple[str, ...]:
    chosen = select_shapes(store.names, shapes)
    kept_out = set(select_shapes(store.names, holdout)) if holdout else set()
    names = tuple(name for name in chosen if name not in kept_out)
    if not names:
        raise ValueError(f"no shape is left to train on: {len(chosen)} chosen, all of them held out")
    return names


def _keep_samples(schedule: BatchSchedule, config: TrainingConfig, device: torch.device) -> BatchSchedule:
    """Return the schedule that reads from the device itself, where the samples are to be kept there."""
    indices, with_surface = schedule.indices[schedule.processes.own], schedule.num_surface > 0
    size = num_bytes(schedule.store, len(indices), with_surface=with_surface)
    if not keeps_samples(config.resident, device_type=device.type, num_bytes=size, free_bytes=free_memory(device)):
        return schedule
    resident = load_resident(schedule.store, indices, with_surface=with_surface, device=device)
    logger.info("the samples (%.1f GB) are kept on %s", size / 1e9, device)
    return replace(schedule, resident=resident)


def _check_shares(num_shapes: int, config: TrainingConfig, processes: Processes) -> None:
    """Refuse strata without a shape, and processes that would own none or hardly ever see one."""
    if config.strata > num_shapes:
        raise ValueError(f"training.strata={config.strata} is more than there are shapes ({num_shapes})")
    if processes.count > min(num_shapes, config.batch_shapes):
        raise ValueError(
            f"{processes.count} processes cannot share {num_shapes} shapes, {config.batch_shapes} in each step: every "
            "process needs one of them. Start fewer processes or raise training.batch_shapes"
        )


def _run_steps(training: _Training, state: TrainingState, *, progress: bool) -> None:
    """Take the steps that remain, recording and saving on the way."""
    plan, directory = training.plan, training.directory
    if state.step >= plan.steps:
        logger.info("the run at %s is complete (%d steps); nothing to do", directory, plan.steps)
        _save(training, state)
        return
    if state.step:
        logger.info("continuing %s at step %d of %d", directory, state.step, plan.steps)
        for change in changed_versions(directory, training.processes):
            logger.warning("%s: the result will not be to the bit what one undisturbed run gives", change)
    processes = training.processes
    recorder = Recorder(directory, step=state.step) if processes.is_first else None
    bar = tqdm(total=plan.steps, initial=state.step, desc="training", unit="step", disable=not progress, smoothing=0.05)
    saved = time.monotonic()
    with recorder or contextlib.nullcontext(), bar, logging_redirect_tqdm(), stop_requests() as received:
        state.decoder.train()
        while state.step < plan.steps:
            set_random_state(processes, seed=training.config.seed, step=state.step, device=training.device)
            batch = training.schedule.batch(state.step, device=training.device)
            losses = train_step(
                state, batch, training.config,
                rates=training.rates, share=state.step / plan.steps, precision=plan.dtype,
            )  # fmt: skip
            state.step += 1
            _record(training, state, losses, recorder, bar)
            bar.update()
            last = state.step == plan.steps
            is_time = processes.is_first and time.monotonic() - saved > training.config.checkpoint_seconds
            stop, save = any_of(processes, bool(received), is_time)
            if last or stop or save:
                if recorder is not None:
                    recorder.flush()
                _save(training, state)
                saved = time.monotonic()
            if stop and not last:
                raise TrainingInterrupted(
                    f"stopped at step {state.step} of {plan.steps}; all of it is saved in {directory}. "
                    "Repeat the same command to go on."
                )


def _record(
    training: _Training, state: TrainingState, losses: Mapping[str, torch.Tensor], recorder: Recorder | None, bar: tqdm
) -> None:
    """Write a row, measure and draw where this step is due: the first process does, all give it their codes."""
    steps, config, step = training.plan.steps, training.config, state.step
    looks = planned_looks(config)
    measured = _is_due(step, steps, looks.evaluations)
    if not (measured or _is_due(step, steps, _MAX_ROWS)):
        return
    values = {name: float(loss) for name, loss in losses.items()}
    values["learning_rate"] = state.decoder_rate
    if not torch.isfinite(losses["loss"]):
        raise ValueError(
            f"the loss is {values['loss']} at step {step}: the training has diverged. "
            f"Lower training.learning_rate (it is {training.rates.decoder:g}) and choose a new run=DIR."
        )
    drawn = bool(looks.previews) and _is_due(step, steps, looks.previews)
    latents = whole_latents(state) if measured or drawn else None
    if recorder is None:
        return
    if measured:
        assert latents is not None
        schedule = training.schedule
        values[SURFACE_ERROR] = surface_error(state.decoder, latents, schedule.store, schedule.indices)
    recorder.write(step, values)
    measured_so_far = "" if recorder.surface_error is None else f", surface error {recorder.surface_error:.3f} %"
    bar.set_postfix_str(f"loss {values['sdf']:.5f}{measured_so_far}", refresh=False)
    if drawn:
        assert latents is not None
        path = training.directory / "previews" / f"step_{step:07d}.png"
        save_preview(state.decoder, latents, tuple(shape.name for shape in training.shapes), path)


def _is_due(step: int, steps: int, times: int) -> bool:
    """Tell whether `step` ends one of `times` equal shares of `steps`."""
    return step * times // steps != (step - 1) * times // steps


def _save(training: _Training, state: TrainingState) -> None:
    latents = whole_latents(state)
    save_state(training.directory, state, latents=latents)
    if latents is not None:
        save_model(training.directory, decoder_state=state.decoder.state_dict(), latents=latents, step=state.step)
