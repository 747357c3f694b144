"""The adaptor from the shared decoder to one shape: a decoder with one latent code is a field."""

from __future__ import annotations

import torch
from torch import Tensor

from sdfnet.decoders.base import Decoder
from sdfnet.fields.base import Accuracy, Field, check_points
from sdfnet.geometry.bounds import UNIT_BOUNDS, Bounds


class NeuralField(Field):
    """One learned shape: `decoder` bound to `latent` (L,), unit frame.

    What depends on the code alone is computed once, here. The decoder is put into evaluation mode. Values are
    approximate: their sign and zero set are meant.

    >>> import sdfnet
    >>> run = sdfnet.load_run("runs/chairs")
    >>> between = NeuralField(run.decoder, 0.5 * run.latent("chair_00") + 0.5 * run.latent("chair_01"))
    >>> bool(between(torch.zeros(1, 3)) < 0)
    True
    """

    accuracy: Accuracy = "approximate"

    def __init__(self, decoder: Decoder, latent: Tensor, *, bounds: Bounds = UNIT_BOUNDS) -> None:
        if latent.shape != (decoder.latent_size,):
            raise ValueError(f"latent must have shape ({decoder.latent_size},), got {tuple(latent.shape)}")
        self.bounds = bounds
        self.decoder = decoder.eval()
        self.latent = latent.detach()
        with torch.no_grad():
            self._conditioned = decoder.condition(self.latent[None])

    def __call__(self, points: Tensor) -> Tensor:
        check_points(points)
        flat = points.reshape(1, -1, 3).to(self.latent)
        return self.decoder.decode(flat, self._conditioned).reshape(points.shape[:-1]).to(points)
