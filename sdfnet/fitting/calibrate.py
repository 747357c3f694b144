"""Scale the spread so that its bands hold: complete shapes whose truth is known, observed like the input, and compare.

The scores are |error| / spread at the vertices of completed calibration shapes. The half width of the band, in spreads,
is the quantile that one more shape of the family is expected to keep below with 90 % of its vertices. It depends on the
distance to the input, because a spread that is too small far from the data must not widen the band near them.

The vertices of one shape err together, so ten shapes are ten observations, not thousands. The quantile of all scores
(split conformal prediction, Vovk et al., 2005) would take a new shape for one of those ten. Here, the scores of a shape
are its level times scores that all shapes share. Levels are log-normal with unknown mean and deviation, so the level of
a new shape has Student's t distribution, wider by sqrt(1 + 1 / k) for k shapes (as a prediction interval).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy.spatial import cKDTree
from scipy.stats import t as student

from sdfnet.fitting.complete import Fit, fit, refined_shape
from sdfnet.fitting.config import CompletionConfig
from sdfnet.fitting.observations.base import choose_similarity
from sdfnet.fitting.observations.part import PartObservation, surface_part
from sdfnet.fitting.spread import VertexSpread, seen_distance, vertex_spread
from sdfnet.geometry.arrays import FloatArray, IntArray
from sdfnet.geometry.similarity import Similarity
from sdfnet.mesh.distance import MeshDistance
from sdfnet.mesh.mesh import Mesh
from sdfnet.runs import Run, extract_shape, select_shapes
from sdfnet.sampling.samplers import sample_surface
from sdfnet.solids.source_shape import find_sources, load_shape

COVERAGE = 0.9
"""Share of vertices that a band holds."""

_NORMAL_QUANTILE = 1.6449
"""Deviations of a normal distribution that hold that share."""

MOST_SHAPES = 10
_RESOLUTION = 64
"""Of the lattice whose vertices, moved onto the surface, are the places that are compared."""

_LEAST_SHAPES = 3
_ZONES, _LEAST_SCORES = 6, 20
"""Zones by distance, with equal shares of the completed surface, and scores of a shape that count in a zone."""

_PARTS = 200
"""Quantiles that stand for a distribution."""

_SAMPLES = 20_000
_TURNED = 0.05
"""Surface that is turned by one radian is as far from an input point as surface at this distance, unit frame."""


@dataclass(frozen=True)
class Calibration:
    """How many spreads the half width of the 90 % band is, as a function of the distance to the input.

    Attributes
    ----------
    distances : tuple of float
        Rising distances to the input, world units.
    factors : tuple of float
        The half width there, in spreads. Between the distances it is interpolated, and beyond them it is constant.
    shapes : tuple of str
        The calibration shapes.

    >>> calibration = Calibration((1.0, 2.0), (2.0, 4.0), ("a",))
    >>> known = VertexSpread(np.ones(3), np.array([0.4, 1.5, 5.0]), np.array([True, False, False]))
    >>> (calibration.applied(known).spread * 1.6449).round(2).tolist()
    [2.0, 3.0, 4.0]
    """

    distances: tuple[float, ...]
    factors: tuple[float, ...]
    shapes: tuple[str, ...]

    def applied(self, known: VertexSpread) -> VertexSpread:
        """Return the spread as the deviation whose normal 90 % band is the calibrated one."""
        factor = np.interp(known.distance, self.distances, self.factors)
        return dataclasses.replace(known, spread=known.spread * factor / _NORMAL_QUANTILE)


def predicted_quantile(scores: Sequence[FloatArray], *, coverage: float = COVERAGE) -> float:
    """Return the value that this share of the scores of one more shape is expected to keep below.

    `scores` are those of each shape, at least two. See the text of the module.

    >>> alike = [np.arange(1.0, 1001.0)] * 10
    >>> round(predicted_quantile(alike) / 900, 2)
    1.0
    >>> unlike = [level * alike[0] for level in np.exp(np.linspace(-0.5, 0.5, 10))]
    >>> bool(predicted_quantile(unlike) > np.quantile(np.concatenate(unlike), COVERAGE))
    True
    """
    parts = (np.arange(_PARTS) + 0.5) / _PARTS
    levels_S = np.log([max(float(np.quantile(each, coverage)), 1e-12) for each in scores])
    shared = np.concatenate([np.quantile(each, parts) for each in scores]) / np.exp(levels_S).repeat(_PARTS)
    wider = levels_S.std(ddof=1) * np.sqrt(1 + 1 / len(scores))
    new_levels = levels_S.mean() + wider * student.ppf(parts, len(scores) - 1)
    return float(np.quantile(np.multiply.outer(np.exp(new_levels), shared), coverage))


def calibration_meshes(run: Run, folder: Path | None) -> dict[str, Path]:
    """Return the meshes for a calibration: those of `folder`, or those that the training of the run held out.

    Raises
    ------
    ValueError
        Fewer than three; the message names the cure.
    """
    patterns = run.document.get("config", {}).get("holdout") or ()
    found: dict[str, Path] = {}
    if folder is not None:
        found = {name: path for name, path in find_sources(folder).items() if name not in run.names}
    elif patterns:
        learned = next(shape for shape in run.shapes if shape.learned)
        above = Path(learned.source).parents[learned.name.count("/")]
        if above.is_dir():
            paths = find_sources(above)
            found = {name: paths[name] for name in select_shapes(list(paths), patterns)}
    if len(found) < _LEAST_SHAPES:
        raise ValueError(
            f"calibrate=true needs at least {_LEAST_SHAPES} shapes that the run has not learned, got {len(found)}: "
            "train with holdout=, or give calibrate_with=DIR"
        )
    chosen = np.random.default_rng(0).permutation(sorted(found))[:MOST_SHAPES]
    return {name: found[name] for name in sorted(chosen.tolist())}


def calibrate(done: Fit, index: int, mesh: Mesh, meshes: Mapping[str, Path]) -> Calibration:
    """Return the calibration of completed shape number `index`, whose mesh is `mesh`, by whole `meshes`.

    Each mesh is observed like the input: the same share of its surface, as many points, the same noise, at the place of
    the completed shape. It is completed with the same options, and compared with itself.
    """
    known = vertex_spread(done, index, mesh)
    edges = np.quantile(known.distance, np.arange(1, _ZONES) / _ZONES)
    middles = np.quantile(known.distance, (np.arange(_ZONES) + 0.5) / _ZONES)
    config = dataclasses.replace(done.config, hypotheses=1, calibrate=False, calibrate_with=None)
    scores: list[tuple[FloatArray, IntArray]] = []
    used: list[str] = []
    for name, path in meshes.items():
        try:
            truth = _placed(done.run, path, done.similarities[index])
            part = observe_like(done, index, mesh, truth, seed=len(used))
            score, distance = _scores(done.run, part, truth, config)
        except ValueError:
            continue  # A shape that cannot be observed so, such as one that misses all slices, tells nothing.
        used.append(name)
        scores.append((score, np.digitize(distance, edges)))
    if len(used) < _LEAST_SHAPES:
        raise ValueError(f"only {len(used)} of {len(meshes)} calibration shapes could be observed like the input")
    factors = []
    for zone in range(_ZONES):
        there = [score[zones == zone] for score, zones in scores]
        enough = [each for each in there if len(each) >= _LEAST_SCORES]
        factors.append(predicted_quantile(enough if len(enough) >= _LEAST_SHAPES else [each for each, _ in scores]))
    return Calibration(tuple(middles.tolist()), tuple(factors), tuple(used))


def _placed(run: Run, path: Path, similarity: Similarity) -> Mesh:
    """Return a whole mesh at the place of the completed shape, world frame."""
    source = load_shape(path)
    own = choose_similarity(run, source.mesh.vertices)
    return source.mesh.to_unit(own).to_world(similarity)


def observe_like(done: Fit, index: int, mesh: Mesh, truth: Mesh, *, seed: int = 0) -> PartObservation:
    """Return `truth`, a whole mesh at the place of the completed shape, observed as the input was.

    A kind of input that can observe another solid does so (`PartObservation.observe`). Otherwise, points of `truth` are
    drawn beside input points whose surface faces the same way: the back of an arm is near points on its front, but
    nobody saw it. Input points have the normals of the completed `mesh`.
    """
    part = done.parts[index]
    if part.observe is not None:
        return part.observe(MeshDistance(truth))
    samples = sample_surface(truth, _SAMPLES, generator=torch.Generator().manual_seed(seed))
    points, place = samples.points.numpy(), done.similarities[index]
    faced = mesh.vertex_normals if mesh.vertex_normals is not None else mesh.to_trimesh().vertex_normals
    given = faced[cKDTree(mesh.vertices).query(part.surface)[1]]
    turn = _TURNED / place.scale
    inputs = np.concatenate([part.surface, turn * given], axis=1)
    apart = cKDTree(inputs).query(np.concatenate([points, turn * samples.normals.numpy()], axis=1))[0]
    seen = apart * place.scale < seen_distance(done, index)
    if not seen.any():
        raise ValueError("nothing of the shape would be seen")
    rows = np.flatnonzero(seen)[: int(part.is_surface.sum())]
    noise = float(np.median(part.noise_std[part.is_surface]))
    random = np.random.default_rng(seed)
    has_normals = bool(np.linalg.norm(part.normals, axis=1).any())
    return surface_part(
        points[rows] + random.normal(size=(len(rows), 3)) * noise,
        normals=samples.normals.numpy()[rows] if has_normals else None,
        noise_std=noise,
    )


def _scores(run: Run, part: PartObservation, truth: Mesh, config: CompletionConfig) -> tuple[FloatArray, FloatArray]:
    """Return |error| / spread at the vertices of a completed calibration shape, and their distance to its input."""
    done = fit(run, part, config=config)
    joined, latent = refined_shape(run, done.latents[0], done.residuals[0])
    shape = done.shape(0, "calibration")
    mesh = extract_shape(joined, shape, latent=latent, resolution=_RESOLUTION, project_steps=1).mesh
    known = vertex_spread(done, 0, mesh)
    error = MeshDistance(truth).unsigned(mesh.vertices).distance
    return error / known.spread, known.distance
