"""Features of points from a volume: trilinear interpolation, or a cubic B-spline whose samples are its coefficients.

A cubic B-spline has a continuous curvature, so a surface shows no facets of the volume. Eight trilinear look-ups give
the 64 coefficients around a point (Sigg and Hadwiger). This is the way on an accelerator. On a CPU, compiled loops read
the 64 coefficients directly: a look-up takes 1.6 times as long as one trilinear look-up, and its gradient takes less.

The decoders with volumes share this module. The loops are in `lookup_kernels`, loaded at the first cubic look-up.
Legend: B shapes in a batch, N points per shape, C channels, D H W samples of a volume along z, y and x.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

import torch
from torch import Tensor

Lookup = Literal["linear", "cubic"]

_HALF_EXTENT = 1.05

_CHUNK_SIZE = 4096
"""One thread processes this many points at a time."""


def look_up(volume_BCDHW: Tensor, points_BN3: Tensor, *, kind: Lookup) -> Tensor:
    """Return the features (B, N, C) of points in a volume, differentiable once by both.

    The volume is indexed [z, y, x], and the points (x, y, z) are in the unit frame. The outermost samples lie at ±1.05,
    as the lattice of extraction does. Beyond them, they repeat. "linear" interpolates the samples. "cubic" takes them
    as coefficients of a cubic B-spline, which smooths them.

    References
    ----------
    Sigg and Hadwiger, "Fast Third-Order Texture Filtering", GPU Gems 2 (2005), chapter 20.

    >>> ramp = torch.linspace(0.0, 1.0, 9).expand(1, 1, 9, 9, 9)
    >>> [look_up(ramp, torch.zeros(1, 1, 3), kind=kind).round(decimals=3).item() for kind in ("linear", "cubic")]
    [0.5, 0.5]
    """
    points_BN3 = (points_BN3 / _HALF_EXTENT).to(volume_BCDHW.dtype)
    if kind == "linear":
        return _sampled(volume_BCDHW, points_BN3)
    sizes = points_BN3.new_tensor(volume_BCDHW.shape[:1:-1])
    places_BN3 = torch.minimum((points_BN3 + 1).clamp(min=0) / 2 * (sizes - 1), sizes - 1)
    if volume_BCDHW.device.type == "cpu" and volume_BCDHW.dtype == torch.float32:
        result: Tensor = _CompiledCubic.apply(volume_BCDHW.permute(0, 2, 3, 4, 1).contiguous(), places_BN3.contiguous())
        return result
    return _cubic_by_linear(volume_BCDHW, places_BN3, sizes)


def _sampled(volume_BCDHW: Tensor, points_BN3: Tensor) -> Tensor:
    features = torch.nn.functional.grid_sample(
        volume_BCDHW, points_BN3[:, :, None, None], align_corners=True, padding_mode="border"
    )
    return features[..., 0, 0].transpose(1, 2)


def _cubic_by_linear(volume_BCDHW: Tensor, places_BN3: Tensor, sizes: Tensor) -> Tensor:
    """Return the cubic B-spline at `places_BN3` (in samples) by eight trilinear look-ups.

    Along each axis, the four weights w0 … w3 become two look-ups: at -1 + w1 / (w0 + w1) and 1 + w3 / (w2 + w3) samples
    from the sample below, weighted by w0 + w1 and w2 + w3 (Sigg and Hadwiger, equations 20-4 and 20-5).
    """
    base_BN3 = places_BN3.detach().floor()
    share_BN3 = places_BN3 - base_BN3
    rest_BN3 = 1 - share_BN3
    w0, w3 = rest_BN3**3 / 6, share_BN3**3 / 6
    w1 = 2 / 3 - share_BN3**2 * (1 - share_BN3 / 2)
    low, high = base_BN3 - 1 + w1 / (w0 + w1), base_BN3 + 1 + w3 / (1 - w0 - w1)
    weight_low = w0 + w1
    total: Tensor | int = 0
    for corner in range(8):
        is_high = torch.tensor([bool(corner & bit) for bit in (1, 2, 4)], device=places_BN3.device)
        where = 2 * torch.where(is_high, high, low) / (sizes - 1) - 1
        weight = torch.where(is_high, 1 - weight_low, weight_low).prod(dim=-1, keepdim=True)
        total = total + weight * _sampled(volume_BCDHW, where)
    assert isinstance(total, Tensor)
    return total


class _CompiledCubic(torch.autograd.Function):
    """The cubic look-up on a CPU: features (B, N, C) of places (B, N, 3), in samples, in a volume (B, D, H, W, C)."""

    @staticmethod
    def forward(ctx: Any, volume_BDHWC: Tensor, places_BN3: Tensor) -> Tensor:
        ctx.save_for_backward(volume_BDHWC, places_BN3)
        features_BNC = volume_BDHWC.new_empty(*places_BN3.shape[:2], volume_BDHWC.shape[-1])
        _run("look", volume_BDHWC, places_BN3, features_BNC)
        return features_BNC

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient_BNC: Tensor) -> tuple[Tensor | None, Tensor | None]:
        volume_BDHWC, places_BN3 = ctx.saved_tensors
        gradient_BNC = gradient_BNC.contiguous()
        to_volume = to_places = None
        if ctx.needs_input_grad[0]:
            to_volume = torch.zeros_like(volume_BDHWC)
            # Points of one shape add to the same samples, so only different shapes run at a time.
            _run("scatter", to_volume, places_BN3, gradient_BNC, chunk_size=places_BN3.shape[1])
        if ctx.needs_input_grad[1]:
            to_places = torch.empty_like(places_BN3)
            _run("slope", volume_BDHWC, places_BN3, gradient_BNC, to_places)
        return to_volume, to_places


def _run(name: str, volume_BDHWC: Tensor, *rows_BNX: Tensor, chunk_size: int = _CHUNK_SIZE) -> None:
    """Call the compiled loop `name` for chunks of the points of each shape, in as many threads as torch uses."""
    from sdfnet.decoders import lookup_kernels

    kernel = getattr(lookup_kernels, name)(volume_BDHWC.shape[-1])
    num_shapes, num_points = rows_BNX[0].shape[:2]
    sizes = volume_BDHWC.shape[1:4]
    volumes = volume_BDHWC.detach().reshape(num_shapes, -1).numpy()
    rows = [each.detach().numpy() for each in rows_BNX]
    jobs = [
        (volumes[shape], *sizes, *(each[shape, start : start + chunk_size] for each in rows))
        for shape in range(num_shapes)
        for start in range(0, num_points, max(1, chunk_size))
    ]
    num_threads = min(torch.get_num_threads(), len(jobs))
    if num_threads <= 1:
        for job in jobs:
            kernel(*job)
        return
    with ThreadPoolExecutor(num_threads) as pool:
        for done in [pool.submit(kernel, *job) for job in jobs]:
            done.result()
