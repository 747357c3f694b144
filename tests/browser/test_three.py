"""Animated GLB in the hands of others: the Khronos validator, and three.js in Chromium beside our own pictures."""

import itertools
from pathlib import Path

import numpy as np
import pytest
from in_browser import covered, overlap, shoot_three, silhouette, validate

from sdfnet.fields import Box, SmoothUnion, Sphere, Torus, Union
from sdfnet.geometry.mesh import Mesh, replace_vertices
from sdfnet.geometry.motion import MovingMesh, join_meshes
from sdfnet.geometry.writing import Axis, save_animated_glb
from sdfnet.rendering.camera import fit_camera
from sdfnet.surfacing.extract import extract_mesh

SIZE = (320, 240)
FRAMES = 7


def lopsided(share: float) -> Mesh:
    """A shape that looks different from every side and in every mirror, from a box to a ring with a ball in it."""
    box = SmoothUnion(Box([0.5, 0.2, 0.3]), Sphere(0.3, center=[0.4, 0.4, 0.1]), width=0.1)
    ring = Union(Torus(0.6, 0.15 + 0.05 * share), Sphere(0.25, center=[0.1, 0.3 * share, 0.2]))
    return extract_mesh(box if share < 0.5 else ring, resolution=32)


def twisted(mesh: Mesh, share: float) -> Mesh:
    angle = share * (1 + mesh.vertices[:, 0])
    x, y, z = mesh.vertices.T
    turned = [x + 0.3 * share, np.cos(angle) * y - np.sin(angle) * z, np.sin(angle) * y + np.cos(angle) * z]
    return Mesh(np.stack(turned, axis=1), mesh.faces)


def untracked(place: float = 0.0) -> list[Mesh]:
    meshes = [lopsided(share) for share in np.linspace(0, 1, FRAMES)]
    return [replace_vertices(mesh, mesh.vertices + place) for mesh in meshes]


def tracked() -> list[Mesh]:
    return [twisted(lopsided(0.0), share) for share in np.linspace(0, 1, FRAMES)]


def pieces_of(meshes: list[Mesh], *cuts: int) -> list[MovingMesh]:
    """Return pieces that begin at frame 0 and at `cuts`."""
    bounds = [0, *cuts, len(meshes)]
    return [join_meshes(start, meshes[start:stop]) for start, stop in itertools.pairwise(bounds)]


def make(kind: str, path: Path) -> list[Mesh]:
    """Write one of the sequences to `path`; return its meshes as they are played."""
    meshes = tracked() if kind in ("tracked", "painted") else untracked(1e6 if kind == "far" else 0.0)
    if kind == "mixed":
        meshes[2:5] = tracked()[2:5]
    pieces = pieces_of(meshes, *{"tracked": (), "painted": (), "mixed": (1, 2, 5, 6)}.get(kind, range(1, FRAMES)))
    if kind == "painted":
        colors = np.clip(pieces[0].vertices[0] + 0.5, 0, 1)
        piece = pieces[0]
        pieces = [MovingMesh(0, piece.vertices, piece.faces, normals=piece.normals, colors=colors)]
    axis: Axis = "z" if kind == "far" else "y"
    keys = [(0, "box"), (FRAMES - 1, "ring")]
    save_animated_glb(pieces, path, order=range(FRAMES), fps=10, keys=keys, up_axis=axis)
    return meshes


@pytest.mark.parametrize("kind", ["tracked", "painted", "untracked", "mixed", "far"])
def test_the_validator_finds_nothing(kind: str, tmp_path: Path) -> None:
    make(kind, tmp_path / "a.glb")
    report = validate(tmp_path / "a.glb")
    assert report["issues"]["messages"] == []
    assert report["info"]["animationCount"] == 1
    assert report["info"]["hasMorphTargets"] == (kind in ("tracked", "painted", "mixed"))


@pytest.mark.render
@pytest.mark.parametrize("kind", ["tracked", "mixed", pytest.param("far", marks=pytest.mark.slow)])
def test_three_js_shows_what_our_own_pictures_show(kind: str, tmp_path: Path) -> None:
    meshes = make(kind, tmp_path / "a.glb")
    camera = fit_camera(meshes, size=SIZE, azimuth=40, elevation=25, up_axis="z" if kind == "far" else "y")
    seen = shoot_three(tmp_path / "a.glb", camera, size=SIZE, out=tmp_path, shares=[0, 0.5, 1])
    assert seen["console"] == seen["refused"] == []
    assert seen["duration"] == pytest.approx(FRAMES / 10)
    # Half the time is half-way between the beginnings of the frames 3 and 4; only what is tracked goes on in between.
    half = twisted(lopsided(0.0), 3.5 / 6) if kind != "far" else meshes[3]
    for number, mesh in enumerate([meshes[0], half, meshes[-1]]):
        ours, theirs = silhouette(mesh, camera, SIZE), covered(tmp_path / f"flat_{number}.png")
        assert 0.05 < ours.mean() < 0.7
        assert overlap(ours, theirs) > 0.985
        assert overlap(ours, theirs) > overlap(silhouette(mesh, camera.turned(45), SIZE), theirs)
