"""Whether carried vertices arrive where they belong: learned families whose map is known, and bodies that correspond.

A family is nine meshes of one shape moved by a known map, by evenly growing amounts, learned as one run. A tracked
morph goes from the first to the last, through all nine and straight from code to code; where the map takes the
vertices of the first frame is the truth. Bodies of one connectivity are learned as one run; the truth of a place on one
is the same place of the same triangle of another. Tracking is the product's own, in the unit frame of each; all is
compared in the world.

Where a morph is cut, no mesh goes on. `carried` then goes on with the vertices of the first frame all the same, by the
same motion: those at the place of the change may be lost, the others need not be. `matched` starts anew at each cut:
each place goes on at the nearest point of the next piece's first mesh, in the unit frame, and is carried by its
triangle. Nearest-point matching takes the nearest point of the end mesh, in the world (`nearest`) and after both were
normalised to the unit frame (`in unit`); `ratio` is by the smaller of both.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import manifold3d
import numpy as np
import torch
import trimesh
from numpy.typing import NDArray
from tracking_maps import FRAME_SIZES, MakeMap, all_three, bend, stretch, twist

from sdfnet.correspondence.advect import advect, place_on_surface
from sdfnet.correspondence.flow import fit_flow
from sdfnet.correspondence.match import match_points
from sdfnet.decoders import Decoder, decoder_config
from sdfnet.fields.adaptors import NeuralField
from sdfnet.geometry.similarity import UNIT_RADIUS, Similarity
from sdfnet.mesh.distance import MeshDistance
from sdfnet.mesh.io.read import find_meshes, read_mesh
from sdfnet.mesh.io.write import save_mesh
from sdfnet.mesh.mesh import Mesh
from sdfnet.morphs.config import MorphConfig
from sdfnet.morphs.plan import plan_morph, tracked_frames
from sdfnet.morphs.store import MorphFrame
from sdfnet.runs import Run
from sdfnet.sampling import SamplerConfig, prepare_samples
from sdfnet.training import TrainingConfig, train

Points = NDArray[np.float64]

NUM_MEMBERS = 9
NUM_LANDMARKS = 20

FAMILIES: dict[str, tuple[str, MakeMap, float]] = {
    "sphere, stretched": ("sphere", stretch, 0.6),
    "sphere, bent": ("sphere", bend, 1.2),
    "sphere, all three": ("sphere", all_three, 0.8),
    "box frame, stretched": ("box frame", stretch, 0.6),
    "box frame, bent": ("box frame", bend, 1.0),
    "box frame, twisted": ("box frame", twist, 1.0),
    "box frame, all three": ("box frame", all_three, 0.6),
    "body, stretched": ("body", stretch, 0.5),
    "body, bent": ("body", bend, 0.8),
    "body, twisted": ("body", twist, 1.0),
    "body, all three": ("body", all_three, 0.5),
}
"""What is moved, by which map, and how far. A twist about its axis does not move a sphere: nothing shows it."""


@dataclass(frozen=True)
class Tracked:
    """A tracked morph: the decoder, its frames and their meshes, world frame."""

    decoder: Decoder
    made: list[MorphFrame]
    meshes: list[Mesh]

    @property
    def similarities(self) -> list[Similarity]:
        return [frame.similarity for frame in self.made]

    def field_at(self, number: float) -> NeuralField:
        before = int(min(np.floor(number), len(self.made) - 2))
        first, last = (self.made[before + one].latent for one in (0, 1))
        return NeuralField(self.decoder, first.lerp(last, number - before))


@dataclass(frozen=True)
class Errors:
    """Mean errors, percent of the radius of the end mesh.

    Attributes
    ----------
    carried, matched, nearest, in_unit : float
    ninth : float
        The 90th percentile of the carried vertices' errors.
    floor : float
        The mean distance of the true places to the end mesh: what the learned surface itself is off.
    pieces : int
        Tracked pieces of the morph.
    before_cut : float
        The share of the morph, in percent, that the first piece covers.
    """

    carried: float
    matched: float
    nearest: float
    in_unit: float
    ninth: float
    floor: float
    pieces: int
    before_cut: float


def start_mesh(subject: str, bodies: Path) -> Mesh:
    """Return the shape that a family begins with, about the origin, its long axis along z."""
    if subject == "sphere":
        ball = trimesh.creation.icosphere(subdivisions=5, radius=0.55)
        return Mesh(ball.vertices, ball.faces)
    if subject == "box frame":
        whole, *windows = (manifold3d.Manifold.cube((2 * np.array(size)).tolist(), True) for size in FRAME_SIZES)
        for window in windows:
            whole -= window
        fine = whole.refine_to_length(0.04).to_mesh()
        return Mesh(np.asarray(fine.vert_properties[:, :3], dtype=np.float64), fine.tri_verts)
    mesh = read_mesh(next(iter(find_meshes(bodies).values())))
    unit = mesh.to_unit(Similarity.normalizing(mesh.vertices))
    return Mesh(np.roll(unit.vertices, 1, axis=1), unit.faces)  # y, where the head is, becomes z


def learn(meshes: Path, folder: Path, *, steps: int, num_samples: int, decoder: str = "volume") -> Run:
    """Learn a folder of meshes, or read what was learned before."""
    sampler = SamplerConfig(num_samples=num_samples)
    prepared = prepare_samples(meshes, folder / "samples", config=sampler, num_workers=1, progress=False)
    config = TrainingConfig(steps=steps, previews=0, evaluations=1)
    place = folder / ("run" if decoder == "volume" else f"run_{decoder}")
    return train(place, prepared.store, decoder=decoder_config({"kind": decoder}), config=config, progress=False)


def print_families(
    data: Path, keep: Path, *, only: str, steps: int, frames: int, resolution: int, paths: Sequence[str], decoder: str
) -> None:
    print(f"{'family':22} {'way':26} {HEAD}")
    for name, (subject, make, amount) in FAMILIES.items():
        if only not in name:
            continue
        folder = keep / name.replace(", ", "_").replace(" ", "_")
        start = start_mesh(subject, data / "bodies")
        for index, share in enumerate(np.linspace(0, amount, NUM_MEMBERS).tolist()):
            path = folder / "meshes" / f"member_{index}.ply"
            if not path.exists():
                moved = make(share)[0](torch.from_numpy(start.vertices)).numpy()
                save_mesh(Mesh(moved, start.faces), path)
        run = learn(folder / "meshes", folder, steps=steps, num_samples=100_000, decoder=decoder)
        forward = make(amount)[0]

        def truth(points: Points, forward: Callable = forward) -> Points:
            return forward(torch.from_numpy(points)).numpy()

        for kind in paths:
            names = [run.names[0], run.names[-1]] if kind == "direct" else list(run.names)
            way = "direct" if kind == "direct" else f"through all nine, {kind}"
            began = time.process_time()
            made = tracked(
                run, names, frames=frames, resolution=resolution, path="linear" if kind == "direct" else kind
            )
            seconds = time.process_time() - began
            print(f"{name:22} {way:26} {row(measure(made, truth))} {seconds:9.1f}", flush=True)


def print_corresponding(
    data: Path, keep: Path, *, steps: int, frames: int, resolution: int, pairs: int, decoder: str = "volume"
) -> None:
    meshes = data / "bodies_corresponding"
    run = learn(meshes, keep / "bodies_corresponding", steps=steps, num_samples=250_000, decoder=decoder)
    sources = {name: read_mesh(path) for name, path in find_meshes(meshes).items()}
    print(f"{'from':10} {'to':10} {HEAD}")
    everything = [(a, b) for a in run.names for b in run.names if a < b]
    errors, landmarks = [], []
    for number in np.random.default_rng(0).permutation(len(everything))[:pairs].tolist():
        first, last = everything[number]
        if run.decoder.has_template:
            landmarks.append(landmark_errors(run, sources[first], sources[last], (first, last)))
            told = f"mean {landmarks[-1].mean():.3f} %, median {np.median(landmarks[-1]):.3f} %"
            print(f"{first:10} {last:10} landmarks by match_points: {told}", flush=True)

        def truth(points: Points, first: str = first, last: str = last) -> Points:
            return transferred(points, sources[first], sources[last])

        began = time.process_time()
        made = tracked(run, [first, last], frames=frames, resolution=resolution)
        seconds = time.process_time() - began
        errors.append(measure(made, truth))
        print(f"{first:10} {last:10} {row(errors[-1])} {seconds:9.1f}", flush=True)
    mean = Errors(*np.mean([list(vars(one).values()) for one in errors], axis=0).tolist())
    print(f"{'mean':21} {row(mean)}")
    if landmarks:
        print(f"{'landmarks':21} median of all {np.median(np.concatenate(landmarks)):.3f} %")


def landmark_errors(run: Run, source: Mesh, target: Mesh, names: tuple[str, str]) -> Points:
    """Return the errors of `NUM_LANDMARKS` vertices matched between two shapes, percent of the target's radius."""
    chosen = np.random.default_rng(0).choice(len(source.vertices), NUM_LANDMARKS, replace=False)
    found = match_points(run, *names, source.vertices[chosen]).points_world
    percent = 100 * run.similarity(names[1]).scale / UNIT_RADIUS
    return percent * np.linalg.norm(found - target.vertices[chosen], axis=1)


def tracked(run: Run, names: Sequence[str], *, frames: int, resolution: int, path: str = "linear") -> Tracked:
    config = MorphConfig(frames=frames, path=path, easing="linear", tracked=True, resolution=resolution)
    made, meshes = zip(*tracked_frames(plan_morph(run, names, config=config), range(frames)), strict=True)
    return Tracked(run.decoder, list(made), list(meshes))


def measure(morph: Tracked, truth: Callable[[Points], Points]) -> Errors:
    """Compare where the vertices of the first frame come to lie in the last with where they belong."""
    made = morph.made
    start, end = morph.meshes[0], morph.meshes[-1]
    places = truth(start.vertices)
    percent = 100 * morph.similarities[-1].scale / UNIT_RADIUS
    uncut = len({frame.piece for frame in made}) == 1
    matched = np.linalg.norm(matched_through(morph) - places, axis=1)
    carried = matched if uncut else np.linalg.norm(carried_through(morph) - places, axis=1)
    distance = MeshDistance(end)
    nearest = [
        np.linalg.norm(distance.unsigned(points).closest_points - places, axis=1).mean()
        for points in (start.vertices, _moved(start.vertices, morph, 0, -1))
    ]
    pieces = [frame.piece for frame in made]
    return Errors(
        percent * carried.mean(),
        percent * matched.mean(),
        *(percent * error for error in nearest),
        percent * float(np.quantile(carried, 0.9)),
        percent * distance.unsigned(places).distance.mean(),
        len(set(pieces)),
        100 * (pieces.count(pieces[0]) - 1) / (len(made) - 1),
    )


COLUMNS = ("carried %", "matched %", "nearest %", "in unit %", "ratio", "p90 %", "floor %", "pieces", "first piece %",
           "CPU s")  # fmt: skip
HEAD = " ".join(f"{column:>9}" for column in COLUMNS)


def row(errors: Errors) -> str:
    ratio = errors.carried / min(errors.nearest, errors.in_unit)
    means = f"{errors.carried:9.3f} {errors.matched:9.3f} {errors.nearest:9.3f} {errors.in_unit:9.3f} {ratio:9.3f}"
    return f"{means} {errors.ninth:9.3f} {errors.floor:9.3f} {errors.pieces:9.4g} {errors.before_cut:13.1f}"


def carried_through(morph: Tracked) -> Points:
    """Return where the motion takes each vertex of the first frame, whatever happens to the mesh; world frame."""
    first, *_, last = morph.similarities
    tracked = place_on_surface(morph.meshes[0].to_unit(first), morph.field_at(0))
    flow = fit_flow(morph.field_at, range(len(morph.made)), tracked.vertices)
    for index in range(len(morph.made) - 1):
        tracked, _ = advect(tracked, morph.field_at, (index, index + 1), flow=flow)
    return last.to_world(tracked.expanded(tracked.vertices))


def matched_through(morph: Tracked) -> Points:
    """Return where the pieces take each vertex of the first frame, by the nearest point at each cut; world frame."""
    made, meshes = morph.made, morph.meshes
    points = meshes[0].vertices
    for index in range(1, len(made)):
        if made[index].piece == made[index - 1].piece == made[0].piece:
            points = meshes[index].vertices
        elif made[index].piece == made[index - 1].piece:
            points = transferred(points, meshes[index - 1], meshes[index])
        else:
            points = MeshDistance(meshes[index]).unsigned(_moved(points, morph, index - 1, index)).closest_points
    return points


def _moved(points: Points, morph: Tracked, one: int, other: int) -> Points:
    """Return the same places of the unit frame in the world of another frame."""
    return morph.similarities[other].to_world(morph.similarities[one].to_unit(points))


def transferred(points: Points, source: Mesh, target: Mesh) -> Points:
    """Return the places on `target` of the points of `source`, of the same faces, that are nearest to `points`."""
    found = MeshDistance(source).unsigned(points)
    shares = trimesh.triangles.points_to_barycentric(source.triangles[found.faces], found.closest_points)
    shares = np.clip(np.nan_to_num(shares, nan=1 / 3), 0, 1)
    shares /= shares.sum(axis=1, keepdims=True)
    return (target.triangles[found.faces] * shares[:, :, None]).sum(axis=1)
