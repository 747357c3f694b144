"""The state of a training, and the two files in the run directory that store it.

`run.json` holds the settings and the plan. It is written before the first step and compared on resuming.
`state.safetensors` holds weights, codes, the moments of the optimizers, the random state and the step. A training that
resumes from this file gives the same bits as one that never stopped (same machine, versions and thread count).
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from sdfnet.decoders import Decoder, DecoderConfig, LearningRates, decoder_kind, recorded_decoder_config
from sdfnet.decoders.registry import OptimizerKind
from sdfnet.runs import RUN_FILE, Run, RunShape, load_document, load_tensors, save_document, save_model, save_tensors
from sdfnet.runs.folder import setting_differences
from sdfnet.sampling import SampleStore
from sdfnet.training.config import TrainingConfig, learning_rates, with_tuned_weights
from sdfnet.training.distributed import ALONE, Processes, do_first, gather_rows
from sdfnet.training.optimizers import Adam, Muon, Optimizer, muon_groups
from sdfnet.training.schedule import RateKind

STATE_FILE = "state.safetensors"

_VECTOR_SHARE = 0.36
"""If Muon moves the decoder's matrices, Adam moves the decoder's vectors at this share of the decoder's rate."""

_MAY_DIFFER = {
    *("samples", "meshes"),
    *(f"training.{key}" for key in ("checkpoint_seconds", "previews", "evaluations", "compile", "resident")),
}
"""Settings that may differ on resuming, because they do not influence the result. The plan fixes whether to compile."""

_EARLIER_DEFAULTS = {"training.strata": 1, "training.optimizer": "adam"}
"""Settings that are missing in runs of earlier versions, with the values that those versions used."""

_EARLIER_TRAINING = {
    "prior_weight": 1e-4,
    "prior_warmup_steps": 0,
    "normal_weight": 0.0,
    "normal_start": 0.0,
    "gradient_points": 1024,
}
"""The defaults of training before decoders brought a normal term and a rising prior."""


_Options = TypeVar("_Options", DecoderConfig, TrainingConfig)


@dataclass(frozen=True)
class Plan:
    """Decisions that are made before the first step and written into `run.json`."""

    steps: int | None
    """The number of steps. If a budget was given, it is None until the training has ended."""
    precision: str
    """float32 or bfloat16."""
    seconds_per_step: float | None
    """Mean seconds if a budget was given, else None. It is None until the training has ended."""
    compiled: bool = False
    """Whether the decoder is compiled."""
    follows_clock: bool = False
    """Whether the schedule follows the clock. Runs of earlier versions with a budget have a fixed number of steps."""
    rate_kind: RateKind = "cosine"
    """How the learning rates fall. Runs of earlier versions do not name it."""


@dataclass(eq=False)
class TrainingState:
    """The moving parts of a training."""

    decoder: Decoder
    latents: nn.Parameter
    """(S', L) float32: the codes of the shapes that this process owns. A single process owns all S codes."""
    optimizers: tuple[Optimizer, ...]
    """Adam, or Muon for the decoder's matrices followed by Adam.

    A group's `role` names its rate in LearningRates, and `share` is a factor on this rate."""
    num_shapes: int
    """S, the number of shapes of all processes."""
    condition: Callable[[Tensor], tuple[Tensor, ...]]
    decode: Callable[[Tensor, tuple[Tensor, ...]], Tensor]
    """The two steps of the decoder that training calls: its own methods, or compiled versions of them."""
    processes: Processes = ALONE
    step: int = 0
    seconds: float = 0.0
    """The part of the budget that was used when the state was saved. Stays 0 where the steps are given."""

    @property
    def decoder_rate(self) -> float:
        """The decoder's learning rate in the last step."""
        return float(self.optimizers[0].param_groups[0]["lr"])


def make_state(
    decoder: Decoder,
    latents: Tensor,
    device: torch.device,
    optimizer: OptimizerKind,
    processes: Processes = ALONE,
    compiled: bool = False,
) -> TrainingState:
    """Move `decoder` and the process's own rows of `latents` (S, L) to `device` and make their optimizers.

    With "muon" as `optimizer`, Muon moves the decoder's matrices, and Adam moves all other parameters. If `compiled`,
    only the two functions that training calls are compiled, not the decoder itself. Measurements and previews use other
    numbers of points, and every new number would need another compilation.
    """
    decoder.to(device)
    parameter = nn.Parameter(latents.detach()[processes.own].clone().to(device))
    matrices = muon_groups(decoder) if optimizer == "muon" else {}
    by_muon = {id(weights) for group in matrices.values() for weights in group}
    others = [weights for weights in decoder.parameters() if id(weights) not in by_muon]
    adam = Adam(
        [
            {"params": others, "role": "decoder", "share": _VECTOR_SHARE if matrices else 1.0},
            {"params": [parameter], "role": "latents", "share": 1.0},
        ]
    )
    optimizers: tuple[Optimizer, ...] = (adam,)
    if matrices:
        groups = [
            {"params": group, "stride": stride, "role": "decoder", "share": 1.0} for stride, group in matrices.items()
        ]
        optimizers = (Muon(groups), adam)
    condition, decode = decoder.condition, decoder.decode
    if compiled:
        condition, decode = torch.compile(condition), torch.compile(decode)
    return TrainingState(decoder, parameter, optimizers, len(latents), condition, decode, processes)


def whole_latents(state: TrainingState) -> Tensor | None:
    """Return all codes (S, L) in the first process and None in the others. All processes must call this together."""
    return gather_rows(state.processes, state.latents, state.num_shapes)


def first_latents(num_shapes: int, latent_size: int, config: TrainingConfig) -> Tensor:
    """Draw the first codes, (S, L), from N(0, latent_std²) with the configured seed."""
    generator = torch.Generator().manual_seed(config.seed)
    return config.latent_std * torch.randn(num_shapes, latent_size, generator=generator)


def start_from(run: Run, names: tuple[str, ...], fresh: Tensor, decoder: Decoder, *, config: DecoderConfig) -> Tensor:
    """Copy the weights of `run` into `decoder`, and return codes (S, L). New names start near the run's mean code."""
    began = recorded_decoder_config(run.document["config"]["decoder"])
    if began != config:
        raise ValueError(f"init={run.directory} has another decoder ({began}); train with the same decoder options")
    decoder.load_state_dict(run.decoder.state_dict())
    latents = fresh + run.latents.mean(dim=0).cpu()
    for row, name in enumerate(names):
        if name in run.names:
            latents[row] = run.latent(name)
    return latents


def set_learning_rates(state: TrainingState, rates: LearningRates, *, factor: float) -> None:
    """Set the rates for one step: `rates` times `factor`."""
    for optimizer in state.optimizers:
        for group in optimizer.param_groups:
            group["lr"] = getattr(rates, group["role"]) * group["share"] * factor


def save_state(directory: Path, state: TrainingState) -> None:
    """Write `state.safetensors` and the model in `directory`, each whole or not at all.

    The first process writes these files. The other processes send their own codes and the moments of these codes to it.
    The files are the same for any number of processes.
    """
    latents = whole_latents(state)
    adam = state.optimizers[-1]
    moments = {
        key: gather_rows(state.processes, moment, state.num_shapes)
        for key, moment in adam.state.get(state.latents, {}).items()
        if key != "step"
    }
    if latents is None:
        return
    weights = state.decoder.state_dict()
    tensors: dict[str, Tensor] = {f"decoder.{name}": tensor for name, tensor in weights.items()}
    tensors["latents"] = latents
    tensors["random.cpu"] = torch.get_rng_state()
    if state.latents.is_cuda:
        tensors["random.cuda"] = torch.cuda.get_rng_state(state.latents.device)
    for number, (optimizer, parameter) in enumerate(_moved(state)):
        for key, kept in optimizer.state.get(parameter, {}).items():
            whole = moments.get(key) if parameter is state.latents else None
            tensors[f"optimizer.{number}.{key}"] = kept if whole is None else whole
    metadata = {"step": str(state.step)} | ({"seconds": f"{state.seconds:.6g}"} if state.seconds else {})
    save_tensors(directory / STATE_FILE, tensors, metadata=metadata)
    save_model(directory, decoder_state=state.decoder.saved_weights(), latents=latents, step=state.step)


def load_state(directory: Path, state: TrainingState) -> None:
    """Fill `state` from `state.safetensors` and set the random state."""
    path = directory / STATE_FILE
    tensors, metadata = load_tensors(path)
    try:
        _fill(state, tensors)
        state.step = int(metadata["step"])
        state.seconds = float(metadata.get("seconds", "0"))
    except (KeyError, RuntimeError, ValueError) as error:
        raise ValueError(f"{path} does not fit this run ({error}). Restore it from a copy or train again.") from error


def _fill(state: TrainingState, tensors: Mapping[str, Tensor]) -> None:
    if len(tensors["latents"]) != state.num_shapes:
        raise ValueError(f"it has {len(tensors['latents'])} codes, expected {state.num_shapes}")
    own = state.processes.own
    weights = {name.removeprefix("decoder."): t for name, t in tensors.items() if name.startswith("decoder.")}
    state.decoder.load_state_dict(weights)
    with torch.no_grad():
        state.latents.copy_(tensors["latents"][own])
    for number, (optimizer, parameter) in enumerate(_moved(state)):
        prefix, rows = f"optimizer.{number}.", own if parameter is state.latents else slice(None)
        kept = {key.removeprefix(prefix): tensor for key, tensor in tensors.items() if key.startswith(prefix)}
        if kept:
            optimizer.state[parameter] = {
                # In the parameter's own memory format, as the optimizer makes them: its kernel reads both in step.
                key: torch.empty_like(parameter).copy_(tensor[rows]) if tensor.ndim else tensor.to(parameter.device)
                for key, tensor in kept.items()
            }
    torch.set_rng_state(tensors["random.cpu"])
    if "random.cuda" in tensors and state.latents.is_cuda:
        torch.cuda.set_rng_state(tensors["random.cuda"], state.latents.device)


def _moved(state: TrainingState) -> list[tuple[Optimizer, Tensor]]:
    """Return pairs of an optimizer and a parameter that it moves, in a fixed order."""
    return [
        (optimizer, parameter)
        for optimizer in state.optimizers
        for group in optimizer.param_groups
        for parameter in group["params"]
    ]


def refuse_another_run(
    directory: str | Path, decoder: DecoderConfig | None, config: TrainingConfig, *,
    holdout: Sequence[str] = (), init: str | Path | None = None,
) -> None:  # fmt: skip
    """Refuse settings that cannot train or that do not fit the run in `directory`. No samples are needed.

    Raises
    ------
    ValueError
        The run there has another configuration (the message names the difference), or no learning rate is known.

    >>> from sdfnet.decoders import VolumeConfig
    >>> refuse_another_run("runs/new", VolumeConfig(), TrainingConfig(budget="1min"))  # nothing is there: no complaint
    """
    known = known_decoder(directory, init)
    if decoder is None and known is None:  # It is chosen when the shapes are known.
        return
    decoder = decoder or recorded_decoder_config(known or {})
    learning_rates(config, decoder.kind)
    if (Path(directory) / RUN_FILE).is_file():
        decoder, config = with_earlier_defaults(directory, decoder, config)
        chosen = chosen_settings(decoder, config, holdout=holdout, init=init)
        began = load_document(directory)[0]["config"]
        _refuse_differences(directory, {key: began.get(key) for key in chosen}, chosen)


def with_earlier_defaults(
    directory: str | Path, decoder: DecoderConfig, config: TrainingConfig
) -> tuple[DecoderConfig, TrainingConfig]:
    """Return the options, with earlier defaults in place of today's if an earlier version began the run in `directory`.

    So the command that began a training also finishes it. A run tells its age by options that it does not name.

    >>> with_earlier_defaults("runs/new", DecoderConfig("siren", 8), TrainingConfig())[1] == TrainingConfig()
    True
    """
    earlier = decoder_kind(decoder.kind).earlier
    if not (earlier and (Path(directory) / RUN_FILE).is_file()):
        return decoder, config
    document = load_document(directory)[0]["config"]
    began = document["decoder"]
    if began["kind"] != decoder.kind or earlier.keys() <= began.keys():
        return decoder, config
    if not _EARLIER_TRAINING.keys() <= document["training"].keys():
        config = _replaced_defaults(config, _EARLIER_TRAINING)
    return _replaced_defaults(decoder, earlier), config


def _replaced_defaults(options: _Options, earlier: Mapping[str, Any]) -> _Options:
    """Return `options` with the values `earlier` of those that stand at today's defaults."""
    today = {field.name: field.default for field in fields(options)}
    return replace(options, **{key: value for key, value in earlier.items() if getattr(options, key) == today[key]})


def known_decoder(directory: str | Path, init: str | Path | None) -> dict[str, Any] | None:
    """Return the decoder's options of the run in `directory`, else of the run `init`; None where there is neither.

    >>> known_decoder("runs/new", "runs/chairs")["kind"]
    'volume'
    """
    for folder in (directory, init):
        if folder is not None and (Path(folder) / RUN_FILE).is_file():
            options: dict[str, Any] = load_document(folder)[0]["config"]["decoder"]
            return options
    return None


def chosen_settings(
    decoder: DecoderConfig, config: TrainingConfig, *, holdout: Sequence[str], init: str | Path | None
) -> dict[str, Any]:
    """Return the settings of a training that are known without its samples, as JSON values."""
    return {
        "decoder": asdict(decoder),
        "training": asdict(with_tuned_weights(config, decoder.kind)),
        "holdout": list(holdout),
        "init": None if init is None else str(init),
    }


def _refuse_differences(
    directory: str | Path, began: Mapping[str, Any], now: Mapping[str, Any], changed: Sequence[str] = ()
) -> None:
    earlier = decoder_kind(now["decoder"]["kind"]).earlier
    unnamed = _EARLIER_DEFAULTS | {f"training.{key}": value for key, value in _EARLIER_TRAINING.items()}
    unnamed |= {f"decoder.{key}": value for key, value in earlier.items()}
    differences = setting_differences(began, now, ignored=_MAY_DIFFER, unnamed=unnamed)
    if differences := [*differences, *changed]:
        raise ValueError(
            f"the run at {directory} was begun differently: {'; '.join(differences[:4])}. "
            "Repeat its own command to continue it, or choose a new run=DIR (init=DIR starts from an earlier run)."
        )


def open_run(
    directory: Path,
    store: SampleStore,
    names: Sequence[str],
    *,
    settings: Mapping[str, Any],
    make_plan: Callable[[], Plan],
    provenance: Mapping[str, Any],
    processes: Processes = ALONE,
) -> Plan:
    """Return the plan of the run in `directory`. If there is no run, make a plan and write `run.json`.

    All processes call `make_plan` together, and use the plan of the first process. The settings of the store are added
    to `settings`. A run with other settings or other meshes is refused. `provenance` is written unchanged and never
    compared.
    """
    settings = {
        **settings,
        "sampler": store.config.to_dict(),
        "normalize": store.normalize,
        "meshes": store.meshes,
        "samples": str(store.directory),
        "shapes": list(names),
    }
    shapes = tuple(_run_shape(store, name) for name in names)
    if do_first(processes, (directory / RUN_FILE).is_file):
        document, known = load_document(directory)
        earlier = {shape.name: shape for shape in known}
        changed = [text for shape in shapes if (text := _change(earlier.get(shape.name, shape), shape))]
        _refuse_differences(directory, document["config"], settings, changed)
        return Plan(**document["plan"])
    plan = make_plan()

    def write() -> dict[str, Any]:
        content = {"config": settings, "plan": asdict(plan), "versions": _versions(processes), **provenance}
        save_document(directory, content, shapes)
        return asdict(plan)

    return Plan(**do_first(processes, write))


def _change(before: RunShape, now: RunShape) -> str:
    """Return in words what is different about the source of a shape, or nothing."""
    if before.rule != now.rule:
        return f"the mesh of {now.name} was learned with {before.rule}, its samples are of {now.rule}"
    if before.content_hash != now.content_hash:
        return f"the mesh of {now.name} has changed"
    if before.solid_hash and now.solid_hash and before.solid_hash != now.solid_hash:
        return f"the mesh of {now.name} is read as another solid by this version"
    return ""


def close_run(directory: Path, plan: Plan) -> None:
    """Write the `plan` of a training that has ended into `run.json`, if it is another than the one there."""
    document, shapes = load_document(directory)
    if document["plan"] != asdict(plan):
        save_document(directory, {**document, "plan": asdict(plan)}, shapes)


def _run_shape(store: SampleStore, name: str) -> RunShape:
    shape = store.shapes[store.index_of(name)]
    source = str(Path(store.meshes) / shape.source)
    count = shape.report.get("num_components")
    return RunShape(
        name,
        shape.similarity,
        source,
        shape.content_hash,
        shape.closed,
        rule=store.rule,
        num_surfaces=count,
        solid_hash=shape.solid_hash,
        wall_thickness=shape.report.get("wall_thickness"),
    )


def changed_versions(directory: Path, processes: Processes = ALONE) -> list[str]:
    """Return version changes since the run began, as `torch was A, is B`. They may alter the result's bits."""
    began, now = load_document(directory)[0].get("versions", {}), _versions(processes)
    return [f"{key} was {began[key]}, is {now[key]}" for key in now if began.get(key, now[key]) != now[key]]


def _versions(processes: Processes) -> dict[str, Any]:
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "processes": processes.count,
    }
