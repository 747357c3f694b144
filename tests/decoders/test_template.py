"""The decoder with a shared template: a displacement that is linear in the code, and smooth."""

from __future__ import annotations

import pytest
import torch

from sdfnet.decoders import TemplateConfig, VolumeConfig, build_decoder, decoder_config
from sdfnet.decoders.lookup import look_up
from sdfnet.decoders.template import TemplateDecoder, template_jacobians


def decoder_of(**options) -> TemplateDecoder:
    torch.manual_seed(3)
    config = TemplateConfig(**{"latent_size": 6, "base_resolution": 2, "channels": (8, 8, 4), "width": 16, **options})
    return build_decoder(config).double().eval()  # type: ignore[return-value]


def draw(count: int = 200, *, seed: int = 0) -> torch.Tensor:
    return 1.9 * torch.rand(1, count, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) - 0.95


def codes(number: int) -> torch.Tensor:
    return torch.randn(number, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(number))


CENTERS = torch.tensor([[0.1, -0.6, 0.0], [0.2, -0.3, 0.1], [0.0, 0.0, -0.1]], dtype=torch.float64)
SIZES = torch.tensor([0.2, 0.5, 0.8], dtype=torch.float64)


def placed_decoder() -> tuple[TemplateDecoder, torch.Tensor]:
    """Return a decoder without displacement, and the codes of three shapes that differ in place and size."""
    decoder = decoder_of()
    torch.nn.init.zeros_(decoder.displacement.weight)
    return decoder, decoder.place(CENTERS, SIZES, codes(3))


@pytest.mark.parametrize("mix", [[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.5, 0.0, 0.5], [0.2, 0.5, 0.3]])
def test_a_mix_of_codes_has_the_mean_size_and_place(mix: list[float]) -> None:
    """Balls go to the mean ball of the template, and the distance at a point is that of the template, scaled."""
    decoder, placed = placed_decoder()
    weights = torch.tensor(mix, dtype=torch.float64)
    conditioned = decoder.condition((weights @ placed)[None])
    ball = torch.nn.functional.normalize(draw() - 0.1, dim=-1)
    points = weights @ CENTERS + (weights @ SIZES) * ball
    expected = CENTERS.mean(dim=0) + SIZES.mean() * ball
    torch.testing.assert_close(decoder.template_points(points, conditioned), expected)
    template = decoder.decode(expected, decoder.condition(torch.zeros(1, 6, dtype=torch.float64)))
    torch.testing.assert_close(decoder.decode(points, conditioned), template * (weights @ SIZES) / SIZES.mean())


def test_shapes_of_one_size_and_place_are_not_moved() -> None:
    decoder, first = decoder_of(), codes(3)
    placed = decoder.place(CENTERS[:1].expand(3, 3), SIZES[:1].expand(3), first)
    torch.testing.assert_close(placed[:, :4], torch.zeros(3, 4, dtype=torch.float64))
    torch.testing.assert_close(placed[:, 4:], first[:, 4:], rtol=0, atol=0)
    assert decoder_of(placed=False).place(CENTERS, SIZES, first) is first


def test_a_code_far_away_turns_nothing_over() -> None:
    decoder, placed = placed_decoder()
    jacobians = template_jacobians(decoder, draw().expand(3, -1, -1), decoder.condition(100 * placed))
    assert jacobians.isfinite().all()
    assert torch.linalg.det(jacobians).min() > 0


def test_first_points_are_the_points_where_there_is_no_displacement() -> None:
    decoder, placed = placed_decoder()
    conditioned, places = decoder.condition(placed), draw().expand(3, -1, -1)
    points = decoder.first_points(places, conditioned)
    torch.testing.assert_close(decoder.template_points(points, conditioned), places)


def test_bfloat16_does_not_round_the_places() -> None:
    decoder, placed = placed_decoder()
    decoder, placed, points = decoder.float(), placed.float(), draw().float().expand(3, -1, -1)
    exact = decoder.template_points(points, decoder.condition(placed))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = decoder.template_points(points, decoder.condition(placed))
    torch.testing.assert_close(found, exact, rtol=0, atol=1e-6)


@pytest.mark.parametrize("residual", [(), (8, 4)])
def test_the_displacement_is_linear_in_the_code(residual: tuple[int, ...]) -> None:
    options = {"residual_channels": residual, "inverse_steps": 1, "placed": False}
    decoder, points, (first, second) = decoder_of(**options), draw(), codes(2)

    def displacement(code: torch.Tensor) -> torch.Tensor:
        return decoder.template_points(points, decoder.condition(code[None])) - points

    mixed = displacement(0.7 * first - 2.5 * second)
    assert displacement(first).abs().max() > 1e-3
    torch.testing.assert_close(mixed, 0.7 * displacement(first) - 2.5 * displacement(second))


def test_a_code_half_way_has_the_mean_of_corresponding_points() -> None:
    """The displacement moves points of the template, so the points of one place in it are linear in the code."""
    places, (first, second) = draw(), codes(2)
    codes_B6 = torch.stack([first, second, 0.7 * first + 0.3 * second])

    def misses(inverse_steps: int) -> torch.Tensor:
        decoder = decoder_of(inverse_steps=inverse_steps, placed=False)
        conditioned = decoder.condition(codes_B6)
        moves = look_up(conditioned[1], places.expand(3, -1, -1), kind="cubic")
        points = places - torch.stack([*moves[:2], 0.7 * moves[0] + 0.3 * moves[1]])
        return (decoder.template_points(points, conditioned) - places).norm(dim=-1).amax(dim=1)

    once, default, often = misses(1), misses(TemplateConfig().inverse_steps), misses(40)
    assert often.max() < 1e-6
    assert (once > 0.005).all()
    assert (default < 0.5 * once).all()


def test_two_points_of_one_place_in_the_template_have_one_distance() -> None:
    """Without a residual, a shape is the template (the code 0) at the moved points."""
    decoder, points, code = decoder_of(placed=False), draw(), codes(1)
    conditioned = decoder.condition(code)
    template = decoder.condition(torch.zeros_like(code))
    moved = decoder.template_points(points, conditioned)
    torch.testing.assert_close(decoder.decode(points, conditioned), decoder.decode(moved, template))
    assert not torch.allclose(decoder.decode(points, conditioned), decoder.decode(points, template))


def test_a_residual_is_nothing_at_the_code_zero() -> None:
    plain, residual, points = decoder_of(), decoder_of(residual_channels=(8, 4)), draw()
    residual.load_state_dict(plain.state_dict(), strict=False)
    zero = torch.zeros(1, 6, dtype=torch.float64)
    torch.testing.assert_close(plain(points, zero), residual(points, zero))
    assert not torch.allclose(plain(points, codes(1)), residual(points, codes(1)))


def test_the_jacobian_is_the_limit_of_differences() -> None:
    decoder, points = decoder_of(), draw()
    decoder.place(CENTERS, SIZES, codes(3))
    conditioned, step = decoder.condition(5 * codes(1)), 1e-6
    columns = [
        (decoder.template_points(points + offset, conditioned) - decoder.template_points(points - offset, conditioned))
        / (2 * step)
        for offset in step * torch.eye(3, dtype=torch.float64)
    ]
    expected = torch.linalg.det(torch.stack(columns, dim=-1))
    found = torch.linalg.det(template_jacobians(decoder, points, conditioned))
    assert found.std() > 0.01
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)


def test_the_penalty_is_that_of_bending() -> None:
    """A displacement x has none. One of x² bends with the second derivative 2 along one axis, in one of three parts."""
    decoder = decoder_of(displacement_resolution=9, bending_weight=3.0)
    axis = torch.linspace(-1, 1, 9, dtype=torch.float64).expand(9, 9, 9)
    with torch.no_grad():
        decoder.displacement.weight.zero_()
        decoder.displacement.weight[: 9**3, 0] = axis.flatten()
        decoder.displacement.weight[: 9**3, 1] = axis.square().flatten()
    straight, bent = torch.eye(6, dtype=torch.float64)[:2, None]
    assert decoder.penalty(straight) < 1e-20
    torch.testing.assert_close(decoder.penalty(bent), torch.tensor(3.0 * 2**2 / 3, dtype=torch.float64))
    assert decoder_of(bending_weight=0.0).penalty(bent) is None


def test_only_a_decoder_with_a_template_has_places_in_it() -> None:
    decoder = build_decoder(VolumeConfig(latent_size=4, base_resolution=2, channels=(4, 4)))
    conditioned = decoder.condition(torch.zeros(1, 4))
    assert (decoder.has_template, decoder_of().has_template) == (False, True)
    with pytest.raises(ValueError, match="VolumeDecoder has no template"):
        template_jacobians(decoder, torch.zeros(1, 1, 3), conditioned)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"residual_channels": [8, 6]}, r"the last of channels \(8\), got \[8, 6\]"),
        ({"channels": [8] * 9}, "at most 256 samples per axis, got 1024"),
        ({"inverse_steps": 0}, "inverse_steps must be at least 1, got 0"),
        ({"latent_size": 3}, "latent_size must be at least 4 with placed=true, got 3"),
        ({"displacement_resolution": 1}, "displacement_resolution must be at least 2, got 1"),
        ({"bending_weight": -1.0}, "bending_weight must be 0 or more, got -1.0"),
    ],
)
def test_wrong_options_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        decoder_config({"kind": "template", **options})
