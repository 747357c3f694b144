"""Runs the training program of a checkout of facebookresearch/DeepSDF as it stands, on our samples and on the CPU.

Nothing of it is copied: its `main_function` runs from the checkout. Redirected are `.cuda()` (stays where it is), the
samples (its own loader, but from memory instead of a file read for each step) and the learning rates (its own schedule,
asked for the epoch that corresponds to the share of the time budget used). Our samples are written in its format, one
epoch is one step over all shapes, and its own snapshots are what an interrupted training continues from.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import json
import random
import sys
import time
import types
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor

from sdfnet.fields import Accuracy, Field
from sdfnet.files import write_atomic
from sdfnet.geometry.bounds import UNIT_BOUNDS
from sdfnet.sampling import SampleStore

SPECS = Path("examples/chairs/specs.json")
PROGRESS_FILE = "progress.csv"
SAVE_SECONDS = 30.0


OnMark = Callable[[int, float, torch.nn.Module, Tensor], None]
"""Called with steps done, seconds, the network and the table of codes."""


class _Finished(Exception):
    """The time is used up."""


@dataclass
class Clock:
    """Seconds of training: what is done while paused does not count.

    Attributes
    ----------
    seconds : float
        Up to the last `read`.
    """

    seconds: float = 0.0
    _since: float | None = field(default=None, repr=False)

    def start(self) -> None:
        self._since = time.perf_counter()

    def read(self) -> float:
        """Add what passed since the last start or read, if it runs, and return the sum."""
        if self._since is not None:
            now = time.perf_counter()
            self.seconds += now - self._since
            self._since = now
        return self.seconds

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        self.read()
        self._since = None
        yield
        self.start()


@dataclass(frozen=True)
class ScaledSchedule:
    """A learning-rate schedule over epochs, asked by share of the time instead.

    Attributes
    ----------
    schedule : object with get_learning_rate(epoch)
    num_epochs : int
        The epochs that the whole time stands for.
    share : function
        How much of the time is used, 0 to 1.
    """

    schedule: Any
    num_epochs: int
    share: Callable[[], float]

    def get_learning_rate(self, epoch: int) -> float:
        return self.schedule.get_learning_rate(int(min(1.0, self.share()) * (self.num_epochs - 1)))


class PeerField(Field):
    """One shape of a network of the checkout, which takes rows of code and point: unit frame, approximate."""

    accuracy: Accuracy = "approximate"

    def __init__(self, decoder: torch.nn.Module, latent: Tensor) -> None:
        self.bounds = UNIT_BOUNDS
        self._decoder = decoder.eval()
        self._latent = latent.detach()

    def __call__(self, points: Tensor) -> Tensor:
        flat = points.reshape(-1, 3).to(self._latent)
        rows = torch.cat([self._latent.expand(len(flat), -1), flat], dim=1)
        return self._decoder(rows).reshape(points.shape[:-1]).to(points)


@dataclass(frozen=True)
class Experiment:
    """One training of the checkout's network.

    Attributes
    ----------
    folder : Path
        Holds its specifications, samples, snapshots and progress.
    checkout : Path
    batch_points : int
        Points per shape and step.
    seconds : float
        Training time.
    """

    folder: Path
    checkout: Path
    batch_points: int
    seconds: float

    @property
    def specs(self) -> dict[str, Any]:
        return json.loads((self.checkout / SPECS).read_text(encoding="utf-8"))

    def prepare(self, store: SampleStore, names: Sequence[str]) -> None:
        """Write specifications and samples where the checkout's program looks for them."""
        samples = self.folder / "data" / "SdfSamples" / "sdfnet" / "shapes"
        samples.mkdir(parents=True, exist_ok=True)
        for number, name in enumerate(names):
            path = samples / f"{number:05d}.npz"
            if not path.is_file():
                rows = store.read(store.index_of(name), 0, store.num_samples)
                np.savez(path, pos=rows[rows[:, 3] > 0], neg=rows[rows[:, 3] <= 0])
        split = {"sdfnet": {"shapes": [f"{number:05d}" for number in range(len(names))]}}
        write_atomic(self.folder / "split.json", json.dumps(split))
        changed = {
            "Description": "shapes of sdfnet",
            "DataSource": str(self.folder / "data"),
            "TrainSplit": str(self.folder / "split.json"),
            "ScenesPerBatch": len(names),
            "SamplesPerScene": self.batch_points,
            "DataLoaderThreads": 0,
            "NumEpochs": 10**7,
            "SnapshotFrequency": 10**7,
            "AdditionalSnapshots": [],
            "LogFrequency": 1,  # `_Watcher` lets it save now and then only.
        }
        write_atomic(self.folder / "specs.json", json.dumps(self.specs | changed))

    def train(self, on_mark: OnMark, marks: Sequence[float]) -> None:
        """Train, or go on; call `on_mark(steps, seconds, decoder, latents)` when the clock first reaches each mark."""
        steps, seconds = self._continued()
        if seconds >= self.seconds:
            return
        clock = Clock(seconds)
        watcher = _Watcher(self, clock, steps, [mark for mark in sorted(marks) if mark > seconds], on_mark)
        torch.manual_seed(steps)
        random.seed(steps)
        with contextlib.ExitStack() as stack:
            program, data = stack.enter_context(imported(self.checkout, "train_deep_sdf", "deep_sdf.data"))
            loader, schedules = data.SDFSamples, program.get_learning_rate_schedules
            scale = functools.partial(ScaledSchedule, num_epochs=self.specs["NumEpochs"], share=self._share_of(clock))
            replaced = watcher.replacements(program) | {
                "get_learning_rate_schedules": lambda specs: [scale(each) for each in schedules(specs)]
            }
            stack.enter_context(mock.patch.multiple(program, **replaced))
            stack.enter_context(
                mock.patch.object(data, "SDFSamples", lambda *args, **keys: loader(*args, **keys | {"load_ram": True}))
            )
            stack.enter_context(contextlib.suppress(_Finished))
            clock.start()
            program.main_function(str(self.folder), "latest" if steps else None, 1)

    def load(self, snapshot: Path) -> list[PeerField]:
        """Return the fields of a snapshot, in the order of the shapes."""
        with imported(self.checkout, "networks.deep_sdf_decoder") as (network,):
            decoder = network.Decoder(self.specs["CodeLength"], **self.specs["NetworkSpecs"])
        state = torch.load(snapshot)
        decoder.load_state_dict(state["decoder"])
        return [PeerField(decoder, latent) for latent in state["latents"]]

    def _share_of(self, clock: Clock) -> Callable[[], float]:
        return lambda: clock.seconds / self.seconds

    def _continued(self) -> tuple[int, float]:
        """Return the step of its last snapshot and the seconds up to it; later rows of the progress go."""
        latest, path = self.folder / "ModelParameters" / "latest.pth", self.folder / PROGRESS_FILE
        if not latest.is_file():
            write_atomic(path, "step,seconds\n")
            return 0, 0.0
        step = int(torch.load(latest)["epoch"])
        rows = [row for row in path.read_text(encoding="utf-8").splitlines()[1:] if int(row.split(",")[0]) <= step]
        write_atomic(path, "".join(f"{row}\n" for row in ("step,seconds", *rows)))
        return step, float(rows[-1].split(",")[1])


@dataclass
class _Watcher:
    """Looks on after each of the program's epochs: reads the clock, calls at marks, lets it save, ends it."""

    experiment: Experiment
    clock: Clock
    steps: int
    ahead: list[float]
    on_mark: OnMark
    latents: Tensor | None = None
    saved: float = 0.0
    saves: bool = False

    def replacements(self, program: types.ModuleType) -> dict[str, Callable[..., Any]]:
        """Return what takes the place of functions of `program`; all but the rare saving call the original."""
        self.saved = self.clock.seconds

        def magnitude(table: torch.nn.Embedding, *, original: Any = program.get_mean_latent_vector_magnitude) -> Tensor:
            self.latents = table.weight
            return original(table)

        def parameters(
            log: dict[str, list[float]],
            decoder: torch.nn.Module,
            *,
            original: Any = program.append_parameter_magnitudes,
        ) -> None:
            original(log, decoder)
            self._after_step(decoder)

        def rare(original: Callable[..., None]) -> Callable[..., None]:
            return lambda *args: original(*args) if self.saves else None

        saving = ("save_model", "save_optimizer", "save_latent_vectors", "save_logs")
        return {name: rare(getattr(program, name)) for name in saving} | {
            "get_mean_latent_vector_magnitude": magnitude,
            "append_parameter_magnitudes": parameters,
        }

    def _after_step(self, decoder: torch.nn.Module) -> None:
        self.steps += 1
        seconds = self.clock.read()
        assert self.latents is not None
        due = [mark for mark in self.ahead if mark <= seconds]
        if due:
            self.ahead = self.ahead[len(due) :]
            with self.clock.paused():
                self.on_mark(self.steps, seconds, decoder, self.latents)
        if seconds >= self.experiment.seconds:
            raise _Finished
        self.saves = seconds - self.saved >= SAVE_SECONDS
        if self.saves:
            self.saved = seconds
            with open(self.experiment.folder / PROGRESS_FILE, "a", encoding="utf-8") as file:
                file.write(f"{self.steps},{seconds:.3f}\n")


@contextlib.contextmanager
def imported(checkout: Path, *names: str) -> Iterator[list[types.ModuleType]]:
    """Import modules of the checkout with `.cuda()` doing nothing, and forget them afterwards."""
    if not (checkout / "train_deep_sdf.py").is_file():
        raise ValueError(f"{checkout} is not a checkout of facebookresearch/DeepSDF: it has no train_deep_sdf.py")
    here = lambda self, *args, **keys: self  # noqa: E731
    with contextlib.ExitStack() as stack:
        stack.enter_context(mock.patch.object(torch.Tensor, "cuda", here))
        stack.enter_context(mock.patch.object(torch.nn.Module, "cuda", here))
        stack.enter_context(mock.patch.object(sys, "path", [str(checkout), *sys.path]))
        stack.callback(_forget, checkout, frozenset(sys.modules))
        stack.enter_context(warnings.catch_warnings(action="ignore", category=FutureWarning))
        with contextlib.suppress(ImportError):
            importlib.import_module("plyfile")
        if "plyfile" not in sys.modules:  # It only writes meshes, which is not asked for.
            sys.modules["plyfile"] = types.ModuleType("plyfile")
            stack.callback(sys.modules.pop, "plyfile")
        yield [importlib.import_module(name) for name in names]


def _forget(checkout: Path, known: frozenset[str]) -> None:
    """Drop the modules of the checkout; those of other libraries stay, because native ones load only once."""
    for name in sorted(set(sys.modules) - known):
        if str(getattr(sys.modules[name], "__file__", None) or "").startswith(str(checkout)):
            del sys.modules[name]
