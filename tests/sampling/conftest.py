"""Small meshes with known measures, and folders of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from sdfnet.mesh.io.write import save_mesh
from sdfnet.mesh.mesh import Mesh
from sdfnet.sampling import SamplerConfig

BOX_QUADS = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]


def _make_box(half_extents: tuple[float, float, float], center: tuple[float, float, float] = (0, 0, 0)) -> Mesh:
    signs = [(x, y, z) for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]
    vertices = [[c + s * h for c, s, h in zip(center, sign, half_extents, strict=True)] for sign in signs]
    return Mesh(vertices, [face for a, b, c, d in BOX_QUADS for face in ((a, b, c), (a, c, d))])


@pytest.fixture(scope="session")
def make_box() -> Callable[..., Mesh]:
    """A function from half extents and centre to a closed box of twelve outward triangles."""
    return _make_box


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.fixture(scope="session")
def small_config() -> SamplerConfig:
    return SamplerConfig(num_samples=600, num_surface=50, num_heldout=20)


@pytest.fixture
def mesh_folder(tmp_path: Path) -> Path:
    """Five boxes of different sizes and places; one is two folders deep and has an odd name."""
    folder = tmp_path / "meshes"
    for number in range(4):
        save_mesh(_make_box((1 + number, 1, 0.5), (10.0 * number, 0, 0)), folder / f"box_{number}.obj")
    save_mesh(_make_box((1, 2, 3), (0, 5, 0)), folder / "more" / "a [1] = b" / "box.ply")
    return folder
