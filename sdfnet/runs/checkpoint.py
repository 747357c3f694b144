"""Tensors on disk: safetensors files written whole, read without unpickling, refused clearly when damaged."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from sdfnet.files import atomic_path
from sdfnet.runs.document import METADATA_KEY


def save_tensors(path: str | Path, tensors: Mapping[str, Tensor], *, metadata: Mapping[str, str]) -> None:
    """Write `tensors` (moved to the CPU, made contiguous, none sharing memory) and `metadata` to `path` atomically."""
    plain = {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()}
    with atomic_path(path) as temporary:
        save_file(plain, temporary, metadata={METADATA_KEY: json.dumps(dict(metadata), sort_keys=True)})


def load_tensors(path: str | Path, *, device: str | torch.device = "cpu") -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read the tensors and the metadata of a file that `save_tensors` wrote.

    Raises
    ------
    ValueError
        The file is missing, truncated or not a safetensors file.
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
