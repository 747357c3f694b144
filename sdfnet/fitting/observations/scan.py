"""An open mesh, such as a scan: only its surface counts. Its holes say nothing, and it need not have an inside."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from sdfnet.fitting.config import ObserveConfig
from sdfnet.fitting.observations.base import hash_file
from sdfnet.fitting.observations.part import PartObservation, surface_part
from sdfnet.mesh.edges import EdgeTable
from sdfnet.mesh.io.read import read_mesh
from sdfnet.mesh.mesh import label_positions
from sdfnet.sampling.samplers import sample_surface

_NUM_POINTS = 20_000
_NOISE = 5e-4
"""A mesh states no noise; this share of its extent is that of a good scan."""

_OPEN_SHARE = 0.02
"""A mesh is a part if its boundary is longer than this share of 2 pi times the square root of its area."""


def read_scan(path: Path, config: ObserveConfig) -> PartObservation:
    """Read a mesh as a part: points of its surface, with the normals of its faces as the file winds them.

    Raises
    ------
    MeshError
        The file cannot be read.
    """
    mesh = read_mesh(path)
    samples = sample_surface(mesh, _NUM_POINTS, generator=torch.Generator().manual_seed(0))
    points = samples.points.numpy()
    noise = config.noise_std if config.noise_std is not None else _NOISE * float(np.linalg.norm(mesh.bounds.extent))
    part = surface_part(points, normals=samples.normals.numpy(), sensor=config.sensor, noise_std=noise)
    return part.described(source=str(path.resolve()), content_hash=hash_file(path, config))


def is_open(path: Path) -> bool:
    """Tell whether a mesh file shows only a part of a surface: its boundary is longer than that of small holes."""
    mesh = read_mesh(path)
    chosen, position = label_positions(mesh.vertices)
    table = EdgeTable.of(position[mesh.faces], len(chosen))
    ends = mesh.vertices[chosen[table.ends[table.counts == 1]]]
    boundary = float(np.linalg.norm(ends[:, 1] - ends[:, 0], axis=1).sum())
    return boundary > _OPEN_SHARE * 2 * np.pi * float(np.sqrt(mesh.face_areas.sum()))
