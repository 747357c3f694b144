"""How far a mesh kept through changes of topology is from the surface, and what of the surface it does not cover."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from sdfnet.fields.base import Field, evaluate
from sdfnet.geometry.bounds import Lattice
from sdfnet.geometry.distance import MeshDistance
from sdfnet.geometry.edges import face_crosses
from sdfnet.geometry.mesh import Mesh
from sdfnet.surfacing.extract import extract_mesh
from sdfnet.surfacing.landing import FAR, Carried
from sdfnet.surfacing.pieces import Stray, TrackConfig
from sdfnet.surfacing.starting import without_small_pieces

_MOST_SHARE, _MOST_BARE = 0.02, 0.01
"""Of the area of the mesh, and of the surface: where more of one is not at the other, a change is large."""

_FARTHEST = 0.03
"""Unit frame: so it is where a vertex is farther off."""

_COARSER = 2
"""What is bare is looked for on a lattice with so many times fewer samples."""

_NEAR = 2.0
"""In its spacings: what is nearer to the mesh is not bare."""


def find_strays(carried: Carried, field: Field, frame: int, config: TrackConfig, *, changed: bool) -> Stray:
    """Measure a mesh against the surface of a frame; what is bare only where the topology has `changed`."""
    off = np.abs(carried.distances) > FAR
    share = farthest = 0.0
    if off.any():
        areas = np.linalg.norm(face_crosses(carried.vertices, carried.faces), axis=1)
        share = float((areas * off[carried.faces].mean(axis=1)).sum() / areas.sum())
        farthest = float(evaluate(field, torch.from_numpy(carried.vertices[off]).float()).abs().max())
    return Stray(frame, int(off.sum()), share, farthest, _bare_share(carried, field, config) if changed else 0.0)


def too_far(stray: Stray) -> str:
    """Say why a mesh cannot be kept; empty if it can."""
    if stray.share > _MOST_SHARE:
        return f"{100 * stray.share:.1f} % of the mesh has no surface to go to"
    if stray.farthest > _FARTHEST:
        return f"a vertex without surface to go to is {stray.farthest:.3f} off"
    return f"{100 * stray.bare:.1f} % of the surface has no mesh near it" if stray.bare > _MOST_BARE else ""


def _bare_share(carried: Carried, field: Field, config: TrackConfig) -> float:
    resolution = max(config.resolution // _COARSER, 8)
    surface = without_small_pieces(
        extract_mesh(field, resolution=resolution, vertex_normals=False), smallest=config.smallest
    )
    near = _NEAR * Lattice.over(field.bounds, resolution).spacing
    bare = np.flatnonzero(cKDTree(carried.vertices).query(surface.vertices, distance_upper_bound=near)[0] > near)
    if len(bare):  # nearest vertices are quick to find, and never nearer than the mesh
        distances = MeshDistance(Mesh(carried.vertices, carried.faces)).unsigned(surface.vertices[bare]).distance
        bare = bare[distances > near]
    marked: NDArray[np.bool_] = np.zeros(len(surface.vertices), dtype=bool)
    marked[bare] = True
    areas = surface.face_areas
    return float((areas * marked[surface.faces].mean(axis=1)).sum() / areas.sum())
