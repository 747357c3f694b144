"""The frames of a morph before anything is extracted: what moves, how, and where each frame lies in the world.

When each frame of a morph is taken: its time in the film, and where on the path that is.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sdfnet.geometry.similarity import Similarity
from sdfnet.latents.arc_length import surface_displacements
from sdfnet.latents.geodesic import bend, bend_path
from sdfnet.latents.interpolation import ease, frame_times, interpolate, path_knots
from sdfnet.morphs.config import MorphConfig
from sdfnet.runs import Run, select_shapes

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


_FEWEST_STEPS, _MOST_STEPS = 16, 60
"""Travel is measured over about as many steps as there are frames from one shape to the next, within these limits."""

_COARSER = (4, 2, 1)
"""Travel is measured so many times, each but the first where steps of even travel seemed to be: over fewer of them by
these factors. Even steps of the path may hold a fifth of the travel in one of them."""


@dataclass(frozen=True, eq=False)
class MorphFrame:
    """One frame.

    Attributes
    ----------
    time : float
        In [0, 1].
    latent : (L,) Tensor
    similarity : Similarity
        Between the unit frame and the world of this frame.
    shape : str
        The shape that this frame is, exactly; empty between shapes.
    travel : float or None
        Mean travel of the surface from the frame before (for the first frame of a loop, from the last), world lengths,
        as a camera sees it that goes along over the ground. None where it is not known: nothing is before, or
        `pace="code"`, which does not ask.
    """

    time: float
    latent: Tensor
    similarity: Similarity
    shape: str
    travel: float | None = None


def morph_keys(names: Sequence[str], shapes: str | Sequence[str]) -> list[str]:
    """Return the names of the shapes that a morph goes through, in order; a shape may come more than once.

    Raises
    ------
    ValueError
        Fewer than two, or one that is not among `names`.

    >>> morph_keys(["a", "b", "c"], ["b", "a", "b"])
    ['b', 'a', 'b']
    """
    patterns = [shapes] if isinstance(shapes, str) else list(shapes)
    keys = [name for pattern in patterns for name in select_shapes(names, pattern)]
    if len(keys) < 2:
        raise ValueError(f"a morph needs at least two shapes, got {', '.join(keys) or 'none'}")
    return keys


def plan_frames(run: Run, keys: Sequence[str], *, config: MorphConfig, progress: bool = False) -> list[MorphFrame]:
    """Return the frames of a morph of `run` through the shapes `keys`.

    The codes follow `config.path`. In the world, centres move along the same kind of path (straight where codes go on
    an arc) and scales change by equal factors in equal time, both at the pace of the codes; with `frame="unit"` nothing
    but the codes moves. With `pace="surface"` the frames are where the surface has travelled evenly, or as far as the
    easing says, as seen by a camera that goes along over the ground; the way over the ground itself goes evenly from
    key to key. A frame that is a shape has its code and its similarity to the bit.

    Raises
    ------
    ValueError
        Fewer frames than shapes; key times that do not fit them.

    >>> from sdfnet.runs import load_run
    >>> run = load_run("runs/chairs")
    >>> frames = plan_frames(run, ["chair_00", "chair_01"], config=MorphConfig(frames=3))
    >>> [frame.shape for frame in frames]
    ['chair_00', '', 'chair_01']
    """
    latents = torch.stack([run.latent(name) for name in keys])
    unit = config.frame == "unit"
    similarities = [Similarity.identity() if unit else run.similarity(name) for name in keys]
    places = torch.tensor(
        [[*s.center.tolist(), math.log(s.scale), index] for index, s in enumerate(similarities)], dtype=torch.float64
    )
    bends = _bends(run, latents, config, progress=progress)
    follow = partial(_follow, latents, places, bends, config)
    ground = [axis for axis in range(3) if "xyz"[axis] != config.up_axis]
    times, travels = _timed(partial(_travel_at, run, follow, ground), len(keys), config)
    codes, moved = follow(times.path)
    # From place to place is farther than a surface changes: at one pace for both, shapes would rush on the way.
    moved[:, ground] = follow(times.even)[1][:, ground]
    frames = []
    for time, code, place, travel in zip(times.film.tolist(), codes, moved, travels, strict=True):
        # The key's own row comes back bit for bit, and its last number says which key it is.
        at_key = [index for index in range(len(keys)) if torch.equal(place, places[index])]
        similarity = similarities[at_key[0]] if at_key else Similarity(place[:3].tolist(), math.exp(float(place[3])))
        frames.append(MorphFrame(time, code, similarity, keys[at_key[0]] if at_key else "", travel))
    return frames


def _follow(
    latents: Tensor, places: Tensor, bends: Sequence[Tensor], config: MorphConfig, path_times: NDArray[np.float64]
) -> tuple[Tensor, Tensor]:
    """Return the codes (T, L) and the places (T, 5) at times on the path, before easing and pace."""
    along = partial(interpolate, times=path_times, key_times=config.key_times, closed=config.playback == "loop")
    if config.path == "spherical":
        return along(latents, kind="spherical"), along(places)
    if config.path != "geodesic":
        return along(latents, kind=config.path), along(places, kind=config.path)
    codes = along(latents)
    knots = path_knots(config.key_times, num_keys=len(latents), closed=config.playback == "loop")
    for segment, amplitudes in enumerate(bends):
        within = np.flatnonzero((path_times >= knots[segment]) & (path_times <= knots[segment + 1]))
        shares = (path_times[within] - knots[segment]) / (knots[segment + 1] - knots[segment])
        codes[within] += bend(torch.from_numpy(shares).to(amplitudes.device), amplitudes)
    return codes, along(places)


def _bends(run: Run, latents: Tensor, config: MorphConfig, *, progress: bool) -> list[Tensor]:
    """Return for each segment of a geodesic path how it is bent."""
    if config.path != "geodesic":
        return []
    closed = config.playback == "loop"
    spread = run.latents.std(dim=0)
    around = torch.cat([latents, latents[:1]]) if closed else latents
    return [
        bend_path(run.decoder, start, end, spread=spread, progress=progress)
        for start, end in itertools.pairwise(around)
    ]


def _timed(
    travel_at: Callable[[NDArray[np.float64]], NDArray[np.float64]], num_keys: int, config: MorphConfig
) -> tuple[FrameTimes, Sequence[float | None]]:
    """Return the times of the frames and, if the surface is to go evenly, what it travels to each of them."""
    if config.pace == "code":
        return time_frames(num_keys, config=config), [None] * config.frames
    frames_each = (config.frames - 1) / (num_keys - 1)
    num_steps = int(np.clip(frames_each, _FEWEST_STEPS, _MOST_STEPS))
    times = time_frames(num_keys, config=config, travel=partial(_travel, travel_at, num_steps))
    # Measured anew, so that it is what these frames have, not what the last measurement made them aim at.
    within = max(1, math.ceil(num_steps / frames_each))
    return times, _travel_to_each(travel_at, times.path, within, closed=config.playback == "loop")


def _travel_at(
    run: Run,
    follow: Callable[[NDArray[np.float64]], tuple[Tensor, Tensor]],
    ground: Sequence[int],
    path_times: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return the travel of the surface from each of T times on the path to the next, (T - 1,).

    What moves along the `ground` axes is left out.
    """
    codes, moved = follow(path_times)
    places = moved[:, :4].numpy()
    places[:, ground] = 0.0
    return surface_displacements(run.decoder, codes, places)


def _travel(
    travel_at: Callable[[NDArray[np.float64]], NDArray[np.float64]], num_steps: int, start: float, end: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return stops on the way from key to key, (S + 1,) in [0, 1], and the travel between them, (S,)."""
    stops, travelled = np.linspace(0, 1, 2), np.ones(1)
    for coarser in _COARSER:
        stops = even_shares(stops, travelled, np.linspace(0, 1, num_steps // coarser + 1))
        travelled = travel_at(np.clip(start + stops * (end - start), start, end))
    return stops, travelled


def _travel_to_each(
    travel_at: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    path_times: NDArray[np.float64],
    within: int,
    *,
    closed: bool,
) -> list[float | None]:
    """Return the travel to each frame from the one before, summed over `within` steps."""
    stops = np.append(path_times, 1.0) if closed else path_times
    numbers = np.arange(within * (len(stops) - 1) + 1) / within
    travelled = travel_at(np.interp(numbers, np.arange(len(stops)), stops))
    steps = travelled.reshape(-1, within).sum(axis=1).tolist()
    return [steps[-1], *steps[:-1]] if closed else [None, *steps]
