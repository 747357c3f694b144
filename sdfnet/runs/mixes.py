"""Shapes that a text describes: mixes by name (`0.5*a + 0.5*b`, `a - b + c`) and words (`near=a; pc1=2; age=30`).

A mix is a sum of shapes with weights that sum to 1. Its code is the weighted sum of their codes. In the world frame,
the centre of a mix is the weighted sum of their centres. The logarithm of its scale is the weighted sum of the
logarithms of their scales.

Names need no quotes, whatever characters they hold. At each place the parser takes the longest known name that ends
before a blank, an operator or the end of the text. So where `a-b` is a shape, `a-b` is that shape and `a - b` is a
difference. A name in quotes is taken literally.

Words are `KEY=VALUE`, separated by semicolons. `pc1=2` moves the code along the first principal component until the
score is 2 standard deviations. `age=30` moves the code along the direction of an attribute until the attribute has this
value. The start is the mean shape, or the shape or mix that `near=` names. Every word counts from the start, so the
order of the words does not matter. `sdfnet space` computes components and attributes (`space.py`).
"""

from __future__ import annotations

import dataclasses
import fnmatch
import hashlib
import logging
import math
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sdfnet.fields.adaptors import NeuralField
from sdfnet.geometry.arrays import FloatArray
from sdfnet.geometry.similarity import Similarity, rotation_vectors, turned
from sdfnet.mesh.io.read import select_shapes
from sdfnet.runs.document import RunShape
from sdfnet.runs.local_blends import PlacedField, blend_fields, split_words
from sdfnet.runs.run import Run
from sdfnet.runs.space import latent_of, load_space, placed_code, similarity_of

_LOGGER = logging.getLogger(__name__)

_NUMBER = re.compile(r"(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_ENDS = " \t+-*)"
"""What may follow a name that is not in quotes."""

_SIGNS = "+-*()'\""
"""A text without any of these characters is not a mix."""

_ROUNDING = 0.02
"""If the sum of the weights is this near to 1, they were rounded by hand (0.33 three times) and are scaled to sum to
1."""

_EPSILON = 1e-9

_FAR = 1.5
"""A warning tells when a mix is this many times farther from the mean code than the farthest shape of the run."""

_LONGEST_NAME = 80

_COMPONENT = re.compile(r"pc(\d+)")
"""The word of a principal component."""


def add_mixes(run: Run, shapes: str | Sequence[str]) -> tuple[Run, list[str]]:
    """Add the mixes among `shapes` to `run` as shapes. Return that run and the names of the selected shapes.

    `select_shapes` reads names, and globs that match. A text of words (`pc1=2; age=30`) is a shape of its own. Any
    other text with an operator is read as a mix. The name of a mix is made of its weights (`0.5a+0.5b`), that of words
    is made of the words (`pc1=2_age=30`). Both can be file names. A mix has no source. The names come in order. A shape
    may come more than once, as the key shapes of a morph do.

    Raises
    ------
    ValueError
        Unknown names, a mix that cannot be read or whose weights do not sum to 1, words that the run does not know. The
        message names the piece.

    >>> from sdfnet.runs import load_run
    >>> run = load_run("runs/chairs")
    >>> run, names = add_mixes(run, ["chair_00", "0.5*chair_00 + 0.5*chair_01"])
    >>> names
    ['chair_00', '0.5chair_00+0.5chair_01']
    """
    if isinstance(shapes, str) and shapes == "all":
        return run, select_shapes(run.names, shapes)
    chosen: list[str] = []
    mixes: dict[str, dict[str, float]] = {}
    described: dict[str, dict[str, str]] = {}
    extended = run
    for pattern in [shapes] if isinstance(shapes, str) else shapes:
        words = _read_words(pattern, run.names)
        if words is not None:
            run.check_is_family("a shape by its scores")
            spelled = ";".join(f"{key}={value}" for key, value in words.items())
            name = _plain_name(spelled, taken=run.names)
            if described.get(name, words) != words:
                name = _plain_name(spelled, taken=described)
            if name not in described:
                described[name], extended = words, _with_words(extended, run, name, words)
            chosen.append(name)
            continue
        weights = _read_mix(pattern, run.names)
        if weights is None:
            chosen += select_shapes(run.names, [pattern])
            continue
        name = next(iter(weights)) if len(weights) == 1 else mix_name(weights, taken=run.names)
        if mixes.get(name, weights) != weights:
            name = mix_name(weights, taken=mixes)
        if len(weights) > 1:
            run.check_is_family("a mix")
            mixes[name] = weights
        chosen.append(name)
    for name, weights in mixes.items():
        extended = _extend(extended, name, weights)
    return extended, chosen if chosen else select_shapes(run.names, shapes)


def parse_mix(text: str, names: Sequence[str]) -> dict[str, float]:
    """Return the weight of each shape in the mix `text`, in order of appearance; they sum to 1.

    Raises
    ------
    ValueError
        A piece that is neither a known name, a number nor an operator; weights that do not sum to 1.

    >>> parse_mix("a - b + 0.5*(c + 'd e')", ["a", "b", "c", "d e"])
    {'a': 1.0, 'b': -1.0, 'c': 0.5, 'd e': 0.5}
    """
    return _normalized(text, _read_weights(text, names))


def _read_weights(text: str, names: Sequence[str]) -> dict[str, float]:
    reader = _Reader(text, tuple(sorted(names, key=len, reverse=True)))
    weights, end = _read_sum(reader, 0)
    if end < len(text):
        raise reader.error(end, "expected + or - before it")
    return weights


def _normalized(text: str, weights: Mapping[str, float]) -> dict[str, float]:
    """Return `weights` without rounding and without zeros. Refuse them if they do not sum to 1."""
    total = sum(weights.values())
    if abs(total - 1) > _ROUNDING:
        cure = f" (divide them by {total:g} for a mean)" if total > 0 else " (add the shape that the difference is for)"
        raise ValueError(f"the weights of a mix must sum to 1, those of {text!r} sum to {total:g}{cure}")
    scale = total if abs(total - 1) > _EPSILON else 1.0  # Rounding of the sum alone changes no weight.
    return {name: weight / scale for name, weight in weights.items() if abs(weight) > _EPSILON}


def mix_name(weights: Mapping[str, float], *, taken: Collection[str] = ()) -> str:
    """Return a name for a mix that can be a file name and is not among `taken`.

    >>> mix_name({"a": 0.5, "set/b": 0.5}), mix_name({"a": 1.0, "b": -1.0, "c": 1.0})
    ('0.5a+0.5set_b', 'a-b+c')
    """
    factors = {1.0: "+", -1.0: "-"}
    terms = [factors.get(weight, f"{weight:+.4g}") + name for name, weight in weights.items()]
    return _plain_name("".join(terms).removeprefix("+"), taken=taken, unique=repr(sorted(weights.items())))


def _plain_name(spelled: str, *, taken: Collection[str], unique: str = "") -> str:
    """Return `spelled` as a file name that is not among `taken`; where it must be shortened, a hash keeps it unique."""
    plain = re.sub(r"[^\w.+=@-]", "_", spelled)
    if plain in taken or len(plain) > _LONGEST_NAME:
        digest = hashlib.sha256((unique or spelled).encode()).hexdigest()[:8]
        plain = f"{plain[:_LONGEST_NAME]}_{digest}"
    return plain


def shape_from(
    run: Run,
    *,
    scores: Mapping[int, float] | Sequence[float] | None = None,
    attributes: Mapping[str, float | str] | None = None,
    near: str | None = None,
) -> NeuralField:
    """Return the shape with these scores and attributes as a field, unit frame.

    Parameters
    ----------
    scores : mapping or sequence, optional
        Scores along the principal components, in standard deviations: `{1: 2.0}` or `[2.0]` for 2 along the first.
    attributes : mapping, optional
        Values of attributes in the units of their table, or names of classes.
    near : str, optional
        The shape or mix to start from, instead of the mean shape. What is not given stays as it is there.

    Raises
    ------
    ValueError
        `sdfnet space` has not been run, or an unknown component, attribute, class or shape.

    >>> from sdfnet.runs import load_run
    >>> run = load_run("runs/chairs")
    >>> bool(shape_from(run, near="0.5*chair_00 + 0.5*chair_01")(torch.zeros(1, 3)) < 0)
    True
    """
    if scores is not None and not isinstance(scores, Mapping):
        scores = dict(enumerate(scores, start=1))
    return NeuralField(run.decoder, latent_of(_placed_code(run, scores or {}, attributes or {}, near), run))


def mix_similarities(similarities: Sequence[Similarity], weights: Sequence[float]) -> Similarity:
    """Return the similarity whose centre and log scale are weighted sums; `weights` sum to 1.

    The rotation is that of the first one, turned by the weighted sum of the rotation vectors from it to the others.

    >>> mixed = mix_similarities([Similarity([0, 0, 0], 1.0), Similarity([4, 0, 0], 0.25)], [0.5, 0.5])
    >>> mixed.center.tolist(), mixed.scale
    ([2.0, 0.0, 0.0], 0.5)
    """
    center = sum(weight * each.center for weight, each in zip(weights, similarities, strict=True))
    log_scale = sum(weight * math.log(each.scale) for weight, each in zip(weights, similarities, strict=True))
    turns = rotation_vectors(similarities)
    turn = np.tensordot(np.asarray(weights, dtype=np.float64), turns, axes=1)
    return Similarity(np.asarray(center), math.exp(log_scale), turned(similarities[0].rotation, turn))


def _read_words(pattern: str, names: Sequence[str]) -> dict[str, str] | None:
    """Return the words `KEY=VALUE` of a text in order; None where `pattern` is a name, a matching glob, or a sum."""
    if "=" not in pattern or pattern in names or any(fnmatch.fnmatchcase(name, pattern) for name in names):
        return None
    first = pattern.partition("=")[0]
    starts_with_name = _name_at(_Reader(pattern, tuple(sorted(names, key=len, reverse=True))), 0)
    if ";" not in pattern and (starts_with_name or any(sign in first for sign in f"{_SIGNS.replace('-', '')},")):
        return None
    words: dict[str, str] = {}
    for piece in filter(str.strip, pattern.split(";")):
        key, equals, value = (part.strip() for part in piece.partition("="))
        if not (key and equals and value):
            raise ValueError(f"cannot read {piece.strip()!r} in {pattern!r}: expected KEY=VALUE, such as pc1=2")
        if key in words:
            raise ValueError(f"{pattern!r} gives {key} twice")
        words[key] = value
    return words


def _with_words(extended: Run, run: Run, name: str, words: Mapping[str, str]) -> Run:
    """Return `extended` with the shape that `words` describe, where `run` has the shapes that they name."""
    own, blend = split_words(words)
    shape, latent = _describe(run, name, own)
    if not blend:
        return _with_shape(extended, shape, latent)
    taken = {"near": blend["take"]}
    other, other_latent = _describe(run, blend["take"], taken)
    first, second = (
        PlacedField(NeuralField(run.decoder, code), each.similarity, _source_of(run, each_words))
        for each, code, each_words in ((shape, latent, own), (other, other_latent, taken))
    )
    counts = (shape.num_surfaces, other.num_surfaces)
    most = None if None in counts else max(count for count in counts if count is not None)
    shape = dataclasses.replace(shape, closed=shape.closed and other.closed, num_surfaces=most)
    blended = {**extended.fields, name: blend_fields(first, second, blend)}
    return dataclasses.replace(_with_shape(extended, shape, latent), fields=blended)


def _source_of(run: Run, words: Mapping[str, str]) -> Path | None:
    """Return the source mesh of the shape that `words` describe, if it is one of the run's."""
    near = words.get("near", "")
    source = run.shape(near).source if len(words) == 1 and near in run.names else ""
    return Path(source) if source else None


def _describe(run: Run, name: str, words: Mapping[str, str]) -> tuple[RunShape, Tensor]:
    """Return the shape that `words` describe, and its code."""
    near, scores, attributes = None, {}, {}
    for key, value in words.items():
        component = _COMPONENT.fullmatch(key)
        if key == "near":
            near = value
        elif component:
            scores[int(component.group(1))] = _number(key, value)
        else:
            attributes[key] = value
    code = _placed_code(run, scores, attributes, near)
    starts = list(_weights_of(run, near)) if near else list(run.names)
    counts = Counter(run.shape(each).num_surfaces for each in starts)
    shape = RunShape(
        name,
        similarity_of(code),
        source="",
        content_hash="",
        closed=all(run.shape(each).closed for each in starts),
        num_surfaces=counts.most_common(1)[0][0],
    )
    return shape, latent_of(code, run)


def _placed_code(
    run: Run, scores: Mapping[int, float], attributes: Mapping[str, float | str], near: str | None
) -> FloatArray:
    """Return the placed code that scores and attributes describe, from the mean or from `near`."""
    start = None
    if near is not None:
        weights = _weights_of(run, near)
        factors = list(weights.values())
        similarity = mix_similarities([run.similarity(name) for name in weights], factors)
        code = np.array(factors) @ np.stack([run.latent(name).double().cpu().numpy() for name in weights])
        start = placed_code(code, similarity)
        if not scores and not attributes:
            return start
    return load_space(run).moved(scores=scores, attributes=attributes, start=start, name=near or "")


def _weights_of(run: Run, text: str) -> dict[str, float]:
    """Return the weight of each shape in a name or a mix."""
    return {text: 1.0} if text in run.names else parse_mix(text, run.names)


def _number(key: str, value: str) -> float:
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"{key} is a number of standard deviations, got {value!r}")
    return number


def _read_mix(pattern: str, names: Sequence[str]) -> dict[str, float] | None:
    """Return the weights of a mix; None where `pattern` is a name, a matching glob, or no sum of names."""
    if pattern in names or any(fnmatch.fnmatchcase(name, pattern) for name in names):
        return None
    if not any(sign in pattern for sign in _SIGNS) or not any(name in pattern for name in names):
        return None
    try:
        weights = _read_weights(pattern, names)
    except ValueError:
        if any(sign in pattern for sign in _SIGNS.replace("-", "")):
            raise
        return None  # Most names with a dash are just names; `select_shapes` reports an unknown one.
    return _normalized(pattern, weights)


def _extend(run: Run, name: str, weights: Mapping[str, float]) -> Run:
    """Return `run` with one more shape."""
    latent = _weighted_sum(torch.stack([run.latent(each) for each in weights]), list(weights.values()))
    counts = [run.shape(each).num_surfaces for each in weights]
    known = [count for count in counts if count is not None]
    shape = RunShape(
        name,
        mix_similarities([run.similarity(each) for each in weights], list(weights.values())),
        source="",
        content_hash="",
        closed=all(run.shape(each).closed for each in weights),
        num_surfaces=max(known) if len(known) == len(counts) else None,
    )
    return _with_shape(run, shape, latent)


def _with_shape(run: Run, shape: RunShape, latent: Tensor) -> Run:
    """Return `run` with one more shape, and warn if its code is far from the others."""
    _warn_if_far(run, shape.name, latent)
    return dataclasses.replace(run, latents=torch.cat([run.latents, latent[None]]), shapes=(*run.shapes, shape))


def _weighted_sum(latents: Tensor, weights: Sequence[float]) -> Tensor:
    factors = torch.tensor(weights, dtype=torch.float64, device=latents.device)
    return (factors[:, None] * latents.double()).sum(dim=0).to(latents)


def _warn_if_far(run: Run, name: str, latent: Tensor) -> None:
    mean = run.latents.mean(dim=0)
    farthest = float((run.latents - mean).norm(dim=1).max())
    distance = float((latent - mean).norm())
    if distance > _FAR * farthest:
        _LOGGER.warning(
            "the mix %s is %.1f times farther from the mean code than any shape of the run; it may not look like one",
            name,
            distance / farthest if farthest else math.inf,
        )


@dataclass(frozen=True)
class _Reader:
    """A text and the known names, the longest first."""

    text: str
    names: tuple[str, ...]

    def skip(self, start: int) -> int:
        while start < len(self.text) and self.text[start].isspace():
            start += 1
        return start

    def error(self, start: int, reason: str) -> ValueError:
        word = re.match(r"[^\s+*()]*[^\s]?", self.text[start:])
        what = repr(word.group()) if word and word.group() else "the end"
        return ValueError(f"cannot read the mix {self.text!r} at {what}: {reason}")


def _read_sum(reader: _Reader, start: int) -> tuple[dict[str, float], int]:
    """Read terms joined by + and -, up to a closing bracket or the end; return the weights and where it stopped."""
    weights: dict[str, float] = {}
    sign, at = 1.0, reader.skip(start)
    if reader.text[at : at + 1] in ("+", "-"):
        sign, at = (-1.0 if reader.text[at] == "-" else 1.0), reader.skip(at + 1)
    while True:
        term, at = _read_term(reader, at)
        for name, weight in term.items():
            weights[name] = weights.get(name, 0.0) + sign * weight
        at = reader.skip(at)
        operator = reader.text[at : at + 1]
        if operator not in ("+", "-") or not operator:
            return weights, at
        sign, at = (-1.0 if operator == "-" else 1.0), reader.skip(at + 1)


def _read_term(reader: _Reader, start: int) -> tuple[dict[str, float], int]:
    """Read `NAME`, `NUMBER*TERM` or `(SUM)`."""
    text = reader.text
    number = _NUMBER.match(text, start)
    if number and text[reader.skip(number.end()) : reader.skip(number.end()) + 1] == "*":
        term, at = _read_term(reader, reader.skip(reader.skip(number.end()) + 1))
        return {name: float(number.group()) * weight for name, weight in term.items()}, at
    name = _name_at(reader, start)
    if name is not None:
        return {name: 1.0}, start + len(name)
    if text[start : start + 1] in ("'", '"') and start + 1 < len(text):
        end = text.find(text[start], start + 1)
        quoted = text[start + 1 : end] if end > 0 else text[start + 1 :]
        if end < 0 or quoted not in reader.names:
            raise reader.error(start, "the quote has no end" if end < 0 else _unknown(reader, quoted))
        return {quoted: 1.0}, end + 1
    if text[start : start + 1] == "(":
        inner, at = _read_sum(reader, start + 1)
        if text[at : at + 1] != ")":
            raise reader.error(at, "expected the closing bracket")
        return inner, at + 1
    if number:
        raise reader.error(start, f"a weight is written {number.group()}*NAME")
    wanted = re.split(r"\s[-+]|[-+]\s|[+*()]", text[start:])[0].strip()
    raise reader.error(start, _unknown(reader, wanted) if wanted else "expected the name of a shape")


def _name_at(reader: _Reader, start: int) -> str | None:
    """Return the longest known name that stands at `start` and ends there."""
    for name in reader.names:
        end = start + len(name)
        if reader.text.startswith(name, start) and (end == len(reader.text) or reader.text[end] in _ENDS):
            return name
    return None


def _unknown(reader: _Reader, wanted: str) -> str:
    try:
        select_shapes(reader.names, [wanted])
    except ValueError as error:
        return str(error)
    return f"{wanted!r} is a pattern; a mix takes names"
