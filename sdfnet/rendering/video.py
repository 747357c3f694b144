"""Films from pictures, written whole or not at all: MP4 through ffmpeg, GIF and animated WebP through Pillow."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sdfnet.files import atomic_path
from sdfnet.rendering.images import check_image

FILM_FORMATS = ("mp4", "gif", "webp")

_GIF_UNIT = 100  # a GIF's delays are hundredths of a second


def save_film(frames: Iterable[NDArray[np.uint8]], path: str | Path, *, fps: float = 30.0) -> None:
    """Write pictures (H, W, 3) uint8 of one size as a film; the suffix chooses the format.

    `.mp4` (H.264, plays everywhere; frames stream through, and an odd width or height grows by one), `.gif` (loops; the
    rate becomes the nearest that a GIF can have, see `gif_rate`) or `.webp` (loops; a tenth of a GIF's size).

    Raises
    ------
    ValueError
        No frames, frames of unequal size, an `fps` out of (0, 1000], or another suffix.

    >>> save_film([np.full((16, 16, 3), shade, dtype=np.uint8) for shade in (0, 128, 255)], "film.gif", fps=10)
    >>> Path("film.gif").stat().st_size > 0
    True
    """
    writers: dict[str, Callable[[Iterator[NDArray[np.uint8]], Path, float], None]] = {
        ".mp4": _write_mp4,
        ".gif": _write_gif,
        ".webp": _write_webp,
    }
    suffix = Path(path).suffix.lower()
    if suffix not in writers:
        raise ValueError(f"cannot write a film as {Path(path).name!r}; choose one of {', '.join(writers)}")
    if not (math.isfinite(fps) and 0 < fps <= 1000):
        raise ValueError(f"fps must be above 0 and at most 1000, got {fps}")
    with atomic_path(path) as temporary:
        writers[suffix](_checked(frames), temporary, fps)


def gif_rate(fps: float) -> float:
    """Return the frame rate nearest to `fps` that a GIF can have: 100 divided by a whole number, at most 50.

    Browsers slow delays of one hundredth down to ten, so two is the least.

    >>> gif_rate(30), gif_rate(25), gif_rate(60)
    (33.333333333333336, 25.0, 50.0)
    """
    below = max(2, math.floor(_GIF_UNIT / fps))
    return min((_GIF_UNIT / delay for delay in (below, below + 1)), key=lambda rate: abs(rate - fps))


def _checked(frames: Iterable[NDArray[np.uint8]]) -> Iterator[NDArray[np.uint8]]:
    shape = None
    for number, frame in enumerate(frames):
        check_image(frame)
        if shape is not None and frame.shape != shape:
            raise ValueError(f"all frames must have one size; frame 0 has {shape}, frame {number} has {frame.shape}")
        shape = frame.shape
        yield frame
    if shape is None:
        raise ValueError("a film needs at least one frame, got none")


def _write_mp4(frames: Iterator[NDArray[np.uint8]], path: Path, fps: float) -> None:
    import imageio_ffmpeg  # type: ignore[import-untyped]

    first = next(frames)
    height, width = first.shape[:2]
    even = ((0, height % 2), (0, width % 2), (0, 0))
    sink = imageio_ffmpeg.write_frames(
        str(path),
        (width + width % 2, height + height % 2),
        fps=fps,
        codec="libx264",
        pix_fmt_in="rgb24",
        pix_fmt_out="yuv420p",
        quality=None,  # -crf below says it
        macro_block_size=2,
        output_params=["-crf", "18", "-preset", "medium", "-movflags", "+faststart"],
        ffmpeg_log_level="error",
    )
    sink.send(None)
    sent = 0
    try:
        for frame in chain([first], frames):
            sink.send(np.ascontiguousarray(np.pad(frame, even, mode="edge")))
            sent += 1
        sink.close()
        written, _ = imageio_ffmpeg.count_frames_and_secs(str(path))  # ffmpeg may fail after it took the last frame.
    except (OSError, RuntimeError) as error:
        raise ValueError(f"ffmpeg could not write the film: {' '.join(str(error).split())}") from error
    finally:
        sink.close()
    if written != sent:
        raise ValueError(f"ffmpeg could not write the film: it holds {written} of {sent} frames")


def _write_gif(frames: Iterator[NDArray[np.uint8]], path: Path, fps: float) -> None:
    from PIL import Image

    film = list(frames)
    # One palette for all frames: a palette of its own for each makes the colours of a film flicker.
    chosen = np.unique(np.linspace(0, len(film) - 1, 16).round().astype(int))
    montage = Image.fromarray(np.concatenate([film[number] for number in chosen]))
    palette = montage.quantize(colors=255, method=Image.Quantize.MEDIANCUT)
    indexed = [Image.fromarray(frame).quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG) for frame in film]
    delay = round(1000 / gif_rate(fps))
    indexed[0].save(path, save_all=True, append_images=indexed[1:], duration=delay, loop=0, disposal=1, optimize=False)


def _write_webp(frames: Iterator[NDArray[np.uint8]], path: Path, fps: float) -> None:
    from PIL import Image

    pictures = [Image.fromarray(frame) for frame in frames]
    pictures[0].save(
        path, save_all=True, append_images=pictures[1:], duration=round(1000 / fps), loop=0, quality=85, method=4
    )
