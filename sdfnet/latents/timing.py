"""When each frame of a morph is taken: its time in the film, and where on the path that is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from sdfnet.latents.config import MorphConfig
from sdfnet.latents.interpolation import ease, frame_times, path_knots

Travel = Callable[[float, float], tuple[NDArray[np.float64], NDArray[np.float64]]]
"""From two times on the path to stops, shares (S + 1,) of the way between them from 0 to 1, and what is travelled from
each to the next, (S,)."""

_STILL = 1e-6


@dataclass(frozen=True, eq=False)
class FrameTimes:
    """Times of the frames, (frames,) each, in [0, 1].

    Attributes
    ----------
    film : float64
        Evenly spaced between key frames.
    path : float64
        On the path, bent by easing and pace; a frame that is a key has the very time of that key.
    even : float64
        The same, bent by easing alone.
    """

    film: NDArray[np.float64]
    path: NDArray[np.float64]
    even: NDArray[np.float64]


def time_frames(num_keys: int, *, config: MorphConfig, travel: Travel | None = None) -> FrameTimes:
    """Return the times of the frames of a morph through `num_keys` shapes.

    Parameters
    ----------
    travel : Travel, optional
        If given, easing acts on the share of the travel from key to key instead of the share of the path, and where no
        key times are given, the frames are shared out between the segments so that the largest step is least.

    Raises
    ------
    ValueError
        Fewer frames than shapes; key times that do not fit them.
    """
    closed = config.playback == "loop"
    knots = shown = path_knots(config.key_times, num_keys=num_keys, closed=closed)
    times = frame_times(config.frames, num_keys=num_keys, key_times=config.key_times, playback=config.playback)
    travels = [travel(start, end) for start, end in pairwise(knots.tolist())] if travel is not None else []
    if travels and config.key_times is None:
        num_steps = config.frames if closed else config.frames - 1
        steps = share_out_steps([float(travelled.sum()) for _, travelled in travels], num_steps)
        shown = np.concatenate([[0.0], np.cumsum(steps) / num_steps])
        times = np.arange(config.frames) / num_steps
    segments = np.clip(np.searchsorted(shown, times, side="right") - 1, 0, len(shown) - 2)
    eased = ease((times - shown[segments]) / (shown[segments + 1] - shown[segments]), easing=config.easing_used)
    shares = eased.copy()
    for segment, (stops, travelled) in enumerate(travels):
        shares[segments == segment] = even_shares(stops, travelled, eased[segments == segment])
    path, even = (knots[segments] + each * (knots[segments + 1] - knots[segments]) for each in (shares, eased))
    for share, offset in ((0.0, 0), (1.0, 1)):
        at_key = eased == share
        path[at_key] = even[at_key] = knots[segments[at_key] + offset]
    return FrameTimes(times, path, even)


def share_out_steps(travels: Sequence[float], num_steps: int) -> NDArray[np.int64]:
    """Return how many of `num_steps` each segment gets, at least one, such that the largest travel per step is least.

    >>> share_out_steps([3.0, 1.0, 0.0], 9).tolist()
    [6, 2, 1]
    """
    steps = np.ones(len(travels), dtype=np.int64)
    for _ in range(num_steps - len(travels)):
        steps[np.argmax(np.asarray(travels) / steps)] += 1
    return steps


def even_shares(
    stops: NDArray[np.float64], travelled: NDArray[np.float64], shares: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return where on a segment the `shares` (T,) of its travel are reached.

    `travelled` (S,) is what is travelled from each of the `stops` (S + 1,) to the next; they rise from 0 to 1. A
    monotone cubic joins the stops. Where nothing travels, the shares themselves.

    >>> even_shares(np.array([0.0, 0.5, 1.0]), np.array([3.0, 1.0]), np.array([0.0, 0.75, 1.0])).round(4).tolist()
    [0.0, 0.5, 1.0]
    """
    from scipy.interpolate import PchipInterpolator

    total = float(travelled.sum())
    if not total > 0:
        return shares
    # A step without travel would make a jump of the inverse, so a millionth of the travel goes with the shares.
    steps = travelled / total + _STILL * np.diff(stops)
    reached = np.concatenate([[0.0], np.cumsum(steps)]) / steps.sum()
    reached[-1] = 1.0
    return np.clip(PchipInterpolator(reached, stops)(shares), 0.0, 1.0)
