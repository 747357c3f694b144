"""Read the samples of many shapes as contiguous slices of a few memory-mapped files. `prepare` writes these files.

A store is a folder with `index.json` and a few big shards, `shard_0000.npy` and so on. A shard is a plain NumPy file of
shape (rows, floats). Each row is the record of one shape: its samples (N, 4), then its surface points (M, 6), then its
held-out points (K, 6), all little-endian float32. The index gives the shard and the row of each shape. The index holds
no times and no host names, so that the same meshes and settings give the same bytes.
"""

from __future__ import annotations

import io
import json
import os
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdfnet.geometry.similarity import Similarity
from sdfnet.sampling.shape_samples import SamplerConfig
from sdfnet.solids.rule import READING_VERSION, SolidRule
from sdfnet.solids.source_shape import Normalize

INDEX_FILE = "index.json"
FORMAT = 1
"""Increased whenever the layout of the files or the sampled points change."""

FLOAT = np.dtype("<f4")


@dataclass(frozen=True, eq=False, slots=True)
class StoredShape:
    """One shape of a store.

    >>> from sdfnet.sampling import SamplerConfig, prepare_samples
    >>> config = SamplerConfig(num_samples=100, num_surface=10, num_heldout=0)
    >>> report = prepare_samples("chairs", "one", config=config, shapes="chair_00", num_workers=1, progress=False)
    >>> report.store.shapes[0].closed
    True
    """

    name: str
    source: str
    """The mesh's path below the folder of meshes, with `/` and the suffix. `name` is this path without the suffix."""
    content_hash: str
    key: str
    """Hash of everything that decides the samples: the mesh's content, the settings and, if shared, the similarity."""
    similarity: Similarity
    closed: bool
    """False if the mesh is open. Then the samples omit the places where the sign jumps."""
    report: dict[str, Any]
    """The mesh's report as JSON."""
    shard: int
    row: int
    checksum: int
    """CRC-32 of the record's bytes."""
    reading: int = READING_VERSION
    """The version of reading that last inspected the mesh. `key` depends on it."""
    solid_hash: str = ""
    """Hash of the solid's vertices and faces; empty in stores of the first version of reading."""

    @property
    def notes(self) -> tuple[str, ...]:
        """The notes of the mesh's report."""
        return tuple(self.report.get("notes", ()))

    @property
    def topology(self) -> tuple[int, int] | None:
        """Connected surfaces and genus of the solid; None if it is open, or if an earlier version sampled it."""
        count, genus = self.report.get("num_components"), self.report.get("genus")
        return None if count is None or genus is None or not self.closed else (int(count), int(genus))

    @classmethod
    def from_dict(cls, document: dict[str, Any]) -> StoredShape:
        """Return the shape that an entry of `index.json` describes."""
        own = {key: value for key, value in document.items() if key != "thickness"}  # earlier versions had this key
        return cls(**{"reading": 1, **own, "similarity": Similarity.from_dict(document["similarity"])})


@dataclass(frozen=True, eq=False)
class RefusedShape:
    """A mesh that could not be used, remembered so that it is not tried again before it changes."""

    name: str
    source: str
    key: str
    report: dict[str, Any]


@dataclass(frozen=True, eq=False)
class StoreIndex:
    """The content of `index.json`. Shapes and refused meshes are sorted by name."""

    settings: dict[str, Any]
    """The settings that all shapes share: `sampler`, `normalize` and the keys of `rule`, as JSON."""
    meshes: str
    complete: bool = False
    """False while a preparation is under way, or after one was interrupted."""
    shards: tuple[int, ...] = ()
    """Number of rows of each shard, or 0 for a shard that is no longer needed."""
    shapes: tuple[StoredShape, ...] = ()
    refused: tuple[RefusedShape, ...] = ()
    frame: dict[str, Any] | None = None
    """With `normalize=shared`, the similarity and a digest of the meshes that determine it."""

    @property
    def config(self) -> SamplerConfig:
        return SamplerConfig(**self.settings["sampler"])

    @property
    def rule(self) -> SolidRule:
        return SolidRule.from_dict(self.settings)


def shard_path(directory: Path, shard: int) -> Path:
    """Return the file of a shard."""
    return directory / f"shard_{shard:04d}.npy"


def record_bytes(config: SamplerConfig) -> int:
    """Return the size of the record of one shape."""
    return FLOAT.itemsize * config.record_floats


def shard_header(num_rows: int, config: SamplerConfig) -> bytes:
    """Return the first bytes of a shard: the header of a NumPy file."""
    buffer = io.BytesIO()
    header = {"descr": FLOAT.str, "fortran_order": False, "shape": (num_rows, config.record_floats)}
    np.lib.format.write_array_header_1_0(buffer, header)
    return buffer.getvalue()


def load_index(directory: Path) -> StoreIndex:
    """Read `index.json`. Raise ValueError if the file is missing, damaged, or of another version."""
    path = directory / INDEX_FILE
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(
            f"no samples in {directory}: {INDEX_FILE} is missing. "
            f"Prepare them: sdfnet sample meshes=DIR samples={directory}"
        ) from None
    except (OSError, ValueError) as error:
        raise ValueError(f"cannot read {path}: {error}. Delete the folder {directory} and prepare it again.") from error
    found = document.get("format") if isinstance(document, dict) else None
    if found != FORMAT:
        raise ValueError(
            f"{path} has format {found}, this version reads format {FORMAT}. "
            "Prepare the meshes into another samples=DIR."
        )
    try:
        return _parse(document)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path} is damaged ({type(error).__name__}: {error}). Delete the folder {directory} and prepare it again."
        ) from error


def _parse(document: dict[str, Any]) -> StoreIndex:
    index = StoreIndex(
        **{key: document[key] for key in ("settings", "meshes", "complete", "frame")},
        shards=tuple(document["shards"]),
        shapes=tuple(StoredShape.from_dict(entry) for entry in document["shapes"]),
        refused=tuple(RefusedShape(**entry) for entry in document["refused"]),
    )
    assert index.config
    assert index.rule
    for shape in index.shapes:
        if not (0 <= shape.shard < len(index.shards) and 0 <= shape.row < index.shards[shape.shard]):
            raise ValueError(f"shape {shape.name} is in row {shape.row} of shard {shape.shard}, which is not there")
    return index


MAX_OPEN_SHARDS = 16
"""Largest number of shards that are mapped at the same time. The least recently used shard is closed first."""


class SampleStore:
    """The samples of many shapes, the same number for each shape.

    Attributes
    ----------
    directory : Path
    shapes : tuple of StoredShape, sorted by name
    names : tuple of str
    config : SamplerConfig
        The options with which every shape was sampled.
    normalize : "each" or "shared"
    rule : SolidRule
        The choice of what the inside of the meshes is.
    meshes : str
        The folder of meshes that `StoredShape.source` is relative to.
    num_samples, num_surface, num_heldout : int
        Numbers of points for each shape.

    Raises
    ------
    ValueError
        The store is missing, of another version, unfinished, or damaged. The message names the file and the cure. Sizes
        are always checked. Checksums (about one second per gigabyte) are checked if `verify`.

    >>> from sdfnet.sampling import SamplerConfig, prepare_samples
    >>> config = SamplerConfig(num_samples=100, num_surface=10, num_heldout=0)
    >>> report = prepare_samples("chairs", "some", config=config, shapes="chair_00", num_workers=1, progress=False)
    >>> store = SampleStore("some")
    >>> len(store), store.shapes[0].name
    (1, 'chair_00')
    """

    def __init__(self, directory: str | Path, *, verify: bool = True) -> None:
        self.directory = Path(directory)
        index = load_index(self.directory)
        if not index.complete:
            raise ValueError(
                f"the samples in {self.directory} are not finished ({len(index.shapes)} shapes so far): "
                "run the same sdfnet sample command again; it continues."
            )
        if damage := find_damage(self.directory, index, checksums=verify):
            name, fault = min(damage.items())
            more = f" and of {len(damage) - 1} more" if len(damage) > 1 else ""
            raise ValueError(
                f"{fault}; the samples of {name}{more} cannot be trusted. Run the same sdfnet sample command again: "
                "it prepares anew just what is damaged."
            )
        self.shapes = index.shapes
        self.names = tuple(shape.name for shape in index.shapes)
        self.config = index.config
        self.rule = index.rule
        self.normalize: Normalize = index.settings["normalize"]
        self.meshes = index.meshes
        self.num_samples = self.config.num_samples
        self.num_surface = self.config.num_surface
        self.num_heldout = self.config.num_heldout
        self._numbers = {name: number for number, name in enumerate(self.names)}
        self._rows_of = map_shards(self.directory, index)

    def __len__(self) -> int:
        return len(self.shapes)

    @property
    def bytes_on_disk(self) -> int:
        """Size of everything in the store's folder."""
        return sum(path.stat().st_size for path in self.directory.rglob("*") if path.is_file())

    def index_of(self, name: str) -> int:
        """Return the index of the shape called `name`, as `read` takes it."""
        if name not in self._numbers:
            raise ValueError(f"no samples of a shape named {name!r} in {self.directory} ({len(self)} shapes)")
        return self._numbers[name]

    def read(self, index: int, start: int, count: int) -> NDArray[np.float32]:
        """Return `count` samples of shape `index` from number `start` on. The first sample follows the last one.

        Returns
        -------
        (count, 4) float32: x, y, z and signed distance, unit frame.

        Raises
        ------
        ValueError
            No such shape; negative `start` or `count`.
        """
        return _take_round(self._block(index, 0, self.num_samples, 4), start, count)

    def surface(self, index: int, start: int, count: int) -> NDArray[np.float32]:
        """Return surface points as `read` returns samples: (count, 6) float32, x, y, z and the unit outward normal."""
        return _take_round(self._block(index, 4 * self.num_samples, self.num_surface, 6), start, count)

    def heldout(self, index: int) -> NDArray[np.float32]:
        """Return the (K, 6) surface points and normals of shape `index` that training must not see."""
        start = 4 * self.num_samples + 6 * self.num_surface
        return self._block(index, start, self.num_heldout, 6).copy()

    def _block(self, index: int, start: int, num_rows: int, width: int) -> NDArray[np.float32]:
        if not 0 <= index < len(self.shapes):
            raise ValueError(f"index must be 0 to {len(self.shapes) - 1}, got {index}")
        shape = self.shapes[index]
        record = self._rows_of(shape.shard)[shape.row]
        return record[start : start + num_rows * width].reshape(num_rows, width)


def map_shards(directory: Path, index: StoreIndex) -> Callable[[int], NDArray[np.float32]]:
    """Return a function from a shard's number to its rows, (rows, floats) float32, as read-only views of the file.

    A shard is mapped at its first use. A shard that is no longer cached is closed when no view of it exists any more.
    """

    @lru_cache(maxsize=MAX_OPEN_SHARDS)
    def rows_of(shard: int) -> NDArray[np.float32]:
        num_rows, config = index.shards[shard], index.config
        offset, shape = len(shard_header(num_rows, config)), (num_rows, config.record_floats)
        mapped = np.memmap(shard_path(directory, shard), FLOAT, mode="r", offset=offset, shape=shape)
        return np.asarray(mapped)  # Slicing a plain array is several times faster than slicing a memmap.

    return rows_of


def find_damage(
    directory: Path, index: StoreIndex, *, checksums: bool, progress: Callable[[int], object] = lambda _: None
) -> dict[str, str]:
    """Return the faults of the stored samples, as a dictionary from the name of the shape to the fault.

    With `checksums` every record is read, and `progress` is called with 1 for each of them.
    """
    faults = {shard: _shard_fault(directory, shard, num_rows, index) for shard, num_rows in enumerate(index.shards)}
    damage = {shape.name: fault for shape in index.shapes if (fault := faults[shape.shard])}
    if not checksums:
        return damage
    rows_of = map_shards(directory, index)
    readable = [shape for shape in index.shapes if shape.name not in damage]
    # Threads suffice: the checksum of a large buffer runs without the interpreter's lock.
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        found = pool.map(lambda shape: zlib.crc32(rows_of(shape.shard)[shape.row].data), readable)
        for shape, checksum in zip(readable, found, strict=True):
            progress(1)
            if checksum != shape.checksum:
                damage[shape.name] = f"{shard_path(directory, shape.shard)} is damaged: row {shape.row} has changed"
    return damage


def _shard_fault(directory: Path, shard: int, num_rows: int, index: StoreIndex) -> str | None:
    """Return the fault of a shard's file as a whole, or None."""
    if num_rows == 0:
        return None
    path = shard_path(directory, shard)
    header = shard_header(num_rows, index.config)
    expected = len(header) + num_rows * record_bytes(index.config)
    try:
        size = path.stat().st_size
        with open(path, "rb") as handle:
            same = handle.read(len(header)) == header
    except OSError as error:
        return f"{path} cannot be read ({error.strerror})"
    if size != expected:
        return f"{path} is damaged: it has {size} bytes, expected {expected}"
    return None if same else f"{path} is damaged: its header has changed"


def _take_round(block: NDArray[np.float32], start: int, count: int) -> NDArray[np.float32]:
    """Copy `count` rows of `block` from row `start` on. After the last row, continue with the first row."""
    if start < 0 or count < 0:
        raise ValueError(f"start and count must be 0 or more, got {start} and {count}")
    if len(block) == 0 and count:
        raise ValueError(
            "the store holds no such points: it was prepared with none; raise num_surface and prepare again"
        )
    out = np.empty((count, block.shape[1]), dtype=np.float32)
    filled = 0
    while filled < count:
        first = (start + filled) % len(block)
        num = min(len(block) - first, count - filled)
        out[filled : filled + num] = block[first : first + num]
        filled += num
    return out
