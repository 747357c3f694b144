"""The files of a run directory that need no torch: `run.json`, and the head of `model.safetensors`.

A run directory is plain data, and nothing in it is unpickled. It can be moved, and it works without the meshes and the
samples.

| file | holds |
|---|---|
| `run.json` | configuration, shapes with their similarities, plan of the training, command, commit |
| `model.safetensors` | the decoder's weights and the codes of the shapes |
| `schedule.json` | how a training with a budget followed the clock: steps, shares and seconds of each decision |
| `metrics.csv` | losses, surface errors and wrong signs over the steps |
| `state.safetensors` | what a training needs to go on exactly; only the training reads it |
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdfnet.files import write_json
from sdfnet.geometry.bounds import LATTICE_MARGIN
from sdfnet.geometry.similarity import Similarity
from sdfnet.solids.rule import AUTO, SolidRule

FORMAT_VERSION = 1
RUN_FILE = "run.json"
MODEL_FILE = "model.safetensors"
METRICS_FILE = "metrics.csv"

SURFACE_ERROR = "surface_error_percent"
WRONG_SIGNS = ("wrong_inside_percent", "wrong_outside_percent")
"""The columns of `metrics.csv` that say how well the shapes are learned. Signs are those close to the surface."""

MOST_WRONG_SIGNS = 5.0
"""Percent of wrong signs on one side above which a training has failed."""

_NEARLY = 0.95
"""Walls of the usual thickness are nearly one spacing at resolution 128."""

_MOST_TOLD = 3
"""Files that an error names."""

METADATA_KEY = "sdfnet"
"""safetensors writes several keys in random order; one key keeps equal contents equal bytes."""


@dataclass(frozen=True)
class RunShape:
    """A learned shape: its name, its source, and the map between its unit frame and the world.

    Attributes
    ----------
    source : str
        Path of the mesh file when it was sampled.
    content_hash : str
        Hash of that file, so that an evaluation can detect a changed mesh.
    closed : bool
        Whether the source encloses a volume.
    rule : SolidRule
        The choice of what the inside of the source is.
    num_surfaces : int or None
        Connected surfaces of the source, those of cavities included; None if nobody counted them. For a mix, the
        largest number among its shapes.
    solid_hash : str
        Hash of the solid that was sampled; empty where nobody stored it.
    wall_thickness : float or None
        Thickness of the walls in that solid, world units; None if it has none.
    learned : bool
        Whether the network was trained on the shape; False for a shape whose code was fitted afterwards.

    >>> RunShape("chair_00", Similarity.identity(), "chairs/chair_00.obj", "", closed=True).is_mix
    False
    """

    name: str
    similarity: Similarity
    source: str
    content_hash: str
    closed: bool
    rule: SolidRule = AUTO
    num_surfaces: int | None = None
    learned: bool = True
    solid_hash: str = ""
    wall_thickness: float | None = None

    @property
    def is_mix(self) -> bool:
        """Whether it is a sum of learned shapes, which has no source."""
        return not self.source

    def to_dict(self) -> dict[str, Any]:
        keys = ("name", "source", "content_hash", "closed", "num_surfaces", "learned", "solid_hash", "wall_thickness")
        own = {key: getattr(self, key) for key in keys}
        return {**own, **self.rule.to_dict(), "similarity": self.similarity.to_dict()}

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> RunShape:
        own = {key: value for key, value in document.items() if key not in AUTO.to_dict()}
        similarity = Similarity.from_dict(document["similarity"])
        return cls(**{**own, "similarity": similarity, "rule": SolidRule.from_dict(document)})


def describe_thin_walls(shapes: Iterable[RunShape], *, resolution: int) -> str:
    """Say which shapes have walls thinner than a spacing of the lattice of a learned shape; empty if none has.

    >>> leaf = RunShape("leaf", Similarity.identity(), "leaf.obj", "", closed=True, wall_thickness=0.01)
    >>> describe_thin_walls([leaf], resolution=128)
    'walls of leaf are thinner than a spacing at resolution 128, and may get holes: resolution=211 resolves them'
    """
    extent = 2 * (1 + LATTICE_MARGIN)
    walls = {shape.name: shape.wall_thickness * shape.similarity.scale for shape in shapes if shape.wall_thickness}
    thin = [name for name, thickness in walls.items() if thickness < _NEARLY * extent / (resolution - 1)]
    if not thin:
        return ""
    told = ", ".join(thin[:_MOST_TOLD]) + (f" and {len(thin) - _MOST_TOLD} more" if len(thin) > _MOST_TOLD else "")
    enough = math.ceil(extent / min(walls[name] for name in thin)) + 1
    return (
        f"walls of {told} are thinner than a spacing at resolution {resolution}, and may get holes: "
        f"resolution={enough} resolves them"
    )


def save_document(directory: str | Path, document: Mapping[str, Any], shapes: Sequence[RunShape]) -> None:
    """Write `run.json`.

    >>> save_document("copy", *load_document("runs/chairs"))
    >>> load_document("copy")[1][0].name
    'chair_00'
    """
    content = {"format": FORMAT_VERSION, **document, "shapes": [shape.to_dict() for shape in shapes]}
    write_json(Path(directory) / RUN_FILE, content)


def check_overwrites(out: str | Path, targets: Iterable[Path], meshes: Iterable[str | Path], *, what: str) -> None:
    """Refuse to write `targets`, files below the folder `out`, if one of them is one of the files `meshes`.

    `what` says whose files those are. Links are followed, so that the same file is found under another name.

    Raises
    ------
    ValueError
        A target is a file of `meshes`; the message names the first three.

    >>> source = Path("chairs/chair_00.obj")
    >>> check_overwrites("out", [Path("out/chair_00.obj")], [source], what="the source meshes of this run")
    >>> check_overwrites("chairs", [source], [source], what="the source meshes of this run")
    Traceback (most recent call last):
    ...
    ValueError: out=chairs holds the source meshes of this run (chair_00.obj); give another out
    """
    kept = {_identity(path) for path in meshes if str(path)} - {None}
    lost = [path for path in targets if kept and _identity(path) in kept]
    if lost:
        told = ", ".join(path.relative_to(out).as_posix() for path in lost[:_MOST_TOLD])
        more = ", …" if len(lost) > _MOST_TOLD else ""
        raise ValueError(f"out={out} holds {what} ({told}{more}); give another out")


def _identity(path: str | Path) -> tuple[int, int] | None:
    """Return what tells a file from every other, under all its names; None if there is no file."""
    try:
        found = Path(path).stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def load_document(directory: str | Path, *, key: str = "run") -> tuple[dict[str, Any], tuple[RunShape, ...]]:
    """Read and check `run.json`; messages name the command's `key` that gave the directory.

    Raises
    ------
    ValueError
        No run there, a damaged file, or one of another format version.

    >>> document, shapes = load_document("runs/chairs")
    >>> [shape.name for shape in shapes]
    ['chair_00', 'chair_01']
    """
    path = Path(directory) / RUN_FILE
    if not path.is_file():
        there = "it is not a folder" if Path(directory).exists() else "there is no such folder"
        there = f"it holds no {RUN_FILE}" if Path(directory).is_dir() else there
        raise ValueError(f"no run at {directory}: {there}. Give {key}=DIR as `sdfnet train` wrote it.")
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        version = document.get("format")
        if version != FORMAT_VERSION:
            raise ValueError(
                f"{path} has format {version!r}, but this sdfnet reads format {FORMAT_VERSION}. "
                "Use the sdfnet version that wrote it, or train again."
            )
        return document, tuple(RunShape.from_dict(shape) for shape in document["shapes"])
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is damaged ({error!r}). Restore it from a copy or train again.") from error


@dataclass(frozen=True)
class ModelHeader:
    """The facts in the head of `model.safetensors`: training steps, numbers in the decoder, length of a code.

    >>> load_model_header("runs/chairs").latent_size
    2
    """

    step: int
    num_weights: int
    latent_size: int


def load_model_header(directory: str | Path) -> ModelHeader | None:
    """Read the head of `model.safetensors`; None if the run has no weights yet.

    The file begins with the length of its head (8 bytes, little endian), and then the head itself, which is JSON.

    Raises
    ------
    ValueError
        The file is damaged.

    >>> load_model_header("runs/chairs").step
    200
    """
    path = Path(directory) / MODEL_FILE
    if not path.is_file():
        return None
    try:
        with open(path, "rb") as file:
            document = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        metadata = json.loads(document.pop("__metadata__", {}).get(METADATA_KEY, "{}"))
        sizes = [math.prod(tensor["shape"]) for name, tensor in document.items() if name.startswith("decoder.")]
        return ModelHeader(int(metadata.get("step", "0")), sum(sizes), document["latents"]["shape"][1])
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, OverflowError, MemoryError) as error:
        raise ValueError(f"{path} is damaged ({error!r}). Restore it from a copy or train again.") from error


def load_codes(directory: str | Path) -> NDArray[np.float32]:
    """Read the codes (S, L) of a run's `model.safetensors`, and nothing else of the file.

    Raises
    ------
    ValueError
        The file is missing or damaged.

    >>> load_codes("runs/chairs").shape
    (2, 2)
    """
    path = Path(directory) / MODEL_FILE
    try:
        with open(path, "rb") as file:
            size = int.from_bytes(file.read(8), "little")
            entry = json.loads(file.read(size))["latents"]
            first, last = entry["data_offsets"]
            file.seek(8 + size + first)
            return np.frombuffer(file.read(last - first), dtype="<f4").reshape(entry["shape"])
    except (OSError, ValueError, KeyError, TypeError, OverflowError, MemoryError) as error:
        raise ValueError(f"{path} is damaged ({error!r}). Restore it from a copy or train again.") from error
