"""The algebra of solids, blends in closed form, and how tight the boxes are."""

from __future__ import annotations

import math

import pytest
import torch

from sdfnet.fields import (
    Box,
    Complement,
    Difference,
    HalfSpace,
    Intersection,
    NeuralField,
    SmoothDifference,
    SmoothIntersection,
    SmoothUnion,
    Sphere,
    Torus,
    Transformed,
    Union,
    rotation_about,
)

A, B, C = Box([1, 2, 1]), Sphere(1.5, center=[1, 0, 0]), Torus(2.0, 0.5)


@pytest.fixture
def points(generator) -> torch.Tensor:
    return 3 * torch.randn(2000, 3, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("operation", [Union, Intersection])
def test_operation_is_commutative_associative_and_idempotent(operation, points):
    assert torch.equal(operation(A, B)(points), operation(B, A)(points))
    assert torch.equal(operation(operation(A, B), C)(points), operation(A, operation(B, C))(points))
    assert torch.equal(operation(A, B, C)(points), operation(operation(A, B), C)(points))
    assert torch.equal(operation(A, A)(points), A(points))


def test_complement_is_its_own_inverse(points):
    assert torch.equal(Complement(Complement(A))(points), A(points))


def test_de_morgan(points):
    assert torch.equal(Complement(Union(A, B))(points), Intersection(Complement(A), Complement(B))(points))
    assert torch.equal(Complement(Intersection(A, B))(points), Union(Complement(A), Complement(B))(points))


def test_difference_is_intersection_with_complement(points):
    assert torch.equal(Difference(A, B, C)(points), Intersection(A, Complement(B), Complement(C))(points))


def test_membership_agrees_with_sets(points):
    in_a, in_b = A(points) < 0, B(points) < 0
    assert torch.equal(Union(A, B)(points) < 0, in_a | in_b)
    assert torch.equal(Intersection(A, B)(points) < 0, in_a & in_b)
    assert torch.equal(Difference(A, B)(points) < 0, in_a & ~in_b)


@pytest.mark.parametrize("operation", [Union, Intersection, Difference])
def test_rigid_motion_commutes_with_operation(operation, points):
    def move(field):
        return Transformed(field, rotation=rotation_about([1, 2, 3], 50), translation=[1, -2, 3], scale=1.5)

    torch.testing.assert_close(operation(move(A), move(B))(points), move(operation(A, B))(points))


def test_union_is_exact_outside(points):
    # The surface of the union is that of the balls where neither holds it; its nearest point by dense sampling.
    union = Union(Sphere(1.0), Sphere(1.0, center=[1, 0, 0]))
    spiral = torch.arange(200000, dtype=torch.float64)
    height = 1 - (2 * spiral + 1) / len(spiral)
    angle = spiral * math.pi * (3 - math.sqrt(5))
    ring = (1 - height**2).sqrt()
    ball = torch.stack([ring * angle.cos(), height, ring * angle.sin()], dim=-1)
    surface = torch.cat([ball, ball + torch.tensor([1.0, 0.0, 0.0])])
    surface = surface[union(surface) > -1e-12]
    outside = points[union(points) > 0][:100]
    torch.testing.assert_close(union(outside), torch.cdist(outside, surface).amin(dim=1), atol=1e-3, rtol=0)


@pytest.mark.parametrize("operation", [SmoothUnion, SmoothIntersection])
def test_smooth_operation_is_commutative(operation, points):
    assert torch.equal(operation(A, B, width=0.5)(points), operation(B, A, width=0.5)(points))


def test_smooth_operations_differ_by_at_most_a_quarter_of_the_width(points):
    for smooth, hard, sign in [
        (SmoothUnion(A, B, width=0.8), Union(A, B), -1),
        (SmoothIntersection(A, B, width=0.8), Intersection(A, B), 1),
        (SmoothDifference(A, B, width=0.8), Difference(A, B), 1),
    ]:
        change = sign * (smooth(points) - hard(points))
        assert change.min() >= 0
        assert 0.15 < change.max() <= 0.2 + 1e-12
        far = (A(points) - B(points)).abs() > 0.8
        far &= (A(points) + B(points)).abs() > 0.8
        assert change[far].abs().max() == 0


def test_smooth_union_at_equal_values():
    # Quilez: min(a, b) - h² k / 4 with h = 1 - |a - b| / k.
    left, right = HalfSpace([1, 0, 0]), HalfSpace([0, 1, 0])
    blend = SmoothUnion(left, right, width=1.0)
    values = blend(torch.tensor([[2.0, 2.0, 0.0], [2.0, 2.5, 0.0], [2.0, 3.5, 0.0]], dtype=torch.float64))
    assert values.tolist() == pytest.approx([1.75, 2 - 0.0625, 2.0])


def test_accuracy_is_that_of_the_worst_part():
    from conftest import BallDecoder

    neural = NeuralField(BallDecoder(), torch.tensor([0.5, 0.0, 0.0, 0.0]))
    assert Union(A).accuracy == "exact"
    assert Union(A, B).accuracy == "bound"
    assert Complement(A).accuracy == "exact"
    assert Union(A, neural).accuracy == "approximate"
    assert SmoothDifference(A, neural, width=0.1).accuracy == "approximate"
    assert Transformed(Difference(A, B)).accuracy == "bound"


@pytest.mark.parametrize(
    ("field", "lower", "upper"),
    [
        (Union(A, B), [-1, -2, -1.5], [2.5, 2, 1.5]),
        (Intersection(A, B), [-0.5, -1.5, -1], [1, 1.5, 1]),
        (Difference(A, B), [-1, -2, -1], [1, 2, 1]),
        (Intersection(B, HalfSpace([0, 1, 0])), [-0.5, -1.5, -1.5], [2.5, 1.5, 1.5]),
        (Complement(Union(A, B)), [-1, -2, -1.5], [2.5, 2, 1.5]),
        (Union(Complement(A), B), [-1, -2, -1], [1, 2, 1]),
        (SmoothUnion(A, B, width=0.4), [-1.1, -2.1, -1.6], [2.6, 2.1, 1.6]),
        (SmoothDifference(A, B, width=0.4), [-1, -2, -1], [1, 2, 1]),
    ],
)
def test_bounds_are_tight_where_signs_are_known(field, lower, upper):
    assert field.bounds.lower.tolist() == pytest.approx(lower)
    assert field.bounds.upper.tolist() == pytest.approx(upper)


def test_union_with_a_half_space_is_unbounded():
    assert not Union(A, HalfSpace([0, 1, 0])).bounds.is_finite


def test_an_empty_union_is_refused():
    with pytest.raises(ValueError, match="fields must name at least one field, got none"):
        Union()


def test_a_blend_without_width_is_refused():
    with pytest.raises(ValueError, match="width must be positive and finite, got 0"):
        SmoothUnion(A, B, width=0)
