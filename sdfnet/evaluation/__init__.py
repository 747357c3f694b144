"""How good a result is: metrics between surfaces, the extraction error, and the report of a run."""

from sdfnet.evaluation.closest_points import Surface as Surface
from sdfnet.evaluation.closest_points import match_surfaces as match_surfaces
from sdfnet.evaluation.extraction_error import extract_exact as extract_exact
from sdfnet.evaluation.metrics import SurfaceDistance as SurfaceDistance
from sdfnet.evaluation.metrics import chamfer_distance as chamfer_distance
from sdfnet.evaluation.metrics import chamfer_of_sampling as chamfer_of_sampling
from sdfnet.evaluation.metrics import distances_of as distances_of
from sdfnet.evaluation.metrics import f_score as f_score
from sdfnet.evaluation.metrics import normal_consistency as normal_consistency
from sdfnet.evaluation.metrics import surface_distance as surface_distance
from sdfnet.evaluation.metrics import volume_iou as volume_iou
from sdfnet.evaluation.quality import EvaluationConfig as EvaluationConfig
from sdfnet.evaluation.quality import measure_mesh as measure_mesh
from sdfnet.evaluation.report import RunReport as RunReport
from sdfnet.evaluation.report import ShapeReport as ShapeReport
from sdfnet.evaluation.report import evaluate_meshes as evaluate_meshes
from sdfnet.evaluation.report import evaluate_run as evaluate_run
from sdfnet.evaluation.report import format_table as format_table
from sdfnet.evaluation.report import save_report as save_report
from sdfnet.mesh.topology import Topology as Topology
from sdfnet.mesh.topology import components_and_genus as components_and_genus
