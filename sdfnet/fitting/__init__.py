"""Fit codes of shapes that were not trained on to observations of these shapes."""

from sdfnet.fitting.config import FitConfig as FitConfig
from sdfnet.fitting.config import MeshFitConfig as MeshFitConfig
from sdfnet.fitting.fit import FittedCodes as FittedCodes
from sdfnet.fitting.fit import fit_codes as fit_codes
from sdfnet.fitting.fit import with_fitted as with_fitted
from sdfnet.fitting.fit_meshes import MeshFits as MeshFits
from sdfnet.fitting.fit_meshes import fit_meshes as fit_meshes
from sdfnet.fitting.observations import DistanceObservation as DistanceObservation
from sdfnet.fitting.observations import Observation as Observation
