"""A whole mesh: points with signed distances, drawn as training would draw them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from sdfnet.evaluation.report import source_surface
from sdfnet.fitting.config import MeshFitConfig
from sdfnet.fitting.observations.base import DistanceObservation, ObservationKind, choose_similarity
from sdfnet.fitting.observations.scan import read_scan
from sdfnet.mesh.components import nest_components
from sdfnet.mesh.io.formats import READABLE
from sdfnet.runs import Run, RunShape
from sdfnet.sampling import SamplerConfig, sample_shape
from sdfnet.solids.rule import AUTO, SolidRule
from sdfnet.solids.source_shape import folder_similarities, hash_content, load_shape


def observe_mesh(run: Run, name: str, path: Path, config: MeshFitConfig) -> DistanceObservation:
    """Read and sample a mesh file as the training of `run` would.

    The mesh gets the similarity that training would give it: its own, or, where the run's shapes share one, that.

    Raises
    ------
    ValueError
        The file holds no usable mesh, or the mesh lies outside the unit frame that the run's shapes share.
    """
    source = load_shape(path, name=name, rule=rule_of(run, config), limits=config.limits)
    similarity = choose_similarity(run, source.mesh.vertices, alone=folder_similarities([source])[0])
    options: dict[str, Any] = run.document.get("config", {}).get("sampler", {})
    wanted = {"num_samples": config.num_samples, "num_surface": 0, "num_heldout": 0, "seed": config.seed}
    samples = sample_shape(source, similarity, SamplerConfig(**{**options, **wanted})).sdf
    surface = source_surface(source, similarity)
    known = nest_components(surface.mesh)
    shape = RunShape(
        name,
        similarity,
        str(source.path.resolve()),
        source.content_hash,
        source.closed,
        source.rule,
        num_surfaces=len(known.volumes),
        learned=False,
        solid_hash=source.solid_hash,
        wall_thickness=source.report.wall_thickness,
    )
    return DistanceObservation(torch.from_numpy(samples), shape, surface, tuple(source.report.notes))


def rule_of(run: Run, config: MeshFitConfig) -> SolidRule:
    """Return what the inside of a mesh is taken to be: as `config` says, else as in the run's training."""
    learned = next((shape.rule for shape in run.shapes if shape.learned), AUTO)
    return learned.with_given(solid=config.solid, thickness=config.thickness, gap=config.gap)


MESH = ObservationKind(
    suffixes=tuple(f".{name}" for name in READABLE),
    read_part=read_scan,
    read_whole=observe_mesh,
    hash_whole=lambda path, shape: hash_content(path, rule=shape.rule),
)
