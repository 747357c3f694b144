"""`sdfnet extract` with sharp edges, projection and a number of faces."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from sdfnet.cli.main import main
from sdfnet.mesh.io.read import read_mesh
from sdfnet.mesh.validity import check_closed


def test_max_faces_is_kept_to_and_what_it_cost_is_said(
    tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [f"run={tiny_run}", f"out={tmp_path}", "resolution=24", "sharp=true", "project_steps=1", "max_faces=200"]
    assert main(["extract", *words]) == 0
    assert "simplified to at most 200 faces" in capsys.readouterr().out
    summaries = json.loads((tmp_path / "extract.json").read_text())["shapes"]
    for name, summary in summaries.items():
        mesh = read_mesh(tmp_path / f"{name}.obj")
        assert len(mesh.faces) == summary["faces"] == 200
        assert check_closed(mesh).is_clean
        assert summary["simplified"]["faces_before"] > 200
        assert 0 < summary["simplified"]["distance"] < 0.1 * np.linalg.norm(mesh.bounds.extent)


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("max_faces=3", "max_faces must be at least 4 (a tetrahedron), got 3"),
        ("max_faces=many", "max_faces must be a whole number or null, got"),
        ("sharp=perhaps", "sharp must be true or false, got"),
        ("project_steps=-1", "project_steps must be 0 or more, got -1"),
    ],
)
def test_nonsense_is_refused(word: str, message: str, tiny_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["extract", f"run={tiny_run}", word]) != 0
    assert message in capsys.readouterr().err
