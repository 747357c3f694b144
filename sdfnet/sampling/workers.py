"""Run many jobs in worker processes, so that neither a bad mesh nor a crashed process stops the others.

A job is finished when its part is there (see `parts`), not when a worker says so. That makes a kill harmless, and
after a crash it tells which jobs were being worked on: those are tried again one at a time, and the one that crashes
its process again is the culprit.
"""

from __future__ import annotations

import functools
import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import joblib
import torch

from sdfnet.files import ensure_folder
from sdfnet.sampling.clusters import HERE, Cluster
from sdfnet.sampling.parts import Job

STARTED_SUFFIX = ".started"
"""Of the empty file that says that a job is being worked on."""

_PARENT = os.getppid()
_WATCH_SECONDS = 0.5
_PATIENCE_SECONDS = 90.0
"""Until a file that another machine wrote must be seen here: network file systems remember for up to a minute."""

_logger = logging.getLogger(__name__)

Work = Callable[[Job], None]
"""Leaves the part of a job. Module-level or a `functools.partial` of such, because it travels to other processes."""


def run_jobs(
    work: Work,
    jobs: Sequence[Job],
    *,
    num_workers: int,
    on_crash: Callable[[Job], None],
    progress: Callable[[int], object],
    cluster: Cluster = HERE,
) -> None:
    """Do `work` on all `jobs` in `num_workers` processes (1: in this one), in the order given as far as that goes.

    `on_crash` is called for each job that ends its process; it must leave a part. `progress` hears of each finished
    job. Within `open_cluster` all workers of the cluster do it, however many.

    Raises
    ------
    ValueError
        A cluster's worker left a part that cannot be seen from here.
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
            left = _unfinished(left)
            suspects = [job for job in left if _mark(job).exists()]
            _logger.warning("a worker process ended unexpectedly; trying its %d jobs one by one", len(suspects))
            if not suspects:
                raise
            for suspect in suspects:
                _run_alone(work, suspect, on_crash, cluster)
                progress(1)
            left = _unfinished(left)


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


def _run_alone(work: Work, job: Job, on_crash: Callable[[Job], None], cluster: Cluster) -> None:
    """Do one job in a process of its own (joblib does a single worker's jobs in this process, so ask for two)."""
    try:
        _run(work, [job], 2, lambda _: None, cluster)
    except cluster.crashes:
        _logger.warning("%s: its process ended unexpectedly, again", job.name)
        _mark(job).unlink(missing_ok=True)
        on_crash(job)


def _run_one(work: Work, job: Job, parent: int | None) -> Path:
    """Do one job where it is, with one native thread per worker, leaving a mark while it lasts; return its part.

    `parent` is the process that a worker must not outlive; None in a cluster, which looks after its workers itself.
    """
    if os.getpid() != parent:
        # The processes share the cores already. libigl reads its variable at its first use, which is still to come.
        os.environ["IGL_NUM_THREADS"] = "1"
        torch.set_num_threads(1)
        if parent is not None:
            _watch_parent()
    _mark(job).touch()
    work(job)
    _mark(job).unlink(missing_ok=True)
    return job.part


def _wait_to_see(part: Path) -> None:
    """Return when the part that a worker elsewhere has left is here, too."""
    end = time.monotonic() + _PATIENCE_SECONDS
    while not part.exists():
        if time.monotonic() > end:
            raise ValueError(
                f"a worker of the cluster has left {part}, but it is not to be seen here: the folder of samples must "
                "be on a file system that this machine and all workers share, under the same path"
            )
        os.listdir(part.parent)  # makes a network file system look again
        time.sleep(_WATCH_SECONDS)


@functools.cache
def _watch_parent() -> None:
    """End this process soon after the one that started it is gone; once for each process.

    The workers of a killed command would go on beside those of its successor, and then hold their memory for minutes.
    """

    def watch() -> None:
        while os.getppid() == _PARENT:
            time.sleep(_WATCH_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _mark(job: Job) -> Path:
    return job.part.with_suffix(STARTED_SUFFIX)


def _unfinished(jobs: Sequence[Job]) -> list[Job]:
    return [job for job in jobs if not job.part.exists()]
