"""sdfnet: learn a family of 3D shapes as one neural signed distance field, and get them back as meshes.

The names below are loaded when first used, so that `sdfnet --help` need not wait for torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sdfnet.correspondence import match_points as match_points
    from sdfnet.evaluation import evaluate_run as evaluate_run
    from sdfnet.extraction import extract_mesh as extract_mesh
    from sdfnet.fields import Field as Field
    from sdfnet.fields import MeshField as MeshField
    from sdfnet.fields import NeuralField as NeuralField
    from sdfnet.fields import evaluate as evaluate
    from sdfnet.fitting.complete import fit as fit
    from sdfnet.fitting.fit_meshes import fit_meshes as fit_meshes
    from sdfnet.latents.analysis import analyze_space as analyze_space
    from sdfnet.mesh.io.read import read_mesh as read_mesh
    from sdfnet.mesh.io.write import save_mesh as save_mesh
    from sdfnet.mesh.mesh import Mesh as Mesh
    from sdfnet.morphs import make_morph as make_morph
    from sdfnet.rendering import render_mesh as render_mesh
    from sdfnet.rendering import render_shapes as render_shapes
    from sdfnet.runs import Run as Run
    from sdfnet.runs import extract_run as extract_run
    from sdfnet.runs import load_run as load_run
    from sdfnet.runs.mixes import shape_from as shape_from
    from sdfnet.sampling import prepare_samples as prepare_samples
    from sdfnet.scenes import load_scene as load_scene
    from sdfnet.scenes import save_scene as save_scene
    from sdfnet.solids.rule import SolidRule as SolidRule
    from sdfnet.solids.source_shape import check_folder as check_folder
    from sdfnet.training import train as train
    from sdfnet.viewer import view as view

__version__ = "0.1.0"

_HOMES = {
    "Field": "fields",
    "Mesh": "mesh.mesh",
    "MeshField": "fields",
    "NeuralField": "fields",
    "Run": "runs",
    "SolidRule": "solids.rule",
    "analyze_space": "latents.analysis",
    "check_folder": "solids.source_shape",
    "evaluate": "fields",
    "evaluate_run": "evaluation",
    "extract_mesh": "extraction",
    "extract_run": "runs",
    "fit": "fitting",
    "fit_meshes": "fitting",
    "load_run": "runs",
    "make_morph": "morphs",
    "match_points": "correspondence",
    "prepare_samples": "sampling",
    "read_mesh": "mesh.io.read",
    "render_mesh": "rendering",
    "render_shapes": "rendering",
    "save_mesh": "mesh.io.write",
    "shape_from": "runs.mixes",
    "load_scene": "scenes",
    "save_scene": "scenes",
    "train": "training",
    "view": "viewer",
}

__all__ = sorted([*_HOMES, "__version__"])


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"sdfnet.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'sdfnet' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
