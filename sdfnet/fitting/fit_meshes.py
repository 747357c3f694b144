"""Mesh files fitted by their codes: read, sample, fit, extract, measure beside the source, write; safe to kill.

`fit_folder` says what comes of it. The same call again does what is missing or has changed.

The folder of a fit: `fit.json` with the record of every shape, codes in files of their own, and the run of all.

A shape stands in the record only after all its files are whole on disk. The run (the decoder, the learned shapes and
the fitted ones) is what every other command reads.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from sdfnet.evaluation.closest_points import Surface, match_surfaces
from sdfnet.evaluation.extraction_error import extract_floor
from sdfnet.evaluation.metrics import distances_of
from sdfnet.evaluation.report import source_surface
from sdfnet.extraction.extract import extract_mesh
from sdfnet.fields import NeuralField
from sdfnet.files import ensure_folder, write_json
from sdfnet.fitting.fit import FitConfig, fit_codes, with_fitted
from sdfnet.geometry.bounds import LATTICE_MARGIN, check_resolution
from sdfnet.geometry.similarity import Similarity
from sdfnet.mesh.components import drop_loose_pieces, split_pieces
from sdfnet.mesh.io.read import MeshError
from sdfnet.mesh.io.write import save_mesh
from sdfnet.mesh.mesh import Mesh
from sdfnet.runs import Run, RunShape, load_tensors, save_document, save_model, save_tensors
from sdfnet.sampling import SamplerConfig, sample_shape
from sdfnet.solids.source_shape import SourceShape, folder_similarities, hash_content, load_shape

FIT_FILE = "fit.json"
_FORMAT = 1


def open_records(out: Path, settings: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the records by name that `out` holds already; none if there is no fit yet.

    Raises
    ------
    ValueError
        A fit with other settings (the message says which), or a damaged file.
    """
    path = out / FIT_FILE
    if not path.exists():
        return {}
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        earlier, records = dict(document["settings"]), dict(document["shapes"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is damaged ({error!r}). Remove it or choose another out.") from error
    settings = json.loads(json.dumps(settings))  # as it will be read back: lists for tuples
    keys = [key for key in dict.fromkeys([*earlier, *settings]) if earlier.get(key) != settings.get(key)]
    if keys:
        differences = "; ".join(f"{key} was {earlier.get(key)}, now {settings.get(key)}" for key in keys)
        raise ValueError(f"{out} holds another fit: {differences}. Choose another out, or repeat its own options")
    return records


def save_records(
    out: Path, settings: Mapping[str, Any], records: Mapping[str, Any], failures: Mapping[str, str]
) -> None:
    """Write `fit.json`, whole."""
    document = {"format": _FORMAT, "settings": settings, "shapes": records, "failed": failures}
    write_json(out / FIT_FILE, document)


def is_done(out: Path, name: str, path: Path, record: Mapping[str, Any], formats: Sequence[str]) -> bool:
    """Tell whether the files of a recorded shape are all there and its source has not changed since."""
    files = [code_path(out, name), *(mesh_path(out, name, suffix) for suffix in formats)]
    try:
        unchanged = record["content_hash"] == hash_content(path, thickness=record["thickness"])
    except MeshError:
        return False  # and fitting it will say what is wrong
    return unchanged and all(file.is_file() for file in files)


def save_code(out: Path, name: str, latent: Tensor) -> None:
    """Write the code of a shape, (L,)."""
    save_tensors(code_path(out, name), {"latent": latent}, metadata={"shape": name})


def code_path(out: Path, name: str) -> Path:
    """Return the file of a code, a safetensors file with one tensor, `latent`."""
    return out / "codes" / f"{name}.safetensors"


def mesh_path(out: Path, name: str, suffix: str) -> Path:
    return out / "meshes" / f"{name}.{suffix}"


def hash_model(run: Run) -> str:
    """Return what tells this run's weights and codes from those of others."""
    digest = hashlib.sha256()
    for tensor in (*run.decoder.state_dict().values(), run.latents):
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def assemble_run(
    run: Run, out: Path, records: Mapping[str, Mapping[str, Any]], *, provenance: Mapping[str, Any]
) -> Run:
    """Make `out` a run of the learned and all recorded shapes, and return it."""
    shapes = [
        RunShape(
            name,
            Similarity.from_dict(record["similarity"]),
            record["source"],
            record["content_hash"],
            record["closed"],
            record["thickness"],
            record.get("num_surfaces"),
        )
        for name, record in records.items()
    ]
    codes = [load_tensors(code_path(out, name), device=run.latents.device)[0]["latent"] for name in records]
    fitted = with_fitted(run, shapes, torch.stack(codes) if codes else run.latents[:0])
    config = {**run.document.get("config", {}), "fit": {"run": str(run.directory), "shapes": list(records)}}
    fitted = Run(
        out, {**run.document, **provenance, "config": config}, run.decoder, fitted.latents, fitted.shapes, run.step
    )
    save_model(out, decoder_state=run.decoder.state_dict(), latents=fitted.latents, step=run.step)
    save_document(out, fitted.document, fitted.shapes)
    return fitted


_TOGETHER = 8
"""Meshes that are fitted in one go; a kill loses at most the work on so many."""

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class MeshFitConfig(FitConfig):
    """How meshes are sampled, fitted, extracted and measured.

    Attributes
    ----------
    num_samples : int
        Points with signed distances drawn from each mesh, spread as those that the run was trained on.
    thickness : float or None
        Sheets without an inside are taken as walls this thick, in the meshes' own units; None takes the run's.
    resolution : int
        Samples along each axis of the lattice on [-1.05, 1.05]³ of the unit frame, at least 8.
    format : list
        One or more of obj, ply, stl, glb.
    """

    num_samples: int = 100_000
    thickness: float | None = None
    resolution: int = 128
    format: tuple[Literal["obj", "ply", "stl", "glb"], ...] = ("obj",)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_resolution(self.resolution, least=8)
        if self.num_samples < 1:
            raise ValueError(f"num_samples must be at least 1, got {self.num_samples}")
        if self.thickness is not None and not 0 < self.thickness < math.inf:
            raise ValueError(f"thickness must be above 0 or null, got {self.thickness}")
        if not self.format:
            raise ValueError("format must name at least one of obj, ply, stl, glb, got an empty list")


@dataclass(frozen=True, eq=False)
class MeshFits:
    """What `fit_meshes` did.

    Attributes
    ----------
    run : Run
        The learned shapes and the fitted ones, as it is on disk; a learned one of a fitted one's name is left out.
    records : dict
        What `fit.json` says of each shape that was asked for and could be fitted.
    failures : dict
        Why the others could not.
    num_skipped : int
        Shapes of `records` that were there already.
    """

    run: Run
    records: dict[str, dict[str, Any]]
    failures: dict[str, str]
    num_skipped: int


@dataclass(frozen=True, eq=False)
class _Observed:
    """A mesh file, read and sampled: (N, 4) float32, unit frame."""

    source: SourceShape
    similarity: Similarity
    samples: NDArray[np.float32]


def fit_meshes(
    run: Run,
    paths: Mapping[str, Path],
    out: str | Path,
    *,
    config: MeshFitConfig | None = None,
    provenance: Mapping[str, Any] | None = None,
    progress: bool = False,
) -> MeshFits:
    """Fit the code of each mesh file of `paths` (name to file), and write codes, meshes, record and run into `out`.

    Each mesh gets the similarity that training would give it: its own, or, where the run's shapes share one, that. A
    mesh that cannot be used stops no other. What `out` holds of the same fit is kept, other shapes of it included.

    Raises
    ------
    ValueError
        `out` holds a fit with another run or other options, something damaged, or is the run itself.
    """
    config = config or MeshFitConfig()
    out = ensure_folder(out)
    if out.resolve() == run.directory.resolve():
        raise ValueError(f"out={out} is the run itself; choose a folder of its own, such as {out / 'fit'}")
    settings = _settings(run, config)
    records = open_records(out, settings)
    failures: dict[str, str] = {}
    done = {
        name
        for name, path in paths.items()
        if name in records and is_done(out, name, path, records[name], config.format)
    }
    missing = [name for name in paths if name not in done]
    with tqdm(total=len(missing), desc="shapes", unit="shape", disable=not progress) as bar:
        for start in range(0, len(missing), _TOGETHER):
            group = {name: paths[name] for name in missing[start : start + _TOGETHER]}
            made, reasons = _fit_group(run, group, out, config, bar=bar)
            records |= made
            failures |= reasons
            save_records(out, settings, records, failures)
    save_records(out, settings, records, failures)
    fitted = assemble_run(run, out, records, provenance=provenance or {})
    return MeshFits(fitted, {name: records[name] for name in paths if name not in failures}, failures, len(done))


def _settings(run: Run, config: MeshFitConfig) -> dict[str, Any]:
    """Return what all shapes of one folder share; the formats may differ from call to call."""
    options = {key: value for key, value in dataclasses.asdict(config).items() if key != "format"}
    return {"run": str(run.directory), "model": hash_model(run), **options, "thickness": _thickness(run, config)}


def _thickness(run: Run, config: MeshFitConfig) -> float | None:
    known = (shape.thickness for shape in run.shapes if shape.thickness is not None)
    return config.thickness if config.thickness is not None else next(known, None)


def _fit_group(
    run: Run, paths: Mapping[str, Path], out: Path, config: MeshFitConfig, *, bar: tqdm
) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """Fit a few meshes at once and write their files; return records and reasons of failure."""
    observed: dict[str, _Observed] = {}
    records: dict[str, dict[str, Any]] = {}
    failures: dict[str, str] = {}
    for name, path in paths.items():
        try:
            observed[name] = _observe(run, name, path, config)
        except (ValueError, OSError) as error:
            failures[name] = str(error)
            bar.update()
    if not observed:
        return records, failures
    options = FitConfig(**{field.name: getattr(config, field.name) for field in dataclasses.fields(FitConfig)})
    codes = fit_codes(run, [each.samples for each in observed.values()], config=options, progress=not bar.disable)
    for (name, each), latent, loss, start in zip(
        observed.items(), codes.latents, codes.losses, codes.starts, strict=True
    ):
        try:
            records[name] = _write_shape(run, name, each, latent, out, config) | {"loss": loss, "start": start}
        except ValueError as error:
            failures[name] = str(error)
        bar.update()
    return records, failures


def _observe(run: Run, name: str, path: Path, config: MeshFitConfig) -> _Observed:
    """Read and sample a mesh file as training would."""
    source = load_shape(path, name=name, thickness=_thickness(run, config))
    similarity = _similarity(run, source)
    options: dict[str, Any] = run.document.get("config", {}).get("sampler", {})
    wanted = {"num_samples": config.num_samples, "num_surface": 0, "num_heldout": 0, "seed": config.seed}
    return _Observed(source, similarity, sample_shape(source, similarity, SamplerConfig(**{**options, **wanted})).sdf)


def _similarity(run: Run, source: SourceShape) -> Similarity:
    """Return the map to the unit frame: the mesh's own, or that which all shapes of the run share."""
    if run.document.get("config", {}).get("normalize") != "shared":
        return folder_similarities([source])[0]
    similarity = run.shapes[0].similarity
    reach = float(np.abs(similarity.to_unit(source.mesh.vertices)).max())
    if reach > 1 + LATTICE_MARGIN:
        raise ValueError(
            f"it reaches to {reach:.3g} in the unit frame that the run's shapes share, which ends at "
            f"{1 + LATTICE_MARGIN:g}. Is it in the same units and place as the meshes of the training?"
        )
    return similarity


def _write_shape(
    run: Run, name: str, observed: _Observed, latent: Tensor, out: Path, config: MeshFitConfig
) -> dict[str, Any]:
    """Extract, measure and write one fitted shape; return its record."""
    source, similarity = observed.source, observed.similarity
    field = NeuralField(run.decoder, latent)
    device = run.latents.device
    mesh = extract_mesh(field, resolution=config.resolution, similarity=similarity, device=device)
    surface = source_surface(source, similarity)
    # A code far from the learned ones may leave blobs in empty space, where hardly a sample sees them.
    known = split_pieces(surface.mesh)
    clean = drop_loose_pieces(mesh, num_pieces=known.num_pieces, num_cavities=known.num_cavities)
    for suffix in config.format:
        save_mesh(clean.mesh, mesh_path(out, name, suffix))
    save_code(out, name, latent)
    world = surface.radius / similarity.scale / 100
    distance = _distance(clean.mesh.to_unit(similarity), surface, name)
    return {
        "source": str(source.path.resolve()),
        "content_hash": source.content_hash,
        "closed": source.closed,
        "thickness": source.thickness,
        "num_surfaces": known.num_pieces + known.num_cavities,
        "similarity": similarity.to_dict(),
        "notes": list(source.report.notes),
        "pieces": clean.num_pieces,
        "cavities": clean.num_cavities,
        "removed": [dataclasses.asdict(piece) for piece in clean.removed],
        "percent": distance,
        "floor_percent": _distance(extract_floor(surface, resolution=config.resolution), surface, name),
        "world": {key: value * world for key, value in distance.items()},
        "radius_world": 100 * world,
    }


def _distance(mesh: Mesh, surface: Surface, name: str) -> dict[str, float]:
    """Return the surface distance in percent of the source's radius; its samples depend on the name alone."""
    generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
    return dataclasses.asdict(distances_of(match_surfaces(Surface.of(mesh), surface, generator=generator)))
