"""The work on one shape, and the worker processes that do this work for many shapes.

The work on a shape draws its samples or finds its outline. The result is written into a file, the part of the job. A
part with samples has a line of JSON, and then the bytes of the record. A part with an outline is a NumPy file. The
outline consists of those points of a mesh that decide the similarity of a whole folder (`normalize=shared`).

A job is finished when its part exists, so a killed process loses only unfinished jobs. After a crash, the unfinished
jobs that had started are repeated one at a time. A job that crashes its process again is the cause. The workers are
processes of this machine or of a Dask or Ray cluster, started by joblib's backends. A cluster's workers need this
package and a file system that they share with this process.
"""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import os
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

import joblib
import numpy as np
import torch
from numpy.typing import NDArray

from sdfnet.files import atomic_path, ensure_folder, write_atomic
from sdfnet.geometry.bounds import Bounds
from sdfnet.geometry.similarity import UNIT_RADIUS, Similarity
from sdfnet.sampling.shape_samples import SamplerConfig, ShapeSamples, sample_shape
from sdfnet.sampling.store import FLOAT
from sdfnet.solids.limits import LIMITS, MeshLimits, become_worker, enter_stage
from sdfnet.solids.rule import SolidRule
from sdfnet.solids.source_shape import MeshRefused, MeshReport, SourceShape, folder_similarities, load_shape

logger = logging.getLogger(__name__)

Status = Literal["used", "same", "refused", "failed"]
"""used: the samples exist. same: the stored samples stay. refused: the mesh cannot be used. failed: another attempt may
succeed."""


@dataclass(frozen=True)
class Job:
    """One shape to prepare: the mesh is in `path`, and the result goes to `part`. Other fields are as in `StoredShape`.

    `similarity` is the shared similarity, or None if the shape uses its own. `stored` is the hash of the solid and the
    report of a shape that an older version of reading sampled. These samples stay if the solid is still the same.
    """

    name: str
    source: str
    content_hash: str
    key: str
    path: Path
    part: Path
    similarity: Similarity | None = None
    stored: tuple[str, dict[str, Any]] | None = None


@dataclass(frozen=True, eq=False)
class Part:
    """The first line of a part's file, JSON, and the offset at which its record starts.

    `stored` holds similarity, closed and checksum, as in `StoredShape`.
    """

    job: Job
    status: Status
    report: dict[str, Any]
    stored: dict[str, Any] = field(default_factory=dict)
    offset: int = 0


def leave_samples(job: Job, *, config: SamplerConfig, rule: SolidRule, limits: MeshLimits = LIMITS) -> None:
    """Draw the samples of one shape and write them to the job's part. If that fails, write a report instead."""
    report = MeshReport(job.name, str(job.path), "refused", reason="not read yet")
    try:
        shape = load_shape(job.path, name=job.name, rule=rule, limits=limits)
        report = shape.report
        if job.stored is not None and _is_same(shape, *job.stored):
            header = {"status": "same", "report": report.to_dict(), "solid_hash": shape.solid_hash}
            write_atomic(job.part, json.dumps(header) + "\n")
            return
        enter_stage("drawing samples")
        similarity = job.similarity or folder_similarities([shape])[0]
        samples = sample_shape(shape, similarity, config)
    except MeshRefused as error:
        write_unused_part(job, "failed" if error.report.unfinished else "refused", error.report)
    except ValueError as error:
        write_unused_part(job, "refused", report, reason=str(error))
    except Exception as error:  # whatever goes wrong with one mesh, a lack of memory included, must not stop the others
        logger.exception("%s could not be sampled", job.path)
        reason = f"it could not be sampled ({type(error).__name__}: {error})"
        write_unused_part(job, "failed", report, reason=reason)
    else:
        write_used_part(job, shape, samples, similarity)


def _is_same(shape: SourceShape, solid_hash: str, report: dict[str, Any]) -> bool:
    """Tell whether a shape has the solid that was stored. The first version of reading stored only facts of the file.

    That version knew only the way of `solid=winding`, which still makes the same solid of the same vertices and faces.
    """
    if solid_hash:
        return solid_hash == shape.solid_hash
    now = shape.report.to_dict()
    return all(report.get(fact) == now[fact] for fact in ("num_vertices", "num_faces", "extent"))


def write_used_part(job: Job, shape: SourceShape, samples: ShapeSamples, similarity: Similarity) -> None:
    """Write the samples of a shape to the job's part."""
    blocks = (samples.sdf, samples.surface, samples.heldout)
    record = b"".join(np.ascontiguousarray(block, dtype=FLOAT).data for block in blocks)
    header = {
        "status": "used",
        "report": shape.report.to_dict(),
        "similarity": similarity.to_dict(),
        "closed": shape.closed,
        "checksum": zlib.crc32(record),
        "solid_hash": shape.solid_hash,
    }
    with atomic_path(job.part) as temporary, open(temporary, "wb") as handle:
        handle.write(json.dumps(header).encode("utf-8") + b"\n")
        handle.write(record)


def write_unused_part(job: Job, status: Status, report: MeshReport, *, reason: str | None = None) -> None:
    """Write to the job's part that the mesh cannot be used ("refused") or could not be sampled ("failed")."""
    if reason is not None:
        report = replace(report, status="refused", notes=(), reason=" ".join(reason.split()))
    write_atomic(job.part, json.dumps({"status": status, "report": report.to_dict()}) + "\n")


def read_part(job: Job) -> Part:
    """Return the part of a job. If the file is missing or damaged, return a part with the status "failed"."""
    try:
        with open(job.part, "rb") as handle:
            header = json.loads(handle.readline())
            offset = handle.tell()
    except (FileNotFoundError, ValueError):
        reason = "its samples got lost before they were stored; run the same command again"
        return Part(job, "failed", MeshReport(job.name, str(job.path), "refused", reason=reason).to_dict())
    return Part(job, header.pop("status"), header.pop("report"), header, offset)


def leave_outline(job: Job, *, rule: SolidRule, limits: MeshLimits = LIMITS) -> None:
    """Write the corners of the mesh's convex hull to the job's part.

    The farthest point of the mesh from any centre is one of these corners.

    A row holds x, y, z (world frame). A refused mesh has no rows.
    """
    try:
        shape = load_shape(job.path, name=job.name, rule=rule, limits=limits)
    except Exception:  # whatever is wrong with one mesh must not stop the others; sampling it will say what
        logger.debug("%s has no outline", job.path, exc_info=True)
        save_outline(job, np.zeros((0, 3)))
        return
    save_outline(job, _hull_corners(shape.mesh.vertices))


def save_outline(job: Job, outline: NDArray[np.float64]) -> None:
    """Write an outline (K, 3), whole or not at all."""
    with atomic_path(job.part) as temporary:
        np.save(temporary, outline)


def shared_similarity(jobs: Sequence[Job]) -> Similarity | None:
    """Return the shared similarity of all meshes with outlines from `jobs`, or None if no mesh can be used."""
    box: Bounds | None = None
    for job in jobs:
        outline = np.load(job.part)
        if len(outline):
            box = Bounds.of(outline) if box is None else box.union(Bounds.of(outline))
    if box is None:
        return None
    reach = 0.0
    for job in jobs:
        outline = np.load(job.part)
        if len(outline):
            reach = max(reach, float(np.linalg.norm(outline - box.center, axis=1).max()))
    return Similarity(box.center, UNIT_RADIUS / reach)


def _hull_corners(vertices: NDArray[np.float64]) -> NDArray[np.float64]:
    from scipy.spatial import ConvexHull, QhullError  # Here, for a quick start (see geometry.connectivity).

    # Far from the origin the hull's own tolerance would drop corners.
    try:
        return vertices[ConvexHull(vertices - vertices.mean(axis=0)).vertices]
    except QhullError:
        return vertices  # flat: it has no hull in three dimensions


# The worker processes.


Backend = Literal["loky", "dask", "ray"]

Work = Callable[[Job], None]
"""Writes the part of a job. It is pickled, so it must be a module-level function or a `functools.partial` of one."""

_CONNECT_SECONDS = 30

_PARENT = os.getppid()
_WATCH_SECONDS = 0.5
_PATIENCE_SECONDS = 90.0
"""How long to wait for a file that another machine wrote: network file systems cache folders for up to a minute."""


@dataclass(frozen=True)
class WorkersConfig:
    """Who samples the meshes.

    >>> WorkersConfig().backend
    'loky'
    """

    backend: Backend = "loky"
    """loky takes processes of this machine, dask and ray a cluster."""
    scheduler: str | None = None
    """Where the cluster is: tcp://HOST:8786 for dask, ray://HOST:10001 or HOST:6379 for ray; null starts one here."""

    def __post_init__(self) -> None:
        if self.backend not in get_args(Backend):
            raise ValueError(f"backend must be one of {', '.join(get_args(Backend))}, got {self.backend!r}")
        if self.scheduler is not None and self.backend == "loky":
            raise ValueError(
                f"scheduler={self.scheduler} is given, but backend=loky works on this machine. "
                "Choose backend=dask or ray"
            )


@dataclass(frozen=True)
class Cluster:
    """The processes that do the jobs."""

    crashes: tuple[type[BaseException], ...] = (BrokenProcessPool,)
    """What joblib raises when a worker process ends."""
    is_remote: bool = False
    """Whether workers may run on other machines, where the paths must refer to the same files."""
    streams: bool = True
    """Whether joblib returns results one by one. Ray's backend returns all results at the end."""


HERE = Cluster()
"""The processes of this machine."""


def run_jobs(
    work: Work,
    jobs: Sequence[Job],
    *,
    num_workers: int,
    on_crash: Callable[[Job], None],
    progress: Callable[[int], object],
    cluster: Cluster = HERE,
) -> None:
    """Do `work` on all `jobs` in `num_workers` processes, in the given order. With 1, this process does the work.

    `on_crash` is called for each job that crashes its process, and must write a part for this job. `progress` is called
    with 1 for each finished job. A cluster from `open_cluster` ignores `num_workers` and uses all of its workers.
    """
    if cluster.is_remote:
        num_workers = -1
        jobs = [replace(job, path=job.path.absolute(), part=job.part.absolute()) for job in jobs]
    left = list(jobs)
    for job in left:
        ensure_folder(job.part.parent)
        _mark(job).unlink(missing_ok=True)
    while left:
        try:
            _run(work, left, num_workers, progress, cluster)
            return
        except cluster.crashes:
            suspects = [job for job in left if _mark(job).exists() and not job.part.exists()]
            logger.warning("a worker process ended unexpectedly; trying its %d jobs one by one", len(suspects))
            if not suspects:
                raise
        for suspect in suspects:
            try:  # In a process of its own: joblib does the jobs of a single worker in this process.
                _run(work, [suspect], 2, progress, cluster)
            except cluster.crashes:
                logger.warning("%s: its process ended unexpectedly, again", suspect.name)
                _mark(suspect).unlink(missing_ok=True)
                on_crash(suspect)
                progress(1)
        left = [job for job in left if not job.part.exists()]


def _run(
    work: Work, jobs: Sequence[Job], num_workers: int, progress: Callable[[int], object], cluster: Cluster
) -> None:
    return_as = "generator_unordered" if cluster.streams else "list"
    parallel = joblib.Parallel(n_jobs=num_workers, return_as=return_as, batch_size=1)
    parent = None if cluster.is_remote else os.getpid()
    for part in parallel(joblib.delayed(_run_one)(work, job, parent) for job in jobs):
        if cluster.is_remote:
            _wait_to_see(part)
        progress(1)


def _run_one(work: Work, job: Job, parent: int | None) -> Path:
    """Do one job in the worker with one native thread, and return the part. A mark file exists during the job.

    `parent` is the process that a worker must not outlive. It is None in a cluster, which ends its workers itself.
    """
    if os.getpid() != parent:
        # The processes share the cores already. libigl reads its variable at its first use, which is still to come.
        os.environ["IGL_NUM_THREADS"] = "1"
        torch.set_num_threads(1)
        become_worker()
        if parent is not None:
            _watch_parent()
    _mark(job).touch()
    work(job)
    _mark(job).unlink(missing_ok=True)
    return job.part


def _wait_to_see(part: Path) -> None:
    """Wait until the part that a worker of the cluster has written is visible on this machine."""
    end = time.monotonic() + _PATIENCE_SECONDS
    while not part.exists():
        if time.monotonic() > end:
            raise ValueError(
                f"a worker of the cluster has left {part}, but it is not to be seen here: the folder of samples must "
                "be on a file system that this machine and all workers share, under the same path"
            )
        os.listdir(part.parent)  # makes a network file system read the folder again
        time.sleep(_WATCH_SECONDS)


@functools.cache
def _watch_parent() -> None:
    """Start a thread that ends this process soon after its parent process has ended. Later calls do nothing.

    Otherwise the workers of a killed command would continue beside the workers of the next command, and keep their
    memory for minutes.
    """

    def watch() -> None:
        while os.getppid() == _PARENT:
            time.sleep(_WATCH_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _mark(job: Job) -> Path:
    """Return the empty file that exists beside a part while a worker does the job."""
    return job.part.with_suffix(".started")


def open_cluster(config: WorkersConfig, *, num_workers: int) -> contextlib.AbstractContextManager[Cluster]:
    """Make joblib use the workers that `config` names inside the block.

    If no scheduler is given, a cluster of `num_workers` workers is started here and ends with the block.
    """
    if config.backend == "loky":
        return contextlib.nullcontext(HERE)
    opened = _open_dask if config.backend == "dask" else _open_ray
    return opened(config.scheduler, num_workers)


@contextlib.contextmanager
def _open_dask(scheduler: str | None, num_workers: int) -> Iterator[Cluster]:
    try:
        import dask
        import distributed
    except ImportError as error:
        raise _not_installed("dask", "distributed", error) from error
    # `run_jobs` finds the mesh that crashes its worker; a limit of memory would only add crashes.
    ours = {"n_workers": num_workers, "threads_per_worker": 1, "dashboard_address": "127.0.0.1:0", "memory_limit": 0}
    settings = {"distributed.scheduler.allowed-failures": 0, "distributed.logging.distributed": "error"}
    place: Any = scheduler
    with contextlib.ExitStack() as stack:
        try:
            if scheduler is None:
                stack.enter_context(dask.config.set(settings))
                cluster = distributed.LocalCluster(**ours, silence_logs=logging.CRITICAL, processes=True)
                place = stack.enter_context(cluster)
            stack.enter_context(distributed.Client(place, timeout=_CONNECT_SECONDS))
        except (OSError, ValueError, TimeoutError) as error:
            raise _no_answer("dask", scheduler, error) from error
        with joblib.parallel_config(backend=_register_dask(), wait_for_workers_timeout=_CONNECT_SECONDS):
            yield Cluster((distributed.KilledWorker,), is_remote=True)


def _register_dask() -> str:
    """Register joblib's backend for Dask with two corrections, and return the name of the backend.

    In joblib 1.6, a generator of results waits forever if a worker is lost, because `_collect` calls back only after a
    success. If a crash leaves only one worker, joblib does the jobs in this process, and the next crash would end this
    process.
    """
    from joblib._dask import DaskDistributedBackend

    class CorrectedBackend(DaskDistributedBackend):
        def effective_n_jobs(self, n_jobs: int) -> int:
            return max(2, int(super().effective_n_jobs(n_jobs)))

        def submit(self, func: Any, callback: Any = None) -> Any:
            future = super().submit(func, callback)
            if callback is not None:
                future.add_done_callback(lambda done: callback(done) if done.exception() is not None else None)
            return future

        def retrieve_result_callback(self, out: Any) -> Any:
            return out.result() if isinstance(out, Future) else super().retrieve_result_callback(out)

        def __reduce__(self) -> Any:
            return DaskDistributedBackend, ()

    joblib.register_parallel_backend("sdfnet-dask", CorrectedBackend)
    return "sdfnet-dask"


@contextlib.contextmanager
def _open_ray(scheduler: str | None, num_workers: int) -> Iterator[Cluster]:
    try:
        import ray
        from ray.util.joblib import register_ray
    except ImportError as error:
        raise _not_installed("ray", "ray", error) from error
    ours: dict[str, Any] = {"num_cpus": num_workers, "include_dashboard": False} if scheduler is None else {}
    try:
        ray.init(address=scheduler or "local", log_to_driver=False, logging_level=logging.ERROR, **ours)
    except (OSError, ValueError, ConnectionError, RuntimeError) as error:
        raise _no_answer("ray", scheduler, error) from error
    try:
        register_ray()
        with joblib.parallel_config(backend="ray"):
            yield Cluster((ray.exceptions.RayError,), is_remote=True, streams=False)
    finally:
        ray.shutdown()


def _not_installed(backend: str, package: str, error: ImportError) -> ValueError:
    extra = "'sdfnet[cluster]'" if backend == "dask" else package
    return ValueError(f"workers={backend} needs the package {package} ({error}). Install it: pip install {extra}")


def _no_answer(backend: str, scheduler: str | None, error: Exception) -> ValueError:
    where = "here" if scheduler is None else f"at {scheduler}"
    return ValueError(f"no {backend} cluster {where}: {str(error).splitlines()[0] if str(error) else error!r}")
