"""Random points with signed distances. They are drawn from meshes, kept in a store, and read in slices."""

from sdfnet.sampling.jobs import WorkersConfig as WorkersConfig
from sdfnet.sampling.prepare import PrepareReport as PrepareReport
from sdfnet.sampling.prepare import prepare_samples as prepare_samples
from sdfnet.sampling.samplers import SurfaceSamples as SurfaceSamples
from sdfnet.sampling.samplers import sample_ball as sample_ball
from sdfnet.sampling.samplers import sample_features as sample_features
from sdfnet.sampling.samplers import sample_near_surface as sample_near_surface
from sdfnet.sampling.samplers import sample_surface as sample_surface
from sdfnet.sampling.samplers import sample_volume as sample_volume
from sdfnet.sampling.shape_samples import SamplerConfig as SamplerConfig
from sdfnet.sampling.shape_samples import ShapeSamples as ShapeSamples
from sdfnet.sampling.shape_samples import deepsdf_config as deepsdf_config
from sdfnet.sampling.shape_samples import sample_shape as sample_shape
from sdfnet.sampling.store import SampleStore as SampleStore
from sdfnet.sampling.store import StoredShape as StoredShape
