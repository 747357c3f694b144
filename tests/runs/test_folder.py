"""A folder that a later call continues: the same settings go on, others are refused by name or replaced."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sdfnet.runs.folder import FolderKind, file_sizes, is_whole, open_folder, save_folder, setting_differences

FILMS = FolderKind("film", "film.json", 2, "frames", listed=True, other_files=("sheet", "videos"), pattern="frame_*")
FITS = FolderKind("fit", "fit.json", 1, "shapes")
SETTINGS = {"frames": 3, "format": ("obj", "glb"), "camera": {"fov": 40.0}}


def film(out: Path, *, frames: int = 2) -> dict[str, Any]:
    """Make a folder with a film, and return its document."""
    document = open_folder(out, SETTINGS, FILMS)
    for index in range(frames):
        name = f"frame_{index}.obj"
        (out / name).write_text("v 0 0 0\n" * (index + 1), encoding="utf-8")
        document["frames"].append({"index": index, "files": file_sizes(out, [name])})
    for name in ("sheet.png", "a.mp4", "mine.txt"):
        (out / name).write_bytes(b"x")
    document |= {"sheet": "sheet.png", "videos": ["a.mp4"]}
    save_folder(out, document, FILMS)
    return document


def test_the_same_settings_go_on(tmp_path: Path) -> None:
    document = film(tmp_path / "out")
    assert open_folder(tmp_path / "out", dict(reversed(SETTINGS.items())), FILMS, overwrite=True) == {
        **document,
        "settings": {**SETTINGS, "format": ["obj", "glb"]},
    }
    assert (tmp_path / "out" / "a.mp4").exists()
    assert open_folder(tmp_path / "fit", {}, FITS) == {"format": 1, "settings": {}, "shapes": {}}


def test_other_settings_are_refused_by_name_and_nothing_is_touched(tmp_path: Path) -> None:
    film(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    other = {**SETTINGS, "frames": 4, "camera": {"fov": 30.0}}
    message = (
        r"holds another film: frames is 3 there and 4 now; camera.fov is 40.0 there and 30.0 now. "
        r"Choose another out, or overwrite=true"
    )
    with pytest.raises(ValueError, match=message):
        open_folder(tmp_path, other, FILMS, overwrite=False)
    with pytest.raises(ValueError, match=r"Choose another out, or repeat its own options$"):
        open_folder(tmp_path, other, FILMS)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_overwriting_removes_what_was_recorded_and_nothing_else(tmp_path: Path) -> None:
    film(tmp_path)
    document = open_folder(tmp_path, {**SETTINGS, "frames": 4}, FILMS, overwrite=True)
    assert document["frames"] == []
    assert {path.name for path in tmp_path.iterdir()} == {"film.json", "mine.txt"}


def test_another_layout_counts_as_another_setting(tmp_path: Path) -> None:
    document = film(tmp_path)
    save_folder(tmp_path, {**document, "format": 1}, FILMS)
    with pytest.raises(ValueError, match=r"film\.json has format 1, this version writes 2"):
        open_folder(tmp_path, SETTINGS, FILMS, overwrite=False)


def test_files_without_a_document_are_not_taken_for_nothing(tmp_path: Path) -> None:
    (tmp_path / "frame_0.obj").touch()
    with pytest.raises(ValueError, match=r"holds frame_0\.obj but no film\.json"):
        open_folder(tmp_path, SETTINGS, FILMS, overwrite=False)
    assert open_folder(tmp_path, SETTINGS, FILMS, overwrite=True)["frames"] == []
    assert open_folder(tmp_path, SETTINGS, FITS)["shapes"] == {}


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe"])
def test_a_damaged_document_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "fit.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"fit\.json is damaged .*Remove it or choose another out"):
        open_folder(tmp_path, SETTINGS, FITS)


def test_a_record_is_whole_while_its_files_have_the_size_that_was_written(tmp_path: Path) -> None:
    first, second = film(tmp_path)["frames"]
    assert is_whole(tmp_path, first)
    assert is_whole(tmp_path, second)
    (tmp_path / "frame_0.obj").write_text("v", encoding="utf-8")
    (tmp_path / "frame_1.obj").unlink()
    assert not is_whole(tmp_path, first)
    assert not is_whole(tmp_path, second)


def test_differences_leave_out_what_may_differ_and_know_what_old_settings_meant() -> None:
    old = {"training": {"steps": 10, "log": 1}, "shapes": ["a"]}
    new = {"training": {"steps": 10, "log": 2, "strata": 1, "optimizer": "muon"}, "shapes": ["a"], "more": None}
    unnamed = {"training.strata": 1, "training.optimizer": "adam"}
    assert setting_differences(old, new, ignored={"training.log"}, unnamed=unnamed) == [
        'training.optimizer is "adam" there and "muon" now'
    ]


def test_of_long_lists_only_what_differs_is_told() -> None:
    old = [f"chair_{number:02}" for number in range(20)]
    (text,) = setting_differences({"shapes": old}, {"shapes": [*old[4:], "stool"]})
    assert text == "shapes lost chair_00, chair_01, chair_02 and 1 more and gained stool"
    (text,) = setting_differences({"shapes": old}, {"shapes": old[::-1]})
    assert text.startswith('shapes is ["chair_00"')
