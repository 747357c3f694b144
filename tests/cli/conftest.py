"""A small finished run and its meshes, shared by the tests of the commands."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from balls import BALLS, CENTER, SCALE, write_ball

from sdfnet.decoders import VolumeConfig, build_decoder
from sdfnet.geometry.similarity import Similarity
from sdfnet.runs import RunShape, save_document, save_model


@pytest.fixture(scope="session")
def balls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of meshes: the balls, in world units."""
    folder = tmp_path_factory.mktemp("balls")
    for name, radius in BALLS.items():
        write_ball(folder / f"{name}.obj", radius=radius / SCALE, center=CENTER)
    return folder


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory, balls: Path) -> Path:
    """A run directory whose decoder has learned the balls in a second."""
    folder = tmp_path_factory.mktemp("runs") / "balls"
    config = VolumeConfig(latent_size=len(BALLS), base_resolution=8, channels=(8, 8), width=32)
    generator = torch.Generator().manual_seed(0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        decoder = build_decoder(config)
    latents, radii = torch.eye(len(BALLS)), torch.tensor(list(BALLS.values()))
    optimizer = torch.optim.Adam(decoder.parameters(), lr=1e-2)
    for _ in range(200):
        points = torch.rand(len(BALLS), 1024, 3, generator=generator) * 2.1 - 1.05
        loss = (decoder(points, latents) - (points.norm(dim=-1) - radii[:, None])).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    shapes = [
        RunShape(name, Similarity(CENTER, SCALE), str(balls / f"{name}.obj"), content_hash="", closed=True)
        for name in BALLS
    ]
    save_document(folder, {"config": {"decoder": asdict(config)}}, shapes)
    save_model(folder, decoder_state=decoder.state_dict(), latents=latents, step=200)
    return folder
