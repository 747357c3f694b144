"""Look-ups in a volume against slow twins: scipy's splines, finite differences, and the way on an accelerator."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates

from sdfnet.decoders import VolumeConfig, build_decoder, recorded_decoder_config
from sdfnet.decoders.lookup import look_up

SIZES = (6, 7, 8)
CHANNELS = 3


def draw(num_points: int = 200, dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, torch.Tensor]:
    """Return two volumes, and points in them and a little beside them."""
    generator = torch.Generator().manual_seed(0)
    volume = torch.randn(2, CHANNELS, *SIZES, generator=generator, dtype=dtype)
    return volume, 2.5 * torch.rand(2, num_points, 3, generator=generator, dtype=dtype) - 1.25


def spline(volume: torch.Tensor, points: torch.Tensor, *, order: int) -> np.ndarray:
    """Return the B-spline of `order` with the samples of one volume (C, D, H, W) as coefficients, (N, C)."""
    last = np.array(SIZES) - 1
    places = np.clip((points.double().numpy()[:, ::-1] / 1.05 + 1) / 2 * last, 0, last).T
    parts = [map_coordinates(part, places, order=order, prefilter=False, mode="nearest") for part in volume.double()]
    return np.stack(parts, axis=1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("kind", "order"), [("linear", 1), ("cubic", 3)])
def test_a_look_up_is_the_spline_of_scipy(kind, order, dtype):
    volume, points = draw(dtype=dtype)
    found = look_up(volume, points, kind=kind)
    assert found.dtype == dtype
    for one in range(2):
        np.testing.assert_allclose(found[one].numpy(), spline(volume[one], points[one], order=order), atol=3e-6)


def test_compiled_gradients_are_those_of_eight_trilinear_look_ups():
    volume, points = draw()
    weights = torch.randn(2, points.shape[1], CHANNELS, generator=torch.Generator().manual_seed(1))
    slopes = []
    for dtype in (torch.float32, torch.float64):  # Only float32 is compiled.
        inputs = [each.to(dtype).requires_grad_(True) for each in (volume, points)]
        slopes.append(torch.autograd.grad((look_up(*inputs, kind="cubic") * weights).sum(), inputs))
    for compiled, plain in zip(*slopes, strict=True):
        torch.testing.assert_close(compiled.double(), plain, rtol=1e-4, atol=1e-5)


def test_threads_do_not_change_a_bit_of_a_cubic_look_up():
    volume, points = draw(num_points=10_000)
    results = []
    for num_threads in (1, 2):
        before = torch.get_num_threads()
        torch.set_num_threads(num_threads)
        inputs = [volume.clone().requires_grad_(True), points.clone().requires_grad_(True)]
        features = look_up(*inputs, kind="cubic")
        results.append([features.detach(), *torch.autograd.grad(features.square().sum(), inputs)])
        torch.set_num_threads(before)
    for alone, together in zip(*results, strict=True):
        assert torch.equal(alone, together)


def test_an_empty_batch_of_points_has_no_features():
    volume, points = draw(num_points=0)
    assert look_up(volume, points, kind="cubic").shape == (2, 0, CHANNELS)


def test_a_cubic_surface_has_no_kinks():
    """Across the border of a cell, the slope of a trilinear look-up jumps and that of a cubic one does not."""
    torch.manual_seed(0)
    jumps = {}
    for kind in ("linear", "cubic"):
        small = VolumeConfig(latent_size=4, base_resolution=2, channels=(8, 8, 4), lookup=kind, activation="silu")
        torch.manual_seed(0)
        decoder = build_decoder(small).eval()
        border = 1.05 * (2 * 3 / 7 - 1)  # the fourth of eight samples
        points = torch.tensor([[[border - 1e-4, 0.1, 0.2], [border + 1e-4, 0.1, 0.2]]], requires_grad=True)
        (slope,) = torch.autograd.grad(decoder(points, torch.ones(1, 4)).sum(), points)
        jumps[kind] = float((slope[0, 1] - slope[0, 0]).norm() / slope.norm())
    assert jumps["linear"] > 0.05
    assert jumps["cubic"] < 0.01


def test_a_run_that_does_not_name_its_look_up_keeps_the_trilinear_one():
    recorded = {"kind": "volume", "latent_size": 8, "base_resolution": 2, "channels": [8, 8, 4], "width": 16}
    config = recorded_decoder_config(recorded)
    assert (config.lookup, config.activation) == ("linear", "relu")
    assert recorded_decoder_config({**recorded, "lookup": "cubic"}).lookup == "cubic"


@pytest.mark.parametrize("wrong", [{"lookup": "quintic"}, {"activation": "tanh"}])
def test_an_unknown_look_up_or_activation_is_refused(wrong):
    ((name, value),) = wrong.items()
    with pytest.raises(ValueError, match=f"{name} must be one of .*, got '{value}'"):
        VolumeConfig(**wrong)
