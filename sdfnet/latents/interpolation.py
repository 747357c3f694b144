"""Paths through latent codes. A path turns a few key codes and a list of times into one code for each time.

Times run from 0 to 1. At `key_times[k]` a path returns key k bit for bit, so the ends of a morph are the shapes
themselves. Everything is computed in float64 and returned in the keys' dtype. Any rows of numbers can be interpolated:
a morph also interpolates its similarities with this module.

Legend: K keys, L numbers in a key, T times.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sdfnet.geometry.arrays import FloatArray, IntArray

PathKind = Literal["linear", "spherical", "spline", "natural"]
"""The kind of a path: straight lines ("linear"), arcs on which the direction turns evenly and the length changes
linearly ("spherical"), a centripetal Catmull-Rom spline ("spline"), or a natural cubic spline ("natural")."""

Easing = Literal["linear", "smooth", "smoother", "ease-in", "ease-out"]
"""How time passes from one key to the next: evenly ("linear"), slower at both ends ("smooth", "smoother"), slower at
the start ("ease-in"), or slower at the end ("ease-out")."""

Playback = Literal["once", "loop", "pingpong"]
"""The order of a film: from the first key to the last ("once"), also from the last key to the first without a seam
("loop"), or there and back again ("pingpong")."""

_EASINGS: dict[str, Callable[[FloatArray], FloatArray]] = {
    "linear": lambda u: u,
    "smooth": lambda u: u * u * (3 - 2 * u),
    "smoother": lambda u: u**3 * (10 + u * (6 * u - 15)),
    "ease-in": lambda u: u * u,
    "ease-out": lambda u: u * (2 - u),
}

_PARALLEL_SINE = 1e-6
"""If the sine of the angle between two codes is below this, a line replaces the arc. For parallel codes, the arc is a
line up to rounding. For opposite codes, the plane of the arc is not defined."""


def interpolate(
    keys: Tensor,
    times: Sequence[float] | NDArray[np.floating],
    *,
    kind: PathKind = "linear",
    easing: Easing = "linear",
    key_times: Sequence[float] | None = None,
    closed: bool = False,
) -> Tensor:
    """Return the codes (T, L) at `times` on the path through at least two `keys` (K, L).

    Parameters
    ----------
    times : (T,)
        Numbers in [0, 1], in any order.
    kind : PathKind
        A "linear" or "spherical" path depends only on the two neighbouring keys. An arc between parallel, opposite or
        zero codes is a line. A "spline" has no kink at the keys and stays near the keys. "natural" is the C² curve
        with the least bending in time; the curve may overshoot.
    easing : Easing
        Applied between each two neighbouring keys. With "smooth" and "smoother", the path comes to rest at every key.
    key_times : K increasing numbers from 0 to 1
        The time of each key; evenly spaced by default. A `closed` path has K + 1 key times; the last one is for the
        return.
    closed : bool
        Whether the path goes on from the last key to the first.

    Raises
    ------
    ValueError
        Fewer than two keys; times outside [0, 1]; key times that do not increase from 0 to 1; an unknown kind.

    References
    ----------
    Shoemake 1985 (arcs); Catmull & Rom 1974 with the knots of Yuksel et al. 2011, alpha = 1/2.

    >>> interpolate(torch.tensor([[0.0], [1.0], [4.0]]), [0, 0.25, 0.5, 1]).flatten().tolist()
    [0.0, 0.5, 1.0, 4.0]
    """
    if keys.ndim != 2 or len(keys) < 2:
        raise ValueError(f"keys must have shape (K, L) with K at least 2, got {tuple(keys.shape)}")
    if not torch.isfinite(keys).all():
        raise ValueError("keys must be finite, got NaN or infinity: the run that made them has diverged")
    if kind not in get_args(PathKind):
        raise ValueError(f"path must be one of {', '.join(get_args(PathKind))}, got {kind!r}")
    knots = path_knots(key_times, num_keys=len(keys), closed=closed)
    times_T = np.asarray(times, dtype=np.float64).reshape(-1)
    if not ((times_T >= 0) & (times_T <= 1)).all():
        raise ValueError(f"times must lie in [0, 1], got {times_T.min()} to {times_T.max()}")
    path_KL = torch.cat([keys, keys[:1]]) if closed else keys
    segments = np.clip(np.searchsorted(knots, times_T, side="right") - 1, 0, len(knots) - 2)
    shares = (times_T - knots[segments]) / (knots[segments + 1] - knots[segments])
    eased = ease(shares, easing=easing)
    values = path_KL.detach().cpu().double().numpy()
    codes = torch.from_numpy(_curve(values, knots, segments, eased, kind=kind, closed=closed)).to(keys)
    for share, offset in ((0.0, 0), (1.0, 1)):
        at_key = np.flatnonzero(eased == share)
        codes[at_key] = path_KL[segments[at_key] + offset].detach()
    return codes


def ease(shares: FloatArray, *, easing: Easing) -> FloatArray:
    """Apply `easing` to `shares` of the way in [0, 1]. The shares 0 and 1 stay exactly the same.

    >>> ease(np.array([0.0, 0.25, 1.0]), easing="smooth").tolist()
    [0.0, 0.15625, 1.0]
    """
    if easing not in _EASINGS:
        raise ValueError(f"easing must be one of {', '.join(_EASINGS)}, got {easing!r}")
    return _EASINGS[easing](np.asarray(shares, dtype=np.float64))


def frame_times(
    num_frames: int, *, num_keys: int, key_times: Sequence[float] | None = None, playback: Playback = "once"
) -> FloatArray:
    """Return the times (num_frames,) of all frames. Each key falls exactly on a frame.

    Each key time moves to the nearest frame. Between two keys, the frames are evenly spaced. A loop ends one frame
    before the first frame would come again. "pingpong" has the times of "once" (see `playback_order`).

    Raises
    ------
    ValueError
        Fewer than two frames, or fewer frames than keys.

    >>> frame_times(5, num_keys=3).tolist()
    [0.0, 0.25, 0.5, 0.75, 1.0]
    >>> frame_times(4, num_keys=2, playback="loop").tolist()
    [0.0, 0.25, 0.5, 0.75]
    """
    check_playback(playback)
    if num_frames < 2:
        raise ValueError(f"frames must be at least 2, got {num_frames}")
    if num_frames < num_keys:
        raise ValueError(f"frames must be at least {num_keys}, one for each shape, got {num_frames}")
    closed = playback == "loop"
    knots = path_knots(key_times, num_keys=num_keys, closed=closed)
    num_steps = num_frames if closed else num_frames - 1
    # The nearest frame of each key, moved apart so that no two keys share one.
    frames, indices = np.rint(knots * num_steps).astype(np.int64), np.arange(len(knots))
    frames = np.minimum(np.maximum.accumulate(frames - indices) + indices, num_steps - indices[::-1])
    return np.interp(np.arange(num_frames), frames, knots)


def playback_order(num_frames: int, *, playback: Playback) -> list[int]:
    """Return the frames in the order in which a film shows them.

    >>> playback_order(4, playback="pingpong")
    [0, 1, 2, 3, 2, 1]
    """
    check_playback(playback)
    forward = list(range(num_frames))
    return forward + forward[-2:0:-1] if playback == "pingpong" else forward


def check_playback(playback: str) -> None:
    """Raise ValueError if `playback` is not one of Playback."""
    if playback not in get_args(Playback):
        raise ValueError(f"playback must be one of {', '.join(get_args(Playback))}, got {playback!r}")


def path_knots(key_times: Sequence[float] | None, *, num_keys: int, closed: bool) -> FloatArray:
    """Return the time of every key, evenly spaced by default. A closed path has one more time for the return.

    Raises
    ------
    ValueError
        The number of key times is wrong, or the key times do not increase from 0 to 1.
    """
    count = num_keys + closed
    if key_times is None:
        return np.linspace(0, 1, count)
    knots = np.asarray(key_times, dtype=np.float64)
    increasing = knots.shape == (count,) and knots[0] == 0 and knots[-1] == 1 and (np.diff(knots) > 0).all()
    if not increasing:
        raise ValueError(f"key_times must be {count} numbers that increase from 0 to 1, got {list(key_times)}")
    return knots


def _curve(
    values: FloatArray, knots: FloatArray, segments: IntArray, shares: FloatArray, *, kind: PathKind, closed: bool
) -> FloatArray:
    """Return the points (T, L) at `shares` of the way through `segments` of the path through `values`."""
    if kind == "natural":
        from scipy.interpolate import CubicSpline

        spline = CubicSpline(knots, values, bc_type="periodic" if closed else "natural")
        return np.asarray(spline(knots[segments] + shares * (knots[segments + 1] - knots[segments])))
    starts, ends, u = values[segments], values[segments + 1], shares[:, None]
    if kind == "linear":
        return starts + u * (ends - starts)
    if kind == "spherical":
        return _arc(starts, ends, u)
    tangents_out, tangents_in = _catmull_rom_tangents(values, closed=closed)
    cubic, square = u**3, u**2
    return (
        (2 * cubic - 3 * square + 1) * starts
        + (cubic - 2 * square + u) * tangents_out[segments]
        + (3 * square - 2 * cubic) * ends
        + (cubic - square) * tangents_in[segments]
    )


def _arc(starts: FloatArray, ends: FloatArray, u: FloatArray) -> FloatArray:
    """Return a point on each arc. On an arc, the direction turns at a constant rate and the length changes linearly."""
    length_start, length_end = (np.linalg.norm(codes, axis=1, keepdims=True) for codes in (starts, ends))
    safe = (length_start > 0) & (length_end > 0)
    direction_start = starts / np.where(safe, length_start, 1)
    direction_end = ends / np.where(safe, length_end, 1)
    # For nearly parallel codes, the half-angle form is accurate, but the arccos of the dot product is not.
    half_chord = np.linalg.norm(direction_start - direction_end, axis=1, keepdims=True) / 2
    half_sum = np.linalg.norm(direction_start + direction_end, axis=1, keepdims=True) / 2
    angle = 2 * np.arctan2(half_chord, half_sum)
    sine = np.sin(angle)
    curved = safe & (sine > _PARALLEL_SINE)
    divisor = np.where(curved, sine, 1)
    turned = np.sin((1 - u) * angle) / divisor * direction_start + np.sin(u * angle) / divisor * direction_end
    length = length_start + u * (length_end - length_start)
    return np.where(curved, length * turned, starts + u * (ends - starts))


def _catmull_rom_tangents(values: FloatArray, *, closed: bool) -> tuple[FloatArray, FloatArray]:
    """Return the tangents (K - 1, L) at the start and at the end of each segment, per unit of the segment.

    The gap between two knots is the square root of the distance of their keys (centripetal). Beyond an open end, the
    path goes on straight.
    """
    before = values[-2] if closed else 2 * values[0] - values[1]
    after = values[1] if closed else 2 * values[-1] - values[-2]
    padded = np.concatenate([before[None], values, after[None]])
    steps = np.diff(padded, axis=0)
    gaps = np.sqrt(np.linalg.norm(steps, axis=1, keepdims=True))
    gaps = np.where(gaps > 0, gaps, 1)  # two equal keys: their slope is 0 whatever the gap
    slopes = steps / gaps
    at_key = slopes[:-1] + slopes[1:] - (padded[2:] - padded[:-2]) / (gaps[:-1] + gaps[1:])
    inner = gaps[1:-1]
    return at_key[:-1] * inner, at_key[1:] * inner
