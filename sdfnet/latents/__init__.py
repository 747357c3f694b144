"""The space of latent codes: paths through it, morphs written as files, and codes fitted to new shapes."""

from sdfnet.latents.config import MorphConfig as MorphConfig
from sdfnet.latents.fitting import FitConfig as FitConfig
from sdfnet.latents.fitting import FittedCodes as FittedCodes
from sdfnet.latents.fitting import fit_codes as fit_codes
from sdfnet.latents.fitting import with_fitted as with_fitted
from sdfnet.latents.frames import plan_frames as plan_frames
from sdfnet.latents.interpolation import Easing as Easing
from sdfnet.latents.interpolation import PathKind as PathKind
from sdfnet.latents.interpolation import Playback as Playback
from sdfnet.latents.interpolation import interpolate as interpolate
from sdfnet.latents.mesh_fitting import MeshFitConfig as MeshFitConfig
from sdfnet.latents.mesh_fitting import MeshFits as MeshFits
from sdfnet.latents.mesh_fitting import fit_meshes as fit_meshes
from sdfnet.latents.morph import MorphResult as MorphResult
from sdfnet.latents.morph import make_morph as make_morph
from sdfnet.latents.tracked import field_along as field_along
