"""What is drawn from one shape: exact counts, right distances, no sample at a sign jump."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sdfnet.geometry.similarity import UNIT_RADIUS, Similarity
from sdfnet.mesh.distance import MeshDistance, at_sign_jump
from sdfnet.mesh.io.write import save_mesh
from sdfnet.mesh.mesh import Mesh
from sdfnet.sampling import SamplerConfig, ShapeSamples, deepsdf_config, sample_shape
from sdfnet.solids.rule import AUTO, SolidRule
from sdfnet.solids.source_shape import SourceShape, folder_similarities, load_shape

CONFIG = SamplerConfig(num_samples=5_001, num_surface=403, num_heldout=200)


def load(mesh: Mesh, folder: Path, *, rule: SolidRule = AUTO) -> tuple[SourceShape, Similarity]:
    save_mesh(mesh, folder / "shape.ply")
    shape = load_shape(folder / "shape.ply", rule=rule)
    return shape, folder_similarities([shape])[0]


def box_sdf(points: np.ndarray, half_extents: np.ndarray) -> np.ndarray:
    """Signed distance to a box at the origin, in closed form."""
    beyond = abs(points) - half_extents
    return np.linalg.norm(np.maximum(beyond, 0), axis=1) + np.minimum(beyond.max(axis=1), 0)


@pytest.fixture
def box_samples(make_box: Callable[..., Mesh], tmp_path: Path) -> tuple[ShapeSamples, np.ndarray]:
    """Samples of a box that stands a million units from the origin, and its half extents in the unit frame."""
    half_extents = np.array([3.0, 2.0, 1.0])
    shape, similarity = load(make_box(tuple(half_extents), (1e6, -2e6, 5.0)), tmp_path)
    return sample_shape(shape, similarity, CONFIG), half_extents * UNIT_RADIUS / np.linalg.norm(half_extents)


def test_counts_dtypes_and_distances_are_exact(box_samples: tuple[ShapeSamples, np.ndarray]) -> None:
    samples, half_extents = box_samples
    assert samples.sdf.shape == (5_001, 4)
    assert samples.surface.shape == (403, 6)
    assert samples.heldout.shape == (200, 6)
    assert samples.sdf.dtype == samples.surface.dtype == samples.heldout.dtype == np.float32
    expected = box_sdf(samples.sdf[:, :3].astype(np.float64), half_extents)
    # float32 rounding of the distance; of the mesh, 2 million units away, float64 leaves 1e-10.
    assert abs(samples.sdf[:, 3] - expected).max() < 1e-7
    assert 0.3 < (samples.sdf[:, 3] < 0).mean() < 0.6


def test_surface_points_lie_on_the_surface_with_outward_normals(box_samples: tuple[ShapeSamples, np.ndarray]) -> None:
    samples, half_extents = box_samples
    for oriented in (samples.surface, samples.heldout):
        points, normals = oriented[:, :3].astype(np.float64), oriented[:, 3:]
        assert abs(box_sdf(points, half_extents)).max() < 1e-7
        assert (box_sdf(points + 1e-3 * normals, half_extents) > 9e-4).all()
    assert not (samples.surface[:, None, :3] == samples.heldout[None, :, :3]).all(axis=2).any()


def test_samples_are_shuffled_so_that_any_slice_is_a_fair_draw(box_samples: tuple[ShapeSamples, np.ndarray]) -> None:
    samples, _ = box_samples
    distances = abs(samples.sdf[:, 3])
    medians = [np.median(part) for part in np.array_split(distances, 5)]
    assert max(medians) < 1.35 * min(medians)
    assert abs(np.corrcoef(np.arange(5_001), distances)[0, 1]) < 0.06


def test_the_same_content_gives_the_same_samples_under_any_name_and_another_seed_gives_others(
    make_box: Callable[..., Mesh], tmp_path: Path
) -> None:
    shape, similarity = load(make_box((1, 2, 3)), tmp_path)
    first = sample_shape(shape, similarity, CONFIG)
    again = sample_shape(replace(shape, name="other", path=Path("elsewhere.ply")), similarity, CONFIG)
    other = sample_shape(shape, similarity, replace(CONFIG, seed=1))
    changed = sample_shape(replace(shape, content_hash="0"), similarity, CONFIG)
    assert (first.sdf == again.sdf).all()
    assert (first.heldout == again.heldout).all()
    for different in (other, changed):
        assert not (first.sdf == different.sdf).all(axis=1).any()


def test_the_mixture_keeps_its_shares(make_box: Callable[..., Mesh], tmp_path: Path) -> None:
    shape, similarity = load(make_box((1, 1, 1)), tmp_path)
    only = {"noise_shares": (0, 0, 0), "feature_share": 0, "volume_share": 0}
    uniform = sample_shape(shape, similarity, replace(CONFIG, **{**only, "volume_share": 1})).sdf
    assert uniform[:, :3].std(axis=0) == pytest.approx([1.05 / 3**0.5] * 3, rel=0.03)
    ball = sample_shape(shape, similarity, replace(CONFIG, **{**only, "volume_share": 1, "volume": "ball"})).sdf
    assert np.linalg.norm(ball[:, :3], axis=1).max() <= 1
    near = sample_shape(shape, similarity, replace(CONFIG, **{**only, "noise_shares": (1, 0, 0)})).sdf
    # Away from the edges the distance is that along one axis: half of a normal distribution's mass within 0.674 std.
    assert np.median(abs(near[:, 3])) == pytest.approx(0.674 * CONFIG.noise_stds[0], rel=0.05)
    mixed = sample_shape(shape, similarity, CONFIG).sdf
    corner = (abs(mixed[:, :3]) > 0.9).any(axis=1).mean()
    assert corner == pytest.approx((abs(uniform[:, :3]) > 0.9).any(axis=1).mean() * CONFIG.volume_share, abs=0.02)


def test_samples_at_the_jump_of_an_open_mesh_are_replaced_by_others(
    make_box: Callable[..., Mesh], tmp_path: Path
) -> None:
    box = make_box((1, 1, 1))
    shape, similarity = load(Mesh(box.vertices, box.faces[2:]), tmp_path)
    assert not shape.closed
    samples = sample_shape(shape, similarity, CONFIG)
    assert samples.sdf.shape == (5_001, 4)
    distance = MeshDistance(shape.mesh.to_unit(similarity))
    found = distance(samples.sdf[:, :3].astype(np.float64))
    assert not at_sign_jump(found).any()
    assert abs(found.sdf - samples.sdf[:, 3]).max() < 1e-7
    # Without the replacement some would be there: the test has a point.
    uniform = np.random.default_rng(0).uniform(-1.05, 1.05, (2_000, 3))
    assert at_sign_jump(distance(uniform)).mean() > 0.01


def test_a_sheet_is_sampled_as_a_wall_of_its_thickness(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sdfnet.solids.walls.SPACING", 0.02)
    square = Mesh([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]], [[0, 1, 2], [0, 2, 3]])
    shape, similarity = load(square, tmp_path, rule=SolidRule(thickness=0.1))
    samples = sample_shape(shape, similarity, CONFIG)
    half = 0.5 * similarity.scale
    beyond = np.maximum(abs(samples.sdf[:, :3].astype(np.float64)) - [half, half, 0], 0)
    assert abs(np.linalg.norm(beyond, axis=1) - 0.05 * similarity.scale - samples.sdf[:, 3]).max() < 2e-3
    assert 0.25 < (samples.sdf[:, 3] < 0).mean() < 0.6
    beyond = np.maximum(abs(samples.surface[:, :3].astype(np.float64)) - [half, half, 0], 0)
    assert abs(np.linalg.norm(beyond, axis=1) - 0.05 * similarity.scale).max() < 2e-3


def test_the_deepsdf_preset_has_the_numbers_of_the_paper() -> None:
    config = deepsdf_config()
    assert config.num_samples == 2 * 250_000 + 25_000
    assert [std**2 for std in config.noise_stds] == pytest.approx([0.0025, 0.00025])
    assert config.volume == "ball"


def test_a_configuration_survives_json() -> None:
    config = SamplerConfig(noise_stds=(1, 2), noise_shares=(0, 1), feature_share=0)
    assert SamplerConfig(**config.to_dict()) == config
    assert config.to_dict()["feature_share"] == 0.0
    assert isinstance(config.to_dict()["noise_stds"][0], float)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"num_samples": 0}, "num_samples must be 1 or more, got 0"),
        ({"num_heldout": -1}, "num_heldout must be 0 or more, got -1"),
        ({"seed": -1}, "seed must be 0 or more, got -1"),
        ({"noise_stds": (0.1,)}, "got 3 shares for 1 deviations"),
        ({"noise_stds": (0.1, 0.2, 0.0)}, r"noise_stds must be positive and finite, got \(0.1, 0.2, 0.0\)"),
        ({"feature_noise_std": float("nan")}, "feature_noise_std must be positive and finite, got nan"),
        ({"volume_share": -0.5}, "volume_share must be finite and 0 or more, got -0.5"),
        ({"noise_shares": (0, 0, 0), "feature_share": 0, "volume_share": 0}, "must not all be 0"),
        ({"volume": "sphere"}, "volume must be one of cube, ball, got 'sphere'"),
    ],
)
def test_nonsense_in_the_configuration_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SamplerConfig(**values)
