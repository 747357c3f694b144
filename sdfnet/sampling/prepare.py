"""Prepare the sample store of a folder of meshes in parallel. The preparation may be killed at any point.

Each shape has a key made of its mesh's content and the settings. So a repeated command prepares only the shapes that
are missing, changed or damaged. The final store has the same bytes as that of an uninterrupted command. If a mesh is
removed from the folder, its shape is removed from the store. The rows of the other shapes do not move.

`prepare_samples` comes first, followed by its three steps. Plan: compare the folder and the settings with the store.
Sample: workers write a part for each shape (`jobs`). Place: put the parts into shards, sorted by name, and write the
index.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import shutil
import zlib
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from operator import attrgetter
from pathlib import Path
from typing import Any, get_args

import filelock
import joblib
import numpy as np
from tqdm import tqdm

from sdfnet.files import atomic_path, ensure_folder, remove_partial_files, write_json
from sdfnet.geometry.bounds import LATTICE_MARGIN
from sdfnet.geometry.similarity import Similarity
from sdfnet.mesh.io.read import MeshError, select_shapes
from sdfnet.runs.folder import setting_differences
from sdfnet.sampling import jobs, store
from sdfnet.sampling.jobs import Job, Part, Work, WorkersConfig
from sdfnet.sampling.shape_samples import SamplerConfig
from sdfnet.sampling.store import FORMAT, INDEX_FILE, SampleStore, StoredShape, StoreIndex
from sdfnet.solids.limits import LIMITS, MeshLimits
from sdfnet.solids.rule import AUTO, READING_VERSION, SolidRule
from sdfnet.solids.source_shape import PROCESS_ENDED, MeshReport, Normalize, find_sources, hash_content

logger = logging.getLogger(__name__)

SHARD_BYTES = 512 * 2**20
"""The largest size of a shard, approximately."""

_SMALLEST = 2 * (1 + LATTICE_MARGIN) / 127
"""The spacing of a lattice of 128 around the unit sphere. A smaller shape may fall between the samples of the
lattice."""
_LOCK_FILE = ".lock"
_PARTS_FOLDER = ".parts"


@dataclass(frozen=True, eq=False)
class PrepareReport:
    """The result of a preparation.

    >>> config = SamplerConfig(num_samples=100, num_surface=10, num_heldout=0)
    >>> report = prepare_samples("chairs", "one_chair", config=config, shapes="chair_00", num_workers=1, progress=False)
    >>> report.names, report.num_done + report.num_skipped
    (('chair_00',), 1)
    """

    store: SampleStore
    """The store, already open and checked."""
    names: tuple[str, ...]
    """The requested shapes that can be used, sorted. The store may hold more shapes of the folder."""
    reports: list[MeshReport]
    """One report for each requested mesh, sorted by name."""
    num_done: int
    num_skipped: int
    """Numbers of shapes of `names` that were sampled now (`num_done`), and that the store had before."""
    bytes_on_disk: int
    """Size of the whole store."""


@dataclass(frozen=True, eq=False)
class _Request:
    """The checked arguments of `prepare_samples`: `paths` holds all meshes, `wanted` the requested ones."""

    meshes: Path
    paths: Mapping[str, Path]
    wanted: Sequence[str]
    directory: Path
    config: SamplerConfig
    normalize: Normalize
    rule: SolidRule
    limits: MeshLimits
    num_workers: int
    workers: WorkersConfig
    progress: bool

    def bar(self, total: int, what: str, **options: Any) -> tqdm:
        return tqdm(total=total, desc=what, disable=not self.progress, **{"unit": "shape", **options})


def prepare_samples(
    meshes: str | Path,
    directory: str | Path,
    *,
    config: SamplerConfig,
    normalize: Normalize = "each",
    rule: SolidRule = AUTO,
    limits: MeshLimits = LIMITS,
    shapes: str | Sequence[str] = "all",
    num_workers: int | None = None,
    workers: WorkersConfig | None = None,
    progress: bool = True,
) -> PrepareReport:
    """Sample every mesh of a folder into the store in `directory`. Finished shapes are not sampled again.

    Parameters
    ----------
    rule
        What the inside of a mesh is: see `make_solid`.
    limits
        The time and memory that the reading of one mesh may take. Beyond them the mesh is refused, and tried again by
        the next call.
    shapes
        Names or globs of the shapes to prepare. The store keeps its other shapes.
    num_workers
        Number of processes, by default one for each core. With 1, this process does the work, and a crash of native
        code ends the program.
    workers
        Processes of this machine by default, or a cluster.

    Raises
    ------
    ValueError
        No mesh exists or can be used; a shape is unknown; the store has other settings (the message says which); the
        disk is full or cannot be written to. Finished shapes are kept even after an interruption.

    >>> config = SamplerConfig(num_samples=1000, num_surface=100, num_heldout=100)
    >>> done = prepare_samples("chairs", "samples", config=config, shapes="chair_0[01]", num_workers=1, progress=False)
    >>> done.names, done.store.num_samples
    (('chair_00', 'chair_01'), 1000)
    """
    if normalize not in get_args(Normalize):
        raise ValueError(f"normalize must be one of {', '.join(get_args(Normalize))}, got {normalize!r}")
    if num_workers is not None and num_workers < 1:
        raise ValueError(f"num_workers must be 1 or more, got {num_workers}")
    workers = workers or WorkersConfig()
    if num_workers is not None and workers.scheduler is not None:
        raise ValueError(f"num_workers={num_workers} is given, but the cluster at {workers.scheduler} has its workers")
    paths = find_sources(meshes)
    request = _Request(
        meshes=Path(meshes),
        paths=paths,
        wanted=sorted(select_shapes(list(paths), shapes)),
        directory=ensure_folder(directory),
        config=config,
        normalize=normalize,
        rule=rule,
        limits=limits,
        num_workers=num_workers or joblib.cpu_count(),
        workers=workers,
        progress=progress,
    )
    try:
        with _only_one(request.directory):
            return _prepare(request)
    except OSError as error:
        raise ValueError(
            f"cannot keep the samples in {directory}: {error.strerror or error}. What is finished is kept; the same "
            "command goes on."
        ) from error


def _prepare(request: _Request) -> PrepareReport:
    """Plan, sample and place. Then open the complete store."""
    directory = request.directory
    index = _open_index(request)
    request = replace(request, rule=index.rule)
    for folder in (directory, directory / _PARTS_FOLDER):
        remove_partial_files(folder)
    similarity = None
    if request.normalize == "shared":
        index, similarity = _find_frame(request, index)
    damaged = _find_damage(request, index)
    keys = {shape.name: shape.key for shape in index.refused} | {shape.name: shape.key for shape in index.shapes}
    planned = _plan_jobs(request, keys.keys() | set(request.wanted), index, similarity)
    planned = [replace(job, stored=None) if job.name in damaged else job for job in planned]
    todo = [job for job in planned if job.name in damaged or job.key != keys.get(job.name)]
    gone = keys.keys() - request.paths.keys()
    parts: dict[str, Part] = {}
    if todo or gone or not index.complete:
        save_index(directory, replace(index, complete=False))
        _sample(request, todo)
        parts = {job.name: jobs.read_part(job) for job in todo}
        index = _place_parts(request, index, parts, gone)
    return _report(request, _finish(request, index), parts)


def _finish(request: _Request, index: StoreIndex) -> StoreIndex:
    """Declare the store complete, then remove the files that it no longer needs."""
    used = {shape.shard for shape in index.shapes}
    shards = tuple(rows if shard in used else 0 for shard, rows in enumerate(index.shards))
    index = replace(index, shards=shards, complete=True, meshes=os.path.abspath(request.meshes))
    save_index(request.directory, index)
    for shard, num_rows in enumerate(index.shards):
        if num_rows == 0:
            store.shard_path(request.directory, shard).unlink(missing_ok=True)
    shutil.rmtree(request.directory / _PARTS_FOLDER, ignore_errors=True)
    return index


def _report(request: _Request, index: StoreIndex, parts: Mapping[str, Part]) -> PrepareReport:
    usable = {shape.name: shape.report for shape in index.shapes}
    found = usable | {shape.name: shape.report for shape in index.refused}
    found |= {name: part.report for name, part in parts.items() if part.status == "failed"}
    reports = [replace(MeshReport.from_dict(found[name]), path=str(request.paths[name])) for name in request.wanted]
    names = tuple(name for name in request.wanted if name in usable)
    if not names:
        first = "; ".join(f"{report.name}: {report.reason}" for report in reports[:3])
        raise ValueError(f"none of the {len(reports)} meshes of {request.meshes} can be used: {first}")
    if request.normalize == "shared" and index.frame is not None:
        scale = Similarity.from_dict(index.frame["similarity"]).scale
        small = [each.name for each in reports if each.extent is not None and max(each.extent) * scale < _SMALLEST]
        if small:
            logger.warning(
                "smaller than a cell of a lattice of 128 in the frame that all share: %s. Are their units the same?",
                ", ".join(small[:5]) + (f" and {len(small) - 5} more" if len(small) > 5 else ""),
            )
    opened = SampleStore(request.directory, verify=False)
    num_done = sum(name in parts and parts[name].status != "same" for name in names)
    return PrepareReport(opened, names, reports, num_done, len(names) - num_done, opened.bytes_on_disk)


# Plan: compare the folder of meshes and the settings with the store.


def _open_index(request: _Request) -> StoreIndex:
    """Return the index of the store. Save a new index if none exists. Refuse an index with other settings."""
    directory = request.directory
    sampler = request.config.to_dict()
    settings = {"sampler": sampler, "normalize": request.normalize, **request.rule.to_dict()}
    if not (directory / INDEX_FILE).exists():
        index = StoreIndex(settings, os.path.abspath(request.meshes))
        save_index(directory, index)
        return index
    index = store.load_index(directory)
    if "solid" not in index.settings and request.rule.repeats(index.rule):
        logger.info("the samples in %s come from an earlier version: %s stays", directory, index.rule)
        settings |= index.rule.to_dict()
    differences = setting_differences({**index.settings, **index.rule.to_dict()}, settings)
    if differences:
        raise ValueError(
            f"the samples in {directory} were prepared with other settings: {'; '.join(differences)}. "
            "Give another samples=DIR, or the old settings."
        )
    return index


def _plan_jobs(
    request: _Request, names: Collection[str], index: StoreIndex, similarity: Similarity | None
) -> list[Job]:
    """Return one job for each mesh of the folder that is in `names`, sorted by name. Finished jobs are included."""
    frame = None if similarity is None else similarity.to_dict()
    known = {shape.name: shape for shape in index.shapes if shape.reading != READING_VERSION}
    planned = []
    for name, path in sorted(request.paths.items()):
        if name not in names:
            continue
        try:
            content_hash = hash_content(path, rule=request.rule)
        except MeshError:
            content_hash = "unreadable"  # It is refused later, with the reason.
        decisive = [FORMAT, content_hash, path.suffix.lower(), index.settings, frame]
        key = _key(decisive, READING_VERSION)
        part = request.directory / _PARTS_FOLDER / f"{_digest([key, name])}.part"
        source = path.relative_to(request.meshes).as_posix()
        same = name in known and known[name].key == _key(decisive, known[name].reading)
        stored = (known[name].solid_hash, known[name].report) if same else None
        planned.append(Job(name, source, content_hash, key, path, part, similarity, stored))
    return planned


def _key(decisive: list[Any], reading: int) -> str:
    """Return the key of a shape that this version of reading inspected; the first version did not put its number in."""
    return _digest(decisive if reading == 1 else [*decisive, reading])


def _find_damage(request: _Request, index: StoreIndex) -> dict[str, str]:
    with request.bar(len(index.shapes), "checking", delay=2, leave=False) as bar:
        damaged = store.find_damage(request.directory, index, checksums=True, progress=bar.update)
    for name, fault in damaged.items():
        logger.warning("%s: the samples of %s are prepared again", fault, name)
    return damaged


def _find_frame(request: _Request, index: StoreIndex) -> tuple[StoreIndex, Similarity | None]:
    """Return the index with the folder's shared similarity, and this similarity. Measure only if a mesh has changed."""
    planned = _plan_jobs(request, request.paths, index, None)
    # An outline does not depend on how the shape is sampled.
    outlines = [
        replace(job, part=job.part.with_name(f"{_digest([job.content_hash, job.name])}.npy")) for job in planned
    ]
    digest = _digest([READING_VERSION, *([job.source, job.content_hash] for job in planned)])
    old = None if index.frame is None else Similarity.from_dict(index.frame["similarity"])
    if index.frame is not None and index.frame["meshes"] == digest:
        return index, old
    left = [job for job in outlines if not job.part.exists()]
    with request.bar(len(left), "measuring", unit="mesh") as bar:
        work = partial(jobs.leave_outline, rule=request.rule, limits=request.limits)
        _run(request, work, left, on_crash=lambda job: jobs.save_outline(job, np.zeros((0, 3))), progress=bar.update)
    similarity = jobs.shared_similarity(outlines)
    if similarity is None:
        return index, None
    if old is not None and old.to_dict() != similarity.to_dict() and index.shapes:
        logger.warning(
            "the meshes in %s no longer fit the frame that they shared: all %d shapes are sampled again",
            request.meshes,
            len(index.shapes),
        )
    return replace(index, frame={"meshes": digest, "similarity": similarity.to_dict()}), similarity


@contextlib.contextmanager
def _only_one(directory: Path) -> Iterator[None]:
    """Let a second preparation of the same store wait until this one ends. A killed preparation does not block.

    Where the file system has no such locks, as some network file systems, nothing waits.
    """
    lock = filelock.FileLock(directory / _LOCK_FILE, fallback_to_soft=False)
    try:
        try:
            lock.acquire(blocking=False)
        except filelock.Timeout:
            logger.warning("another process is preparing %s: waiting for it", directory)
            lock.acquire()
    except (OSError, NotImplementedError) as error:
        logger.debug("no lock on %s: %s", directory, error)
    try:
        yield
    finally:
        lock.release()


def _digest(document: Any) -> str:
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode("utf-8")).hexdigest()[:32]


# Sample: workers leave a part for each job.


def _sample(request: _Request, todo: Sequence[Job]) -> None:
    """Write the part of every job that an earlier, interrupted preparation did not finish."""
    left = [job for job in todo if jobs.read_part(job).status == "failed"]
    for job in left:
        job.part.unlink(missing_ok=True)
    with request.bar(len(todo), "sampling", initial=len(todo) - len(left)) as bar:
        work = partial(jobs.leave_samples, config=request.config, rule=request.rule, limits=request.limits)
        _run(request, work, left, on_crash=_report_crash, progress=bar.update)


def _run(request: _Request, work: Work, todo: Sequence[Job], **hooks: Callable[..., Any]) -> None:
    """Do the jobs here or in the cluster, with the `hooks` of `run_jobs`. Without jobs, no cluster is contacted."""
    if todo:
        with jobs.open_cluster(request.workers, num_workers=request.num_workers) as cluster:
            jobs.run_jobs(work, todo, num_workers=request.num_workers, cluster=cluster, **hooks)


def _report_crash(job: Job) -> None:
    report = MeshReport(job.name, str(job.path), "refused", reason=PROCESS_ENDED, unfinished=True)
    jobs.write_unused_part(job, "failed", report)


# Place: put the parts into the shards and write the index.


def _place_parts(request: _Request, index: StoreIndex, parts: Mapping[str, Part], gone: Collection[str]) -> StoreIndex:
    """Put `parts` into the shards, remove the shapes that are `gone` from the index, and return the index.

    A shape that the index already names keeps its row. New shapes are appended in new shards, sorted by name. A shape
    whose part was refused loses its row, and is not tried again before its file changes. The index is written after
    each shard, and then the parts of this shard are removed. So nothing is lost if the process is killed at any point.
    """
    used = {name: part for name, part in parts.items() if part.status == "used"}
    unusable = {*gone, *(name for name, part in parts.items() if part.status in ("refused", "failed"))}
    refused = [shape for shape in index.refused if shape.name not in parts and shape.name not in gone]
    for name, part in parts.items():
        if part.status == "refused":
            refused.append(store.RefusedShape(name, part.job.source, part.job.key, part.report))
    index = replace(
        index,
        shapes=tuple(_inspected(shape, parts.get(shape.name)) for shape in index.shapes if shape.name not in unusable),
        refused=tuple(sorted(refused, key=attrgetter("name"))),
    )
    placed: dict[int, dict[int, Part]] = defaultdict(dict)
    for shape in index.shapes:
        if shape.name in used:
            placed[shape.shard][shape.row] = used[shape.name]
    new = sorted(used.keys() - {shape.name for shape in index.shapes})
    rows_per_shard = max(1, SHARD_BYTES // store.record_bytes(request.config))
    for shard, first in enumerate(range(0, len(new), rows_per_shard), start=len(index.shards)):
        placed[shard] = {row: used[name] for row, name in enumerate(new[first : first + rows_per_shard])}
    with request.bar(len(used), "writing", delay=2, leave=False) as bar:
        for shard in sorted(placed):
            index = _write_shard(request.directory, index, shard, placed[shard])
            bar.update(len(placed[shard]))
    return index


def _inspected(shape: StoredShape, part: Part | None) -> StoredShape:
    """Return the entry of a stored shape after its mesh was inspected again without a difference."""
    if part is None or part.status != "same":
        return shape
    return replace(shape, key=part.job.key, report=part.report, reading=READING_VERSION, **part.stored)


def _write_shard(directory: Path, index: StoreIndex, shard: int, placed: Mapping[int, Part]) -> StoreIndex:
    """Write one shard, then the index, then remove the parts. Rows not in `placed` are copied from the old file."""
    path, config = store.shard_path(directory, shard), index.config
    num_rows = index.shards[shard] if shard < len(index.shards) else len(placed)
    header = store.shard_header(num_rows, config)
    with atomic_path(path) as temporary, open(temporary, "wb") as target:
        target.write(header)
        for row in range(num_rows):
            if row in placed:
                target.write(_read_record(placed[row], store.record_bytes(config)))
            else:
                target.write(
                    _read_old_row(path, len(header) + row * store.record_bytes(config), store.record_bytes(config))
                )
    shapes = {shape.name: shape for shape in index.shapes}
    for row, part in placed.items():
        known = {key: getattr(part.job, key) for key in ("name", "source", "content_hash", "key")}
        place = {"report": part.report, "shard": shard, "row": row, "reading": READING_VERSION}
        shapes[part.job.name] = StoredShape.from_dict({**known, **part.stored, **place})
    shards = (*index.shards[:shard], num_rows, *index.shards[shard + 1 :])
    index = replace(index, shards=shards, shapes=tuple(shapes[name] for name in sorted(shapes)))
    save_index(directory, index)
    for part in placed.values():
        part.job.part.unlink(missing_ok=True)
    return index


def _read_record(part: Part, size: int) -> bytes:
    with open(part.job.part, "rb") as source:
        source.seek(part.offset)
        record = source.read(size)
    if len(record) < size or zlib.crc32(record) != part.stored["checksum"]:
        part.job.part.unlink()
        raise ValueError(
            f"{part.job.part} was damaged after it was written; it is removed. Run the same command again."
        )
    return record


def _read_old_row(path: Path, offset: int, size: int) -> bytes:
    """Return a row of the old file. Missing bytes of a damaged file become zeros, because no shape uses them."""
    if not path.exists():
        return bytes(size)
    with open(path, "rb") as source:
        source.seek(offset)
        return source.read(size).ljust(size, b"\0")


def save_index(directory: Path, index: StoreIndex) -> None:
    """Write `index.json`, whole or not at all."""
    shapes = [
        {key: getattr(shape, key) for key in StoredShape.__dataclass_fields__ if key != "similarity"}
        | {"similarity": shape.similarity.to_dict()}
        for shape in index.shapes
    ]
    document = {
        "format": FORMAT,
        "complete": index.complete,
        "meshes": index.meshes,
        "settings": index.settings,
        "frame": index.frame,
        "shards": list(index.shards),
        "shapes": shapes,
        "refused": [asdict(shape) for shape in index.refused],
    }
    write_json(directory / INDEX_FILE, document)
