"""Measure tracked morphs: how well meshes are carried between learned shapes, and along motions whose map is known.

    python benchmarks/tracking.py pairs runs/bodies --resolution 192 --pairs 10
    python benchmarks/tracking.py pairs runs/chairs --resolution 96 --pairs 20
    python benchmarks/tracking.py maps

Distances are percent of the unit frame's radius, 1/1.03. `off` is the distance of vertices to their frame's own surface
(value over slope of the field); `turned` counts triangles that face against the field's gradient at all three corners,
summed over frames; `cut by shape` counts cuts where no topology changes. `maps` moves analytic fields by known maps and
compares the carried vertices, and nearest points between the end meshes, with where the map takes them.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sdfnet.evaluation.metrics import surface_distance
from sdfnet.fields import Box, Difference, Ellipsoid, Field, Sphere
from sdfnet.fields.neural import NeuralField
from sdfnet.geometry.bounds import UNIT_BOUNDS
from sdfnet.geometry.distance import MeshDistance
from sdfnet.geometry.similarity import UNIT_RADIUS
from sdfnet.runs import Run, load_run
from sdfnet.surfacing import extract_mesh
from sdfnet.surfacing.carrying import values_and_gradients
from sdfnet.surfacing.shapes import smallest_angles, turned_over
from sdfnet.surfacing.tracking import TrackConfig, TrackedMorph, track_surface

Map = Callable[[Tensor], Tensor]


class Warped(Field):
    """A field moved by a map of space that is given by its inverse."""

    def __init__(self, field: Field, inverse: Map) -> None:
        self.bounds, self.accuracy, self._field, self._inverse = UNIT_BOUNDS, "approximate", field, inverse

    def __call__(self, points: Tensor) -> Tensor:
        return self._field(self._inverse(points))


def stretch(amount: float) -> tuple[Map, Map]:
    def factors(points: Tensor) -> Tensor:
        return points.new_tensor([1 + amount, 1.0, 1 - 0.3 * amount])

    return (lambda p: p * factors(p)), (lambda p: p / factors(p))


def twist(amount: float) -> tuple[Map, Map]:
    def turned(points: Tensor, sign: float) -> Tensor:
        x, y, z = points.unbind(-1)
        cosine, sine = torch.cos(sign * amount * z), torch.sin(sign * amount * z)
        return torch.stack([cosine * x - sine * y, sine * x + cosine * y, z], dim=-1)

    return (lambda p: turned(p, 1.0)), (lambda p: turned(p, -1.0))


def bend(amount: float) -> tuple[Map, Map]:
    """Bend the z axis into an arc of curvature `amount`."""
    if amount == 0:
        return (lambda p: p), (lambda p: p)
    radius = 1 / amount

    def forward(points: Tensor) -> Tensor:
        x, y, z = points.unbind(-1)
        return torch.stack(
            [radius - (radius - x) * torch.cos(z / radius), y, (radius - x) * torch.sin(z / radius)], dim=-1
        )

    def inverse(points: Tensor) -> Tensor:
        x, y, z = points.unbind(-1)
        return torch.stack([radius - torch.hypot(radius - x, z), y, radius * torch.atan2(z, radius - x)], dim=-1)

    return forward, inverse


def box_frame() -> Field:
    """A box with a window through each pair of faces: genus 5."""
    windows = [Box([1, 0.18, 0.42]), Box([0.22, 1, 0.42]), Box([0.22, 0.18, 1])]
    return Difference(Box([0.35, 0.3, 0.6]), *windows)


FAMILIES = {
    "sphere, stretched": (Sphere(0.55), stretch, 0.6),
    "ellipsoid, bent": (Ellipsoid([0.2, 0.3, 0.7]), bend, 1.2),
    "box frame, stretched": (box_frame(), stretch, 0.5),
    "box frame, twisted": (box_frame(), twist, 1.0),
    "box frame, bent": (box_frame(), bend, 1.0),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["pairs", "maps"])
    parser.add_argument("run", type=Path, nargs="?")
    parser.add_argument("--pairs", type=int, default=10)
    parser.add_argument("--frames", type=int, default=60)
    parser.add_argument("--resolution", type=int, default=192)
    arguments = parser.parse_args()
    if arguments.what == "maps":
        for name, family in FAMILIES.items():
            print_map(name, *family)
    else:
        run = load_run(arguments.run)
        pairs = list(itertools.combinations(run.names, 2))
        chosen = np.random.default_rng(0).permutation(len(pairs))[: arguments.pairs]
        print(f"{'pair':24} {'faces':>6} {'CPU s':>6} {'pieces':>6} {'cut by shape':>12} {'off mean, max %':>18} "
              f"{'turned':>6} {'over 10 deg %':>13} {'ends %':>14}")  # fmt: skip
        for number in chosen.tolist():
            print_pair(run, pairs[number], arguments.frames, arguments.resolution)


def print_pair(run: Run, pair: tuple[str, str], frames: int, resolution: int) -> None:
    first, last = (run.latent(name) for name in pair)

    def field_at(at: float) -> Field:
        return NeuralField(run.decoder, (1 - at) * first + at * last)

    times = np.linspace(0, 1, frames)
    started = time.process_time()
    morph = track_surface(field_at, times, config=TrackConfig(resolution=resolution))
    seconds = time.process_time() - started
    off, turned, even = measure_frames(morph, field_at, times)
    ends = [
        surface_distance(
            morph.mesh(frame),
            extract_mesh(field_at(times[frame]), resolution=resolution),
            generator=torch.Generator().manual_seed(0),
        ).mean
        for frame in (0, frames - 1)
    ]
    by_shape = sum(not cut.topology for cut in morph.cuts)
    print(f"{' '.join(pair):24} {len(morph.pieces[0].faces):6} {seconds:6.1f} {len(morph.pieces):6} {by_shape:12} "
          f"{off.mean():8.5f} {off.max():9.4f} {turned:6} {even:13.2f} {ends[0]:6.3f} {ends[1]:6.3f}")  # fmt: skip
    for cut in morph.cuts:
        print(f"    after frame {cut.frame}, {cut.time:.3f}: {cut.reason}")


def measure_frames(
    morph: TrackedMorph, field_at: Callable[[float], Field], times: np.ndarray
) -> tuple[np.ndarray, int, float]:
    """Return the distances of all vertices of tracked frames, percent, the triangles turned over, the share over 10°.

    Pieces of a single frame are extractions and left out.
    """
    off, turned, angles = [np.zeros(1)], 0, [np.full(1, 60.0)]
    for piece in morph.pieces:
        for frame in range(piece.first_frame, piece.last_frame + 1) if piece.last_frame > piece.first_frame else ():
            mesh = piece.mesh(frame)
            values, slopes = values_and_gradients(field_at(times[frame]), mesh.vertices)
            steep = np.linalg.norm(slopes, axis=1)
            off.append(100 * np.abs(values) / np.maximum(steep, 0.1) / UNIT_RADIUS)
            turned += int(turned_over(mesh.vertices, mesh.faces, slopes).sum())
            angles.append(smallest_angles(mesh.vertices, mesh.faces))
    return np.concatenate(off), turned, 100 * float((np.concatenate(angles) > 10).mean())


def print_map(name: str, field: Field, make: Callable[[float], tuple[Map, Map]], amount: float) -> None:
    times = np.linspace(0, 1, 13)
    morph = track_surface(
        lambda at: Warped(field, make(amount * at)[1]), times, config=TrackConfig(resolution=64, normals=False)
    )
    piece = morph.pieces[0]
    forward = make(amount * times[piece.last_frame])[0]
    truth = forward(torch.from_numpy(piece.vertices[0])).numpy()
    carried = np.linalg.norm(piece.vertices[-1] - truth, axis=1).mean()
    closest = MeshDistance(piece.mesh(piece.last_frame)).unsigned(piece.vertices[0]).closest_points
    nearest = np.linalg.norm(closest - truth, axis=1).mean()
    percent = 100 / UNIT_RADIUS
    print(f"{name:24} pieces {len(morph.pieces)}, mean error of carried vertices {percent * carried:.3f} %, "
          f"of nearest points {percent * nearest:.3f} %, ratio {carried / nearest:.3f}")  # fmt: skip


if __name__ == "__main__":
    main()
