"""The contract of a field, over an instance of every field."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import sdfnet.fields
from sdfnet.fields import Field, gradient, normals
from sdfnet.geometry.bounds import Bounds


def region(field: Field) -> Bounds:
    """A box about the surface, half as large again as its bounds; [-3, 3]³ for an infinite field."""
    bounds = field.bounds if field.bounds.is_finite else Bounds.cube(3.0)
    return bounds.grown(0.25 * float(bounds.extent.max()) + 0.3)


def random_points(field: Field, num_points: int, generator: torch.Generator) -> torch.Tensor:
    box = region(field)
    shares = torch.rand(num_points, 3, generator=generator, dtype=torch.float64)
    return torch.tensor(box.lower) + shares * torch.tensor(box.extent)


def test_every_concrete_field_has_an_example():
    from conftest import EXAMPLES

    concrete = {c for c in vars(sdfnet.fields).values() if isinstance(c, type) and issubclass(c, Field)} - {Field}
    assert concrete == {type(example.make()) for example in EXAMPLES}


def test_sign_is_negative_inside_and_positive_outside(example):
    inside, outside = example.make()(torch.tensor([example.inside, example.outside], dtype=torch.float64))
    assert inside < 0 < outside


def test_value_never_changes_faster_than_the_point_moves(honest_example, generator):
    field = honest_example.make()
    points = random_points(field, 4000, generator)
    for step in (1.0, 0.1, 1e-3):
        others = points + step * torch.randn(points.shape, generator=generator, dtype=torch.float64)
        distance = torch.linalg.vector_norm(points - others, dim=-1)
        assert ((field(points) - field(others)).abs() <= distance * (1 + 1e-9) + 1e-12).all()


def test_exact_value_is_the_distance_to_the_zero_set(exact_example, generator):
    # A 1-Lipschitz field has no zero nearer than |value|; the foot point shows that there is one just there.
    field = exact_example.make()
    points = random_points(field, 2000, generator)
    slopes = gradient(field, points)
    assert torch.linalg.vector_norm(slopes, dim=-1).sub(1).abs().max() < 1e-9
    feet = points - field(points)[:, None] * slopes
    assert field(feet).abs().max() < 1e-9


def test_zero_set_lies_within_bounds(finite_example, generator):
    field = finite_example.make()
    points = random_points(field, 20000, generator)
    beyond = points[~torch.from_numpy(field.bounds.grown(1e-9).contains(points.numpy()))]
    far = torch.tensor(field.bounds.center) + 20 * torch.randn(2000, 3, generator=generator, dtype=torch.float64)
    far = far[~torch.from_numpy(field.bounds.contains(far.numpy()))]
    signs = torch.cat([field(beyond), field(far)]).sign()
    assert len(beyond) > 1000
    assert (signs == signs[0]).all()


def test_any_leading_shape_is_kept(example, generator):
    field = example.make()
    points = random_points(field, 24, generator)
    sdf = field(points)
    assert torch.equal(field(points.reshape(2, 3, 4, 3)), sdf.reshape(2, 3, 4))
    torch.testing.assert_close(field(points[0]), sdf[0], rtol=0, atol=1e-12)
    assert field(points[0]).shape == ()
    assert field(torch.zeros(0, 3)).shape == (0,)
    assert field(torch.zeros(5, 0, 3)).shape == (5, 0)
    assert gradient(field, torch.zeros(0, 3)).shape == (0, 3)


def test_dtype_is_kept(example, generator):
    field = example.make()
    points = random_points(field, 500, generator)
    assert field(points).dtype == torch.float64
    assert field(points.float()).dtype == torch.float32
    torch.testing.assert_close(field(points.float()).double(), field(points), rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_points_give_half_precision_distances(example, generator, dtype):
    field = example.make()
    points = random_points(field, 50, generator).to(dtype)
    assert field(points).dtype == gradient(field, points).dtype == dtype
    assert field(points[:0]).dtype == dtype


def test_device_is_that_of_the_points(example):
    if example.name in ("mesh", "neural", "nearest_part"):
        pytest.skip("meta tensors hold no data to search a mesh or ask a network with; the rest need not look at it")
    field = example.make()
    assert field(torch.zeros(4, 3, device="meta")).device.type == "meta"  # stands for any but the processor
    assert field(torch.zeros(0, 3, device="meta")).device.type == "meta"


@pytest.mark.parametrize("switched_off", [torch.no_grad, torch.inference_mode], ids=lambda mode: mode.__name__)
def test_gradient_needs_no_gradients_switched_on(example, generator, switched_off):
    field = example.make()
    points = random_points(field, 20, generator)
    expected = gradient(field, points)
    with switched_off():
        assert torch.equal(gradient(field, points * 1), expected)


def test_gradient_is_finite_at_centres_edges_and_corners(example):
    field = example.make()
    box = region(field) if not field.bounds.is_finite else field.bounds
    axes = [torch.tensor([box.lower[i], box.center[i], box.upper[i], 0.0], dtype=torch.float64) for i in range(3)]
    points = torch.cartesian_prod(*axes)
    for dtype in (torch.float64, torch.float32):
        slopes = gradient(field, points.to(dtype))
        assert slopes.isfinite().all()
        if field.accuracy != "approximate":
            assert torch.linalg.vector_norm(slopes, dim=-1).max() <= 1 + 1e-5


def test_gradient_agrees_with_finite_differences(example, generator):
    field = example.make()
    points = random_points(field, 300, generator)
    dtype = torch.float32 if example.name == "neural" else torch.float64
    step = 1e-2 if dtype == torch.float32 else 1e-6
    slopes = gradient(field, points)
    shifts = step * torch.eye(3, dtype=torch.float64)
    differences = torch.stack([(field(points + s) - field(points - s)) / (2 * step) for s in shifts], dim=-1)
    off = torch.linalg.vector_norm(slopes - differences, dim=-1)
    # A few points straddle a crease within one step, where the two rightly differ.
    assert (off < (1e-2 if dtype == torch.float32 else 1e-5)).double().mean() > 0.98


def test_calls_leave_no_trace(example, generator):
    field = example.make()
    points = random_points(field, 50, generator)
    before, copy = field(points), points.clone()
    gradient(field, points + 1)
    field(points[:7])
    assert torch.equal(field(points), before)
    assert torch.equal(points, copy)


def test_normals_point_outward_at_the_surface(example, generator):
    field = example.make()
    inner, outer = random_points(field, 20000, generator), random_points(field, 20000, generator)
    crossing = (field(inner) < 0) & (field(outer) > 0)
    inner, outer = inner[crossing], outer[crossing]
    assert len(inner) > 100
    for _ in range(50):
        middle = (inner + outer) / 2
        is_inside = (field(middle) < 0)[:, None]
        inner, outer = torch.where(is_inside, middle, inner), torch.where(is_inside, outer, middle)
    step = 1e-4 * normals(field, outer)
    rises = (field(outer + step) > 0) & (field(outer - step) < 0)
    assert rises.double().mean() > 0.98  # Creases, which few segments hit, have no normal.


def test_transposed_points_are_refused_with_the_cure(example):
    with pytest.raises(
        ValueError, match=r"points must have shape \(\.\.\., 3\), got \(3, 100\)\. Transpose with points\.T\?"
    ):
        example.make()(torch.zeros(3, 100))


def test_integer_points_are_refused(example):
    with pytest.raises(ValueError, match=r"points must be floating, got torch\.int64"):
        example.make()(torch.zeros(2, 3, dtype=torch.int64))


def test_bounds_cannot_be_written_to(example):
    with pytest.raises(ValueError, match="read-only"):
        example.make().bounds.lower[0] = np.float64(0)
