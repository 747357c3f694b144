"""Match points between two shapes of a run: the same place on another shape, and how far to trust it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import trimesh

from sdfnet.correspondence.results import TrackConfig
from sdfnet.correspondence.template_map import map_jacobians, points_at, template_places
from sdfnet.correspondence.track import track_surface
from sdfnet.extraction.projection import project_to_level
from sdfnet.fields.adaptors import NeuralField
from sdfnet.fields.base import evaluate, value_and_gradient
from sdfnet.geometry.arrays import FloatArray
from sdfnet.mesh.distance import MeshDistance
from sdfnet.mesh.visibility import sphere_directions
from sdfnet.runs import Run

_ON_SURFACE, _REACH, _STEPS = 0.01, 0.1, 4
"""Source points nearer to their surface than the first length count as on it: their matches are moved onto the target's
surface, by at most the second length (unit frame) and so many Newton steps."""

_TRUSTED_DISTANCE, _TRUSTED_MOVE, _TRUSTED_DETERMINANT = 0.05, 0.03, 0.2
"""Confidence falls to 1/e where the source point is so far from its surface, or its match is moved so far (unit frame).
It falls linearly where the determinant of the map is below the third number, and is 0 where the map folds."""

_SHELL_RADIUS, _SHELL_POINTS = 0.06, 32
"""Both shapes are compared at so many points of a small sphere around a match (unit frame)."""

_ERROR_SCALE, _FLATNESS_POWER, _MISMATCH_POWER = 0.11, 2.3, 0.3
_TRUSTED_ERROR = 0.02
"""The expected error, unit frame, is the product of these powers and the scale (docs/notes/decoders.md). Confidence
falls to 1/e where this error is the last number."""

_FRAMES = 9
"""Frames of the morph along which a mesh is advected where the decoder has no template."""


@dataclass(frozen=True, eq=False)
class MatchedPoints:
    """The places on a target shape that correspond to points of a source shape.

    Attributes
    ----------
    points_world : (N, 3) float64
        In the world frame of the target.
    confidence : (N,) float64
        From 0 (do not trust it) to 1.

    >>> MatchedPoints(np.zeros((1, 3)), np.ones(1)).confidence.tolist()
    [1.0]
    """

    points_world: FloatArray
    confidence: FloatArray


def match_points(run: Run, source: str, target: str, points_world: FloatArray) -> MatchedPoints:
    """Return the places on the shape `target` that correspond to `points_world` (N, 3) of the shape `source`.

    The points are in the world frame of `source`, on its surface or elsewhere. If the decoder has a template, a match
    is the point of the target at the same place of the template. Without one, a mesh of the source is advected along
    the straight path between the codes, and carries the points of its surface. Matches of surface points are moved
    onto the surface of the target.

    The confidence is small where the surface is flat, because nothing there says where a point belongs, and where both
    shapes differ around the match. It is small, too, where the displacement of either shape nearly folds, where the way
    back from the template was not found, where the match was moved far to the surface, and where the source point is
    far from its surface. It is a warning, not a probability. Without a template, only the last of these counts.

    Raises
    ------
    ValueError
        Unknown shapes, points of another shape or not finite; without a template, a topology that changes on the way.

    >>> from sdfnet.runs import load_run
    >>> run = load_run("runs/chairs")
    >>> match_points(run, "chair_00", "chair_00", np.array([[0.0, 0.5, 0.0]])).points_world.round(3).tolist()
    [[0.0, 0.5, 0.0]]
    """
    points_world = np.asarray(points_world, dtype=np.float64)
    if points_world.ndim != 2 or points_world.shape[1] != 3 or not np.isfinite(points_world).all():
        raise ValueError(f"points_world must be finite, of shape (N, 3), got shape {points_world.shape}")
    points = run.similarity(source).to_unit(points_world)
    run.latent(target)  # refuses an unknown name
    if source == target or not len(points):
        return MatchedPoints(run.similarity(target).to_world(points), np.ones(len(points)))
    matched, confidence = (_through_template if run.decoder.has_template else _along_path)(run, source, target, points)
    return MatchedPoints(run.similarity(target).to_world(matched), confidence)


def _through_template(run: Run, source: str, target: str, points: FloatArray) -> tuple[FloatArray, FloatArray]:
    places, folding = template_places(run.decoder, run.latent(source), points)
    mapped = points_at(run.decoder, run.latent(target), places)
    moved, distances = _onto_surface(run, source, target, points, mapped.points)
    confidence = np.exp(-((distances / _TRUSTED_DISTANCE) ** 2))
    confidence *= np.exp(-((np.linalg.norm(moved - mapped.points, axis=1) / _TRUSTED_MOVE) ** 2))
    confidence *= np.clip(np.minimum(folding, mapped.determinants) / _TRUSTED_DETERMINANT, 0, 1)
    confidence *= np.exp(-_expected_errors(run, source, target, points, moved) / _TRUSTED_ERROR)
    return moved, np.where(mapped.found, confidence, 0.0)


def _expected_errors(run: Run, source: str, target: str, points: FloatArray, matched: FloatArray) -> FloatArray:
    """Return the expected errors (N,) of matches, unit frame, from the shapes around the points and their matches.

    Both fields are read on a small sphere, which the map turns along. On a flat surface, the values vary as the height
    does. The more a surface bends within the sphere, the less they vary, and the less a match can slide.
    """
    ends = ((run.latent(source), points), (run.latent(target), matched))
    before, after = (map_jacobians(run.decoder, latent, each) for latent, each in ends)
    regular = np.abs(np.linalg.det(after)) > 1e-6
    derivatives = np.linalg.solve(np.where(regular[:, None, None], after, np.eye(3)), before)
    left, _, right = np.linalg.svd(derivatives)
    shell = _SHELL_RADIUS * sphere_directions(_SHELL_POINTS)
    shells = points[:, None] + shell, matched[:, None] + np.einsum("nij,kj->nki", left @ right, shell)
    values = [
        evaluate(run.field(name), torch.from_numpy(each.reshape(-1, 3)).to(run.latents)).double().cpu().numpy()
        for name, each in zip((source, target), shells, strict=True)
    ]
    first, second = (each.reshape(len(points), -1) / _SHELL_RADIUS for each in values)
    flatness = np.minimum(first.std(axis=1), second.std(axis=1))
    mismatch = np.sqrt(((first - second) ** 2).mean(axis=1))
    return _ERROR_SCALE * flatness**_FLATNESS_POWER * mismatch**_MISMATCH_POWER


def _onto_surface(
    run: Run, source: str, target: str, points: FloatArray, matched: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Move the matches of surface points onto the target's surface; return them and the points' distances to theirs."""
    values, slopes = value_and_gradient(run.field(source), torch.from_numpy(points).to(run.latents))
    distances = (values.abs() / slopes.norm(dim=-1).clamp(min=1e-6)).double().cpu().numpy()
    near = distances <= _ON_SURFACE
    if not near.any():
        return matched, distances
    starts = torch.from_numpy(matched[near]).to(run.latents)
    moved = matched.copy()
    moved[near] = project_to_level(run.field(target), starts, steps=_STEPS, reach=_REACH).double().cpu().numpy()
    return moved, distances


def _along_path(run: Run, source: str, target: str, points: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Carry the points by a mesh that is advected along the straight path between the two codes."""
    ends = run.latent(source), run.latent(target)

    def field_at(time: float) -> NeuralField:
        return NeuralField(run.decoder, torch.lerp(*ends, time / (_FRAMES - 1)))

    morph = track_surface(field_at, range(_FRAMES), config=TrackConfig(on_change="keep"))
    if len(morph.segments) > 1:
        raise ValueError(
            f"{source} and {target} have no correspondence: on the way, {morph.cuts[0].reason}. "
            "A run with decoder=template matches shapes without a way between them"
        )
    first, last = morph.mesh(0), morph.mesh(_FRAMES - 1)
    found = MeshDistance(first).unsigned(points)
    shares = trimesh.triangles.points_to_barycentric(first.triangles[found.faces], found.closest_points)
    shares = np.clip(np.nan_to_num(shares, nan=1 / 3), 0, 1)
    carried = np.einsum("nk,nkd->nd", shares / shares.sum(axis=1, keepdims=True), last.triangles[found.faces])
    moved, distances = _onto_surface(run, source, target, points, carried)
    return moved, np.exp(-((distances / _TRUSTED_DISTANCE) ** 2))
