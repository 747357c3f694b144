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


def test_components_in_a_metric_are_those_of_the_codes_it_measures() -> None:
    """The first component is that which moves the surface, not that which moves the code."""
    random = np.random.default_rng(4)
    codes = random.normal(size=(500, 3)) * [10.0, 1.0, 3.0] + 2.0
    metric = np.diag([0.01, 1.0, 0.1])  # deviations of the surface: 0.1, 1, 0.3
    found = fit_components(codes, metric=metric)
    assert np.sqrt(found.variances) == pytest.approx([1.0, 0.3, 0.1], rel=0.1)
    assert np.abs(found.axes).argmax(axis=1).tolist() == [1, 2, 0]
    measured = fit_components(codes @ metric.T)
    assert np.abs(found.axes @ metric.T) == pytest.approx(np.abs(measured.axes))
    assert found.projection @ found.axes.T == pytest.approx(np.eye(3))
    assert found.codes(found.scores(codes)) == pytest.approx(codes)
    first = codes - found.codes(found.scores(codes)[:, :1])
    assert (first @ metric.T) @ (metric @ found.axes[0]) == pytest.approx(np.zeros(500), abs=1e-9)


def test_a_left_out_code_is_projected_orthogonally_in_the_metric() -> None:
    random = np.random.default_rng(5)
    codes, metric = random.normal(size=(6, 20)), random.normal(size=(20, 20))
    others = fit_components(codes[1:], metric=metric)
    rest = codes[0] - others.codes(others.scores(codes[0]))
    assert others.axes @ metric.T @ metric @ rest == pytest.approx(np.zeros(4), abs=1e-9)
    nearest = np.linalg.lstsq((others.axes @ metric.T).T, metric @ (codes[0] - others.mean), rcond=None)[0]
    assert others.scores(codes[0]) == pytest.approx(nearest)
