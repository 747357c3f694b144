"""Whether tracked morphs are cut where the topology changes, and only there: a slow twin counts on finer lattices.

At every frame and sub-step the surface is meshed by marching cubes on a lattice twice as fine as that of tracking;
components, handles and cavities are those of this mesh, pieces below the bound `smallest` left out. Nothing of
`find_topology_events` takes part. What the twin shows is weighed as follows.

- A step at which the counts differ whether the bound is `smallest`, a third of it or three times it, is a **change**.
  If only some of the three differ, a piece grew or shrank past a bound: its volume is a few cells, and no two lattices
  agree when it happens.
- A change inside a tracked piece is **missed**: *lasting* if the counts do not come back within a frame, else
  *passing*. Before it is called so, both sides of it are meshed on a lattice four times as fine; where that shows no
  change, the twin's own lattice made it, and it is only counted (`own`).
- A cut for topology is **false** if the twin's counts, for any of the bounds, are the same at all steps within a frame
  of it, and the lattice four times as fine shows no change there either (`settled`: it does).
- Cuts by shape are no claim about topology, and counted by themselves.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, fields

import numpy as np

from sdfnet.correspondence.track import TrackConfig, TrackedMorph, track_surface
from sdfnet.extraction import extract_mesh
from sdfnet.fields import Field
from sdfnet.fields.adaptors import NeuralField
from sdfnet.mesh.edges import label_connected
from sdfnet.runs import Run

Counts = tuple[tuple[int, int, int], ...]
"""Components, genus and cavities for each of three bounds: a third of the smallest that counts, it, and thrice."""


@dataclass(frozen=True)
class Figures:
    """What one morph came to.

    Attributes
    ----------
    pieces, longest : int
        Tracked pieces, and the frames of the longest.
    changes : int
        That the twin shows, all along the morph.
    cuts, by_shape : int
        For topology, and others.
    lasting, passing, own : int
        Changes inside tracked pieces: missed ones, and those of the twin's lattice.
    false, settled : int
        Cuts for topology without a change of the twin: without any, and with one on a lattice four times as fine.
    """

    pieces: int
    longest: int
    changes: int
    cuts: int
    by_shape: int
    lasting: int
    passing: int
    own: int
    false: int
    settled: int


def print_changes(run: Run, *, pairs: int, frames: int, resolution: int, substeps: int = 8) -> None:
    names = [field.name for field in fields(Figures)]
    print(f"{'pair':26} {'ends':22} " + " ".join(f"{name:>8}" for name in names))
    rows = []
    for pair, ends in chosen_pairs(run, pairs, resolution):
        figures = measure(run, pair, frames=frames, config=TrackConfig(resolution=resolution, substeps=substeps))
        rows.append(list(vars(figures).values()))
        print(f"{' '.join(pair):26} {ends:22} " + " ".join(f"{value:8}" for value in rows[-1]), flush=True)
    print(f"{'total':49} " + " ".join(f"{value:8}" for value in np.sum(rows, axis=0).tolist()))


def chosen_pairs(run: Run, count: int, resolution: int) -> list[tuple[tuple[str, str], str]]:
    """Return pairs, drawn by chance, half of which have ends of different topology if there are so many."""
    at_ends = {name: topology(run.field(name), 2 * resolution)[1] for name in run.names}
    everything = list(itertools.combinations(run.names, 2))
    drawn = [everything[number] for number in np.random.default_rng(0).permutation(len(everything))]
    unlike = [pair for pair in drawn if at_ends[pair[0]] != at_ends[pair[1]]][: -(-count // 2)]
    like = [pair for pair in drawn if at_ends[pair[0]] == at_ends[pair[1]]][: count - len(unlike)]
    return [(pair, " to ".join("/".join(map(str, at_ends[name])) for name in pair)) for pair in unlike + like]


def measure(run: Run, pair: tuple[str, str], *, frames: int, config: TrackConfig) -> Figures:
    first, last = (run.latent(name) for name in pair)

    def field_at(at: float) -> Field:
        return NeuralField(run.decoder, (1 - at) * first + at * last)

    times = np.linspace(0, 1, frames)
    morph = track_surface(field_at, times, config=config)
    steps = np.linspace(0, 1, (frames - 1) * config.substeps + 1)
    twin = Twin(field_at, steps, config)
    lasting, passing, own = twin.inside_pieces(morph)
    false, settled = twin.at_cuts(morph)
    return Figures(
        len(morph.segments),
        max(piece.last_frame - piece.first_frame + 1 for piece in morph.segments),
        sum(twin.changes(step, step + 1) for step in range(len(steps) - 1)),
        sum(cut.topology for cut in morph.cuts),
        sum(not cut.topology for cut in morph.cuts),
        lasting,
        passing,
        own,
        false,
        settled,
    )


class Twin:
    """The topology of a moving field at every sub-step, from meshes on a finer lattice."""

    def __init__(self, field_at: Callable[[float], Field], steps: np.ndarray, config: TrackConfig) -> None:
        self._field_at, self._steps, self._config = field_at, steps, config
        self.counts = [self._look(step, 2) for step in range(len(steps))]

    def _look(self, step: int, finer: int) -> Counts:
        field = self._field_at(self._steps[step])
        return topology(field, finer * self._config.resolution, smallest=self._config.min_share)

    def changes(self, one: int, other: int) -> bool:
        return differ(self.counts[one], self.counts[other])

    def inside_pieces(self, morph: TrackedMorph) -> tuple[int, int, int]:
        """Return the changes missed inside tracked pieces, lasting and passing, and those of the twin's own lattice."""
        substeps, found = self._config.substeps, {"lasting": 0, "passing": 0, "own": 0}
        for piece in morph.segments:
            start, stop = substeps * piece.first_frame, substeps * piece.last_frame
            step = start
            while step < stop:
                if not self.changes(step, step + 1):
                    step += 1
                    continue
                soon = range(step + 2, min(step + 1 + substeps, stop) + 1)
                back = next((later for later in soon if not self.changes(step, later)), None)
                kind = "lasting" if back is None else "passing"
                before, during = step, step + 1 if back is None else (step + back) // 2
                if back is None:  # away from the moment itself, which another lattice sees earlier or later
                    before, during = max(step - substeps // 2, start), min(step + substeps // 2, stop)
                kind = kind if differ(self._look(before, 4), self._look(during, 4)) else "own"
                found[kind] += 1
                print(f"    {kind}: {self.counts[step][1]} to {self.counts[step + 1][1]} after step {step}, "
                      f"frames {piece.first_frame} to {piece.last_frame}")  # fmt: skip
                step = step + 1 if back is None else back
        return found["lasting"], found["passing"], found["own"]

    def at_cuts(self, morph: TrackedMorph) -> tuple[int, int]:
        """Return the cuts for topology at which nothing changes, and those where only a finer lattice shows it."""
        false = settled = 0
        for cut in morph.cuts:
            if not cut.topology:
                continue
            step = int(np.searchsorted(self._steps, cut.time - 1e-9))
            low = max(step - self._config.substeps, 0)
            high = min(step + 1 + self._config.substeps, len(self._steps) - 1)
            if len(set(self.counts[low : high + 1])) > 1:
                continue
            finer = [self._look(one, 4) for one in dict.fromkeys([low, step, step + 1, high])]
            is_settled = len(set(finer)) > 1
            false, settled = false + (not is_settled), settled + is_settled
            print(f"    {'settled' if is_settled else 'FALSE'}: cut after step {step}, {cut.reason}")
        return false, settled


def differ(one: Counts, other: Counts) -> bool:
    return all(a != b for a, b in zip(one, other, strict=True))


def topology(field: Field, resolution: int, *, smallest: float = 1e-4) -> Counts:
    """Return what the mesh of `field` has, for the bounds smallest / 3, smallest and 3 * smallest."""
    mesh = extract_mesh(field, resolution=resolution, vertex_normals=False)
    starts, ends = mesh.faces[:, [0, 1]].ravel(), mesh.faces[:, [1, 2]].ravel()
    count, labels = label_connected(starts, ends, len(mesh.vertices))
    part_of = labels[mesh.faces[:, 0]]
    corners = mesh.triangles
    cones = np.einsum("ij,ij->i", corners[:, 0], np.cross(corners[:, 1], corners[:, 2])) / 6
    volumes = np.bincount(part_of, weights=cones, minlength=count)
    # A closed surface has 3/2 edges for each face: V - E + F = V - F / 2 = 2 - 2 genus.
    genera = 1 - (np.bincount(labels, minlength=count) - np.bincount(part_of, minlength=count) / 2) / 2
    return tuple(_counts(volumes, genera, bound) for bound in (smallest / 3, smallest, 3 * smallest))


def _counts(volumes: np.ndarray, genera: np.ndarray, smallest: float) -> tuple[int, int, int]:
    kept = np.abs(volumes) >= smallest * volumes.sum()
    return int((kept & (volumes > 0)).sum()), round(float(genera[kept].sum())), int((kept & (volumes < 0)).sum())
