"""Fit codes to input files and write the results into a folder: read, fit, extract, measure, write; safe to kill.

The folder holds `fit.json` with the record of every shape, meshes, codes, and a run of the learned and the fitted
shapes, which every other command reads. A shape enters `fit.json` only after all its files are whole on disk. A second
call fits only the shapes that are missing or have changed.
"""

from __future__ import annotations

import dataclasses
import hashlib
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from sdfnet.decoders.refined import UNIT_WEIGHT
from sdfnet.evaluation.closest_points import Surface, match_surfaces
from sdfnet.evaluation.extraction_error import extract_exact
from sdfnet.evaluation.metrics import distances_of
from sdfnet.evaluation.report import write_error_mesh
from sdfnet.fields.adaptors import NeuralField
from sdfnet.files import ensure_folder
from sdfnet.fitting.calibrate import Calibration, calibrate, calibration_meshes
from sdfnet.fitting.codes import fit_codes, with_fitted
from sdfnet.fitting.complete import Fit, fit, refined_shape, with_residuals
from sdfnet.fitting.config import CompletionConfig, MeshFitConfig, ObserveConfig
from sdfnet.fitting.family import clamp_distance_of
from sdfnet.fitting.inputs import InputFile
from sdfnet.fitting.observations import Observation, PartObservation, observation_kind
from sdfnet.fitting.observations.base import hash_file
from sdfnet.fitting.observations.mesh import rule_of
from sdfnet.fitting.refine import MESH_RESOLUTION, mesh_residual
from sdfnet.fitting.results import write_part
from sdfnet.mesh.io.write import save_mesh
from sdfnet.mesh.mesh import Mesh
from sdfnet.runs import Run, RunShape, extract_shape, load_tensors, save_document, save_model, save_tensors
from sdfnet.runs.document import check_overwrites
from sdfnet.runs.folder import FolderKind, file_sizes, is_whole, open_folder, save_folder
from sdfnet.solids.limits import MeshLimits
from sdfnet.solids.source_shape import load_shape

FIT_FOLDER = FolderKind(what="fit", file="fit.json", format=1, records="shapes", unnamed={"solid": "winding"})

_TOGETHER = 8
"""Files that are fitted in one go; a kill loses at most the work on so many."""


@dataclass(frozen=True, eq=False)
class MeshFits:
    """The results of `fit_meshes`.

    Attributes
    ----------
    run : Run
        The run on disk with the learned and the fitted shapes. A fitted shape replaces a learned shape of the same
        name.
    records : dict
        The record in `fit.json` of each requested shape that could be fitted.
    failures : dict
        The reason for each requested shape that could not be fitted.
    num_skipped : int
        Shapes of `records` that were there already.

    >>> from sdfnet.runs import load_run
    >>> config = MeshFitConfig(steps=5, num_samples=500, resolution=24)
    >>> fits = fit_meshes(load_run("runs/chairs"), {"gone": Path("gone.obj")}, "no_fits", config=config)
    >>> list(fits.failures), fits.run.names
    (['gone'], ('chair_00', 'chair_01'))
    """

    run: Run
    records: dict[str, dict[str, Any]]
    failures: dict[str, str]
    num_skipped: int


def fit_meshes(
    run: Run,
    paths: Mapping[str, Path],
    out: str | Path,
    *,
    config: MeshFitConfig | None = None,
    provenance: Mapping[str, Any] | None = None,
    progress: bool = False,
) -> MeshFits:
    """Fit the code of each file of `paths` (name to file), and write codes, meshes, record and run into `out`.

    Each mesh gets the similarity that training would give it: its own, or, where the run's shapes share one, that. A
    file that cannot be used does not stop the others. All results of the same fit in `out` are kept, also those of
    other shapes.

    Raises
    ------
    ValueError
        `out` holds a fit with another run or other options, something damaged, or is the run itself; or a file to be
        written is one of `paths` or a source mesh of the run.

    >>> from sdfnet.runs import load_run
    >>> config = MeshFitConfig(steps=5, num_samples=2000, resolution=16)
    >>> done = fit_meshes(load_run("runs/chairs"), {"new": Path("chairs/chair_02.obj")}, "fitted", config=config)
    >>> done.run.names
    ('chair_00', 'chair_01', 'new')
    """
    config = config or MeshFitConfig()
    inputs = {name: InputFile(path, "mesh", is_whole=True) for name, path in paths.items()}
    return fit_inputs(run, inputs, out, config=config, provenance=provenance, progress=progress)


def fit_inputs(
    run: Run,
    inputs: Mapping[str, InputFile],
    out: str | Path,
    *,
    config: MeshFitConfig | None = None,
    observe: ObserveConfig | None = None,
    completion: CompletionConfig | None = None,
    references: Mapping[str, Path] | None = None,
    provenance: Mapping[str, Any] | None = None,
    progress: bool = False,
) -> MeshFits:
    """Fit each input, whole or part, and write codes, meshes, record and run into `out`, as `fit_meshes` does.

    Whole meshes get the similarity of the training. A part gets the place that `completion` lets it find. `references`
    are whole meshes, by the names of the inputs, that the results are measured against.

    Raises
    ------
    ValueError
        As `fit_meshes`.

    >>> from sdfnet.runs import load_run
    >>> part = InputFile(Path("chairs/chair_02.obj"), "mesh", is_whole=False)
    >>> options = {"config": MeshFitConfig(resolution=16), "completion": CompletionConfig("none", frame_of="chair_00")}
    >>> fit_inputs(load_run("runs/chairs"), {"part": part}, "completed", **options).run.names
    ('chair_00', 'chair_01', 'part')
    """
    config, completion = config or MeshFitConfig(), completion or CompletionConfig()
    run.check_is_family("a fit")
    paths = {name: each.path for name, each in inputs.items()}
    truths = calibration_meshes(run, completion.calibrate_with) if completion.calibrate else {}
    options = _Options(config, observe or ObserveConfig(), completion, references or {}, _Calibrations(truths))
    out = Path(out)
    targets = [out / _mesh_path(name, suffix) for name in paths for suffix in config.format]
    check_overwrites(out, targets, paths.values(), what="meshes that are to be fitted")
    check_overwrites(out, targets, [shape.source for shape in run.shapes], what="the source meshes of this run")
    ensure_folder(out)
    if out.resolve() == run.directory.resolve():
        raise ValueError(f"out={out} is the run itself; choose a folder of its own, such as {out / 'fit'}")
    document = open_folder(out, _settings(run, options), FIT_FOLDER)
    records: dict[str, dict[str, Any]] = document["shapes"]
    failures: dict[str, str] = {}
    missing = [name for name in inputs if not _is_done(out, name, inputs[name], records.get(name, {}), options)]
    with tqdm(total=len(missing), desc="shapes", unit="shape", disable=not progress) as bar:
        for start in range(0, len(missing), _TOGETHER):
            group = {name: inputs[name] for name in missing[start : start + _TOGETHER]}
            made, reasons = _fit_group(run, group, out, options, bar=bar)
            records |= made
            failures |= reasons
            save_folder(out, {**document, "failed": failures}, FIT_FOLDER)
    save_folder(out, {**document, "failed": failures}, FIT_FOLDER)
    fitted = _assemble_run(run, out, records, provenance=provenance or {})
    asked = {name: records[name] for name in inputs if name not in failures}
    return MeshFits(fitted, asked, failures, num_skipped=len(inputs) - len(missing))


class _Calibrations:
    """The calibration of each kind of input: computed for its first input, and used for the others of the kind."""

    def __init__(self, meshes: Mapping[str, Path]) -> None:
        self.meshes = meshes
        self.found: dict[bool, Calibration] = {}

    def get_for(self, done: Fit, mesh: Mesh) -> Calibration | None:
        """Return the calibration for a completed part with this mesh; None if none was asked for."""
        if not self.meshes:
            return None
        can_observe = done.parts[0].observe is not None
        if can_observe not in self.found:
            self.found[can_observe] = calibrate(done, 0, mesh, self.meshes)
        return self.found[can_observe]


@dataclass(frozen=True)
class _Options:
    """All options of one fit."""

    config: MeshFitConfig
    observe: ObserveConfig
    completion: CompletionConfig
    references: Mapping[str, Path]
    calibrations: _Calibrations


def _settings(run: Run, options: _Options) -> dict[str, Any]:
    """Return what all shapes of one folder share; formats and kinds of input may differ from call to call."""
    config = options.config
    without = {"format"} | {limit.name for limit in dataclasses.fields(MeshLimits)}
    settings = {key: value for key, value in dataclasses.asdict(config).items() if key not in without}
    # Whole meshes need neither of these, and folders of earlier versions do not name them.
    if options.observe != ObserveConfig():
        settings["observe"] = dataclasses.asdict(options.observe)
    if options.completion != CompletionConfig():
        settings["completion"] = {key: _plain(value) for key, value in vars(options.completion).items()}
    return {"run": str(run.directory), "model": _hash_model(run), **settings, **rule_of(run, config).to_dict()}


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value


def _hash_model(run: Run) -> str:
    """Return a hash of the weights and codes of this run."""
    digest = hashlib.sha256()
    for tensor in (*run.decoder.state_dict().values(), run.latents):
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def _is_done(out: Path, name: str, given: InputFile, record: Mapping[str, Any], options: _Options) -> bool:
    """Tell whether the files of a recorded shape are all there and its source has not changed since."""
    needed = {_code_path(name), *(_mesh_path(name, suffix) for suffix in options.config.format)}
    if record.get("kind") != given.kind or record.get("is_whole", True) != given.is_whole:
        return False
    if not needed <= record["files"].keys() or not is_whole(out, record):
        return False
    hash_whole = observation_kind(given.kind).hash_whole
    try:
        if given.is_whole and hash_whole is not None:
            return hash_whole(given.path, _shape_of(name, record)) == record["content_hash"]
        return hash_file(given.path, options.observe) == record["content_hash"]
    except (ValueError, OSError):
        return False  # Fitting it will say what is wrong.


def _code_path(name: str) -> str:
    """Return the file of a code in the folder, a safetensors file with one tensor, `latent`."""
    return f"codes/{name}.safetensors"


def _mesh_path(name: str, suffix: str) -> str:
    return f"meshes/{name}.{suffix}"


def _fit_group(
    run: Run, inputs: Mapping[str, InputFile], out: Path, options: _Options, *, bar: tqdm
) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """Fit a few files as one batch and write their results. Return the records and the reason of each failure."""
    observed: dict[str, Observation | PartObservation] = {}
    failures: dict[str, str] = {}
    for name, given in inputs.items():
        try:
            observed[name] = _read(run, name, given, options)
        except (ValueError, OSError) as error:
            failures[name] = str(error)
            bar.update()
    records: dict[str, dict[str, Any]] = {}
    for name, found in _find_shapes(run, observed, options, failures, bar=bar).items():
        try:
            known = {"kind": inputs[name].kind} | ({} if inputs[name].is_whole else {"is_whole": False})
            records[name] = _write_shape(run, name, found, out, options) | known
        except ValueError as error:
            failures[name] = str(error)
        bar.update()
    return {name: records[name] for name in inputs if name in records}, failures


def _read(run: Run, name: str, given: InputFile, options: _Options) -> Observation | PartObservation:
    kind = observation_kind(given.kind)
    if given.is_whole and kind.read_whole is not None:
        return kind.read_whole(run, name, given.path, options.config)
    return kind.read_part(given.path, options.observe)


@dataclass(frozen=True, eq=False)
class _Found:
    """A fitted shape that is to be written, with what its record says beside the mesh."""

    shape: RunShape
    latent: Tensor
    facts: dict[str, Any]
    reference: Surface | None = None
    residual: Tensor | None = None
    done: Fit | None = None


def _find_shapes(
    run: Run,
    observed: Mapping[str, Observation | PartObservation],
    options: _Options,
    failures: dict[str, str],
    *,
    bar: tqdm,
) -> dict[str, _Found]:
    """Return the code and the place of each observation; a part that cannot be placed joins `failures`."""
    found: dict[str, _Found] = {}
    whole = {name: each for name, each in observed.items() if isinstance(each, Observation)}
    if whole:
        codes = fit_codes(run, list(whole.values()), config=options.config, progress=not bar.disable)
        for index, (name, each) in enumerate(whole.items()):
            assert each.shape is not None
            facts = {"notes": list(each.notes), "loss": codes.losses[index], "start": codes.starts[index]}
            residual = _whole_residual(run, codes.latents[index], each.reference, options.completion)
            found[name] = _Found(each.shape, codes.latents[index], facts, each.reference, residual)
    for name, part in observed.items():
        if isinstance(part, PartObservation):
            try:
                found[name] = _complete(run, name, part, options)
            except ValueError as error:
                failures[name] = str(error)
                bar.update()
    return found


def _complete(run: Run, name: str, part: PartObservation, options: _Options) -> _Found:
    """Return the most likely shape of which a part is observed."""
    done = fit(run, part, config=options.completion)
    return _Found(done.shape(0, name), done.latents[0], {}, residual=done.residuals[0], done=done)


def _whole_residual(run: Run, latent: Tensor, whole: Surface | None, completion: CompletionConfig) -> Tensor | None:
    """Return the grid that corrects a fitted code to a whole mesh; None without `refine=shape`."""
    if completion.refine == "code" or whole is None:
        return None
    field = NeuralField(run.decoder, latent)
    clamp_distance = clamp_distance_of(run)
    return mesh_residual(field, whole.distance, resolution=MESH_RESOLUTION, clamp_distance=clamp_distance)


def _write_shape(run: Run, name: str, found: _Found, out: Path, options: _Options) -> dict[str, Any]:
    """Extract, measure and write one fitted shape; return its record."""
    config = options.config
    joined, latent = refined_shape(run, found.latent, found.residual)
    made = extract_shape(joined, found.shape, latent=latent, resolution=config.resolution)
    files = [_mesh_path(name, suffix) for suffix in config.format]
    for file in files:
        save_mesh(made.mesh, out / file)
    tensors = {"latent": found.latent} | ({} if found.residual is None else {"residual": found.residual.half()})
    save_tensors(out / _code_path(name), tensors, metadata={"shape": name})
    described = {key: value for key, value in found.shape.to_dict().items() if key != "name"}
    summary = {key: value for key, value in made.to_dict().items() if key in ("pieces", "cavities", "removed")}
    facts, more = found.facts, list[str]()
    if found.done is not None:
        calibration = options.calibrations.get_for(found.done, made.mesh)
        facts, more = write_part(
            found.done, name, made.mesh, out, resolution=config.resolution, calibration=calibration
        )
    record = {**described, **facts, **summary}
    reference = found.reference or _known_truth(name, found.shape, options)
    if reference is not None:
        record |= _measure(made.mesh, found.shape, reference, resolution=config.resolution)
        more.append(f"errors/{name}.ply")
        place = found.shape.similarity
        write_error_mesh(made.mesh.to_unit(place), reference, place, out / "errors", name)
    return {**record, "files": file_sizes(out, [_code_path(name), *files, *more])}


def _known_truth(name: str, shape: RunShape, options: _Options) -> Surface | None:
    """Return the reference of a part, unit frame, where one was given."""
    path = options.references.get(name)
    if path is None:
        return None
    source = load_shape(path)
    return Surface.of(source.mesh.to_unit(shape.similarity), is_closed=source.closed)


def _measure(mesh: Mesh, shape: RunShape, reference: Surface, *, resolution: int) -> dict[str, Any]:
    """Return the distances of a mesh in world units to the observed surface, and the extraction error."""
    world = reference.radius / shape.similarity.scale / 100
    distance = _distance(mesh.to_unit(shape.similarity), reference, shape.name)
    return {
        "percent": distance,
        "floor_percent": _distance(extract_exact(reference, resolution=resolution), reference, shape.name),
        "world": {key: value * world for key, value in distance.items()},
        "radius_world": 100 * world,
    }


def _distance(mesh: Mesh, surface: Surface, name: str) -> dict[str, float]:
    """Return the surface distance in percent of the source's radius; its samples depend on the name alone."""
    generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
    return dataclasses.asdict(distances_of(match_surfaces(Surface.of(mesh), surface, generator=generator)))


def _shape_of(name: str, record: Mapping[str, Any]) -> RunShape:
    keys = [field.name for field in dataclasses.fields(RunShape) if field.name in record]
    return RunShape.from_dict({"name": name, **{key: record[key] for key in keys}})


def _assemble_run(
    run: Run, out: Path, records: Mapping[str, Mapping[str, Any]], *, provenance: Mapping[str, Any]
) -> Run:
    """Make `out` a run of the learned and all recorded shapes, and return it."""
    shapes = [_shape_of(name, record) for name, record in records.items()]
    tensors = [load_tensors(out / _code_path(name), device=run.device)[0] for name in records]
    codes = [each["latent"] for each in tensors]
    corrected = [row for row, each in enumerate(tensors) if "residual" in each]
    if corrected:
        size = len(codes[0])
        run = with_residuals(run, [tensors[row]["residual"] for row in corrected])
        longer = run.latents.new_zeros(len(codes), run.latents.shape[1])
        longer[:, :size] = torch.stack(codes)
        for column, row in enumerate(corrected, start=longer.shape[1] - len(corrected)):
            longer[row, column] = UNIT_WEIGHT
        codes = list(longer)
    fitted = with_fitted(run, shapes, torch.stack(codes) if codes else run.latents[:0])
    config = {**run.document.get("config", {}), "fit": {"run": str(run.directory), "shapes": list(records)}}
    document = {**run.document, **provenance, "config": config}
    fitted = dataclasses.replace(fitted, directory=out, document=document)
    save_model(out, decoder_state=run.decoder.state_dict(), latents=fitted.latents, step=run.step)
    save_document(out, fitted.document, fitted.shapes)
    return fitted
