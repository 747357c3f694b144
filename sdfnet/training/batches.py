"""The batches of a training: a pure function of seed and step, so that a resumed run needs no cursor.

Shapes come in random orders, one order after another. The k-th visit of a shape reads the k-th contiguous slice of its
samples, and starts again at the end. Samples are stored shuffled, so a slice is a fair draw. With K strata there are K
such sequences, of the shapes k, k + K, k + 2 K, …, and every step takes equally many shapes from each.

Each of several processes reads the part of the batch whose shapes it owns. Together they read the batch of one process.
If the number of processes divides the strata, all have equally many shapes in every step.

Samples are read from the store's files, or from the device of the training (`move_samples_to`): the batches are equal.
Legend: B shapes in a batch, N points per shape, S' shapes of this process, K samples and M surface points per shape in
the store, C numbers of a sample.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sdfnet.sampling import SampleStore
from sdfnet.training.acceleration import free_memory, keeps_samples
from sdfnet.training.config import Choice
from sdfnet.training.distributed import ALONE, Processes

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class DeviceSamples:
    """All samples that this process reads, float32, on the device of the training.

    Attributes
    ----------
    samples_SK4 : (S', K, 4)
    surface_SM6 : (S', M, 6) or None
    """

    samples_SK4: Tensor
    surface_SM6: Tensor | None


def num_bytes(store: SampleStore, num_shapes: int, *, with_surface: bool) -> int:
    """Return the memory that the samples of `num_shapes` shapes take."""
    return 4 * num_shapes * (4 * store.num_samples + (6 * store.num_surface if with_surface else 0))


def load_device_samples(
    store: SampleStore, indices: Sequence[int], *, with_surface: bool, device: torch.device
) -> DeviceSamples:
    """Copy the samples of the shapes `indices` of the store to `device`, one shape after the other."""
    samples = torch.empty(len(indices), store.num_samples, 4, device=device)
    surface = torch.empty(len(indices), store.num_surface, 6, device=device) if with_surface else None
    for row, index in enumerate(indices):
        samples[row] = torch.from_numpy(store.read(index, 0, store.num_samples))
        if surface is not None:
            surface[row] = torch.from_numpy(store.surface(index, 0, store.num_surface))
    return DeviceSamples(samples, surface)


def take_round(block_SKC: Tensor, rows: Tensor, starts: Tensor, count: int) -> Tensor:
    """Return (B, N, C): of each of `rows` (B,), `count` samples from number `starts` (B,) on, round and round."""
    places_BN = (starts[:, None] + torch.arange(count, device=starts.device)) % block_SKC.shape[1]
    return block_SKC[rows[:, None], places_BN]


@dataclass(frozen=True, eq=False)
class Batch:
    """One step's samples, float32, unit frame, on the training device.

    Attributes
    ----------
    slots : (B,) int64
        Rows of the table of codes that this process owns.
    points_BN3, sdf_BN : (B, N, 3) and (B, N)
    surface_BM6 : (B, M, 6) or None
        Points on the surface and outward normals; only where a loss asks for them.
    weight : float
        B as a share of the shapes that all processes together see in this step. Where this process owns none of them,
        it reads one shape in their stead, with weight 0.
    """

    slots: Tensor
    points_BN3: Tensor
    sdf_BN: Tensor
    surface_BM6: Tensor | None
    weight: float = 1.0


@dataclass(frozen=True, eq=False)
class BatchSchedule:
    """The batches of a training.

    Attributes
    ----------
    indices : tuple of int
        The store's number of each trained shape; the position is the row of its code.
    batch_shapes, batch_points : int
        Shapes per step over all processes, and points per shape.
    num_surface : int
        Surface points per shape and step; 0 reads none.
    strata : int
        Divides `batch_shapes`, and is at most the number of shapes.
    on_device : DeviceSamples or None
        The samples of this process's shapes; None reads the store's files.
    """

    store: SampleStore
    indices: tuple[int, ...]
    batch_shapes: int
    batch_points: int
    num_surface: int
    seed: int
    strata: int = 1
    processes: Processes = ALONE
    on_device: DeviceSamples | None = None

    def slots(self, step: int) -> list[tuple[int, int]]:
        """Return for each place in the batch of `step` its shape (0 to S - 1) and how often it was visited before."""
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
        rows = torch.tensor([slot // count for slot, _ in chosen])
        weight = len(own) / self.batch_shapes
        if self.on_device is not None:
            visits = torch.tensor([visit for _, visit in chosen])
            return self._look_up(self.on_device, to_device(rows, device), to_device(visits, device), weight)
        samples_BN4 = to_device(self._read(chosen), device)
        return Batch(
            slots=to_device(rows, device),
            points_BN3=samples_BN4[..., :3].contiguous(),
            sdf_BN=samples_BN4[..., 3].contiguous(),
            surface_BM6=to_device(self._read_surface(chosen), device) if self.num_surface else None,
            weight=weight,
        )

    def _look_up(self, samples: DeviceSamples, rows: Tensor, visits: Tensor, weight: float) -> Batch:
        samples_BN4 = take_round(samples.samples_SK4, rows, visits * self.batch_points, self.batch_points)
        surface_BM6 = None
        if self.num_surface:
            assert samples.surface_SM6 is not None
            surface_BM6 = take_round(samples.surface_SM6, rows, visits * self.num_surface, self.num_surface)
        return Batch(rows, samples_BN4[..., :3].contiguous(), samples_BN4[..., 3].contiguous(), surface_BM6, weight)

    def _read(self, chosen: Sequence[tuple[int, int]]) -> Tensor:
        samples = np.empty((len(chosen), self.batch_points, 4), dtype=np.float32)
        for row, (slot, visit) in zip(samples, chosen, strict=True):
            start = visit * self.batch_points % self.store.num_samples
            self.store.read(self.indices[slot], start, self.batch_points, out=row)
        return torch.from_numpy(samples)

    def _read_surface(self, chosen: Sequence[tuple[int, int]]) -> Tensor:
        rows = [
            self.store.surface(self.indices[slot], visit * self.num_surface % self.store.num_surface, self.num_surface)
            for slot, visit in chosen
        ]
        return torch.from_numpy(np.stack(rows))


def move_samples_to(device: torch.device, schedule: BatchSchedule, choice: Choice) -> BatchSchedule:
    """Return `schedule`, or one whose samples are all on `device` if `choice` and its free memory say so."""
    indices, with_surface = schedule.indices[schedule.processes.own], schedule.num_surface > 0
    size = num_bytes(schedule.store, len(indices), with_surface=with_surface)
    if not keeps_samples(choice, device_type=device.type, num_bytes=size, free_bytes=free_memory(device)):
        return schedule
    samples = load_device_samples(schedule.store, indices, with_surface=with_surface, device=device)
    logger.info("the samples (%.1f GB) are kept on %s", size / 1e9, device)
    return replace(schedule, on_device=samples)


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Return `tensor` on `device`. A copy to a GPU goes through pinned memory, so the caller need not wait for it."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


@lru_cache(maxsize=128)
def _permutation(seed: int, epoch: int, count: int, stratum: int) -> NDArray[np.int64]:
    # The first stratum's seed has no third number, so that the order without strata is that of earlier versions.
    return np.random.default_rng([seed, epoch, stratum] if stratum else [seed, epoch]).permutation(count)
