"""Fit codes to mesh files and write the results into a folder: read, fit, extract, measure, write; safe to kill.

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

from sdfnet.evaluation.closest_points import Surface, match_surfaces
from sdfnet.evaluation.extraction_error import extract_exact
from sdfnet.evaluation.metrics import distances_of
from sdfnet.files import ensure_folder
from sdfnet.fitting.config import MeshFitConfig
from sdfnet.fitting.fit import fit_codes, with_fitted
from sdfnet.fitting.observations import Observation, ObservationKind, observation_kind
from sdfnet.fitting.observations.mesh import rule_of
from sdfnet.mesh.io.write import save_mesh
from sdfnet.mesh.mesh import Mesh
from sdfnet.runs import Run, RunShape, extract_shape, load_tensors, save_document, save_model, save_tensors
from sdfnet.runs.document import check_overwrites
from sdfnet.runs.folder import FolderKind, file_sizes, is_whole, open_folder, save_folder

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
    kind = observation_kind(config.kind)
    out = Path(out)
    targets = [out / _mesh_path(name, suffix) for name in paths for suffix in config.format]
    check_overwrites(out, targets, paths.values(), what="meshes that are to be fitted")
    check_overwrites(out, targets, [shape.source for shape in run.shapes], what="the source meshes of this run")
    ensure_folder(out)
    if out.resolve() == run.directory.resolve():
        raise ValueError(f"out={out} is the run itself; choose a folder of its own, such as {out / 'fit'}")
    document = open_folder(out, _settings(run, config), FIT_FOLDER)
    records: dict[str, dict[str, Any]] = document["shapes"]
    failures: dict[str, str] = {}
    missing = [name for name, path in paths.items() if not _is_done(out, name, path, records.get(name, {}), config)]
    with tqdm(total=len(missing), desc="shapes", unit="shape", disable=not progress) as bar:
        for start in range(0, len(missing), _TOGETHER):
            group = {name: paths[name] for name in missing[start : start + _TOGETHER]}
            made, reasons = _fit_group(run, group, out, kind, config, bar=bar)
            records |= made
            failures |= reasons
            save_folder(out, {**document, "failed": failures}, FIT_FOLDER)
    save_folder(out, {**document, "failed": failures}, FIT_FOLDER)
    fitted = _assemble_run(run, out, records, provenance=provenance or {})
    asked = {name: records[name] for name in paths if name not in failures}
    return MeshFits(fitted, asked, failures, num_skipped=len(paths) - len(missing))


def _settings(run: Run, config: MeshFitConfig) -> dict[str, Any]:
    """Return what all shapes of one folder share; formats and kinds of input may differ from call to call."""
    options = {key: value for key, value in dataclasses.asdict(config).items() if key not in ("format", "kind")}
    return {"run": str(run.directory), "model": _hash_model(run), **options, **rule_of(run, config).to_dict()}


def _hash_model(run: Run) -> str:
    """Return a hash of the weights and codes of this run."""
    digest = hashlib.sha256()
    for tensor in (*run.decoder.state_dict().values(), run.latents):
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def _is_done(out: Path, name: str, path: Path, record: Mapping[str, Any], config: MeshFitConfig) -> bool:
    """Tell whether the files of a recorded shape are all there and its source has not changed since."""
    needed = {_code_path(name), *(_mesh_path(name, suffix) for suffix in config.format)}
    if record.get("kind") != config.kind or not needed <= record["files"].keys() or not is_whole(out, record):
        return False
    try:
        return observation_kind(config.kind).fingerprint(path, _shape_of(name, record)) == record["content_hash"]
    except (ValueError, OSError):
        return False  # Fitting it will say what is wrong.


def _code_path(name: str) -> str:
    """Return the file of a code in the folder, a safetensors file with one tensor, `latent`."""
    return f"codes/{name}.safetensors"


def _mesh_path(name: str, suffix: str) -> str:
    return f"meshes/{name}.{suffix}"


def _fit_group(
    run: Run, paths: Mapping[str, Path], out: Path, kind: ObservationKind, config: MeshFitConfig, *, bar: tqdm
) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """Fit a few files as one batch and write their results. Return the records and the reason of each failure."""
    observed: dict[str, Observation] = {}
    records: dict[str, dict[str, Any]] = {}
    failures: dict[str, str] = {}
    for name, path in paths.items():
        try:
            observed[name] = kind.read(run, name, path, config)
        except (ValueError, OSError) as error:
            failures[name] = str(error)
            bar.update()
    if not observed:
        return records, failures
    codes = fit_codes(run, list(observed.values()), config=config, progress=not bar.disable)
    for name, latent, loss, start in zip(observed, codes.latents, codes.losses, codes.starts, strict=True):
        try:
            record = _write_shape(run, name, observed[name], latent, out, config)
            records[name] = record | {"loss": loss, "start": start}
        except ValueError as error:
            failures[name] = str(error)
        bar.update()
    return records, failures


def _write_shape(
    run: Run, name: str, observed: Observation, latent: Tensor, out: Path, config: MeshFitConfig
) -> dict[str, Any]:
    """Extract, measure and write one fitted shape; return its record."""
    assert observed.shape is not None
    found = extract_shape(run, observed.shape, latent=latent, resolution=config.resolution)
    files = [_mesh_path(name, suffix) for suffix in config.format]
    for file in files:
        save_mesh(found.mesh, out / file)
    save_tensors(out / _code_path(name), {"latent": latent}, metadata={"shape": name})
    described = {key: value for key, value in observed.shape.to_dict().items() if key != "name"}
    summary = {key: value for key, value in found.to_dict().items() if key in ("pieces", "cavities", "removed")}
    record = {**described, "kind": config.kind, "notes": list(observed.notes), **summary}
    if observed.reference is not None:
        record |= _measure(found.mesh, observed.shape, observed.reference, resolution=config.resolution)
    return {**record, "files": file_sizes(out, [_code_path(name), *files])}


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
    codes = [load_tensors(out / _code_path(name), device=run.device)[0]["latent"] for name in records]
    fitted = with_fitted(run, shapes, torch.stack(codes) if codes else run.latents[:0])
    config = {**run.document.get("config", {}), "fit": {"run": str(run.directory), "shapes": list(records)}}
    document = {**run.document, **provenance, "config": config}
    fitted = dataclasses.replace(fitted, directory=out, document=document)
    save_model(out, decoder_state=run.decoder.state_dict(), latents=fitted.latents, step=run.step)
    save_document(out, fitted.document, fitted.shapes)
    return fitted
