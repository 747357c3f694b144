"""Run directories: load a run, choose and mix its shapes, extract meshes.

The names below are loaded when first used, so that a command that reads only `run.json` need not wait for torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sdfnet.mesh.io.read import select_shapes as select_shapes
    from sdfnet.runs.document import METRICS_FILE as METRICS_FILE
    from sdfnet.runs.document import MODEL_FILE as MODEL_FILE
    from sdfnet.runs.document import MOST_WRONG_SIGNS as MOST_WRONG_SIGNS
    from sdfnet.runs.document import RUN_FILE as RUN_FILE
    from sdfnet.runs.document import SURFACE_ERROR as SURFACE_ERROR
    from sdfnet.runs.document import WRONG_SIGNS as WRONG_SIGNS
    from sdfnet.runs.document import RunShape as RunShape
    from sdfnet.runs.document import describe_thin_walls as describe_thin_walls
    from sdfnet.runs.document import load_document as load_document
    from sdfnet.runs.document import save_document as save_document
    from sdfnet.runs.extract import ComponentCounts as ComponentCounts
    from sdfnet.runs.extract import ExtractConfig as ExtractConfig
    from sdfnet.runs.extract import ExtractedRun as ExtractedRun
    from sdfnet.runs.extract import ExtractedShape as ExtractedShape
    from sdfnet.runs.extract import clean_components as clean_components
    from sdfnet.runs.extract import extract_run as extract_run
    from sdfnet.runs.extract import extract_shape as extract_shape
    from sdfnet.runs.run import Run as Run
    from sdfnet.runs.run import load_run as load_run
    from sdfnet.runs.run import load_tensors as load_tensors
    from sdfnet.runs.run import save_model as save_model
    from sdfnet.runs.run import save_tensors as save_tensors


def __getattr__(name: str) -> Any:
    for module in () if name.startswith("_") else ("document", "run", "extract"):
        home = importlib.import_module(f"sdfnet.runs.{module}")
        if name != module and hasattr(home, name):
            return getattr(home, name)
    raise AttributeError(f"module 'sdfnet.runs' has no attribute {name!r}")
