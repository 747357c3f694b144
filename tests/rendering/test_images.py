"""Picture files and contact sheets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from sdfnet.rendering.images import contact_sheet, load_image, save_image
from sdfnet.rendering.style import Style


def _noise(seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, size=(30, 40, 3), dtype=np.uint8)


def test_png_comes_back_exactly(tmp_path: Path) -> None:
    save_image(_noise(), tmp_path / "new folder" / "a=[1] b.png")
    np.testing.assert_array_equal(load_image(tmp_path / "new folder" / "a=[1] b.png"), _noise())


@pytest.mark.parametrize("suffix", [".jpg", ".webp"])
def test_other_formats_come_back_nearly(tmp_path: Path, suffix: str) -> None:
    smooth = np.linspace(0, 255, 30 * 40 * 3).reshape(30, 40, 3).astype(np.uint8)
    save_image(smooth, tmp_path / f"a{suffix}")
    assert np.abs(load_image(tmp_path / f"a{suffix}").astype(int) - smooth).mean() < 4


def test_what_is_no_picture_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"'a\.bmp'; choose one of \.png"):
        save_image(_noise(), tmp_path / "a.bmp")
    with pytest.raises(ValueError, match=r"shape \(H, W, 3\), got \(30, 40\)"):
        save_image(_noise()[..., 0], tmp_path / "a.png")
    with pytest.raises(ValueError, match="uint8, got float64"):
        save_image(_noise() / 255, tmp_path / "a.png")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "b.png").write_text("no picture")
    with pytest.raises(ValueError, match=r"cannot read the picture .*b\.png"):
        load_image(tmp_path / "b.png")


def test_a_sheet_holds_each_picture_in_its_place() -> None:
    images = [_noise(seed) for seed in range(5)]
    sheet = contact_sheet(images, columns=3)
    assert sheet.shape == (2 * 38 + 8, 3 * 48 + 8, 3)
    for number, image in enumerate(images):
        top, left = 8 + number // 3 * 38, 8 + number % 3 * 48
        np.testing.assert_array_equal(sheet[top : top + 30, left : left + 40], image)
    assert (sheet[46:, 104:] == np.rint(255 * np.array(Style().background))).all()


def test_labels_stand_under_their_pictures_and_never_overlap() -> None:
    images = [np.full((60, 80, 3), 255, np.uint8)] * 2
    plain = contact_sheet(images, labels=["", ""])
    sheet = contact_sheet(images, labels=["chair_03", "a very long name/that goes on and on\n" * 3])
    assert sheet.shape == plain.shape
    changed = np.argwhere((sheet != plain).any(axis=-1))
    assert changed[:, 0].min() >= 8 + 60
    left, right = changed[changed[:, 1] < 92, 1], changed[changed[:, 1] >= 92, 1]
    assert left.min() >= 8
    assert left.max() < 88
    assert right.min() >= 96
    assert right.max() < 176
    assert abs(left.mean() - 48) < 4


def test_sheets_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one image"):
        contact_sheet([])
    with pytest.raises(ValueError, match="each of the 2 images, got 1"):
        contact_sheet([_noise(), _noise()], labels=["a"])
    with pytest.raises(ValueError, match=r"image 1 has \(30, 39, 3\)"):
        contact_sheet([_noise(), _noise()[:, 1:]])
    with pytest.raises(ValueError, match="columns must be at least 1"):
        contact_sheet([_noise()], columns=0)
