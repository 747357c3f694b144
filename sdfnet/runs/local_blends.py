"""Local blends of learned shapes in words: `near=chair_03; take=chair_07; part=back; seam=0.05`.

The shape is that of `near` (or of scores and attributes) outside a mask, and the shape of `take` inside. Exactly one
word gives the mask, in world units of the first shape:

| word | the mask |
|---|---|
| `box=x,y,z,x,y,z` | a box between two corners |
| `sphere=x,y,z,r` | a ball |
| `part=LABEL` | what is nearest to this part on either shape; the labels stand beside the source meshes |

The labels of `chair.obj` are in `chair.parts.json`: first and last face of each part. `seam` is the width of the seam,
inside the mask; by default a twentieth of the first shape's radius. The two shapes meet in the unit frame, as in a mix:
centre on centre, radius on radius where each was normalised on its own.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sdfnet.fields import Box, Field, MaskedBlend, NearestPart, Sphere, Transformed, Union
from sdfnet.geometry.arrays import BoolArray, FloatArray
from sdfnet.geometry.similarity import UNIT_RADIUS, Similarity
from sdfnet.mesh.io.read import read_mesh
from sdfnet.mesh.mesh import Mesh, drop_unreferenced_vertices

MASKS = {"box": 6, "sphere": 4, "part": 0}
"""The words of a mask, and how many numbers each takes."""

WORDS = ("take", "seam", *MASKS)

_SEAM = 0.05
"""Default width of the seam, as a share of the radius of the first shape."""


def split_words(words: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """Return the words of the first shape and those of the local blend; the latter are empty where there is none.

    Raises
    ------
    ValueError
        Words of a blend without `take` or without exactly one mask.

    >>> split_words({"near": "a", "take": "b", "sphere": "0,0,0,1"})
    ({'near': 'a'}, {'take': 'b', 'sphere': '0,0,0,1'})
    """
    blend = {key: value for key, value in words.items() if key in WORDS}
    masks = [key for key in blend if key in MASKS]
    if blend and ("take" not in blend or len(masks) != 1):
        raise ValueError(
            f"a local blend needs take=SHAPE and one of {', '.join(MASKS)}, got {', '.join(blend)}; for example "
            "near=a; take=b; box=-1,0,-1,1,1,1"
        )
    return {key: value for key, value in words.items() if key not in WORDS}, blend


@dataclass(frozen=True, eq=False)
class PlacedField:
    """A learned shape for a local blend: the field (unit frame), its similarity, and its source mesh if it has one.

    >>> PlacedField(Sphere(0.5), Similarity.identity()).source is None
    True
    """

    field: Field
    similarity: Similarity
    source: Path | None = None


def blend_fields(first: PlacedField, second: PlacedField, words: Mapping[str, str]) -> MaskedBlend:
    """Return the local blend of two learned shapes as a field in the unit frame of the first.

    Raises
    ------
    ValueError
        Numbers that cannot be read, or a part that neither source has.

    >>> from sdfnet.fields import Sphere
    >>> balls = [PlacedField(Sphere(radius), Similarity([1, 0, 0], 0.5)) for radius in (0.5, 0.8)]
    >>> blend = blend_fields(*balls, {"take": "b", "box": "1,-2,-2,3,2,2", "seam": "0.1"})
    >>> import torch
    >>> [round(value, 3) for value in blend(torch.tensor([[-1.0, 0.0, 0.0], [0.9, 0.0, 0.0]])).tolist()]
    [0.5, 0.1]
    """
    similarity = first.similarity
    radius = UNIT_RADIUS / similarity.scale
    seam = _numbers("seam", words["seam"], 1)[0] if "seam" in words else _SEAM * radius
    if seam <= 0:
        raise ValueError(f"seam must be above 0, got {seam:g}")
    key = next(name for name in words if name in MASKS)
    if key == "part":
        mask: Field = _part_mask(words[key], [first, second])
    else:
        mask = _to_unit(_solid_mask(key, words[key]), similarity)
    return MaskedBlend(first.field, second.field, mask=mask, seam=seam * similarity.scale)


def _solid_mask(key: str, value: str) -> Field:
    """Return a box or a ball in the world."""
    numbers = _numbers(key, value, MASKS[key])
    if key == "sphere":
        if numbers[3] <= 0:
            raise ValueError(f"the radius of sphere={value} must be above 0")
        return Sphere(float(numbers[3]), center=numbers[:3])
    lower, upper = np.minimum(numbers[:3], numbers[3:]), np.maximum(numbers[:3], numbers[3:])
    if (lower == upper).any():
        raise ValueError(f"box={value} is flat; give two opposite corners as x,y,z,x,y,z")
    return Box((upper - lower) / 2, center=(lower + upper) / 2)


def _part_mask(label: str, shapes: list[PlacedField]) -> Field:
    """Return the mask of what is nearest to a labelled part on the source of any of the shapes, unit frame."""
    masks: list[Field] = []
    known: set[str] = set()
    for shape in shapes:
        parts = _read_parts(shape.source)
        known |= set(parts)
        if shape.source is not None and label in parts:
            mesh = read_mesh(shape.source).to_unit(shape.similarity)
            masks.append(_nearest_part(mesh, _faces_of(parts[label], len(mesh.faces), shape.source)))
    if not masks:
        there = f"there are {', '.join(sorted(known))}" if known else "no NAME.parts.json is beside the sources"
        raise ValueError(f"no part is named {label!r}: {there}")
    return masks[0] if len(masks) == 1 else Union(*masks)


def _read_parts(source: Path | None) -> dict[str, tuple[int, int]]:
    """Return the faces (first, last + 1) of each label beside a source mesh; empty if there are no labels."""
    path = None if source is None else source.with_suffix(".parts.json")
    if path is None or not path.is_file():
        return {}
    try:
        return {str(label): (int(first), int(last)) for label, (first, last) in json.loads(path.read_text()).items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} must hold the first and last face of each label ({error})") from error


def _faces_of(faces: tuple[int, int], count: int, source: Path) -> BoolArray:
    first, last = faces
    if not 0 <= first < last <= count or last - first == count:
        raise ValueError(f"the labels beside {source} do not fit its {count} faces: {first} to {last}")
    mask = np.zeros(count, dtype=bool)
    mask[first:last] = True
    return mask


def _nearest_part(mesh: Mesh, in_part: BoolArray) -> NearestPart:
    part, rest = (drop_unreferenced_vertices(Mesh(mesh.vertices, mesh.faces[mask])) for mask in (in_part, ~in_part))
    return NearestPart(part, rest)


def _to_unit(field: Field, similarity: Similarity) -> Transformed:
    """Return a field of the world in a unit frame."""
    return Transformed(
        field, rotation=similarity.rotation, translation=similarity.to_unit(np.zeros(3)), scale=similarity.scale
    )


def _numbers(key: str, value: str, count: int) -> FloatArray:
    try:
        numbers = [float(part) for part in value.replace(",", " ").split()]
    except ValueError:
        numbers = []
    if len(numbers) != count or not all(map(math.isfinite, numbers)):
        raise ValueError(f"{key} takes {count} numbers, got {value!r}")
    return np.array(numbers)
