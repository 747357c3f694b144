"""Points matched between shapes whose correspondence is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from moved_ball import Family, moved_balls

from sdfnet.correspondence import match_points


@pytest.fixture
def family(tmp_path: Path) -> Family:
    return moved_balls(tmp_path)


@pytest.mark.parametrize(("source", "target"), [("ball", "bent"), ("bent", "long"), ("long", "ball")])
def test_matches_are_the_same_places_of_the_template(family: Family, source: str, target: str) -> None:
    points = family.surface(source)
    matched = match_points(family.run, source, target, points)
    np.testing.assert_allclose(matched.points_world, family.truth(source, target, points), atol=2e-4)
    assert matched.confidence.min() > 0.3


def test_a_flat_place_is_trusted_less_than_a_bent_one(family: Family) -> None:
    """The ends of the long ball bend more than its waist. A match says the same in both directions."""
    points = family.surface("long")
    along = np.abs(family.run.similarity("long").to_unit(points)[:, 0])
    there = match_points(family.run, "long", "ball", points)
    back = match_points(family.run, "ball", "long", there.points_world)
    assert there.confidence[along > 0.6].mean() > there.confidence[along < 0.2].mean() + 0.02
    np.testing.assert_allclose(there.confidence, back.confidence, atol=0.02)


def test_a_match_of_a_surface_point_lies_on_the_surface(family: Family) -> None:
    """Points that are off by a little are moved onto the surface; points that are far off keep their distance."""
    points = family.surface("ball")
    away = family.run.similarity("ball").center + (points - family.run.similarity("ball").center) * 1.01
    near = match_points(family.run, "ball", "long", away)
    np.testing.assert_allclose(near.points_world, family.truth("ball", "long", points), atol=4e-3)
    far = family.run.similarity("ball").center + (points - family.run.similarity("ball").center) * 1.4
    beyond = match_points(family.run, "ball", "long", far)
    np.testing.assert_allclose(beyond.points_world, family.truth("ball", "long", far), atol=2e-4)
    assert beyond.confidence.max() < 0.1


def test_what_cannot_be_matched_is_refused(family: Family) -> None:
    with pytest.raises(ValueError, match=r"finite, of shape \(N, 3\), got shape \(3,\)"):
        match_points(family.run, "ball", "long", np.zeros(3))
    with pytest.raises(ValueError, match="bal"):
        match_points(family.run, "bal", "long", np.zeros((1, 3)))
    assert match_points(family.run, "ball", "long", np.zeros((0, 3))).confidence.shape == (0,)
