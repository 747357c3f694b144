"""Which shapes and samples each step sees: a pure function of seed and step, so that a resumed run needs no cursor.

Shapes come in permutations, one after the other; the k-th visit of a shape reads the k-th contiguous slice of its
samples, round and round. Samples are stored shuffled, so a slice is a fair draw.
Legend: B shapes in a batch, N points per shape.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sdfnet.sampling import SampleStore


@dataclass(frozen=True, eq=False)
class Batch:
    """One step's samples, float32, unit frame, on the training device.

    Attributes
    ----------
    slots : (B,) int64
        Rows of the table of codes.
    points_BN3, sdf_BN : (B, N, 3) and (B, N)
    surface_BM6 : (B, M, 6) or None
        Points on the surface and outward normals; only where a loss asks for them.
    """

    slots: Tensor
    points_BN3: Tensor
    sdf_BN: Tensor
    surface_BM6: Tensor | None


@dataclass(frozen=True, eq=False)
class BatchSchedule:
    """The batches of a training.

    Attributes
    ----------
    indices : tuple of int
        The store's number of each trained shape; the position is the row of its code.
    num_surface : int
        Surface points per shape and step; 0 reads none.
    """

    store: SampleStore
    indices: tuple[int, ...]
    batch_shapes: int
    batch_points: int
    num_surface: int
    seed: int

    def slots(self, step: int) -> list[tuple[int, int]]:
        """Return for each place in the batch of `step` the row of the code and how often it was visited before."""
        places = range(step * self.batch_shapes, (step + 1) * self.batch_shapes)
        count = len(self.indices)
        return [
            (int(_permutation(self.seed, place // count, count)[place % count]), place // count) for place in places
        ]

    def batch(self, step: int, *, device: torch.device) -> Batch:
        """Read the batch of `step`."""
        chosen = self.slots(step)
        samples = np.empty((len(chosen), self.batch_points, 4), dtype=np.float32)
        for row, (slot, visit) in zip(samples, chosen, strict=True):
            start = visit * self.batch_points % self.store.num_samples
            self.store.read(self.indices[slot], start, self.batch_points, out=row)
        samples_BN4 = torch.from_numpy(samples).to(device)
        return Batch(
            slots=torch.tensor([slot for slot, _ in chosen], device=device),
            points_BN3=samples_BN4[..., :3].contiguous(),
            sdf_BN=samples_BN4[..., 3].contiguous(),
            surface_BM6=self._surface(chosen, device) if self.num_surface else None,
        )

    def _surface(self, chosen: Sequence[tuple[int, int]], device: torch.device) -> Tensor:
        rows = [
            self.store.surface(self.indices[slot], visit * self.num_surface % self.store.num_surface, self.num_surface)
            for slot, visit in chosen
        ]
        return torch.from_numpy(np.stack(rows)).to(device)


@lru_cache(maxsize=8)
def _permutation(seed: int, epoch: int, count: int) -> NDArray[np.int64]:
    return np.random.default_rng([seed, epoch]).permutation(count)
