"""Codes of shapes that were not trained on."""

from sdfnet.fitting.fit import FitConfig as FitConfig
from sdfnet.fitting.fit import FittedCodes as FittedCodes
from sdfnet.fitting.fit import fit_codes as fit_codes
from sdfnet.fitting.fit import with_fitted as with_fitted
from sdfnet.fitting.fit_meshes import MeshFitConfig as MeshFitConfig
from sdfnet.fitting.fit_meshes import MeshFits as MeshFits
from sdfnet.fitting.fit_meshes import fit_meshes as fit_meshes
