"""The space of latent codes: paths through it, morphs written as files, and codes fitted to new shapes."""

from sdfnet.latents.interpolation import Easing as Easing
from sdfnet.latents.interpolation import PathKind as PathKind
from sdfnet.latents.interpolation import Playback as Playback
from sdfnet.latents.interpolation import interpolate as interpolate
