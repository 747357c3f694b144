"""The box that a film's camera is fitted to."""

import numpy as np
import pytest
from exact_spheres import sphere_run

from sdfnet.geometry.similarity import Similarity
from sdfnet.latents.frames import MorphConfig, plan_frames
from sdfnet.latents.view import view_bounds


def test_the_box_holds_all_frames_in_the_world_and_hardly_more() -> None:
    places = {"a": Similarity([0, 0, 0], 1.0), "b": Similarity([10, 20, 0], 0.1)}
    run = sphere_run({"a": 0.3, "b": 0.8}, similarities=places)
    bounds = view_bounds(run, plan_frames(run, ["a", "b"], config=MorphConfig(frames=50, easing="linear")))
    assert bounds.lower == pytest.approx([-0.3, -0.3, -8], abs=0.1)
    assert bounds.upper == pytest.approx([18, 28, 8], abs=0.1)


def test_a_shape_that_slips_through_the_coarse_lattice_leaves_the_whole_cube() -> None:
    run = sphere_run({"a": -5.0, "b": -5.0})
    bounds = view_bounds(run, plan_frames(run, ["a", "b"], config=MorphConfig(frames=2)))
    assert np.allclose(bounds.upper, 1.05)
