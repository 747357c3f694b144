"""What a run directory is: `run.json` (configuration, shapes, plan), `model.safetensors` (decoder and codes).

A run is data. It can be moved; using it never unpickles anything and needs neither the meshes nor the samples. The
training state for an exact resume (`state.safetensors`) is the training loop's own and not read here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sdfnet.decoders import Decoder, build_decoder, decoder_config
from sdfnet.fields.neural import NeuralField
from sdfnet.files import write_json
from sdfnet.geometry.similarity import Similarity
from sdfnet.runs.checkpoint import load_tensors, save_tensors
from sdfnet.runs.selection import select_shapes

FORMAT_VERSION = 1
RUN_FILE = "run.json"
MODEL_FILE = "model.safetensors"


@dataclass(frozen=True)
class RunShape:
    """A learned shape: its name, where it came from and how its unit frame lies in the world.

    Attributes
    ----------
    source : str
        Path of the mesh file when it was sampled.
    content_hash : str
        Of that file, so that an evaluation can tell a changed mesh.
    closed : bool
        Whether the source encloses a volume.
    thickness : float or None
        World units; given where zero-volume sheets were thickened.
    num_surfaces : int or None
        Connected surfaces of the source, those of cavities included; None if nobody counted them. Of a mix, the most
        that any of its shapes has.
    """

    name: str
    similarity: Similarity
    source: str
    content_hash: str
    closed: bool
    thickness: float | None = None
    num_surfaces: int | None = None

    @property
    def is_mix(self) -> bool:
        """Whether it is a sum of learned shapes, which has no source."""
        return not self.source

    def to_dict(self) -> dict[str, Any]:
        keys = ("name", "source", "content_hash", "closed", "thickness", "num_surfaces")
        return {key: getattr(self, key) for key in keys} | {"similarity": self.similarity.to_dict()}

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> RunShape:
        return cls(**{**document, "similarity": Similarity.from_dict(document["similarity"])})


@dataclass(frozen=True, eq=False)
class Run:
    """A trained (or still training) run, ready for inference.

    Attributes
    ----------
    directory : Path
    document : dict
        All of `run.json`: `config`, `shapes`, `plan` (steps and how they were fixed), `command`, `commit`, versions.
    decoder : Decoder
        In evaluation mode.
    latents : (S, L) float32
        One code per shape, in the order of `shapes`.
    step : int
        Training steps behind the weights.
    """

    directory: Path
    document: dict[str, Any]
    decoder: Decoder
    latents: Tensor
    shapes: tuple[RunShape, ...]
    step: int

    @property
    def device(self) -> torch.device:
        """Where the decoder and the codes are."""
        return self.latents.device

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(shape.name for shape in self.shapes)

    def shape(self, name: str) -> RunShape:
        return self.shapes[self._index(name)]

    def similarity(self, name: str) -> Similarity:
        """Return the map between the world frame of the shape's mesh and the unit frame."""
        return self.shape(name).similarity

    def latent(self, name: str) -> Tensor:
        """Return the code of a shape, (L,)."""
        return self.latents[self._index(name)]

    def field(self, name: str) -> NeuralField:
        """Return a learned shape as a field, unit frame; `extract_mesh(…, similarity=…)` brings it to the world."""
        return NeuralField(self.decoder, self.latent(name))

    def _index(self, name: str) -> int:
        names = self.names
        if name not in names:
            select_shapes(names, [f"{name}"])  # raises with close names
            raise ValueError(f"no shape is named {name!r}")
        return names.index(name)


def save_model(directory: str | Path, *, decoder_state: Mapping[str, Tensor], latents: Tensor, step: int) -> None:
    """Write the weights and codes that inference reads."""
    tensors = {f"decoder.{name}": tensor for name, tensor in decoder_state.items()} | {"latents": latents}
    metadata = {"format": str(FORMAT_VERSION), "step": str(step)}
    save_tensors(Path(directory) / MODEL_FILE, tensors, metadata=metadata)


def save_document(directory: str | Path, document: Mapping[str, Any], shapes: Sequence[RunShape]) -> None:
    """Write `run.json`."""
    content = {"format": FORMAT_VERSION, **document, "shapes": [shape.to_dict() for shape in shapes]}
    write_json(Path(directory) / RUN_FILE, content)


def load_document(directory: str | Path) -> tuple[dict[str, Any], tuple[RunShape, ...]]:
    """Read and check `run.json`.

    Raises
    ------
    ValueError
        No run there, a damaged file, or one of another format version.
    """
    path = Path(directory) / RUN_FILE
    if not path.is_file():
        there = "is not a folder" if not Path(directory).is_dir() else f"holds no {RUN_FILE}"
        raise ValueError(f"no run at {directory}: it {there}. Give run=DIR as `sdfnet train` wrote it.")
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


def load_run(directory: str | Path, *, device: str | torch.device = "cpu") -> Run:
    """Load a run for inference.

    Raises
    ------
    ValueError
        No run there, another format version, or damaged or mismatching weights; one line that names the file.
    """
    directory = Path(directory)
    document, shapes = load_document(directory)
    if not (directory / MODEL_FILE).is_file():
        raise ValueError(f"the run at {directory} has no weights yet; repeat its `sdfnet train` command to continue it")
    tensors, metadata = load_tensors(directory / MODEL_FILE, device=device)
    try:
        with torch.random.fork_rng(devices=[]):  # fresh weights are drawn only to be replaced
            decoder = build_decoder(decoder_config(document["config"]["decoder"]))
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{directory / RUN_FILE} names a decoder that this sdfnet cannot build: {error}") from error
    latents = tensors.pop("latents", None)
    state = {name.removeprefix("decoder."): tensor for name, tensor in tensors.items()}
    expected = {name: tensor.shape for name, tensor in decoder.state_dict().items()}
    if (
        latents is None
        or {name: tensor.shape for name, tensor in state.items()} != expected
        or latents.shape != (len(shapes), decoder.latent_size)
    ):
        raise ValueError(f"{directory / MODEL_FILE} does not fit {directory / RUN_FILE}: were files of two runs mixed?")
    decoder.load_state_dict(state)
    decoder.to(device).eval().requires_grad_(False)
    return Run(directory, document, decoder, latents, shapes, int(metadata.get("step", "0")))
