"""Train with a part of the shapes held out, to measure what the latent space stands for; then train on all shapes.

The first training leaves out a seeded tenth of the shapes and takes half of the budget. Their codes are fitted, and the
errors are recorded. The second training learns all shapes in as many steps. So the run knows every shape, and its
`run.json` says how well a run like it stands for shapes that it has not seen.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from sdfnet.decoders import DecoderConfig
from sdfnet.files import write_json
from sdfnet.fitting.codes import fit_codes
from sdfnet.fitting.config import FitConfig
from sdfnet.fitting.observations.base import DistanceObservation
from sdfnet.geometry.similarity import UNIT_RADIUS
from sdfnet.runs import Run
from sdfnet.sampling import SampleStore
from sdfnet.training import TrainingConfig, decoder_for, train
from sdfnet.training.config import lengthen, with_length
from sdfnet.training.metrics import surface_errors

HOLDOUT_FOLDER = "holdout"
"""The folder inside the run that holds the first training and the errors."""

_ERRORS_FILE = "errors.json"
_LEAST_SHAPES, _LEAST_HELD_OUT, _SHARE = 20, 2, 10
_FIT = FitConfig(steps=200, num_starts=2)


def choose_holdout(names: Sequence[str], *, seed: int) -> tuple[str, ...]:
    """Return a tenth of the shapes, at least two, at random by `seed`.

    Raises
    ------
    ValueError
        There are fewer than 20 shapes.

    >>> choose_holdout([f"chair_{number:02d}" for number in range(24)], seed=0)
    ('chair_05', 'chair_20')
    """
    if len(names) < _LEAST_SHAPES:
        raise ValueError(
            f"holdout=auto needs at least {_LEAST_SHAPES} shapes, got {len(names)}; leave it out, or name the shapes"
        )
    count = max(_LEAST_HELD_OUT, len(names) // _SHARE)
    order = torch.randperm(len(names), generator=torch.Generator().manual_seed(seed))
    return tuple(sorted(names[index] for index in order[:count].tolist()))


def train_with_holdout(
    directory: str | Path,
    store: SampleStore,
    *,
    names: Sequence[str],
    decoder: DecoderConfig | None = None,
    config: TrainingConfig | None = None,
    init: str | Path | None = None,
    device: str = "cpu",
    provenance: Mapping[str, Any] | None = None,
    progress: bool = True,
) -> Run:
    """Train twice: without a tenth of the shapes `names` to measure, and then with all of them.

    The arguments are those of `sdfnet.training.train`. The run is the second one. Its `run.json` has the entry
    `held_out` with the surface error of each shape that the first one had to fit, in percent of the radius. A repeated
    call goes on where the last one stopped.

    Raises
    ------
    ValueError
        Fewer than 20 shapes, and as `train`.

    >>> train_with_holdout("runs/few", None, names=["chair_00"])
    Traceback (most recent call last):
    ...
    ValueError: holdout=auto needs at least 20 shapes, got 1; leave it out, or name the shapes
    """
    config = config or TrainingConfig()
    held_out = choose_holdout(names, seed=config.seed)
    half = config
    if config.steps is None and config.budget is not None:
        half = with_length(config, budget=lengthen(config.budget, 0.5), steps=None)
    decoder = decoder or decoder_for(directory, store, names, init=init)  # The same in both trainings.
    first = train(
        Path(directory) / HOLDOUT_FOLDER, store, decoder=decoder, config=half, shapes=names, holdout=held_out,
        init=init, device=device, provenance=provenance, progress=progress,
    )  # fmt: skip
    errors = _errors(first, store, held_out, progress=progress)
    return train(
        directory, store, decoder=decoder, config=with_length(config, budget=None, steps=first.step), shapes=names,
        init=init, device=device, provenance={**(provenance or {}), "held_out": errors}, progress=progress,
    )  # fmt: skip


def _errors(run: Run, store: SampleStore, names: Sequence[str], *, progress: bool) -> dict[str, float]:
    """Return the surface error of each held-out shape, fitted by its code. They are measured once and kept."""
    path = run.directory / _ERRORS_FILE
    if path.is_file():
        kept: dict[str, float] = json.loads(path.read_text(encoding="utf-8"))
        return kept
    indices = [store.index_of(name) for name in names]
    observations = [
        DistanceObservation(torch.from_numpy(store.read(index, 0, store.num_samples).copy())) for index in indices
    ]
    fitted = fit_codes(run, observations, config=_FIT, progress=progress)
    found = surface_errors(run.decoder, fitted.latents, store, indices)
    errors = {names[slot]: float(f"{100 * float(error) / UNIT_RADIUS:.4g}") for slot, error in found.items()}
    write_json(path, errors)
    return errors
