"""A small trained run of eight shipped chairs, made once and kept: for the tests, the gallery and the notebooks.

    python docs/small_run.py          # prints the run's folder; trains it first if need be, in about half a minute

The run lies in the user's cache (or below SDFNET_CACHE), in a folder whose name is a hash of the code and the options
that it depends on. A change of these makes a new run. Processes that ask at the same time wait for the first one.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import torch
from filelock import FileLock

from sdfnet.decoders import VolumeConfig
from sdfnet.files import ensure_folder
from sdfnet.sampling import SamplerConfig, prepare_samples
from sdfnet.training import TrainingConfig, train

ROOT = Path(__file__).resolve().parent.parent
SHAPES = [f"chair_{number:02d}" for number in (0, 1, 2, 3, 5, 8, 10, 12)]
DECODER = VolumeConfig(channels=(64, 32, 16, 8))
SAMPLER = SamplerConfig(num_samples=60_000, num_surface=2_000, num_heldout=2_000)
TRAINING = TrainingConfig(steps=400, evaluations=1, previews=0, precision="float32")


def small_run() -> Path:
    """Return the folder of the small run; train it first where it is missing."""
    cache = Path(os.environ.get("SDFNET_CACHE", Path.home() / ".cache" / "sdfnet"))
    folder = ensure_folder(cache) / f"small_run_{_fingerprint()}"
    with FileLock(f"{folder}.lock"):
        if not (folder / "done").is_file():
            store = prepare_samples(
                ROOT / "meshes", folder / "samples", config=SAMPLER, shapes=SHAPES, num_workers=1, progress=False
            ).store
            train(folder / "run", store, decoder=DECODER, config=TRAINING, progress=False)
            (folder / "done").touch()
    return folder / "run"


def _fingerprint() -> str:
    """Return a hash of what the run depends on: the checkout, whose meshes it names, this file, and the code."""
    parts = ("mesh", "decoders", "fields", "runs", "sampling", "training")
    sources = [Path(__file__), *(path for part in parts for path in sorted((ROOT / "sdfnet" / part).rglob("*.py")))]
    digest = hashlib.sha256(f"{torch.__version__} {ROOT}".encode())
    for path in sources:
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


if __name__ == "__main__":
    print(small_run())
