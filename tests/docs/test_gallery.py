"""Every program of the gallery runs, in seconds, on the small run; it is short, and its picture is on the page."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest

from sdfnet.mesh.io.read import read_mesh
from sdfnet.rendering.images import load_image

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = sorted((ROOT / "docs" / "gallery").glob("*.py"))
WITHOUT_A_RUN = {"blends", "sharp_edges"}


@pytest.fixture(scope="session")
def small_run() -> Path:
    """The small run of eight chairs: made once and kept (docs/small_run.py)."""
    return runpy.run_path(str(ROOT / "docs" / "small_run.py"))["small_run"]()


@pytest.mark.slow
@pytest.mark.render
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # a program is free to meet those of other libraries
@pytest.mark.parametrize("program", PROGRAMS, ids=lambda path: path.stem)
def test_a_program_runs_and_writes_its_picture(program, request, tmp_path, monkeypatch):
    words = [] if program.stem in WITHOUT_A_RUN else [str(request.getfixturevalue("small_run"))]
    words += [str(ROOT / "meshes" / "chair_04.obj")] if program.stem in ("fit_chair", "complete_chair") else []
    monkeypatch.setattr(sys, "argv", [str(program), *words, str(tmp_path)])
    runpy.run_path(str(program), run_name="__main__")
    picture = load_image(tmp_path / f"{program.stem}.png")
    assert min(picture.shape[:2]) > 100
    assert picture.std() > 3  # something is drawn on the background
    for mesh in tmp_path.glob("*.obj"):
        assert read_mesh(mesh).signed_volume > 0


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda path: path.stem)
def test_a_program_is_short_and_shown(program):
    assert len(program.read_text(encoding="utf-8").splitlines()) < 40
    page = (ROOT / "docs" / "gallery.md").read_text(encoding="utf-8")
    assert f"docs/gallery/{program.name}" in page
    assert f"images/gallery/{program.stem}.png" in page
    assert (ROOT / "docs" / "images" / "gallery" / f"{program.stem}.png").is_file()


def test_there_are_at_least_six_programs():
    assert len(PROGRAMS) >= 6
