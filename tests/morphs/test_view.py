"""The box that a film's camera is fitted to."""

import numpy as np
import pytest
from exact_spheres import sphere_run

from sdfnet.geometry.similarity import Similarity
from sdfnet.morphs.film import plan_view
from sdfnet.morphs.plan import MorphConfig, plan_morph


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
