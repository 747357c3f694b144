"""Worker processes: each job is done, and a crash costs only the job that caused it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from sdfnet.sampling import SamplerConfig, prepare_samples
from sdfnet.sampling.jobs import Job, run_jobs


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


PROGRAM = """
import sys, time
from pathlib import Path
sys.path[:0] = {path!r}
from sdfnet.sampling.jobs import Job, run_jobs

folder = Path(sys.argv[1])

def work(job):
    import os
    (folder / f"{{job.name}}.pid").write_text(str(os.getpid()))
    time.sleep(600)

jobs = [Job(name, "", "", "", folder / name, folder / f"{{name}}.part") for name in "ab"]
run_jobs(work, jobs, num_workers=2, on_crash=print, progress=print)
"""


def wait_until(condition: Callable[[], bool], *, seconds: float) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end and not condition():
        time.sleep(0.1)
    return condition()


@pytest.mark.slow
def test_the_workers_of_a_killed_command_end_too(tmp_path: Path) -> None:
    command = subprocess.Popen([sys.executable, "-c", PROGRAM.format(path=sys.path), str(tmp_path)])
    try:
        assert wait_until(lambda: all((tmp_path / f"{name}.pid").exists() for name in "ab"), seconds=120)
    finally:
        command.kill()
        command.wait()
    workers = [Path("/proc", path.read_text()) for path in tmp_path.glob("*.pid")]
    assert wait_until(lambda: not any(worker.exists() for worker in workers), seconds=20)


@pytest.mark.slow
def test_the_number_of_workers_does_not_change_the_store(
    mesh_folder: Path, tmp_path: Path, small_config: SamplerConfig
) -> None:
    for num_workers in (1, 2):
        prepare_samples(
            mesh_folder, tmp_path / str(num_workers), config=small_config, num_workers=num_workers, progress=False
        )
    one, two = ({path.name: path.read_bytes() for path in (tmp_path / number).iterdir()} for number in "12")
    assert one == two


def test_one_worker_works_in_this_process_and_leaves_its_threads_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IGL_NUM_THREADS", "5")
    jobs = [make_job(tmp_path, name) for name in "ab"]
    finished: list[int] = []
    run_jobs(work, jobs, num_workers=1, on_crash=lambda job: None, progress=finished.append)
    assert [job.part.read_text() for job in jobs] == [f"{name} done; IGL_NUM_THREADS=5" for name in "ab"]
    assert finished == [1, 1]
