"""Sphere tracing against closed-form distances."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from sdfnet.fields.base import Accuracy, Field
from sdfnet.fields.primitives import Box, HalfSpace, Sphere
from sdfnet.geometry.bounds import Bounds
from sdfnet.rendering.sphere_tracing import sphere_trace


def _rays(num_rays: int = 2000) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    origins = torch.nn.functional.normalize(torch.randn(num_rays, 3, generator=generator, dtype=torch.float64), dim=-1)
    aims = torch.randn(num_rays, 3, generator=generator, dtype=torch.float64) * 0.7
    return 4 * origins, aims - 4 * origins


def _ball_distances(origins: Tensor, directions: Tensor, radius: float) -> Tensor:
    """Distance to a ball around the origin from the quadratic formula; infinite where it is missed."""
    ways = torch.nn.functional.normalize(directions, dim=-1)
    middle = -(origins * ways).sum(dim=-1)
    square = middle**2 - origins.square().sum(dim=-1) + radius**2
    return torch.where(square >= 0, middle - square.clamp_min(0).sqrt(), float("inf"))


class _Warped(Field):
    """A unit ball with values three times too steep and much too flat in turn: only sign and zero set are right."""

    accuracy: Accuracy = "approximate"
    bounds = Bounds.cube(1.0)

    def __call__(self, points: Tensor) -> Tensor:
        distance = points.norm(dim=-1) - 1
        return distance * (1.6 + 1.4 * torch.sin(9 * points[..., 0]))


@pytest.mark.parametrize(("field", "slack"), [(Sphere(), 1.0), (_Warped(), 10.0)])
def test_distances_to_a_ball_are_those_of_the_formula(field: Field, slack: float) -> None:
    origins, directions = _rays()
    expected = _ball_distances(origins, directions, 1.0)
    trace = sphere_trace(field, origins, directions, tolerance=1e-6)
    # Rays that pass within the tolerance of the silhouette may go either way.
    clear = ~torch.isclose(_ball_distances(origins, directions, 1 - 1e-4), expected, atol=0.1) | torch.isinf(
        _ball_distances(origins, directions, 1 + 1e-4)
    )
    sure = (trace.hit == torch.isfinite(expected)) | ~clear
    assert sure.double().mean() > 0.999
    both = trace.hit & torch.isfinite(expected)
    assert both.sum() > 500
    error = (trace.points[both].norm(dim=-1) - 1).abs()
    assert error.max() < 1e-6 * slack
    assert (trace.distances[both] - expected[both]).abs().max() < 2e-2
    assert (trace.distances[both] - expected[both]).abs().median() < 1e-5


def test_misses_have_no_point() -> None:
    trace = sphere_trace(Sphere(), torch.tensor([[0.0, 0, 5]]), torch.tensor([[0.0, 0, 1]]))
    assert not trace.hit.any()
    assert torch.isinf(trace.distances).all()
    assert torch.isnan(trace.points).all()


def test_a_ray_along_an_axis_that_grazes_the_bounds_is_finite() -> None:
    origins = torch.tensor([[1.0, 0.0, 5.0], [0.0, 0.0, 5.0], [0.0, 0.0, 0.0]])
    trace = sphere_trace(Box([1, 1, 1]), origins, torch.tensor([[0.0, 0, -2]] * 3))
    assert trace.distances.tolist() == pytest.approx([4.0, 4.0, 0.0], abs=1e-3)


def test_infinite_bounds_need_an_end() -> None:
    floor = HalfSpace([0, 1, 0])
    origins, directions = torch.tensor([[0.0, 2, 0]]), torch.tensor([[0.0, -1, 0]])
    assert sphere_trace(floor, origins, directions, max_distance=10).distances.item() == pytest.approx(2, abs=1e-3)
    assert not sphere_trace(floor, origins, directions, max_distance=1).hit.any()
    with pytest.raises(ValueError, match="give max_distance"):
        sphere_trace(floor, origins, directions)


def test_no_rays_and_bad_rays() -> None:
    assert sphere_trace(Sphere(), torch.zeros(0, 3), torch.zeros(0, 3)).hit.shape == (0,)
    with pytest.raises(ValueError, match=r"both have shape \(R, 3\), got \(4, 3\) and \(5, 3\)"):
        sphere_trace(Sphere(), torch.zeros(4, 3), torch.ones(5, 3))
    with pytest.raises(ValueError, match="must not be zero"):
        sphere_trace(Sphere(), torch.zeros(4, 3), torch.zeros(4, 3))
