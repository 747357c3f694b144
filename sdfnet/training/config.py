"""The options of training, and the parsing of time budgets."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from typing import Literal, get_args

from sdfnet.decoders import LearningRates, decoder_kind
from sdfnet.decoders.registry import OptimizerKind

Precision = Literal["auto", "float32", "bfloat16"]
OptimizerName = Literal["auto", "muon", "adam"]
Choice = Literal["auto"] | bool

_UNITS = {"s": 1.0, "sec": 1.0, "min": 60.0, "m": 60.0, "h": 3600.0}


@dataclass(frozen=True)
class TrainingConfig:
    """How long and how a decoder and its codes are trained. Lengths are in the unit frame.

    >>> TrainingConfig(budget="90s").batch_shapes
    8
    """

    budget: str | None = "5min"
    """Time for the training loop, such as 90s, 5min or 2h. Ignored where `steps` is given."""
    steps: int | None = None
    """Optimiser steps; None takes as many as the budget allows."""
    batch_shapes: int = 8
    """Shapes per step."""
    batch_points: int = 2048
    """Points per shape and step."""
    optimizer: OptimizerName = "auto"
    """What moves the decoder: auto takes the one that the decoder was tuned for (muon for volume, adam for others)."""
    learning_rate: float | None = None
    """Peak rate of the decoder; None takes the one tuned for the chosen decoder and optimizer."""
    latent_learning_rate: float | None = None
    """Peak rate of the codes; None takes the one tuned for the chosen decoder."""
    warmup_share: float = 0.02
    """Share of the training in which the rate rises linearly; then it stays, and falls to 0 in the last 70 %."""
    clamp_distance: float = 0.05
    """Distances beyond it need only be beyond it (DeepSDF's delta; its 0.1 leaves less of the loss to the surface)."""
    latent_std: float = 0.1
    """Standard deviation of the first codes: about what trained ones have (DeepSDF's 0.01 learns more slowly)."""
    prior_weight: float | None = None
    """Weight of the squared length of the codes (DeepSDF's 1 / sigma²); None takes the one tuned for the decoder."""
    prior_warmup_share: float = 0.1
    """Share of the training in which `prior_weight` rises from 0."""
    prior_warmup_steps: int | None = None
    """Steps in which it also rises, as the square of the step, so that short trainings learn; None: the decoder's."""
    eikonal_weight: float = 0.0
    """Weight of (|gradient| - 1)²; costs 6 more evaluations of each of `gradient_points`."""
    normal_weight: float | None = None
    """Weight of the angle (radians) of gradient and true normal on the surface, same cost; None takes the decoder's."""
    normal_start: float = 0.6
    """Share of the training before the normal term begins: late, it smooths what is learned and costs few steps."""
    gradient_points: int = 256
    """Points per shape and step at which the two gradient terms are computed."""
    curriculum: bool = False
    """Whether tolerance falls and hard samples gain weight over time (Curriculum DeepSDF)."""
    precision: Precision = "auto"
    """auto takes bfloat16 where the processor multiplies it fast."""
    strata: int = 1
    """Groups of shapes from which every step takes equally many; divides batch_shapes: docs/guides/many-machines.md."""
    compile: Choice = "auto"
    """Whether torch.compile translates the decoder; auto does on CUDA if the training is long enough to gain by it."""
    resident: Choice = "auto"
    """Whether all samples are kept on the device; auto does on CUDA if they fit into half of its free memory."""
    evaluations: int = 20
    """How often the surface error on held-out points is measured; less often where the budget is below two minutes."""
    previews: int = 4
    """How many small pictures of the shapes are drawn on the way; 0 for none. Fewer where the budget is short."""
    checkpoint_seconds: float = 60.0
    """Time between saves of the state; does not influence the result."""
    seed: int = 0
    """Fixes first weights, codes and the order of the samples."""

    def __post_init__(self) -> None:
        if self.steps is None and self.budget is None:
            raise ValueError("training needs steps=N or budget=TIME, got neither")
        if self.budget is not None:
            parse_duration(self.budget)
        if self.steps is not None and self.steps < 1:
            raise ValueError(f"steps must be at least 1, got {self.steps}")
        for name in ("batch_shapes", "batch_points", "gradient_points", "evaluations", "strata"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("learning_rate", "latent_learning_rate", "clamp_distance", "latent_std", "checkpoint_seconds"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value > 0):
                raise ValueError(f"{name} must be positive and finite, got {value}")
        for name in ("prior_weight", "prior_warmup_steps", "eikonal_weight", "normal_weight", "previews", "seed"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value >= 0):
                raise ValueError(f"{name} must be 0 or more, got {value}")
        for name in ("warmup_share", "prior_warmup_share", "normal_start"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must be in [0, 1), got {getattr(self, name)}")
        if self.batch_shapes % self.strata:
            raise ValueError(
                f"strata must divide batch_shapes, got strata={self.strata} and batch_shapes={self.batch_shapes}"
            )
        for name in ("compile", "resident"):
            if getattr(self, name) not in ("auto", True, False):
                raise ValueError(f"{name} must be auto, true or false, got {getattr(self, name)!r}")
        for name, allowed in (("precision", Precision), ("optimizer", OptimizerName)):
            if getattr(self, name) not in get_args(allowed):
                choices = ", ".join(get_args(allowed))
                raise ValueError(f"{name} must be one of {choices}, got {getattr(self, name)!r}")


_SHORTEST, _SHORT, _SHORT_POWER = 40, 120, 0.7
"""Between these numbers of steps, Muon's tuned rate is larger by (120 / steps)^0.7 (docs/notes/decoders.md)."""


def choose_optimizer(config: TrainingConfig, kind: str) -> OptimizerKind:
    """Return the optimizer of the matrices of a decoder `kind`. "auto" means the first one in the decoder's rates.

    >>> choose_optimizer(TrainingConfig(), "volume"), choose_optimizer(TrainingConfig(), "siren")
    ('muon', 'adam')
    """
    return decoder_kind(kind).default_optimizer if config.optimizer == "auto" else config.optimizer


def learning_rates(config: TrainingConfig, kind: str, *, steps: int | None = None) -> LearningRates:
    """Return the rates that `config` asks for, or those tuned for the decoder `kind` and its optimizer.

    If the rate was tuned for Muon, a training of few `steps` gets a larger rate. If no rate is known for the codes,
    they get twice the decoder's rate, as in DeepSDF.

    Raises
    ------
    ValueError
        No rate is tuned for this decoder and optimizer, and none is given.

    >>> learning_rates(TrainingConfig(), "volume"), learning_rates(TrainingConfig(learning_rate=1e-4), "siren")
    (LearningRates(decoder=0.014, latents=0.02), LearningRates(decoder=0.0001, latents=0.001))
    """
    tuned, optimizer = decoder_kind(kind).rates, choose_optimizer(config, kind)
    decoder = config.learning_rate
    if decoder is None:
        if optimizer not in tuned:
            raise ValueError(
                f"no learning rate is tuned for decoder={kind} with optimizer={optimizer}; give training.learning_rate"
            )
        length = min(max(steps or _SHORT, _SHORTEST), _SHORT) if optimizer == "muon" else _SHORT
        decoder = (_SHORT / length) ** _SHORT_POWER * tuned[optimizer].decoder
    # A code is moved by Adam, whatever moves the decoder.
    known = tuned.get(optimizer) or tuned.get("adam")
    latents = config.latent_learning_rate or (known.latents if known else 2 * decoder)
    return LearningRates(decoder, latents)


def with_tuned_weights(config: TrainingConfig, kind: str) -> TrainingConfig:
    """Return `config` with the weights and the warm-up that were tuned for the decoder `kind`, where it has None.

    >>> with_tuned_weights(TrainingConfig(), "siren").prior_weight
    0.0001
    """
    tuned = decoder_kind(kind)
    open_ones = [
        name for name in ("prior_weight", "prior_warmup_steps", "normal_weight") if getattr(config, name) is None
    ]
    return replace(config, **{name: getattr(tuned, name) for name in open_ones})


def with_length(config: TrainingConfig, *, budget: str | None, steps: int | None) -> TrainingConfig:
    """Return `config` with another budget or number of steps. If both are None, nothing changes.

    >>> with_length(TrainingConfig(steps=10), budget="3min", steps=None).steps is None
    True
    """
    if budget is not None and steps is not None:
        raise ValueError(f"give budget or steps, not both, got budget={budget!r} and steps={steps}")
    if budget is not None:
        return replace(config, budget=budget, steps=None)
    return config if steps is None else replace(config, steps=steps)


def parse_duration(text: str) -> float:
    """Return the duration `text` in seconds. `text` is a positive number followed by s, min or h.

    >>> parse_duration("5min"), parse_duration("1.5 h"), parse_duration("90s")
    (300.0, 5400.0, 90.0)
    """
    number, unit = _split_duration(text)
    return number * _UNITS[unit]


def lengthen(budget: str, factor: float) -> str:
    """Return a budget that is `factor` times as long, in the same unit.

    >>> lengthen("5min", 4), lengthen("90s", 4), lengthen("1.5 h", 4)
    ('20min', '360s', '6h')
    """
    number, unit = _split_duration(budget)
    return f"{factor * number:.12g}{unit}"


def _split_duration(text: str) -> tuple[float, str]:
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-z]+)\s*", str(text).lower())
    if match is None or match[2] not in _UNITS:
        raise ValueError(f"budget must be a number with s, min or h, such as 90s, got {text!r}")
    if float(match[1]) <= 0:
        raise ValueError(f"budget must be above 0, such as 90s, got {text!r}")
    return float(match[1]), match[2]
