"""The samples of a training, kept on its device: a batch is then one look-up there, and nothing is copied to it.

Legend: S' shapes of this process, K samples and M surface points per shape in the store, B shapes in a batch, N points.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sdfnet.sampling import SampleStore


@dataclass(frozen=True, eq=False)
class ResidentSamples:
    """All samples that this process reads, float32.

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


def load_resident(
    store: SampleStore, indices: Sequence[int], *, with_surface: bool, device: torch.device
) -> ResidentSamples:
    """Copy the samples of the shapes `indices` of the store to `device`, one shape after the other."""
    samples = torch.empty(len(indices), store.num_samples, 4, device=device)
    surface = torch.empty(len(indices), store.num_surface, 6, device=device) if with_surface else None
    for row, index in enumerate(indices):
        samples[row] = torch.from_numpy(store.read(index, 0, store.num_samples))
        if surface is not None:
            surface[row] = torch.from_numpy(store.surface(index, 0, store.num_surface))
    return ResidentSamples(samples, surface)


def take_round(block_SKC: Tensor, rows: Tensor, starts: Tensor, count: int) -> Tensor:
    """Return (B, N, C): of each of `rows` (B,), `count` samples from number `starts` (B,) on, round and round."""
    places_BN = (starts[:, None] + torch.arange(count, device=starts.device)) % block_SKC.shape[1]
    return block_SKC[rows[:, None], places_BN]
