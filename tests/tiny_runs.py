"""Runs whose decoder has learned a few shapes in a second, straight from fields."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch

from sdfnet.decoders import VolumeConfig, build_decoder
from sdfnet.fields import Field, evaluate
from sdfnet.runs import RunShape, save_document, save_model


def learn_run(folder: Path, shapes: Sequence[RunShape], fields: Sequence[Field], *, steps: int = 200) -> Path:
    """Write a run of `shapes`, whose surfaces in the unit frame are those of `fields`, into `folder`; return it."""
    config = VolumeConfig(latent_size=len(shapes), base_resolution=8, channels=(8, 8), width=32)
    generator = torch.Generator().manual_seed(0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        decoder = build_decoder(config)
    latents = torch.eye(len(shapes))
    optimizer = torch.optim.Adam(decoder.parameters(), lr=1e-2)
    for _ in range(steps):
        points = torch.rand(len(shapes), 1024, 3, generator=generator) * 2.1 - 1.05
        sdf_true = torch.stack([evaluate(field, around) for field, around in zip(fields, points, strict=True)])
        loss = (decoder(points, latents) - sdf_true).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    save_document(folder, {"config": {"decoder": asdict(config)}}, shapes)
    save_model(folder, decoder_state=decoder.state_dict(), latents=latents, step=steps)
    return folder
