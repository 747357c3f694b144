"""The run's `run.json` from the side of training: what is written at the start and compared on resuming."""

from __future__ import annotations

import json
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from sdfnet.decoders import DecoderConfig
from sdfnet.runs import RUN_FILE, RunShape, load_document, save_document
from sdfnet.sampling import SampleStore
from sdfnet.training.config import TrainingConfig
from sdfnet.training.plan import Plan
from sdfnet.training.processes import ALONE, Processes, do_first

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
