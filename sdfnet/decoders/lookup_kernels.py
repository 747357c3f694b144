"""The compiled loops of cubic look-ups, one function for each number of channels of the volume.

The number of channels is a constant of the compiled code, which makes the inner loops three times as fast. Volumes are
flat arrays, indexed [z, y, x, channel], float32. Places (N, 3) are x, y, z in samples, float32, inside the volume.

`lookup` imports this module at the first cubic look-up, because importing numba takes a third of a second.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from sdfnet.mesh.bvh import compiled


@compiled
def _place_taps(place: Any, sizes: Any, stride: int, taps: Any, weights: Any, slopes: Any) -> None:
    """Fill the offsets, the weights and their derivatives of the four coefficients along x, y and z, each (3, 4).

    `sizes` are the samples along z, y and x. `stride` is the distance of samples along x.
    """
    half, two_thirds, sixth = np.float32(1 / 2), np.float32(2 / 3), np.float32(1 / 6)
    one, two, three_halves = np.float32(1), np.float32(2), np.float32(3 / 2)
    for axis in range(3):
        base = int(np.floor(place[axis]))
        share = np.float32(place[axis] - base)
        rest = one - share
        weights[axis, 0], weights[axis, 3] = rest * rest * rest * sixth, share * share * share * sixth
        weights[axis, 1] = two_thirds - share * share * (one - half * share)
        weights[axis, 2] = two_thirds - rest * rest * (one - half * rest)
        slopes[axis, 0], slopes[axis, 3] = -half * rest * rest, half * share * share
        slopes[axis, 1] = share * (three_halves * share - two)
        slopes[axis, 2] = rest * (two - three_halves * rest)
        size = sizes[2 - axis]
        for tap in range(4):
            taps[axis, tap] = min(max(base - 1 + tap, 0), size - 1) * stride
        stride *= size


@functools.cache
def look(num_channels: int) -> Callable[..., None]:
    """Return the loop that writes the features (N, C) of places."""

    @compiled
    def look_(volume: Any, depth: int, height: int, width: int, places: Any, features: Any) -> None:
        taps, weights, slopes = np.empty((3, 4), np.int64), np.empty((3, 4), np.float32), np.empty((3, 4), np.float32)
        total = np.empty(num_channels, np.float32)
        for n in range(len(places)):
            _place_taps(places[n], (depth, height, width), num_channels, taps, weights, slopes)
            total[:] = 0
            a, b, c, d = taps[0]
            for z in range(4):
                for y in range(4):
                    row = volume[taps[2, z] + taps[1, y] :]
                    first, second = row[a : a + num_channels], row[b : b + num_channels]
                    third, fourth = row[c : c + num_channels], row[d : d + num_channels]
                    share = weights[2, z] * weights[1, y]
                    p, q = share * weights[0, 0], share * weights[0, 1]
                    r, s = share * weights[0, 2], share * weights[0, 3]
                    for k in range(num_channels):
                        total[k] += p * first[k] + q * second[k] + r * third[k] + s * fourth[k]
            features[n] = total

    return look_


@functools.cache
def scatter(num_channels: int) -> Callable[..., None]:
    """Return the loop that adds the gradients (N, C) of features to the gradient of the volume."""

    @compiled
    def scatter_(volume: Any, depth: int, height: int, width: int, places: Any, gradients: Any) -> None:
        taps, weights, slopes = np.empty((3, 4), np.int64), np.empty((3, 4), np.float32), np.empty((3, 4), np.float32)
        for n in range(len(places)):
            _place_taps(places[n], (depth, height, width), num_channels, taps, weights, slopes)
            gradient = gradients[n]
            for z in range(4):
                for y in range(4):
                    for x in range(4):
                        weight = weights[2, z] * weights[1, y] * weights[0, x]
                        start = taps[2, z] + taps[1, y] + taps[0, x]
                        sample = volume[start : start + num_channels]
                        for k in range(num_channels):
                            sample[k] += weight * gradient[k]

    return scatter_


@functools.cache
def slope(num_channels: int) -> Callable[..., None]:
    """Return the loop that writes the gradients (N, 3) of places from the gradients (N, C) of their features."""

    @compiled
    def slope_(volume: Any, depth: int, height: int, width: int, places: Any, gradients: Any, results: Any) -> None:
        taps, weights, slopes = np.empty((3, 4), np.int64), np.empty((3, 4), np.float32), np.empty((3, 4), np.float32)
        for n in range(len(places)):
            _place_taps(places[n], (depth, height, width), num_channels, taps, weights, slopes)
            gradient = gradients[n]
            along_x, along_y, along_z = np.float32(0), np.float32(0), np.float32(0)
            for z in range(4):
                for y in range(4):
                    for x in range(4):
                        start = taps[2, z] + taps[1, y] + taps[0, x]
                        sample = volume[start : start + num_channels]
                        value = np.float32(0)
                        for k in range(num_channels):
                            value += sample[k] * gradient[k]
                        along_x += slopes[0, x] * weights[1, y] * weights[2, z] * value
                        along_y += weights[0, x] * slopes[1, y] * weights[2, z] * value
                        along_z += weights[0, x] * weights[1, y] * slopes[2, z] * value
            results[n, 0], results[n, 1], results[n, 2] = along_x, along_y, along_z

    return slope_
