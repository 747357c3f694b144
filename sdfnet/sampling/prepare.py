"""Prepare the sample store of a folder of meshes: in parallel, once for each mesh, and safe to kill at any point.

What is done is known by a key made of the mesh's content and the settings, so the same command again does just what is
missing, has changed or was damaged, and ends with the same bytes as if nothing had happened. Meshes that left the
folder leave the store; the rows of the others stay where they are.

The one similarity of a whole folder (`normalize=shared`), found without holding all meshes at once.

Each mesh leaves the corners of its convex hull in a file, because the farthest point from any centre is one of them;
the files are then read one after the other. The result is that of `folder_similarities`.

Decide what has to be prepared: compare the folder of meshes and the settings with what a store holds.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, get_args

import joblib
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from sdfnet.files import atomic_path, ensure_folder
from sdfnet.geometry.bounds import Bounds
from sdfnet.geometry.similarity import UNIT_RADIUS, Similarity
from sdfnet.mesh.io.read import MeshError, find_meshes
from sdfnet.runs.selection import select_shapes
from sdfnet.sampling.parallel import Work, WorkersConfig, open_cluster, run_jobs
from sdfnet.sampling.parts import Job, leave_samples, read_part, write_unused_part
from sdfnet.sampling.shape_samples import SamplerConfig
from sdfnet.sampling.shards import drop_shapes, place_parts, prune_shards, remove_unused_shards, with_refused
from sdfnet.sampling.store import FORMAT, INDEX_FILE, SampleStore, StoreIndex, find_damage, load_index, save_index
from sdfnet.solids.report import MeshReport
from sdfnet.solids.source_shape import Normalize, hash_content, load_shape

logger = logging.getLogger(__name__)


def leave_outline(job: Job, *, thickness: float | None) -> None:
    """Leave in the job's part, a NumPy file, what the shared similarity needs to know of a mesh.

    The rows are x, y, z (world frame) and how far the solid reaches beyond that point; none for a refused mesh.
    """
    try:
        shape = load_shape(job.path, name=job.name, thickness=thickness)
    except Exception:  # whatever is wrong with one mesh must not stop the others; sampling it will say what
        logger.debug("%s has no outline", job.path, exc_info=True)
        save_outline(job, np.zeros((0, 4)))
        return
    corners = _hull_corners(shape.mesh.vertices)
    save_outline(job, np.column_stack([corners, np.full(len(corners), shape.thickness or 0.0)]))


def save_outline(job: Job, outline: NDArray[np.float64]) -> None:
    """Write an outline (K, 4), whole or not at all."""
    with atomic_path(job.part) as temporary:
        np.save(temporary, outline)


def shared_similarity(jobs: Sequence[Job]) -> Similarity | None:
    """Return the similarity of all meshes whose outlines `jobs` have left; None if none of them can be used."""
    box: Bounds | None = None
    for job in jobs:
        outline = np.load(job.part)
        if len(outline):
            own = Bounds((outline[:, :3] - outline[:, 3:]).min(axis=0), (outline[:, :3] + outline[:, 3:]).max(axis=0))
            box = own if box is None else box.union(own)
    if box is None:
        return None
    reach = 0.0
    for job in jobs:
        outline = np.load(job.part)
        if len(outline):
            reach = max(reach, float((np.linalg.norm(outline[:, :3] - box.center, axis=1) + outline[:, 3]).max()))
    return Similarity(box.center, UNIT_RADIUS / reach)


def _hull_corners(vertices: NDArray[np.float64]) -> NDArray[np.float64]:
    from scipy.spatial import ConvexHull, QhullError  # Here, for a quick start (see geometry.connectivity).

    # Far from the origin the hull's own tolerance would drop corners.
    try:
        return vertices[ConvexHull(vertices - vertices.mean(axis=0)).vertices]
    except QhullError:
        return vertices  # flat: it has no hull in three dimensions


_LOCK_FILE = ".lock"
_PARTS_FOLDER = ".parts"


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
            logger.warning("another process is preparing %s: waiting for it", directory)
            fcntl.flock(handle, fcntl.LOCK_EX)
        except OSError as error:
            logger.debug("no lock on %s: %s", directory, error)
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
        logger.warning(
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
        logger.warning("%s: the samples of %s are prepared again", fault, name)
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
