"""Points on the surface of a thickened sheet: all that is exactly `thickness` away from a mesh without an inside.

That surface is never made into a mesh. Its pieces are drawn from: both sides of the faces moved along their normals,
half-tubes along borders, and wedges of tubes along creases; what lies closer to another part of the sheet is left out,
which makes the density uniform. The spherical bits about single vertices are not sampled.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sdfnet.mesh.distance import MeshDistance
from sdfnet.mesh.mesh import Mesh
from sdfnet.sampling.importance import find_borders, find_creases
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
    pieces = _find_pieces(mesh, thickness)
    found: list[SurfaceSamples] = []
    missing = num_points
    for _ in range(_ROUNDS):
        points, normals = _draw_candidates(mesh, pieces, 2 * missing, thickness=thickness, generator=generator)
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
class _Pieces:
    """The pieces of the surface that candidates are drawn from: the faces, then E edges, borders first.

    Attributes
    ----------
    areas : (1 + E,) float64
        Relative numbers of candidates for all faces together and for each edge.
    starts, ends : (E, 3) float64
    num_borders : int
    normals : (E - num_borders, 2, 3) float64
        Of the two faces at each crease.
    """

    areas: Tensor
    starts: Tensor
    ends: Tensor
    num_borders: int
    normals: Tensor


def _find_pieces(mesh: Mesh, thickness: float) -> _Pieces:
    borders, creases = find_borders(mesh), find_creases(mesh)
    edges = np.concatenate([borders, creases.edges])
    starts, ends = mesh.vertices[edges[:, 0]], mesh.vertices[edges[:, 1]]
    # Candidates go all round a border and to both sides of a crease: more than is kept, at the same density.
    angles = np.concatenate([np.full(len(borders), 2 * math.pi), 2 * creases.angles])
    areas = np.concatenate([[2 * mesh.face_areas.sum()], thickness * np.linalg.norm(ends - starts, axis=1) * angles])
    normals = torch.from_numpy(mesh.face_normals[creases.faces])
    return _Pieces(torch.from_numpy(areas), torch.from_numpy(starts), torch.from_numpy(ends), len(borders), normals)


def _draw_candidates(
    mesh: Mesh, pieces: _Pieces, num_points: int, *, thickness: float, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Return candidates (N, 3) and the outward normals (N, 3) there, in random order."""
    flat = sample_surface(mesh, num_points, generator=generator)
    sides = (torch.randint(0, 2, (num_points, 1), generator=generator) * 2 - 1).to(torch.float64)
    points, normals = flat.points.clone(), flat.normals * sides
    chosen = draw_by_weight(pieces.areas, num_points, generator=generator) - 1
    along, around = torch.rand(2, num_points, 1, dtype=torch.float64, generator=generator)
    on_edge = chosen >= 0
    edges = chosen[on_edge]
    points[on_edge] = torch.lerp(pieces.starts[edges], pieces.ends[edges], along[on_edge])
    at_border = on_edge & (chosen < pieces.num_borders)
    at_crease = chosen >= pieces.num_borders
    normals[at_border] = _turn_about(pieces, chosen[at_border], around[at_border])
    normals[at_crease] = sides[at_crease] * _turn_between(pieces, chosen[at_crease], around[at_crease])
    return points + thickness * normals, normals


def _turn_about(pieces: _Pieces, borders: Tensor, share: Tensor) -> Tensor:
    """Return unit vectors across the borders, `share` of a turn round each."""
    along = torch.nn.functional.normalize(pieces.ends[borders] - pieces.starts[borders], dim=1)
    axis = torch.nn.functional.one_hot(along.abs().argmin(dim=1), 3).to(torch.float64)
    first = torch.nn.functional.normalize(torch.linalg.cross(along, axis), dim=1)
    turn = 2 * math.pi * share
    return turn.cos() * first + turn.sin() * torch.linalg.cross(along, first)


def _turn_between(pieces: _Pieces, creases: Tensor, share: Tensor) -> Tensor:
    """Return unit vectors on the arc from the first face's normal to the second's, `share` of the way."""
    first, second = pieces.normals[creases - pieces.num_borders].unbind(1)
    across = torch.nn.functional.normalize(second - (first * second).sum(1, keepdim=True) * first, dim=1)
    angle = torch.atan2((across * second).sum(1, keepdim=True), (first * second).sum(1, keepdim=True)) * share
    return angle.cos() * first + angle.sin() * across
