"""What a family looks like: the numbers and pictures of `sdfnet space`, and the space that it writes into the run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sdfnet.files import ensure_folder, write_atomic, write_json
from sdfnet.geometry.arrays import FloatArray
from sdfnet.latents.config import SpaceConfig
from sdfnet.latents.families import ComparedGroups, compare_all_groups, load_attributes, with_attributes
from sdfnet.latents.generalization import generalization, specificity
from sdfnet.latents.new_shapes import sample_shapes
from sdfnet.latents.pictures import Pictures
from sdfnet.latents.space_page import format_page
from sdfnet.latents.statistics import (
    Components,
    compactness,
    farthest_first,
    fit_components,
    nearest_neighbours,
    outliers,
    typical_distances,
)
from sdfnet.latents.surface_metric import surface_metric
from sdfnet.mesh.io.read import select_shapes
from sdfnet.runs.run import Run
from sdfnet.runs.space import ShapeSpace, codes_fingerprint, placed_codes, save_space

JSON_FILE, PAGE_FILE, NEW_FOLDER = "space.json", "space.html", "new"

_LEAST_SHAPES = 4

_MODES = (1, 2, 5, 10, 20, 40)
"""Numbers of components at which generalization and specificity are measured."""

_MAP_PICTURES = 48
_OUTLIER_PICTURES = 6

_RESAMPLES = 1000


@dataclass(frozen=True, eq=False)
class SpaceReport:
    """The results of `analyze_space`.

    Attributes
    ----------
    space : ShapeSpace
        As written into the run.
    document : dict
        As written into `space.json`.
    page : Path
        The report, one HTML file that needs nothing else.
    """

    space: ShapeSpace
    document: dict[str, Any]
    page: Path


def analyze_space(
    run: Run,
    out: str | Path,
    *,
    shapes: str | Sequence[str] = "all",
    config: SpaceConfig | None = None,
    progress: bool = False,
) -> SpaceReport:
    """Measure and draw the space of the `shapes` (names or globs) of a run.

    Writes `space.html`, `space.json` and pictures into the folder `out`, and `space.safetensors` into the run.

    Raises
    ------
    ValueError
        Unknown shapes, fewer than four, equal codes, or a folder that cannot be written to.

    >>> from sdfnet.runs import load_run
    >>> analyze_space(load_run("runs/chairs"), "space")
    Traceback (most recent call last):
    ...
    ValueError: statistics need at least 4 shapes, got 2
    """
    config = config or SpaceConfig()
    names = select_shapes(run.names, shapes)
    if len(names) < _LEAST_SHAPES:
        raise ValueError(f"statistics need at least {_LEAST_SHAPES} shapes, got {len(names)}")
    out = ensure_folder(out)
    table = load_attributes(config, names)
    placed = placed_codes(run, names)
    codes = placed[:, : run.latents.shape[1]]
    metric = surface_metric(run, codes)
    components = fit_components(codes, metric=metric)
    space = make_space(names, placed, components)
    document = describe_codes(names, codes, metric=metric, config=config)
    compared: list[ComparedGroups] = []
    if table is not None:
        space, document["attributes"] = with_attributes(run, space, table, seed=config.seed, progress=progress)
        compared = compare_all_groups(run, space, table, config, progress=progress)
        document["groups"] = [each.to_dict() for each in compared]
    save_space(space, run.directory)
    if config.num_tests:
        document |= _measured(run, names, codes, metric, config, progress=progress)
    new = None
    if config.num_shapes:
        new = sample_shapes(
            run,
            space,
            out / NEW_FOLDER,
            num_shapes=config.num_shapes,
            novelty=config.novelty,
            resolution=config.resolution,
            seed=config.seed,
            progress=progress,
        )
        document["new"] = {
            "shapes": list(new.meshes),
            "drawn": new.num_drawn,
            "thrown_away": new.thrown_away,
            "novelty": new.novelty,
        }
    with Pictures(run, space, metric, out, config, progress=progress) as pictures:
        for number in range(1, min(config.num_modes, len(components.variances)) + 1):
            pictures.draw_component(number)
        pictures.draw_shapes(names, farthest_first(components.scores(codes)[:, :2], _MAP_PICTURES))
        if table is not None:
            pictures.draw_attributes(table)
        for pair in compared:
            pictures.draw_groups(pair)
        if new is not None:
            pictures.draw_new(new)
        for name in document["outliers"][:_OUTLIER_PICTURES]:
            pictures.draw_outlier(names, codes, name)
    notes = [*(table.notes if table else ()), *pictures.notes]
    document = {"run": str(run.directory), "step": run.step, **document, "notes": notes}
    write_json(out / JSON_FILE, document)
    write_atomic(out / PAGE_FILE, format_page(document, pictures.images))
    return SpaceReport(space, document, out / PAGE_FILE)


def make_space(names: Sequence[str], placed: FloatArray, components: Components) -> ShapeSpace:
    """Return the space of the shapes `names` with placed codes (S, L + 7), without attributes.

    The placement of a new shape follows its scores by linear regression.

    >>> placed = np.eye(3, 9)
    >>> make_space("abc", placed, fit_components(placed[:, :2])).axes.shape
    (2, 9)
    """
    length = components.mean.shape[0]
    scores = components.scores(placed[:, :length])
    mean = placed.mean(axis=0)
    placement = scores.T @ (placed - mean)[:, length:] / (len(names) - 1)
    return ShapeSpace(
        mean,
        np.concatenate([components.axes, placement], axis=1),
        components.projection,
        directions=np.zeros((0, len(mean))),
        attribute_projection=np.zeros((0, len(mean))),
        names=tuple(names),
        fingerprint=codes_fingerprint(placed),
    )


def describe_codes(
    names: Sequence[str], codes: FloatArray, *, metric: FloatArray, config: SpaceConfig
) -> dict[str, Any]:
    """Return all that codes (S, L) alone tell, as a JSON document: no mesh is extracted.

    Components and neighbours are those of the surface, by the root (M, L) of its metric (`surface_metric`). Outliers
    are those of the codes, each direction in its own standard deviation.

    >>> codes = np.random.default_rng(0).normal(size=(5, 3))
    >>> list(describe_codes("abcde", codes, metric=np.eye(3), config=SpaceConfig()))
    ['shapes', 'components', 'movements', 'compactness', 'distances', 'outliers', 'neighbours', 'scores']
    """
    generator = torch.Generator().manual_seed(config.seed)
    measured = codes @ metric.T
    components = fit_components(codes, metric=metric)
    distances = typical_distances(codes)
    rows, lengths = nearest_neighbours(measured, config.num_neighbours)
    order = np.argsort(-distances, kind="stable")
    unusual = outliers(distances)
    scores = components.scores(codes)
    return {
        "shapes": list(names),
        "components": len(components.variances),
        "movements": (100 * np.sqrt(components.variances)).round(6).tolist(),
        "compactness": compactness(measured, num_resamples=_RESAMPLES, generator=generator).to_list(),
        "distances": {names[row]: round(float(distances[row]), 4) for row in order},
        "outliers": [names[row] for row in order if unusual[row]],
        "neighbours": {
            name: [[names[other], round(100 * float(length), 4)] for other, length in zip(*pair, strict=True)]
            for name, *pair in zip(names, rows, lengths, strict=True)
        },
        "scores": {name: row.round(4).tolist() for name, row in zip(names, scores, strict=True)},
    }


def _measured(
    run: Run, names: Sequence[str], codes: FloatArray, metric: FloatArray, config: SpaceConfig, *, progress: bool
) -> dict[str, Any]:
    """Return generalization and specificity, in percent of the radius."""
    most = len(names) - 2
    modes = [num for num in _MODES if num <= most]
    found: dict[str, Any] = {"modes": modes}
    for measure in (generalization, specificity):
        estimates = measure(
            run,
            names,
            codes,
            metric=metric,
            modes=modes,
            num_tests=config.num_tests,
            resolution=config.resolution,
            generator=torch.Generator().manual_seed(config.seed),
            progress=progress,
        )
        found[measure.__name__] = estimates.to_list()
    return found
