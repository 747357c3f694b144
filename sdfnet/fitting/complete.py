"""Complete shapes of which a part is observed: find the code and the place of each, and say how far to trust them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from tqdm import tqdm

from sdfnet.fields.adaptors import NeuralField
from sdfnet.fitting.config import CompletionConfig
from sdfnet.fitting.family import FamilyPrior
from sdfnet.fitting.observations.part import PartObservation
from sdfnet.fitting.posterior import Posterior, find_posterior
from sdfnet.geometry.similarity import Similarity
from sdfnet.runs import Run


@dataclass(frozen=True, eq=False)
class Fit:
    """Completed shapes, in the order of their observations.

    Attributes
    ----------
    run : Run
    latents : (B, L) float32
        The most likely code of each.
    similarities : tuple of Similarity
        The place of each: from the world of its observation to the unit frame.
    posteriors : tuple of Posterior
        What is known of code and place, with the covariance.

    """

    run: Run
    latents: Tensor
    similarities: tuple[Similarity, ...]
    posteriors: tuple[Posterior, ...]

    @property
    def fields(self) -> tuple[NeuralField, ...]:
        """The completed shapes as fields, unit frame."""
        return tuple(NeuralField(self.run.decoder, latent) for latent in self.latents)


def fit(
    run: Run,
    observations: PartObservation | Sequence[PartObservation],
    *,
    config: CompletionConfig | None = None,
    progress: bool = False,
) -> Fit:
    """Complete the shape of each observation: the most likely code and place under the family of the run.

    Raises
    ------
    ValueError
        No observation; no frame for `align=none`; a part of another size than the family.

    >>> import numpy as np
    >>> import sdfnet
    >>> from sdfnet.fitting.observations import surface_part
    >>> run = sdfnet.load_run("runs/chairs")
    >>> chair = sdfnet.read_mesh("chairs/chair_00.obj").vertices
    >>> part = surface_part(chair[chair[:, 1] > np.median(chair[:, 1])], noise_std=0.5)
    >>> fit(run, part, config=CompletionConfig("none", frame_of="chair_00")).latents.shape
    torch.Size([1, 2])
    """
    config = config or CompletionConfig()
    run.check_is_family("a fit")
    parts = [observations] if isinstance(observations, PartObservation) else list(observations)
    if not parts:
        raise ValueError("observations must hold at least one, got none")
    prior = FamilyPrior.of(run)
    posteriors = [
        find_posterior(run, part, prior=prior, config=config)
        for part in tqdm(parts, desc="fitting", unit="shape", delay=2, leave=False, disable=not progress)
    ]
    latents = torch.stack([prior.latents(each.coordinates) for each in posteriors])
    return Fit(run, latents, tuple(each.similarity for each in posteriors), tuple(posteriors))
