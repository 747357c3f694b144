"""Fixing the length of a training before it begins: a time budget becomes a number of steps, once.

A few steps are timed on a copy that is thrown away; the number is written into the run, and elapsed time never enters
the schedule. So a run on a slow day learns no other way than planned, and a resumed one is the same run.
"""

from __future__ import annotations

import copy
import statistics
import time
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from sdfnet.decoders import Decoder
from sdfnet.training.acceleration import choose_compiling
from sdfnet.training.batches import BatchSchedule
from sdfnet.training.config import TrainingConfig, learning_rates, parse_duration, uses_muon
from sdfnet.training.processes import any_of
from sdfnet.training.state import make_state
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
        muon=uses_muon(config, kind), processes=processes, compiled=plan.compiled,
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
