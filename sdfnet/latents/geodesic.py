"""A bent path between two codes, along which the surface moves little and stays connected if possible.

The path is the straight line plus a few sine waves that vanish at both ends. Gradient descent through the decoder finds
the amplitudes of the waves. The loss weighs the motion of the surface and loose components. The motion is the
difference of the field between neighbouring codes, near the surface. Loose components are searched for on a lattice
every few steps. The field is lowered on the easiest connection between a component and the largest one, so that they
join. The field is raised in a component that is tiny or far from everything, so that the component vanishes. The result
is the best state seen; the straight path is one of the states. Between the examined codes, nothing is guaranteed.
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
from sdfnet.fields.adaptors import NeuralField
from sdfnet.fields.base import evaluate
from sdfnet.geometry.arrays import Float32Array, FloatArray, IntArray
from sdfnet.geometry.bounds import UNIT_BOUNDS, Lattice

_NUM_WAVES = 4
_NUM_CODES = 7
"""The number of examined codes between the ends. The codes are evenly spaced."""

_STEPS, _SEARCH_EVERY = 30, 5
_LEARNING_RATE = 0.03
_NUM_POINTS = 2000
_CHUNK = 4096

_RESOLUTION = 72
"""The resolution of the lattice on which components are found. At 48, the legs of a chair look loose."""

_BAND = 0.08
"""Only nodes that are this near to the surface of any code of the straight path are evaluated again."""

_LAYER = 0.03
"""Thickness of the layer around the surface in which differences of the field count as motion."""

_MARGIN = 0.008
"""The field should be this far below zero on a connection, and this far above zero in a component to remove."""

_WEIGHT_MOTION, _WEIGHT_COMPONENTS, _WEIGHT_SIZE = 0.5, 6.0, 1e-3
_MOTION_SCORE = 0.01
"""Halving the motion is worth as much as half a percent of the volume in loose components, summed over the codes."""

_MAX_BRIDGED = 0.06
"""No connection goes through values above this."""

_TINY = 1e-3
"""A component smaller than this share of the largest one should vanish instead of join."""

_COST_INSIDE, _COST_OUTSIDE = 1e-3, 1e-2
"""The cost of a lattice step inside the solid and outside it. Outside, the field's value is added to the cost."""


def bend(shares: Tensor, amplitudes: Tensor) -> Tensor:
    """Return the offsets (T, L) of a bent path from the straight path at `shares` (T,) of the way.

    The offsets are exactly 0 at the shares 0 and 1.

    >>> bend(torch.tensor([0.0, 0.5, 1.0]), torch.tensor([[2.0]])).flatten().tolist()
    [0.0, 2.0, 0.0]
    """
    orders = torch.arange(1, len(amplitudes) + 1, dtype=torch.float64, device=shares.device)
    waves = torch.sin(math.pi * shares.double()[:, None] * orders) / orders
    waves[(shares == 0) | (shares == 1)] = 0.0
    return waves.to(amplitudes) @ amplitudes


def bend_path(decoder: Decoder, start: Tensor, end: Tensor, *, spread: Tensor, progress: bool = False) -> Tensor:
    """Return amplitudes (4, L) for `bend` that keep the surface connected from `start` to `end` (L,) if possible.

    The result is deterministic. The search takes about ten seconds on a CPU with the default decoder.

    Parameters
    ----------
    spread : (L,)
        The standard deviation of the codes of the run. It is the scale of a bend in each number of the code.
    """
    problem = _PathProblem.between(decoder, start, end, spread)
    amplitudes = torch.zeros_like(spread).repeat(_NUM_WAVES, 1).requires_grad_(True)
    optimizer = torch.optim.Adam([amplitudes], lr=_LEARNING_RATE)
    generator = torch.Generator().manual_seed(0)
    best, best_score, first_motion = amplitudes.detach().clone(), math.inf, None
    found: list[LooseComponents] = []
    for step in tqdm(range(_STEPS + 1), desc="path", unit="step", disable=not progress, leave=False):
        with torch.enable_grad():
            loss, motion = problem.loss(amplitudes, found, generator)
        first_motion = first_motion or motion
        if step % _SEARCH_EVERY == 0:
            found = problem.find_loose(amplitudes.detach())
            share = sum(each.loose_share for each in found)
            score = share + _MOTION_SCORE * motion / max(first_motion, 1e-12)
            if score < best_score:
                best, best_score = amplitudes.detach().clone(), score
            with torch.enable_grad():
                loss, _ = problem.loss(amplitudes, found, generator)
        (amplitudes.grad,) = torch.autograd.grad(loss, amplitudes)
        optimizer.step()
    return best * spread


@dataclass(frozen=True, eq=False)
class LooseComponents:
    """The components of a solid that are not connected to its largest one.

    Attributes
    ----------
    loose_share : float
        Share of the solid's nodes that are not in its largest component.
    lower, higher : (N,) int64
        Flat indices of nodes whose values should become negative (components join) or positive (components vanish).
    """

    loose_share: float
    lower: IntArray
    higher: IntArray


def find_loose_components(values: Float32Array) -> LooseComponents:
    """Find the components of negative `values` (X, Y, Z), and the easiest connections to the largest component.

    Neighbours along the axes are connected. A connection is a shortest path (Dijkstra) whose cost is the sum of the
    values on it.

    >>> line = np.array([-1, -1, 0.01, 0.02, -1, 1, 1], dtype=np.float32)
    >>> found = find_loose_components(line[:, None, None])
    >>> round(found.loose_share, 2), found.lower.tolist(), found.higher.tolist()
    (0.33, [3, 2], [])
    """
    none = np.zeros(0, dtype=np.int64)
    labels, number = label(values < 0)
    if number < 2:
        return LooseComponents(0.0, none, none)
    sizes = np.bincount(labels.ravel())[1:]
    largest = 1 + int(sizes.argmax())
    open_nodes = np.flatnonzero(values.ravel() < _MAX_BRIDGED)
    node_values, node_labels = values.ravel()[open_nodes], labels.ravel()[open_nodes]
    distances, previous = _shortest_paths(open_nodes, values, np.flatnonzero(node_labels == largest))
    lower, higher = [none], [none]
    for component in range(1, number + 1):
        if component == largest:
            continue
        members = np.flatnonzero(node_labels == component)
        nearest = members[distances[members].argmin()]
        if sizes[component - 1] < _TINY * sizes[largest - 1] or not np.isfinite(distances[nearest]):
            higher.append(open_nodes[members])
        else:
            path = [nearest]
            while previous[path[-1]] >= 0:
                path.append(previous[path[-1]])
            lower.append(open_nodes[path][node_values[path] >= 0])
    share = 1 - float(sizes[largest - 1] / sizes.sum())
    return LooseComponents(share, np.concatenate(lower), np.concatenate(higher))


def _shortest_paths(
    open_nodes: IntArray, values: Float32Array, sources: IntArray
) -> tuple[FloatArray, NDArray[np.int32]]:
    """Return the cost of the cheapest path from each of `open_nodes` to a source, and the next node on this path."""
    place = np.full(values.shape, -1, dtype=np.int64)
    place.reshape(-1)[open_nodes] = np.arange(len(open_nodes))
    cost = np.where(values < 0, _COST_INSIDE, _COST_OUTSIDE + values).astype(np.float64)
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


@dataclass(frozen=True, eq=False)
class _PathProblem:
    """The quantities that stay the same while one path is optimised.

    Attributes
    ----------
    straight : (K, L)
        Codes of the straight path, with both ends.
    waves : (K, 4)
        The waves of `bend` at these codes.
    nodes, near : (N, 3), (N,)
        The nodes of the lattice, and whether each node is near the surface of any code of the straight path.
    volumes : (K - 2, N)
        Values at the nodes for each code between the ends of the straight path.
    """

    decoder: Decoder
    straight: Tensor
    spread: Tensor
    waves: Tensor
    nodes: Tensor
    near: Tensor
    volumes: Float32Array

    @classmethod
    def between(cls, decoder: Decoder, start: Tensor, end: Tensor, spread: Tensor) -> _PathProblem:
        shares = torch.linspace(0, 1, _NUM_CODES + 2, dtype=torch.float64, device=start.device)
        straight = torch.lerp(start.double(), end.double(), shares[:, None]).to(start)
        lattice = Lattice.over(UNIT_BOUNDS, _RESOLUTION)
        nodes = torch.from_numpy(lattice.slab(0, lattice.shape[0]).reshape(-1, 3)).to(start)
        fields = [NeuralField(decoder, code) for code in straight[1:-1]]
        volumes = torch.stack([evaluate(field, nodes, chunk_size=_CHUNK) for field in fields])
        near = (volumes.abs() < _BAND).any(dim=0)
        waves = bend(shares, torch.eye(_NUM_WAVES, device=start.device, dtype=start.dtype))
        return cls(decoder, straight, spread, waves, nodes, near, volumes.cpu().float().numpy())

    def codes(self, amplitudes: Tensor) -> Tensor:
        """Return the codes (K, L) of the bent path."""
        return self.straight + self.waves @ (amplitudes * self.spread)

    def find_loose(self, amplitudes: Tensor) -> list[LooseComponents]:
        """Return the loose components at each code between the ends of the bent path."""
        near = self.near.cpu().numpy()
        found = []
        for code, volume in zip(self.codes(amplitudes)[1:-1], self.volumes, strict=True):
            values = volume.copy()
            values[near] = evaluate(NeuralField(self.decoder, code), self.nodes[self.near], chunk_size=_CHUNK).cpu()
            found.append(find_loose_components(values.reshape([_RESOLUTION] * 3)))
        return found

    def loss(
        self, amplitudes: Tensor, found: list[LooseComponents], generator: torch.Generator
    ) -> tuple[Tensor, float]:
        """Return the loss, and the motion of the surface, which is a part of the loss."""
        codes = self.codes(amplitudes)
        candidates = self.nodes[self.near]
        if not len(candidates):
            return amplitudes.square().sum(), 0.0
        drawn = torch.randint(len(candidates), (_NUM_POINTS,), generator=generator).to(candidates.device)
        marks, signs = self._marks(found, generator)
        points = torch.cat([candidates[drawn].expand(len(codes), -1, -1), marks], dim=1)
        sdf = self.decoder(points, codes)
        squashed = torch.tanh(sdf[:, :_NUM_POINTS] / _LAYER)
        motion = (squashed[1:] - squashed[:-1]).square().mean(dim=1).sum() * (len(codes) - 1)
        wrong = torch.relu(signs * sdf[:, _NUM_POINTS:] + _MARGIN) / _LAYER * signs.abs()
        loose = (wrong.sum(dim=1) / signs.abs().sum(dim=1).clamp_min(1)).mean()
        size = amplitudes.square().mean()
        return _WEIGHT_MOTION * motion + _WEIGHT_COMPONENTS * loose + _WEIGHT_SIZE * size, float(motion.detach())

    def _marks(self, found: list[LooseComponents], generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return points (K, M, 3) and signs (K, M): 1 to lower the field, -1 to raise it, 0 for unused points."""
        num_codes = len(self.straight)
        most = min(_NUM_POINTS, max((len(each.lower) + len(each.higher) for each in found), default=0))
        places = torch.zeros(num_codes, most, dtype=torch.int64)
        signs = torch.zeros(num_codes, most)
        for row, each in enumerate(found, start=1):
            marked = torch.from_numpy(np.concatenate([each.lower, each.higher]))
            marked_signs = torch.cat([torch.ones(len(each.lower)), -torch.ones(len(each.higher))])
            chosen = torch.randperm(len(marked), generator=generator)[:most]
            places[row, : len(chosen)], signs[row, : len(chosen)] = marked[chosen], marked_signs[chosen]
        return self.nodes[places.to(self.nodes.device)], signs.to(self.nodes)
