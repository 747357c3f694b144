"""Pictures of morphs of spheres: colour by travel, ghosts, turntables."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from exact_spheres import sphere_run

from sdfnet.extraction import extract_mesh
from sdfnet.geometry.similarity import Similarity
from sdfnet.mesh.distance import MeshDistance
from sdfnet.morphs.film import Filming, Staging, legend_of, painted_by_travel, plan_staging, travel_limit
from sdfnet.morphs.morph import make_morph
from sdfnet.morphs.plan import MorphConfig, plan_frames
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
    frames = plan_frames(run, ["small", "large"], config=CONFIG)
    first = extract_mesh(run.field("small"), resolution=64, similarity=Similarity([0, 0, 0], 0.1))
    limit = travel_limit(run, frames, MeshDistance(first), config=CONFIG)
    assert limit == pytest.approx(4, rel=0.03)
    half = extract_mesh(run.field("small"), resolution=64, similarity=Similarity([0, 0, 0], 0.4 / 6))
    painted = painted_by_travel(half, MeshDistance(first), limit=limit)
    assert painted.vertex_colors == pytest.approx(
        np.tile(diverging_colors(0.5, limit=1), (len(half.vertices), 1)), abs=0.03
    )
    shrunk = extract_mesh(run.field("small"), resolution=64, similarity=Similarity([0, 0, 0], 0.2))
    colors = painted_by_travel(shrunk, MeshDistance(first), limit=limit).vertex_colors
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


def test_staging_survives_the_manifest(run: Run) -> None:
    frames = plan_frames(run, ["small", "large"], config=CONFIG)
    staging = plan_staging(run, frames, lambda index: extract_mesh(run.field("small")), config=CONFIG)
    again = Staging.from_dict(staging.to_dict())
    assert (again.travel_limit, again.radius) == (staging.travel_limit, staging.radius)
    assert (again.bounds.lower == staging.bounds.lower).all()


class Recorder:
    """Stands for a renderer and keeps what it was asked to draw."""

    size = (96, 72)

    def __init__(self) -> None:
        self.asked = []

    def begin(self, drawable, *, camera, ghosts):
        self.asked.append((drawable, camera, ghosts))


def filmed(run: Run, config: MorphConfig, index: int):
    from sdfnet.morphs.frames import extract_frame

    frames = plan_frames(run, ["small", "large"], config=config)
    staging = Staging(
        plan_staging(run, frames, lambda _: None, config=dataclasses.replace(config, color="none")).bounds
    )
    recorder = Recorder()
    film = Filming(
        staging, frames, lambda at: extract_frame(run, frames, at, config=config).mesh, recorder, config=config
    )
    film.begin(extract_frame(run, frames, index, config=config))
    return recorder.asked[0]


@pytest.mark.parametrize(("playback", "degrees"), [("once", [30, 75, 120]), ("loop", [30, 60, 90])])
def test_the_turntable_turns_so_far_from_first_to_last_and_a_loop_closes(run: Run, playback, degrees) -> None:
    config = dataclasses.replace(CONFIG, color="none", turntable=90.0, playback=playback)
    assert [filmed(run, config, index)[1].azimuth for index in range(3)] == pytest.approx(degrees)


def test_ghosts_are_the_shapes_before_and_after_on_the_spot(run: Run) -> None:
    config = dataclasses.replace(CONFIG, color="none", overlay=True)
    shown, _, ghosts = filmed(run, config, 1)
    assert shown.bounds.center == pytest.approx([0, 0, 0], abs=0.1)
    assert [ghost.drawable.bounds.extent[0] / 2 for ghost in ghosts] == pytest.approx([4, 8], rel=0.01)
    assert all(ghost.drawable.bounds.center == pytest.approx([0, 0, 0], abs=0.1) for ghost in ghosts)
    assert filmed(run, config, 0)[2] == []


def test_there_is_a_legend_where_colours_mean_something(run: Run) -> None:
    plain = Staging(extract_mesh(run.field("small"), resolution=16).bounds)
    coloured = dataclasses.replace(plain, travel_limit=1.0, radius=2.0)
    config = dataclasses.replace(CONFIG, color="none")
    assert legend_of(plain, 400, config=config) == []
    assert len(legend_of(plain, 400, config=dataclasses.replace(config, overlay=True))) == 1
    assert len(legend_of(coloured, 400, config=dataclasses.replace(CONFIG, overlay=True))) == 2
    assert legend_of(coloured, 400, config=CONFIG)[0].shape[1] == 400
