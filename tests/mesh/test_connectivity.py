"""Connected parts of a graph against a slow twin that paints node after node."""

import numpy as np
import pytest

from sdfnet.mesh.edges import label_connected


def _painted(left, right, size):
    labels = np.arange(size)
    for _ in range(size):
        for a, b in zip(left, right, strict=True):
            labels[[a, b]] = min(labels[a], labels[b])
    return labels


@pytest.mark.parametrize("seed", range(5))
def test_parts_are_those_of_a_slow_twin(seed):
    random = np.random.default_rng(seed)
    left, right = random.integers(0, 30, size=(2, 20))
    count, labels = label_connected(left, right, 30)
    slow = _painted(left, right, 30)
    assert count == len(np.unique(slow)) == labels.max() + 1
    np.testing.assert_array_equal(labels[:, None] == labels, slow[:, None] == slow)


def test_an_edge_given_many_times_joins_and_no_edges_join_nothing():
    assert label_connected([0] * 256, [1] * 256, 2)[0] == 1
    count, labels = label_connected([], [], 3)
    assert (count, sorted(labels)) == (3, [0, 1, 2])
    assert label_connected([], [], 0)[0] == 0
