"""The surface of a thickened sheet, against areas that are known."""

from __future__ import annotations

import math

import pytest
import torch

from sdfnet.mesh.distance import MeshDistance
from sdfnet.mesh.mesh import Mesh
from sdfnet.sampling.samplers import sample_sheet_surface

CORNER = Mesh(
    [[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0], [1, 0, 1], [1, 1, 1]], [[0, 1, 2], [0, 2, 3], [1, 4, 5], [1, 5, 2]]
)
"""Two unit squares that meet at a right angle."""


def test_points_of_a_bent_sheet_are_uniform_on_all_pieces(generator: torch.Generator) -> None:
    thickness, distance = 0.1, MeshDistance(CORNER)
    samples = sample_sheet_surface(CORNER, 60_000, thickness=thickness, distance=distance, generator=generator)
    found = distance.unsigned(samples.points.numpy())
    assert abs(found.distance - thickness).max() < 1e-6
    assert abs((samples.points - torch.from_numpy(found.closest_points)) / thickness - samples.normals).max() < 5e-3
    x, y, z = samples.points.T
    between = (y > 0) & (y < 1)
    pieces = {
        "below": ((z + thickness).abs() < 1e-9, 1.0),
        "above": ((z - thickness).abs() < 1e-9, 1.0 - thickness),
        "outside the crease": ((x > 1) & (z < 0) & between, math.pi / 2 * thickness),
        "half-tube at the border": ((x < 0) & between, math.pi * thickness),
    }
    total = sum(float(on_piece.double().mean()) / area for on_piece, area in pieces.values()) / len(pieces)
    for name, (on_piece, area) in pieces.items():
        share = float(on_piece.double().mean())
        assert share == pytest.approx(area * total, abs=5 * (share / 60_000) ** 0.5), name


def test_layers_closer_than_the_thickness_leave_only_the_outermost_surface(generator: torch.Generator) -> None:
    stack = [[x, y, z / 10] for z in range(4) for x, y in ((0, 0), (1, 0), (1, 1), (0, 1))]
    faces = [[4 * k + a, 4 * k + b, 4 * k + c] for k in range(4) for a, b, c in ((0, 1, 2), (0, 2, 3))]
    mesh = Mesh(stack, faces)
    samples = sample_sheet_surface(mesh, 500, thickness=0.5, distance=MeshDistance(mesh), generator=generator)
    assert abs(MeshDistance(mesh).unsigned(samples.points.numpy()).distance - 0.5).max() < 1e-6
