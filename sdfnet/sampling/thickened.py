"""Points on the surface of a thickened sheet: all points that are exactly `thickness` away from a mesh.

That surface is never made into a mesh. Candidates are drawn on its patches: both sides of the faces, moved along their
normals; half-tubes along boundary edges; wedges of tubes along creases. Candidates that lie closer to another place of
the sheet are left out, which makes the density uniform. The spherical patches about single vertices are not sampled.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sdfnet.mesh.distance import MeshDistance
from sdfnet.mesh.edges import EdgeTable
from sdfnet.mesh.mesh import Mesh
from sdfnet.sampling.importance import find_creases
from sdfnet.sampling.samplers import SurfaceSamples, check_num_points, draw_by_weight, sample_surface

_ROUNDS = 50
_ROUNDING = 1e-6


def sample_sheet_surface(
    mesh: Mesh, num_points: int, *, thickness: float, distance: MeshDistance, generator: torch.Generator
) -> SurfaceSamples:
    """Draw points uniformly where the distance to `mesh` is `thickness`; `distance` is that to `mesh`.

    The normals point away from the sheet; the faces are the nearest of the sheet.

    Raises
    ------
    ValueError
        `num_points` negative, or hardly any place is that far from the sheet.
    """
    check_num_points(num_points)
    patches = _find_patches(mesh, thickness)
    found: list[SurfaceSamples] = []
    missing = num_points
    for _ in range(_ROUNDS):
        points, normals = _draw_candidates(mesh, patches, 2 * missing, thickness=thickness, generator=generator)
        nearest = distance.unsigned(points.numpy())
        kept = torch.from_numpy(np.flatnonzero(nearest.distance >= thickness * (1 - _ROUNDING)))[:missing]
        found.append(SurfaceSamples(points[kept], normals[kept], torch.from_numpy(nearest.faces)[kept]))
        missing -= len(kept)
        if missing == 0:
            return SurfaceSamples(
                torch.cat([samples.points for samples in found]),
                torch.cat([samples.normals for samples in found]),
                torch.cat([samples.faces for samples in found]),
            )
    raise ValueError(
        f"{missing} of {num_points} surface points could not be placed: hardly any place is {thickness:g} away from "
        "the sheet. Give a smaller thickness."
    )


@dataclass(frozen=True, eq=False)
class _Patches:
    """The patches of the surface on which candidates are drawn: the faces, then E edges, boundary edges first.

    Attributes
    ----------
    areas : (1 + E,) float64
        Relative numbers of candidates for all faces together and for each edge.
    starts, ends : (E, 3) float64
    num_boundary : int
    normals : (E - num_boundary, 2, 3) float64
        Normals of the two faces at each crease.
    """

    areas: Tensor
    starts: Tensor
    ends: Tensor
    num_boundary: int
    normals: Tensor


def _find_patches(mesh: Mesh, thickness: float) -> _Patches:
    table, creases = EdgeTable.of(mesh.faces, len(mesh.vertices)), find_creases(mesh)
    boundary = table.ends[table.counts == 1]
    edges = np.concatenate([boundary, creases.edges])
    starts, ends = mesh.vertices[edges[:, 0]], mesh.vertices[edges[:, 1]]
    # Candidates go all round a border and to both sides of a crease: more than is kept, at the same density.
    angles = np.concatenate([np.full(len(boundary), 2 * math.pi), 2 * creases.angles])
    areas = np.concatenate([[2 * mesh.face_areas.sum()], thickness * np.linalg.norm(ends - starts, axis=1) * angles])
    normals = torch.from_numpy(mesh.face_normals[creases.faces])
    return _Patches(torch.from_numpy(areas), torch.from_numpy(starts), torch.from_numpy(ends), len(boundary), normals)


def _draw_candidates(
    mesh: Mesh, patches: _Patches, num_points: int, *, thickness: float, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Return candidates (N, 3) and the outward normals (N, 3) there, in random order."""
    flat = sample_surface(mesh, num_points, generator=generator)
    sides = (torch.randint(0, 2, (num_points, 1), generator=generator) * 2 - 1).to(torch.float64)
    points, normals = flat.points.clone(), flat.normals * sides
    chosen = draw_by_weight(patches.areas, num_points, generator=generator) - 1
    along, around = torch.rand(2, num_points, 1, dtype=torch.float64, generator=generator)
    on_edge = chosen >= 0
    edges = chosen[on_edge]
    points[on_edge] = torch.lerp(patches.starts[edges], patches.ends[edges], along[on_edge])
    on_boundary = on_edge & (chosen < patches.num_boundary)
    at_crease = chosen >= patches.num_boundary
    normals[on_boundary] = _turn_about(patches, chosen[on_boundary], around[on_boundary])
    normals[at_crease] = sides[at_crease] * _turn_between(patches, chosen[at_crease], around[at_crease])
    return points + thickness * normals, normals


def _turn_about(patches: _Patches, edges: Tensor, share: Tensor) -> Tensor:
    """Return unit vectors across boundary edges, at `share` of a full turn round each edge."""
    along = torch.nn.functional.normalize(patches.ends[edges] - patches.starts[edges], dim=1)
    axis = torch.nn.functional.one_hot(along.abs().argmin(dim=1), 3).to(torch.float64)
    first = torch.nn.functional.normalize(torch.linalg.cross(along, axis), dim=1)
    turn = 2 * math.pi * share
    return turn.cos() * first + turn.sin() * torch.linalg.cross(along, first)


def _turn_between(patches: _Patches, creases: Tensor, share: Tensor) -> Tensor:
    """Return unit vectors on the arc from the first face's normal to the second's, `share` of the way."""
    first, second = patches.normals[creases - patches.num_boundary].unbind(1)
    across = torch.nn.functional.normalize(second - (first * second).sum(1, keepdim=True) * first, dim=1)
    angle = torch.atan2((across * second).sum(1, keepdim=True), (first * second).sum(1, keepdim=True)) * share
    return angle.cos() * first + angle.sin() * across
