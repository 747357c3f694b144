"""Shapes and skips of the tests that draw."""

from __future__ import annotations

import pytest

from sdfnet.extraction.extract import extract_mesh
from sdfnet.fields.primitives import Torus
from sdfnet.mesh.mesh import Mesh
from sdfnet.rendering.renderer import Renderer


@pytest.fixture(scope="session")
def ring() -> Mesh:
    return extract_mesh(Torus(1.0, 0.35), resolution=48)


@pytest.fixture(scope="session")
def need_gl() -> None:
    """Skip, saying why, where GL does not work."""
    with Renderer(size=(16, 16)) as renderer:
        if renderer.backend != "gl":
            pytest.skip(f"no GL here: {renderer.why}")
