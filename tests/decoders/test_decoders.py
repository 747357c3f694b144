"""Every decoder keeps the two-step contract; DeepSDF's equals a plain reading of the paper."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from sdfnet.decoders import (
    DECODERS,
    DeepSDFConfig,
    SirenConfig,
    TemplateConfig,
    VolumeConfig,
    build_decoder,
    decoder_config,
    decoder_kind,
)
from sdfnet.decoders.base import positional_encoding
from sdfnet.decoders.deepsdf import DeepSDFDecoder

KINDS = [name for name in DECODERS if not decoder_kind(name).network.holds_one_shape]
SMALL = {
    "volume": VolumeConfig(latent_size=8, channels=(8, 8, 4), base_resolution=2, width=16),
    "template": TemplateConfig(
        latent_size=8, channels=(8, 8, 4), base_resolution=2, width=16, residual_channels=(8, 4)
    ),
    "deepsdf": DeepSDFConfig(latent_size=8, width=32),
    "fourier": decoder_config({"kind": "fourier", "latent_size": 8, "width": 32}),
    "siren": SirenConfig(latent_size=8, width=32),
}


@pytest.fixture(params=KINDS)
def decoder(request: pytest.FixtureRequest):
    torch.manual_seed(0)
    config = SMALL.get(request.param) or decoder_config({"kind": request.param, "latent_size": 8})
    decoder = build_decoder(config).eval()
    centers = torch.tensor([[0.1, 0.0, 0.2], [0.0, -0.3, 0.0]], dtype=torch.float64)
    decoder.place(centers, torch.tensor([0.4, 0.6], dtype=torch.float64), torch.zeros(2, 8))
    return decoder


def _draw(batch: int = 3, count: int = 50, *, dtype: torch.dtype = torch.float32):
    generator = torch.Generator().manual_seed(1)
    points = torch.rand(batch, count, 3, generator=generator, dtype=dtype) * 2 - 1
    return points, torch.randn(batch, 8, generator=generator, dtype=dtype)


def test_calling_equals_condition_then_decode(decoder):
    points, latents = _draw()
    sdf = decoder(points, latents)
    assert sdf.shape == (3, 50)
    torch.testing.assert_close(sdf, decoder.decode(points, decoder.condition(latents)), rtol=0, atol=0)


def test_shapes_of_a_batch_do_not_mix(decoder):
    points, latents = _draw()
    together = decoder(points, latents)
    for index in range(3):
        alone = decoder(points[index : index + 1], latents[index : index + 1])
        torch.testing.assert_close(together[index : index + 1], alone, rtol=1e-4, atol=1e-6)
    assert not torch.allclose(decoder(points, latents), decoder(points, latents.flip(0)))


def test_points_do_not_mix_and_conditioned_tensors_lead_with_the_batch(decoder):
    points, latents = _draw()
    permuted = decoder(points.flip(1), latents).flip(1)
    torch.testing.assert_close(decoder(points, latents), permuted, rtol=1e-4, atol=1e-6)
    assert {part.shape[0] for part in decoder.condition(latents)} <= {1, 3}


def test_double_precision_is_kept_and_agrees(decoder):
    points, latents = _draw()
    single = decoder(points, latents)
    double = decoder.double()(points.double(), latents.double())
    assert double.dtype == torch.float64
    torch.testing.assert_close(double.float(), single, rtol=1e-3, atol=1e-5)


def test_gradients_reach_points_codes_and_every_weight(decoder):
    points, latents = _draw()
    points.requires_grad_(True)
    latents.requires_grad_(True)
    decoder(points, latents).square().sum().backward()
    for name, tensor in [("points", points), ("latents", latents), *decoder.named_parameters()]:
        assert tensor.grad is not None, name
        assert torch.isfinite(tensor.grad).all(), name
        assert tensor.grad.abs().max() > 0, name


def test_deepsdf_equals_a_plain_reading_of_the_paper():
    """Nine affine maps on the concatenated (code, point), the input again at the fifth, weights g v / |v|, tanh."""
    torch.manual_seed(0)
    config = DeepSDFConfig()
    decoder = DeepSDFDecoder(config).double().eval()
    assert [tuple(layer.weight.shape) for layer in decoder.layers] == [
        (512, 259), (512, 512), (512, 512), (253, 512), (512, 512), (512, 512), (512, 512), (512, 512)
    ]  # fmt: skip
    points = torch.rand(2, 40, 3, dtype=torch.float64) * 2 - 1
    latents = torch.randn(2, 256, dtype=torch.float64)

    def affine(layer, row):
        magnitude = layer.parametrizations.weight.original0
        direction = layer.parametrizations.weight.original1
        return (magnitude * direction / direction.norm(dim=1, keepdim=True)) @ row + layer.bias

    sdf = decoder(points, latents)
    for shape in range(2):
        for index in range(40):
            inputs = torch.cat([points[shape, index], latents[shape]])
            hidden = inputs
            for number, layer in enumerate(decoder.layers):
                if number == 4:
                    hidden = torch.cat([hidden, inputs])
                hidden = affine(layer, hidden).clamp(min=0)
            expected = torch.tanh(decoder.head.weight[0] @ hidden + decoder.head.bias[0])
            torch.testing.assert_close(sdf[shape, index], expected)


def test_deepsdf_drops_units_only_while_training():
    torch.manual_seed(0)
    decoder = build_decoder(SMALL["deepsdf"])
    points, latents = _draw()
    assert not torch.equal(decoder.train()(points, latents), decoder(points, latents))
    assert torch.equal(decoder.eval()(points, latents), decoder(points, latents))


def test_deepsdf_has_the_papers_number_of_weights():
    layers = [(259, 512), (512, 512), (512, 512), (512, 253), *[(512, 512)] * 4]
    expected = sum(a * b + 2 * b for a, b in layers) + 512 + 1  # weight, magnitude and bias; plain head
    assert sum(p.numel() for p in DeepSDFDecoder(DeepSDFConfig()).parameters()) == expected


def test_positional_encoding_of_a_known_point():
    encoded = positional_encoding(torch.tensor([[0.5, 0.0, -0.25]], dtype=torch.float64), 2)[0]
    half = 2**-0.5
    expected = [0.5, 0, -0.25, 1, 0, -half, 0, 0, -1, 0, 1, half, -1, 1, 0]
    torch.testing.assert_close(encoded, torch.tensor(expected, dtype=torch.float64), atol=1e-12, rtol=0)


def test_siren_activations_keep_their_spread_through_the_layers():
    """The paper's initialisation keeps pre-activations near unit variance; a wrong one explodes or dies."""
    torch.manual_seed(0)
    decoder = build_decoder(SirenConfig(num_layers=6, frequency=30.0))
    hidden = torch.rand(1, 4096, 3) * 2 - 1
    for number, layer in enumerate(decoder.layers):
        angle = 30.0 * layer(hidden)
        if number:
            assert 0.5 < angle.std() < 2.0
        hidden = torch.sin(angle)


def test_volume_looks_up_x_y_z_in_this_order():
    """A volume that holds x + 10 y + 100 z must give it back: a transposed axis would not."""
    torch.manual_seed(0)
    small = VolumeConfig(latent_size=8, base_resolution=2, channels=(4, 4, 4), num_layers=1, lookup="linear")
    decoder = build_decoder(small)
    axis = torch.linspace(-1.05, 1.05, 8)
    z, y, x = torch.meshgrid(axis, axis, axis, indexing="ij")
    volume = (x + 10 * y + 100 * z).expand(1, 4, -1, -1, -1)
    captured = {}
    decoder.point_network = nn.Sequential(nn.Identity())
    decoder.head.register_forward_hook(lambda module, args, out: captured.update(features=args[0]))
    decoder.head = nn.Linear(4, 1)
    decoder.head.register_forward_hook(lambda module, args, out: captured.update(features=args[0]))
    points = torch.rand(1, 30, 3) * 2 - 1
    decoder.decode(points, (volume,))
    torch.testing.assert_close(captured["features"][0, :, 0], points[0] @ torch.tensor([1.0, 10.0, 100.0]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "mlp"}, f"one of {', '.join(DECODERS)}, got 'mlp'"),
        ({"kind": "siren", "widht": 3}, "no option widht; it has"),
        ({"kind": "volume", "channels": [8]}, r"two positive numbers, got \[8\]"),
        ({"kind": "volume", "base_resolution": 64}, "at most 256 samples per axis, got 512"),
        ({"kind": "deepsdf", "width": 100}, "exceed latent_size \\+ 3 = 259, got 100"),
        ({"kind": "deepsdf", "dropout": 1.0}, "dropout must be in"),
        ({"kind": "fourier", "num_frequencies": 0}, "got 0"),
        ({"kind": "siren", "frequency": 0}, "frequency must be positive, got 0"),
    ],
)
def test_wrong_options_are_refused_by_name(options, message):
    with pytest.raises(ValueError, match=message):
        decoder_config(options)
