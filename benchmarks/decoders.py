"""The experiment behind the default decoder: many candidates, the same shapes, the same time.

    python benchmarks/decoders.py --data DIR --budget 40s                      # all candidates
    python benchmarks/decoders.py --data DIR --budget 40s --only volume siren  # some

Trains each candidate on the first 16 of DIR/bodies for the budget (samples are prepared beforehand) and prints steps,
points per second and the surface error on held-out points: the mean of |f| / |gradient f| over points of the true
surface, percent of the radius. Run it with nothing else going on. What it gave is kept in docs/notes/decoders.md.
"""

from __future__ import annotations

import argparse
import csv
import tempfile
from pathlib import Path
from typing import Any

from sdfnet.decoders import decoder_config
from sdfnet.mesh.io.read import find_meshes
from sdfnet.sampling import SamplerConfig, SampleStore, prepare_samples
from sdfnet.training import TrainingConfig, train

CANDIDATES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "volume (default)": ({"kind": "volume"}, {}),
    "float32": ({"kind": "volume"}, {"precision": "float32"}),
    "codes started as DeepSDF's": ({"kind": "volume"}, {"latent_std": 0.01, "latent_learning_rate": 5e-3}),
    "Adam": ({"kind": "volume"}, {"optimizer": "adam"}),
    "Adam, rate 1e-2": ({"kind": "volume"}, {"optimizer": "adam", "learning_rate": 1e-2}),
    "rate 1e-2": ({"kind": "volume"}, {"learning_rate": 1e-2}),
    "rate 3e-2": ({"kind": "volume"}, {"learning_rate": 3e-2}),
    "rate of codes 5e-2": ({"kind": "volume"}, {"latent_learning_rate": 5e-2}),
    "channels 64-32-16-8": ({"kind": "volume", "channels": (64, 32, 16, 8)}, {}),
    "channels 128-64-16-8": ({"kind": "volume", "channels": (128, 64, 16, 8)}, {}),
    "channels 256-64-32-8": ({"kind": "volume", "channels": (256, 64, 32, 8)}, {}),
    "channels 128-64-32-16": ({"kind": "volume", "channels": (128, 64, 32, 16)}, {}),
    "48 per axis": ({"kind": "volume", "base_resolution": 6}, {}),
    "64 per axis": ({"kind": "volume", "channels": (128, 64, 32, 16, 8)}, {}),
    "4 shapes of 6144 points": ({"kind": "volume"}, {"batch_shapes": 4, "batch_points": 6144}),
    "8 shapes of 3072 points": ({"kind": "volume"}, {"batch_shapes": 8, "batch_points": 3072}),
    "12 shapes of 2048 points": ({"kind": "volume"}, {"batch_shapes": 12, "batch_points": 2048}),
    "one hidden layer": ({"kind": "volume", "num_layers": 1}, {}),
    "width 32": ({"kind": "volume", "width": 32}, {}),
    "clamp 0.1": ({"kind": "volume"}, {"clamp_distance": 0.1}),
    "clamp 0.025": ({"kind": "volume"}, {"clamp_distance": 0.025}),
    "curriculum": ({"kind": "volume"}, {"curriculum": True}),
    "eikonal 0.001": ({"kind": "volume"}, {"eikonal_weight": 0.001}),
    "normals 0.001": ({"kind": "volume"}, {"normal_weight": 0.001}),
    "fourier": ({"kind": "fourier"}, {}),
    "siren": ({"kind": "siren"}, {}),
    "deepsdf": ({"kind": "deepsdf"}, {"latent_std": 0.01}),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--family", default="bodies")
    parser.add_argument("--count", type=int, default=16)
    parser.add_argument("--budget", default="40s")
    parser.add_argument("--only", nargs="*", default=[""])
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        names = list(find_meshes(arguments.data / arguments.family))[: arguments.count]
        store = prepare_samples(
            arguments.data / arguments.family, folder / "samples", config=SamplerConfig(), shapes=names
        ).store
        print(f"{'candidate':34} {'steps':>6} {'ms/step':>8} {'points/s':>9} {'error %':>8}")
        for number, (name, (decoder, training)) in enumerate(CANDIDATES.items()):
            if any(part in name for part in arguments.only):
                print(measure(folder / str(number), store, name, decoder, training, arguments.budget), flush=True)


def measure(
    directory: Path, store: SampleStore, name: str, decoder: dict[str, Any], training: dict[str, Any], budget: str
) -> str:
    """Train one candidate and return its line of the table."""
    config = TrainingConfig(**({"budget": budget, "previews": 0, "evaluations": 4} | training))
    run = train(directory, store, decoder=decoder_config(decoder), config=config, progress=False)
    plan = run.document["plan"]
    with open(directory / "metrics.csv", encoding="utf-8") as file:
        error = float(list(csv.DictReader(file))[-1]["surface_error_percent"])
    seconds = plan["seconds_per_step"]
    speed = config.batch_shapes * config.batch_points / seconds
    return f"{name:34} {plan['steps']:6d} {1000 * seconds:8.1f} {speed:9.0f} {error:8.4f}"


if __name__ == "__main__":
    main()
