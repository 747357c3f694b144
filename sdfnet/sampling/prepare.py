"""Prepare the sample store of a folder of meshes: in parallel, once for each mesh, and safe to kill at any point.

What is done is known by a key made of the mesh's content and the settings, so the same command again does just what is
missing, has changed or was damaged, and ends with the same bytes as if nothing had happened. Meshes that left the
folder leave the store; the rows of the others stay where they are.
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import get_args

import joblib
import numpy as np
from tqdm import tqdm

from sdfnet.files import ensure_folder
from sdfnet.geometry.checking import MeshReport
from sdfnet.geometry.loading import Normalize
from sdfnet.geometry.reading import find_meshes
from sdfnet.geometry.similarity import Similarity
from sdfnet.runs.selection import select_shapes
from sdfnet.sampling.clusters import WorkersConfig, open_cluster
from sdfnet.sampling.frame import leave_outline, save_outline, shared_similarity
from sdfnet.sampling.index import StoreIndex, save_index
from sdfnet.sampling.mixture import SamplerConfig
from sdfnet.sampling.parts import Job, leave_samples, read_part, write_unused_part
from sdfnet.sampling.plan import (
    digest_meshes,
    jobs_to_do,
    make_settings,
    only_one,
    open_index,
    plan_jobs,
    plan_outlines,
    remove_leftovers,
    remove_parts,
)
from sdfnet.sampling.shards import drop_shapes, place_parts, prune_shards, remove_unused_shards, with_refused
from sdfnet.sampling.store import SampleStore, find_damage
from sdfnet.sampling.workers import Work, run_jobs

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class PrepareReport:
    """What a preparation did.

    Attributes
    ----------
    store : SampleStore
        Open, and checked.
    names : tuple of str
        The shapes that were asked for and can be used, sorted; the store may hold more of the folder.
    reports : list of MeshReport
        One for each mesh that was asked for, refused ones included, sorted by name.
    num_done, num_skipped : int
        Shapes of `names` that were sampled now, and that were there already.
    bytes_on_disk : int
        Of the whole store.
    """

    store: SampleStore
    names: tuple[str, ...]
    reports: list[MeshReport]
    num_done: int
    num_skipped: int
    bytes_on_disk: int


@dataclass(frozen=True, eq=False)
class _Request:
    """The arguments of `prepare_samples`, checked."""

    meshes: Path
    directory: Path
    config: SamplerConfig
    normalize: Normalize
    thickness: float | None
    num_workers: int
    workers: WorkersConfig
    progress: bool


def prepare_samples(
    meshes: str | Path,
    directory: str | Path,
    *,
    config: SamplerConfig,
    normalize: Normalize = "each",
    thickness: float | None = None,
    shapes: str | Sequence[str] = "all",
    num_workers: int | None = None,
    workers: WorkersConfig | None = None,
    progress: bool = True,
) -> PrepareReport:
    """Sample every mesh of a folder into the store in `directory`, as far as that is not done yet.

    Parameters
    ----------
    thickness
        For sheets, world units: see `make_solid`.
    shapes
        Names or globs of those to prepare. What the store holds already stays in it.
    num_workers
        Processes; 1 works in this one, where a crash of native code would end the program. All cores by default.
    workers
        Processes of this machine by default, or a cluster.

    Raises
    ------
    ValueError
        No meshes, or none that can be used; unknown shapes; a store with other settings (the message says which);
        a disk that is full or cannot be written to. Interrupted or not, what is finished is kept.
    """
    if normalize not in get_args(Normalize):
        raise ValueError(f"normalize must be one of {', '.join(get_args(Normalize))}, got {normalize!r}")
    if num_workers is not None and num_workers < 1:
        raise ValueError(f"num_workers must be 1 or more, got {num_workers}")
    workers = workers or WorkersConfig()
    if num_workers is not None and workers.scheduler is not None:
        raise ValueError(f"num_workers={num_workers} is given, but the cluster at {workers.scheduler} has its workers")
    if thickness is not None and not (math.isfinite(thickness) and thickness > 0):
        raise ValueError(f"thickness must be positive and finite, got {thickness}")
    paths = find_meshes(meshes)
    wanted = select_shapes(list(paths), shapes)
    request = _Request(
        meshes=Path(meshes),
        directory=Path(directory),
        config=config,
        normalize=normalize,
        thickness=None if thickness is None else float(thickness),
        num_workers=num_workers or joblib.cpu_count(),
        workers=workers,
        progress=progress,
    )
    ensure_folder(directory)
    try:
        with only_one(request.directory):
            return _prepare(request, paths, wanted)
    except OSError as error:
        raise ValueError(
            f"cannot keep the samples in {directory}: {error.strerror or error}. What is finished is kept; make room "
            "or choose another place, and run the same command again."
        ) from error


def _prepare(request: _Request, paths: Mapping[str, Path], wanted: Sequence[str]) -> PrepareReport:
    directory = request.directory
    settings = make_settings(request.config, normalize=request.normalize, thickness=request.thickness)
    index = open_index(directory, settings, meshes=request.meshes)
    remove_leftovers(directory)
    held = {shape.name for shape in index.shapes} | {shape.name for shape in index.refused}
    relevant = {name: path for name, path in paths.items() if name in held or name in set(wanted)}
    similarity = None
    if request.normalize == "shared":
        index, similarity = _find_frame(request, index, paths)
    jobs = plan_jobs(directory, relevant, settings, meshes=request.meshes, similarity=similarity)
    damaged = _find_damage(request, index)
    todo = jobs_to_do(jobs, index, damaged)
    gone = held - relevant.keys()
    failed: dict[str, MeshReport] = {}
    if todo or gone or not index.complete:
        save_index(directory, replace(index, complete=False))
        _sample(request, todo)
        index, failed = _collect(request, index, todo, gone=gone)
    index = _finish(request, index)
    return _report(request, index, paths=paths, wanted=wanted, done={job.name for job in todo}, failed=failed)


def _find_frame(
    request: _Request, index: StoreIndex, paths: Mapping[str, Path]
) -> tuple[StoreIndex, Similarity | None]:
    """Return the index that knows the similarity of the whole folder, and that; measured only if a mesh has changed."""
    settings = index.settings
    outlines = plan_outlines(plan_jobs(request.directory, paths, settings, meshes=request.meshes, similarity=None))
    digest = digest_meshes(outlines)
    old = None if index.frame is None else Similarity.from_dict(index.frame["similarity"])
    if index.frame is not None and index.frame["meshes"] == digest:
        return index, old
    left = [job for job in outlines if not job.part.exists()]
    with tqdm(total=len(left), desc="measuring", unit="mesh", disable=not request.progress) as bar:
        _run(
            request,
            partial(leave_outline, thickness=request.thickness),
            left,
            on_crash=lambda job: save_outline(job, np.zeros((0, 4))),
            progress=bar.update,
        )
    similarity = shared_similarity(outlines)
    if similarity is None:
        return index, None
    if old is not None and old.to_dict() != similarity.to_dict() and index.shapes:
        _logger.warning(
            "the meshes in %s no longer fit the frame that they shared: all %d shapes are sampled again",
            request.meshes,
            len(index.shapes),
        )
    return replace(index, frame={"meshes": digest, "similarity": similarity.to_dict()}), similarity


def _find_damage(request: _Request, index: StoreIndex) -> dict[str, str]:
    total = len(index.shapes)
    with tqdm(total=total, desc="checking", unit="shape", delay=2, leave=False, disable=not request.progress) as bar:
        damaged = find_damage(request.directory, index, checksums=True, progress=bar.update)
    for name, fault in damaged.items():
        _logger.warning("%s: the samples of %s are prepared again", fault, name)
    return damaged


def _sample(request: _Request, todo: Sequence[Job]) -> None:
    """Leave the part of every job that an earlier, interrupted preparation did not finish."""
    finished = {job.name for job in todo if (part := read_part(job)) is not None and part.status != "failed"}
    left = [job for job in todo if job.name not in finished]
    for job in left:
        job.part.unlink(missing_ok=True)
    bar = tqdm(total=len(todo), initial=len(finished), desc="sampling", unit="shape", disable=not request.progress)
    with bar:
        _run(
            request,
            partial(leave_samples, config=request.config, thickness=request.thickness),
            left,
            on_crash=_report_crash,
            progress=bar.update,
        )


def _run(
    request: _Request,
    work: Work,
    jobs: Sequence[Job],
    *,
    on_crash: Callable[[Job], None],
    progress: Callable[[int], object],
) -> None:
    """Have the jobs done by whoever is asked for; nobody is asked where there are none."""
    if jobs:
        with open_cluster(request.workers, num_workers=request.num_workers) as cluster:
            run_jobs(work, jobs, num_workers=request.num_workers, on_crash=on_crash, progress=progress, cluster=cluster)


def _report_crash(job: Job) -> None:
    reason = (
        "the process that worked on it ended unexpectedly (native code crashed, or memory ran out); "
        "mend the mesh or take it out"
    )
    write_unused_part(job, MeshReport(job.name, str(job.path), "refused", reason=reason), status="failed")


def _collect(
    request: _Request, index: StoreIndex, todo: Sequence[Job], *, gone: set[str]
) -> tuple[StoreIndex, dict[str, MeshReport]]:
    """Bring the finished parts into the store; return its index, and the reports on those that failed."""
    parts = {job.name: part for job in todo if (part := read_part(job)) is not None}
    num_used = sum(part.status == "used" for part in parts.values())
    with tqdm(total=num_used, desc="writing", unit="shape", delay=2, leave=False, disable=not request.progress) as bar:
        index = place_parts(request.directory, index, todo, progress=bar.update)
    index = with_refused(drop_shapes(index, gone), todo)
    return index, {name: part.report for name, part in parts.items() if part.status == "failed"}


def _finish(request: _Request, index: StoreIndex) -> StoreIndex:
    """Declare the store complete, then remove what it no longer needs."""
    index = replace(prune_shards(index), complete=True, meshes=os.path.abspath(request.meshes))
    save_index(request.directory, index)
    remove_unused_shards(request.directory, index)
    remove_parts(request.directory)
    return index


def _report(
    request: _Request,
    index: StoreIndex,
    *,
    paths: Mapping[str, Path],
    wanted: Sequence[str],
    done: set[str],
    failed: Mapping[str, MeshReport],
) -> PrepareReport:
    documents = {shape.name: shape.report for shape in index.shapes}
    documents |= {shape.name: shape.report for shape in index.refused}
    found = {name: MeshReport.from_dict(document) for name, document in documents.items()} | dict(failed)
    reports = [replace(found[name], path=str(paths[name])) for name in sorted(wanted)]
    usable = {shape.name for shape in index.shapes}
    names = tuple(name for name in sorted(wanted) if name in usable)
    if not names:
        first = "; ".join(f"{report.name}: {report.reason}" for report in reports[:3])
        raise ValueError(f"none of the {len(reports)} meshes of {request.meshes} can be used: {first}")
    store = SampleStore(request.directory, verify=False)
    num_done = sum(name in done for name in names)
    return PrepareReport(store, names, reports, num_done, len(names) - num_done, store.bytes_on_disk)
