"""The space of latent codes: paths through it, and morphs written as files."""

from sdfnet.latents.config import MorphConfig as MorphConfig
from sdfnet.latents.frames import plan_frames as plan_frames
from sdfnet.latents.interpolation import Easing as Easing
from sdfnet.latents.interpolation import PathKind as PathKind
from sdfnet.latents.interpolation import Playback as Playback
from sdfnet.latents.interpolation import interpolate as interpolate
from sdfnet.latents.morph import MorphResult as MorphResult
from sdfnet.latents.morph import make_morph as make_morph
