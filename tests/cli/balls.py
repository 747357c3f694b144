"""The shapes of the commands' tests: balls far from the origin, under names that shells and grammars trip over."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sdfnet.extraction import extract_mesh
from sdfnet.fields import Sphere
from sdfnet.mesh.io.write import save_mesh
from sdfnet.mesh.mesh import Mesh

BALLS = {"a=b [1]": 0.5, "round/ball two": 0.7, "plain": 0.6}
"""Names, and the radius of each ball in the unit frame."""

CENTER, SCALE = (1000.0, -20.0, 3.0), 0.1
"""Of the similarity of all balls: their world is a thousand units off, ten times as large."""


def write_ball(path: Path, *, radius: float = 1.0, center: tuple[float, float, float] = (0, 0, 0)) -> Path:
    """Write a sphere of `radius` about `center` as a mesh file."""
    mesh = extract_mesh(Sphere(radius=radius), resolution=16)
    save_mesh(Mesh(mesh.vertices + np.array(center), mesh.faces), path)
    return path


def radii_of(mesh: Mesh) -> NDArray[np.float64]:
    """Distances of the vertices from the balls' center, in unit lengths."""
    return np.linalg.norm(mesh.vertices - np.array(CENTER), axis=1) * SCALE
