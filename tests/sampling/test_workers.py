"""Worker processes: each job is done, and a crash costs only the job that caused it."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from sdfnet.sampling import SamplerConfig, prepare_samples
from sdfnet.sampling.parts import Job
from sdfnet.sampling.workers import run_jobs


def make_job(folder: Path, name: str) -> Job:
    return Job(name, f"{name}.obj", "", "", folder / f"{name}.obj", folder / f"{name}.part")


def work(job: Job) -> None:
    if job.name == "crash":
        os.kill(os.getpid(), signal.SIGKILL)
    job.part.write_text(f"{job.name} done; IGL_NUM_THREADS={os.environ['IGL_NUM_THREADS']}")


@pytest.mark.slow
def test_a_crashed_worker_costs_only_the_job_that_crashed_it(tmp_path: Path) -> None:
    jobs = [make_job(tmp_path, name) for name in ("a", "b", "crash", "c", "d", "e")]
    crashed, finished = [], []

    def on_crash(job: Job) -> None:
        crashed.append(job.name)
        job.part.write_text("crashed")

    run_jobs(work, jobs, num_workers=2, on_crash=on_crash, progress=finished.append)
    assert crashed == ["crash"]
    results = {job.name: job.part.read_text() for job in jobs}
    assert results.pop("crash") == "crashed"
    assert results == {name: f"{name} done; IGL_NUM_THREADS=1" for name in "abcde"}
    assert not list(tmp_path.glob("*.started"))


@pytest.mark.slow
def test_the_number_of_workers_does_not_change_the_store(
    mesh_folder: Path, tmp_path: Path, small_config: SamplerConfig
) -> None:
    for num_workers in (1, 3):
        prepare_samples(
            mesh_folder, tmp_path / str(num_workers), config=small_config, num_workers=num_workers, progress=False
        )
    one, three = ({path.name: path.read_bytes() for path in (tmp_path / number).iterdir()} for number in "13")
    assert one == three


def test_one_worker_works_in_this_process_and_leaves_its_threads_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IGL_NUM_THREADS", "5")
    jobs = [make_job(tmp_path, name) for name in "ab"]
    finished: list[int] = []
    run_jobs(work, jobs, num_workers=1, on_crash=lambda job: None, progress=finished.append)
    assert [job.part.read_text() for job in jobs] == [f"{name} done; IGL_NUM_THREADS=5" for name in "ab"]
    assert finished == [1, 1]
