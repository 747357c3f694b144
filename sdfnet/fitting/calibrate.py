"""Scale the spread so that its bands hold: complete shapes whose truth is known, observed like the input, and compare.

This is split conformal prediction (Vovk et al., 2005). The scores are |error| / spread at the vertices of completed
calibration shapes. Their 90 % quantile is the half width of the band, in spreads. It is taken in three zones by the
distance to the input, because a spread that is too small far from the data must not widen the band near them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy.spatial import cKDTree

from sdfnet.fitting.complete import Fit, fit, refined_shape
from sdfnet.fitting.config import CompletionConfig
from sdfnet.fitting.observations.base import choose_similarity
from sdfnet.fitting.observations.part import PartObservation, surface_part
from sdfnet.fitting.spread import VertexSpread, vertex_spread
from sdfnet.geometry.arrays import FloatArray
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
_SAMPLES = 20_000


@dataclass(frozen=True)
class Calibration:
    """How many spreads the half width of the 90 % band is, in each of three zones by distance to the input.

    Attributes
    ----------
    edges : (2,) floats
        Distances between the zones, world units.
    factors : (3,) floats
    shapes : tuple of str
        The calibration shapes.

    >>> calibration = Calibration((1.0, 2.0), (2.0, 3.0, 4.0), ("a",))
    >>> known = VertexSpread(np.ones(2), np.array([0.4, 5.0]), np.array([True, False]))
    >>> (calibration.applied(known).spread * 1.6449).round(2).tolist()
    [2.0, 4.0]
    """

    edges: tuple[float, float]
    factors: tuple[float, float, float]
    shapes: tuple[str, ...]

    def applied(self, known: VertexSpread) -> VertexSpread:
        """Return the spread as the deviation whose normal 90 % band is the calibrated one."""
        near, far = self.edges
        middles = [near / 2, (near + far) / 2, far + (far - near) / 2]
        factor = np.interp(known.distance, middles, self.factors)  # no jumps between the zones
        return dataclasses.replace(known, spread=known.spread * factor / _NORMAL_QUANTILE)


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
    edges = (float(np.quantile(known.distance, 1 / 3)), float(np.quantile(known.distance, 2 / 3)))
    config = dataclasses.replace(done.config, hypotheses=1, calibrate=False, calibrate_with=None)
    scores: list[list[FloatArray]] = [[], [], []]
    used: list[str] = []
    for name, path in meshes.items():
        try:
            truth = _placed(done.run, path, done.similarities[index])
            part = observe_like(done, index, mesh, known, truth, seed=len(used))
            score, distance = _scores(done.run, part, truth, config)
        except ValueError:
            continue  # A shape that cannot be observed so, such as one that misses all slices, tells nothing.
        used.append(name)
        zones = np.digitize(distance, edges)
        for zone in range(3):
            scores[zone].append(score[zones == zone])
    if len(used) < _LEAST_SHAPES:
        raise ValueError(f"only {len(used)} of {len(meshes)} calibration shapes could be observed like the input")
    pooled = np.concatenate([each for zone_scores in scores for each in zone_scores])
    factors = []
    for zone_scores in scores:
        joined = np.concatenate(zone_scores)
        factors.append(float(np.quantile(joined if len(joined) > 50 else pooled, COVERAGE)))
    return Calibration(edges, (factors[0], factors[1], factors[2]), tuple(used))


def _placed(run: Run, path: Path, similarity: Similarity) -> Mesh:
    """Return a whole mesh at the place of the completed shape, world frame."""
    source = load_shape(path)
    own = choose_similarity(run, source.mesh.vertices)
    return source.mesh.to_unit(own).to_world(similarity)


def observe_like(
    done: Fit, index: int, mesh: Mesh, known: VertexSpread, truth: Mesh, *, seed: int = 0
) -> PartObservation:
    """Return `truth`, a whole mesh at the place of the completed shape, observed as the input was.

    A kind of input that can observe another solid does so (`PartObservation.observe`). Otherwise, points are drawn
    where the nearest vertex of the completed `mesh` was seen.
    """
    part = done.parts[index]
    if part.observe is not None:
        return part.observe(MeshDistance(truth))
    samples = sample_surface(truth, _SAMPLES, generator=torch.Generator().manual_seed(seed))
    points = samples.points.numpy()
    seen = known.seen[cKDTree(mesh.vertices).query(points)[1]]
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
