"""Reading a store: slices that go round, few open files, and no training on damaged ones."""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sdfnet.mesh.io.write import save_mesh
from sdfnet.mesh.mesh import Mesh
from sdfnet.sampling import SamplerConfig, SampleStore, prepare_samples, store

CONFIG = SamplerConfig(num_samples=60, num_surface=7, num_heldout=3)
NUM_SHAPES = 25


@pytest.fixture(scope="module")
def pristine(make_box: Callable[..., Mesh], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished store of 25 boxes, two to a shard."""
    folder = tmp_path_factory.mktemp("store")
    for number in range(NUM_SHAPES):
        save_mesh(make_box((1 + number, 1, 1)), folder / "meshes" / f"box_{number:02d}.ply")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sdfnet.sampling.prepare.SHARD_BYTES", 2 * 4 * (4 * 60 + 6 * 10))
        prepare_samples(folder / "meshes", folder / "samples", config=CONFIG, num_workers=1, progress=False)
    return folder / "samples"


@pytest.fixture
def directory(pristine: Path, tmp_path: Path) -> Path:
    """A copy to spoil."""
    return Path(shutil.copytree(pristine, tmp_path / "samples"))


def test_the_store_says_what_it_holds(pristine: Path) -> None:
    samples = SampleStore(pristine)
    assert len(samples) == NUM_SHAPES
    assert samples.names == tuple(f"box_{number:02d}" for number in range(NUM_SHAPES))
    assert (samples.num_samples, samples.num_surface, samples.num_heldout) == (60, 7, 3)
    assert samples.config == CONFIG
    assert samples.normalize == "each"
    assert samples.shapes[3].source == "box_03.ply"
    assert (Path(samples.meshes) / samples.shapes[3].source).is_file()
    assert samples.shapes[3].closed
    assert samples.index_of("box_03") == 3
    assert samples.bytes_on_disk == sum(path.stat().st_size for path in pristine.iterdir())


def test_slices_are_those_of_the_plain_numpy_files_and_go_round(pristine: Path) -> None:
    samples = SampleStore(pristine)
    for index, shape in enumerate(samples.shapes):
        record = np.load(pristine / f"shard_{shape.shard:04d}.npy")[shape.row]
        sdf, surface = record[:240].reshape(60, 4), record[240:282].reshape(7, 6)
        assert (samples.read(index, 10, 20) == sdf[10:30]).all()
        assert (samples.read(index, 50, 150) == np.concatenate([sdf, sdf, sdf, sdf])[50:200]).all()
        assert (samples.read(index, 130, 5) == sdf[10:15]).all()
        assert (samples.surface(index, 5, 4) == np.concatenate([surface, surface])[5:9]).all()
        assert (samples.heldout(index) == record[282:].reshape(3, 6)).all()
    assert samples.read(0, 5, 0).shape == (0, 4)


def test_a_slice_is_a_copy(pristine: Path) -> None:
    samples = SampleStore(pristine)
    slice_ = samples.read(1, 55, 10)
    slice_ += 1
    assert (slice_ == samples.read(1, 55, 10) + 1).all()


def test_few_files_are_open_however_many_there_are(pristine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "MAX_OPEN_SHARDS", 4)
    samples = SampleStore(pristine)
    before = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else None
    assert len({shape.shard for shape in samples.shapes}) == 13
    expected = [samples.read(index, 0, 60) for index in range(NUM_SHAPES)]
    if before is not None:
        assert len(os.listdir("/proc/self/fd")) <= before + 4
    faults: list[int] = []

    def read_all(seed: int) -> None:
        for index in np.random.default_rng(seed).integers(NUM_SHAPES, size=300):
            if not (samples.read(int(index), 0, 60) == expected[index]).all():
                faults.append(int(index))

    threads = [threading.Thread(target=read_all, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []


def test_nonsense_is_refused(pristine: Path) -> None:
    samples = SampleStore(pristine)
    with pytest.raises(ValueError, match="index must be 0 to 24, got 25"):
        samples.read(25, 0, 1)
    with pytest.raises(ValueError, match="start and count must be 0 or more, got -1 and 5"):
        samples.read(0, -1, 5)
    with pytest.raises(ValueError, match=r"no samples of a shape named 'sphere'"):
        samples.index_of("sphere")


def flip_a_byte(path: Path, position: int) -> None:
    with open(path, "r+b") as handle:
        handle.seek(position)
        byte = handle.read(1)
        handle.seek(position)
        handle.write(bytes([byte[0] ^ 1]))


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "flipped": (lambda path: flip_a_byte(path, 128 + 1200 + 77), r"shard_0004.npy is damaged: row 1 has changed"),
    "cut": (lambda path: os.truncate(path, 1000), r"shard_0004.npy is damaged: it has 1000 bytes, expected 2528"),
    "emptied": (lambda path: path.write_bytes(b""), r"shard_0004.npy is damaged: it has 0 bytes"),
    "grown": (lambda path: path.write_bytes(path.read_bytes() + b"x"), "2529 bytes, expected 2528"),
    "header": (lambda path: flip_a_byte(path, 20), r"shard_0004.npy is damaged: its header has changed"),
    "gone": (lambda path: path.unlink(), r"shard_0004.npy cannot be read \(No such file"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_shard_is_refused_and_the_same_command_mends_just_that(
    damage: str, directory: Path, pristine: Path
) -> None:
    spoil, message = DAMAGES[damage]
    spoil(directory / "shard_0004.npy")
    with pytest.raises(ValueError, match=rf"{message}.*samples of box_0[89].*the same sdfnet sample command again"):
        SampleStore(directory)
    done = prepare_samples(pristine.parent / "meshes", directory, config=CONFIG, num_workers=1, progress=False)
    assert done.num_done == (1 if damage == "flipped" else 2)
    assert done.num_skipped == NUM_SHAPES - done.num_done
    for path in pristine.iterdir():
        assert (directory / path.name).read_bytes() == path.read_bytes(), path.name


def test_sizes_are_checked_even_without_checksums(directory: Path) -> None:
    flip_a_byte(directory / "shard_0000.npy", 300)
    SampleStore(directory, verify=False)
    os.truncate(directory / "shard_0000.npy", 300)
    with pytest.raises(ValueError, match="it has 300 bytes"):
        SampleStore(directory, verify=False)


def edit_index(directory: Path, **values: object) -> None:
    path = directory / "index.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def scale_shape(directory: Path, number: int, scale: object) -> None:
    shapes = json.loads((directory / "index.json").read_text())["shapes"]
    shapes[number]["similarity"]["scale"] = scale
    edit_index(directory, shapes=shapes)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: (folder / "index.json").unlink(), r"no samples in .*index.json is missing.*sdfnet sample"),
        (lambda folder: (folder / "index.json").write_text("{"), "cannot read .*index.json.*Delete the folder"),
        (lambda folder: (folder / "index.json").write_text("[]"), "has format None, this version reads format 1"),
        (lambda folder: edit_index(folder, format=7), "has format 7, this version reads format 1"),
        (lambda folder: edit_index(folder, shards=[2]), "index.json is damaged.*which is not there"),
        (lambda folder: edit_index(folder, shapes=[{"name": "a"}]), "index.json is damaged"),
        (lambda folder: scale_shape(folder, 3, 0.0), "index.json is damaged .ValueError: scale must be positive"),
        (lambda folder: scale_shape(folder, 3, None), "index.json is damaged .TypeError"),
        (lambda folder: edit_index(folder, complete=False), "not finished .25 shapes so far.*the same sdfnet sample"),
    ],
)  # fmt: skip
def test_a_spoilt_index_is_refused_with_the_cure(
    spoil: Callable[[Path], object], message: str, directory: Path
) -> None:
    spoil(directory)
    with pytest.raises(ValueError, match=message):
        SampleStore(directory)
