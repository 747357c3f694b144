"""Measure how well a latent space stands for shapes that it has and has not seen, for any decoder and family.

    python benchmarks/space.py bodies --data DIR --keep FOLDER volume
    python benchmarks/space.py chairs --data DIR --keep FOLDER volume "volume decoder.latent_size=256 fit.steps=500"

A recipe is the name of a decoder, then options of four groups: decoder, training, fit, sampler. Samples, runs and the
time of a step are kept in FOLDER and used again. `--steps` fixes the steps. `--processor-seconds` gives each recipe as
many steps as fit into that time of one thread, whatever else the machine does; `--budget` takes the clock instead. The
families, and which shapes are learned and held out, are in `space_families.py`.

Errors are mean surface distances in percent of the radius of the source, both ways, at `--resolution`:

- learned, held out: shapes that were learned, and others fitted by their code.
- unseen: points of the surface with y > 0.15 of the unit frame are completed, as by `sdfnet fit input=`, at their known
  place. The error is the mean distance from the points of the source with y < 0 to the result. unseen_codes: the same,
  but the code is fitted to the samples with y > 0.15, as that of a whole shape is (only with `--only unseen_codes`).
- half-way: mixes of pairs of learned shapes against the mean of their vertices, where vertices correspond.
- normals: mean angle between the vertex normals of the result, as written, and the normals of the closest faces of the
  source, degrees, weighted by area, and the share beyond 20 degrees (steep); learned shapes. A source of flat faces
  that stands for a round shape has facets, so a perfectly round result does not come to 0. The lines of `--json` have
  the same for the normals of faces, which marching cubes makes rougher.
- shaded: the same against the normals with which the source is drawn: smooth, but for edges above 40 degrees
  (`crease_normals`), and the share beyond 20 degrees. `facets` and `facets_steep` in the lines of `--json` are the
  angles between these normals and those of the faces at the same places: what a perfectly round result comes to.
- genus: learned shapes with the genus of the source. closed: held-out results that are closed and have as many
  components as their source, as written, and as extracted before loose components are left out.
- loose: share of the volume half-way that is not in the largest component, percent, mean and largest.
- exact: this recipe extracts the exact distances of the sources: the extraction error.
- folded: share of points near the surface where the map to the template turns space inside out, percent, if the decoder
  has a template.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import sys
import tempfile
import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from joblib import Parallel, delayed
from numpy.typing import NDArray
from space_families import FAMILIES, Family
from torch import Tensor
from trimesh.triangles import points_to_barycentric

from sdfnet.decoders import DecoderConfig, decoder_config
from sdfnet.decoders.template import template_jacobians
from sdfnet.evaluation.closest_points import NUM_POINTS, Surface, SurfaceMatch, match_surfaces
from sdfnet.evaluation.extraction_error import extract_exact
from sdfnet.evaluation.metrics import distances_of
from sdfnet.evaluation.report import source_surface
from sdfnet.extraction import extract_mesh
from sdfnet.fitting import CompletionConfig, DistanceObservation, FitConfig, fit_codes
from sdfnet.fitting import fit as complete
from sdfnet.fitting.observations import surface_part
from sdfnet.geometry.arrays import unit_vectors
from sdfnet.geometry.similarity import Similarity
from sdfnet.mesh.components import nest_components
from sdfnet.mesh.io.read import find_meshes
from sdfnet.mesh.mesh import Mesh, replace_vertices
from sdfnet.mesh.topology import components_and_genus
from sdfnet.rendering.scene import crease_normals
from sdfnet.runs import Run, RunShape, extract_shape, load_run
from sdfnet.sampling import SamplerConfig, SampleStore, prepare_samples
from sdfnet.sampling.samplers import sample_surface
from sdfnet.solids.source_shape import load_shape
from sdfnet.training import TrainingConfig, train

GROUPS = ("decoder", "training", "fit", "sampler")
SEEN_ABOVE, UNSEEN_BELOW, STEEP = 0.15, 0.0, 20.0
STEEP_KEYS = {"normals": "steep", "face_normals": "face_steep"}
NUM_FIT_SAMPLES = 100_000
POINT_NOISE = 5e-4
NUM_PAIRS = 6
TIMED_STEPS = (10, 30)
NEAR = 0.02

COLUMNS = (
    ("steps", "{:.0f}"), ("ms", "{:.0f}"), ("learned", "{:.3f}"), ("held_out", "{:.3f}"), ("held_out_worst", "{:.3f}"),
    ("unseen", "{:.3f}"), ("unseen_codes", "{:.3f}"), ("half_way", "{:.3f}"), ("loose", "{:.3f}"),
    ("loose_most", "{:.2f}"), ("normals", "{:.2f}"), ("steep", "{:.2f}"), ("shaded", "{:.2f}"),
    ("shaded_steep", "{:.2f}"), ("genus", "{}"), ("closed", "{}"), ("closed_raw", "{}"), ("folded", "{:.3f}"),
)  # fmt: skip

SHOWS_PROGRESS = sys.stderr.isatty()

Figures = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Subject:
    """A family ready for training: its samples, its sources in the unit frame, and which shapes are learned."""

    name: str
    family: Family
    store: SampleStore
    learned: tuple[str, ...]
    held_out: tuple[str, ...]
    surfaces: dict[str, Surface]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("family", choices=sorted(FAMILIES))
    parser.add_argument("recipes", nargs="+", help='a decoder with options, such as "volume decoder.latent_size=256"')
    parser.add_argument("--data", type=Path, required=True, help="folder of real meshes")
    parser.add_argument("--keep", type=Path, help="folder for meshes, samples and runs; a temporary one by default")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--steps", type=int)
    length.add_argument("--budget", default="3min")
    length.add_argument("--processor-seconds", type=float)
    parser.add_argument("--resolution", type=int, default=256)
    parser.add_argument("--learned", type=int, help="number of learned shapes; by default the family's")
    parser.add_argument("--held-out", type=int, help="number of held-out shapes; by default the family's")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--only", nargs="+", default=["learned", "held_out", "unseen", "half_way"])
    parser.add_argument("--workers", type=int, default=1, help="shapes measured at a time")
    parser.add_argument("--json", type=Path, help="append one JSON line for each row to this file")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        keep = arguments.keep or Path(temporary)
        subjects: dict[str, Subject] = {}
        print_row("recipe", {name: name for name, _ in COLUMNS})
        for text in arguments.recipes:
            kind, groups = read_recipe(text)
            key = json.dumps(groups["sampler"])
            if key not in subjects:
                subjects[key] = make_subject(arguments, keep, SamplerConfig(**groups["sampler"]))
            for seed in arguments.seeds if kind != "exact" else arguments.seeds[:1]:
                figures = measure(text, seed, subjects[key], arguments, keep)
                print_row(text if len(arguments.seeds) == 1 else f"{text} seed {seed}", figures)
                if arguments.json:
                    row = {"family": arguments.family, "recipe": text, "seed": seed, **figures}
                    with arguments.json.open("a", encoding="utf-8") as lines:
                        lines.write(json.dumps(row) + "\n")


def print_row(name: str, figures: Figures) -> None:
    cells = []
    for key, form in COLUMNS:
        value = figures.get(key, "-")
        cells.append(value if isinstance(value, str) else form.format(value))
    print("| " + " | ".join([name, *cells]) + " |", flush=True)


def read_recipe(text: str) -> tuple[str, dict[str, Figures]]:
    """Split "volume decoder.latent_size=256" into the decoder's name and the options of each group."""
    kind, *options = text.split()
    groups: dict[str, Figures] = {group: {} for group in GROUPS}
    for option in options:
        key, _, value = option.partition("=")
        group, _, name = key.partition(".")
        if group not in groups or not name or not value:
            raise SystemExit(f"an option is GROUP.NAME=VALUE with a group of {', '.join(GROUPS)}, got {option!r}")
        try:
            groups[group][name] = json.loads(value)
        except json.JSONDecodeError:
            groups[group][name] = value
    return kind, groups


def make_subject(arguments: argparse.Namespace, keep: Path, sampler: SamplerConfig) -> Subject:
    """Write the family's meshes, sample them, and read the sources."""
    family = FAMILIES[arguments.family]
    meshes = family.folder(arguments.data, keep / "meshes")
    num_learned = family.num_learned if arguments.learned is None else arguments.learned
    num_held_out = family.num_held_out if arguments.held_out is None else arguments.held_out
    names = list(find_meshes(meshes))[: num_learned + num_held_out]
    digest = hashlib.sha256(json.dumps([sampler.to_dict(), names]).encode()).hexdigest()[:8]
    folder = keep / f"samples_{arguments.family}_{digest}"
    prepared = prepare_samples(
        meshes,
        folder,
        config=sampler,
        shapes=names,
        normalize=family.normalize,
        num_workers=arguments.workers,
        progress=SHOWS_PROGRESS,
    )
    store = SampleStore(folder)
    used = [name for name in names if name in prepared.names]
    surfaces = {shape.name: surface_of(shape, meshes) for shape in store.shapes if shape.name in used}
    return Subject(
        arguments.family, family, store, tuple(used[:num_learned]), tuple(used[num_learned:]), surfaces
    )  # fmt: skip


def surface_of(shape: Any, meshes: Path) -> Surface:
    return source_surface(load_shape(meshes / shape.source, name=shape.name), shape.similarity)


def measure(text: str, seed: int, subject: Subject, arguments: argparse.Namespace, keep: Path) -> Figures:
    """Train a recipe, or read its run, and return its figures."""
    kind, groups = read_recipe(text)
    only, resolution, workers = arguments.only, arguments.resolution, arguments.workers
    if kind == "exact":
        return measure_learned(
            {name: extract_exact(subject.surfaces[name], resolution=resolution) for name in subject.learned}, subject
        )
    decoder = decoder_config({"kind": kind, **groups["decoder"]})
    run, figures = trained(text, decoder, {**groups["training"], "seed": seed}, subject, arguments, keep)
    if "learned" in only:

        def extracted(name: str) -> Mesh:
            return extract_shape(run, name, resolution=resolution, frame="unit").mesh

        meshes = Parallel(n_jobs=workers, prefer="threads")(delayed(extracted)(name) for name in subject.learned)
        figures |= measure_learned(dict(zip(subject.learned, meshes, strict=True)), subject)
        figures |= folding(run)
    fit = FitConfig(**groups["fit"])
    if "held_out" in only and subject.held_out:
        figures |= measure_held_out(run, subject, fit, resolution)
    for name, found in (("unseen", completed_codes), ("unseen_codes", codes_of_samples)):
        if name in only and subject.held_out:
            results = results_of(run, subject.held_out, found(run, subject, fit), subject, resolution)
            figures |= measure_unseen(name, results, subject)
    if "half_way" in only:
        figures |= measure_half_way(run, subject, resolution)
    return figures


def trained(
    text: str, decoder: DecoderConfig, options: Figures, subject: Subject, arguments: argparse.Namespace, keep: Path
) -> tuple[Run, Figures]:
    """Return the run of a recipe and what its training took. A run of the same recipe and length is not repeated."""
    identity = [decoder.kind, vars(decoder), options, subject.learned, str(subject.store.directory)]
    digest = hashlib.sha256(json.dumps(identity, default=list).encode()).hexdigest()[:12]
    place = keep / f"runs_{subject.name}"
    place.mkdir(parents=True, exist_ok=True)
    plain = {"previews": 0, "evaluations": 1, "precision": "float32", **options}
    steps = arguments.steps
    seconds_a_step = None
    if arguments.processor_seconds:
        seconds_a_step = time_step(place / f"{digest}.json", decoder, plain, subject)
        steps = max(1, round(arguments.processor_seconds / seconds_a_step))
    budget = None if steps else arguments.budget
    folder = place / f"{digest}_{steps or budget}"
    timing = folder / "processor_seconds.json"
    if not timing.exists():
        began = time.process_time()
        config = TrainingConfig(budget=budget, steps=steps, **plain)
        done = train(
            folder, subject.store, decoder=decoder, config=config, shapes=subject.learned, progress=SHOWS_PROGRESS
        )
        timing.write_text(json.dumps({"seconds": time.process_time() - began, "recipe": text, "steps": done.step}))
    run = load_run(folder)
    seconds = json.loads(timing.read_text())["seconds"]
    return run, {"steps": run.step, "ms": 1000 * (seconds_a_step or seconds / run.step), "run": str(folder)}


def time_step(path: Path, decoder: DecoderConfig, options: Figures, subject: Subject) -> float:
    """Return the processor time of one step: the difference of two short trainings. It is written to `path`."""
    if not path.exists():
        spent = []
        for steps in TIMED_STEPS:
            with tempfile.TemporaryDirectory() as folder:
                began = time.process_time()
                config = TrainingConfig(steps=steps, **options)
                train(folder, subject.store, decoder=decoder, config=config, shapes=subject.learned, progress=False)
                spent.append(time.process_time() - began)
        path.write_text(json.dumps((spent[1] - spent[0]) / (TIMED_STEPS[1] - TIMED_STEPS[0])))
    return float(json.loads(path.read_text()))


# Measures.


def measure_learned(meshes: dict[str, Mesh], subject: Subject) -> Figures:
    """Compare the meshes of learned shapes with their sources: distance, normals, genus."""
    errors, genus = [], 0
    angles: dict[str, list[tuple[float, float]]] = {}
    for name, mesh in meshes.items():
        source = subject.surfaces[name]
        match = compare(mesh, source, name)
        errors.append(distances_of(match).mean)
        way = match.from_result
        face_angle = angles_between(way.normals, way.other_normals)[way.counted]
        angles.setdefault("face_normals", []).append((face_angle.mean(), (face_angle > STEEP).mean()))
        genus += components_and_genus(mesh).genus == components_and_genus(source.mesh).genus
        for label, angle in vertex_angles(mesh, source).items():
            areas = np.bincount(mesh.faces.ravel(), mesh.face_areas.repeat(3), len(mesh.vertices))
            mean, steep = np.average(angle, weights=areas), np.average(angle > STEEP, weights=areas)
            angles.setdefault(label, []).append((mean, steep))
    figures: Figures = {
        "learned": float(np.mean(errors)),
        "learned_worst": max(errors),
        "genus": f"{genus}/{len(meshes)}",
    }
    for label, several in angles.items():
        mean, steep = np.mean(several, axis=0).tolist()
        figures |= {label: mean, STEEP_KEYS.get(label, f"{label}_steep"): 100 * steep}
    return figures


def vertex_angles(mesh: Mesh, source: Surface) -> dict[str, NDArray[np.float64]]:
    """Return angles (V,) in degrees at the vertices of a result, or nothing where it has no vertex normals."""
    if mesh.vertex_normals is None:
        return {}
    closest = source.distance.unsigned(mesh.vertices)
    flat, triangles = source.mesh.face_normals[closest.faces], source.mesh.vertices[source.mesh.faces[closest.faces]]
    shares = np.nan_to_num(points_to_barycentric(triangles, closest.closest_points))
    shaded = np.einsum("vk,vkc->vc", shares, crease_normals(source.mesh)[closest.faces])
    shaded = unit_vectors(np.where(np.linalg.norm(shaded, axis=1, keepdims=True) > 0.1, shaded, flat))  # slivers
    return {
        "normals": angles_between(mesh.vertex_normals, flat),
        "shaded": angles_between(mesh.vertex_normals, shaded),
        "facets": angles_between(shaded, flat),
    }


def angles_between(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the angles in degrees between unit vectors (N, 3)."""
    return np.rad2deg(np.arccos(np.clip(np.einsum("ij,ij->i", first, second), -1, 1)))


def compare(result: Mesh, source: Surface, name: str) -> SurfaceMatch:
    generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
    return match_surfaces(Surface.of(result), source, num_points=NUM_POINTS, generator=generator)


def fitted(run: Run, names: Sequence[str], subject: Subject, fit: FitConfig, *, seen_above: float = -np.inf) -> Tensor:
    """Return the codes of held-out shapes, fitted to their samples above a height."""
    observations = []
    for name in names:
        samples = np.array(subject.store.read(subject.store.index_of(name), 0, NUM_FIT_SAMPLES))
        observations.append(DistanceObservation(torch.from_numpy(samples[samples[:, 1] > seen_above])))
    return fit_codes(run, observations, config=fit, progress=SHOWS_PROGRESS).latents


def results_of(run: Run, names: Sequence[str], latents: Tensor, subject: Subject, resolution: int) -> Figures:
    """Extract fitted shapes, unit frame: name to what `extract_shape` found, or None where there is no surface."""
    found: Figures = {}
    for name, latent in zip(names, latents, strict=True):
        stored = subject.store.shapes[subject.store.index_of(name)]
        components = len(nest_components(subject.surfaces[name].mesh).volumes)
        shape = RunShape(name, stored.similarity, "", "", stored.closed, num_surfaces=components, learned=False)
        try:
            options: Figures = {"resolution": resolution, "vertex_normals": False, "frame": "unit"}
            found[name] = extract_shape(run, shape, latent=latent, **options)
        except ValueError:
            found[name] = None
    return found


def measure_held_out(run: Run, subject: Subject, fit: FitConfig, resolution: int) -> Figures:
    began = time.process_time()
    latents = fitted(run, subject.held_out, subject, fit)
    seconds = (time.process_time() - began) / len(subject.held_out)
    results = results_of(run, subject.held_out, latents, subject, resolution)
    errors, closed, closed_raw = [], 0, 0
    for name, found in results.items():
        if found is None:
            errors.append(100.0)
            continue
        source = subject.surfaces[name]
        errors.append(distances_of(compare(found.mesh, source, name)).mean)
        closed += is_like(found.mesh, source.mesh)
        closed_raw += is_like(found.extracted, source.mesh)
    return {
        "held_out": float(np.mean(errors)),
        "held_out_worst": max(errors),
        "closed": f"{closed}/{len(errors)}",
        "closed_raw": f"{closed_raw}/{len(errors)}",
        "fit_seconds": seconds,
    }


def is_like(mesh: Mesh, source: Mesh) -> bool:
    """Tell whether a mesh is closed and has as many components as its source."""
    here, there = components_and_genus(mesh), components_and_genus(source)
    return here.num_boundary_loops == 0 and here.num_components == there.num_components


def completed_codes(run: Run, subject: Subject, _: FitConfig) -> Tensor:
    """Return the codes of held-out shapes, completed from points of their surfaces above a height."""
    parts = []
    for name in subject.held_out:
        generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
        points = sample_surface(subject.surfaces[name].mesh, NUM_FIT_SAMPLES, generator=generator).points.numpy()
        parts.append(surface_part(points[points[:, 1] > SEEN_ABOVE], noise_std=POINT_NOISE))
    first = dataclasses.replace(run.shapes[0], similarity=Similarity.identity())
    framed = dataclasses.replace(run, shapes=(first, *run.shapes[1:]))
    return complete(framed, parts, config=CompletionConfig("none", frame_of=first.name)).latents


def codes_of_samples(run: Run, subject: Subject, fit: FitConfig) -> Tensor:
    """Return the codes of held-out shapes, fitted to their samples above a height."""
    return fitted(run, subject.held_out, subject, fit, seen_above=SEEN_ABOVE)


def measure_unseen(label: str, results: Figures, subject: Subject) -> Figures:
    errors = []
    for name, found in results.items():
        if found is None:
            errors.append(100.0)
            continue
        match = compare(found.mesh, subject.surfaces[name], name)
        way = match.from_source
        unseen = way.points[:, 1] < UNSEEN_BELOW
        errors.append(100 * float(way.distances[unseen].mean()) / match.radius)
    return {label: float(np.mean(errors)), f"{label}_worst": max(errors)}


def measure_half_way(run: Run, subject: Subject, resolution: int) -> Figures:
    """Mix pairs of neighbouring learned shapes: loose volume, and the error where the truth is known."""
    errors, loose = [], []
    pairs = list(zip(subject.learned[::2], subject.learned[1::2], strict=False))[:NUM_PAIRS]
    for first, second in pairs:
        latent = (run.latent(first) + run.latent(second)) / 2
        shape = RunShape(f"{first} {second}", run.similarity(first), "", "", closed=True, num_surfaces=1, learned=False)
        options: Figures = {"resolution": resolution, "vertex_normals": False, "frame": "unit"}
        found = extract_shape(run, shape, latent=latent, **options)
        volumes = np.abs(nest_components(found.extracted).volumes) if found.extracted else np.ones(1)
        loose.append(100 * float(1 - volumes.max() / volumes.sum()))
        if subject.family.corresponding:
            ends = [subject.surfaces[name].mesh for name in (first, second)]
            truth = replace_vertices(ends[0], (ends[0].vertices + ends[1].vertices) / 2)
            errors.append(distances_of(compare(found.mesh, Surface.of(truth), first)).mean)
    figures: Figures = {"loose": float(np.mean(loose)), "loose_most": max(loose)}
    return figures | ({"half_way": float(np.mean(errors)), "half_way_worst": max(errors)} if errors else {})


def folding(run: Run) -> Figures:
    """Return the share of points near the learned surfaces where the map to the template folds, if there is one."""
    if not run.decoder.has_template:
        return {}
    folded = []
    for name in run.names:
        mesh = extract_mesh(run.field(name), resolution=64, vertex_normals=False)
        generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
        points = torch.from_numpy(mesh.vertices).float()
        points = points + NEAR * torch.randn(points.shape, generator=generator)
        jacobians = template_jacobians(run.decoder, points[None], run.decoder.condition(run.latent(name)[None]))
        folded.append(100 * float((torch.linalg.det(jacobians) <= 0).float().mean()))
    return {"folded": float(np.mean(folded))}


if __name__ == "__main__":
    main()
