"""Paths through the space of latent codes."""

from sdfnet.latents.interpolation import Easing as Easing
from sdfnet.latents.interpolation import PathKind as PathKind
from sdfnet.latents.interpolation import Playback as Playback
from sdfnet.latents.interpolation import interpolate as interpolate
