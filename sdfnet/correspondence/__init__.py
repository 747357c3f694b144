"""Match the points of a family of shapes, through a template or by a mesh that follows a moving surface."""

from sdfnet.correspondence.annotations import Colors as Colors
from sdfnet.correspondence.annotations import Labels as Labels
from sdfnet.correspondence.annotations import Landmarks as Landmarks
from sdfnet.correspondence.annotations import load_colors as load_colors
from sdfnet.correspondence.annotations import load_labels as load_labels
from sdfnet.correspondence.annotations import load_landmarks as load_landmarks
from sdfnet.correspondence.match import MatchedPoints as MatchedPoints
from sdfnet.correspondence.match import match_points as match_points
from sdfnet.correspondence.results import Cut as Cut
from sdfnet.correspondence.results import Deviation as Deviation
from sdfnet.correspondence.results import TrackConfig as TrackConfig
from sdfnet.correspondence.results import TrackedMorph as TrackedMorph
from sdfnet.correspondence.results import TrackedSegment as TrackedSegment
from sdfnet.correspondence.shared_mesh import SharedMesh as SharedMesh
from sdfnet.correspondence.shared_mesh import extract_shared as extract_shared
from sdfnet.correspondence.shared_mesh import shared_meshes as shared_meshes
from sdfnet.correspondence.template_map import MappedPoints as MappedPoints
from sdfnet.correspondence.template_map import points_at as points_at
from sdfnet.correspondence.template_map import template_places as template_places
from sdfnet.correspondence.template_track import track_template as track_template
from sdfnet.correspondence.track import extract_even_mesh as extract_even_mesh
from sdfnet.correspondence.track import track_surface as track_surface
from sdfnet.correspondence.transfer import TransferredShapes as TransferredShapes
from sdfnet.correspondence.transfer import transfer as transfer
