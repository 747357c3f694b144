"""Match the points of a family of shapes: one mesh follows a moving surface from frame to frame."""

from sdfnet.correspondence.results import Cut as Cut
from sdfnet.correspondence.results import Deviation as Deviation
from sdfnet.correspondence.results import TrackConfig as TrackConfig
from sdfnet.correspondence.results import TrackedMorph as TrackedMorph
from sdfnet.correspondence.results import TrackedSegment as TrackedSegment
from sdfnet.correspondence.track import extract_even_mesh as extract_even_mesh
from sdfnet.correspondence.track import track_surface as track_surface
