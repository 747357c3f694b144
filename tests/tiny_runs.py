"""Runs whose decoder has learned a few shapes in a second, straight from fields."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from sdfnet.decoders import VolumeConfig, build_decoder
from sdfnet.extraction import extract_mesh
from sdfnet.fields import Field, Sphere, evaluate
from sdfnet.files import write_json
from sdfnet.geometry.similarity import Similarity
from sdfnet.mesh.io.ply import format_ply
from sdfnet.mesh.io.read import read_mesh
from sdfnet.mesh.io.write import save_mesh
from sdfnet.runs import Run, RunShape, load_run, save_document, save_model


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


def four_balls(folder: Path) -> Run:
    """Return a run of four balls whose sources lie away from the origin."""
    radii = {"small": 0.4, "middle": 0.5, "large": 0.6, "odd": 0.45}
    similarity = Similarity([4.0, 5.0, 6.0], 0.25)
    shapes = []
    for name, radius in radii.items():
        save_mesh(extract_mesh(Sphere(radius), resolution=24).to_world(similarity), folder / f"{name}.obj")
        shapes.append(RunShape(name, similarity, str(folder / f"{name}.obj"), content_hash="", closed=True))
    return load_run(learn_run(folder / "balls", shapes, [Sphere(radius) for radius in radii.values()]))


def as_completed(run: Run, folder: Path) -> Run:
    """Return `four_balls` as `sdfnet fit` writes it: one ball has two hypotheses, and a spread that grows with x."""
    shutil.copytree(run.directory, folder)
    small = read_mesh(run.shape("small").source)
    (folder / "spread").mkdir()
    spread = {"spread": small.vertices[:, 0], "seen": np.zeros(len(small.vertices))}
    (folder / "spread" / "small.ply").write_bytes(format_ply(small, attributes=spread))
    hypotheses = []
    for number, (name, probability) in enumerate((("large", 0.7), ("middle", 0.3)), start=1):
        file = f"hypotheses/small_{number}.ply"
        save_mesh(read_mesh(run.shape(name).source), folder / file)
        hypotheses.append({"file": file, "probability": probability})
    write_json(folder / "fit.json", {"format": 1, "settings": {}, "shapes": {"small": {"hypotheses": hypotheses}}})
    return load_run(folder)
