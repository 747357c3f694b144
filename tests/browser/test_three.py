"""Animated GLB in the hands of others: the Khronos validator, and three.js in Chromium beside our own pictures."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from in_browser import chair, check_normals, check_outlines, covered, see, shoot_three, validate
from tiny_runs import learn_run

from sdfnet.extraction.extract import extract_mesh
from sdfnet.fields import Box, SmoothUnion, Sphere, Torus, Union
from sdfnet.geometry.similarity import Similarity
from sdfnet.mesh.io.gltf_animation import Axis, save_animated_glb
from sdfnet.mesh.mesh import Mesh, replace_vertices
from sdfnet.mesh.sequence import MovingMesh, join_frames
from sdfnet.morphs import MorphConfig, make_morph
from sdfnet.morphs.store import load_stored
from sdfnet.rendering.camera import fit_camera
from sdfnet.rendering.images import load_image
from sdfnet.runs import Run, RunShape, load_run

SIZE = (320, 240)
FRAMES = 7
SLOW_TO_SHOOT = [pytest.param(kind, marks=pytest.mark.slow) for kind in ("far", "untracked")]


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


def half_way(meshes: list[Mesh]) -> Mesh:
    """Return the mean of two meshes and of their normals, as morph targets give it."""
    one, other = (join_frames(0, [mesh]) for mesh in meshes)
    return Mesh((one.vertices + other.vertices)[0] / 2, one.faces, (one.normals + other.normals)[0] / 2)


def pieces_of(meshes: list[Mesh], *cuts: int) -> list[MovingMesh]:
    """Return pieces that begin at frame 0 and at `cuts`."""
    bounds = [0, *cuts, len(meshes)]
    return [join_frames(start, meshes[start:stop]) for start, stop in itertools.pairwise(bounds)]


def make(kind: str, path: Path) -> list[Mesh]:
    """Write one of the sequences to `path`; return its meshes as they are played."""
    leans = np.linspace(0, 0.6, FRAMES)
    meshes = {
        "tracked": tracked,
        "painted": tracked,
        "chair": lambda: [chair(lean, num_spindles=4 + number) for number, lean in enumerate(leans)],
        "leaning": lambda: [chair(lean) for lean in leans],
    }.get(kind, lambda: untracked(1e6 if kind == "far" else 0.0))()
    if kind == "mixed":
        meshes[2:5] = tracked()[2:5]
    cuts = {"tracked": (), "painted": (), "leaning": (), "mixed": (1, 2, 5, 6)}
    pieces = pieces_of(meshes, *cuts.get(kind, range(1, FRAMES)))
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
    assert report["info"]["hasMorphTargets"] == (kind not in ("untracked", "far"))
    assert not report["info"]["hasTextures"]


@pytest.mark.render
@pytest.mark.parametrize("kind", ["tracked", "mixed", *SLOW_TO_SHOOT, "chair", "leaning"])
def test_three_js_shows_what_our_own_pictures_show(kind: str, tmp_path: Path) -> None:
    meshes = make(kind, tmp_path / "a.glb")
    camera = fit_camera(meshes, size=SIZE, azimuth=40, elevation=25, up_axis="z" if kind == "far" else "y")
    looks = ["flat", "normals"]
    seen = shoot_three(tmp_path / "a.glb", camera, size=SIZE, out=tmp_path, shares=[0, 0.5, 1], looks=looks)
    assert seen["console"] == seen["refused"] == []
    assert seen["duration"] == pytest.approx(FRAMES / 10)
    # Half the time is half-way between the beginnings of the frames 3 and 4; only what is tracked goes on in between.
    tracked_on = kind not in ("far", "untracked", "chair")
    half = half_way(meshes[3:5]) if tracked_on else meshes[3]
    for number, mesh in enumerate([meshes[0], half, meshes[-1]]):
        ours = see(mesh, camera, SIZE)
        check_outlines(ours.coverage, covered(tmp_path / f"flat_{number}.png"))
        check_normals(ours, tmp_path / f"normals_{number}.png")


@pytest.fixture(scope="module")
def blobs(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run that has learned two shapes without a symmetry, of different size and place in the world."""
    bodies = {
        "low": SmoothUnion(Box([0.6, 0.25, 0.35]), Sphere(0.3, center=[0.4, 0.3, 0.15]), width=0.2),
        "high": SmoothUnion(Box([0.35, 0.5, 0.3]), Sphere(0.3, center=[0.35, -0.35, 0.2]), width=0.2),
    }
    places = {"low": Similarity([3.0, -1.0, 2.0], 2.0), "high": Similarity([3.3, -0.9, 1.9], 1.6)}
    shapes = [RunShape(name, places[name], f"{name}.obj", content_hash="", closed=True) for name in bodies]
    return load_run(learn_run(tmp_path_factory.mktemp("runs") / "blobs", shapes, list(bodies.values())))


@pytest.mark.slow
@pytest.mark.render
@pytest.mark.parametrize("is_tracked", [True, False])
def test_three_js_shows_the_meshes_of_a_morph(is_tracked: bool, blobs: Run, tmp_path: Path) -> None:
    """What `sdfnet morph` writes, of a trained run in the world, with another axis up when it is not tracked."""
    config = MorphConfig(
        frames=5, resolution=32, tracked=is_tracked, up_axis="y" if is_tracked else "z", format=("glb",), fps=10,
        width=64, height=48,
    )  # fmt: skip
    result = make_morph(blobs, ["low", "high"], tmp_path / "out", config=config)
    records = json.loads(result.manifest.read_text())["frames"]
    assert [record["piece"] for record in records] == [0 if is_tracked else None] * 5
    meshes = [load_stored(tmp_path / "out" / record["stored"]) for record in records]
    (path,) = result.films
    assert validate(path)["issues"]["messages"] == []
    camera = fit_camera(meshes, size=SIZE, azimuth=40, elevation=25, up_axis=config.up_axis)
    looks = ["flat", "normals"]
    seen = shoot_three(path, camera, size=SIZE, out=tmp_path, shares=[0, 0.5, 1], looks=looks)
    assert seen["console"] == seen["refused"] == []
    assert seen["duration"] == pytest.approx(0.5)
    assert seen["targets"] == ([4] if is_tracked else [0] * 5)
    # As above: half the time is half-way between the beginnings of the frames 2 and 3.
    half = half_way(meshes[2:4]) if is_tracked else meshes[2]
    for number, mesh in enumerate([meshes[0], half, meshes[-1]]):
        ours = see(mesh, camera, SIZE)
        check_outlines(ours.coverage, covered(tmp_path / f"flat_{number}.png"))
        check_normals(ours, tmp_path / f"normals_{number}.png")


@pytest.mark.render
@pytest.mark.parametrize("is_tracked", [True, False])
def test_three_js_blends_the_colors_of_frames(is_tracked: bool, tmp_path: Path) -> None:
    """What leans farther back is redder: each vertex has a colour for every frame."""
    meshes = [chair(share) for share in (0, 0.4, 0.8)]
    colors = [
        np.stack(
            [0.2 + 0.7 * np.abs(share * mesh.vertices[:, 1]), mesh.vertices[:, 1] / 4 + 0.5, 0 * mesh.vertices[:, 0]],
            axis=1,
        ).clip(0, 1)
        for share, mesh in zip((0, 0.5, 1), meshes, strict=True)
    ]
    bounds = [0, 3] if is_tracked else range(4)
    pieces = [
        join_frames(start, meshes[start:stop], colors=colors[start:stop]) for start, stop in itertools.pairwise(bounds)
    ]
    save_animated_glb(pieces, tmp_path / "a.glb", order=range(3), fps=10)
    assert validate(tmp_path / "a.glb")["issues"]["messages"] == []
    camera = fit_camera(meshes, size=SIZE, azimuth=40, elevation=25)
    shoot_three(
        tmp_path / "a.glb", camera, size=SIZE, out=tmp_path, shares=[0, 1 / 3 + 1e-6, 1], looks=["colors", "lit"]
    )
    for number, (mesh, tint) in enumerate(zip(meshes, colors, strict=True)):
        ours = see(mesh, camera, SIZE, colors=tint).colors
        theirs = load_image(tmp_path / f"colors_{number}.png")[..., :3] / 255
        inside = ~np.isnan(ours[..., 0])
        assert inside.mean() > 0.01
        assert np.quantile(np.abs(ours - theirs)[inside], 0.99) < 0.03


def test_a_wrong_outline_is_told_from_a_right_one() -> None:
    """The predicate of these tests: a shift, a rod too few, one percent of size are seen in thin shapes."""
    camera = fit_camera(chair(0), size=SIZE, azimuth=40, elevation=25)
    right = chair(0)
    ours = see(right, camera, SIZE).coverage
    check_outlines(ours, ours)
    step = 2 * camera.distance * camera.slopes(SIZE)[1] / SIZE[1]
    moved = right.vertices + 0.3 * step * camera.axes[0]
    wrong = [Mesh(moved, right.faces), Mesh(1.01 * right.vertices, right.faces), chair(0.03)]
    for mesh in [*wrong, chair(0, num_spindles=4)]:
        with pytest.raises(AssertionError):
            check_outlines(ours, see(mesh, camera, SIZE).coverage)
