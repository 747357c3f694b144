"""Decide what has to be prepared: compare the folder of meshes and the settings with what a store holds."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from sdfnet.geometry.loading import hash_content
from sdfnet.geometry.reading import MeshError
from sdfnet.geometry.similarity import Similarity
from sdfnet.sampling.index import FORMAT, INDEX_FILE, StoreIndex, load_index, save_index
from sdfnet.sampling.mixture import SamplerConfig
from sdfnet.sampling.parts import Job

_LOCK_FILE = ".lock"
_PARTS_FOLDER = ".parts"

_logger = logging.getLogger(__name__)


def make_settings(config: SamplerConfig, *, normalize: str, thickness: float | None) -> dict[str, Any]:
    """Return what all shapes of a store share, as JSON."""
    return {"sampler": config.to_dict(), "normalize": normalize, "thickness": thickness}


def open_index(directory: Path, settings: dict[str, Any], *, meshes: Path) -> StoreIndex:
    """Return the index of the store in `directory`, a fresh and saved one if there is none yet.

    Raises
    ------
    ValueError
        There is a store with other settings (the message names the differences), of another version, or damaged.
    """
    if not (directory / INDEX_FILE).exists():
        index = StoreIndex(settings, os.path.abspath(meshes))
        save_index(directory, index)
        return index
    index = load_index(directory)
    differences = [
        f"{key} is {json.dumps(old)} there and {json.dumps(new)} now"
        for key, old, new in _compare(_flat(index.settings), _flat(settings))
    ]
    if differences:
        raise ValueError(
            f"the samples in {directory} were prepared with other settings: {'; '.join(differences)}. "
            "Give another samples=DIR, or the old settings."
        )
    return index


def plan_jobs(
    directory: Path,
    paths: Mapping[str, Path],
    settings: dict[str, Any],
    *,
    meshes: Path,
    similarity: Similarity | None,
) -> list[Job]:
    """Return one job for each of `paths` (name to mesh file), sorted by name, whether or not it is done already."""
    frame = None if similarity is None else similarity.to_dict()
    jobs = []
    for name in sorted(paths):
        path = paths[name]
        content_hash = _hash(path, thickness=settings["thickness"])
        key = _digest([FORMAT, content_hash, path.suffix.lower(), settings, frame])
        part = parts_folder(directory) / f"{_digest([key, name])}.part"
        source = path.relative_to(meshes).as_posix()
        jobs.append(Job(name, source, content_hash, key, path, part, similarity))
    return jobs


def plan_outlines(jobs: Sequence[Job]) -> list[Job]:
    """Return for each job one for `leave_outline`, which does not depend on how the shape is sampled."""
    return [replace(job, part=job.part.with_name(f"{_digest([job.content_hash, job.name])}.npy")) for job in jobs]


def digest_meshes(jobs: Sequence[Job]) -> str:
    """Return what changes when the meshes of a folder do, by names and contents."""
    return _digest([[job.source, job.content_hash] for job in jobs])


def jobs_to_do(jobs: Sequence[Job], index: StoreIndex, damaged: Mapping[str, str]) -> list[Job]:
    """Return the jobs whose shape is not in the store as it should be, nor known to be unusable as it is."""
    stored = {shape.name: shape.key for shape in index.shapes if shape.name not in damaged}
    refused = {shape.name: shape.key for shape in index.refused}
    return [job for job in jobs if job.key not in (stored.get(job.name), refused.get(job.name))]


def parts_folder(directory: Path) -> Path:
    """Return the folder of unplaced parts, which is there only during a preparation."""
    return directory / _PARTS_FOLDER


def remove_leftovers(directory: Path) -> None:
    """Remove half-written files that a killed preparation left."""
    for folder in (directory, parts_folder(directory)):
        for path in folder.glob(".*.partial.*"):
            path.unlink(missing_ok=True)


def remove_parts(directory: Path) -> None:
    """Remove the folder of parts and everything of ours in it."""
    remove_leftovers(directory)
    folder = parts_folder(directory)
    for pattern in ("*.part", "*.npy", "*.started"):
        for path in folder.glob(pattern):
            path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        folder.rmdir()


@contextlib.contextmanager
def only_one(directory: Path) -> Iterator[None]:
    """Keep a second preparation of the same store waiting until this one ends. A killed one does not block.

    Where the system has no such locks (Windows, some network file systems) nothing is kept waiting.
    """
    try:
        import fcntl
    except ImportError:
        yield
        return
    with open(directory / _LOCK_FILE, "a") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _logger.warning("another process is preparing %s: waiting for it", directory)
            fcntl.flock(handle, fcntl.LOCK_EX)
        except OSError as error:
            _logger.debug("no lock on %s: %s", directory, error)
        yield


def _hash(path: Path, *, thickness: float | None) -> str:
    """Return the hash of a mesh file's content; a file that cannot be read gets one too, and is refused later."""
    try:
        return hash_content(path, thickness=thickness)
    except MeshError:
        return "unreadable"


def _digest(document: Any) -> str:
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode("utf-8")).hexdigest()[:32]


def _flat(settings: dict[str, Any]) -> dict[str, Any]:
    sampler = {f"sampler.{key}": value for key, value in settings["sampler"].items()}
    return sampler | {key: value for key, value in settings.items() if key != "sampler"}


def _compare(old: dict[str, Any], new: dict[str, Any]) -> list[tuple[str, Any, Any]]:
    keys = sorted(old.keys() | new.keys())
    return [(key, old.get(key), new.get(key)) for key in keys if old.get(key) != new.get(key)]
