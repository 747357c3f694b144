"""Generalization and specificity of a family's components, measured between surfaces.

Generalization: how well do the first K components of the other shapes stand for a shape? Specificity: how far is a
random shape of the first K components from the nearest learned shape? Both are mean surface distances between extracted
meshes, in percent of the radius. Components are those of the surface (`surface_metric`). The learned shapes themselves
are the reference, not their sources: the decoder has seen all of them, only the statistics have not.

References: Styner et al. 2003, "Evaluation of 3D correspondence methods for model building", IPMI.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
import torch
from tqdm import tqdm

from sdfnet.evaluation.closest_points import Surface, match_surfaces
from sdfnet.evaluation.metrics import distances_of
from sdfnet.geometry.arrays import FloatArray
from sdfnet.latents.statistics import Estimates, fit_components, mean_interval
from sdfnet.latents.surface_metric import nearest_code
from sdfnet.mesh.mesh import Mesh
from sdfnet.runs.extract import extract_shape
from sdfnet.runs.run import Run

NUM_POINTS = 3000
"""Samples on each surface; a mean distance is then known to about a fiftieth of itself."""

_CANDIDATES = 3
"""The nearest learned shape is sought among so many with the nearest codes."""


def code_mesh(run: Run, code: FloatArray, *, like: str, resolution: int) -> Mesh:
    """Return the clean mesh of a code (L,) in the unit frame; loose components are judged as those of shape `like`.

    >>> from sdfnet.runs import load_run
    >>> run = load_run("runs/chairs")
    >>> len(code_mesh(run, run.latents.mean(0).double().numpy(), like="chair_00", resolution=16).faces) > 100
    True
    """
    latent = torch.from_numpy(code).to(run.latents)
    return extract_shape(run, run.shape(like), latent=latent, resolution=resolution, frame="unit").mesh


def mean_distance(first: Mesh, second: Mesh, *, generator: torch.Generator) -> float:
    """Return the mean surface distance between two meshes, both ways, in percent of the radius of the second.

    >>> from sdfnet.extraction import extract_mesh
    >>> from sdfnet.fields import Sphere
    >>> balls = [extract_mesh(Sphere(radius), resolution=32) for radius in (0.5, 0.6)]
    >>> round(mean_distance(*balls, generator=torch.Generator()))
    17
    """
    match = match_surfaces(Surface.of(first), Surface.of(second), num_points=NUM_POINTS, generator=generator)
    return distances_of(match).mean


def generalization(
    run: Run,
    names: Sequence[str],
    codes: FloatArray,
    *,
    metric: FloatArray,
    modes: Sequence[int],
    num_tests: int = 10,
    resolution: int = 64,
    generator: torch.Generator,
    progress: bool = False,
) -> Estimates:
    """Return the error (M,) of the shapes when the first `modes` (M,) components of the others stand for them.

    Each test leaves one shape out. Its stand-in is the nearest one that these components have (`nearest_code`).
    `codes` (S, L) are those of the shapes `names`, and `metric` is the root (M, L) of the metric of components.

    >>> from sdfnet.runs import load_run
    >>> run = load_run("runs/chairs")
    >>> codes = np.array([[1.0, 0.0], [0.9, 0.1], [0.8, 0.2]])
    >>> names = ["chair_00", "chair_00", "chair_00"]
    >>> generator = torch.Generator().manual_seed(0)
    >>> options = {"metric": np.eye(2), "num_tests": 2, "resolution": 16, "generator": generator}
    >>> found = generalization(run, names, codes, modes=[0, 1], **options)
    >>> bool(found.values[1] < found.values[0])
    True
    """
    tests = torch.randperm(len(names), generator=generator)[:num_tests].tolist()
    errors = np.zeros((len(tests), len(modes)))
    with tqdm(total=errors.size, desc="generalization", unit="mesh", delay=2, leave=False, disable=not progress) as bar:
        for row, test in enumerate(tests):
            components = fit_components(np.delete(codes, test, axis=0), metric=metric)
            truth = code_mesh(run, codes[test], like=names[test], resolution=resolution)
            for column, num in enumerate(modes):
                code = nearest_code(run, components, codes[test], num)
                mesh = code_mesh(run, code, like=names[test], resolution=resolution)
                errors[row, column] = mean_distance(mesh, truth, generator=generator)
                bar.update()
    return mean_interval(errors, generator=generator)


def specificity(
    run: Run,
    names: Sequence[str],
    codes: FloatArray,
    *,
    metric: FloatArray,
    modes: Sequence[int],
    num_tests: int = 10,
    resolution: int = 64,
    generator: torch.Generator,
    progress: bool = False,
) -> Estimates:
    """Return the distance (M,) of random shapes of the first `modes` (M,) components to the nearest learned shape.

    The scores of a random shape are normal with variance 1. The nearest learned shape is sought among the three with
    the nearest codes, so the distance is an upper bound. `metric` is the root (M, L) of the metric of both.

    >>> from sdfnet.runs import load_run
    >>> run = load_run("runs/chairs")
    >>> codes = np.array([[1.0, 0.0], [0.9, 0.1], [0.8, 0.2]])
    >>> names = ["chair_00", "chair_00", "chair_00"]
    >>> generator = torch.Generator().manual_seed(0)
    >>> options = {"metric": np.eye(2), "num_tests": 2, "resolution": 16, "generator": generator}
    >>> specificity(run, names, codes, modes=[1], **options).values.shape
    (1,)
    """

    @functools.cache
    def learned(row: int) -> Mesh:
        return code_mesh(run, codes[row], like=names[row], resolution=resolution)

    components, measured = fit_components(codes, metric=metric), codes @ metric.T
    distances = np.zeros((num_tests, len(modes)))
    bar = tqdm(total=distances.size, desc="specificity", unit="mesh", delay=2, leave=False, disable=not progress)
    with bar:
        for row in range(num_tests):
            scores = torch.randn(max(modes), generator=generator, dtype=torch.float64).numpy()
            for column, num in enumerate(modes):
                code = components.codes(scores[:num])
                near = np.argsort(np.linalg.norm(measured - metric @ code, axis=1), kind="stable")[:_CANDIDATES]
                mesh = code_mesh(run, code, like=names[near[0]], resolution=resolution)
                distances[row, column] = min(
                    mean_distance(mesh, learned(int(other)), generator=generator) for other in near
                )
                bar.update()
    return mean_interval(distances, generator=generator)
