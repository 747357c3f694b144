"""Numbers as colours: one diverging scale, and its bar for the legend of a picture."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sdfnet.geometry.arrays import FloatArray
from sdfnet.rendering.images import INK
from sdfnet.rendering.style import Color, Style

_STOPS = np.array([[0.13, 0.25, 0.62], [0.30, 0.53, 0.86], [0.86, 0.87, 0.88], [0.93, 0.50, 0.28], [0.66, 0.09, 0.13]])
"""Colours from -1 to 1 at even steps: cold, neutral, warm. A viewer who confuses red and green can tell them apart."""

_BAR_WIDTH = 0.5  # of the picture's width


def diverging_colors(values: ArrayLike, *, limit: float) -> FloatArray:
    """Return sRGB colours (..., 3) for `values` (...): cold at -`limit` and below, grey at 0, warm at `limit`.

    Raises
    ------
    ValueError
        `limit` is not positive and finite.

    >>> diverging_colors([0.0, 2.0], limit=2.0).tolist()
    [[0.86, 0.87, 0.88], [0.66, 0.09, 0.13]]
    """
    if not (np.isfinite(limit) and limit > 0):
        raise ValueError(f"limit must be positive and finite, got {limit}")
    shares = np.clip(np.asarray(values, dtype=np.float64) / limit, -1, 1)
    at = np.linspace(-1, 1, len(_STOPS))
    return np.stack([np.interp(shares, at, _STOPS[:, channel]) for channel in range(3)], axis=-1)


def color_bar(width: int, *, low: str | None, high: str, title: str) -> NDArray[np.uint8]:
    """Return a strip (H, `width`, 3) with the diverging scale, `low`, 0 and `high` below it, and a title above.

    With `low=None`, values are 0 or more, and the scale begins at 0.

    >>> color_bar(200, low=None, high="1", title="spread").shape
    (55, 200, 3)
    """
    letters = _letter_size(width)
    length = round(_BAR_WIDTH * width)
    left = (width - length) // 2
    strip = _blank(width, 5 * letters)
    strip[2 * letters : 3 * letters, left : left + length] = np.rint(
        255 * diverging_colors(np.linspace(0 if low is None else -1, 1, length), limit=1.0)
    )
    zero = (left, 4, "0") if low is None else (width / 2, 4, "0")
    words = [(width / 2, 1, title), zero, (left + length, 4, high)] + ([(left, 4, low)] if low else [])
    return _with_words(strip, words, letters, anchor="mm")


def swatches(width: int, named: Sequence[tuple[Color, str]]) -> NDArray[np.uint8]:
    """Return a strip (H, `width`, 3) with a patch of each colour beside its name."""
    letters = _letter_size(width)
    strip = _blank(width, 3 * letters)
    words = []
    for number, (color, name) in enumerate(named):
        middle = round(width * (number + 0.5) / len(named))
        patch = strip[letters : 2 * letters, max(0, middle - 5 * letters) : middle - 3 * letters]
        patch[:] = np.rint(255 * np.array(color))
        words.append((middle - 2 * letters, 1.5, name))
    return _with_words(strip, words, letters, anchor="lm")


def _letter_size(width: int) -> int:
    return max(11, min(28, width // 60))


def _blank(width: int, height: int) -> NDArray[np.uint8]:
    background = np.rint(255 * np.array(Style().background)).astype(np.uint8)
    return np.broadcast_to(background, (height, width, 3)).copy()


def _with_words(
    strip: NDArray[np.uint8], words: Sequence[tuple[float, float, str]], letters: int, *, anchor: str
) -> NDArray[np.uint8]:
    """Return `strip` with words, each at so many pixels across and so many letter sizes down."""
    from PIL import Image, ImageDraw, ImageFont

    image = Image.fromarray(strip)
    pen, font = ImageDraw.Draw(image), ImageFont.load_default(size=letters)
    for across, down, text in words:
        pen.text((across, down * letters), text, fill=INK, font=font, anchor=anchor)
    return np.asarray(image).copy()
