"""The HTML player in Chromium, offline: it opens without a complaint, shows our own pictures' shapes, and plays."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from in_browser import chair, check_outlines, covered, see, shoot
from numpy.typing import NDArray

from sdfnet.extraction.extract import extract_mesh
from sdfnet.fields import Box, SmoothUnion, Sphere, Torus, Union
from sdfnet.mesh.mesh import Mesh
from sdfnet.mesh.sequence import MovingMesh, join_frames
from sdfnet.rendering.camera import UpAxis, fit_camera
from sdfnet.rendering.images import load_image
from sdfnet.rendering.renderer import render_mesh
from sdfnet.rendering.style import Style
from sdfnet.rendering.web_page import PlayerConfig, save_player

pytestmark = pytest.mark.render

SIZE = (400, 360)
KEYS = ((0, "box"), (2, "<i>twist</i>"), (4, "ring"))
BLUE = Style(color=(0.05, 0.15, 0.95), roughness=1.0)


def frames(place: float = 0.0) -> list[Mesh]:
    """Three tracked frames of a box that bends, then two of a ring with a ball."""
    box = extract_mesh(SmoothUnion(Box([0.5, 0.2, 0.3]), Sphere(0.3, center=[0.4, 0.4, 0.1]), width=0.1), resolution=32)
    bent = [Mesh(box.vertices + share * np.sin(box.vertices[:, [1, 0, 0]] * 2), box.faces) for share in (0, 0.15, 0.3)]
    rings = [Union(Torus(0.6, radius), Sphere(0.25, center=[0.1, 0.3, 0.2])) for radius in (0.15, 0.2)]
    meshes = bent + [extract_mesh(ring, resolution=32) for ring in rings]
    return [Mesh(mesh.vertices + place, mesh.faces) for mesh in meshes]


def pieces(meshes: list[Mesh]) -> list[MovingMesh]:
    return [join_frames(0, meshes[:3]), join_frames(3, meshes[3:4]), join_frames(4, meshes[4:])]


def painted(path: Path, width: int, height: int) -> NDArray[np.bool_]:
    """Return which pixels of the canvas, at the top left of a picture of the page, are blue."""
    image = load_image(path)[:height, :width].astype(int)
    return image[..., 2] - image[..., 0] > 50


def open_page(meshes: list[Mesh], out: Path, steps: list[dict[str, Any]], **options: Any) -> dict[str, Any]:
    """Write the player of `meshes`, open it and take `steps`; check that nothing went wrong."""
    axis: UpAxis = options.pop("up_axis", "y")
    camera = fit_camera(meshes, size=SIZE, azimuth=40, elevation=25, up_axis=axis)
    config = PlayerConfig(fps=10, keys=KEYS, size=SIZE, style=BLUE, playback=options.pop("playback", "once"))
    save_player(pieces(meshes), out / "morph.html", camera=camera, config=config)
    seen = shoot(out / "morph.html", kind="html", out=out, **{"size": SIZE, "steps": steps, **options})
    assert seen["console"] == seen["refused"] == []
    assert seen["state"] == "ready"
    return seen["values"] | {"camera": camera}


def script(name: str, text: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "script": text, **more}


FLAT = (  # black on white, without shadows and ground
    "meta.lights.forEach((light) => { light.radiance = [0, 0, 0]; }); meta.ambient = [0, 0, 0]; meta.ground = null;"
    "meta.background = [1, 1, 1]; [canvas.width, canvas.height]"
)


@pytest.mark.parametrize("axis", ["y", pytest.param("z", marks=pytest.mark.slow)])
def test_scrubbed_frames_have_the_silhouettes_of_our_own_pictures(axis: UpAxis, tmp_path: Path) -> None:
    meshes = frames(1e6 if axis == "z" else 0.0)
    check_scrubbed(meshes, tmp_path, axis)


def test_a_thin_chair_has_the_silhouettes_of_our_own_pictures(tmp_path: Path) -> None:
    leaning = [chair(lean) for lean in (0, 0.3, 0.6)]
    check_scrubbed([*leaning, chair(0.3, num_spindles=7), chair(0.5, num_spindles=9)], tmp_path, "y")


def check_scrubbed(meshes: list[Mesh], out: Path, axis: UpAxis) -> None:
    """Check the outlines of the first frame, of one between two frames of a piece, and of the last."""
    shots = [script(f"{at}", f"seek({at})", wait=200, picture=f"{at}.png") for at in (0, 1.5, 4)]
    values = open_page(meshes, out, [script("canvas", FLAT), *shots], up_axis=axis, playback="loop")
    width, height = values["canvas"]
    between = Mesh((meshes[1].vertices + meshes[2].vertices) / 2, meshes[1].faces)
    for at, mesh in ((0, meshes[0]), (1.5, between), (4, meshes[4])):
        ours = see(mesh, values["camera"], (width, height)).coverage
        check_outlines(ours, covered(out / f"{at}.png")[:height, :width])


def test_it_looks_like_our_own_pictures(tmp_path: Path) -> None:
    meshes = frames()
    values = open_page(
        meshes, tmp_path, [script("canvas", "seek(4); [canvas.width, canvas.height]", wait=200, picture="4.png")]
    )
    width, height = values["canvas"]
    ours = render_mesh(meshes[4], camera=values["camera"], size=(width, height), style=BLUE, backend="rays")
    theirs = load_image(tmp_path / "4.png")[:height, :width]
    difference = np.abs(ours.astype(int) - theirs.astype(int)).mean(axis=2)
    inside = see(meshes[4], values["camera"], (width, height)).coverage > 0.5
    assert difference[inside].mean() < 25  # of 255: shadows on the surface are cast in another way
    assert difference[~inside].mean() < 8  # shadow on the ground


def test_colors_of_vertices_blend_from_frame_to_frame(tmp_path: Path) -> None:
    """Black turns to red, then white: half-way between two frames the stored colour is the mean."""
    meshes = [chair(0)] * 3
    tints = np.array([[0.0, 0, 0], [0.8, 0, 0], [1, 1, 1]])
    colors = np.repeat(tints[:, None], len(meshes[0].vertices), axis=1)
    camera = fit_camera(meshes, size=SIZE)
    pieces = [join_frames(0, meshes[:2], colors=colors[:2]), join_frames(2, meshes[2:], colors=colors[2:])]
    save_player(pieces, tmp_path / "morph.html", camera=camera, config=PlayerConfig(size=SIZE))
    plain = FLAT.replace("ambient = [0, 0, 0]", "ambient = [1 / 0.72, 1 / 0.72, 1 / 0.72]")
    shots = [script(f"{at}", f"seek({at})", wait=200, picture=f"{at}.png") for at in (0, 0.5, 1, 2)]
    seen = shoot(tmp_path / "morph.html", kind="html", out=tmp_path, size=SIZE, steps=[script("canvas", plain), *shots])
    assert seen["console"] == seen["refused"] == []
    width, height = seen["values"]["canvas"]
    inside = see(meshes[0], camera, (width, height)).coverage == 1
    for at, red in ((0, 0.0), (0.5, 0.4), (1, 0.8)):
        drawn = load_image(tmp_path / f"{at}.png")[:height, :width][inside] / 255
        assert np.abs(drawn[:, 1:]).max() < 0.01
        assert red - 0.01 < drawn[:, 0].min()
        assert drawn[:, 0].max() < red / 0.72 ** (1 / 2.2) + 0.01  # the sky's shadow takes up to 28 %
    assert load_image(tmp_path / "2.png")[:height, :width][inside].min() > 250


def test_it_plays_and_obeys_keys_and_pointers(tmp_path: Path) -> None:
    state = "[playing, position, view.azimuth, view.distance, mode, root.dataset.theme]"
    steps = [
        script("opened", "[playing, document.querySelectorAll('.key').length, document.title]"),
        {"until": "!playing"},
        script("after", state, press="End"),
        script("end", state, press="ArrowLeft"),
        script("left", state, press="Shift+ArrowLeft"),
        script("key", state, press="Home"),
        script("home", state, press=" ", until="position > 0.1"),
        script("played", "(seek(position), [playing, position])"),
        script("before", state, drag=[[150, 150], [100, 150]]),
        script("dragged", state, press="r"),
        script("reset", state, press="l"),
        script("slid", "(() => { const bar = $('time'); bar.value = 2.5; bar.oninput(); return position; })()"),
        script("mode", state, press="t"),
        script("theme", "(setTheme('dark'), 0)", wait=200, picture="dark.png"),
        script("label", "[...document.querySelectorAll('.key')].map((label) => label.textContent)"),
    ]
    values = open_page(frames(), tmp_path, steps)
    assert values["opened"] == [True, 3, "box → <i>twist</i> → ring"]
    assert values["after"][:2] == [False, 4]  # once: it has played to its end and stopped
    assert [values[name][1] for name in ("end", "left", "key", "home")] == [4, 3, 2, 0]
    assert values["played"][0] is False
    assert 0.1 < values["played"][1] < 4
    assert values["dragged"][2] == pytest.approx(values["before"][2] + 0.4 * 50)
    assert values["reset"][2] == values["before"][2] == 40
    assert values["slid"] == 2.5
    assert values["mode"][4] == "loop"
    assert values["label"] == ["box", "<i>twist</i>", "ring"]
    assert load_image(tmp_path / "dark.png")[5, 5].max() < 60


@pytest.mark.slow
def test_there_and_back_turns_round_at_both_ends(tmp_path: Path) -> None:
    steps = [
        script("far", "(seek(3.5), direction = 1, advance(0.1), [position, direction])"),
        script("near", "(position = 0.25, direction = -1, advance(0.05), [position, direction])"),
        script("loop", "(setMode('loop'), direction = 1, position = 4.5, advance(0.1), position)"),
    ]
    values = open_page(frames(), tmp_path, steps, playback="pingpong")
    assert values["far"] == [pytest.approx(3.5), -1]
    assert values["near"] == [pytest.approx(0.25), 1]
    assert values["loop"] == pytest.approx(0.5)


@pytest.mark.slow
def test_it_fits_a_telephone_and_follows_its_dark_mode(tmp_path: Path) -> None:
    wide = "document.documentElement.scrollWidth <= innerWidth"
    steps = [script("wide", f"(seek(4), {wide})", wait=200, picture="phone.png"), script("theme", "root.dataset.theme")]
    values = open_page(frames(), tmp_path, steps, size=(240, 480), scheme="dark", touch=True)
    assert values["wide"] is True
    assert values["theme"] == "dark"
    body = painted(tmp_path / "phone.png", 240, 410)
    assert 0.02 < body.mean() < 0.5
    assert not body[:, [0, -1]].any()  # all of it is seen although the window is narrow
