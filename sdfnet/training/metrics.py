"""What a training tells while it runs: metrics as CSV and TensorBoard, the surface error, small pictures.

Nothing here influences the training. Times are left out of the CSV, so that an interrupted and resumed run ends with
the same file as an undisturbed one.
"""

from __future__ import annotations

import csv
import io
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Self

import torch
from torch import Tensor

from sdfnet.decoders import Decoder
from sdfnet.extraction import extract_mesh
from sdfnet.fields import NeuralField, gradient
from sdfnet.files import write_atomic
from sdfnet.geometry.similarity import UNIT_RADIUS
from sdfnet.rendering import Renderer, contact_sheet, save_image
from sdfnet.sampling import SampleStore

logger = logging.getLogger(__name__)

METRICS_FILE = "metrics.csv"
SURFACE_ERROR = "surface_error_percent"
COLUMNS = ("step", "loss", "sdf", "prior", "eikonal", "normal", "learning_rate", SURFACE_ERROR)
_MEASURED_SHAPES = 24
_PREVIEW_SHAPES = 4
_PREVIEW_RESOLUTION = 64


class Recorder:
    """Writes `metrics.csv` and `tensorboard/` of one run, from `step` on; later rows of an earlier process go.

    Attributes
    ----------
    surface_error : float or None
        The last one written, also by an earlier process.
    """

    def __init__(self, directory: Path, *, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        path = directory / METRICS_FILE
        kept = _rows_up_to(path, step)
        errors = [float(row[-1]) for row in kept if row[-1]]
        self.surface_error = errors[-1] if errors else None
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(kept)
        write_atomic(path, text.getvalue())
        self._file = open(path, "a", encoding="utf-8", newline="")  # noqa: SIM115 (closed by `close`)
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
        self.close()

    def flush(self) -> None:
        self._file.flush()
        self._board.flush()

    def close(self) -> None:
        self._file.close()
        self._board.close()


def _rows_up_to(path: Path, step: int) -> list[list[str]]:
    """Return the whole rows of an earlier `metrics.csv` up to `step`."""
    if step == 0 or not path.is_file():
        return []
    rows = list(csv.reader(path.read_text(encoding="utf-8").splitlines()))[1:]
    return [row for row in rows if len(row) == len(COLUMNS) and row[0].isdigit() and int(row[0]) <= step]


def surface_error(decoder: Decoder, latents: Tensor, store: SampleStore, indices: tuple[int, ...]) -> float:
    """Return the mean of |f| / |gradient f| over held-out points of the true surface, in percent of the shape's radius.

    A first-order estimate of the distance from the true surface to the learned one, over at most 24 shapes evenly
    spread over the trained ones. Cheap; `evaluate` measures both ways on meshes.
    """
    chosen = range(0, len(indices), -(-len(indices) // _MEASURED_SHAPES))
    training = decoder.training
    errors = []
    for slot in chosen:
        field = NeuralField(decoder, latents[slot])
        points = torch.from_numpy(store.heldout(indices[slot])[:, :3]).to(latents.device)
        if len(points) == 0:
            continue
        slope = gradient(field, points).norm(dim=-1).clamp(min=0.1)
        with torch.inference_mode():
            errors.append((field(points).abs() / slope).mean())
    decoder.train(training)
    return float(torch.stack(errors).mean()) * 100 / UNIT_RADIUS if errors else float("nan")


def save_preview(decoder: Decoder, latents: Tensor, names: tuple[str, ...], path: Path) -> None:
    """Draw a few of the shapes as they are now; a shape that has no surface yet is left out, and said."""
    training = decoder.training
    images, labels = [], []
    with Renderer(size=(320, 320)) as renderer:
        for slot in range(0, len(names), max(1, len(names) // _PREVIEW_SHAPES))[:_PREVIEW_SHAPES]:
            try:
                field = NeuralField(decoder, latents[slot])
                mesh = extract_mesh(field, resolution=_PREVIEW_RESOLUTION, device=latents.device)
            except ValueError as error:
                logger.info("no preview of %s yet: %s", names[slot], error)
                continue
            images.append(renderer.render(mesh))
            labels.append(names[slot])
    decoder.train(training)
    if images:
        save_image(contact_sheet(images, columns=len(images), labels=labels), path)
