"""Whether carried vertices arrive where they belong: learned families whose map is known, and bodies that correspond.

A family is nine meshes of one shape moved by a known map, by evenly growing amounts, learned as one run. A tracked
morph goes from the first to the last, through all nine and straight from code to code; where the map takes the
vertices of the first frame is the truth. Bodies of one connectivity are learned as one run; the truth of a place on one
is the same place of the same triangle of another. Tracking is the product's own, in the unit frame of each; all is
compared in the world.

Where a morph is cut, each place goes on at the nearest point of the next piece's first mesh, and is carried by its
triangle. Nearest-point matching takes the nearest point of the end mesh, in the world or after both were normalised:
whichever of the two has the smaller mean error.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import manifold3d
import numpy as np
import torch
import trimesh
from numpy.typing import NDArray
from tracking_maps import FRAME_SIZES, MakeMap, all_three, bend, stretch, twist

from sdfnet.decoders import decoder_config
from sdfnet.geometry.distance import MeshDistance
from sdfnet.geometry.mesh import Mesh
from sdfnet.geometry.reading import find_meshes, read_mesh
from sdfnet.geometry.similarity import UNIT_RADIUS, Similarity
from sdfnet.geometry.writing import save_mesh
from sdfnet.latents.config import MorphConfig
from sdfnet.latents.frames import plan_frames
from sdfnet.latents.sequence import MadeFrame
from sdfnet.latents.tracked import tracked_frames
from sdfnet.runs import Run
from sdfnet.sampling import SamplerConfig, prepare_samples
from sdfnet.training import TrainingConfig, train

Points = NDArray[np.float64]

NUM_MEMBERS = 9

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
class Errors:
    """Mean errors, percent of the radius of the end mesh.

    Attributes
    ----------
    carried, nearest : float
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
    nearest: float
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


def learn(meshes: Path, folder: Path, *, steps: int, num_samples: int) -> Run:
    """Learn a folder of meshes, or read what was learned before."""
    sampler = SamplerConfig(num_samples=num_samples)
    prepared = prepare_samples(meshes, folder / "samples", config=sampler, num_workers=1, progress=False)
    config = TrainingConfig(steps=steps, previews=0, evaluations=1)
    return train(
        folder / "run", prepared.store, decoder=decoder_config({"kind": "volume"}), config=config, progress=False
    )


def print_families(
    data: Path, keep: Path, *, only: str, steps: int, frames: int, resolution: int, paths: Sequence[str]
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
        run = learn(folder / "meshes", folder, steps=steps, num_samples=100_000)
        forward = make(amount)[0]

        def truth(points: Points, forward: Callable = forward) -> Points:
            return forward(torch.from_numpy(points)).numpy()

        for kind in paths:
            names = [run.names[0], run.names[-1]] if kind == "direct" else list(run.names)
            way = "direct" if kind == "direct" else f"through all nine, {kind}"
            made = tracked(
                run, names, frames=frames, resolution=resolution, path="linear" if kind == "direct" else kind
            )
            print(f"{name:22} {way:26} {row(measure(made, truth))}", flush=True)


def print_corresponding(data: Path, keep: Path, *, steps: int, frames: int, resolution: int, pairs: int) -> None:
    meshes = data / "bodies_corresponding"
    run = learn(meshes, keep / "bodies_corresponding", steps=steps, num_samples=250_000)
    sources = {name: read_mesh(path) for name, path in find_meshes(meshes).items()}
    print(f"{'from':10} {'to':10} {HEAD}")
    everything = [(a, b) for a in run.names for b in run.names if a < b]
    errors = []
    for number in np.random.default_rng(0).permutation(len(everything))[:pairs].tolist():
        first, last = everything[number]

        def truth(points: Points, first: str = first, last: str = last) -> Points:
            return transferred(points, sources[first], sources[last])

        errors.append(measure(tracked(run, [first, last], frames=frames, resolution=resolution), truth))
        print(f"{first:10} {last:10} {row(errors[-1])}", flush=True)
    mean = Errors(*np.mean([list(vars(one).values()) for one in errors], axis=0).tolist())
    print(f"{'mean':21} {row(mean)}")


def tracked(run: Run, names: Sequence[str], *, frames: int, resolution: int, path: str = "linear") -> list[MadeFrame]:
    config = MorphConfig(frames=frames, path=path, easing="linear", tracked=True, resolution=resolution)
    planned = plan_frames(run, names, config=config)
    return list(tracked_frames(run, planned, range(len(planned)), config=config))


def measure(made: Sequence[MadeFrame], truth: Callable[[Points], Points]) -> Errors:
    """Compare where the vertices of the first frame come to lie in the last with where they belong."""
    start, end = made[0].mesh, made[-1].mesh
    places = truth(start.vertices)
    to_unit = Similarity.normalizing(end.vertices)
    percent = 100 * to_unit.scale / UNIT_RADIUS
    carried = np.linalg.norm(carried_through(made) - places, axis=1)
    distance = MeshDistance(end)
    from_unit = Similarity.normalizing(start.vertices).to_unit(start.vertices)
    nearest = [
        np.linalg.norm(distance.unsigned(points).closest_points - places, axis=1).mean()
        for points in (start.vertices, to_unit.to_world(from_unit))
    ]
    pieces = [frame.piece for frame in made]
    return Errors(
        percent * carried.mean(),
        percent * min(nearest),
        percent * float(np.quantile(carried, 0.9)),
        percent * distance.unsigned(places).distance.mean(),
        len(set(pieces)),
        100 * (pieces.count(pieces[0]) - 1) / (len(made) - 1),
    )


HEAD = f"{'carried %':>9} {'nearest %':>9} {'ratio':>6} {'p90 %':>7} {'floor %':>7} {'pieces':>6} {'first piece %':>13}"


def row(errors: Errors) -> str:
    return (
        f"{errors.carried:9.3f} {errors.nearest:9.3f} {errors.carried / errors.nearest:6.3f} {errors.ninth:7.3f} "
        f"{errors.floor:7.3f} {errors.pieces:6.4g} {errors.before_cut:13.1f}"
    )


def carried_through(made: Sequence[MadeFrame]) -> Points:
    """Return where each vertex of the first frame is in the last, world frame."""
    pieces = [frame.piece for frame in made]
    firsts = [index for index in range(len(made)) if index == 0 or pieces[index] != pieces[index - 1]]
    points = made[0].mesh.vertices
    for first, after in zip(firsts, [*firsts[1:], len(made)], strict=True):
        points = transferred(points, made[first].mesh, made[after - 1].mesh) if first else made[after - 1].mesh.vertices
    return points


def transferred(points: Points, source: Mesh, target: Mesh) -> Points:
    """Return the places on `target` of the points of `source`, of the same faces, that are nearest to `points`."""
    found = MeshDistance(source).unsigned(points)
    shares = trimesh.triangles.points_to_barycentric(source.triangles[found.faces], found.closest_points)
    shares = np.clip(np.nan_to_num(shares, nan=1 / 3), 0, 1)
    shares /= shares.sum(axis=1, keepdims=True)
    return (target.triangles[found.faces] * shares[:, :, None]).sum(axis=1)
