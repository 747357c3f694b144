"""A bent path between two shapes, along which the surface stays in one piece where it can.

The path is the straight one plus a few sine waves that vanish at both ends. Their amplitudes are found by gradient
descent through the decoder on

- the travel: squared differences of the field, squashed to a layer around the surface, between neighbouring codes;
- loose pieces, looked for on a lattice every few steps: along the shortest gap between a piece and the largest one the
  field is lowered, so that they join; a piece that is tiny or far from everything is raised, so that it goes.

Of the states seen, the one with the least volume in loose pieces is kept, then the one with the least travel; the
straight path is among them. That says nothing for sure between the codes looked at.

Pieces of a solid on a lattice of values, and the shortest gaps between them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import label
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import dijkstra
from torch import Tensor
from tqdm import tqdm

from sdfnet.decoders import Decoder
from sdfnet.fields.base import evaluate
from sdfnet.fields.neural import NeuralField
from sdfnet.geometry.bounds import UNIT_BOUNDS, Lattice

_WIDEST = 0.06
"""Through values above it no gap is looked for."""

_TINY = 1e-3
"""A piece below this share of the largest is to go, not to be joined."""

_INSIDE, _OUTSIDE = 1e-3, 1e-2
"""What a step costs inside; and outside, in addition to the value: a short way counts beside a shallow one."""


@dataclass(frozen=True, eq=False)
class Pieces:
    """What makes a solid fall apart.

    Attributes
    ----------
    loose_share : float
        Share of the solid's nodes that are not in its largest piece.
    lower, higher : (N,) int64
        Flat indices of nodes at which the value is to become negative, so that pieces join, and positive, so that
        pieces go.
    """

    loose_share: float
    lower: NDArray[np.int64]
    higher: NDArray[np.int64]


def find_gaps(values: NDArray[np.float32]) -> Pieces:
    """Find the pieces where `values` (X, Y, Z) are negative (joined across faces), and how each could join the largest.

    >>> line = np.array([-1, -1, 0.01, 0.02, -1, 1, 1], dtype=np.float32)
    >>> found = find_gaps(line[:, None, None])
    >>> round(found.loose_share, 2), found.lower.tolist(), found.higher.tolist()
    (0.33, [3, 2], [])
    """
    none = np.zeros(0, dtype=np.int64)
    labels, number = label(values < 0)
    if number < 2:
        return Pieces(0.0, none, none)
    sizes = np.bincount(labels.ravel())[1:]
    largest = 1 + int(sizes.argmax())
    open_nodes = np.flatnonzero(values.ravel() < _WIDEST)
    node_values, node_labels = values.ravel()[open_nodes], labels.ravel()[open_nodes]
    distances, previous = _ways_from(open_nodes, values, np.flatnonzero(node_labels == largest))
    lower, higher = [none], [none]
    for piece in range(1, number + 1):
        if piece == largest:
            continue
        members = np.flatnonzero(node_labels == piece)
        nearest = members[distances[members].argmin()]
        if sizes[piece - 1] < _TINY * sizes[largest - 1] or not np.isfinite(distances[nearest]):
            higher.append(open_nodes[members])
        else:
            way = _trace(int(nearest), previous)
            lower.append(open_nodes[way[node_values[way] >= 0]])
    share = 1 - float(sizes[largest - 1] / sizes.sum())
    return Pieces(share, np.concatenate(lower), np.concatenate(higher))


def _ways_from(
    open_nodes: NDArray[np.int64], values: NDArray[np.float32], sources: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
    """Return for each of `open_nodes` the least cost of a way to a source, and the node before it on that way."""
    place = np.full(values.shape, -1, dtype=np.int64)
    place.reshape(-1)[open_nodes] = np.arange(len(open_nodes))
    cost = np.where(values < 0, _INSIDE, _OUTSIDE + values).astype(np.float64)
    starts, ends, costs = [], [], []
    for axis in range(values.ndim):
        nodes, along = np.moveaxis(place, axis, 0), np.moveaxis(cost, axis, 0)
        both = (nodes[:-1] >= 0) & (nodes[1:] >= 0)
        starts.append(nodes[:-1][both])
        ends.append(nodes[1:][both])
        costs.append((along[:-1] + along[1:])[both])
    edges = (np.concatenate(costs), (np.concatenate(starts), np.concatenate(ends)))
    graph = coo_matrix(edges, shape=(len(open_nodes), len(open_nodes))).tocsr()
    distances, previous, _ = dijkstra(graph, directed=False, indices=sources, min_only=True, return_predecessors=True)
    return distances, previous


def _trace(node: int, previous: NDArray[np.int32]) -> NDArray[np.int64]:
    way = []
    while node >= 0:
        way.append(node)
        node = int(previous[node])
    return np.array(way)


_NUM_WAVES = 4
_NUM_CODES = 7
"""Codes on the way that are looked at, evenly spaced."""

_STEPS, _LOOK_EVERY = 30, 5
_LEARNING_RATE = 0.03
_NUM_POINTS = 2000
_CHUNK = 4096

_RESOLUTION = 72
"""Of the lattice on which pieces are told apart; at 48, the legs of a chair already come off."""

_BAND = 0.08
"""Only nodes that come so near the surface of a straight code are evaluated again."""

_LAYER = 0.03
"""Thickness of the layer around the surface in which differences of the field count as travel."""

_MARGIN = 0.008
"""How deep a gap is to be filled, and a piece to be drowned."""

_WEIGHT_TRAVEL, _WEIGHT_PIECES, _WEIGHT_SIZE = 0.5, 6.0, 1e-3
_TRAVEL_SCORE = 0.01
"""Halving the travel is worth as much as half a percent of the volume in loose pieces, summed over the codes."""


@dataclass(frozen=True, eq=False)
class _Course:
    """What stays the same while one path is bent: the codes (K, L) of the straight one and where to look."""

    decoder: Decoder
    straight: Tensor
    spread: Tensor
    waves: Tensor
    nodes: Tensor
    near: Tensor
    volumes: NDArray[np.float32]


def bend(shares: Tensor, amplitudes: Tensor) -> Tensor:
    """Return what a bent path adds to the straight one at `shares` (T,) of the way, (T, L); exactly 0 at 0 and 1.

    >>> bend(torch.tensor([0.0, 0.5, 1.0]), torch.tensor([[2.0]])).flatten().tolist()
    [0.0, 2.0, 0.0]
    """
    orders = torch.arange(1, len(amplitudes) + 1, dtype=torch.float64, device=shares.device)
    waves = torch.sin(math.pi * shares.double()[:, None] * orders) / orders
    waves[(shares == 0) | (shares == 1)] = 0.0
    return waves.to(amplitudes) @ amplitudes


def bend_path(decoder: Decoder, start: Tensor, end: Tensor, *, spread: Tensor, progress: bool = False) -> Tensor:
    """Return amplitudes (4, L) for `bend` such that the path from `start` to `end` (L,) holds together.

    The same arguments give the same path. It takes some ten seconds on a CPU with the default decoder.

    Parameters
    ----------
    spread : (L,)
        Standard deviation of the codes of the run: how far each number may be bent.
    """
    course = _plan(decoder, start, end, spread)
    amplitudes = torch.zeros_like(spread).repeat(_NUM_WAVES, 1).requires_grad_(True)
    optimizer = torch.optim.Adam([amplitudes], lr=_LEARNING_RATE)
    generator = torch.Generator().manual_seed(0)
    best, best_score, first_travel = amplitudes.detach().clone(), math.inf, None
    pieces: list[Pieces] = []
    for step in tqdm(range(_STEPS + 1), desc="path", unit="step", disable=not progress, leave=False):
        with torch.enable_grad():
            loss, travel = _loss(course, amplitudes, pieces, generator)
        first_travel = first_travel or travel
        if step % _LOOK_EVERY == 0:
            pieces = _look(course, amplitudes.detach())
            share = sum(each.loose_share for each in pieces)
            score = share + _TRAVEL_SCORE * travel / max(first_travel, 1e-12)
            if score < best_score:
                best, best_score = amplitudes.detach().clone(), score
            with torch.enable_grad():
                loss, _ = _loss(course, amplitudes, pieces, generator)
        (amplitudes.grad,) = torch.autograd.grad(loss, amplitudes)
        optimizer.step()
    return best * spread


def _plan(decoder: Decoder, start: Tensor, end: Tensor, spread: Tensor) -> _Course:
    shares = torch.linspace(0, 1, _NUM_CODES + 2, dtype=torch.float64, device=start.device)
    straight = torch.lerp(start.double(), end.double(), shares[:, None]).to(start)
    lattice = Lattice.over(UNIT_BOUNDS, _RESOLUTION)
    nodes = torch.from_numpy(lattice.slab(0, lattice.shape[0]).reshape(-1, 3)).to(start)
    volumes = torch.stack([evaluate(NeuralField(decoder, code), nodes, chunk_size=_CHUNK) for code in straight[1:-1]])
    near = (volumes.abs() < _BAND).any(dim=0)
    waves = bend(shares, torch.eye(_NUM_WAVES, device=start.device, dtype=start.dtype))
    return _Course(decoder, straight, spread, waves, nodes, near, volumes.cpu().float().numpy())


def _look(course: _Course, amplitudes: Tensor) -> list[Pieces]:
    """Return the pieces and gaps at each code of the path as it is bent now."""
    codes = (course.straight + course.waves @ (amplitudes * course.spread))[1:-1]
    near = course.near.cpu().numpy()
    found = []
    for code, volume in zip(codes, course.volumes, strict=True):
        values = volume.copy()
        values[near] = evaluate(NeuralField(course.decoder, code), course.nodes[course.near], chunk_size=_CHUNK).cpu()
        found.append(find_gaps(values.reshape([_RESOLUTION] * 3)))
    return found


def _loss(
    course: _Course, amplitudes: Tensor, pieces: list[Pieces], generator: torch.Generator
) -> tuple[Tensor, float]:
    """Return what is minimised, and the travel in it."""
    codes = course.straight + course.waves @ (amplitudes * course.spread)
    candidates = course.nodes[course.near]
    if not len(candidates):
        return amplitudes.square().sum(), 0.0
    drawn = torch.randint(len(candidates), (_NUM_POINTS,), generator=generator).to(candidates.device)
    marks, signs = _marks(course, pieces, generator)
    points = torch.cat([candidates[drawn].expand(len(codes), -1, -1), marks], dim=1)
    sdf = course.decoder(points, codes)
    squashed = torch.tanh(sdf[:, :_NUM_POINTS] / _LAYER)
    travel = (squashed[1:] - squashed[:-1]).square().mean(dim=1).sum() * (len(codes) - 1)
    wrong = torch.relu(signs * sdf[:, _NUM_POINTS:] + _MARGIN) / _LAYER * signs.abs()
    broken = (wrong.sum(dim=1) / signs.abs().sum(dim=1).clamp_min(1)).mean()
    size = amplitudes.square().mean()
    return _WEIGHT_TRAVEL * travel + _WEIGHT_PIECES * broken + _WEIGHT_SIZE * size, float(travel.detach())


def _marks(course: _Course, pieces: list[Pieces], generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return points (K, M, 3) with 1 where the field is to be lowered, -1 where raised, 0 where there is nothing."""
    num_codes = len(course.straight)
    most = min(_NUM_POINTS, max((len(each.lower) + len(each.higher) for each in pieces), default=0))
    places = torch.zeros(num_codes, most, dtype=torch.int64)
    signs = torch.zeros(num_codes, most)
    for row, each in enumerate(pieces, start=1):
        marked = torch.from_numpy(np.concatenate([each.lower, each.higher]))
        marked_signs = torch.cat([torch.ones(len(each.lower)), -torch.ones(len(each.higher))])
        chosen = torch.randperm(len(marked), generator=generator)[:most]
        places[row, : len(chosen)], signs[row, : len(chosen)] = marked[chosen], marked_signs[chosen]
    return course.nodes[places.to(course.nodes.device)], signs.to(course.nodes)
