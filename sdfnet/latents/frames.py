"""The frames of a morph before anything is extracted: what moves, how, and where each frame lies in the world."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from sdfnet.geometry.similarity import Similarity
from sdfnet.latents.config import MorphConfig as MorphConfig
from sdfnet.latents.interpolation import frame_times, interpolate
from sdfnet.runs import Run, select_shapes


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
    """

    time: float
    latent: Tensor
    similarity: Similarity
    shape: str


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
    but the codes moves. A frame that is a shape has its code and its similarity to the bit.

    Raises
    ------
    ValueError
        Fewer frames than shapes; key times that do not fit them.
    """
    times = frame_times(config.frames, num_keys=len(keys), key_times=config.key_times, playback=config.playback)
    follow = partial(interpolate, easing=config.easing, key_times=config.key_times, closed=config.playback == "loop")
    latents = torch.stack([run.latent(name) for name in keys])
    codes = follow(latents, times, kind=config.path)
    unit = config.frame == "unit"
    similarities = [Similarity.identity() if unit else run.similarity(name) for name in keys]
    places = torch.tensor(
        [[*s.center.tolist(), math.log(s.scale), index] for index, s in enumerate(similarities)], dtype=torch.float64
    )
    moved = follow(places, times, kind="linear" if config.path == "spherical" else config.path)
    frames = []
    for time, code, place in zip(times.tolist(), codes, moved, strict=True):
        # The key's own row comes back bit for bit, and its last number says which key it is.
        at_key = [index for index in range(len(keys)) if torch.equal(place, places[index])]
        similarity = similarities[at_key[0]] if at_key else Similarity(place[:3].tolist(), math.exp(float(place[3])))
        frames.append(MorphFrame(time, code, similarity, keys[at_key[0]] if at_key else ""))
    return frames
