"""How well fields match the meshes that they were learned from: one yardstick for every trainer.

Cheap: the surface error (mean of |f| / |gradient f| at held-out points of the true surface) and the share of signs that
are right near the surface. Dear: the surface distance of extracted meshes, exact point to triangle, both ways.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from sdfnet.evaluation import Surface, distances_of, extract_exact, match_surfaces
from sdfnet.extraction import extract_mesh
from sdfnet.fields import Field, evaluate, gradient
from sdfnet.geometry.bounds import UNIT_BOUNDS
from sdfnet.geometry.similarity import UNIT_RADIUS
from sdfnet.mesh.mesh import Mesh
from sdfnet.sampling import SampleStore
from sdfnet.solids.source_shape import load_shape

SIGN_NOISE_STD = 0.005
"""Standard deviation of the offsets of the points at which signs are compared, unit frame."""

LEAST_SLOPE = 0.1
"""A flatter field's error is taken as if it had this slope."""


@dataclass(frozen=True, eq=False)
class Truth:
    """What a field of one shape is held against, unit frame.

    Attributes
    ----------
    surface : Surface
    on_surface : (K, 3) float32
        Points that no trainer saw.
    near : (K, 3) float32
    near_inside : (K,) bool
    """

    surface: Surface
    on_surface: torch.Tensor
    near: torch.Tensor
    near_inside: NDArray[np.bool_]


@dataclass(frozen=True)
class CheapQuality:
    """Means over the shapes: surface error in percent of the radius, percent of near-surface signs that are right."""

    surface_error: float
    signs_right: float


@dataclass(frozen=True)
class MeshQuality:
    """Means over the shapes in percent of the radius; NaN where a shape gave no mesh, and how many such there are."""

    mean: float
    p95: float
    num_failed: int


def load_truths(store: SampleStore, names: tuple[str, ...], meshes: Path) -> dict[str, Truth]:
    """Load the sources of `names`, with the held-out points of `store`."""
    truths = {}
    for name in tqdm(names, desc="sources", unit="shape"):
        shape = store.shapes[store.index_of(name)]
        source = load_shape(meshes / shape.source, name=name)
        surface = Surface.of(source.mesh.to_unit(shape.similarity), is_closed=source.closed)
        points = store.heldout(store.index_of(name))[:, :3]
        noise = np.random.default_rng(len(truths)).normal(scale=SIGN_NOISE_STD, size=points.shape)
        near = (points + noise).astype(np.float32)
        inside = surface.distance(near).sdf < 0
        truths[name] = Truth(surface, torch.from_numpy(points), torch.from_numpy(near), inside)
    return truths


def measure_cheaply(fields: Mapping[str, Field], truths: Mapping[str, Truth]) -> CheapQuality:
    """Measure surface error and signs of one field for each shape of `truths`."""
    errors, signs = [], []
    for name, truth in truths.items():
        field = fields[name]
        slope = gradient(field, truth.on_surface).norm(dim=-1).clamp(min=LEAST_SLOPE)
        errors.append(float((evaluate(field, truth.on_surface).abs() / slope).mean()))
        inside = evaluate(field, truth.near).numpy() < 0
        signs.append(float((inside == truth.near_inside).mean()))
    return CheapQuality(100 * float(np.mean(errors)) / UNIT_RADIUS, 100 * float(np.mean(signs)))


def measure_meshes(fields: Mapping[str, Field], truths: Mapping[str, Truth], *, resolution: int) -> MeshQuality:
    """Extract every field on the lattice of learned shapes and measure the surface distance."""
    meshes: dict[str, Mesh | None] = {}
    for name in tqdm(truths, desc="meshes", unit="shape", leave=False):
        try:
            meshes[name] = extract_mesh(fields[name], resolution=resolution, bounds=UNIT_BOUNDS, vertex_normals=False)
        except ValueError:  # No surface yet.
            meshes[name] = None
    return _mesh_quality(meshes, truths)


def measure_floor(truths: Mapping[str, Truth], *, resolution: int) -> MeshQuality:
    """Measure what marching cubes alone loses on the exact fields."""
    meshes = {name: extract_exact(truth.surface, resolution=resolution) for name, truth in truths.items()}
    return _mesh_quality(meshes, truths)


def _mesh_quality(meshes: Mapping[str, Mesh | None], truths: Mapping[str, Truth]) -> MeshQuality:
    found = []
    for name, mesh in meshes.items():
        if mesh is not None:
            generator = torch.Generator().manual_seed(0)
            match = match_surfaces(Surface.of(mesh), truths[name].surface, generator=generator)
            found.append(distances_of(match))
    if len(found) < len(meshes):
        return MeshQuality(math.nan, math.nan, len(meshes) - len(found))
    return MeshQuality(float(np.mean([d.mean for d in found])), float(np.mean([d.p95 for d in found])), 0)
