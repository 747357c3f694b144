"""The folder of a fit: `fit.json` with the record of every shape, codes in files of their own, and the run of all.

A shape stands in the record only after all its files are whole on disk. The run (the decoder, the learned shapes and
the fitted ones) is what every other command reads.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sdfnet.files import write_json
from sdfnet.geometry.loading import hash_content
from sdfnet.geometry.reading import MeshError
from sdfnet.geometry.similarity import Similarity
from sdfnet.latents.fitting import with_fitted
from sdfnet.runs import Run, RunShape, load_tensors, save_document, save_model, save_tensors

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
