"""Decoders: networks from (points, latents) to signed distance. Each has its own file; `registry` lists all of them.

The names below are loaded at their first use, because the registry alone needs no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from sdfnet.decoders.registry import DECODERS as DECODERS
from sdfnet.decoders.registry import AutoConfig as AutoConfig
from sdfnet.decoders.registry import DecoderChoice as DecoderChoice
from sdfnet.decoders.registry import DecoderConfig as DecoderConfig
from sdfnet.decoders.registry import DecoderKind as DecoderKind
from sdfnet.decoders.registry import LearningRates as LearningRates
from sdfnet.decoders.registry import build_decoder as build_decoder
from sdfnet.decoders.registry import choose_decoder as choose_decoder
from sdfnet.decoders.registry import decoder_config as decoder_config
from sdfnet.decoders.registry import decoder_configs as decoder_configs
from sdfnet.decoders.registry import decoder_kind as decoder_kind
from sdfnet.decoders.registry import recorded_decoder_config as recorded_decoder_config

if TYPE_CHECKING:
    from sdfnet.decoders.base import Decoder as Decoder
    from sdfnet.decoders.deepsdf import DeepSDFConfig as DeepSDFConfig
    from sdfnet.decoders.fourier import FourierConfig as FourierConfig
    from sdfnet.decoders.siren import SirenConfig as SirenConfig
    from sdfnet.decoders.template import TemplateConfig as TemplateConfig
    from sdfnet.decoders.volume import VolumeConfig as VolumeConfig

_HOMES = {
    "Decoder": "base",
    "DeepSDFConfig": "deepsdf",
    "FourierConfig": "fourier",
    "SirenConfig": "siren",
    "TemplateConfig": "template",
    "VolumeConfig": "volume",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"sdfnet.decoders.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'sdfnet.decoders' has no attribute {name!r}")
