"""Paths through codes: closed forms, exact ends, and a slow twin for the spline."""

import itertools
import math

import numpy as np
import pytest
import torch

from sdfnet.latents.interpolation import ease, frame_times, interpolate, playback_order

KINDS = ["linear", "spherical", "spline", "natural"]
EASINGS = ["linear", "smooth", "smoother", "ease-in", "ease-out"]


def random_keys(num_keys: int = 4, size: int = 8) -> torch.Tensor:
    return torch.randn(num_keys, size, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("easing", EASINGS)
@pytest.mark.parametrize("closed", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_key_is_reached_with_its_very_bits(kind: str, easing: str, closed: bool, dtype: torch.dtype) -> None:
    keys = torch.randn(4, 8, generator=torch.Generator().manual_seed(3), dtype=dtype)
    times = frame_times(31, num_keys=4, playback="loop" if closed else "once")
    codes = interpolate(keys, times, kind=kind, easing=easing, closed=closed)
    knots = np.linspace(0, 1, 5 if closed else 4)[:4]
    frames = [int(np.flatnonzero(times == knot)[0]) for knot in knots]
    assert codes.dtype == keys.dtype
    assert torch.equal(codes[frames], keys)
    if closed:
        assert torch.equal(interpolate(keys, [1.0], kind=kind, easing=easing, closed=True), keys[:1])


@pytest.mark.parametrize("kind", KINDS)
def test_between_two_keys_on_a_line_every_path_is_that_line(kind: str) -> None:
    keys = torch.tensor([[1.0, 2.0], [3.0, 6.0]], dtype=torch.float64)
    codes = interpolate(keys, [0.25, 0.5], kind=kind)
    assert torch.allclose(codes, torch.tensor([[1.5, 3.0], [2.0, 4.0]], dtype=torch.float64), atol=1e-12)


@pytest.mark.parametrize("kind", ["spline", "natural"])
def test_splines_reproduce_evenly_spaced_points_of_a_line(kind: str) -> None:
    keys = torch.arange(5, dtype=torch.float64)[:, None] * torch.tensor([[1.0, -2.0]])
    times = np.linspace(0, 1, 17)
    expected = torch.from_numpy(4 * times)[:, None] * torch.tensor([[1.0, -2.0]])
    assert torch.allclose(interpolate(keys, times, kind=kind), expected, atol=1e-12)


def test_spherical_turns_at_a_constant_rate_and_changes_length_linearly() -> None:
    keys = torch.tensor([[2.0, 0.0], [0.0, 4.0]], dtype=torch.float64)
    codes = interpolate(keys, [1 / 3], kind="spherical")
    length, angle = 2 + 2 / 3, math.pi / 6
    expected = torch.tensor([[length * math.cos(angle), length * math.sin(angle)]], dtype=torch.float64)
    assert torch.allclose(codes, expected, atol=1e-12)


@pytest.mark.parametrize("end", [[0.0, 0.0], [2.0, 0.0], [-1.0, 0.0], [1.0, 1e-12]])
def test_spherical_between_zero_parallel_and_opposite_codes_is_a_line(end: list[float]) -> None:
    keys = torch.tensor([[1.0, 0.0], end], dtype=torch.float64)
    times = np.linspace(0, 1, 9)
    expected = interpolate(keys, times, kind="linear")
    assert torch.allclose(interpolate(keys, times, kind="spherical"), expected, atol=1e-12)


def test_spherical_is_continuous_where_it_turns_into_a_line() -> None:
    for angle in (1e-4, 3e-6, 1e-7):
        keys = torch.tensor([[1.0, 0.0], [math.cos(angle), math.sin(angle)]], dtype=torch.float64)
        middle = interpolate(keys, [0.5], kind="spherical")[0]
        assert middle.tolist() == pytest.approx([math.cos(angle / 2), math.sin(angle / 2)], abs=1e-8)


def barry_goldman(points: list[np.ndarray], u: float) -> np.ndarray:
    """The recursive form of the centripetal spline between points 1 and 2 (Barry & Goldman 1988)."""
    t = [0.0]
    for a, b in itertools.pairwise(points):
        t.append(t[-1] + float(np.linalg.norm(b - a)) ** 0.5)
    x = t[1] + u * (t[2] - t[1])

    def mix(a, b, start, stop):
        return (stop - x) / (stop - start) * a + (x - start) / (stop - start) * b

    a1, a2, a3 = (mix(points[i], points[i + 1], t[i], t[i + 1]) for i in range(3))
    b1, b2 = mix(a1, a2, t[0], t[2]), mix(a2, a3, t[1], t[3])
    return mix(b1, b2, t[1], t[2])


def test_spline_equals_the_recursion_of_barry_and_goldman() -> None:
    keys = random_keys().double()
    points = list(keys.numpy())
    for u in (0.1, 0.5, 0.8):
        code = interpolate(keys, [(1 + u) / 3], kind="spline")[0].numpy()
        assert code == pytest.approx(barry_goldman(points, u), abs=1e-12)


@pytest.mark.parametrize("kind", ["spline", "natural"])
def test_closed_splines_have_no_kink_at_the_seam(kind: str) -> None:
    keys = random_keys().double()
    step = 1e-5
    before = keys[0] - interpolate(keys, [1 - step], kind=kind, closed=True)[0]
    after = interpolate(keys, [step], kind=kind, closed=True)[0] - keys[0]
    cosine = torch.nn.functional.cosine_similarity(before, after, dim=0)
    assert cosine > 1 - 1e-6


def test_spline_with_repeated_keys_stays_finite_and_rests_between_them() -> None:
    keys = torch.tensor([[0.0], [1.0], [1.0], [0.0]])
    codes = interpolate(keys, [0.4, 0.5, 0.6], kind="spline")
    assert codes.isfinite().all()
    assert (codes - 1).abs().max() < 0.2


@pytest.mark.parametrize("easing", EASINGS)
def test_easing_is_monotone_and_keeps_the_ends(easing: str) -> None:
    eased = ease(np.linspace(0, 1, 101), easing=easing)
    assert eased[0] == 0
    assert eased[-1] == 1
    assert (np.diff(eased) > 0).all()


def test_ease_in_is_slow_first_and_ease_out_last() -> None:
    assert ease(np.array([0.5]), easing="ease-in")[0] == 0.25
    assert ease(np.array([0.5]), easing="ease-out")[0] == 0.75
    assert ease(np.array([0.01]), easing="smoother")[0] == pytest.approx(1e-5, rel=0.02)


def test_key_times_say_when_a_key_is_reached() -> None:
    keys = torch.tensor([[0.0], [1.0], [2.0]])
    assert interpolate(keys, [0.1, 0.2, 0.6], key_times=[0, 0.2, 1]).flatten().tolist() == pytest.approx([0.5, 1, 1.5])
    assert frame_times(5, num_keys=3, key_times=[0, 0.2, 1])[1] == 0.2


@pytest.mark.parametrize("num_frames", [3, 4, 7, 60])
@pytest.mark.parametrize("key_times", [None, [0, 0.01, 1], [0, 0.99, 1]])
def test_each_key_falls_on_a_frame_and_time_never_goes_back(num_frames: int, key_times: list[float] | None) -> None:
    times = frame_times(num_frames, num_keys=3, key_times=key_times)
    assert len(times) == num_frames
    assert (np.diff(times) > 0).all()
    for knot in key_times or [0, 0.5, 1]:
        assert knot in times


def test_a_loop_does_not_show_its_first_frame_twice() -> None:
    assert frame_times(6, num_keys=3, playback="loop").tolist() == pytest.approx([0, 1 / 6, 1 / 3, 1 / 2, 2 / 3, 5 / 6])
    assert playback_order(3, playback="loop") == [0, 1, 2]
    assert playback_order(2, playback="pingpong") == [0, 1]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: interpolate(random_keys(1), [0]), r"K at least 2, got \(1, 8\)"),
        (lambda: interpolate(random_keys(), [1.5]), r"\[0, 1\], got 1.5"),
        (lambda: interpolate(random_keys(), [0], kind="zigzag"), "got 'zigzag'"),
        (lambda: interpolate(random_keys(), [0], easing="bounce"), "got 'bounce'"),
        (lambda: interpolate(random_keys(), [0], key_times=[0, 0.5, 0.4, 1]), r"increase from 0 to 1, got \[0, 0.5"),
        (lambda: interpolate(random_keys() * math.nan, [0]), "diverged"),
        (lambda: frame_times(0, num_keys=2), "at least 2, got 0"),
        (lambda: frame_times(1, num_keys=2), "at least 2, got 1"),
        (lambda: frame_times(3, num_keys=4), "at least 4, one for each shape, got 3"),
        (lambda: frame_times(3, num_keys=2, playback="twice"), "got 'twice'"),
    ],
)
def test_nonsense_is_refused_with_what_came(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
