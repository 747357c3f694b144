"""The examples in docstrings run in a folder with meshes in chairs/ and a trained run in runs/chairs."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).parent


@pytest.fixture(scope="session")
def _example_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four of the shipped chairs, and a run that takes a second: its two shapes are balls, but bear names of chairs."""
    from tiny_runs import learn_run

    from sdfnet.fields import Sphere
    from sdfnet.runs import RunShape
    from sdfnet.solids.source_shape import folder_similarities, load_shape

    folder = tmp_path_factory.mktemp("examples")
    (folder / "chairs").mkdir()
    for path in sorted((ROOT / "meshes").glob("chair_0[0-3].obj")):
        shutil.copy(path, folder / "chairs")
    shapes = []
    for name in ("chair_00", "chair_01"):
        (similarity,) = folder_similarities([load_shape(folder / "chairs" / f"{name}.obj", name=name)])
        shapes.append(RunShape(name, similarity, f"chairs/{name}.obj", content_hash="", closed=True))
    learn_run(folder / "runs" / "chairs", shapes, [Sphere(0.6), Sphere(0.7)])
    return folder


@pytest.fixture(autouse=True)
def _in_example_folder(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if isinstance(request.node, pytest.DoctestItem):
        monkeypatch.chdir(request.getfixturevalue("_example_folder"))
