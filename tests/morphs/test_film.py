"""Pictures of morphs of spheres: the box that the camera is fitted to, colours, ghosts, turntables."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from exact_spheres import sphere_run

from sdfnet.extraction import extract_mesh
from sdfnet.geometry.similarity import Similarity
from sdfnet.mesh.distance import MeshDistance
from sdfnet.morphs.export import frame_drawer, legend_strips, paint_by_distance, plan_view
from sdfnet.morphs.morph import make_morph
from sdfnet.morphs.plan import MorphConfig, extract_frame, plan_morph
from sdfnet.morphs.store import View
from sdfnet.rendering.colormap import diverging_colors
from sdfnet.rendering.images import load_image
from sdfnet.runs import Run

PLACES = {"small": Similarity([0, 0, 0], 0.1), "large": Similarity([500, 0, 0], 0.1)}
CONFIG = MorphConfig(frames=3, resolution=32, width=96, height=72, format=("gif",), easing="linear", color="travel")


@pytest.fixture
def run() -> Run:
    return sphere_run({"small": 0.4, "large": 0.8}, similarities=PLACES)


def test_colour_is_the_distance_from_the_first_frame_over_the_largest(run: Run) -> None:
    """Spheres of 4 and 8 units stand 500 apart, but the camera goes along: the surface moves by 4."""
    first = extract_mesh(run.field("small"), resolution=64, similarity=Similarity([0, 0, 0], 0.1))
    limit = plan_view(plan_morph(run, ["small", "large"], config=CONFIG)).color_limit
    assert limit == pytest.approx(4, rel=0.03)
    half = extract_mesh(run.field("small"), resolution=64, similarity=Similarity([0, 0, 0], 0.4 / 6))
    painted = paint_by_distance(half, MeshDistance(first), limit=limit)
    assert painted.vertex_colors == pytest.approx(
        np.tile(diverging_colors(0.5, limit=1), (len(half.vertices), 1)), abs=0.03
    )
    shrunk = extract_mesh(run.field("small"), resolution=64, similarity=Similarity([0, 0, 0], 0.2))
    colors = paint_by_distance(shrunk, MeshDistance(first), limit=limit).vertex_colors
    assert (colors[:, 2] > colors[:, 0]).all()


@pytest.mark.render
def test_growth_is_drawn_warm_and_the_sheet_explains_it(run: Run, tmp_path: Path) -> None:
    result = make_morph(run, ["small", "large"], tmp_path / "out", config=CONFIG)
    first, _, last = (load_image(tmp_path / "out" / "pictures" / f"frame_{i:04d}.png").astype(int) for i in range(3))
    warm = [(picture[..., 0] - picture[..., 2] > 60).sum() for picture in (first, last)]
    assert warm[0] == 0
    assert warm[1] > 500
    plain = make_morph(run, ["small", "large"], tmp_path / "plain", config=dataclasses.replace(CONFIG, color="none"))
    assert load_image(result.sheet).shape[0] > load_image(plain.sheet).shape[0]
    again = make_morph(run, ["small", "large"], tmp_path / "out", config=CONFIG)
    assert again.num_skipped == 3


def test_the_view_survives_the_manifest(run: Run) -> None:
    view = plan_view(plan_morph(run, ["small", "large"], config=CONFIG))
    again = View.from_dict(view.to_dict())
    assert (again.color_limit, again.radius) == (view.color_limit, view.radius)
    assert (again.bounds.lower == view.bounds.lower).all()


class Recorder:
    """Stands for a renderer and keeps what it was asked to draw."""

    size = (96, 72)

    def __init__(self) -> None:
        self.asked = []

    def begin(self, drawables, camera, *, ghosts):
        self.asked.append((drawables[0], camera, ghosts))


def filmed(run: Run, config: MorphConfig, index: int):
    plan = plan_morph(run, ["small", "large"], config=config)
    recorder = Recorder()
    draw = frame_drawer(plan, plan_view(plan), recorder)
    draw(plan.frames[index], extract_frame(plan, plan.frames[index]).mesh)
    return recorder.asked[0]


@pytest.mark.parametrize(("playback", "degrees"), [("once", [30, 75, 120]), ("loop", [30, 60, 90])])
def test_the_turntable_turns_so_far_from_first_to_last_and_a_loop_closes(run: Run, playback, degrees) -> None:
    config = dataclasses.replace(CONFIG, color="none", turntable=90.0, playback=playback)
    assert [filmed(run, config, index)[1].azimuth for index in range(3)] == pytest.approx(degrees)


def test_ghosts_are_the_shapes_before_and_after_on_the_spot(run: Run) -> None:
    config = dataclasses.replace(CONFIG, color="none", overlay=True)
    shown, _, ghosts = filmed(run, config, 1)
    assert shown.bounds.center == pytest.approx([0, 0, 0], abs=0.1)
    assert [ghost.mesh.bounds.extent[0] / 2 for ghost in ghosts] == pytest.approx([4, 8], rel=0.01)
    assert all(ghost.mesh.bounds.center == pytest.approx([0, 0, 0], abs=0.1) for ghost in ghosts)
    assert filmed(run, config, 0)[2] == []


def test_there_is_a_legend_where_colours_mean_something(run: Run) -> None:
    plain = View(extract_mesh(run.field("small"), resolution=16).bounds)
    coloured = dataclasses.replace(plain, color_limit=1.0, radius=2.0)
    config = dataclasses.replace(CONFIG, color="none")
    assert legend_strips(plain, 400, config=config) == []
    assert len(legend_strips(plain, 400, config=dataclasses.replace(config, overlay=True))) == 1
    assert len(legend_strips(coloured, 400, config=dataclasses.replace(CONFIG, overlay=True))) == 2
    assert legend_strips(coloured, 400, config=CONFIG)[0].shape[1] == 400


@pytest.fixture
def moving():
    places = {"a": Similarity([0, 0, 0], 1.0), "b": Similarity([10, 20, 0], 0.1)}
    return sphere_run({"a": 0.3, "b": 0.8}, similarities=places)


def test_the_box_holds_all_frames_in_the_world_and_hardly_more(moving) -> None:
    config = MorphConfig(frames=50, easing="linear", follow=False)
    bounds = plan_view(plan_morph(moving, ["a", "b"], config=config)).bounds
    assert bounds.lower == pytest.approx([-0.3, -0.3, -8], abs=0.1)
    assert bounds.upper == pytest.approx([18, 28, 8], abs=0.1)


@pytest.mark.parametrize(
    ("up_axis", "lower", "upper"), [("y", [-8, -0.3, -8], [8, 28, 8]), ("x", [-0.3, -8, -8], [18, 8, 8])]
)
def test_a_following_camera_goes_along_over_the_ground_but_not_up(moving, up_axis, lower, upper) -> None:
    config = MorphConfig(frames=50, easing="linear", up_axis=up_axis)
    bounds = plan_view(plan_morph(moving, ["a", "b"], config=config)).bounds
    assert bounds.lower == pytest.approx(lower, abs=0.1)
    assert bounds.upper == pytest.approx(upper, abs=0.1)


def test_a_shape_that_slips_through_the_coarse_lattice_leaves_the_whole_cube() -> None:
    run = sphere_run({"a": -5.0, "b": -5.0})
    config = MorphConfig(frames=2)
    bounds = plan_view(plan_morph(run, ["a", "b"], config=config)).bounds
    assert np.allclose(bounds.upper, 1.05)
