"""A run ready for use: the decoder and the codes of a run directory, loaded and saved.

`document.py` says which files a run directory has.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from sdfnet.decoders import Decoder, build_decoder, recorded_decoder_config
from sdfnet.fields.adaptors import NeuralField
from sdfnet.fields.base import Field
from sdfnet.files import atomic_path
from sdfnet.geometry.similarity import Similarity
from sdfnet.mesh.io.read import select_shapes
from sdfnet.runs.document import FORMAT_VERSION, METADATA_KEY, MODEL_FILE, RUN_FILE, RunShape, load_document


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
    fields : dict of str to Field
        The shapes that are not one code, such as local blends, in the unit frame. Their rows of `latents` mean nothing.

    >>> run = load_run("runs/chairs")
    >>> run.names
    ('chair_00', 'chair_01')
    >>> bool(run.field("chair_00")(torch.zeros(1, 3)) < 0)
    True
    """

    directory: Path
    document: dict[str, Any]
    decoder: Decoder
    latents: Tensor
    shapes: tuple[RunShape, ...]
    step: int
    fields: Mapping[str, Field] = field(default_factory=dict)

    @property
    def device(self) -> torch.device:
        """Where the decoder and the codes are."""
        return self.latents.device

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(shape.name for shape in self.shapes)

    def check_is_family(self, doing: str) -> None:
        """Refuse a run whose decoder holds exactly one shape.

        Raises
        ------
        ValueError
            It does. The message begins with `doing`, the name of what needs a family.
        """
        if self.decoder.holds_one_shape:
            kind = self.document["config"]["decoder"]["kind"]
            raise ValueError(
                f"{doing} needs a family of shapes, but the run at {self.directory} holds one shape only "
                f"({self.names[0]}, decoder={kind}). Train with decoder=volume for it."
            )

    def shape(self, name: str) -> RunShape:
        return self.shapes[self._index(name)]

    def similarity(self, name: str) -> Similarity:
        """Return the map between the world frame of the shape's mesh and the unit frame."""
        return self.shape(name).similarity

    def latent(self, name: str) -> Tensor:
        """Return the code of a shape, (L,); a ValueError where the shape is not one code."""
        if name in self.fields:
            raise ValueError(f"{name} is a local blend: it has a field, but no code, so it cannot be mixed or morphed")
        return self.latents[self._index(name)]

    def field(self, name: str) -> Field:
        """Return a learned shape as a field, unit frame; `extract_mesh(…, similarity=…)` brings it to the world."""
        return self.fields[name] if name in self.fields else NeuralField(self.decoder, self.latent(name))

    def code_distribution(self) -> tuple[Tensor, Tensor]:
        """Return the mean (L,) and the covariance (L, L) of the codes of the learned shapes, float64.

        Fitted shapes and mixes do not count. Of a single shape, the covariance is zero.
        """
        rows = [row for row, shape in enumerate(self.shapes) if shape.learned and not shape.is_mix]
        codes = self.latents[rows].double()
        offsets = codes - codes.mean(dim=0)
        return codes.mean(dim=0), offsets.T @ offsets / max(1, len(rows) - 1)

    def _index(self, name: str) -> int:
        names = self.names
        if name not in names:
            select_shapes(names, [f"{name}"])  # raises with close names
            raise ValueError(f"no shape is named {name!r}")
        return names.index(name)


def save_model(directory: str | Path, *, decoder_state: Mapping[str, Tensor], latents: Tensor, step: int) -> None:
    """Write the weights and codes that inference reads.

    >>> run = load_run("runs/chairs")
    >>> save_model("model_only", decoder_state=run.decoder.state_dict(), latents=run.latents, step=run.step)
    >>> load_tensors("model_only/model.safetensors")[1]["step"]
    '200'
    """
    tensors = {f"decoder.{name}": tensor for name, tensor in decoder_state.items()} | {"latents": latents}
    metadata = {"format": str(FORMAT_VERSION), "step": str(step)}
    save_tensors(Path(directory) / MODEL_FILE, tensors, metadata=metadata)


def load_run(directory: str | Path, *, device: str | torch.device = "cpu") -> Run:
    """Load a run for inference.

    Raises
    ------
    ValueError
        No run there, another format version, or damaged or mismatching weights; one line that names the file.

    >>> run = load_run("runs/chairs")
    >>> len(run.shapes), run.latents.shape
    (2, torch.Size([2, 2]))
    """
    directory = Path(directory)
    document, shapes = load_document(directory)
    if not (directory / MODEL_FILE).is_file():
        raise ValueError(f"the run at {directory} has no weights yet; repeat its `sdfnet train` command to continue it")
    tensors, metadata = load_tensors(directory / MODEL_FILE, device=device)
    try:
        with torch.random.fork_rng(devices=[]):  # fresh weights are drawn only to be replaced
            decoder = build_decoder(recorded_decoder_config(document["config"]["decoder"]))
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{directory / RUN_FILE} names a decoder that this sdfnet cannot build: {error}") from error
    latents = tensors.pop("latents", None)
    mixed = f"{directory / MODEL_FILE} does not fit {directory / RUN_FILE}: were files of two runs mixed?"
    if latents is None or latents.shape != (len(shapes), decoder.latent_size):
        raise ValueError(mixed)
    try:
        decoder.load_state_dict({name.removeprefix("decoder."): tensor for name, tensor in tensors.items()})
    except RuntimeError as error:  # Names or sizes differ.
        raise ValueError(mixed) from error
    decoder.to(device).eval().requires_grad_(False)
    return Run(directory, document, decoder, latents, shapes, int(metadata.get("step", "0")))


def save_tensors(path: str | Path, tensors: Mapping[str, Tensor], *, metadata: Mapping[str, str]) -> None:
    """Write `tensors` (moved to the CPU, made contiguous, none sharing memory) and `metadata` to `path` atomically.

    >>> save_tensors("code.safetensors", {"latent": torch.zeros(3)}, metadata={"name": "zero"})
    >>> load_tensors("code.safetensors")
    ({'latent': tensor([0., 0., 0.])}, {'name': 'zero'})
    """
    plain = {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()}
    with atomic_path(path) as temporary:
        save_file(plain, temporary, metadata={METADATA_KEY: json.dumps(dict(metadata), sort_keys=True)})


def load_tensors(path: str | Path, *, device: str | torch.device = "cpu") -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read the tensors and the metadata of a file that `save_tensors` wrote.

    Raises
    ------
    ValueError
        The file is missing, truncated or not a safetensors file.

    >>> tensors, metadata = load_tensors("runs/chairs/model.safetensors")
    >>> metadata["step"]
    '200'
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path} is missing; is the run complete?")
    try:
        with safe_open(path, framework="pt", device=str(device)) as reader:
            tensors = {name: reader.get_tensor(name) for name in reader.keys()}  # noqa: SIM118 (not a mapping)
            return tensors, json.loads((reader.metadata() or {}).get(METADATA_KEY, "{}"))
    except (SafetensorError, OSError, json.JSONDecodeError) as error:
        raise ValueError(
            f"{path} is damaged or not a safetensors file ({error}). Restore it from a copy or train again."
        ) from error
