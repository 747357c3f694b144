"""The measurements of a training: metrics (CSV, TensorBoard), surface error, small pictures, and the verdict.

Nothing here influences the training. The CSV holds no times, so an interrupted and resumed run ends with the same file
as an undisturbed one.
"""

from __future__ import annotations

import csv
import io
import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch
from torch import Tensor

from sdfnet.decoders import Decoder, VolumeConfig
from sdfnet.decoders.template import template_jacobians
from sdfnet.extraction.extract import NoSurfaceError, extract_mesh
from sdfnet.fields import NeuralField, gradient
from sdfnet.files import write_atomic
from sdfnet.geometry.similarity import UNIT_RADIUS
from sdfnet.rendering import Renderer, contact_sheet, save_image
from sdfnet.runs import METRICS_FILE, MOST_WRONG_SIGNS, SURFACE_ERROR, WRONG_SIGNS, Run
from sdfnet.sampling import SampleStore
from sdfnet.training.config import TrainingConfig, lengthen, parse_duration
from sdfnet.training.schedule import Schedule, load_decisions

logger = logging.getLogger(__name__)

COLUMNS = ("step", "loss", "sdf", "prior", "eikonal", "normal", "learning_rate", SURFACE_ERROR, *WRONG_SIGNS)
_ERROR = COLUMNS.index(SURFACE_ERROR)
_MEASURED_SHAPES = 24
_JUDGED_SHAPES = 200
"""Largest number of shapes that the verdict measures. Each shape takes some milliseconds."""

_SECONDS_PER_EVALUATION, _SECONDS_PER_PREVIEW = 6.0, 30.0
"""A measurement takes about 0.1 s and a picture about 1 s. A budget of seconds allows only a few of them."""

_FINE, _COARSE = 0.1, 0.3
"""A mean surface error up to the first limit (percent of the radius) is fine; above the second it is coarse."""

_WORDS = {
    "fine": "fine, very close to the sources",
    "fair": "fair, close to the sources",
    "coarse": "coarse, detail is missing",
}

_FEW_VISITS = 200
"""Steps with a shape, up to which the default decoder is still learning fast."""

_ERROR_POWER = 0.8
"""A coarse error falls about with this power of the steps (16 bodies, 100 to 300 steps)."""

_NEAR = (0.005, 0.01)
"""Distances from the surface, in radii, that count as close to it where signs are counted."""

_SIGN_SAMPLES = 4_000
"""Samples of a shape whose signs are counted."""

_FEWEST_SIGNS, _FEWEST_OF_SHAPE = 200, 50
"""A side with fewer samples close to the surfaces, or close to the surface of one shape, does not count."""

_ONE_SIGN = 0.99
"""Share of wrong signs on one whole side of a surface from which there is no surface."""

_SHAPE_WRONG = 0.9
"""Share of wrong signs close to one side of the surface of one shape above which a training has failed."""

_FOLDED = 0.1
"""Percent of the surface where the map into the template may fold before the verdict says so."""

_LONGER = 4
"""The verdict proposes a training that is longer by this factor."""

_PREVIEW_SHAPES = 4
_PREVIEW_RESOLUTION = 64


class Recorder:
    """Writes `metrics.csv` and `tensorboard/` of one run from `step` on. Later rows of an earlier process are removed.

    `surface_error` is the last written surface error, also of an earlier process, or None.
    """

    def __init__(self, directory: Path, *, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        path = directory / METRICS_FILE
        kept = _rows_up_to(path, step)
        errors = [float(row[_ERROR]) for row in kept if row[_ERROR]]
        self.surface_error = errors[-1] if errors else None
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(kept)
        write_atomic(path, text.getvalue())
        self._file = open(path, "a", encoding="utf-8", newline="")  # noqa: SIM115 (closed by `__exit__`)
        self._csv = csv.writer(self._file, lineterminator="\n")
        self._board = SummaryWriter(str(directory / "tensorboard"), purge_step=step + 1 if step else None)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Record `values` (a subset of COLUMNS) after `step` steps."""
        self._csv.writerow([step, *(f"{values[name]:.6g}" if name in values else "" for name in COLUMNS[1:])])
        self.surface_error = values.get(SURFACE_ERROR, self.surface_error)
        for name, value in values.items():
            self._board.add_scalar(name, value, step)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._file.close()
        self._board.close()

    def flush(self) -> None:
        self._file.flush()
        self._board.flush()


def _rows_up_to(path: Path, step: int) -> list[list[str]]:
    """Return the whole rows of an earlier `metrics.csv` up to `step`. Earlier versions wrote fewer columns."""
    if step == 0 or not path.is_file():
        return []
    header, *rows = list(csv.reader(path.read_text(encoding="utf-8").splitlines())) or [[]]
    whole = [row for row in rows if len(row) == len(header) and row[0].isdigit() and int(row[0]) <= step]
    return [row + [""] * (len(COLUMNS) - len(header)) for row in whole]


def num_measurements(config: TrainingConfig) -> tuple[int, int]:
    """Return how often a training measures the surface error and draws a preview. Short budgets reduce both numbers.

    >>> num_measurements(TrainingConfig(budget="12s")), num_measurements(TrainingConfig(budget="3min"))
    ((2, 0), (20, 4))
    """
    if config.steps is not None or config.budget is None:
        return config.evaluations, config.previews
    seconds = parse_duration(config.budget)
    evaluations = max(1, int(seconds / _SECONDS_PER_EVALUATION))
    return min(config.evaluations, evaluations), min(config.previews, int(seconds / _SECONDS_PER_PREVIEW))


def surface_error(decoder: Decoder, latents: Tensor, store: SampleStore, indices: tuple[int, ...]) -> float:
    """Return the mean of |f| / |gradient f| over held-out points of the true surface, in percent of the shape's radius.

    This error is a first-order estimate of the distance from the true surface to the learned surface. It uses at most
    24 shapes, spread evenly over the trained shapes. The estimate is cheap; `evaluate` measures both directions on
    meshes.
    """
    errors = surface_errors(decoder, latents, store, indices, at_most=_MEASURED_SHAPES)
    return float(torch.stack(list(errors.values())).mean()) * 100 / UNIT_RADIUS if errors else float("nan")


def surface_errors(
    decoder: Decoder, latents: Tensor, store: SampleStore, indices: Sequence[int], *, at_most: int = _JUDGED_SHAPES
) -> dict[int, Tensor]:
    """Return the mean of |f| / |gradient f| on the surface of evenly chosen shapes, unit frame, by row of the codes.

    `latents` (S, L) are the codes of the shapes that have the numbers `indices` in the store.

    >>> from sdfnet.runs import load_run
    >>> run = load_run("runs/chairs")
    >>> surface_errors(run.decoder, run.latents[:0], None, ())
    {}
    """
    training = decoder.training
    errors = {}
    for slot in _spread(len(indices), at_most):
        field = NeuralField(decoder, latents[slot])
        points = torch.from_numpy(store.heldout(indices[slot])[:, :3]).to(latents.device)
        if len(points) == 0:
            continue
        slope = gradient(field, points).norm(dim=-1).clamp(min=0.1)
        with torch.inference_mode():
            errors[slot] = (field(points).abs() / slope).mean()
    decoder.train(training)
    return errors


def folded_percent(decoder: Decoder, latents: Tensor, store: SampleStore, indices: Sequence[int]) -> float:
    """Return the share of surface points, in percent, where the map into the decoder's template turns space over.

    It uses at most 24 shapes, and is 0 for a decoder without a template.

    >>> from sdfnet.runs import load_run
    >>> run = load_run("runs/chairs")
    >>> folded_percent(run.decoder, run.latents, None, ())
    0.0
    """
    if not decoder.has_template:
        return 0.0
    folded = []
    for slot in _spread(len(indices), _MEASURED_SHAPES):
        points = torch.from_numpy(store.heldout(indices[slot])[:, :3]).to(latents.device)
        if len(points):
            with torch.no_grad():
                conditioned = decoder.condition(latents[slot][None])
            jacobians = template_jacobians(decoder, points[None], conditioned)
            folded.append((torch.linalg.det(jacobians) <= 0).float().mean())
    return 100 * float(torch.stack(folded).mean()) if folded else 0.0


def _spread(count: int, at_most: int) -> range:
    """Return `at_most` numbers or fewer, evenly spread from 0 to `count`."""
    return range(0, count, max(1, -(-count // at_most)))


@dataclass(frozen=True)
class SideSigns:
    """Wrong signs of one shape on one side of its surface: numbers of samples, and of wrong ones among them."""

    near: int
    near_wrong: int
    all: int
    all_wrong: int


def wrong_signs(
    decoder: Decoder, latents: Tensor, store: SampleStore, indices: Sequence[int], *, at_most: int = _MEASURED_SHAPES
) -> dict[str, float]:
    """Return the percent of wrong signs close to the surfaces, inside and outside, by column of `metrics.csv`.

    "Close" is a true distance of 0.5 to 1 % of the radius. A side with fewer than 200 such samples is left out. At most
    24 shapes count, spread evenly over the trained shapes.
    """
    return _near_percent(_count_signs(decoder, latents, store, indices, at_most=at_most).values())


def _near_percent(counts: Iterable[tuple[SideSigns, SideSigns]]) -> dict[str, float]:
    percent = {}
    for column, sides in zip(WRONG_SIGNS, zip(*counts, strict=True), strict=True):
        total = sum(side.near for side in sides)
        if total >= _FEWEST_SIGNS:
            percent[column] = 100 * sum(side.near_wrong for side in sides) / total
    return percent


def _count_signs(
    decoder: Decoder, latents: Tensor, store: SampleStore, indices: Sequence[int], *, at_most: int
) -> dict[int, tuple[SideSigns, SideSigns]]:
    """Return the counts inside and outside of evenly chosen shapes, by row of the codes."""
    training = decoder.training
    decoder.eval()
    counts = {}
    for slot in _spread(len(indices), at_most):
        samples = torch.from_numpy(store.read(indices[slot], 0, min(store.num_samples, _SIGN_SAMPLES)))
        points, sdf = samples[:, :3].to(latents.device), samples[:, 3]
        with torch.inference_mode():
            is_wrong = (NeuralField(decoder, latents[slot])(points).cpu() < 0) != (sdf < 0)
        distance = sdf.abs() / UNIT_RADIUS
        is_near = (distance >= _NEAR[0]) & (distance <= _NEAR[1])
        sides = [
            SideSigns(
                *(int(chosen.sum()) for chosen in (side & is_near, side & is_near & is_wrong, side, side & is_wrong))
            )
            for side in (sdf < 0, sdf > 0)
        ]
        counts[slot] = (sides[0], sides[1])
    decoder.train(training)
    return counts


@dataclass(frozen=True)
class Verdict:
    """How well a run has learned its shapes: a text, and whether the training has failed.

    >>> print(Verdict("2 shapes learned in 200 steps: close to the sources.", has_failed=False))
    2 shapes learned in 200 steps: close to the sources.
    """

    text: str
    has_failed: bool

    def __str__(self) -> str:
        return self.text


def verdict(run: Run, store: SampleStore) -> Verdict:
    """Return how well `run` has learned its shapes, which shape is worst, and how to reduce the error.

    The measures are `surface_error` and `wrong_signs`, as in training, but over at most 200 shapes of the run. The
    training has failed if more than 5 % of the signs close to the surfaces are wrong on one side, or if a shape has no
    surface because its field has one sign. Else the mean surface error is fine (up to 0.1 % of the radius), fair, or
    coarse (above 0.3 %). The text says in how many steps the shapes were learned, how many were planned at the start,
    and whether the machine was busy with other programs.

    Parameters
    ----------
    store : SampleStore
        The samples of the training; the error is measured at their held-out points, the signs at the others.

    >>> from sdfnet.runs import load_run
    >>> run = load_run("runs/chairs")
    >>> from sdfnet.sampling import SamplerConfig, prepare_samples
    >>> config = SamplerConfig(num_samples=100, num_surface=10, num_heldout=0)
    >>> store = prepare_samples("chairs", "little", config=config, num_workers=1, progress=False).store
    >>> verdict(run, store).text.partition(".")[0]
    '2 shapes learned in 200 steps'
    """
    indices = [store.index_of(name) for name in run.names]
    schedule = Schedule(decisions=load_decisions(run.directory))
    steps = f"{run.step:,} steps"
    if schedule.is_measured:
        steps += f" ({schedule.planned_steps:,} were planned at the start)"
    if failure := _failure(run, store, indices):
        busy = f" {_busy(schedule)}." if schedule.was_busy else ""
        return Verdict(
            f"the training has failed after {steps}: {failure}.{busy} Train longer ({_longer(run)}) into a new "
            f"run{_start(run)}",
            has_failed=True,
        )
    praise = _praise(run, store, indices, schedule)
    return Verdict(f"{len(run.shapes)} shapes learned in {steps}{praise}", has_failed=False)


def _failure(run: Run, store: SampleStore, indices: Sequence[int]) -> str:
    """Return why the training has failed, or an empty text."""
    counts = _count_signs(run.decoder, run.latents, store, indices, at_most=_JUDGED_SHAPES)
    by_name = {run.names[slot]: sides for slot, sides in counts.items()}
    missing = [name for name, sides in by_name.items() if any(_exceeds(s.all_wrong, s.all, _ONE_SIGN) for s in sides)]
    if missing:
        return (
            f"{missing[0]} has no surface yet"
            if len(missing) == 1
            else (f"{missing[0]} and {len(missing) - 1} more have no surface yet")
        )
    for column, percent in _near_percent(by_name.values()).items():
        if percent > MOST_WRONG_SIGNS:
            side = column.split("_")[1]
            return f"{percent:.1f} % of the signs just {side} the surfaces are wrong (at most {MOST_WRONG_SIGNS:g} %)"
    for name, sides in by_name.items():
        counted = [side for side in sides if side.near >= _FEWEST_OF_SHAPE]
        if any(_exceeds(side.near_wrong, side.near, _SHAPE_WRONG) for side in counted):
            return f"most signs beside the surface of {name} are wrong"
    return ""


def _exceeds(part: int, whole: int, share: float) -> bool:
    return whole > 0 and part >= share * whole


def _praise(run: Run, store: SampleStore, indices: Sequence[int], schedule: Schedule) -> str:
    """Return the surface errors in words and numbers, as the end of a sentence and further lines."""
    found = surface_errors(run.decoder, run.latents, store, indices, at_most=_JUDGED_SHAPES)
    if not found:
        return (
            ". The samples hold no held-out points (sampler.num_heldout=0) to measure the error at; "
            f"measure it with: sdfnet evaluate run={run.directory}"
        )
    errors = {run.names[slot]: float(error) * 100 / UNIT_RADIUS for slot, error in found.items()}
    mean, worst = sum(errors.values()) / len(errors), max(errors, key=lambda name: errors[name])
    words = _WORDS["fine" if mean <= _FINE else "fair" if mean <= _COARSE else "coarse"]
    folded = folded_percent(run.decoder, run.latents, store, indices)
    if folded > _FOLDED:
        words += (
            f"; the template folds at {folded:.2g} % of the surface: correspondence is wrong there (a larger "
            "decoder.bending_weight helps)"
        )
    among = "" if len(errors) == len(run.shapes) else f" of {len(errors)} that were measured"
    return (
        f": {words}.\n"
        f"Surface error: {mean:.3f} % of the radius on average, {errors[worst]:.3f} % for the worst shape{among}, "
        f"{worst} (mean distance from {store.num_heldout:,} held-out points on each shape's surface to the learned "
        "surface).\n"
        f"{_reasons(run, schedule, mean)}"
        f"If that is not enough: {_how_to_improve(run)}"
    )


def _reasons(run: Run, schedule: Schedule, mean: float) -> str:
    """Return a line on why the result is coarse, or that the machine was busy, or nothing."""
    busy = _busy(schedule) if schedule.was_busy else ""
    if mean <= _COARSE:
        return f"{busy}.\n" if busy else ""
    visits = run.step * run.document["config"]["training"]["batch_shapes"] / len(run.shapes)
    few = f"{run.step:,} steps are few for {len(run.shapes)} shapes" if visits < _FEW_VISITS else ""
    why = ", and ".join(filter(None, (busy, few))) or "The decoder or the steps are too few for these shapes"
    factor = (mean / _COARSE) ** (1 / _ERROR_POWER)
    longer = _longer(run, 2 * math.ceil(factor * (1 - schedule.waited_share)))
    quiet = " on a quiet machine" if busy else ""
    return f"Why: {why}. About {longer}{quiet} would make it fair.\n"


def _busy(schedule: Schedule) -> str:
    return f"The machine was busy: other programs had the processor for {schedule.waited_share:.0%} of the time"


def _longer(run: Run, factor: int = _LONGER) -> str:
    """Return a longer training in the unit of the run: a budget if it was given one, else steps."""
    training = run.document["config"]["training"]
    if training["steps"] is not None:
        return f"steps={factor * training['steps']} instead of {training['steps']}"
    return f"budget={lengthen(training['budget'], factor)} instead of {training['budget']}"


def _start(run: Run) -> str:
    """Return how a new run starts from this one. A decoder of one shape does not."""
    return "" if run.decoder.holds_one_shape else f"; init={run.directory} starts from this one"


def _how_to_improve(run: Run) -> str:
    decoder = run.document["config"]["decoder"]
    ways = [f"train longer, into a new run ({_longer(run)}{_start(run)})"]
    if decoder["kind"] == "volume" and VolumeConfig(**decoder).resolution < 64:
        ways.append("give the decoder more detail (experiment=fine)")
    if run.decoder.holds_one_shape:
        ways.append("draw more samples (sampler.num_samples)")
    return f"{'; '.join(ways)}; see which shapes fail and where with: sdfnet evaluate run={run.directory}"


def save_preview(decoder: Decoder, latents: Tensor, names: tuple[str, ...], path: Path) -> None:
    """Draw the current state of a few shapes. A shape that has no surface yet is left out and logged."""
    training = decoder.training
    images, labels = [], []
    with Renderer(size=(320, 320)) as renderer:
        for slot in range(0, len(names), max(1, len(names) // _PREVIEW_SHAPES))[:_PREVIEW_SHAPES]:
            try:
                field = NeuralField(decoder, latents[slot])
                mesh = extract_mesh(field, resolution=_PREVIEW_RESOLUTION, device=latents.device)
            except NoSurfaceError as error:
                logger.info("no preview of %s: it has no surface yet (%s)", names[slot], error.found)
                continue
            except ValueError as error:
                logger.info("no preview of %s: %s", names[slot], error)
                continue
            images.append(renderer.render(mesh))
            labels.append(names[slot])
    decoder.train(training)
    if images:
        save_image(contact_sheet(images, columns=len(images), labels=labels), path)
