"""Completion measured: parts of shapes that a run has not learned, against the truth and against simple peers.

    python benchmarks/completion.py --data DIR bodies=RUN hippocampus=RUN --rows full depth slices half --count 20
    python benchmarks/completion.py --data DIR chairs=RUN mixes=RUN bodies=RUN --rows chairs mixes points --python PEERS

RUN was trained on the first files by name of its family: 80 bodies, 100 hippocampi, 80 of the 100 chairs that
`make_chairs.py --seed 77` writes (`--chairs`), 80 mixes of `space_families.py` (`--keep`, normalize=shared). The next
files are unseen. Errors are mean surface distances, both ways: percent of the radius, or millimetres for slices.
PEERS is an interpreter that has Open3D, which needs the system library libusb-1.0.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.spatial.transform import Rotation
from scipy.stats import spearmanr

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.peers.completion import PointModel, nearest_shape, screened_poisson, shape_based_interpolation
from sdfnet.evaluation.closest_points import Surface, match_surfaces
from sdfnet.fields import NeuralField
from sdfnet.fitting import CompletionConfig, Fit, FitConfig, fit, fit_codes
from sdfnet.fitting.calibrate import Calibration, calibrate
from sdfnet.fitting.complete import refined_shape
from sdfnet.fitting.config import MeshFitConfig
from sdfnet.fitting.family import clamp_distance_of
from sdfnet.fitting.observations import Observation
from sdfnet.fitting.observations.labels import label_part
from sdfnet.fitting.observations.mesh import observe_mesh
from sdfnet.fitting.observations.part import PartObservation, surface_part
from sdfnet.fitting.refine import MESH_RESOLUTION, mesh_residual
from sdfnet.fitting.spread import draw_hypotheses, vertex_spread
from sdfnet.geometry.similarity import Similarity
from sdfnet.mesh.io.read import read_mesh
from sdfnet.mesh.mesh import Mesh
from sdfnet.runs import Run, RunShape, extract_shape, load_run
from sdfnet.sampling.samplers import sample_surface
from sdfnet.volumes import label_surface, read_label_volume

RESOLUTION = 128


def error(mesh: Mesh, truth: Mesh, *, below: float | None = None) -> float:
    """Return the mean distance both ways; with `below`, from the truth at y below this share of its radius only."""
    match = match_surfaces(
        Surface.of(mesh), Surface.of(truth), num_points=20_000, generator=torch.Generator().manual_seed(0)
    )
    if below is None:
        return float(match.from_result.distances.mean() + match.from_source.distances.mean()) / 2
    unseen = Similarity.normalizing(truth.vertices).to_unit(match.from_source.points)[:, 1] < below
    return float(match.from_source.distances[unseen].mean())


def completed(done: Fit, index: int = 0, *, resolution: int = RESOLUTION) -> Mesh:
    return done.mesh(index, resolution=resolution)


def in_frame(run: Run, similarity: Similarity) -> Run:
    """Return the run with its first shape in a frame, for align=none."""
    first = dataclasses.replace(run.shapes[0], similarity=similarity)
    return dataclasses.replace(run, shapes=(first, *run.shapes[1:]))


def unseen(run: Run, folder: Path, pattern: str) -> list[Path]:
    """Return the files of a family that the run has not learned, by name."""
    return [path for path in sorted(folder.glob(pattern)) if path.name.split(".")[0] not in run.names]


def views(
    path: Path, *, half: bool, noise: float, outliers: float = 0.0, num: int = 5000, seed: int = 0
) -> tuple[PartObservation, Mesh, Similarity]:
    """Return the upper half or the front of a body as points with noise (share of the radius), and the truth."""
    truth = read_mesh(path)
    place = Similarity.normalizing(truth.vertices)
    random = np.random.default_rng(seed)
    samples = sample_surface(truth, 40_000, generator=torch.Generator().manual_seed(seed))
    points, normals = samples.points.numpy(), samples.normals.numpy()
    if half:
        seen = place.to_unit(points)[:, 1] > 0.15
        sensor = None
    else:
        camera = place.to_world(np.array([0.0, 0.0, 4.0]))
        toward = (camera - points) / np.linalg.norm(camera - points, axis=1, keepdims=True)
        facing = (normals * toward).sum(axis=1) > 0.15
        rays = truth.to_trimesh().ray.intersects_first(points + 1e-3 * toward / place.scale, toward)
        seen, sensor = facing & (rays < 0), camera
    points = points[seen][:num]
    points = points + random.normal(size=points.shape) * noise / place.scale
    bad = random.permutation(len(points))[: int(outliers * len(points))]
    away = random.normal(size=(len(bad), 3))
    away *= 1.5 * (random.random(len(bad)) ** (1 / 3) / np.linalg.norm(away, axis=1))[:, None]
    points[bad] = place.to_world(away)
    return surface_part(points, sensor=sensor, noise_std=max(noise, 5e-4) / place.scale), truth, place


def fitted_whole(run: Run, whole: Observation) -> Iterator[tuple[str, Mesh]]:
    """Return the mesh of a whole observed shape at 256, unit frame: by code, and with refine=shape."""
    assert whole.shape is not None
    assert whole.reference is not None
    latent = fit_codes(run, [whole], config=FitConfig()).latents[0]
    distance, clamp = whole.reference.distance, clamp_distance_of(run)
    grid = mesh_residual(NeuralField(run.decoder, latent), distance, resolution=MESH_RESOLUTION, clamp_distance=clamp)
    joined, code = refined_shape(run, latent, grid)
    for name, each, at in (("code", run, latent), ("refine=shape", joined, code)):
        yield name, extract_shape(each, whole.shape, latent=at, resolution=256, frame="unit").mesh


def row_full(run: Run, data: Path, count: int) -> Iterator[str]:
    """Whole meshes of unseen bodies: by code, and with refine=shape."""
    errors: dict[str, list[float]] = {"code": [], "refine=shape": []}
    for path in unseen(run, data / "bodies", "*.ply")[:count]:
        whole = observe_mesh(run, path.stem, path, MeshFitConfig())
        assert whole.reference is not None
        for name, mesh in fitted_whole(run, whole):
            errors[name].append(100 * error(mesh, whole.reference.mesh) / whole.reference.radius)
    means = ", ".join(f"{name} {np.mean(found):.3f} %" for name, found in errors.items())
    yield f"full mesh of {len(errors['code'])} unseen bodies: {means}"


def row_depth(run: Run, data: Path, count: int) -> Iterator[str]:
    """The front of unseen bodies at its known place: noise 0.5 %, outliers, noise 2 %, 200 points, nearest shape."""
    kinds: dict[str, dict[str, Any]] = {
        "code": {"noise": 0.005},
        "refine=shape": {"noise": 0.005},
        "20 % outliers": {"noise": 0.005, "outliers": 0.2},
        "noise 2 %": {"noise": 0.02},
        "200 points": {"noise": 0.005, "num": 200},
    }
    errors: dict[str, list[float]] = {name: [] for name in (*kinds, "best of 8", "nearest")}
    seconds = []
    for path in unseen(run, data / "bodies", "*.ply")[:count]:
        for name, options in kinds.items():
            part, truth, place = views(path, half=False, **options)
            percent = 100 * 1.03 * place.scale
            framed, config = known_place(run, place, refine="shape" if name == "refine=shape" else "code")
            start = time.process_time()
            done = fit(framed, part, config=config)
            seconds.append(time.process_time() - start)
            errors[name].append(percent * error(completed(done), truth))
            if name == "code":
                mesh = completed(done)
                errors["best of 8"].append(min(percent * error(each, truth) for each in hypotheses_of(done, mesh)))
                errors["nearest"].append(percent * error(nearest_shape(run, part, place), truth))
    means = ", ".join(f"{name} {np.mean(found):.3f} %" for name, found in errors.items())
    yield f"depth image of {len(errors['code'])} bodies: {means}; {np.mean(seconds):.1f} s of processor each"


def known_place(run: Run, place: Similarity, **options: Any) -> tuple[Run, CompletionConfig]:
    return in_frame(run, place), CompletionConfig("none", frame_of=run.names[0], **options)


def hypotheses_of(done: Fit, mesh: Mesh) -> Iterator[Mesh]:
    """Return the meshes of up to 8 hypotheses of one part, by code."""
    for each in draw_hypotheses(done, 0, mesh, 8):
        shape = RunShape("x", each.similarity, "", "", True, learned=False)
        latent = done.prior.latents(each.coordinates)
        yield extract_shape(done.run, shape, latent=latent, resolution=RESOLUTION).mesh


def row_half(run: Run, data: Path, count: int) -> Iterator[str]:
    """The upper half of unseen bodies: the unseen half by code and with refine=shape, and the best of 8 hypotheses."""
    errors: dict[str, list[float]] = {"code": [], "refine=shape": [], "nearest": [], "best of 8": [], "hypotheses": []}
    for path in unseen(run, data / "bodies", "*.ply")[:count]:
        part, truth, place = views(path, half=True, noise=0.0)
        percent = 100 * 1.03 * place.scale
        for name, refine in (("code", "code"), ("refine=shape", "shape")):
            framed, config = known_place(run, place, refine=refine)
            done = fit(framed, part, config=config)
            mesh = completed(done)
            errors[name].append(percent * error(mesh, truth, below=0.0))
            if refine == "code":
                found = [percent * error(each, truth, below=0.0) for each in hypotheses_of(done, mesh)]
        errors["best of 8"].append(min(found))
        errors["hypotheses"].append(len(found))
        errors["nearest"].append(percent * error(nearest_shape(run, part, place), truth, below=0.0))
    means = ", ".join(f"{name} {np.mean(found):.3f}" for name, found in errors.items())
    ratio = np.mean(errors["best of 8"]) / np.mean(errors["code"])
    yield f"half seen, error on the unseen half, %: {means}; best of 8 / single {ratio:.2f}"


def row_bands(run: Run, data: Path, count: int) -> Iterator[str]:
    """90 % bands of halves and of depth images of unseen bodies, before and after a calibration with ten others."""
    paths = unseen(run, data / "bodies", "*.ply")
    others = {path.stem: path for path in paths[-10:]}
    for half in (True, False):
        calibration: Calibration | None = None
        rows: list[np.ndarray] = []
        ranks: list[tuple[float, float]] = []
        for path in paths[:-10][:count]:
            part, truth, place = views(path, half=half, noise=0.0 if half else 0.005)
            framed, config = known_place(run, place, refine="shape")
            done = fit(framed, part, config=config)
            mesh = completed(done)
            known = vertex_spread(done, 0, mesh)
            calibration = calibration or calibrate(done, 0, mesh, others)
            scaled = calibration.applied(known)
            away = Surface.of(truth).distance.unsigned(mesh.vertices).distance
            hidden = ~known.seen
            ranks.append(
                tuple(float(spearmanr(away[which], scaled.spread[which])[0]) for which in (hidden | True, hidden))
            )
            columns = (away, known.spread, scaled.spread, known.distance)
            rows.append(np.stack(columns, axis=1) * place.scale)
        away, raw, spread, distance = np.concatenate(rows).T
        zones = np.digitize(distance, np.quantile(distance, [1 / 3, 2 / 3]))
        held = away <= 1.6449 * spread
        thirds = ", ".join(f"{held[zones == zone].mean():.0%}" for zone in range(3))
        pooled = float(spearmanr(away, spread)[0])
        width = float(np.median(1.6449 * spread) / np.quantile(away, held.mean()))
        yield (
            f"bands, {'upper half' if half else 'depth image'}, refine=shape, {len(rows)} bodies: hold "
            f"{held.mean():.0%} ({thirds} in thirds by distance), without calibration "
            f"{(away <= 1.6449 * raw).mean():.0%}; rank correlation {pooled:.2f}, within a body "
            f"{np.mean(ranks, axis=0)[0]:.2f}, on its unseen part {np.mean(ranks, axis=0)[1]:.2f}; "
            f"median width / constant band {width:.2f}"
        )


def row_align(run: Run, data: Path, count: int) -> Iterator[str]:
    """Depth images and halves of unseen bodies from bad places, against the same at the known place."""
    for half in (False, True):
        errors: dict[str, list[float]] = {"none": [], "yaw": [], "rigid": []}
        random = np.random.default_rng(0)
        for path in unseen(run, data / "bodies", "*.ply")[:count]:
            part, truth, place = views(path, half=half, noise=0.005)
            framed, config = known_place(run, place)
            percent = 100 * 1.03 * place.scale
            errors["none"].append(percent * error(completed(fit(framed, part, config=config)), truth))
            for align in ("yaw", "rigid"):
                turn, size, shift = bad_place(align, random)
                moved, moved_truth = moved_by(part, truth, turn, size, shift / place.scale)
                found = completed(fit(run, moved, config=CompletionConfig(align)))  # type: ignore[arg-type]
                errors[align].append(percent * error(found, moved_truth) / size)
        means = ", ".join(f"{name} {np.mean(found):.3f} %" for name, found in errors.items())
        good = {
            name: int((np.array(errors[name]) <= 1.1 * np.array(errors["none"])).sum()) for name in ("yaw", "rigid")
        }
        yield (
            f"alignment, {'upper half' if half else 'depth image'}: {means}; within 1.1 of the known place: yaw "
            f"{good['yaw']}, rigid {good['rigid']} of {len(errors['none'])}"
        )


def bad_place(align: str, random: np.random.Generator) -> tuple[np.ndarray, float, np.ndarray]:
    """Return a turn (3, 3), a scale and a shift (3,) in radii: yaw anywhere, or a rigid turn of at most 30 degrees."""
    angle = random.uniform(0, 2 * np.pi)
    axis = random.normal(size=3)
    tilt = np.radians(random.uniform(0, 30)) * axis / np.linalg.norm(axis)
    size, shift = random.uniform(0.9, 1.1), random.uniform(-0.1, 0.1, size=3)
    if align == "yaw":
        return Rotation.from_rotvec([0, angle, 0]).as_matrix(), size, shift
    return Rotation.from_rotvec(tilt).as_matrix(), 1.0, shift


def moved_by(
    part: PartObservation, truth: Mesh, turn: np.ndarray, size: float, shift: np.ndarray
) -> tuple[PartObservation, Mesh]:
    moved = dataclasses.replace(
        part,
        points=size * part.points @ turn.T + shift,
        normals=part.normals @ turn.T,
        lower=part.lower * size,
        upper=part.upper * size,
        noise_std=part.noise_std * size,
    )
    return moved, Mesh(size * truth.vertices @ turn.T + shift, truth.faces)


def row_chairs(run: Run, data: Path, count: int, *, folder: Path) -> Iterator[str]:
    """Whole unseen chairs: the best-matching learned chair, by code, and with refine=shape, at 256."""
    errors: dict[str, list[float]] = {"nearest": [], "code": [], "refine=shape": []}
    for path in unseen(run, folder, "*.obj")[:count]:
        whole = observe_mesh(run, path.stem, path, MeshFitConfig())
        assert whole.shape is not None
        assert whole.reference is not None
        percent = 100 / whole.reference.radius
        part = surface_part(read_mesh(path).vertices, noise_std=1e-3)
        nearest = nearest_shape(run, part, whole.shape.similarity).to_unit(whole.shape.similarity)
        errors["nearest"].append(percent * error(nearest, whole.reference.mesh))
        for name, mesh in fitted_whole(run, whole):
            errors[name].append(percent * error(mesh, whole.reference.mesh))
    means = ", ".join(f"{name} {np.mean(found):.3f} %" for name, found in errors.items())
    ratio = np.mean(errors["code"]) / np.mean(errors["nearest"])
    yield f"full mesh of {len(errors['code'])} unseen chairs: {means}; code / nearest {ratio:.2f}"


def row_mixes(run: Run, data: Path, count: int, *, folder: Path) -> Iterator[str]:
    """The upper half of unseen mixes: the unseen half, against the posterior of a point model that knows all points."""
    paths = sorted(folder.glob("*.ply"))
    learned = np.stack([read_mesh(path).vertices for path in paths[:80]])
    model = PointModel.of(learned)
    errors: dict[str, list[float]] = {"point model": [], "code": [], "refine=shape": []}
    for path in paths[80 : 80 + count]:
        part, truth, place = views(path, half=True, noise=0.0)
        percent = 100 * 1.03 * place.scale
        seen = place.to_unit(truth.vertices)[:, 1] > 0.15
        errors["point model"].append(
            percent * error(Mesh(model.complete(seen, truth.vertices[seen]), truth.faces), truth, below=0.0)
        )
        for refine, name in (("code", "code"), ("shape", "refine=shape")):
            done = fit(run, part, config=CompletionConfig("none", refine=refine))  # type: ignore[arg-type]
            errors[name].append(percent * error(completed(done), truth, below=0.0))
    means = ", ".join(f"{name} {np.mean(found):.3f} %" for name, found in errors.items())
    ratio = np.mean(errors["code"]) / np.mean(errors["point model"])
    modes = len(model.modes)
    yield f"upper half of {len(errors['code'])} mixes, unseen half ({modes} modes): {means}; ratio {ratio:.2f}"


def row_points(run: Run, data: Path, count: int, *, python: Path) -> Iterator[str]:
    """5,000 points of whole unseen bodies, noise 0.5 %: by code, with refine=shape, and screened Poisson."""
    errors: dict[str, list[float]] = {"code": [], "refine=shape": [], "screened Poisson": []}
    left_out = ""
    for path in unseen(run, data / "bodies", "*.ply")[:count]:
        truth = read_mesh(path)
        place = Similarity.normalizing(truth.vertices)
        percent = 100 * 1.03 * place.scale
        samples = sample_surface(truth, 5000, generator=torch.Generator().manual_seed(0))
        noise = np.random.default_rng(0).normal(size=(5000, 3)) * 0.005 / (1.03 * place.scale)
        points, normals = samples.points.numpy() + noise, samples.normals.numpy().astype(np.float64)
        part = surface_part(points, normals=normals, noise_std=0.005 / (1.03 * place.scale))
        for refine, name in (("code", "code"), ("shape", "refine=shape")):
            framed, config = known_place(run, place, refine=refine)
            errors[name].append(percent * error(completed(fit(framed, part, config=config)), truth))
        try:
            errors["screened Poisson"].append(percent * error(screened_poisson(points, normals, python), truth))
        except ValueError as missing:
            left_out = f"; screened Poisson is left out: {missing}"
    means = ", ".join(f"{name} {np.mean(found):.3f} %" for name, found in errors.items() if found) + left_out
    yield f"5,000 points of {len(errors['code'])} whole bodies, noise 0.5 %: {means}"


def row_slices(run: Run, data: Path, count: int) -> Iterator[str]:
    """Every fourth and every eighth slice of unseen hippocampi, in millimetres, against shape-based interpolation."""
    paths = unseen(run, data / "hippocampus" / "labels", "*.nii.gz")[:count]
    for every in (4, 8):
        errors: dict[str, list[float]] = {"interpolation": [], "code": [], "refine=shape": []}
        seconds = []
        for path in paths:
            volume = read_label_volume(path)
            inside, truth = volume.solid(), label_surface(volume).mesh
            errors["interpolation"].append(error(shape_based_interpolation(volume, inside, axis=1, every=every), truth))
            part = label_part(volume, inside, axis=1, every=every)
            start = time.process_time()
            done = fit(run, part, config=CompletionConfig(refine="shape"))
            seconds.append(time.process_time() - start)
            errors["refine=shape"].append(error(completed(done, resolution=64), truth))
            errors["code"].append(error(completed(dataclasses.replace(done, residuals=(None,)), resolution=64), truth))
        means = ", ".join(f"{name} {np.mean(found):.3f} mm" for name, found in errors.items())
        ratio = np.mean(errors["refine=shape"]) / np.mean(errors["interpolation"])
        better = int((np.array(errors["refine=shape"]) < np.array(errors["interpolation"])).sum())
        yield (
            f"slices, every {every}: {means}; ratio {ratio:.2f}, better in {better} of {len(paths)}; "
            f"{np.mean(seconds):.1f} s of processor each"
        )


ROWS: dict[str, tuple[str, Callable[..., Iterator[str]]]] = {
    "full": ("bodies", row_full),
    "chairs": ("chairs", row_chairs),
    "depth": ("bodies", row_depth),
    "half": ("bodies", row_half),
    "bands": ("bodies", row_bands),
    "align": ("bodies", row_align),
    "points": ("bodies", row_points),
    "mixes": ("mixes", row_mixes),
    "slices": ("hippocampus", row_slices),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", metavar="FAMILY=RUN", help="bodies, hippocampus, chairs, mixes")
    parser.add_argument("--data", type=Path, required=True, help="the folder of SDFNET_DATA")
    parser.add_argument("--chairs", type=Path, help="the folder of 100 chairs")
    parser.add_argument("--keep", type=Path, help="the folder that holds mixes/")
    parser.add_argument("--python", type=Path, help="an interpreter that has Open3D")
    parser.add_argument("--rows", nargs="+", choices=list(ROWS), default=list(ROWS))
    parser.add_argument("--count", type=int, default=20, help="unseen shapes of each family")
    options = parser.parse_args()
    runs = dict(word.split("=", 1) for word in options.runs)
    mixes = None if options.keep is None else options.keep / "mixes"
    more = {"chairs": ("folder", options.chairs), "mixes": ("folder", mixes), "points": ("python", options.python)}
    for name in options.rows:
        family, row = ROWS[name]
        key, value = more.get(name, ("", None))
        if family in runs and (not key or value is not None):
            for line in row(load_run(runs[family]), options.data, options.count, **({key: value} if key else {})):
                print(line, flush=True)


if __name__ == "__main__":
    main()
