"""The plan of a morph, and the surfaces of its frames.

`plan_frames` sets the time, the code and the place in the world of each frame; it extracts nothing. A `MorphPlan` also
gives the meshes of the shapes that the morph goes through. `extract_shape` extracts each of these meshes once, so these
frames are equal to the meshes of the command `extract`.

Either each frame between shapes is extracted, or one mesh is tracked through all frames. An extracted frame loses its
loose components. It keeps as many components as the shapes before and after have, and every further component that is
too large to count as loose. A tracked mesh keeps its faces until the topology changes or triangles fold. A new mesh
starts there.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from sdfnet.correspondence.narrow_band import FieldAt
from sdfnet.correspondence.results import TrackConfig, TrackedMorph
from sdfnet.correspondence.template_track import track_template
from sdfnet.correspondence.track import track_surface
from sdfnet.fields.adaptors import NeuralField
from sdfnet.geometry.arrays import BoolArray, FloatArray, IntArray
from sdfnet.geometry.similarity import Similarity, rotation_vectors, turned
from sdfnet.latents.arc_length import surface_displacements
from sdfnet.latents.geodesic import bend, bend_path
from sdfnet.latents.interpolation import ease, frame_times, interpolate, path_knots
from sdfnet.mesh.components import keep_components
from sdfnet.mesh.mesh import Mesh
from sdfnet.morphs.config import MorphConfig
from sdfnet.morphs.store import MorphFrame
from sdfnet.runs import (
    ComponentCounts,
    ExtractedShape,
    Run,
    RunShape,
    clean_components,
    extract_shape,
    select_shapes,
)
from sdfnet.runs.mixes import add_mixes

Displacements = Callable[[float, float], tuple[FloatArray, FloatArray]]
"""A function of two times on the path. It returns stops between them, as shares (S + 1,) from 0 to 1, and the
displacement (S,) of the surface from each stop to the next."""

_STILL = 1e-6
"""This share of the displacement is spread evenly over a segment. The inverse would jump at a step without
displacement."""

_FEWEST_STEPS, _MOST_STEPS = 16, 60
"""Limits of the number of steps over which displacement is measured. Between them, it is about the number of frames
from one shape to the next."""

_COARSER = (4, 2, 1)
"""Displacement is measured three times, over fewer steps by these factors. The first measurement takes even steps of
the path, of which one may hold a fifth of the displacement. The others take steps that were even in the measurement
before."""


@dataclass(frozen=True, eq=False)
class MorphPlan:
    """The plan of a morph: its run, its options and its planned frames. The mixes are shapes of `run`."""

    run: Run
    config: MorphConfig
    frames: tuple[MorphFrame, ...]

    @property
    def key_indices(self) -> list[int]:
        """The frames that are shapes."""
        return [frame.index for frame in self.frames if frame.shape]

    @cached_property
    def key_shapes(self) -> dict[str, ExtractedShape]:
        """The mesh of each shape, by name. All are extracted at the first access, each shape once."""
        found: dict[str, ExtractedShape] = {}
        for frame in self.frames:
            if frame.shape and frame.shape not in found:
                found[frame.shape] = extract_frame(self, frame)
        return found

    def indices_around(self, index: int) -> tuple[int, int]:
        """Return the frame numbers of the shapes before and after frame `index`.

        If frame `index` is itself a shape, both numbers are `index`. In a loop, the first shape follows the last one.
        """
        keys = self.key_indices
        before = max((key for key in keys if key <= index), default=keys[-1])
        return before, min((key for key in keys if key >= index), default=keys[0])

    def allowed_components(self, frame: MorphFrame) -> ComponentCounts | None:
        """Return how many components and cavities a frame between shapes may have.

        The limit is the larger number of the shape before and the shape after. A mix counts at most as many components
        as the source of one of its shapes has. None means no limit: for a frame that is a shape, or with `min_piece=0`.
        """
        if frame.shape or self.config.min_piece == 0:
            return None
        keys = [self.frames[index] for index in self.indices_around(frame.index)]
        found = [self.key_shapes[key.shape] for key in keys]
        extra = [self.num_extra(key, shape.num_components) for key, shape in zip(keys, found, strict=True)]
        return ComponentCounts(
            max(shape.num_components - more for shape, more in zip(found, extra, strict=True)),
            max(shape.num_cavities for shape in found),
        )

    def num_extra(self, frame: MorphFrame, num_components: int) -> int:
        """Return how many components a frame has above the allowed number. They are too large to count as loose."""
        allowed = self.allowed_components(frame)
        most = None if allowed is None else allowed.components
        if frame.shape and self.run.shape(frame.shape).is_mix:
            most = self.run.shape(frame.shape).num_surfaces
        return 0 if most is None else max(0, num_components - most)


def plan_morph(
    run: Run, shapes: str | Sequence[str], *, config: MorphConfig | None = None, progress: bool = False
) -> MorphPlan:
    """Return the plan of a morph of `run` through `shapes` (names, globs or mixes, in order).

    Raises
    ------
    ValueError
        Unknown shapes or fewer than two; fewer frames than shapes; key times that do not fit them.

    >>> from sdfnet.runs import load_run
    >>> plan = plan_morph(load_run("runs/chairs"), ["chair_00", "chair_01"], config=MorphConfig(frames=60))
    >>> plan.key_indices
    [0, 59]
    """
    config = config or MorphConfig()
    run.check_is_family("a morph")
    run, names = add_mixes(run, shapes)
    frames = plan_frames(run, morph_keys(run.names, names), config=config, progress=progress)
    return MorphPlan(run, config, tuple(frames))


def extract_frame(plan: MorphPlan, frame: MorphFrame) -> ExtractedShape:
    """Return the surface of one frame without loose components, world frame.

    Raises
    ------
    ValueError
        The frame has no surface; the message says which frame.
    """
    config = plan.config
    try:
        return extract_shape(
            plan.run,
            described_shape(plan.run, frame),
            latent=frame.latent,
            resolution=config.resolution,
            project_steps=config.project_steps,
            min_piece=config.min_piece,
            allowed=plan.allowed_components(frame),
        )
    except ValueError as error:
        place = f"the shape {frame.shape}" if frame.shape else f"at time {frame.time:.3f}"
        raise ValueError(f"frame {frame.index} of the morph ({place}) cannot be extracted: {error}") from error


def described_shape(run: Run, frame: MorphFrame) -> RunShape:
    """Return the description of a frame's shape, with the place of the frame; between shapes, the rest is empty."""
    if frame.shape:
        return dataclasses.replace(run.shape(frame.shape), similarity=frame.similarity)
    return RunShape("", frame.similarity, source="", content_hash="", closed=True)


def extracted_frames(plan: MorphPlan, indices: Sequence[int]) -> Generator[tuple[MorphFrame, Mesh]]:
    """Yield each frame of `indices` with its mesh. Meanwhile, a thread extracts the next mesh."""
    key_shapes = plan.key_shapes  # extracted here, not by the thread

    def extracted(index: int) -> tuple[MorphFrame, Mesh]:
        frame = plan.frames[index]
        found = key_shapes[frame.shape] if frame.shape else extract_frame(plan, frame)
        num_extra = plan.num_extra(frame, found.num_components)
        return dataclasses.replace(frame, removed=found.removed, num_extra=num_extra), found.mesh

    with ThreadPoolExecutor(max_workers=1) as pool:
        ahead = pool.submit(extracted, indices[0])
        for following in [*indices[1:], None]:
            made = ahead.result()
            if following is not None:
                ahead = pool.submit(extracted, following)
            yield made


def tracked_frames(
    plan: MorphPlan, indices: Sequence[int], *, progress: bool = False
) -> Generator[tuple[MorphFrame, Mesh]]:
    """Track all frames of the morph, then yield each frame of `indices` with its mesh.

    A decoder with a template moves the template's mesh to all frames that it fits. Other frames and decoders have an
    advected mesh.

    Loose components are left out as in extracted frames. But if a component is not loose in one frame of a piece, it
    stays in all frames of that piece.
    """
    config = plan.config
    options = TrackConfig(resolution=config.resolution, min_share=config.min_piece, on_change=config.on_change)
    field_at = field_along(plan.run, plan.frames)
    if plan.run.decoder.has_template:
        latents = [frame.latent for frame in plan.frames]
        tracked = track_template(plan.run.decoder, latents, field_at, config=options, progress=progress)
    else:
        tracked = track_surface(field_at, range(len(plan.frames)), config=options, progress=progress)
    return _tracked_meshes(plan, tracked, indices)


def _tracked_meshes(
    plan: MorphPlan, tracked: TrackedMorph, indices: Sequence[int]
) -> Generator[tuple[MorphFrame, Mesh]]:
    cuts = {cut.frame + 1: f"{cut.reason}, at frame {cut.time:.2f}" for cut in tracked.cuts}
    deviations = {
        each.frame: {
            "frame": each.frame,
            "vertices": each.num_vertices,
            "share": each.area_share,
            "farthest": each.largest_distance,
            "bare": each.uncovered_share,
        }
        for each in tracked.deviations
    }
    all_apart = plan.config.on_change == "frames" and bool(tracked.cuts)

    @lru_cache(maxsize=1)
    def kept_faces(number: int) -> BoolArray:
        """Return a mask of the faces of a piece that are not loose in at least one frame."""
        piece = tracked.segments[number]
        kept = np.zeros(len(piece.faces), dtype=bool)
        for frame in plan.frames[piece.first_frame : piece.last_frame + 1]:
            shape, allowed = described_shape(plan.run, frame), plan.allowed_components(frame)
            mesh = piece.mesh(frame.index)
            kept |= clean_components(mesh, shape, min_piece=plan.config.min_piece, allowed=allowed).kept
        return kept

    for index in indices:
        frame, piece = plan.frames[index], tracked.segment_at(index)
        clean = keep_components(tracked.mesh(index).to_world(frame.similarity), kept_faces(piece))
        made = dataclasses.replace(
            frame,
            piece=None if all_apart else piece,
            cut=cuts.get(index, ""),
            deviation=deviations.get(index),
            removed=clean.removed,
            num_extra=plan.num_extra(frame, clean.num_components),
        )
        yield made, clean.mesh


def field_along(run: Run, frames: Sequence[MorphFrame]) -> FieldAt:
    """Return a function from a time in [0, number of frames - 1] to the field at that time, unit frame.

    At a whole number, the field has exactly the code of that frame. Between two frames, the code is interpolated
    linearly. `track_surface` takes such a function.

    Raises
    ------
    ValueError
        Fewer than two frames; from the function, a time before the first or after the last.

    >>> from sdfnet.runs import load_run
    >>> from sdfnet.morphs import MorphConfig, plan_frames
    >>> run = load_run("runs/chairs")
    >>> frames = plan_frames(run, ["chair_00", "chair_01"], config=MorphConfig(frames=3))
    >>> field_along(run, frames)(0.5).accuracy
    'approximate'
    """
    last = len(frames) - 1
    if last < 1:
        raise ValueError(f"frames must be at least two, got {len(frames)}")

    def field_at(time: float) -> NeuralField:
        if not 0 <= time <= last:
            raise ValueError(f"time must be from 0 to {last}, got {time}")
        before = min(int(time), last - 1)
        share = time - before
        if share in (0, 1):
            return NeuralField(run.decoder, frames[before + int(share)].latent)
        return NeuralField(run.decoder, frames[before].latent.lerp(frames[before + 1].latent, share))

    return field_at


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

    The codes follow `config.path`. In the world frame, centres and logarithms of scales move along the same kind of
    path, with the speed of the codes. They move straight if the path of the codes is spherical or geodesic. With
    `frame="unit"` only the codes move. With `pace="surface"` the surface moves by the same mean displacement from frame
    to frame, or as the easing says. Movement over the ground does not count as displacement; it is even from key to
    key. A frame that is a shape has exactly the code and the similarity of the shape.

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
    turns = rotation_vectors(similarities).tolist()
    places = torch.tensor(
        [
            [*each.center.tolist(), math.log(each.scale), index, *turn]
            for index, (each, turn) in enumerate(zip(similarities, turns, strict=True))
        ],
        dtype=torch.float64,
    )
    bends: list[Tensor] = []
    if config.path == "geodesic":
        spread = run.latents.std(dim=0)
        around = torch.cat([latents, latents[:1]]) if config.playback == "loop" else latents
        bends = [bend_path(run.decoder, *ends, spread=spread, progress=progress) for ends in pairwise(around)]
    follow = partial(_follow, latents, places, bends, config)
    ground = [axis for axis in range(3) if "xyz"[axis] != config.up_axis]

    def displacement_at(path_times: FloatArray) -> FloatArray:
        """Return the displacement (T - 1,) from each of T times on the path to the next, without the ground axes."""
        codes, moved = follow(path_times)
        seen = moved[:, :4].numpy()
        seen[:, ground] = 0.0
        return surface_displacements(run.decoder, codes, seen)

    times, displacements = _timed(displacement_at, len(keys), config)
    codes, moved = follow(times.path)
    # Places can be much farther apart than surfaces differ. With one pace for both, the shapes would rush on the way.
    moved[:, ground] = follow(times.even)[1][:, ground]
    frames = []
    for index, (time, code, place) in enumerate(zip(times.film.tolist(), codes, moved, strict=True)):
        # At a key, the row of `places` comes back bit for bit. Its fifth number is the index of the key.
        key = next((key for key in range(len(keys)) if torch.equal(place, places[key])), None)
        similarity = _placed(place, similarities[0]) if key is None else similarities[key]
        shape = "" if key is None else keys[key]
        frames.append(MorphFrame(index, time, code, similarity, shape, displacements[index]))
    return frames


def _placed(place: Tensor, first: Similarity) -> Similarity:
    """Return the similarity of a row of places: centre, log scale, index, and the rotation vector from `first`."""
    return Similarity(place[:3].tolist(), math.exp(float(place[3])), turned(first.rotation, place[5:].numpy()))


def _follow(
    latents: Tensor, places: Tensor, bends: Sequence[Tensor], config: MorphConfig, path_times: FloatArray
) -> tuple[Tensor, Tensor]:
    """Return the codes (T, L) and the places (T, 8) at times on the path, before easing."""
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


@dataclass(frozen=True, eq=False)
class FrameTimes:
    """Times of the frames, (frames,) each, in [0, 1].

    `film` has even steps between key frames. `path` is the time on the path after easing and after the correction by
    displacement. `even` is the time on the path after easing alone. A key frame has exactly the time of its key.
    """

    film: FloatArray
    path: FloatArray
    even: FloatArray


def time_frames(num_keys: int, *, config: MorphConfig, displacements: Displacements | None = None) -> FrameTimes:
    """Return the times of the frames of a morph through `num_keys` shapes.

    Parameters
    ----------
    displacements : Displacements, optional
        If given, easing acts on the share of the displacement from key to key instead of the share of the path. Without
        key times, the frames are then distributed so that the largest step is as small as possible.

    Raises
    ------
    ValueError
        Fewer frames than shapes; key times that do not fit them.
    """
    closed = config.playback == "loop"
    knots = shown = path_knots(config.key_times, num_keys=num_keys, closed=closed)
    times = frame_times(config.frames, num_keys=num_keys, key_times=config.key_times, playback=config.playback)
    measured = [displacements(start, end) for start, end in pairwise(knots.tolist())] if displacements else []
    if measured and config.key_times is None:
        num_steps = config.frames if closed else config.frames - 1
        steps = share_out_steps([float(moved.sum()) for _, moved in measured], num_steps)
        shown = np.concatenate([[0.0], np.cumsum(steps) / num_steps])
        times = np.arange(config.frames) / num_steps
    segments = np.clip(np.searchsorted(shown, times, side="right") - 1, 0, len(shown) - 2)
    eased = ease((times - shown[segments]) / (shown[segments + 1] - shown[segments]), easing=config.easing_used)
    shares = eased.copy()
    for segment, (stops, moved) in enumerate(measured):
        shares[segments == segment] = even_shares(stops, moved, eased[segments == segment])
    path, even = (knots[segments] + each * (knots[segments + 1] - knots[segments]) for each in (shares, eased))
    for share, offset in ((0.0, 0), (1.0, 1)):
        at_key = eased == share
        path[at_key] = even[at_key] = knots[segments[at_key] + offset]
    return FrameTimes(times, path, even)


def share_out_steps(displacements: Sequence[float], num_steps: int) -> IntArray:
    """Distribute `num_steps` over the segments, so that the largest displacement of a step is as small as possible.

    Each segment gets at least one step.

    >>> share_out_steps([3.0, 1.0, 0.0], 9).tolist()
    [6, 2, 1]
    """
    steps = np.ones(len(displacements), dtype=np.int64)
    for _ in range(num_steps - len(displacements)):
        steps[np.argmax(np.asarray(displacements) / steps)] += 1
    return steps


def even_shares(stops: FloatArray, moved: FloatArray, shares: FloatArray) -> FloatArray:
    """Return the positions on a segment at which the `shares` (T,) of its displacement are reached.

    `moved` (S,) is the displacement from each of the `stops` (S + 1,) to the next; the stops increase from 0 to 1. A
    monotone cubic interpolates between the stops. If nothing moves, the result is `shares`.

    >>> even_shares(np.array([0.0, 0.5, 1.0]), np.array([3.0, 1.0]), np.array([0.0, 0.75, 1.0])).round(4).tolist()
    [0.0, 0.5, 1.0]
    """
    from scipy.interpolate import PchipInterpolator

    total = float(moved.sum())
    if not total > 0:
        return shares
    steps = moved / total + _STILL * np.diff(stops)
    reached = np.concatenate([[0.0], np.cumsum(steps)]) / steps.sum()
    reached[-1] = 1.0
    return np.clip(PchipInterpolator(reached, stops)(shares), 0.0, 1.0)


def _timed(
    displacement_at: Callable[[FloatArray], FloatArray], num_keys: int, config: MorphConfig
) -> tuple[FrameTimes, Sequence[float | None]]:
    """Return the times of the frames and, with `pace="surface"`, the displacement of the surface to each of them."""
    if config.pace == "code":
        return time_frames(num_keys, config=config), [None] * config.frames
    frames_each = (config.frames - 1) / (num_keys - 1)
    num_steps = int(np.clip(frames_each, _FEWEST_STEPS, _MOST_STEPS))

    def displacements(start: float, end: float) -> tuple[FloatArray, FloatArray]:
        stops, moved = np.linspace(0, 1, 2), np.ones(1)
        for coarser in _COARSER:
            stops = even_shares(stops, moved, np.linspace(0, 1, num_steps // coarser + 1))
            moved = displacement_at(np.clip(start + stops * (end - start), start, end))
        return stops, moved

    times = time_frames(num_keys, config=config, displacements=displacements)
    # The displacement is measured again at the final frames. The last measurement above is only a plan.
    within = max(1, math.ceil(num_steps / frames_each))
    closed = config.playback == "loop"
    stops = np.append(times.path, 1.0) if closed else times.path
    numbers = np.arange(within * (len(stops) - 1) + 1) / within
    moved = displacement_at(np.interp(numbers, np.arange(len(stops)), stops))
    steps = moved.reshape(-1, within).sum(axis=1).tolist()
    return times, [steps[-1], *steps[:-1]] if closed else [None, *steps]
