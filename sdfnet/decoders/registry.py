"""The one registry of decoders: each name has its options, its network and its tuned learning rates.

To add a decoder, add one file to this folder, one line at the end of `DECODERS` and one YAML file to `conf/decoder/`.
The decoder's file ends with `KIND = DecoderKind(...)`. This module does not import torch: a decoder's module is loaded
at the first use of its name, so that help and completion, which need only the names, start quickly.
"""

from __future__ import annotations

import importlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from sdfnet.decoders.base import Decoder

DECODERS = {
    "volume": "sdfnet.decoders.volume",
    "template": "sdfnet.decoders.template",
    "deepsdf": "sdfnet.decoders.deepsdf",
    "fourier": "sdfnet.decoders.fourier",
    "siren": "sdfnet.decoders.siren",
    "grid": "sdfnet.decoders.grid",
}
"""The module of every decoder, by the name that `decoder=` takes."""

WRITTEN_BY_FIT = {"refined": "sdfnet.decoders.refined"}
"""Decoders that a command writes into a run. A training cannot choose them."""

LEAST_OVERLAP = 0.4
"""Least overlap of a shape with the common shape for which a smooth displacement is trusted. Bodies in many poses have
0.50; a left among right hippocampi has 0.31, and a template learns them three times worse than a volume."""

OptimizerKind = Literal["adam", "muon"]


@dataclass(frozen=True)
class DecoderConfig:
    """The options that every decoder has. Each decoder extends it by its own.

    >>> isinstance(decoder_config({"kind": "volume"}), DecoderConfig)
    True
    """

    kind: str
    """The decoder's name in `DECODERS`."""
    latent_size: int
    """Length of a code."""

    def check_least(self, **least: int) -> None:
        """Raise ValueError where an option is below its least value."""
        for name, value in least.items():
            if getattr(self, name) < value:
                raise ValueError(f"{name} must be at least {value}, got {getattr(self, name)}")


@dataclass(frozen=True)
class LearningRates:
    """Peak learning rates of the decoder and of the codes.

    >>> decoder_kind("siren").rates["adam"]
    LearningRates(decoder=0.0002, latents=0.001)
    """

    decoder: float
    latents: float


@dataclass(frozen=True)
class DecoderKind:
    """One decoder: its options, its network and its tuned rates.

    >>> decoder_kind("siren").config(latent_size=16).kind
    'siren'
    """

    config: type[DecoderConfig]
    """The class of its options, a frozen dataclass. Every option has a default."""
    network: type[Decoder]
    """The class of the network, which is built from an instance of `config`."""
    rates: Mapping[OptimizerKind, LearningRates] = field(default_factory=dict)
    """The rates that were tuned for each optimizer. The first optimizer is the decoder's default. Without any rates,
    adam is the default, and a training must set its learning rate."""
    prior_weight: float = 1e-4
    """The weight of the squared length of the codes that was tuned for the decoder."""
    prior_warmup_steps: int = 0
    """The steps in which that weight rises from 0, as the square of the step."""
    normal_weight: float = 0.0
    """The weight of the normal term that was tuned for the decoder."""
    earlier: Mapping[str, Any] = field(default_factory=dict)
    """Earlier defaults. A run that does not name one of these options was begun with all of them as its defaults."""
    num_samples: int | None = None
    """Samples of each shape that `sdfnet train` draws for the decoder. None leaves it to the sampler."""

    @property
    def default_optimizer(self) -> OptimizerKind:
        return next(iter(self.rates), "adam")


@dataclass(frozen=True)
class AutoConfig:
    """`decoder=auto`: the decoder is chosen by `choose_decoder`, or it is that of the run to continue or start from.

    >>> AutoConfig().kind
    'auto'
    """

    kind: str = "auto"
    """auto: the rule is in docs/guides/train.md. Name a decoder to set its options."""


@dataclass(frozen=True)
class DecoderChoice:
    """The decoder that `choose_decoder` takes, and the reason in words.

    >>> DecoderChoice("volume", "the shapes differ in topology").kind
    'volume'
    """

    kind: str
    reason: str

    @property
    def config(self) -> DecoderConfig:
        """The default options of the decoder."""
        return decoder_kind(self.kind).config()  # type: ignore[call-arg]


def choose_decoder(
    num_shapes: int, *, topologies: Collection[tuple[int, int] | None] = (), overlap: float | None = None
) -> DecoderChoice:
    """Return the decoder that suits the shapes.

    One shape gets `grid`. Shapes of one connected surface each, all with the same genus, get `template` if they overlap
    enough: then one of them can be bent into any other. All others get `volume`.

    Parameters
    ----------
    topologies
        Connected surfaces and genus of the solids. None is a shape that is open, or that nobody counted.
    overlap
        How much of its space the most unlike shape shares with the common shape, 0 to 1, at equal places and sizes.

    >>> choose_decoder(24, topologies=[(1, 0)], overlap=0.6).kind
    'template'
    >>> choose_decoder(24, topologies=[(1, 3), (1, 0)])
    DecoderChoice(kind='volume', reason='the shapes have from 0 to 3 handles')
    """
    if num_shapes == 1:
        return DecoderChoice("grid", "there is exactly one shape")
    known = [each for each in topologies if each is not None]
    genera = sorted(genus for _, genus in known)
    if not known or len(known) < len(topologies):
        return DecoderChoice("volume", "the topology of some shapes is not known")
    if any(count != 1 for count, _ in known):
        return DecoderChoice("volume", "some shapes have several connected surfaces")
    if genera[0] != genera[-1]:
        return DecoderChoice("volume", f"the shapes have from {genera[0]} to {genera[-1]} handles")
    same = f"each shape is one connected surface with {genera[0]} handle{'s' * (genera[0] != 1)}"
    if overlap is None or overlap < LEAST_OVERLAP:
        measured = "is not known" if overlap is None else f"is only {overlap:.2f} for one of them"
        return DecoderChoice("volume", f"{same}, but the overlap with the common shape {measured}")
    return DecoderChoice("template", f"{same}, and they overlap (by {overlap:.2f} and more)")


def decoder_kind(name: object) -> DecoderKind:
    """Return the decoder called `name`.

    Raises
    ------
    ValueError
        No decoder has that name.

    >>> decoder_kind("volume").default_optimizer
    'muon'
    """
    known = DECODERS | WRITTEN_BY_FIT
    if name not in known:
        raise ValueError(f"decoder kind must be one of {', '.join(DECODERS)}, got {name!r}")
    kind: DecoderKind = importlib.import_module(known[str(name)]).KIND
    return kind


def decoder_configs() -> dict[str, type[DecoderConfig]]:
    """Return the options dataclass of every decoder, by name. This loads the modules of all decoders.

    >>> decoder_configs()["siren"]().latent_size
    128
    """
    return {name: decoder_kind(name).config for name in DECODERS}


def decoder_config(options: Mapping[str, Any]) -> DecoderConfig:
    """Return the options of the decoder `options["kind"]` as its dataclass.

    Raises
    ------
    ValueError
        Unknown kind, unknown option, or a value out of range.

    >>> decoder_config({"kind": "siren", "latent_size": 64}).latent_size
    64
    """
    kind = options.get("kind")
    config_type = decoder_kind(kind).config
    unknown = sorted(set(options) - set(config_type.__dataclass_fields__))
    if unknown:
        allowed = ", ".join(config_type.__dataclass_fields__)
        raise ValueError(f"decoder {kind} has no option {', '.join(unknown)}; it has {allowed}")
    return config_type(**options)


def recorded_decoder_config(options: Mapping[str, Any]) -> DecoderConfig:
    """Return the options that a run recorded. Options that its version did not have get the values used then.

    Raises
    ------
    ValueError
        As `decoder_config` does.

    >>> recorded_decoder_config({"kind": "volume", "latent_size": 64}).lookup
    'linear'
    """
    return decoder_config({**decoder_kind(options.get("kind")).earlier, **options})


def build_decoder(config: DecoderConfig) -> Decoder:
    """Build the network that `config` describes, with fresh weights from the global torch generator.

    Raises
    ------
    ValueError
        `config.kind` names another decoder than the one whose options `config` holds.

    >>> build_decoder(decoder_config({"kind": "siren", "latent_size": 16})).latent_size
    16
    """
    kind = decoder_kind(config.kind)
    if not isinstance(config, kind.config):
        raise ValueError(f"kind={config.kind} needs {kind.config.__name__}, got {type(config).__name__}")
    return kind.network(config)
