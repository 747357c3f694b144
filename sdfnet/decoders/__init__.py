"""Networks from (points, latents) to signed distance, one file each. Pure torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sdfnet.decoders.base import Decoder as Decoder
from sdfnet.decoders.deepsdf import DeepSDFConfig as DeepSDFConfig
from sdfnet.decoders.deepsdf import DeepSDFDecoder as DeepSDFDecoder
from sdfnet.decoders.fourier import FourierConfig as FourierConfig
from sdfnet.decoders.fourier import FourierDecoder as FourierDecoder
from sdfnet.decoders.siren import SirenConfig as SirenConfig
from sdfnet.decoders.siren import SirenDecoder as SirenDecoder
from sdfnet.decoders.volume import VolumeConfig as VolumeConfig
from sdfnet.decoders.volume import VolumeDecoder as VolumeDecoder

DecoderConfig = VolumeConfig | DeepSDFConfig | FourierConfig | SirenConfig

DECODER_CONFIGS: dict[str, type[DecoderConfig]] = {
    "volume": VolumeConfig,
    "deepsdf": DeepSDFConfig,
    "fourier": FourierConfig,
    "siren": SirenConfig,
}


def decoder_config(options: Mapping[str, Any]) -> DecoderConfig:
    """Return the options object of `options["kind"]`.

    Raises
    ------
    ValueError
        Unknown kind, unknown option, or a value out of range.

    >>> decoder_config({"kind": "siren", "width": 64}).width
    64
    """
    kind = options.get("kind")
    if kind not in DECODER_CONFIGS:
        raise ValueError(f"decoder kind must be one of {', '.join(DECODER_CONFIGS)}, got {kind!r}")
    config_type = DECODER_CONFIGS[kind]
    unknown = sorted(set(options) - set(config_type.__dataclass_fields__))
    if unknown:
        allowed = ", ".join(config_type.__dataclass_fields__)
        raise ValueError(f"decoder {kind} has no option {', '.join(unknown)}; it has {allowed}")
    return config_type(**options)


def build_decoder(config: DecoderConfig) -> Decoder:
    """Build the network that `config` describes, with fresh weights from the global torch generator."""
    match config:
        case VolumeConfig():
            return VolumeDecoder(config)
        case DeepSDFConfig():
            return DeepSDFDecoder(config)
        case FourierConfig():
            return FourierDecoder(config)
        case SirenConfig():
            return SirenDecoder(config)
