"""A run that needs no training: a decoder whose code is a sphere's centre and radius, so that every answer is known."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from sdfnet.decoders.base import Decoder
from sdfnet.geometry.similarity import Similarity
from sdfnet.runs import Run, RunShape


class SphereDecoder(Decoder):
    """The exact signed distance to a sphere; the code is its centre and its radius."""

    latent_size = 4

    def condition(self, latents_BL: Tensor) -> tuple[Tensor, ...]:
        return (latents_BL,)

    def decode(self, points_BN3: Tensor, conditioned: tuple[Tensor, ...]) -> Tensor:
        (latents_BL,) = conditioned
        return (points_BN3 - latents_BL[:, None, :3]).norm(dim=-1) - latents_BL[:, None, 3]


def sphere_run(
    radii: dict[str, float],
    *,
    directory: Path = Path("spheres"),
    similarities: dict[str, Similarity] | None = None,
    sources: dict[str, Path] | None = None,
) -> Run:
    """Return a run whose shapes are spheres about the origin of the unit frame."""
    latents = torch.tensor([[0.0, 0.0, 0.0, radius] for radius in radii.values()])
    shapes = [
        RunShape(
            name,
            (similarities or {}).get(name, Similarity.identity()),
            source=str((sources or {}).get(name, f"{name}.obj")),
            content_hash="",
            closed=True,
        )
        for name in radii
    ]
    return Run(directory, {}, SphereDecoder(), latents, tuple(shapes), 7)
