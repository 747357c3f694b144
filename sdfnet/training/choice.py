"""`decoder=auto`: which decoder suits a family of shapes, as far as their samples tell.

The rule itself is `sdfnet.decoders.choose_decoder`. Here are the facts that it needs: the topology of the solids, and
how much of their space the shapes share.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from sdfnet.decoders import DecoderConfig, choose_decoder, recorded_decoder_config
from sdfnet.geometry.arrays import BoolArray
from sdfnet.sampling import SampleStore
from sdfnet.training.checkpoint import known_decoder
from sdfnet.training.distributed import ALONE, Processes, do_first

logger = logging.getLogger(__name__)

_RESOLUTION, _NUM_SAMPLES, _MOST_SHAPES = 32, 60_000, 64
"""Points per axis of [-1, 1]³ at which shapes are compared, samples of a shape that tell its inside, and shapes."""


def decoder_for(
    directory: str | Path,
    store: SampleStore,
    names: Sequence[str],
    *,
    init: str | Path | None = None,
    processes: Processes = ALONE,
) -> DecoderConfig:
    """Return the decoder of the run to continue or to start from, else the one that suits the shapes `names`.

    A log line says why a decoder was chosen (see `choose_decoder`).

    >>> from sdfnet.sampling import SamplerConfig, prepare_samples
    >>> sampler = SamplerConfig(num_samples=1000, num_surface=100, num_heldout=100)
    >>> done = prepare_samples("chairs", "few", config=sampler, shapes="chair_00", num_workers=1, progress=False)
    >>> decoder_for("runs/new", done.store, ["chair_00"]).kind
    'grid'
    """
    known = do_first(processes, lambda: known_decoder(directory, init))
    if known:
        return recorded_decoder_config(known)
    topologies = [store.shapes[store.index_of(name)].topology for name in names]
    overlap = least_overlap(store, names) if len(set(topologies)) == 1 and topologies[0] is not None else None
    choice = choose_decoder(len(names), topologies=topologies, overlap=overlap)
    if processes.is_first:
        logger.info("decoder=%s, because %s", choice.kind, choice.reason)
    return choice.config


def least_overlap(store: SampleStore, names: Sequence[str]) -> float:
    """Return how much of its space the most unlike of the shapes `names` shares with the common shape, 0 to 1.

    The common shape is the space that more than half of the shapes fill. The share is intersection over union, in the
    unit frame, to a few percent. Of very many shapes, some at equal intervals are compared.

    >>> from sdfnet.sampling import SamplerConfig, prepare_samples
    >>> sampler = SamplerConfig(num_samples=1000, num_surface=100, num_heldout=100)
    >>> done = prepare_samples("chairs", "few", config=sampler, shapes="chair_00", num_workers=1, progress=False)
    >>> least_overlap(done.store, ["chair_00"])
    1.0
    """
    chosen = list(names)[:: -(-len(names) // _MOST_SHAPES)]
    filled_SX = np.stack([_filled(store, name) for name in chosen])
    common_X = filled_SX.mean(axis=0) > 0.5
    shared_S, all_S = (filled_SX & common_X).sum(axis=1), (filled_SX | common_X).sum(axis=1)
    return float((shared_S / np.maximum(all_S, 1)).min())


def _filled(store: SampleStore, name: str) -> BoolArray:
    """Return which points of the lattice are inside the shape: those whose nearest sample is."""
    from scipy.spatial import cKDTree  # Here, because training from samples starts without scipy.

    samples = store.read(store.index_of(name), 0, min(_NUM_SAMPLES, store.num_samples))
    axis = torch.linspace(-1, 1, _RESOLUTION)
    nearest = cKDTree(samples[:, :3]).query(torch.cartesian_prod(axis, axis, axis).numpy())[1]
    filled: BoolArray = samples[nearest, 3] < 0
    return filled
