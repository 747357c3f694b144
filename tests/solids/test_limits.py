"""A mesh that takes too long or too much memory is refused, with the cure, and the others go on."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest
import trimesh

from sdfnet.mesh.io.write import save_mesh
from sdfnet.mesh.mesh import Mesh
from sdfnet.sampling import SamplerConfig, prepare_samples
from sdfnet.solids import limits, source_shape
from sdfnet.solids.limits import LimitReached, MeshLimits, current_stage, enter_stage, limited
from sdfnet.solids.solid import make_solid
from sdfnet.solids.source_shape import check_folder

SHORT = MeshLimits(mesh_seconds=0.5)


@pytest.fixture
def boxes(tmp_path: Path) -> Path:
    """Four meshes. Reading `endless` or `greedy` is the fault of the test's stand-in for `make_solid`."""
    for number, name in enumerate(("a", "endless", "greedy", "z")):
        made = trimesh.creation.box((1, 1, 1 + number))
        save_mesh(Mesh(made.vertices, made.faces), tmp_path / f"{name}.ply")
    return tmp_path


def _stubborn(mesh: Mesh, **options: object):
    """Stand in for `make_solid`: the mesh with the height 2 never ends, and that with the height 3 takes memory."""
    height, taken = round(float(mesh.bounds.extent[2])), []
    enter_stage("standing in")
    while height == 2:
        try:
            time.sleep(0.01)
        except Exception:  # as a library may do
            continue
    while height == 3:
        taken.append(np.ones(1 << 20))
        time.sleep(0.01)
    return make_solid(mesh, **options)


def test_check_refuses_what_reaches_a_limit_and_reports_on_all_others(boxes: Path, monkeypatch) -> None:
    monkeypatch.setattr(source_shape, "make_solid", _stubborn)
    given = MeshLimits(mesh_seconds=2, mesh_gigabytes=0.2)
    reports = {report.name: report for report in check_folder(boxes, limits=given, num_workers=1)}
    assert [reports[name].status for name in ("a", "endless", "greedy", "z")] == ["used", "refused", "refused", "used"]
    late, large = str(reports["endless"].reason), str(reports["greedy"].reason)
    assert late.startswith("it takes more than 2 s (mesh_seconds), at the stage: standing in; decimate the mesh")
    assert large.startswith("it takes more than 0.2 GB of memory (mesh_gigabytes)")
    assert large.endswith("give a larger mesh_gigabytes")
    assert reports["endless"].unfinished
    assert not reports["z"].unfinished


def test_a_mesh_that_reached_a_limit_is_sampled_by_the_next_call(boxes: Path, tmp_path: Path, monkeypatch) -> None:
    config = SamplerConfig(num_samples=100, num_surface=10, num_heldout=10)
    samples = tmp_path / "samples"
    with monkeypatch.context() as patched:
        patched.setattr(source_shape, "make_solid", _stubborn)
        names = ["a", "endless"]
        done = prepare_samples(boxes, samples, config=config, shapes=names, limits=SHORT, num_workers=1, progress=False)
        assert done.names == ("a",)
    done = prepare_samples(boxes, samples, config=config, shapes=names, num_workers=1, progress=False)
    assert (done.names, done.num_done) == (("a", "endless"), 1)


def _crash_or_report(name: str, path: Path):
    if name == "endless":
        os._exit(3)
    return source_shape.inspect_mesh(path, name=name)[0]


def test_check_goes_on_when_a_mesh_ends_its_process(boxes: Path, tmp_path: Path) -> None:
    paths = source_shape.find_sources(boxes)
    files = {name: tmp_path / f"{name}.stage" for name in paths}
    found = source_shape._in_workers(_crash_or_report, dict(paths), files, num_workers=2)
    reports = {report.name: report for report in found}
    assert {name for name, report in reports.items() if report.status == "used"} == {"a", "greedy", "z"}
    assert "ended unexpectedly" in str(reports["endless"].reason)
    assert not any(file.exists() for name, file in files.items() if name != "endless")


def test_a_limit_in_the_last_moment_hits_nothing_else() -> None:
    for _ in range(3):
        with limited(MeshLimits(mesh_seconds=0.19)):
            time.sleep(0.15)
        time.sleep(0.1)


def test_a_worker_that_native_code_holds_ends_itself(monkeypatch) -> None:
    ended = []
    monkeypatch.setattr(limits._process, "is_worker", True)
    monkeypatch.setattr(limits.os, "_exit", lambda code: (ended.append(code), time.sleep(9)))
    with pytest.raises(LimitReached), limited(MeshLimits(mesh_seconds=0.3)):
        time.sleep(1.2)  # one call that no exception interrupts
    assert ended == [1]


def test_a_limit_is_above_zero() -> None:
    with pytest.raises(ValueError, match="mesh_gigabytes must be above 0, got -1"):
        MeshLimits(mesh_gigabytes=-1)


def test_the_stage_goes_to_the_file_of_the_worker(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(limits, "_process", limits._Process())
    limits.become_worker(tmp_path / "stage")
    enter_stage("uniting 3 parts")
    assert (tmp_path / "stage").read_text() == current_stage() == "uniting 3 parts"
