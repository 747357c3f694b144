"""Extraction of learned shapes: as DeepSDF's release does it, and as this project does, of the same decoder.

    python benchmarks/peers/extraction.py runs/bodies --checkout checkout --resolutions 128 256

DeepSDF's way: the `create_mesh` of the checkout, every lattice point in chunks of 32³, with `.cuda()` doing nothing;
its writing of a PLY file vertex by vertex is left out, marching cubes is timed. Ours: `extract_mesh` with its defaults
but without vertex normals, which the other way has not either. Ours on the lattice of [-1.05, 1.05]³, theirs on
[-1, 1]³ and, since divisions of whole numbers came to give fractions in torch, slightly sheared: only its time counts.
`benchmarks/extraction.py` compares with our own dense way and checks that the mesh is the same.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import time
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from deepsdf_training import imported
from machine import processor, versions
from skimage.measure import marching_cubes
from torch import Tensor, nn

from sdfnet.extraction import extract_mesh
from sdfnet.fields import Field
from sdfnet.runs import load_run, select_shapes


class RowDecoder(nn.Module):
    """What the checkout expects of a network: rows of code and point in, (N, 1) out; here for one shape."""

    def __init__(self, field: Field) -> None:
        super().__init__()
        self._field = field

    def forward(self, rows: Tensor) -> Tensor:
        return self._field(rows[:, -3:])[:, None]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--checkout", type=Path, required=True, help="a checkout of facebookresearch/DeepSDF")
    parser.add_argument("--shapes", nargs="+", help="names and globs; by default the first")
    parser.add_argument("--resolutions", type=int, nargs="*", default=[128, 256])
    arguments = parser.parse_args()
    run = load_run(arguments.run)
    names = select_shapes(run.names, arguments.shapes) if arguments.shapes else run.names[:1]
    extract_mesh(run.field(names[0]), resolution=48)  # imports and first calls
    print(f"{processor()}, {torch.get_num_threads()} threads; {versions(['torch', 'scikit-image'])}\n")
    print("| shape | resolution | DeepSDF's way s | faces | ours s | faces | ratio |\n|---|---|---|---|---|---|---|")
    for resolution in arguments.resolutions:
        for name in names:
            peer_seconds, peer_faces = time_peer(run.field(name), run.latent(name), arguments.checkout, resolution)
            started = time.perf_counter()
            mesh = extract_mesh(run.field(name), resolution=resolution, vertex_normals=False)
            seconds = time.perf_counter() - started
            print(
                f"| {name} | {resolution} | {peer_seconds:.2f} | {peer_faces:,} | {seconds:.2f} | {len(mesh.faces):,} "
                f"| {peer_seconds / seconds:.1f} |",
                flush=True,
            )


def time_peer(field: Field, latent: Tensor, checkout: Path, resolution: int) -> tuple[float, int]:
    """Return seconds and faces of the checkout's `create_mesh`, up to the mesh."""
    faces = 0

    def march(sdf: Tensor, origin: Any, spacing: float, *rest: Any) -> None:
        nonlocal faces
        faces = len(marching_cubes(np.asarray(sdf), level=0.0, spacing=[spacing] * 3)[1])

    with (
        imported(checkout.resolve(), "deep_sdf.mesh") as (module,),
        mock.patch.object(module, "convert_sdf_samples_to_ply", march),
        contextlib.redirect_stdout(io.StringIO()),
        torch.no_grad(),
    ):
        started = time.perf_counter()
        module.create_mesh(RowDecoder(field), latent[None], "unused", N=resolution, max_batch=32**3)
        return time.perf_counter() - started, faces


if __name__ == "__main__":
    main()
