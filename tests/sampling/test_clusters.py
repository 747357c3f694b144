"""Preparation by a cluster: the same store, the same guarantees, and clear words where no cluster is to be had."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sdfnet.sampling import SamplerConfig, WorkersConfig, jobs, prepare_samples
from sdfnet.sampling.jobs import Job, leave_samples, open_cluster, run_jobs

distributed = pytest.importorskip("distributed", reason="dask and distributed are not installed")


@pytest.fixture(scope="module")
def scheduler() -> Iterator[str]:
    """The address of a Dask cluster of two workers."""
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address="127.0.0.1:0", memory_limit=0, silence_logs=50
    ) as cluster:
        yield cluster.scheduler_address


def contents(store: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in store.iterdir() if path.is_file()}


@pytest.mark.slow
def test_a_cluster_makes_the_store_that_this_machine_makes(
    mesh_folder: Path, tmp_path: Path, small_config: SamplerConfig, scheduler: str
) -> None:
    options: dict[str, Any] = {"config": small_config, "progress": False}
    prepare_samples(mesh_folder, tmp_path / "here", num_workers=1, **options)
    elsewhere = WorkersConfig(backend="dask", scheduler=scheduler)
    done = prepare_samples(mesh_folder, tmp_path / "there", workers=elsewhere, **options)
    assert done.num_done == 5
    assert contents(tmp_path / "here") == contents(tmp_path / "there")


def test_no_cluster_is_asked_where_nothing_is_to_be_done(
    mesh_folder: Path, tmp_path: Path, small_config: SamplerConfig
) -> None:
    options: dict[str, Any] = {"config": small_config, "progress": False}
    prepare_samples(mesh_folder, tmp_path / "store", num_workers=1, **options)
    nowhere = WorkersConfig(backend="dask", scheduler="tcp://127.0.0.1:1")
    assert prepare_samples(mesh_folder, tmp_path / "store", workers=nowhere, **options).num_done == 0


def make_job(folder: Path, name: str) -> Job:
    return Job(name, f"{name}.obj", "", "", folder / f"{name}.obj", folder / f"{name}.part")


def work(job: Job) -> None:
    if job.name == "crash":
        os.kill(os.getpid(), signal.SIGKILL)
    job.part.write_text(f"{job.name} done")


@pytest.mark.slow
def test_a_crashed_worker_of_a_cluster_costs_only_the_job_that_crashed_it(tmp_path: Path, scheduler: str) -> None:
    jobs = [make_job(tmp_path, name) for name in ("a", "b", "crash", "c", "d")]
    crashed: list[str] = []

    def on_crash(job: Job) -> None:
        crashed.append(job.name)
        job.part.write_text("crashed")

    with open_cluster(WorkersConfig(backend="dask", scheduler=scheduler), num_workers=2) as cluster:
        run_jobs(work, jobs, num_workers=2, on_crash=on_crash, progress=lambda _: None, cluster=cluster)
    assert crashed == ["crash"]
    results = {job.name: job.part.read_text() for job in jobs}
    assert results == {"crash": "crashed"} | {name: f"{name} done" for name in "abcd"}


def leave_samples_and_process(job: Job, **options: Any) -> None:
    job.path.with_suffix(".process").write_text(str(os.getpid()))
    leave_samples(job, **options)


@pytest.mark.slow
def test_the_only_worker_of_a_cluster_started_here_works_not_the_process_that_asks(
    mesh_folder: Path, tmp_path: Path, small_config: SamplerConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or a mesh that crashes its worker would end the command: one of two workers is away just after a crash."""
    monkeypatch.setattr("sdfnet.sampling.jobs.leave_samples", leave_samples_and_process)
    options: dict[str, Any] = {"config": small_config, "progress": False, "num_workers": 1, "shapes": "box_[01]"}
    prepare_samples(mesh_folder, tmp_path / "own", workers=WorkersConfig(backend="dask"), **options)
    processes = {int(path.read_text()) for path in mesh_folder.glob("*.process")}
    assert len(processes) == 1
    assert os.getpid() not in processes
    prepare_samples(mesh_folder, tmp_path / "here", **options)
    assert contents(tmp_path / "own") == contents(tmp_path / "here")


PROGRAM = """
import sys
from sdfnet.sampling import SamplerConfig, WorkersConfig, prepare_samples

config = SamplerConfig(num_samples=60_000, num_surface=50, num_heldout=20)
workers = WorkersConfig(backend="dask", scheduler=sys.argv[3])
prepare_samples(sys.argv[1], sys.argv[2], config=config, workers=workers, progress=False)
"""


@pytest.mark.slow
def test_a_killed_preparation_by_a_cluster_ends_with_the_same_bytes(
    mesh_folder: Path, tmp_path: Path, scheduler: str
) -> None:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    options: dict[str, Any] = {"config": SamplerConfig(60_000, 50, 20), "progress": False}
    prepare_samples(mesh_folder, tmp_path / "whole", num_workers=1, **options)
    line = [sys.executable, "-c", PROGRAM, str(mesh_folder), str(tmp_path / "torn"), scheduler]
    process = subprocess.Popen(line, env=environment)
    while process.poll() is None and not list(tmp_path.glob("torn/.parts/*.part")):
        time.sleep(0.01)
    process.kill()
    process.wait()
    prepare_samples(mesh_folder, tmp_path / "torn", workers=WorkersConfig("dask", scheduler), **options)
    assert contents(tmp_path / "torn") == contents(tmp_path / "whole")


def test_a_part_that_stays_away_is_said_to_need_a_shared_file_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "_PATIENCE_SECONDS", 0.1)
    monkeypatch.setattr(jobs, "_WATCH_SECONDS", 0.02)
    with pytest.raises(ValueError, match=r"has left .*a\.part, but it is not to be seen here"):
        jobs._wait_to_see(tmp_path / "a.part")


@pytest.mark.slow
def test_an_address_where_nobody_answers_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "_CONNECT_SECONDS", 1)
    nowhere = WorkersConfig(backend="dask", scheduler="tcp://127.0.0.1:1")
    with (
        pytest.raises(ValueError, match=r"no dask cluster at tcp://127\.0\.0\.1:1"),
        open_cluster(nowhere, num_workers=1),
    ):
        pass


@pytest.mark.parametrize(("backend", "package"), [("dask", "distributed"), ("ray", "ray")])
def test_a_missing_package_is_named_with_its_cure(backend: Any, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with (
        pytest.raises(ValueError, match=f"workers={backend} needs the package {package} .*pip install"),
        open_cluster(WorkersConfig(backend=backend), num_workers=1),
    ):
        pass


def test_options_that_mean_nothing_are_refused(mesh_folder: Path, tmp_path: Path, small_config: SamplerConfig) -> None:
    with pytest.raises(ValueError, match="backend must be one of loky, dask, ray, got 'slurm'"):
        WorkersConfig(backend="slurm")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="scheduler=tcp://a:1 is given, but backend=loky"):
        WorkersConfig(scheduler="tcp://a:1")
    there = WorkersConfig(backend="dask", scheduler="tcp://a:1")
    with pytest.raises(ValueError, match="num_workers=3 is given, but the cluster at tcp://a:1"):
        prepare_samples(mesh_folder, tmp_path / "s", config=small_config, workers=there, num_workers=3)
