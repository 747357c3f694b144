"""Films: as many frames as given, at the rate asked for, whole or not at all."""

from __future__ import annotations

import subprocess
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from sdfnet.rendering.video import gif_rate, save_film


def _frames(count: int = 7, size: tuple[int, int] = (64, 48)) -> list[NDArray[np.uint8]]:
    """A bright square that moves ten pixels right and changes colour with each frame."""
    frames = []
    for number in range(count):
        frame = np.full((size[1], size[0], 3), 240, dtype=np.uint8)
        frame[10:30, 5 * number : 5 * number + 15] = [20 + 30 * number, 60, 200 - 20 * number]
        frames.append(frame)
    return frames


def _read(path: Path) -> tuple[list[NDArray[np.uint8]], list[int]]:
    with Image.open(path) as film:
        frames, delays = [], []
        for number in range(film.n_frames):
            film.seek(number)
            frames.append(np.asarray(film.convert("RGB")))
            delays.append(film.info["duration"])
        assert film.info["loop"] == 0
    return frames, delays


@pytest.mark.parametrize(("suffix", "tolerance"), [(".gif", 4), (".webp", 4)])
def test_animated_pictures_come_back(tmp_path: Path, suffix: str, tolerance: float) -> None:
    save_film(_frames(), tmp_path / f"film{suffix}", fps=25)
    frames, delays = _read(tmp_path / f"film{suffix}")
    assert len(frames) == 7
    assert set(delays) == {40}
    for frame, expected in zip(frames, _frames(), strict=True):
        assert np.abs(frame.astype(int) - expected).mean() < tolerance


@pytest.mark.parametrize("size", [(64, 48), (65, 49)])
def test_mp4_comes_back(tmp_path: Path, size: tuple[int, int]) -> None:
    save_film(iter(_frames(size=size)), tmp_path / "film.mp4", fps=24)
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-i", str(tmp_path / "film.mp4")]
    result = subprocess.run([*command, "-f", "rawvideo", "-pix_fmt", "rgb24", "-"], capture_output=True, check=True)
    width, height = size[0] + size[0] % 2, size[1] + size[1] % 2
    facts = result.stderr.decode()
    assert f"{width}x{height}" in facts
    assert "24 fps" in facts
    assert "h264" in facts
    assert "yuv420p" in facts
    shown = np.frombuffer(result.stdout, np.uint8).reshape(-1, height, width, 3)
    assert len(shown) == 7
    for frame, expected in zip(shown, _frames(size=size), strict=True):
        assert np.abs(frame[: size[1], : size[0]].astype(int) - expected).mean() < 6


def test_still_frames_of_a_gif_are_kept_in_time(tmp_path: Path) -> None:
    save_film([_frames()[0]] * 10, tmp_path / "still.gif", fps=10)
    assert sum(_read(tmp_path / "still.gif")[1]) == 1000


@pytest.mark.parametrize(("fps", "rate"), [(10, 10), (24, 25), (30, 100 / 3), (45, 50), (60, 50), (1, 1), (99, 50)])
def test_a_gif_takes_the_nearest_rate_that_it_can_have(fps: float, rate: float) -> None:
    assert gif_rate(fps) == pytest.approx(rate)


@pytest.mark.parametrize("suffix", [".mp4", ".gif", ".webp"])
def test_what_cannot_be_a_film_is_refused_and_leaves_no_file(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"film{suffix}"
    with pytest.raises(ValueError, match="at least one frame"):
        save_film([], path)
    mixed = [*_frames(3), np.zeros((8, 8, 3), dtype=np.uint8)]
    with pytest.raises(ValueError, match=r"frame 0 has \(48, 64, 3\), frame 3 has \(8, 8, 3\)"):
        save_film(mixed, path)
    with pytest.raises(ValueError, match="uint8, got float64"):
        save_film([np.zeros((8, 8, 3))], path)  # type: ignore[list-item]
    with pytest.raises(ValueError, match="fps must be above 0 and at most 1000, got 0"):
        save_film(_frames(), path, fps=0)
    assert list(tmp_path.iterdir()) == []


def test_another_suffix_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"'film\.avi'; choose one of \.mp4, \.gif, \.webp"):
        save_film(_frames(), tmp_path / "film.avi")
