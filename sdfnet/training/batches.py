"""The batches of a training. They depend only on seed and step, so a resumed run needs no saved position.

The batches go through the shapes in one random order after another. The k-th visit of a shape reads the k-th contiguous
slice of its samples, and starts again at the end. Samples are stored shuffled, so each slice is a random draw. With K
strata there are K such sequences. Sequence k contains the shapes k, k + K, k + 2 K, …, and every step takes the same
number of shapes from each sequence. With several processes, each process reads the samples of its own shapes. If the
number of processes divides the number of strata, all processes have the same number of shapes in every step.

Legend: B shapes in a batch, N points per shape, S' shapes of this process, K samples and M surface points per shape in
the store, C numbers of a sample.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sdfnet.sampling import SampleStore
from sdfnet.training.config import Choice
from sdfnet.training.distributed import ALONE, Processes

logger = logging.getLogger(__name__)


_SHARE_OF_MEMORY = 0.5
"""Samples may take this share of a GPU's free memory. Activations and the optimizer get the rest."""


@dataclass(frozen=True, eq=False)
class Batch:
    """One step's samples, float32, unit frame, on the training device."""

    slots: Tensor
    """(B,) int64: rows of the table of codes that this process owns."""
    points_BN3: Tensor
    sdf_BN: Tensor
    surface_BM6: Tensor | None
    """Points on the surface with outward normals. None if no loss needs them."""
    weight: float = 1.0
    """B as a share of the shapes of the whole batch. A process without a shape in the batch reads one shape, with
    weight 0."""


@dataclass(frozen=True, eq=False)
class BatchSchedule:
    """The batches of a training."""

    store: SampleStore
    indices: tuple[int, ...]
    """The store's index of each trained shape. The position in this tuple is the row of the shape's code."""
    batch_shapes: int
    """Number of shapes per step, summed over all processes."""
    batch_points: int
    """Points per shape."""
    num_surface: int
    """Number of surface points per shape and step. With 0, none are read."""
    seed: int
    strata: int = 1
    """Number of strata. It divides `batch_shapes` and is at most the number of shapes."""
    processes: Processes = ALONE
    on_device: tuple[Tensor, ...] = ()
    """This process's samples (S', K, 4), and surface points (S', M, 6) if any are read, on the training device."""

    def slots(self, step: int) -> list[tuple[int, int]]:
        """Return the shape (0 to S - 1) at each place in the batch of `step`, and how often it was visited before."""
        each = self.batch_shapes // self.strata
        places = range(step * each, (step + 1) * each)
        chosen = []
        for stratum in range(self.strata):
            count = len(range(stratum, len(self.indices), self.strata))
            for place in places:
                order = _permutation(self.seed, place // count, count, stratum)
                chosen.append((stratum + self.strata * int(order[place % count]), place // count))
        return chosen

    def batch(self, step: int, *, device: torch.device) -> Batch:
        """Read this process's part of the batch of `step`."""
        rank, count = self.processes.rank, self.processes.count
        own = [(slot, visit) for slot, visit in self.slots(step) if slot % count == rank]
        chosen = own or [(rank, 0)]
        rows = to_device(torch.tensor([slot // count for slot, _ in chosen]), device)
        samples_BN4 = self._read(chosen, rows, surface=False)
        return Batch(
            rows,
            samples_BN4[..., :3].contiguous(),
            samples_BN4[..., 3].contiguous(),
            self._read(chosen, rows, surface=True) if self.num_surface else None,
            weight=len(own) / self.batch_shapes,
        )

    def _read(self, chosen: Sequence[tuple[int, int]], rows: Tensor, *, surface: bool) -> Tensor:
        """Return the next samples (B, N, 4) or surface points (B, M, 6) of each visit, on the device of `rows`."""
        count = self.num_surface if surface else self.batch_points
        if self.on_device:
            block_SKC = self.on_device[int(surface)]
            starts = to_device(torch.tensor([visit * count for _, visit in chosen]), rows.device)
            places_BN = (starts[:, None] + torch.arange(count, device=rows.device)) % block_SKC.shape[1]
            return block_SKC[rows[:, None], places_BN]
        read, total = _reader(self.store, surface=surface)
        slices = [read(self.indices[slot], visit * count % total, count) for slot, visit in chosen]
        return to_device(torch.from_numpy(np.stack(slices)), rows.device)


def _reader(store: SampleStore, *, surface: bool) -> tuple[Callable[[int, int, int], NDArray[np.float32]], int]:
    return (store.surface, store.num_surface) if surface else (store.read, store.num_samples)


def num_bytes(store: SampleStore, num_shapes: int, *, with_surface: bool) -> int:
    """Return the memory that the samples of `num_shapes` shapes take."""
    return 4 * num_shapes * (4 * store.num_samples + (6 * store.num_surface if with_surface else 0))


def load_device_samples(
    store: SampleStore, indices: Sequence[int], *, with_surface: bool, device: torch.device
) -> tuple[Tensor, ...]:
    """Copy the samples of the store's shapes `indices` to `device`, in the form of `BatchSchedule.on_device`."""
    blocks = []
    for surface in (False, True) if with_surface else (False,):
        read, total = _reader(store, surface=surface)
        block = torch.empty(len(indices), total, 6 if surface else 4, device=device)
        for row, index in enumerate(indices):
            block[row] = torch.from_numpy(read(index, 0, total))
        blocks.append(block)
    return tuple(blocks)


def keeps_samples(choice: Choice, *, device_type: str, num_bytes: int, free_bytes: int) -> bool:
    """Tell whether all samples are moved to the device first. A CPU has the mapped files in its memory already."""
    if choice != "auto":
        return bool(choice)
    return device_type == "cuda" and num_bytes <= _SHARE_OF_MEMORY * free_bytes


def move_samples_to(device: torch.device, schedule: BatchSchedule, choice: Choice) -> BatchSchedule:
    """Return `schedule`. Move all its samples to `device` first if `choice` and the free memory allow."""
    indices, with_surface = schedule.indices[schedule.processes.own], schedule.num_surface > 0
    size = num_bytes(schedule.store, len(indices), with_surface=with_surface)
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else 0
    if not keeps_samples(choice, device_type=device.type, num_bytes=size, free_bytes=free):
        return schedule
    samples = load_device_samples(schedule.store, indices, with_surface=with_surface, device=device)
    logger.info("the samples (%.1f GB) are kept on %s", size / 1e9, device)
    return replace(schedule, on_device=samples)


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Return `tensor` on `device`. A copy to a GPU uses pinned memory, so that the caller does not wait for it."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


@lru_cache(maxsize=128)
def _permutation(seed: int, epoch: int, count: int, stratum: int) -> NDArray[np.int64]:
    # The first stratum's seed has no third number, so that the order without strata is that of earlier versions.
    return np.random.default_rng([seed, epoch, stratum] if stratum else [seed, epoch]).permutation(count)
