"""Statistics of codes against closed forms: known covariances, and slow loops that leave one out."""

import numpy as np
import pytest
import torch

from sdfnet.latents.statistics import (
    compactness,
    fit_components,
    mean_interval,
    nearest_neighbours,
    outliers,
    typical_distances,
)

DEVIATIONS = np.array([3.0, 2.0, 1.0, 0.5])


def gaussian(num: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Codes of a known covariance: `num` of 6 numbers, along four turned axes."""
    random = np.random.default_rng(seed)
    axes = np.linalg.qr(random.normal(size=(6, 6)))[0][:4]
    return random.normal(size=(num, 4)) * DEVIATIONS @ axes + 5.0, axes


def test_components_of_gaussian_codes_are_those_of_their_covariance() -> None:
    codes, axes = gaussian(20_000)
    found = fit_components(codes)
    assert np.sqrt(found.variances) == pytest.approx(DEVIATIONS, rel=0.03)
    assert np.abs((found.projection / np.linalg.norm(found.projection, axis=1, keepdims=True)) @ axes.T) == (
        pytest.approx(np.eye(4), abs=0.02)
    )
    scores = found.scores(codes)
    assert scores.T @ scores / (len(codes) - 1) == pytest.approx(np.eye(4), abs=1e-9)
    assert found.codes(scores) == pytest.approx(codes)


def test_the_sign_of_an_axis_does_not_depend_on_the_order_of_the_shapes() -> None:
    codes, _ = gaussian(12)
    assert fit_components(codes).axes == pytest.approx(fit_components(codes[::-1]).axes)


def test_compactness_of_many_gaussian_codes_is_the_known_share_inside_its_interval() -> None:
    codes, _ = gaussian(400, seed=1)
    true = np.cumsum(DEVIATIONS**2) / (DEVIATIONS**2).sum()
    found = compactness(codes, num_resamples=200, generator=torch.Generator().manual_seed(0))
    assert found.values == pytest.approx(true, abs=0.03)
    assert (found.lower[:3] <= true[:3]).all()
    assert (true[:3] <= found.upper[:3]).all()
    few = compactness(codes[:8], num_resamples=50, generator=torch.Generator().manual_seed(0))
    assert np.isnan(few.lower).tolist() == [False] * 4
    few = compactness(codes[:5], num_resamples=50, generator=torch.Generator().manual_seed(0))
    assert np.isnan(few.lower).tolist() == [False, False, True, True]
    assert few.to_list()[3][1:] == [None, None]


def test_typical_distances_equal_a_loop_that_leaves_each_shape_out() -> None:
    codes = gaussian(30)[0][:, :4]
    variances = fit_components(codes).variances
    # The shrinkage of all shapes, as the formula of the reference spells it.
    size, num, trace, square = 4, 30, variances.sum(), (variances**2).sum()
    share = ((1 - 2 / size) * square + trace**2) / ((num + 1 - 2 / size) * (square - trace**2 / size))
    for row, distance in enumerate(typical_distances(codes)):
        others = np.delete(codes, row, axis=0)
        covariance = (1 - share) * np.cov(others.T) + share * variances.mean() * np.eye(4)
        away = codes[row] - others.mean(axis=0)
        assert distance == pytest.approx(np.sqrt(away @ np.linalg.solve(covariance, away) / size))


def test_a_planted_outlier_is_found_and_few_others_are() -> None:
    random = np.random.default_rng(3)
    codes = random.normal(size=(60, 40))
    assert outliers(typical_distances(codes)).sum() <= 1
    codes[17] = 12 * random.normal(size=40)
    assert np.flatnonzero(outliers(typical_distances(codes))).tolist() == [17]


def test_the_interval_of_a_mean_has_the_width_of_its_standard_error() -> None:
    values = np.random.default_rng(0).normal(size=(400, 2)) * [1.0, 10.0]
    found = mean_interval(values, generator=torch.Generator().manual_seed(0))
    assert found.values == pytest.approx(values.mean(axis=0))
    assert found.upper - found.lower == pytest.approx(2 * 1.96 * np.array([1.0, 10.0]) / 20, rel=0.15)


def test_neighbours_equal_a_loop() -> None:
    codes, _ = gaussian(15)
    rows, lengths = nearest_neighbours(codes, 4)
    for row in range(15):
        away = np.linalg.norm(codes - codes[row], axis=1)
        away[row] = np.inf
        assert rows[row].tolist() == np.argsort(away)[:4].tolist()
        assert lengths[row] == pytest.approx(np.sort(away)[:4])


@pytest.mark.parametrize(
    ("codes", "message"),
    [
        (np.zeros((1, 3)), r"at least 2 shapes, got \(1, 3\)"),
        (np.zeros((3, 3)), "the 3 codes are all equal"),
        (np.full((3, 3), np.nan), "must be finite"),
    ],
)
def test_codes_without_statistics_are_refused(codes: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fit_components(codes)
