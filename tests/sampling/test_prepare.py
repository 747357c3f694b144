"""Preparing a folder: what is done once, what again, and that a kill at any point changes nothing."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sdfnet.files import write_json
from sdfnet.mesh.io.read import read_mesh
from sdfnet.mesh.io.write import save_mesh
from sdfnet.mesh.mesh import Mesh
from sdfnet.sampling import PrepareReport, SamplerConfig, SampleStore, prepare_samples
from sdfnet.sampling import prepare as prepare_module
from sdfnet.sampling.jobs import leave_samples
from sdfnet.solids.rule import SolidRule
from sdfnet.solids.source_shape import folder_similarities, load_shape


def prepare(meshes: Path, directory: Path, config: SamplerConfig, **options: object) -> PrepareReport:
    return prepare_samples(meshes, directory, config=config, **{"num_workers": 1, "progress": False, **options})


def contents(directory: Path) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


@pytest.fixture
def two_to_a_shard(monkeypatch: pytest.MonkeyPatch, small_config: SamplerConfig) -> None:
    monkeypatch.setattr("sdfnet.sampling.prepare.SHARD_BYTES", 2 * 4 * (4 * 600 + 6 * 70))


def test_a_folder_is_prepared_once(mesh_folder: Path, tmp_path: Path, small_config: SamplerConfig) -> None:
    first = prepare(mesh_folder, tmp_path / "samples", small_config)
    assert first.names == ("box_0", "box_1", "box_2", "box_3", "more/a [1] = b/box")
    assert [report.name for report in first.reports] == list(first.names)
    assert (first.num_done, first.num_skipped) == (5, 0)
    before = contents(tmp_path / "samples")
    assert first.bytes_on_disk == sum(map(len, before.values()))
    stamps = {path: path.stat().st_mtime_ns for path in (tmp_path / "samples").glob("shard*")}
    again = prepare(mesh_folder, tmp_path / "samples", small_config)
    assert (again.num_done, again.num_skipped) == (0, 5)
    assert again.names == first.names
    assert again.reports == first.reports
    assert contents(tmp_path / "samples") == before
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "samples").glob("shard*")} == stamps
    assert set(before) == {".lock", "index.json", "shard_0000.npy"}


def test_results_do_not_depend_on_order_or_company(
    mesh_folder: Path, tmp_path: Path, small_config: SamplerConfig
) -> None:
    together = prepare(mesh_folder, tmp_path / "together", small_config).store
    alone = prepare(mesh_folder, tmp_path / "alone", small_config, shapes=["box_3"]).store
    assert alone.names == ("box_3",)
    assert (alone.read(0, 0, 600) == together.read(3, 0, 600)).all()
    assert alone.shapes[0].similarity.to_dict() == together.shapes[3].similarity.to_dict()


def test_asking_for_fewer_shapes_keeps_the_others(
    mesh_folder: Path, tmp_path: Path, small_config: SamplerConfig
) -> None:
    prepare(mesh_folder, tmp_path / "samples", small_config)
    fewer = prepare(mesh_folder, tmp_path / "samples", small_config, shapes="box_[12]")
    assert fewer.names == ("box_1", "box_2")
    assert (fewer.num_done, fewer.num_skipped) == (0, 2)
    assert len(fewer.reports) == 2
    assert len(fewer.store) == 5


def test_other_settings_are_refused_by_name(mesh_folder: Path, tmp_path: Path, small_config: SamplerConfig) -> None:
    prepare(mesh_folder, tmp_path / "samples", small_config)
    before = contents(tmp_path / "samples")
    with pytest.raises(ValueError, match=r"sampler.num_samples is 600 there and 601 now.*another samples=DIR"):
        prepare(mesh_folder, tmp_path / "samples", replace(small_config, num_samples=601))
    with pytest.raises(ValueError, match=r'normalize is "each" there and "shared" now'):
        prepare(mesh_folder, tmp_path / "samples", small_config, normalize="shared")
    with pytest.raises(ValueError, match=r"thickness is null there and 0.5 now"):
        prepare(mesh_folder, tmp_path / "samples", small_config, rule=SolidRule(thickness=0.5))
    assert contents(tmp_path / "samples") == before


def as_the_first_version_wrote_it(directory: Path, *, of_other_vertices: str = "") -> None:
    """Rewrite the index of a store: no `solid`, no number of reading, no hash of the solid."""
    document = json.loads((directory / "index.json").read_text())
    settings = {key: document["settings"][key] for key in ("sampler", "normalize")} | {"thickness": None}
    for shape in document["shapes"]:
        del shape["reading"], shape["solid_hash"]
        decisive = [document["format"], shape["content_hash"], Path(shape["source"]).suffix, settings, None]
        shape |= {"thickness": None, "key": prepare_module._digest(decisive)}
        if shape["name"] == of_other_vertices:
            shape["report"]["extent"][0] += 0.1
    write_json(directory / "index.json", {**document, "settings": settings})


def test_a_store_of_the_first_version_is_inspected_again_and_keeps_its_samples(
    mesh_folder: Path, tmp_path: Path, small_config: SamplerConfig
) -> None:
    directory = tmp_path / "samples"
    prepare(mesh_folder, directory, small_config, rule=SolidRule("winding"))
    as_the_first_version_wrote_it(directory)
    assert SampleStore(directory).rule == SolidRule("winding")
    shard = (directory / "shard_0000.npy").read_bytes()
    done = prepare(mesh_folder, directory, small_config)  # the same command as then
    assert (done.num_done, done.num_skipped) == (0, 5)
    assert done.store.rule == SolidRule("winding")
    assert all(shape.solid_hash for shape in done.store.shapes)
    assert (directory / "shard_0000.npy").read_bytes() == shard
    before = contents(directory)
    assert prepare(mesh_folder, directory, small_config).num_done == 0
    assert contents(directory) == before
    with pytest.raises(ValueError, match=r'solid is "winding" there and "outer" now'):
        prepare(mesh_folder, directory, small_config, rule=SolidRule("outer"))


def test_a_shape_that_an_older_version_read_differently_is_drawn_anew(
    mesh_folder: Path, tmp_path: Path, small_config: SamplerConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = tmp_path / "samples"
    prepare(mesh_folder, directory, small_config, rule=SolidRule("winding"))
    as_the_first_version_wrote_it(directory, of_other_vertices="box_2")
    assert prepare(mesh_folder, directory, small_config).num_done == 1
    for name in ("prepare", "store"):
        monkeypatch.setattr(f"sdfnet.sampling.{name}.READING_VERSION", 4)
    assert prepare(mesh_folder, directory, small_config).num_done == 0  # the solids are the same
    index = json.loads((directory / "index.json").read_text())
    assert {shape["reading"] for shape in index["shapes"]} == {4}
    index["shapes"][1] |= {"reading": 3, "solid_hash": "another"}
    index["shapes"][1]["key"] = prepare_module._key(_decisive(index, 1), 3)
    write_json(directory / "index.json", index)
    assert prepare(mesh_folder, directory, small_config).num_done == 1


def _decisive(index: dict[str, Any], number: int) -> list[Any]:
    shape = index["shapes"][number]
    return [index["format"], shape["content_hash"], Path(shape["source"]).suffix, index["settings"], None]


@pytest.mark.usefixtures("two_to_a_shard")
def test_new_changed_and_removed_meshes_are_followed(
    mesh_folder: Path, tmp_path: Path, small_config: SamplerConfig, make_box: Callable[..., Mesh]
) -> None:
    directory = tmp_path / "samples"
    first = prepare(mesh_folder, directory, small_config).store
    rows = {shape.name: (shape.shard, shape.row) for shape in first.shapes}
    old = {name: first.read(first.index_of(name), 0, 600) for name in first.names}
    save_mesh(make_box((5, 5, 1)), mesh_folder / "a_new_one.stl")
    save_mesh(make_box((7, 1, 1)), mesh_folder / "box_1.obj")
    (mesh_folder / "box_2.obj").unlink()
    done = prepare(mesh_folder, directory, small_config)
    assert done.names == ("a_new_one", "box_0", "box_1", "box_3", "more/a [1] = b/box")
    assert (done.num_done, done.num_skipped) == (2, 3)
    assert done.store.names == done.names
    shapes = {shape.name: shape for shape in done.store.shapes}
    assert {name: (shapes[name].shard, shapes[name].row) for name in done.names[1:]} == {
        name: rows[name] for name in done.names[1:]
    }
    for name in ("box_0", "box_3", "more/a [1] = b/box"):
        assert (done.store.read(done.store.index_of(name), 0, 600) == old[name]).all()
    assert not (done.store.read(done.store.index_of("box_1"), 0, 600) == old["box_1"]).all(axis=1).any()
    SampleStore(directory)
    # A shard that nobody needs any more goes.
    for name in ("box_0", "box_1"):
        (mesh_folder / f"{name}.obj").unlink()
    prepare(mesh_folder, directory, small_config)
    assert not (directory / "shard_0000.npy").exists()
    assert len(SampleStore(directory)) == 3


def test_a_bad_file_is_reported_and_not_tried_again_before_it_changes(
    mesh_folder: Path, tmp_path: Path, small_config: SamplerConfig, monkeypatch: pytest.MonkeyPatch,
    make_box: Callable[..., Mesh],
) -> None:  # fmt: skip
    (mesh_folder / "bad.obj").write_text("v 0 0 nan\nf 1 1 1\n")
    (mesh_folder / "empty.stl").write_bytes(b"")
    first = prepare(mesh_folder, tmp_path / "samples", small_config)
    refused = {report.name: report.reason for report in first.reports if report.status == "refused"}
    assert refused.keys() == {"bad", "empty"}
    assert "NaN" in str(refused["bad"])
    assert "empty" in str(refused["empty"])
    assert len(first.names) == 5
    with monkeypatch.context() as patch:
        patch.setattr("sdfnet.sampling.jobs.load_shape", None)
        again = prepare(mesh_folder, tmp_path / "samples", small_config)
    assert again.reports == first.reports
    save_mesh(make_box((1, 1, 1)), mesh_folder / "bad.obj")
    assert "bad" in prepare(mesh_folder, tmp_path / "samples", small_config).names


def test_an_unexpected_error_is_reported_and_tried_again_next_time(
    mesh_folder: Path, tmp_path: Path, small_config: SamplerConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(shape: object, *_: object) -> None:
        raise MemoryError("too large")

    with monkeypatch.context() as patch:
        patch.setattr("sdfnet.sampling.jobs.sample_shape", fail)
        with pytest.raises(
            ValueError, match=r"none of the 1 meshes of .* can be used: box_0: .*MemoryError: too large"
        ):
            prepare(mesh_folder, tmp_path / "samples", small_config, shapes="box_0")
    assert prepare(mesh_folder, tmp_path / "samples", small_config, shapes="box_0").num_done == 1


def test_a_folder_without_one_usable_mesh_is_an_error(tmp_path: Path, small_config: SamplerConfig) -> None:
    (tmp_path / "meshes").mkdir()
    (tmp_path / "meshes" / "bad.obj").write_text("v 1 2 3\n")
    with pytest.raises(ValueError, match=r"none of the 1 meshes of .*meshes can be used: bad: no faces"):
        prepare(tmp_path / "meshes", tmp_path / "samples", small_config)
    with pytest.raises(ValueError, match="no such folder"):
        prepare(tmp_path / "nowhere", tmp_path / "samples", small_config)


def test_a_shape_in_other_units_than_the_rest_is_named(
    mesh_folder: Path, tmp_path: Path, small_config: SamplerConfig, caplog: pytest.LogCaptureFixture
) -> None:
    box = read_mesh(mesh_folder / "box_1.obj")
    save_mesh(Mesh(box.vertices / 1000, box.faces), mesh_folder / "metres.ply")
    prepare(mesh_folder, tmp_path / "each", small_config, shapes="metres")
    assert not caplog.records
    prepare(mesh_folder, tmp_path / "shared", small_config, normalize="shared")
    assert "a lattice of 128 in the frame that all share: metres. Are their units the same?" in caplog.text


def test_a_shared_frame_keeps_relative_size_and_place(
    mesh_folder: Path, tmp_path: Path, small_config: SamplerConfig, caplog: pytest.LogCaptureFixture,
    make_box: Callable[..., Mesh],
) -> None:  # fmt: skip
    directory = tmp_path / "samples"
    (mesh_folder / "bad.obj").write_text("v 0 0 1e9\nf 1 1 1\n")
    first = prepare(mesh_folder, directory, small_config, normalize="shared", shapes="box_1")
    shapes = [load_shape(path) for path in sorted(mesh_folder.rglob("box*.*"))]
    expected = folder_similarities(shapes, normalize="shared")[0]
    found = first.store.shapes[0].similarity
    assert found.center.tolist() == expected.center.tolist()
    assert found.scale == pytest.approx(expected.scale, rel=1e-15)
    caplog.clear()
    rest = prepare(mesh_folder, directory, small_config, normalize="shared")
    assert (rest.num_done, rest.num_skipped) == (4, 1)
    assert not caplog.records
    # One more inside the same frame changes nothing for the others; one outside changes all, and that is said.
    save_mesh(make_box((1, 1, 1), (5, 3, 0)), mesh_folder / "inside.obj")
    assert prepare(mesh_folder, directory, small_config, normalize="shared").num_done == 1
    assert not caplog.records
    save_mesh(make_box((1, 1, 1), (500, 3, 0)), mesh_folder / "outside.obj")
    assert prepare(mesh_folder, directory, small_config, normalize="shared").num_done == 7
    assert "all 6 shapes are sampled again" in caplog.text


class Kill(BaseException):
    """Stands for a kill: nothing in the program may catch it."""


@pytest.mark.usefixtures("two_to_a_shard")
@pytest.mark.parametrize(
    ("scene", "step"),
    [
        ("fresh", 7),
        ("changed", 5),
        pytest.param("fresh", 2, marks=pytest.mark.slow),
        pytest.param("changed", 2, marks=pytest.mark.slow),
    ],
)
def test_a_kill_at_any_write_and_the_same_command_end_with_the_same_bytes(
    scene: str, step: int, mesh_folder: Path, tmp_path: Path, small_config: SamplerConfig,
    monkeypatch: pytest.MonkeyPatch, make_box: Callable[..., Mesh],
) -> None:  # fmt: skip
    start, undisturbed, disturbed = (tmp_path / name for name in ("start", "undisturbed", "disturbed"))
    (mesh_folder / "bad.obj").write_text("v 0 0 1e9\nf 1 1 1\n")
    start.mkdir()
    if scene == "changed":
        prepare(mesh_folder, start, small_config)
        save_mesh(make_box((5, 5, 1)), mesh_folder / "a_new_one.stl")
        save_mesh(make_box((7, 1, 1)), mesh_folder / "box_1.obj")
        (mesh_folder / "box_0.obj").unlink()
        (start / "shard_0002.npy").write_bytes(b"damaged")
    shutil.copytree(start, undisturbed)
    prepare(mesh_folder, undisturbed, small_config)
    expected = contents(undisturbed)
    replace_file, unlink = os.replace, Path.unlink
    num_kills = 0
    for last in range(0, 1000, step):
        shutil.rmtree(disturbed, ignore_errors=True)
        shutil.copytree(start, disturbed)
        left = last

        def count() -> None:
            nonlocal left
            if left == 0:
                raise Kill
            left -= 1

        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", lambda *arguments: (count(), replace_file(*arguments)))
            patch.setattr(Path, "unlink", lambda *arguments, **keywords: (count(), unlink(*arguments, **keywords)))
            try:
                prepare(mesh_folder, disturbed, small_config)
            except Kill:
                num_kills += 1
            else:
                break
        (disturbed / ".0123456789ab.partial.npy").write_bytes(b"what a real kill leaves behind")
        prepare(mesh_folder, disturbed, small_config)
        assert contents(disturbed) == expected, f"killed at write {last}"
    assert num_kills > 15 / step


def test_a_killed_preparation_is_not_taken_for_a_finished_one(
    mesh_folder: Path, tmp_path: Path, small_config: SamplerConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def interrupt(job: object, **options: object) -> None:
        calls.append(job)
        if len(calls) == 4:
            raise KeyboardInterrupt
        leave_samples(job, **options)

    with monkeypatch.context() as patch:
        patch.setattr("sdfnet.sampling.jobs.leave_samples", interrupt)
        with pytest.raises(KeyboardInterrupt):
            prepare(mesh_folder, tmp_path / "samples", small_config)
    with pytest.raises(ValueError, match="not finished"):
        SampleStore(tmp_path / "samples")
    with monkeypatch.context() as patch:
        patch.setattr("sdfnet.sampling.jobs.leave_samples", interrupt)
        done = prepare(mesh_folder, tmp_path / "samples", small_config)
    assert len(calls) == 4 + 2  # three were finished
    assert done.num_done == 5


def test_a_full_disk_is_one_line_with_the_cure(
    mesh_folder: Path, tmp_path: Path, small_config: SamplerConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("sdfnet.sampling.jobs.write_used_part", fail)
    with pytest.raises(ValueError, match=r"cannot keep the samples in .*No space left on device.*same command goes on"):
        prepare(mesh_folder, tmp_path / "samples", small_config)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"normalize": "all"}, "normalize must be one of each, shared, got 'all'"),
        ({"num_workers": 0}, "num_workers must be 1 or more, got 0"),
        ({"shapes": "sphere"}, "no shape is named 'sphere'"),
    ],
)
def test_nonsense_is_refused(
    options: dict[str, object], message: str, mesh_folder: Path, tmp_path: Path, small_config: SamplerConfig
) -> None:
    with pytest.raises(ValueError, match=message):
        prepare(mesh_folder, tmp_path / "samples", small_config, **options)
    assert not (tmp_path / "samples").exists()


def test_the_index_has_nothing_of_the_machine_or_the_hour(
    mesh_folder: Path, tmp_path: Path, small_config: SamplerConfig
) -> None:
    prepare(mesh_folder, tmp_path / "one", small_config)
    prepare(mesh_folder, tmp_path / "other", small_config)
    assert contents(tmp_path / "one") == contents(tmp_path / "other")
    document = json.loads((tmp_path / "one" / "index.json").read_text())
    assert document["complete"] is True
    assert np.load(tmp_path / "one" / "shard_0000.npy").shape == (5, 4 * 600 + 6 * 70)
