"""Ghosts: seen before and beside a solid, hidden behind it; colours of numbers."""

import numpy as np
import pytest

from sdfnet.extraction import extract_mesh
from sdfnet.fields import Sphere
from sdfnet.mesh.mesh import Mesh
from sdfnet.rendering import PaintedMesh, Renderer, fit_camera
from sdfnet.rendering.colormap import color_bar, diverging_colors, swatches

SIZE = (96, 72)


def ball(radius: float, center: tuple[float, float, float] = (0, 0, 0)) -> Mesh:
    mesh = extract_mesh(Sphere(1.0), resolution=24)
    return Mesh(radius * mesh.vertices + np.array(center), mesh.faces, mesh.vertex_normals)


@pytest.fixture(params=["rays", pytest.param("gl", marks=pytest.mark.render)])
def renderer(request: pytest.FixtureRequest):
    with Renderer(size=SIZE, backend=request.param) as made:
        yield made


def camera_on(*meshes: Mesh):
    return fit_camera(meshes, size=SIZE, azimuth=0, elevation=0)


def test_a_ghost_inside_or_behind_the_solid_is_not_seen(renderer: Renderer) -> None:
    solid = ball(1.0)
    camera = camera_on(solid)
    alone = renderer.render(solid, camera=camera).astype(int)
    for hidden in (ball(0.5), ball(0.3, (0, 0, -3))):
        image = renderer.render(solid, camera=camera, ghosts=[PaintedMesh(hidden, (1.0, 0.0, 0.0))])
        assert abs(image - alone).max() <= 1
    same = renderer.render(solid, camera=camera, ghosts=[PaintedMesh(ball(1.0), (1.0, 0.0, 0.0))]).astype(int)
    assert (abs(same - alone).max(axis=2) > 8).mean() < 0.02  # but for single pixels at the silhouette


def test_a_ghost_around_the_solid_veils_it_and_stands_beside_it(renderer: Renderer) -> None:
    solid, around = ball(0.5), ball(1.0)
    camera = camera_on(around)
    alone = renderer.render(solid, camera=camera).astype(int)
    image = renderer.render(solid, camera=camera, ghosts=[PaintedMesh(around, (1.0, 0.0, 0.0))]).astype(int)
    middle, beside, corner = (36, 48), (36, 48 + 26), (2, 2)
    for place in (middle, beside):
        reddened = (image - alone)[place]
        assert reddened[0] > reddened[2] + 15
    assert (image[corner] == alone[corner]).all()


def test_a_ghost_is_drawn_once_while_the_camera_stands_still(renderer: Renderer, monkeypatch) -> None:
    drawn = []
    draw = renderer._draw

    def counting(*args):
        drawn.append(1)
        return draw(*args)

    monkeypatch.setattr(renderer, "_draw", counting)
    ghosts = [PaintedMesh(ball(1.0), (1.0, 0.0, 0.0)), PaintedMesh(ball(0.8), (0.0, 0.0, 1.0))]
    camera = camera_on(ball(1.0))
    first, second = (renderer.render(ball(0.5), camera=camera, ghosts=ghosts) for _ in range(2))
    assert len(drawn) == 2 + 2
    assert (first == second).mean() > 0.999
    renderer.render(ball(0.5), camera=camera.turned(20), ghosts=ghosts)
    assert len(drawn) == 4 + 3


def test_colors_are_cold_below_warm_above_and_grey_between() -> None:
    colors = diverging_colors([-5.0, -2.0, 0.0, 2.0, 5.0], limit=2.0)
    assert (colors[0] == colors[1]).all()
    assert (colors[3] == colors[4]).all()
    assert colors[1][2] > colors[1][0] + 0.3
    assert colors[3][0] > colors[3][2] + 0.3
    assert np.ptp(colors[2]) < 0.05
    with pytest.raises(ValueError, match="limit must be positive and finite, got 0"):
        diverging_colors([1.0], limit=0)


def test_legends_show_their_colors() -> None:
    bar = color_bar(800, low="-1", high="1", title="moved")
    assert bar.shape[1] == 800
    for color in diverging_colors([-1.0, 0.0, 1.0], limit=1.0):
        assert (np.abs(bar / 255 - color).max(axis=2) < 0.02).any()
    patches = swatches(800, [((1.0, 0.0, 0.0), "before"), ((0.0, 0.0, 1.0), "after")])
    red, blue = (np.flatnonzero((patches == color).all(axis=2).any(axis=0)) for color in ([255, 0, 0], [0, 0, 255]))
    assert red.max() < 400 < blue.min()


def test_the_bar_of_values_that_are_never_negative_begins_at_zero() -> None:
    cold = diverging_colors(-1.0, limit=1.0) * 255
    for low, there in (("-1", True), (None, False)):
        bar = color_bar(400, low=low, high="1", title="spread").astype(float)
        assert bool((abs(bar - cold).max(axis=2) < 2).any()) is there
