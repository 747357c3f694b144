"""The batch schedule: fair, contiguous, and a pure function of seed and step."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch

from sdfnet.training.batches import BatchSchedule


class FakeStore:
    """Sample k of shape i is (i, k, 0) with distance 0."""

    num_samples = 100
    num_surface = 30

    def read(self, index, start, count):
        out = np.zeros((count, 4), dtype=np.float32)
        out[:, 0] = index
        out[:, 1] = (start + np.arange(count)) % self.num_samples
        return out

    def surface(self, index, start, count):
        rows = np.zeros((count, 6), dtype=np.float32)
        rows[:, 0] = index
        rows[:, 1] = (start + np.arange(count)) % self.num_surface
        return rows


def _schedule(**options):
    values = {"indices": (7, 3, 5, 9, 2), "batch_shapes": 2, "batch_points": 30, "num_surface": 10, "seed": 0}
    return BatchSchedule(FakeStore(), **(values | options))


@pytest.mark.parametrize("batch_shapes", [1, 2, 5, 8])
def test_every_shape_is_seen_equally_often(batch_shapes):
    schedule = _schedule(batch_shapes=batch_shapes)
    seen = Counter(slot for step in range(5) for slot, _ in schedule.slots(step))
    assert set(seen) == set(range(5))
    assert max(seen.values()) == min(seen.values())


def test_visits_of_a_shape_read_one_slice_after_the_other():
    schedule = _schedule()
    reads: dict[int, list[float]] = {}
    for step in range(10):
        batch = schedule.batch(step, device=torch.device("cpu"))
        for slot, points in zip(batch.slots.tolist(), batch.points_BN3, strict=True):
            assert (points[:, 0] == schedule.indices[slot]).all()
            reads.setdefault(slot, []).extend(points[:, 1].tolist())
    for numbers in reads.values():
        assert numbers == [k % 100 for k in range(len(numbers))]


def test_a_step_is_the_same_whatever_was_read_before_and_differs_by_seed():
    device = torch.device("cpu")
    late = _schedule().batch(7, device=device)
    walked = _schedule()
    for step in range(7):
        walked.batch(step, device=device)
    assert torch.equal(walked.batch(7, device=device).points_BN3, late.points_BN3)
    orders = {tuple(_schedule(seed=seed).slots(0)) for seed in range(8)}
    assert len(orders) > 1


def test_surface_points_belong_to_the_shapes_of_the_batch():
    schedule = _schedule()
    batch = schedule.batch(4, device=torch.device("cpu"))
    assert batch.surface_BM6.shape == (2, 10, 6)
    assert batch.surface_BM6[:, 0, 0].tolist() == [schedule.indices[slot] for slot in batch.slots.tolist()]
    assert _schedule(num_surface=0).batch(0, device=torch.device("cpu")).surface_BM6 is None
