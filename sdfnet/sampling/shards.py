"""Write the shards of a store from the parts that workers leave behind.

Parts are put into shards in the order of names, not in the order
of finishing, so that an interrupted preparation ends with the same bytes as an undisturbed one.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from sdfnet.files import atomic_path
from sdfnet.sampling.parts import Job, Part, read_part
from sdfnet.sampling.store import (
    RecordLayout,
    RefusedShape,
    StoredShape,
    StoreIndex,
    save_index,
    shard_header,
    shard_path,
)

SHARD_BYTES = 512 * 2**20
"""Shards are filled up to about this size."""

_BLOCK_BYTES = 2**22


def place_parts(
    directory: Path, index: StoreIndex, jobs: Sequence[Job], *, progress: Callable[[int], object]
) -> StoreIndex:
    """Put the parts of `jobs` into the shards, keep the index in step, and return it.

    A shape that the index already names keeps its row; new ones are appended, by name, in new shards. A job whose part
    was refused loses its row. The index is written after each shard and a part removed after that, so that a kill at
    any point loses nothing. `progress` hears of each record placed.
    """
    parts = {job.name: (job, part) for job in jobs if (part := read_part(job)) is not None and part.status == "used"}
    rows = {shape.name: (shape.shard, shape.row) for shape in index.shapes}
    lost = {job.name for job in jobs if job.name not in parts}
    index = replace(index, shapes=tuple(shape for shape in index.shapes if shape.name not in lost))
    for shard in sorted({rows[name][0] for name in parts if name in rows}):
        names = {rows[name][1]: name for name in parts if name in rows and rows[name][0] == shard}
        placed = {row: parts[name] for row, name in names.items()}
        index = _write_shard(directory, index, shard, index.shards[shard], placed, progress)
    new = sorted(name for name in parts if name not in rows)
    rows_per_shard = max(1, SHARD_BYTES // index.layout.num_bytes)
    for first in range(0, len(new), rows_per_shard):
        placed = {row: parts[name] for row, name in enumerate(new[first : first + rows_per_shard])}
        shard = len(index.shards)
        index = _write_shard(directory, index, shard, len(placed), placed, progress)
    return index


def drop_shapes(index: StoreIndex, names: Collection[str]) -> StoreIndex:
    """Return the index without some shapes, used or refused; other rows stay where they are."""
    shapes = tuple(shape for shape in index.shapes if shape.name not in names)
    return replace(index, shapes=shapes, refused=tuple(shape for shape in index.refused if shape.name not in names))


def prune_shards(index: StoreIndex) -> StoreIndex:
    """Return the index with those shards emptied that no shape is left in."""
    used = {shape.shard for shape in index.shapes}
    return replace(index, shards=tuple(rows if shard in used else 0 for shard, rows in enumerate(index.shards)))


def remove_unused_shards(directory: Path, index: StoreIndex) -> None:
    """Delete the files of emptied shards."""
    for shard, num_rows in enumerate(index.shards):
        if num_rows == 0:
            shard_path(directory, shard).unlink(missing_ok=True)


def with_refused(index: StoreIndex, jobs: Sequence[Job]) -> StoreIndex:
    """Return the index with what the refused parts of `jobs` say, so that those files are not tried again."""
    refused = {shape.name: shape for shape in index.refused}
    for job in jobs:
        refused.pop(job.name, None)
        part = read_part(job)
        if part is not None and part.status == "refused":
            refused[job.name] = RefusedShape(job.name, job.source, job.key, part.report.to_dict())
    return replace(index, refused=tuple(refused[name] for name in sorted(refused)))


def _write_shard(
    directory: Path,
    index: StoreIndex,
    shard: int,
    num_rows: int,
    placed: dict[int, tuple[Job, Part]],
    progress: Callable[[int], object],
) -> StoreIndex:
    """Write one shard, rows not in `placed` taken over from the old file; then the index; then remove the parts."""
    path = shard_path(directory, shard)
    header = shard_header(num_rows, index.layout)
    with atomic_path(path) as temporary, open(temporary, "wb") as target:
        target.write(header)
        for row in range(num_rows):
            if row in placed:
                _copy_part(placed[row][1], target, index.layout)
                progress(1)
            else:
                _copy_old_row(path, target, len(header) + row * index.layout.num_bytes, index.layout)
    shapes = {shape.name: shape for shape in index.shapes}
    for row, (job, part) in placed.items():
        assert part.similarity is not None
        shapes[job.name] = StoredShape(
            name=job.name,
            source=job.source,
            content_hash=job.content_hash,
            key=job.key,
            similarity=part.similarity,
            closed=part.closed,
            thickness=part.thickness,
            report=part.report.to_dict(),
            shard=shard,
            row=row,
            checksum=part.checksum,
        )
    shards = (*index.shards[:shard], num_rows, *index.shards[shard + 1 :])
    index = replace(index, shards=shards, shapes=tuple(shapes[name] for name in sorted(shapes)))
    save_index(directory, index)
    for _, part in placed.values():
        part.path.unlink(missing_ok=True)
    return index


def _copy_part(part: Part, target: BinaryIO, layout: RecordLayout) -> None:
    checksum = 0
    with open(part.path, "rb") as source:
        source.seek(part.offset)
        left = layout.num_bytes
        while left and (block := source.read(min(left, _BLOCK_BYTES))):
            checksum = zlib.crc32(block, checksum)
            target.write(block)
            left -= len(block)
    if left or checksum != part.checksum:
        part.path.unlink()
        raise ValueError(f"{part.path} was damaged after it was written; it is removed. Run the same command again.")


def _copy_old_row(path: Path, target: BinaryIO, offset: int, layout: RecordLayout) -> None:
    """Copy a row that stays; what a damaged file lacks was placed anew or belongs to nobody, and becomes zeros."""
    left = layout.num_bytes
    if path.exists():
        with open(path, "rb") as source:
            source.seek(offset)
            while left and (block := source.read(min(left, _BLOCK_BYTES))):
                target.write(block)
                left -= len(block)
    while left:
        num = min(left, _BLOCK_BYTES)
        target.write(bytes(num))
        left -= num
