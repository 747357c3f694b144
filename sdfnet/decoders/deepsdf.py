"""The decoder of DeepSDF, as in the paper and its released configuration.

The network has eight hidden layers of 512 units, ReLU, weight normalisation, dropout 0.2, and tanh at the end. The
fifth layer gets the input (code and point) again. The decoder is slow on a CPU and serves for comparison. Legend: B
shapes in a batch, N points per shape, L latent size.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from sdfnet.decoders.base import Decoder, latent_product, whole_product, x_product
from sdfnet.decoders.registry import DecoderConfig, DecoderKind, LearningRates


@dataclass(frozen=True)
class DeepSDFConfig(DecoderConfig):
    """Options of `decoder=deepsdf`.

    >>> DeepSDFConfig().latent_size
    256
    """

    kind: str = "deepsdf"
    latent_size: int = 256
    """Length of a code."""
    width: int = 512
    """Units of a hidden layer; more than latent_size + 3."""
    num_layers: int = 8
    """Hidden layers, at least 2."""
    skip_layer: int = 4
    """The hidden layer (counted from 0) that receives the input again; 0 for none."""
    dropout: float = 0.2
    """Probability of dropping a unit in training, in [0, 1)."""

    def __post_init__(self) -> None:
        self.check_least(latent_size=1, num_layers=2)
        if not 0 <= self.skip_layer < self.num_layers:
            raise ValueError(f"skip_layer must be in [0, {self.num_layers - 1}], got {self.skip_layer}")
        if self.width <= self.latent_size + 3:
            raise ValueError(f"width must exceed latent_size + 3 = {self.latent_size + 3}, got {self.width}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be in [0, 1), got {self.dropout}")


class DeepSDFDecoder(Decoder):
    """Map (point, code) to signed distance with DeepSDF's network.

    References
    ---------- Park et al., "DeepSDF: Learning Continuous Signed Distance Functions for Shape Representation", CVPR
    2019, section 5 and figure 4 of the supplement. The linear product with the code is computed once per shape, which
    does not change the function.
    """

    def __init__(self, config: DeepSDFConfig) -> None:
        super().__init__()
        self.latent_size = config.latent_size
        self.skip_layer = config.skip_layer
        self.dropout = config.dropout
        inputs = 3 + config.latent_size
        layers = []
        for index in range(config.num_layers):
            width_in = inputs if index == 0 else config.width
            narrowed = config.skip_layer > 0 and index + 1 == config.skip_layer
            layers.append(weight_norm(nn.Linear(width_in, config.width - inputs if narrowed else config.width)))
        self.layers = nn.ModuleList(layers)
        self.head = nn.Linear(config.width, 1)

    def condition(self, latents_BL: Tensor) -> tuple[Tensor, ...]:
        products = [latent_product(self._layer(0), latents_BL)]
        if self.skip_layer:
            products.append(latent_product(self._layer(self.skip_layer), latents_BL))
        return tuple(products)

    def decode(self, points_BN3: Tensor, conditioned: tuple[Tensor, ...]) -> Tensor:
        hidden = points_BN3
        for index in range(len(self.layers)):
            if index == 0:
                hidden = x_product(self._layer(0), points_BN3) + conditioned[0]
            elif index == self.skip_layer:
                joined = torch.cat([hidden, points_BN3.to(hidden.dtype)], dim=-1)
                hidden = x_product(self._layer(index), joined) + conditioned[1]
            else:
                hidden = whole_product(self._layer(index), hidden)
            hidden = nn.functional.dropout(torch.relu(hidden), self.dropout, training=self.training)
        return torch.tanh(self.head(hidden)).squeeze(-1)

    def _layer(self, index: int) -> nn.Linear:
        layer = self.layers[index]
        assert isinstance(layer, nn.Linear)
        return layer


# The rates are those of the paper, section 6.
KIND = DecoderKind(DeepSDFConfig, DeepSDFDecoder, {"adam": LearningRates(5e-4, 1e-3)})
