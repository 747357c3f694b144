"""The map between a shape and the template: back and forth, and where it folds."""

from __future__ import annotations

import numpy as np
import torch
from moved_ball import BEND, STRETCH, MovedBall

from sdfnet.correspondence import points_at, template_places
from sdfnet.decoders import TemplateConfig, build_decoder


def draw(count: int = 300) -> np.ndarray:
    return np.random.default_rng(0).uniform(-0.9, 0.9, (count, 3))


def test_the_map_of_a_known_family_has_its_closed_form_and_its_determinant() -> None:
    points, code = draw(), torch.tensor([0.8, -0.6, 0.0])
    places, determinants = template_places(MovedBall(), code, points)
    np.testing.assert_allclose(places[:, 1], points[:, 1] - 0.6 * BEND * points[:, 0] ** 2, atol=1e-6)
    np.testing.assert_allclose(determinants, 1 + 0.8 * STRETCH, atol=1e-5)


def test_the_way_back_ends_where_it_began() -> None:
    torch.manual_seed(1)
    decoder = build_decoder(
        TemplateConfig(latent_size=8, base_resolution=2, channels=(4, 4), displacement_resolution=6)
    )
    points, code = draw(), 1.5 * torch.randn(8, generator=torch.Generator().manual_seed(2))
    places, determinants = template_places(decoder, code, points)
    assert np.linalg.norm(places - points, axis=1).max() > 0.02
    back = points_at(decoder, code, places)
    assert back.found.all()
    assert determinants.min() > 0
    np.testing.assert_allclose(back.points, points, atol=1e-4)
    np.testing.assert_allclose(back.determinants, determinants, atol=1e-3)


def test_a_fold_is_found() -> None:
    """With this stretch, x turns over: the determinant is negative everywhere."""
    code = torch.tensor([-1.5 / STRETCH, 0.0, 0.0])
    mapped = points_at(MovedBall(), code, draw(20))
    assert (mapped.determinants < 0).all()
    assert not mapped.found.any()


def test_no_points_give_no_points() -> None:
    none = np.zeros((0, 3))
    assert template_places(MovedBall(), torch.zeros(3), none)[0].shape == (0, 3)
    assert points_at(MovedBall(), torch.zeros(3), none).points.shape == (0, 3)
