"""What a run directory is: read and write it. Data, no behaviour."""

from sdfnet.runs.checkpoint import load_tensors as load_tensors
from sdfnet.runs.checkpoint import save_tensors as save_tensors
from sdfnet.runs.extract import ComponentCounts as ComponentCounts
from sdfnet.runs.extract import ExtractConfig as ExtractConfig
from sdfnet.runs.extract import ExtractedRun as ExtractedRun
from sdfnet.runs.extract import ExtractedShape as ExtractedShape
from sdfnet.runs.extract import clean_components as clean_components
from sdfnet.runs.extract import extract_run as extract_run
from sdfnet.runs.extract import extract_shape as extract_shape
from sdfnet.runs.run import FORMAT_VERSION as FORMAT_VERSION
from sdfnet.runs.run import MODEL_FILE as MODEL_FILE
from sdfnet.runs.run import RUN_FILE as RUN_FILE
from sdfnet.runs.run import Run as Run
from sdfnet.runs.run import RunShape as RunShape
from sdfnet.runs.run import load_document as load_document
from sdfnet.runs.run import load_run as load_run
from sdfnet.runs.run import save_document as save_document
from sdfnet.runs.run import save_model as save_model
from sdfnet.runs.selection import select_shapes as select_shapes
