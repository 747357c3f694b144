"""Fit codes of shapes that were not trained on to observations of these shapes."""

from sdfnet.fitting.codes import FittedCodes as FittedCodes
from sdfnet.fitting.codes import fit_codes as fit_codes
from sdfnet.fitting.codes import with_fitted as with_fitted
from sdfnet.fitting.complete import Fit as Fit
from sdfnet.fitting.complete import fit as fit
from sdfnet.fitting.config import CompletionConfig as CompletionConfig
from sdfnet.fitting.config import FitConfig as FitConfig
from sdfnet.fitting.config import MeshFitConfig as MeshFitConfig
from sdfnet.fitting.config import ObserveConfig as ObserveConfig
from sdfnet.fitting.fit_meshes import MeshFits as MeshFits
from sdfnet.fitting.fit_meshes import fit_inputs as fit_inputs
from sdfnet.fitting.fit_meshes import fit_meshes as fit_meshes
from sdfnet.fitting.observations import DistanceObservation as DistanceObservation
from sdfnet.fitting.observations import Observation as Observation
from sdfnet.fitting.spread import draw_hypotheses as draw_hypotheses
from sdfnet.fitting.spread import vertex_spread as vertex_spread
