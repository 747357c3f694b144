"""Contact sheets: many pictures in one, with labels."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sdfnet.rendering.images import check_image
from sdfnet.rendering.style import Color, Look, check_color

_INK = (70, 72, 76)


def contact_sheet(
    images: Sequence[NDArray[np.uint8]],
    *,
    columns: int | None = None,
    labels: Sequence[str] | None = None,
    gap: int = 8,
    background: Color | None = None,
) -> NDArray[np.uint8]:
    """Return `images` of one size, (H, W, 3) uint8, row by row on one sheet, each over its label if there are any.

    Parameters
    ----------
    columns : int, optional
        By default as many as make the sheet about as wide as it is high, for pictures in the shape of a screen.
    labels : sequence of str, optional
        One for each image; shortened with an ellipsis where they are too long.
    gap : int
        Pixels around each picture.
    background : Color, optional
        By default that of pictures.

    Raises
    ------
    ValueError
        No images, unequal sizes, or a number of labels that is not that of the images.

    >>> contact_sheet([np.zeros((30, 40, 3), np.uint8)] * 5, columns=3, gap=2).shape
    (66, 128, 3)
    """
    if not len(images):
        raise ValueError("a contact sheet needs at least one image, got none")
    for number, image in enumerate(images):
        check_image(image)
        if image.shape != images[0].shape:
            raise ValueError(
                f"all images must have one size; image 0 has {images[0].shape}, image {number} has {image.shape}"
            )
    if labels is not None and len(labels) != len(images):
        raise ValueError(f"labels must name each of the {len(images)} images, got {len(labels)}")
    columns = math.ceil(math.sqrt(len(images))) if columns is None else columns
    if columns < 1 or gap < 0:
        raise ValueError(f"columns must be at least 1 and gap at least 0, got {columns} and {gap}")
    color = Look().background if background is None else background
    check_color("background", color)
    return _laid_out(images, min(columns, len(images)), labels, gap, color)


def _laid_out(
    images: Sequence[NDArray[np.uint8]], columns: int, labels: Sequence[str] | None, gap: int, background: Color
) -> NDArray[np.uint8]:
    from PIL import Image, ImageDraw, ImageFont

    height, width = images[0].shape[:2]
    letters = max(11, min(28, width // 18))
    below = 0 if labels is None else 2 * letters
    rows = math.ceil(len(images) / columns)
    size = (columns * (width + gap) + gap, rows * (height + below + gap) + gap)
    sheet = Image.new("RGB", size, tuple(round(255 * channel) for channel in background))
    pen = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(size=letters)
    for number, image in enumerate(images):
        left = gap + number % columns * (width + gap)
        top = gap + number // columns * (height + below + gap)
        sheet.paste(Image.fromarray(image), (left, top))
        if labels is not None:
            text = _shortened(labels[number], pen, font, width)
            pen.text((left + width / 2, top + height + below / 2), text, fill=_INK, font=font, anchor="mm")
    return np.asarray(sheet).copy()


def _shortened(label: str, pen: object, font: object, width: int) -> str:
    """Return `label` on one line, with its middle left out where it is wider than `width` pixels."""
    text = " ".join(label.split())
    kept = len(text)
    while kept > 1 and pen.textlength(text, font=font) > width:  # type: ignore[attr-defined]
        kept -= 1
        line = " ".join(label.split())
        text = f"{line[: (kept + 1) // 2]}…{line[len(line) - kept // 2 :]}"
    return text
