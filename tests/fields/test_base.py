"""The chunked evaluation loop and the gradient."""

from __future__ import annotations

import pytest
import torch

from sdfnet.fields import Field, Sphere, Torus, evaluate, gradient, normals, worst_accuracy
from sdfnet.geometry.bounds import Bounds


@pytest.mark.parametrize("chunk_size", [1, 7, 24, 1000])
def test_chunks_do_not_change_values(chunk_size, generator):
    points = torch.randn(2, 3, 4, 3, generator=generator)
    field = Torus(1.0, 0.3)
    assert torch.equal(evaluate(field, points, chunk_size=chunk_size), field(points))
    torch.testing.assert_close(gradient(field, points, chunk_size=chunk_size), gradient(field, points))


def test_a_field_sees_one_chunk_at_a_time():
    seen = []

    class Counting(Field):
        bounds, accuracy = Bounds.infinite(), "approximate"

        def __call__(self, points):
            seen.append(len(points))
            return points[..., 0]

    evaluate(Counting(), torch.zeros(10, 3), chunk_size=4)
    assert seen == [4, 4, 2]


def test_evaluation_keeps_no_graph():
    assert not evaluate(Sphere(), torch.zeros(5, 3, requires_grad=True)).requires_grad


def test_gradient_works_within_no_grad_and_leaves_no_graph():
    with torch.no_grad():
        slopes = gradient(Sphere(), torch.tensor([[0.0, 3.0, 4.0]]))
    assert slopes.tolist() == [[0.0, pytest.approx(0.6), pytest.approx(0.8)]]
    assert not slopes.requires_grad


def test_normals_are_unit_and_zero_where_there_is_none():
    found = normals(Sphere(), torch.tensor([[0.0, 0.0, 0.0], [0.0, -5.0, 0.0]]))
    assert found.tolist() == [[0, 0, 0], [0, -1, 0]]


def test_a_chunk_of_nothing_is_refused():
    with pytest.raises(ValueError, match="chunk_size must be at least 1, got 0"):
        evaluate(Sphere(), torch.zeros(5, 3), chunk_size=0)


def test_worst_accuracy():
    assert worst_accuracy("exact", "bound") == "bound"
    assert worst_accuracy("approximate", "exact", "bound") == "approximate"
