"""`decoder=auto`: which decoder suits a family of shapes, as far as their samples tell.

The rule itself is `sdfnet.decoders.choose_decoder`. Here are the facts that it needs: the topology of the solids, where
and how large the shapes are, and how much of their space they share.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from sdfnet.decoders import DecoderConfig, choose_decoder, recorded_decoder_config
from sdfnet.geometry.arrays import BoolArray, FloatArray
from sdfnet.sampling import SampleStore
from sdfnet.training.checkpoint import known_decoder
from sdfnet.training.distributed import ALONE, Processes, do_first

logger = logging.getLogger(__name__)

_RESOLUTION, _NUM_SAMPLES, _MOST_SHAPES = 32, 60_000, 64
"""Points per axis of [-1, 1]³ at which shapes are compared, samples of a shape that tell its inside, and shapes."""

_PLACING_POINTS, _PLACING_SHARE = 4096, 0.1
"""Points of a shape that tell its place. Without points on the surface, they are this share of the samples, the closest
ones."""


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


def shape_places(store: SampleStore, names: Sequence[str]) -> tuple[FloatArray, FloatArray]:
    """Return the centres (S, 3) and the sizes (S,) of shapes, float64, in the unit frame.

    The centre is the mean of points on the surface. The size is their root mean square distance from the centre.

    >>> from sdfnet.sampling import SamplerConfig, prepare_samples
    >>> sampler = SamplerConfig(num_samples=1000, num_surface=100, num_heldout=100)
    >>> done = prepare_samples("chairs", "few", config=sampler, shapes="chair_00", num_workers=1, progress=False)
    >>> centers, sizes = shape_places(done.store, ["chair_00"])
    >>> centers.shape, bool(0.2 < sizes[0] < 1)
    ((1, 3), True)
    """
    centers, sizes = np.empty((len(names), 3)), np.empty(len(names))
    for row, name in enumerate(names):
        index = store.index_of(name)
        if store.num_surface:
            points = store.surface(index, 0, min(_PLACING_POINTS, store.num_surface))
        else:
            count = min(_PLACING_POINTS, store.num_samples)
            samples = store.read(index, 0, min(round(count / _PLACING_SHARE), store.num_samples))
            points = samples[np.argsort(np.abs(samples[:, 3]), kind="stable")[:count]]
        points = points[:, :3].astype(np.float64)
        centers[row] = points.mean(axis=0)
        sizes[row] = np.sqrt(np.square(points - centers[row]).sum(axis=1).mean())
    return centers, sizes


def least_overlap(store: SampleStore, names: Sequence[str]) -> float:
    """Return how much of its space the most unlike of the shapes `names` shares with the common shape, 0 to 1.

    First, each shape is moved and scaled to the mean centre and the mean size (`shape_places`), as `decoder=template`
    does at its start. The common shape is the space that more than half of the shapes fill. The share is intersection
    over union, to a few percent. Of very many shapes, some at equal intervals are compared.

    >>> from sdfnet.sampling import SamplerConfig, prepare_samples
    >>> sampler = SamplerConfig(num_samples=1000, num_surface=100, num_heldout=100)
    >>> done = prepare_samples("chairs", "few", config=sampler, shapes="chair_00", num_workers=1, progress=False)
    >>> least_overlap(done.store, ["chair_00"])
    1.0
    """
    chosen = list(names)[:: -(-len(names) // _MOST_SHAPES)]
    centers, sizes = shape_places(store, chosen)
    scales = sizes / sizes.mean()
    shifts = centers - scales[:, None] * centers.mean(axis=0)
    filled_SX = np.stack([_filled(store, *each) for each in zip(chosen, scales, shifts, strict=True)])
    common_X = filled_SX.mean(axis=0) > 0.5
    shared_S, all_S = (filled_SX & common_X).sum(axis=1), (filled_SX | common_X).sum(axis=1)
    return float((shared_S / np.maximum(all_S, 1)).min())


def _filled(store: SampleStore, name: str, scale: float, shift: FloatArray) -> BoolArray:
    """Return which points of the lattice, scaled and shifted, are inside the shape: those whose nearest sample is."""
    from scipy.spatial import cKDTree  # Here, because training from samples starts without scipy.

    samples = store.read(store.index_of(name), 0, min(_NUM_SAMPLES, store.num_samples))
    axis = torch.linspace(-1, 1, _RESOLUTION)
    points = scale * torch.cartesian_prod(axis, axis, axis).numpy() + shift
    nearest = cKDTree(samples[:, :3]).query(points)[1]
    filled: BoolArray = samples[nearest, 3] < 0
    return filled
