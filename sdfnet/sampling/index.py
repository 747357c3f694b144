"""The table of contents of a sample store: which shape's samples lie in which row of which shard.

A store is a folder with `index.json` and a few big shards, `shard_0000.npy` and so on. A shard is a plain NumPy file
of shape (rows, floats); each row is one shape's record: its samples (N, 4), surface points (M, 6) and held-out points
(K, 6) one after the other, float32, little-endian. The index has no times and no host names, so that the same meshes
and settings give the same bytes. Preparation writes it last, after the shards that it speaks of.
"""

from __future__ import annotations

import io
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from sdfnet.files import write_json
from sdfnet.geometry.similarity import Similarity
from sdfnet.sampling.mixture import SamplerConfig

INDEX_FILE = "index.json"
FORMAT = 1
"""Raised whenever a reader of the old layout, or a sampler of the old points, would no longer be right."""

FLOAT = np.dtype("<f4")


@dataclass(frozen=True)
class RecordLayout:
    """Where the three blocks of a record lie, counted in floats."""

    num_samples: int
    num_surface: int
    num_heldout: int

    @classmethod
    def of(cls, config: SamplerConfig) -> RecordLayout:
        return cls(config.num_samples, config.num_surface, config.num_heldout)

    @property
    def num_floats(self) -> int:
        return 4 * self.num_samples + 6 * self.num_surface + 6 * self.num_heldout

    @property
    def num_bytes(self) -> int:
        return FLOAT.itemsize * self.num_floats


@dataclass(frozen=True, eq=False, slots=True)
class StoredShape:
    """One shape of a store.

    Attributes
    ----------
    name : str
        The mesh's path below the folder of meshes, without its suffix.
    source : str
        The mesh's path below the folder of meshes, with its suffix and `/`.
    content_hash : str
        Of the mesh's file.
    key : str
        Of everything that decides the samples: the content, the settings and, if shared, the similarity.
    similarity : Similarity
        World frame to unit frame.
    closed : bool
        False: the mesh is open, and its samples leave out the places where the sign jumps.
    thickness : float or None
        Not None for a sheet: the solid is all within this distance (world units) of the mesh.
    report : dict
        The mesh's report as JSON.
    shard, row : int
    checksum : int
        CRC-32 of the record's bytes.
    """

    name: str
    source: str
    content_hash: str
    key: str
    similarity: Similarity
    closed: bool
    thickness: float | None
    report: dict[str, Any]
    shard: int
    row: int
    checksum: int

    @property
    def notes(self) -> tuple[str, ...]:
        """What the check of the mesh remarked."""
        return tuple(self.report.get("notes", ()))


@dataclass(frozen=True, eq=False)
class RefusedShape:
    """A mesh that could not be used, remembered so that it is not tried again before it changes."""

    name: str
    source: str
    key: str
    report: dict[str, Any]


@dataclass(frozen=True, eq=False)
class StoreIndex:
    """The whole of `index.json`.

    Attributes
    ----------
    settings : dict
        `sampler`, `normalize` and `thickness` as JSON: what all shapes of the store share.
    meshes : str
        The folder of meshes.
    complete : bool
        False while a preparation is under way, or after one was interrupted.
    shards : tuple of int
        Rows of each shard; 0 for a shard that is no longer needed.
    shapes : tuple of StoredShape, sorted by name
    refused : tuple of RefusedShape, sorted by name
    frame : dict or None
        With `normalize=shared`: the similarity, and a digest of the meshes that it was made from.
    """

    settings: dict[str, Any]
    meshes: str
    complete: bool = False
    shards: tuple[int, ...] = ()
    shapes: tuple[StoredShape, ...] = field(default=())
    refused: tuple[RefusedShape, ...] = field(default=())
    frame: dict[str, Any] | None = None

    @property
    def config(self) -> SamplerConfig:
        return SamplerConfig(**self.settings["sampler"])

    @property
    def layout(self) -> RecordLayout:
        return RecordLayout.of(self.config)


def shard_path(directory: Path, shard: int) -> Path:
    """Return the file of a shard.

    >>> shard_path(Path("store"), 3).name
    'shard_0003.npy'
    """
    return directory / f"shard_{shard:04d}.npy"


def shard_header(num_rows: int, layout: RecordLayout) -> bytes:
    """Return the first bytes of a shard: the header of a NumPy file."""
    buffer = io.BytesIO()
    header = {"descr": FLOAT.str, "fortran_order": False, "shape": (num_rows, layout.num_floats)}
    np.lib.format.write_array_header_1_0(buffer, header)
    return buffer.getvalue()


def save_index(directory: Path, index: StoreIndex) -> None:
    """Write `index.json`, whole or not at all."""
    shapes = [
        {key: getattr(shape, key) for key in StoredShape.__dataclass_fields__ if key != "similarity"}
        | {"similarity": shape.similarity.to_dict()}
        for shape in index.shapes
    ]
    document = {
        "format": FORMAT,
        "complete": index.complete,
        "meshes": index.meshes,
        "settings": index.settings,
        "frame": index.frame,
        "shards": list(index.shards),
        "shapes": shapes,
        "refused": [asdict(shape) for shape in index.refused],
    }
    write_json(directory / INDEX_FILE, document)


def load_index(directory: Path) -> StoreIndex:
    """Read `index.json`.

    Raises
    ------
    ValueError
        It is missing, is not whole, or comes from another version.
    """
    path = directory / INDEX_FILE
    try:
        document = json.loads(path.read_text(encoding="utf-8"), object_hook=_shape_at_once)
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


def _shape_at_once(entry: dict[str, Any]) -> dict[str, Any] | StoredShape:
    """Return what a shape's entry means; any other dictionary, and a damaged entry, as it is.

    While the file is read, so that it is never all there as dictionaries: of 10,000 shapes that would be 9 MB more.
    """
    if entry.keys() != StoredShape.__dataclass_fields__.keys():
        return entry
    try:
        return _stored_shape(entry)
    except (KeyError, TypeError, ValueError):
        return entry


def _stored_shape(entry: dict[str, Any]) -> StoredShape:
    return StoredShape(**{**entry, "similarity": Similarity.from_dict(entry["similarity"])})


def _parse(document: dict[str, Any]) -> StoreIndex:
    shapes = tuple(entry if isinstance(entry, StoredShape) else _stored_shape(entry) for entry in document["shapes"])
    refused = tuple(RefusedShape(**entry) for entry in document["refused"])
    index = StoreIndex(
        document["settings"],
        document["meshes"],
        document["complete"],
        tuple(document["shards"]),
        shapes,
        refused,
        document["frame"],
    )
    assert index.config
    for shape in shapes:
        if not (0 <= shape.shard < len(index.shards) and 0 <= shape.row < index.shards[shape.shard]):
            raise ValueError(f"shape {shape.name} is in row {shape.row} of shard {shape.shard}, which is not there")
    return index
