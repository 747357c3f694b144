"""The training of an auto-decoder: one network and one code per shape, learned together (Park et al., CVPR 2019).

`train` makes or continues a run directory. Order of events: refuse what does not fit, write `run.json` with the plan
(the run exists from here on), then steps, with the state saved now and then; a killed process continues from the last
save and ends where an undisturbed one would have.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from sdfnet.decoders import DecoderConfig, build_decoder
from sdfnet.files import ensure_folder
from sdfnet.runs import Run, RunShape, load_run, save_model, select_shapes
from sdfnet.sampling import SampleStore
from sdfnet.training.acceleration import free_memory, keeps_samples
from sdfnet.training.allocator import keep_freed_memory
from sdfnet.training.batches import BatchSchedule
from sdfnet.training.config import LearningRates, TrainingConfig, learning_rates, uses_muon
from sdfnet.training.manifest import changed_versions, continue_or_begin, run_config
from sdfnet.training.plan import Plan, make_plan, planned_looks
from sdfnet.training.processes import (
    ALONE,
    Processes,
    TrainingInterrupted,
    any_of,
    do_first,
    set_random_state,
    wait_for_all,
)
from sdfnet.training.records import SURFACE_ERROR, Recorder, save_preview, surface_error
from sdfnet.training.resident import load_resident, num_bytes
from sdfnet.training.state import (
    STATE_FILE,
    TrainingState,
    first_latents,
    load_state,
    make_state,
    save_state,
    start_from,
    whole_latents,
)
from sdfnet.training.step import train_step
from sdfnet.training.stopping import stop_requests

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
        muon, compiled = uses_muon(config, decoder.kind), plan.compiled
        state = make_state(network, latents, device=torch_device, muon=muon, processes=processes, compiled=compiled)
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
