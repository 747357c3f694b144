"""Pictures: the two ways of drawing agree, and both show what geometry says."""

from __future__ import annotations

import logging
import os
import subprocess
import sys

import numpy as np
import pytest
from numpy.typing import NDArray

from sdfnet.extraction.extract import extract_mesh
from sdfnet.fields.primitives import Sphere
from sdfnet.mesh.mesh import Mesh
from sdfnet.rendering import renderer as renderer_module
from sdfnet.rendering.camera import Camera, fit_camera
from sdfnet.rendering.pyrender_backend import GLCanvas, GLUnavailableError
from sdfnet.rendering.renderer import Backend, Renderer, render_mesh, render_turntable
from sdfnet.rendering.scene import PaintedMesh, make_scene
from sdfnet.rendering.style import LIGHTS, Style

pytestmark = pytest.mark.render

SIZE = (160, 120)
PLAIN = Style(shadows=False)


@pytest.fixture(params=["gl", "rays"])
def backend(request: pytest.FixtureRequest) -> str:
    if request.param == "gl":
        request.getfixturevalue("need_gl")
    return str(request.param)


def _silhouette(image: NDArray[np.uint8], style: Style = PLAIN) -> NDArray[np.bool_]:
    return (np.abs(image / 255 - np.array(style.background)) > 0.01).any(axis=-1)


@pytest.mark.usefixtures("need_gl")
@pytest.mark.parametrize("azimuth", [0, 70, 200])
def test_gl_and_rays_agree(ring: Mesh, azimuth: float) -> None:
    camera = fit_camera(ring, size=SIZE, azimuth=azimuth)
    by_gl = render_mesh(ring, camera=camera, size=SIZE, style=PLAIN, backend="gl")
    by_rays = render_mesh(ring, camera=camera, size=SIZE, style=PLAIN, backend="rays")
    assert (_silhouette(by_gl) == _silhouette(by_rays)).mean() > 0.99
    inside = _silhouette(by_gl) & _silhouette(by_rays)
    assert np.abs(by_gl.astype(int) - by_rays)[inside].mean() < 1.5
    shadowed = [render_mesh(ring, camera=camera, size=SIZE, backend=backend) for backend in ("gl", "rays")]
    assert np.abs(shadowed[0].astype(int) - shadowed[1]).mean() < 1


@pytest.mark.usefixtures("need_gl")
def test_gl_adds_up_its_lights_in_one_order_in_every_picture(ring: Mesh) -> None:
    """pyrender keeps them in a set. In another order the last bit of the sum, and so a byte of the picture, differs."""
    camera = fit_camera(ring, size=SIZE)
    scene = make_scene([ring], camera, color=PLAIN.color)
    canvas = GLCanvas(SIZE)
    try:
        stages = [canvas._stage(scene, camera, 0.5) for _ in range(20)]
    finally:
        canvas.close()
    assert {tuple(node.light.intensity for node in stage.light_nodes) for stage in stages} == {
        tuple(light.intensity for light in LIGHTS)
    }


def test_a_ball_is_as_large_as_perspective_says(backend: Backend) -> None:
    camera = Camera([0, 0, 0], 4, field_of_view=40)
    image = render_mesh(extract_mesh(Sphere(), resolution=64), camera=camera, size=SIZE, style=PLAIN, backend=backend)
    radius = np.tan(np.arcsin(1 / 4)) / np.tan(np.radians(20)) * SIZE[1] / 2
    assert _silhouette(image).sum() == pytest.approx(np.pi * radius**2, rel=0.02)


def test_right_is_right_and_up_is_up(backend: Backend) -> None:
    ball = extract_mesh(Sphere(0.3, center=[0.7, 0.4, 0.0]), resolution=16)
    camera = Camera([0, 0, 0], 4, azimuth=0, elevation=0)
    rows, columns = np.nonzero(_silhouette(render_mesh(ball, camera=camera, size=SIZE, style=PLAIN, backend=backend)))
    half = np.tan(np.radians(15)) * 4
    assert columns.mean() == pytest.approx(SIZE[0] / 2 + 0.7 / half * SIZE[1] / 2, abs=1.5)
    assert rows.mean() == pytest.approx(SIZE[1] / 2 - 0.4 / half * SIZE[1] / 2, abs=1.5)


def test_the_nearer_of_two_is_seen(backend: Backend) -> None:
    near = PaintedMesh(extract_mesh(Sphere(0.3, center=[0, 0, 1]), resolution=16), color=(1, 0, 0))
    far = PaintedMesh(extract_mesh(Sphere(0.9, center=[0, 0, -1]), resolution=16), color=(0, 0, 1))
    camera = Camera([0, 0, 0], 6, azimuth=0, elevation=0)
    image = render_mesh([far, near], camera=camera, size=SIZE, style=PLAIN, backend=backend).astype(int)
    red, _, blue = image[60, 80]
    assert red > blue + 60
    red, _, blue = image[60, 80 + 20]
    assert blue > red + 60


def test_vertex_colours_are_drawn(backend: Backend) -> None:
    ball = extract_mesh(Sphere(), resolution=24)
    colors = np.where(ball.vertices[:, 1:2] > 0, [[0.9, 0.1, 0.1]], [[0.1, 0.1, 0.9]])
    camera = Camera([0, 0, 0], 4, azimuth=0, elevation=0)
    painted = PaintedMesh(ball, vertex_colors=colors)
    image = render_mesh(painted, camera=camera, size=SIZE, style=PLAIN, backend=backend).astype(int)
    assert image[40, 80, 0] > image[40, 80, 2] + 40
    assert image[80, 80, 2] > image[80, 80, 0] + 40


def test_a_picture_does_not_depend_on_place_and_scale(ring: Mesh, backend: Backend) -> None:
    moved = Mesh(ring.vertices * 50 + [1e6, -2e6, 3e6], ring.faces, ring.vertex_normals)
    first = render_mesh(ring, size=SIZE, backend=backend).astype(int)
    second = render_mesh(moved, size=SIZE, backend=backend).astype(int)
    assert np.abs(first - second).mean() < 0.1


def test_the_ground_is_shadowed_under_the_mesh_only(backend: Backend) -> None:
    ball = extract_mesh(Sphere(0.5), resolution=24)
    camera = Camera([0, 0, 0], 4, azimuth=0, elevation=20, ground=-0.5)
    with Renderer(size=SIZE, backend=backend) as renderer:
        shadowed = renderer.render(ball, camera=camera).astype(int)
    free = np.rint(np.array(Style().background) * 255)
    np.testing.assert_allclose(shadowed[:30], np.broadcast_to(free, shadowed[:30].shape), atol=1)
    outside = ~_silhouette(render_mesh(ball, camera=camera, size=SIZE, style=PLAIN, backend="rays"))
    below = shadowed[85:100, 60:100][outside[85:100, 60:100]]
    assert below.min() < free.min() - 30
    # The shadow fades out before the border, so that pictures side by side show no seam.
    np.testing.assert_allclose(shadowed[-1], np.broadcast_to(free, shadowed[-1].shape), atol=2)


def test_from_below_there_is_no_ground(ring: Mesh) -> None:
    camera = fit_camera(ring, size=SIZE, elevation=-30)
    image = render_mesh(ring, camera=camera, size=SIZE, backend="rays")
    free = ~_silhouette(render_mesh(ring, camera=camera, size=SIZE, style=PLAIN, backend="rays"))
    np.testing.assert_allclose(image[free] / 255, np.broadcast_to(Style().background, image[free].shape), atol=0.003)


def test_a_turntable_returns_to_its_start(ring: Mesh) -> None:
    with Renderer(size=(64, 48), backend="rays") as renderer:
        frames = list(render_turntable(ring, frames=4, renderer=renderer, azimuth=10))
        again = next(iter(render_turntable(ring, frames=4, renderer=renderer, azimuth=370)))
        with pytest.raises(ValueError, match="frames must be at least 1, got 0"):
            render_turntable(ring, frames=0, renderer=renderer)
    assert len(frames) == 4
    np.testing.assert_array_equal(frames[0], again)


def test_one_renderer_draws_different_meshes_and_cameras(ring: Mesh, backend: Backend) -> None:
    ball = extract_mesh(Sphere(), resolution=16)
    with Renderer(size=SIZE, backend=backend) as renderer:
        mixed = [renderer.render(mesh) for mesh in (ring, ball, ring)]
    np.testing.assert_array_equal(mixed[0], mixed[2])
    np.testing.assert_array_equal(mixed[1], render_mesh(ball, size=SIZE, backend=backend))


@pytest.mark.usefixtures("need_gl")
def test_contexts_are_given_back(ring: Mesh) -> None:
    for _ in range(5):
        with Renderer(size=(32, 24), backend="gl") as renderer:
            renderer.render(ring)
        renderer.close()


def test_a_platform_that_needs_a_window_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYOPENGL_PLATFORM", "glx")
    with pytest.raises(GLUnavailableError, match="PYOPENGL_PLATFORM=glx is not one that draws off screen"):
        Renderer(backend="gl")


def test_bad_arguments_are_refused_with_their_value(ring: Mesh) -> None:
    with pytest.raises(ValueError, match="got 0 x 48"):
        Renderer(size=(0, 48))
    with pytest.raises(ValueError, match="backend must be auto, gl or rays, got 'vulkan'"):
        render_mesh(ring, backend="vulkan")  # type: ignore[arg-type]


def test_a_log_line_says_which_backend_draws_and_why(ring: Mesh, caplog: pytest.LogCaptureFixture) -> None:
    renderer_module._announce.cache_clear()
    with caplog.at_level(logging.INFO):
        render_mesh(ring, size=(32, 24), backend="rays")
        render_mesh(ring, size=(32, 24), backend="rays")
    assert [record.getMessage() for record in caplog.records] == ["pictures by rays: ray casting on the CPU, as asked"]


_WITHOUT_GL = """
import ctypes, ctypes.util, sys
if sys.argv[1] == "library":
    load, find = ctypes.CDLL.__init__, ctypes.util.find_library
    def refuse(self, name, *rest, **options):
        if name and "GL" in str(name):
            raise OSError(f"{name}: cannot open shared object file")
        load(self, name, *rest, **options)
    ctypes.CDLL.__init__, ctypes.util.find_library = refuse, lambda name: None if "GL" in name else find(name)
from sdfnet.rendering import GLUnavailableError, Renderer
print(Renderer().why)
try:
    Renderer(backend="gl")
except GLUnavailableError as error:
    print(error)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="EGL is Linux's way to draw without a display")
@pytest.mark.parametrize(
    ("missing", "settings", "words"),
    [
        ("library", {}, "the GL libraries are missing"),
        ("driver", {"__EGL_VENDOR_LIBRARY_FILENAMES": "/nonexistent"}, "no GL driver or display answers"),
    ],
)
def test_without_gl_rays_draw_and_the_packages_are_named(missing: str, settings: dict[str, str], words: str) -> None:
    environment = {key: value for key, value in os.environ.items() if key != "PYOPENGL_PLATFORM"}
    result = subprocess.run(
        [sys.executable, "-c", _WITHOUT_GL, missing],
        env={**environment, **settings},
        capture_output=True,
        text=True,
        check=True,
    )
    chosen, refused = result.stdout.strip().splitlines()
    assert chosen.startswith("ray casting on the CPU, because: ")
    assert words in chosen
    assert words in refused
    assert refused.endswith("apt-get install libegl1 libgl1 libgl1-mesa-dri")
