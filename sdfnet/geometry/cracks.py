"""Find the cracks between parts that touch only nearly, and what fills them.

Files round coordinates, and convex decompositions leave gaps of 10⁻⁴ of the radius between their pieces. No lattice
or network resolves such a crack, but its two walls would count as surface. A crack is filled by the intersection of
both parts, each pushed over it along its normal: that is a slab between the walls which hardly reaches beyond them
sideways, so the surface around the crack stays what it was.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sdfnet.geometry.distance import MeshDistance
from sdfnet.geometry.mesh import Mesh
from sdfnet.geometry.winding import spread_over_surface

CRACK_WIDTH = 1e-3
"""Gaps between closed parts up to this wide are cracks, share of the radius."""

FACING = -0.9
"""Walls of a crack have normals whose product is below this."""

OVERREACH = 1e-6
"""A filler reaches at least this far into both parts, unit frame: beyond rounding, below the accuracy of distances."""

NUM_PROBES, MAX_PROBES = 400, 100_000
"""Probes on each part, and on all of them."""


@dataclass(frozen=True, eq=False)
class Crack:
    """A narrow gap between two parts, or none at all where they just touch.

    Attributes
    ----------
    one, other : int
        Numbers of the parts.
    push : (3,) float64, unit frame
        Moves the wall of `one` across the gap into `other`.
    """

    one: int
    other: int
    push: NDArray[np.float64]


def find_cracks(meshes: list[Mesh]) -> list[Crack]:
    """Find the cracks between closed outward meshes (unit frame), by probes spread over their surfaces."""
    num_probes = min(NUM_PROBES, max(1, MAX_PROBES // max(len(meshes), 1)))
    probes = [spread_over_surface(mesh, num_probes) for mesh in meshes]
    points = np.concatenate([points for points, _ in probes])
    normals = np.concatenate([mesh.face_normals[faces] for mesh, (_, faces) in zip(meshes, probes, strict=True)])
    owners = np.repeat(np.arange(len(meshes)), num_probes)
    contacts = [np.zeros((0, 6))]
    for number, mesh in enumerate(meshes):
        near = mesh.bounds.grown(CRACK_WIDTH).contains(points) & (owners != number)
        if near.any():
            contacts.append(_contacts(mesh, number, points[near], normals[near], owners[near]))
    table = np.concatenate(contacts)
    _, pair = np.unique(table[:, :2], axis=0, return_inverse=True)
    return [crack for number in range(pair.max(initial=-1) + 1) for crack in _cracks_of_pair(table[pair == number])]


def _contacts(
    mesh: Mesh, number: int, points: NDArray[np.float64], normals: NDArray[np.float64], owners: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return rows (lower part, higher part, normal out of the lower, gap) for the probes that face `mesh` closely."""
    found = MeshDistance(mesh).unsigned(points)
    facing = np.einsum("ij,ij->i", mesh.face_normals[found.faces], normals) < FACING
    rows = facing & (found.distance <= CRACK_WIDTH)
    gaps = np.einsum("ij,ij->i", found.closest_points[rows] - points[rows], normals[rows])
    forward = owners[rows] < number
    outward = np.where(forward[:, None], normals[rows], -normals[rows])
    return np.column_stack([np.minimum(owners[rows], number), np.maximum(owners[rows], number), outward, gaps])


def _cracks_of_pair(contacts: NDArray[np.float64]) -> list[Crack]:
    """Group the contacts of two parts by direction; the push of each group crosses its widest gap."""
    cracks = []
    one, other = contacts[0, :2].astype(int).tolist()
    while len(contacts):
        same = contacts[:, 2:5] @ contacts[0, 2:5] > -FACING
        mean = contacts[same, 2:5].mean(axis=0)
        reach = 1.05 * max(float(contacts[same, 5].max()), 0.0) + OVERREACH
        cracks.append(Crack(one, other, reach * mean / np.linalg.norm(mean)))
        contacts = contacts[~same]
    return cracks


def inflate(mesh: Mesh, amount: float) -> Mesh:
    """Return a closed outward mesh with every face moved outward by `amount`, as far as its vertices allow.

    A vertex goes where the moved planes of its faces meet, in the least-squares sense, but not beyond three times as
    far. Meant for amounts below any detail of the mesh.
    """
    corners = mesh.faces.reshape(-1)
    normals = np.repeat(mesh.face_normals, 3, axis=0)
    products = (normals[:, :, None] * normals[:, None, :]).reshape(-1, 9)
    count = len(mesh.vertices)
    matrices = np.stack([np.bincount(corners, weights=products[:, i], minlength=count) for i in range(9)], axis=1)
    sums = np.stack([np.bincount(corners, weights=normals[:, i], minlength=count) for i in range(3)], axis=1)
    moves = np.linalg.solve(matrices.reshape(-1, 3, 3) + 1e-6 * np.eye(3), sums[..., None])[..., 0]
    lengths = np.linalg.norm(moves, axis=1, keepdims=True)
    return Mesh(mesh.vertices + amount * moves * np.minimum(1, 3 / np.maximum(lengths, 1e-9)), mesh.faces)
