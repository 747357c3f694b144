"""The notebooks run from the first cell to the last, on the small run, and are stored with what their cells show."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "docs" / "tutorials").glob("*.ipynb"))


def test_there_is_a_notebook() -> None:
    assert NOTEBOOKS


@pytest.mark.slow
@pytest.mark.render
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = runpy.run_path(str(ROOT / "docs" / "small_run.py"))["small_run"]()
    monkeypatch.setenv("SDFNET_RUN", str(run))
    monkeypatch.chdir(tmp_path)
    run_notebook = runpy.run_path(str(ROOT / "docs" / "run_notebook.py"))["run_notebook"]
    ran = [cell for cell in run_notebook(path)["cells"] if cell["cell_type"] == "code"]
    assert {file.name for file in (tmp_path / "tutorial").iterdir()} >= {"cut.obj", "painted.glb"}
    stored = [cell for cell in json.loads(path.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]
    assert [kinds(cell) for cell in stored] == [kinds(cell) for cell in ran]
    assert path.stat().st_size < 300_000


def kinds(cell: dict[str, Any]) -> list[str]:
    """The MIME types of what a cell shows."""
    return [kind for output in cell["outputs"] for kind in output["data"]]
